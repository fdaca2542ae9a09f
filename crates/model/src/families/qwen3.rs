//! Qwen 3 (Yang et al. 2025): Llama with q/k norms per head.

use super::common::{HARMLESS, Result, bos_token_id};
use super::family::{Bos, Description, Family, KnownModel, Parameters};
use super::llama;
use super::qwen2::windows_by_layer;
use super::rotary::Spelling;
use super::sizes::Sizes;
use super::tensors::Tensors;
use crate::keys::Keys;
use crate::spec::{ModelSpec, QkNorm};

/// `model_type: qwen3`
pub(super) static FAMILY: Family = Family {
    model_type: "qwen3",
    name: "qwen3",
    bos: Bos::AsTokenizer,
    known_models: &[
        KnownModel::new("qwen3-0.6b", "qwen3", "Qwen/Qwen3-0.6B", 28, 16, 596.0),
        KnownModel::new("qwen3-1.7b", "qwen3", "Qwen/Qwen3-1.7B", 28, 16, 1721.0),
        KnownModel::new("qwen3-4b", "qwen3", "Qwen/Qwen3-4B", 36, 32, 4022.0),
        KnownModel::new("qwen3-8b", "qwen3", "Qwen/Qwen3-8B", 36, 32, 8191.0),
    ],
    tensors: Tensors { q_norm: "self_attn.q_norm", k_norm: "self_attn.k_norm", ..llama::TENSORS },
    read,
};

fn read(keys: &Keys) -> Result<Description> {
    let default = Sizes {
        d_vocab: 151936,
        d_model: 4096,
        d_mlp: 22016,
        n_layers: 32,
        n_heads: 32,
        n_kv_heads: Some(32),
        d_head: Some(128),
        n_ctx: 32768,
    };
    let spec = llama::spec(keys, default, &Spelling::STANDARD, 1e-6)?;
    let windows = windows_by_layer(keys, spec.n_layers)?;
    let spec = ModelSpec { qk_norm: QkNorm::PerHead, windows, ..spec };
    let bias = keys.flag("attention_bias", false)?;
    let bos_token_id = bos_token_id(keys, spec.d_vocab)?;
    keys.finish(&[HARMLESS])?;
    let parameters = Parameters { qkv_bias: bias, attn_out_bias: bias, ..Parameters::NO_BIASES };
    Ok(Description { spec, parameters, bos_token_id })
}
