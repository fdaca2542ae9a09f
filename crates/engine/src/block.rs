//! What a block computes, in one place: where its norms are, and what attention and MLP read.
//!
//! [`Block::of`] turns the settings of a [`ModelSpec`] into the steps below; machines execute them, and capture and
//! [cost](crate::cost) use them too. With `x` the residual stream,
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

/// How the output of attention or the MLP is added to the residual stream.
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
    /// The norm between the residual stream and attention.
    pub attn_in: Option<&'a N>,
    /// How attention's output is added.
    pub attn_out: Join<'a, N>,
    /// Whether the MLP reads the block's input rather than the residual stream after attention.
    pub parallel: bool,
    /// The norm on the MLP's input.
    pub mlp_in: Option<&'a N>,
    /// How the MLP's output is added.
    pub mlp_out: Join<'a, N>,
}

/// A block's norms, on the CPU or on a device.
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
    /// If the weights lack a norm that the settings require.
    pub fn of(spec: &ModelSpec, weights: &'a LayerWeights) -> Self {
        let LayerWeights { ln1, ln2, ln1_post, ln2_post, .. } = weights;
        Self::with(spec, Norms { ln1, ln1_post, ln2, ln2_post })
    }
}

impl<'a, N> Block<'a, N> {
    /// The steps of a block with these settings and norms.
    ///
    /// # Panics
    /// If a norm that the settings require is missing.
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
