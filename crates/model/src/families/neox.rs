//! GPT-NeoX (Black et al. 2022), the architecture of Pythia (Biderman et al. 2023).

use super::common::{HARMLESS, Result, activation, bos_token_id, split_heads};
use super::family::{Bos, Description, Family, KnownModel, Parameters};
use super::rotary::{Shape, Spelling, rotary};
use super::tensors::{MlpTensors, QkvTensors, Stored, Tensors};
use crate::keys::Keys;
use crate::spec::{BlockLayout, ModelSpec, NormPlacement, Positions};

/// `model_type: gpt_neox`
pub(super) static FAMILY: Family = Family {
    model_type: "gpt_neox",
    name: "pythia",
    bos: Bos::Always("<|endoftext|>"),
    known_models: &[
        KnownModel {
            name: "pythia-70m",
            family: "pythia",
            hub_id: "EleutherAI/pythia-70m-deduped",
            n_layers: 6,
            n_heads: 8,
            params_m: 70.0,
        },
        KnownModel {
            name: "pythia-160m",
            family: "pythia",
            hub_id: "EleutherAI/pythia-160m-deduped",
            n_layers: 12,
            n_heads: 12,
            params_m: 160.0,
        },
        KnownModel {
            name: "pythia-410m",
            family: "pythia",
            hub_id: "EleutherAI/pythia-410m-deduped",
            n_layers: 24,
            n_heads: 16,
            params_m: 410.0,
        },
        KnownModel {
            name: "pythia-1b",
            family: "pythia",
            hub_id: "EleutherAI/pythia-1b-deduped",
            n_layers: 16,
            n_heads: 8,
            params_m: 1000.0,
        },
        KnownModel {
            name: "pythia-1.4b",
            family: "pythia",
            hub_id: "EleutherAI/pythia-1.4b-deduped",
            n_layers: 24,
            n_heads: 16,
            params_m: 1400.0,
        },
        KnownModel {
            name: "pythia-2.8b",
            family: "pythia",
            hub_id: "EleutherAI/pythia-2.8b-deduped",
            n_layers: 32,
            n_heads: 32,
            params_m: 2800.0,
        },
    ],
    tensors: Tensors {
        prefixes: &["gpt_neox."],
        embed: "embed_in",
        pos_embed: "",
        block: "layers",
        ln1: "input_layernorm",
        ln1_post: "",
        qkv: QkvTensors::FusedPerHead("attention.query_key_value"),
        q_norm: "",
        k_norm: "",
        w_o: "attention.dense",
        ln2: "post_attention_layernorm",
        ln2_post: "",
        mlp: MlpTensors::Plain(["mlp.dense_h_to_4h", "mlp.dense_4h_to_h"]),
        ln_final: "final_layer_norm",
        unembed: "embed_out",
        stored: Stored::OutIn,
        buffers: &[
            "attention.bias",
            "attention.masked_bias",
            "attention.rotary_emb.inv_freq",
            "rotary_emb.inv_freq",
        ],
    },
    read,
};

/// Transformers 4 writes `rotary_emb_base` and `rotary_pct`, later versions the common names beside or instead.
const ROTARY: Spelling = Spelling {
    base_keys: &["rotary_emb_base", "rope_theta"],
    share_keys: &["rotary_pct", "partial_rotary_factor"],
    share: 0.25,
    partial: true,
    ..Spelling::STANDARD
};

fn read(keys: &Keys) -> Result<Description> {
    let n_layers = keys.layers(&["num_hidden_layers"], 44)?;
    let n_heads = keys.size(&["num_attention_heads"], 64)?;
    let d_model = keys.size(&["hidden_size"], 6144)?;
    let d_vocab = keys.size(&["vocab_size"], 50432)?;
    let d_head = split_heads(keys, d_model, n_heads, "hidden_size", "num_attention_heads")?;
    let parallel = keys.flag("use_parallel_residual", true)?;
    let max_n_ctx = keys.size(&["max_position_embeddings"], 2048)?;
    let (rotary, n_ctx) = rotary(keys, &ROTARY, Shape { n_layers, d_head, n_ctx: max_n_ctx })?;
    let attention_bias = keys.flag("attention_bias", true)?;
    let spec = ModelSpec {
        n_layers,
        n_heads,
        n_kv_heads: n_heads,
        d_model,
        d_head,
        d_mlp: keys.size(&["intermediate_size"], 24576)?,
        d_vocab,
        d_embed: d_model,
        n_ctx,
        positions: Positions::Rotary(rotary),
        block: if parallel { BlockLayout::Parallel } else { BlockLayout::Sequential },
        norm: NormPlacement::Pre,
        norm_eps: keys.positive(&["layer_norm_eps"], 1e-5)? as f32,
        final_norm: true,
        activation: activation(keys, "hidden_act", "gelu")?,
        attn_scale: vec![(d_head as f64).sqrt().recip() as f32; n_layers],
        windows: vec![None; n_layers],
        tied_unembed: keys.flag("tie_word_embeddings", false)?,
        ..ModelSpec::default()
    };
    let bos_token_id = bos_token_id(keys, d_vocab)?;
    keys.finish(&[HARMLESS, &["hidden_dropout"]])?;
    let parameters = Parameters {
        qkv_bias: attention_bias,
        attn_out_bias: attention_bias,
        mlp_bias: true,
        ..Parameters::NO_BIASES
    };
    Ok(Description { spec, parameters, bos_token_id })
}
