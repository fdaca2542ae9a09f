//! Qwen 2 and 2.5 (Yang et al. 2024): Llama with q/k/v biases.

use super::common::{HARMLESS, Result, bos_token_id, sliding_layers, window_size, windows};
use super::family::{Bos, Description, Family, KnownModel, Parameters};
use super::llama;
use super::rotary::Spelling;
use super::sizes::Sizes;
use crate::keys::Keys;
use crate::spec::ModelSpec;

/// `model_type: qwen2`
pub(super) static FAMILY: Family = Family {
    model_type: "qwen2",
    name: "qwen2",
    bos: Bos::AsTokenizer,
    known_models: &[
        KnownModel::new("qwen2.5-0.5b", "qwen2.5", "Qwen/Qwen2.5-0.5B", 24, 14, 494.0),
        KnownModel::new("qwen2.5-1.5b", "qwen2.5", "Qwen/Qwen2.5-1.5B", 28, 12, 1544.0),
        KnownModel::new("qwen2.5-3b", "qwen2.5", "Qwen/Qwen2.5-3B", 36, 16, 3086.0),
        KnownModel::new("qwen2.5-7b", "qwen2.5", "Qwen/Qwen2.5-7B", 28, 28, 7616.0),
    ],
    tensors: llama::TENSORS,
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
        d_head: None,
        n_ctx: 32768,
    };
    let spec = llama::spec(keys, default, &Spelling::STANDARD, 1e-6)?;
    let spec = ModelSpec { windows: windows_by_layer(keys, spec.n_layers)?, ..spec };
    let bos_token_id = bos_token_id(keys, spec.d_vocab)?;
    keys.finish(&[HARMLESS])?;
    let parameters = Parameters { qkv_bias: true, ..Parameters::NO_BIASES };
    Ok(Description { spec, parameters, bos_token_id })
}

/// Windows from layer `max_window_layers` on, or according to `layer_types`;
/// `use_sliding_window: false` turns all of them off.
pub(super) fn windows_by_layer(keys: &Keys, n_layers: usize) -> Result<Vec<Option<usize>>> {
    let is_windowed = keys.flag("use_sliding_window", false)?;
    let window = window_size(keys, 4096)?.filter(|_| is_windowed);
    let first = keys.count("max_window_layers", 28)?;
    let sliding = sliding_layers(keys, n_layers, |layer| window.is_some() && layer >= first)?;
    windows(keys, &sliding, window)
}
