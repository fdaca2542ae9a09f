//! OLMo 2 (OLMo Team 2025): norms after attention and MLP, and q/k norms over all heads together.

use super::common::{HARMLESS, Result, bos_token_id};
use super::family::{Bos, Description, Family, KnownModel, Parameters};
use super::llama;
use super::rotary::Spelling;
use super::sizes::Sizes;
use super::tensors::Tensors;
use crate::keys::Keys;
use crate::spec::{ModelSpec, NormPlacement, QkNorm};

/// `model_type: olmo2`
pub(super) static FAMILY: Family = Family {
    model_type: "olmo2",
    name: "olmo2",
    bos: Bos::AsTokenizer,
    known_models: &[
        KnownModel::new("olmo-2-1b", "olmo-2", "allenai/OLMo-2-0425-1B", 16, 16, 1485.0),
        KnownModel::new("olmo-2-7b", "olmo-2", "allenai/OLMo-2-1124-7B", 32, 32, 7299.0),
    ],
    tensors: Tensors {
        ln1: "",
        ln1_post: "post_attention_layernorm",
        q_norm: "self_attn.q_norm",
        k_norm: "self_attn.k_norm",
        ln2: "",
        ln2_post: "post_feedforward_layernorm",
        ..llama::TENSORS
    },
    read,
};

fn read(keys: &Keys) -> Result<Description> {
    let default = Sizes {
        d_vocab: 50304,
        d_model: 4096,
        d_mlp: 11008,
        n_layers: 32,
        n_heads: 32,
        n_kv_heads: None,
        d_head: None,
        n_ctx: 2048,
    };
    let spec = llama::spec(keys, default, &Spelling::STANDARD, 1e-5)?;
    let spec = ModelSpec { norm: NormPlacement::Branch, qk_norm: QkNorm::AllHeads, ..spec };
    let bias = keys.flag("attention_bias", false)?;
    let bos_token_id = bos_token_id(keys, spec.d_vocab)?;
    keys.finish(&[HARMLESS])?;
    let parameters = Parameters { qkv_bias: bias, attn_out_bias: bias, ..Parameters::NO_BIASES };
    Ok(Description { spec, parameters, bos_token_id })
}
