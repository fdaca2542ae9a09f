//! Llama (Touvron et al. 2023) and models with its architecture: Llama 2, 3 and 3.x, SmolLM2, TinyLlama, …

use super::common::{HARMLESS, Result, activation, bos_token_id};
use super::family::{Bos, Description, Family, KnownModel, Parameters};
use super::rotary::{Shape, Spelling, rotary};
use super::sizes::Sizes;
use super::tensors::{MlpTensors, QkvTensors, Stored, Tensors};
use crate::keys::Keys;
use crate::spec::{ModelSpec, Positions};

/// `model_type: llama`
pub(super) static FAMILY: Family = Family {
    model_type: "llama",
    name: "llama",
    bos: Bos::AsTokenizer,
    known_models: &[
        KnownModel::new("smollm2-135m", "smollm2", "HuggingFaceTB/SmolLM2-135M", 30, 9, 135.0),
        KnownModel::new("smollm2-360m", "smollm2", "HuggingFaceTB/SmolLM2-360M", 32, 15, 362.0),
        KnownModel::new("smollm2-1.7b", "smollm2", "HuggingFaceTB/SmolLM2-1.7B", 24, 32, 1711.0),
        KnownModel::new(
            "tinyllama-1.1b",
            "tinyllama",
            "TinyLlama/TinyLlama-1.1B-intermediate-step-1431k-3T",
            22,
            32,
            1100.0,
        ),
        KnownModel::new("llama-3.2-1b", "llama-3", "meta-llama/Llama-3.2-1B", 16, 32, 1236.0),
        KnownModel::new("llama-3.2-3b", "llama-3", "meta-llama/Llama-3.2-3B", 28, 24, 3213.0),
        KnownModel::new("llama-3.1-8b", "llama-3", "meta-llama/Llama-3.1-8B", 32, 32, 8030.0),
    ],
    tensors: TENSORS,
    read,
};

/// Llama's tensor names, which later families share.
pub(super) const TENSORS: Tensors = Tensors {
    prefixes: &["model."],
    embed: "embed_tokens",
    pos_embed: "",
    block: "layers",
    ln1: "input_layernorm",
    ln1_post: "",
    qkv: QkvTensors::Separate(["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"]),
    q_norm: "",
    k_norm: "",
    w_o: "self_attn.o_proj",
    ln2: "post_attention_layernorm",
    ln2_post: "",
    mlp: MlpTensors::Gated(["mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"]),
    ln_final: "norm",
    unembed: "lm_head",
    stored: Stored::OutIn,
    buffers: &["self_attn.rotary_emb.inv_freq", "rotary_emb.inv_freq"],
};

fn read(keys: &Keys) -> Result<Description> {
    let default = Sizes {
        d_vocab: 32000,
        d_model: 4096,
        d_mlp: 11008,
        n_layers: 32,
        n_heads: 32,
        n_kv_heads: None,
        d_head: None,
        n_ctx: 2048,
    };
    let spec = spec(keys, default, &Spelling::STANDARD, 1e-6)?;
    let attention_bias = keys.flag("attention_bias", false)?;
    let mlp_bias = keys.flag("mlp_bias", false)?;
    let bos_token_id = bos_token_id(keys, spec.d_vocab)?;
    // `pretraining_tp` splits products that are summed again; `is_llama_config` is a marker in SmolLM2's
    // file.
    keys.finish(&[HARMLESS, &["is_llama_config", "pretraining_tp"]])?;
    let parameters = Parameters {
        qkv_bias: attention_bias,
        attn_out_bias: attention_bias,
        mlp_bias,
        ..Parameters::NO_BIASES
    };
    Ok(Description { spec, parameters, bos_token_id })
}

/// The settings from Llama's keys; derived families add to them. `default` and `rms_norm_eps` are the values of absent
/// keys.
pub(super) fn spec(keys: &Keys, default: Sizes, spelling: &Spelling, rms_norm_eps: f64) -> Result<ModelSpec> {
    let sizes = Sizes::read(keys, default)?;
    let ModelSpec { n_layers, d_head, n_ctx, .. } = sizes;
    let (rotary, n_ctx) = rotary(keys, spelling, Shape { n_layers, d_head, n_ctx })?;
    Ok(ModelSpec {
        n_ctx,
        positions: Positions::Rotary(rotary),
        norm_eps: keys.positive(&["rms_norm_eps"], rms_norm_eps)? as f32,
        activation: activation(keys, "hidden_act", "silu")?,
        tied_unembed: keys.flag("tie_word_embeddings", false)?,
        ..sizes
    })
}
