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
pub(crate) enum Join<'a, N = Norm> {
    /// `x + f`
    Add,
    /// `norm(x + f)`
    AddThenNorm(&'a N),
    /// `x + norm(f)`
    AddNormed(&'a N),
}

/// One block of a decoder as steps.
pub(crate) struct Block<'a, N = Norm> {
    /// The norm that attention reads the residual stream through.
    pub attn_in: Option<&'a N>,
    /// What becomes of attention's output.
    pub attn_out: Join<'a, N>,
    /// Whether the MLP reads the block's input rather than what attention made of it.
    pub parallel: bool,
    /// The norm that the MLP reads its input through.
    pub mlp_in: Option<&'a N>,
    /// What becomes of the MLP's output.
    pub mlp_out: Join<'a, N>,
}

/// A block's norms, on the processor or on a device.
pub(crate) struct Norms<'a, N> {
    pub ln1: &'a N,
    pub ln1_post: &'a Option<N>,
    pub ln2: &'a N,
    pub ln2_post: &'a Option<N>,
}

impl<'a> Block<'a> {
    /// The steps of a block with these settings and weights.
    ///
    /// # Panics
    /// If a norm that the settings ask for is not among the weights.
    pub fn of(spec: &ModelSpec, weights: &'a LayerWeights) -> Self {
        let LayerWeights { ln1, ln2, ln1_post, ln2_post, .. } = weights;
        Self::with(spec, Norms { ln1, ln1_post, ln2, ln2_post })
    }
}

impl<'a, N> Block<'a, N> {
    /// The steps of a block with these settings and norms.
    ///
    /// # Panics
    /// If a norm that the settings ask for is missing.
    pub fn with(spec: &ModelSpec, norms: Norms<'a, N>) -> Self {
        let Norms { ln1, ln1_post, ln2, ln2_post } = norms;
        let on_branch =
            |norm: &'a Option<N>| norm.as_ref().expect("weights hold the norms that the spec places");
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
