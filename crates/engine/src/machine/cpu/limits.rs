//! Memory needs of the CPU.

use super::scratch::TILE;
use crate::intervention::{Branch, Stream};
use crate::machine::Limits;
use crate::tree::Tree;
use cs_model::spec::ModelSpec;

/// The limits for running `branches` on prompts of at most `longest` tokens.
///
/// A node of the plain run has `resid`, `attn`, `q`, `k v`, `z`, `resid_pre` if it is kept, and the streams kept for later
/// layers. A node of a run has `q` and `k v` of the current stack, heads whose attention is recomputed, `resid` of the
/// current stack and of each stack that waits for its children, and `z` of each that waits. A last token has its residual
/// stream before and after the last layer, and its `z`.
pub(crate) fn limits(spec: &ModelSpec, branches: &[Branch], longest: usize) -> Limits {
    const FLOAT: usize = size_of::<f32>();
    let (d_model, d_attn, d_kv) = (spec.d_model, spec.d_attn(), spec.d_kv());
    let tree = Tree::new(branches);
    let frames = tree.frames();
    let streams = |&all: &bool| if all { 2 * d_attn + 2 * d_kv } else { d_attn };
    let kept: usize = tree.sources_read_later().values().map(streams).sum();
    let resid_pre = if spec.norm.has_branch_norm() { d_model } else { 0 };
    let tile = 4 * d_model + d_attn + spec.d_mlp + spec.d_embed;
    let scratch = TILE * tile + cs_kernels::PathAttention::floats(spec.n_kv_heads, spec.d_head, longest);
    Limits {
        plain_node: FLOAT * (2 * d_model + resid_pre + 2 * d_attn + 2 * d_kv + kept),
        run_node: FLOAT
            * (d_attn
                + 2 * d_kv
                + recomputed_width(spec, branches)
                + frames * d_model
                + (frames - 1) * d_attn),
        run_end: FLOAT * (2 * d_model + d_attn),
        scratch: FLOAT * scratch * rayon::current_num_threads(),
        enough_rows: 16 * TILE * rayon::current_num_threads(),
    }
}

/// The maximum total width of the heads of one layer whose attention is recomputed.
fn recomputed_width(spec: &ModelSpec, branches: &[Branch]) -> usize {
    let layers = branches.iter().flat_map(|b| b.edits().chunk_by(|x, y| x.layer == y.layer));
    let heads = layers.map(|edits| edits.iter().filter(|e| e.stream != Stream::Z).count());
    (heads.max().unwrap_or(0) * spec.d_head).min(spec.d_attn())
}
