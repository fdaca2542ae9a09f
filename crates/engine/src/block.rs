//! What a block computes, said once: which norm stands where, and what its two branches read.
//!
//! [`Block::of`] turns the settings of a [`ModelSpec`] into the steps below; machines carry them out, and capture and
//! [cost](crate::cost) ask the same questions here. With `x` the residual stream,
//!
//! ```text
//! attn  = attention(attn_in(x))          q, k, v; pattern; z; W_O                        attn_in: a norm, or x itself
//! input = mlp_in(x)                      [parallel]
//! x     = x + attn                       or x + attn_post(attn), or attn_post(x + attn)  attn_out
//! input = mlp_in(x)                      [sequential]
//! x     = x + mlp(input)                 likewise                                        mlp_out
//! ```

use crate::weights::{LayerWeights, Norm};
use cs_model::spec::{BlockLayout, ModelSpec, NormPlacement};

/// How a branch's output joins the residual stream.
#[derive(Clone, Copy)]
pub(crate) enum Join<'a> {
    /// `x + f`
    Add,
    /// `norm(x + f)`
    AddThenNorm(&'a Norm),
    /// `x + norm(f)`
    AddNormed(&'a Norm),
}

/// One block of a decoder as steps.
#[derive(Clone, Copy)]
pub(crate) struct Block<'a> {
    /// The norm that attention reads the residual stream through.
    pub attn_in: Option<&'a Norm>,
    /// What becomes of attention's output.
    pub attn_out: Join<'a>,
    /// Whether the MLP reads the block's input rather than what attention made of it.
    pub parallel: bool,
    /// The norm that the MLP reads its input through.
    pub mlp_in: Option<&'a Norm>,
    /// What becomes of the MLP's output.
    pub mlp_out: Join<'a>,
}

impl<'a> Block<'a> {
    /// The steps of a block with these settings and weights.
    ///
    /// # Panics
    /// If a norm that the settings ask for is not among the weights.
    pub fn of(spec: &ModelSpec, weights: &'a LayerWeights) -> Self {
        let LayerWeights { ln1, ln2, ln1_post, ln2_post, .. } = weights;
        let on_branch =
            |norm: &'a Option<Norm>| norm.as_ref().expect("weights hold the norms that the spec places");
        let (attn_in, attn_out) = match spec.norm {
            NormPlacement::Pre => (Some(ln1), Join::Add),
            NormPlacement::Post => (None, Join::AddThenNorm(ln1)),
            NormPlacement::Branch => (None, Join::AddNormed(on_branch(ln1_post))),
            NormPlacement::PreAndBranch => (Some(ln1), Join::AddNormed(on_branch(ln1_post))),
        };
        let (mlp_in, mlp_out) = match spec.norm {
            NormPlacement::Pre => (Some(ln2), Join::Add),
            NormPlacement::Post => (None, Join::AddThenNorm(ln2)),
            NormPlacement::Branch => (None, Join::AddNormed(on_branch(ln2_post))),
            NormPlacement::PreAndBranch => (Some(ln2), Join::AddNormed(on_branch(ln2_post))),
        };
        match spec.block {
            BlockLayout::Sequential => Self { attn_in, attn_out, parallel: false, mlp_in, mlp_out },
            BlockLayout::Parallel => Self { attn_in, attn_out, parallel: true, mlp_in, mlp_out },
            BlockLayout::ParallelOneNorm => {
                Self { attn_in, attn_out, parallel: true, mlp_in: attn_in, mlp_out }
            }
        }
    }
}
