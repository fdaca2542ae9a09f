//! Mistral 7B (Jiang et al. 2023): Llama with a window.

use super::common::{HARMLESS, Result, bos_token_id, window_size};
use super::family::{Bos, Description, Family, KnownModel, Parameters};
use super::llama;
use super::rotary::Spelling;
use super::sizes::Sizes;
use crate::keys::Keys;
use crate::spec::ModelSpec;

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
    let spec = llama::spec(keys, default, &Spelling::STANDARD, 1e-6)?;
    let spec = ModelSpec { windows: vec![window_size(keys, 4096)?; spec.n_layers], ..spec };
    let bos_token_id = bos_token_id(keys, spec.d_vocab)?;
    keys.finish(&[HARMLESS])?;
    let parameters = Parameters::NO_BIASES;
    Ok(Description { spec, parameters, bos_token_id })
}
