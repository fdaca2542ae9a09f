//! Gemma 2 (Gemma Team 2024).

use super::common::{
    HARMLESS, Result, activation, bos_token_id, sliding_layers, softcap, window_size, windows,
};
use super::family::{Bos, Description, Family, KnownModel, Parameters};
use super::llama;
use super::rotary::{Shape, Spelling, rotary};
use super::sizes::Sizes;
use super::tensors::Tensors;
use crate::keys::Keys;
use crate::spec::{ModelSpec, NormKind, NormPlacement, Positions};

/// `model_type: gemma2`
pub(super) static FAMILY: Family = Family {
    model_type: "gemma2",
    name: "gemma2",
    bos: Bos::AsTokenizer,
    known_models: &[
        KnownModel::new("gemma-2-2b", "gemma-2", "google/gemma-2-2b", 26, 8, 2614.0),
        KnownModel::new("gemma-2-9b", "gemma-2", "google/gemma-2-9b", 42, 16, 9242.0),
    ],
    tensors: Tensors {
        ln1_post: "post_attention_layernorm",
        ln2: "pre_feedforward_layernorm",
        ln2_post: "post_feedforward_layernorm",
        ..llama::TENSORS
    },
    read,
};

fn read(keys: &Keys) -> Result<Description> {
    let default = Sizes {
        d_vocab: 256000,
        d_model: 2304,
        d_mlp: 9216,
        n_layers: 26,
        n_heads: 8,
        n_kv_heads: Some(4),
        d_head: Some(256),
        n_ctx: 8192,
    };
    let sizes = Sizes::read(keys, default)?;
    let ModelSpec { n_layers, d_head, d_vocab, n_ctx, .. } = sizes;
    let (rotary, n_ctx) = rotary(keys, &Spelling::STANDARD, Shape { n_layers, d_head, n_ctx })?;
    let sliding = sliding_layers(keys, n_layers, |layer| layer % 2 == 0)?;
    let spec = ModelSpec {
        n_ctx,
        positions: Positions::Rotary(rotary),
        attn_softcap: softcap(keys, "attn_logit_softcapping", Some(50.0))?,
        logit_softcap: softcap(keys, "final_logit_softcapping", Some(30.0))?,
        ..shared(keys, sizes, &sliding)?
    };
    let bos_token_id = bos_token_id(keys, d_vocab)?;
    let bias = keys.flag("attention_bias", false)?;
    // Published files have `hidden_act` and `sliding_window_size` in addition to the keys in use.
    keys.finish(&[HARMLESS, &["hidden_act", "sliding_window_size"]])?;
    let parameters = Parameters { qkv_bias: bias, attn_out_bias: bias, ..Parameters::NO_BIASES };
    Ok(Description { spec, parameters, bos_token_id })
}

/// What Gemma 2 and 3 share, with windows in the layers that are `sliding`.
pub(super) fn shared(keys: &Keys, sizes: ModelSpec, sliding: &[bool]) -> Result<ModelSpec> {
    let scale = keys.positive(&["query_pre_attn_scalar"], 256.0)?.sqrt().recip() as f32;
    Ok(ModelSpec {
        norm_eps: keys.positive(&["rms_norm_eps"], 1e-6)? as f32,
        activation: activation(keys, "hidden_activation", "gelu_pytorch_tanh")?,
        embed_scale: Some((sizes.d_model as f64).sqrt() as f32),
        norm_kind: NormKind::RmsOnePlus,
        norm: NormPlacement::PreAndBranch,
        attn_scale: vec![scale; sizes.n_layers],
        windows: windows(keys, sliding, window_size(keys, 4096)?)?,
        tied_unembed: keys.flag("tie_word_embeddings", true)?,
        ..sizes
    })
}
