//! Gemma 3 (Gemma Team 2025), text-only models.

use super::common::{HARMLESS, Result, bos_token_id, sliding_layers, softcap};
use super::family::{Bos, Description, Family, KnownModel, Parameters};
use super::rotary::{Shape, Spelling, rotary_by_layer_type};
use super::sizes::Sizes;
use super::tensors::Tensors;
use super::{gemma2, llama};
use crate::keys::Keys;
use crate::spec::{ModelSpec, Positions, QkNorm};

/// `model_type: gemma3_text`
pub(super) static FAMILY: Family = Family {
    model_type: "gemma3_text",
    name: "gemma3",
    bos: Bos::AsTokenizer,
    known_models: &[
        KnownModel::new("gemma-3-270m", "gemma-3", "google/gemma-3-270m", 18, 4, 268.0),
        KnownModel::new("gemma-3-1b", "gemma-3", "google/gemma-3-1b-pt", 26, 4, 1000.0),
    ],
    tensors: Tensors {
        ln1_post: "post_attention_layernorm",
        q_norm: "self_attn.q_norm",
        k_norm: "self_attn.k_norm",
        ln2: "pre_feedforward_layernorm",
        ln2_post: "post_feedforward_layernorm",
        ..llama::TENSORS
    },
    read,
};

fn read(keys: &Keys) -> Result<Description> {
    let default = Sizes {
        d_vocab: 262208,
        d_model: 2304,
        d_mlp: 9216,
        n_layers: 26,
        n_heads: 8,
        n_kv_heads: Some(4),
        d_head: Some(256),
        n_ctx: 131072,
    };
    let sizes = Sizes::read(keys, default)?;
    let ModelSpec { n_layers, d_head, d_vocab, n_ctx, .. } = sizes;
    // Older files have a pattern instead of `layer_types`.
    let pattern = keys.size(&["sliding_window_pattern"], 6)?;
    let sliding = sliding_layers(keys, n_layers, |layer| !(layer + 1).is_multiple_of(pattern))?;
    let full = Spelling { base: 1_000_000.0, ..Spelling::STANDARD };
    let local = Spelling { base_keys: &["rope_local_base_freq"], ..Spelling::STANDARD };
    let shape = Shape { n_layers, d_head, n_ctx };
    let (rotary, n_ctx) = rotary_by_layer_type(keys, &full, &local, &sliding, shape)?;
    let spec = ModelSpec {
        n_ctx,
        positions: Positions::Rotary(rotary),
        qk_norm: QkNorm::PerHead,
        logit_softcap: softcap(keys, "final_logit_softcapping", None)?,
        ..gemma2::shared(keys, sizes, &sliding)?
    };
    let bos_token_id = bos_token_id(keys, d_vocab)?;
    let bias = keys.flag("attention_bias", false)?;
    // Transformers reads an attention soft cap for this architecture but does not
    // apply it.
    keys.finish(&[HARMLESS, &["attn_logit_softcapping", "hidden_act"]])?;
    let parameters = Parameters { qkv_bias: bias, attn_out_bias: bias, ..Parameters::NO_BIASES };
    Ok(Description { spec, parameters, bos_token_id })
}
