//! Sizes under the key names of Llama's config, which later families share.

use super::common::{Result, split_heads};
use crate::keys::Keys;
use crate::spec::{BlockLayout, ModelSpec, NormKind, NormPlacement};

/// A decoder's sizes; the argument of [`Sizes::read`] gives the defaults.
#[derive(Clone, Copy)]
pub(super) struct Sizes {
    pub(super) d_vocab: usize,
    pub(super) d_model: usize,
    pub(super) d_mlp: usize,
    pub(super) n_layers: usize,
    pub(super) n_heads: usize,
    /// `None`: equal to `n_heads`.
    pub(super) n_kv_heads: Option<usize>,
    /// `None`: `d_model / n_heads`.
    pub(super) d_head: Option<usize>,
    /// `max_position_embeddings`
    pub(super) n_ctx: usize,
}

impl Sizes {
    /// Reads the sizes into a spec without positions and windows: Llama's blocks (pre-norm with RMS norms, gated MLP)
    /// and scores scaled by `1/√d_head`.
    pub(super) fn read(keys: &Keys, default: Sizes) -> Result<ModelSpec> {
        let n_layers = keys.layers(&["num_hidden_layers"], default.n_layers)?;
        let n_heads = keys.size(&["num_attention_heads"], default.n_heads)?;
        let d_model = keys.size(&["hidden_size"], default.d_model)?;
        let n_kv_heads = match keys.raw("num_key_value_heads") {
            Some(value) if value.is_null() => n_heads,
            _ => keys.size(&["num_key_value_heads"], default.n_kv_heads.unwrap_or(n_heads))?,
        };
        if !n_heads.is_multiple_of(n_kv_heads) {
            let problem = format!("does not divide \"num_attention_heads\" ({n_heads} over {n_kv_heads})");
            return Err(keys.error("num_key_value_heads", &problem, "correct either"));
        }
        let d_head = match (keys.optional_size(&["head_dim"])?, default.d_head) {
            (Some(d_head), _) | (None, Some(d_head)) => d_head,
            (None, None) => split_heads(keys, d_model, n_heads, "hidden_size", "num_attention_heads")?,
        };
        Ok(ModelSpec {
            n_layers,
            n_heads,
            n_kv_heads,
            d_model,
            d_head,
            d_mlp: keys.size(&["intermediate_size"], default.d_mlp)?,
            d_vocab: keys.size(&["vocab_size"], default.d_vocab)?,
            d_embed: d_model,
            n_ctx: keys.size(&["max_position_embeddings"], default.n_ctx)?,
            block: BlockLayout::Sequential,
            norm_kind: NormKind::Rms,
            norm: NormPlacement::Pre,
            final_norm: true,
            gated_mlp: true,
            attn_scale: vec![(d_head as f64).sqrt().recip() as f32; n_layers],
            windows: vec![None; n_layers],
            ..ModelSpec::default()
        })
    }
}
