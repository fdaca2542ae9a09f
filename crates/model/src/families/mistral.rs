//! Mistral 7B (Jiang et al. 2023): Llama with a window.

use super::common::{HARMLESS, Result, activation, bos_token_id, window_size};
use super::family::{Bos, Description, Family, KnownModel, Parameters};
use super::llama;
use super::rotary::{Shape, Spelling, rotary};
use super::sizes::Sizes;
use crate::keys::Keys;
use crate::spec::{ModelSpec, Positions};

/// `model_type: mistral`
pub(super) static FAMILY: Family = Family {
    model_type: "mistral",
    name: "mistral",
    bos: Bos::AsTokenizer,
    known_models: &[
        KnownModel::new("mistral-7b-v0.1", "mistral", "mistralai/Mistral-7B-v0.1", 32, 32, 7242.0),
        KnownModel::new("mistral-7b-v0.3", "mistral", "mistralai/Mistral-7B-v0.3", 32, 32, 7248.0),
    ],
    tensors: llama::TENSORS,
    read,
};

fn read(keys: &Keys) -> Result<Description> {
    let default = Sizes {
        d_vocab: 32000,
        d_model: 4096,
        d_mlp: 14336,
        n_layers: 32,
        n_heads: 32,
        n_kv_heads: Some(8),
        d_head: None,
        n_ctx: 131072,
    };
    let sizes = Sizes::read(keys, default)?;
    let ModelSpec { n_layers, d_head, d_vocab, n_ctx, .. } = sizes;
    let (rotary, n_ctx) = rotary(keys, &Spelling::STANDARD, Shape { n_layers, d_head, n_ctx })?;
    let window = window_size(keys, 4096)?;
    let spec = ModelSpec {
        n_ctx,
        positions: Positions::Rotary(rotary),
        norm_eps: keys.positive(&["rms_norm_eps"], 1e-6)? as f32,
        activation: activation(keys, "hidden_act", "silu")?,
        windows: vec![window; n_layers],
        tied_unembed: keys.flag("tie_word_embeddings", false)?,
        ..sizes
    };
    let bos_token_id = bos_token_id(keys, d_vocab)?;
    keys.finish(&[HARMLESS])?;
    let parameters = Parameters::NO_BIASES;
    Ok(Description { spec, parameters, bos_token_id })
}
