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
        KnownModel::new("pythia-70m", "pythia", "EleutherAI/pythia-70m-deduped", 6, 8, 70.0),
        KnownModel::new("pythia-160m", "pythia", "EleutherAI/pythia-160m-deduped", 12, 12, 160.0),
        KnownModel::new("pythia-410m", "pythia", "EleutherAI/pythia-410m-deduped", 24, 16, 410.0),
        KnownModel::new("pythia-1b", "pythia", "EleutherAI/pythia-1b-deduped", 16, 8, 1000.0),
        KnownModel::new("pythia-1.4b", "pythia", "EleutherAI/pythia-1.4b-deduped", 24, 16, 1400.0),
        KnownModel::new("pythia-2.8b", "pythia", "EleutherAI/pythia-2.8b-deduped", 32, 32, 2800.0),
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

/// Transformers 4 writes `rotary_emb_base` and `rotary_pct`, later versions the common names in addition or
/// instead.
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
