//! A decoder's parameters, in the layout the forward pass reads.
//!
//! Every matrix maps row vectors, `y = x W + b`, whatever its layout in the checkpoint (GPT-2's Conv1D stores `W`,
//! `nn.Linear` stores its transpose). Matrices that activations are multiplied by are packed once for the GEMM.
//! Parameters that the [`ModelSpec`](cs_model::spec::ModelSpec) does not use are `None`, or a norm without gain
//! and bias.
//!
//! The types are generic over the matrix type `M`: packed float32 if the CPU runs the model; on the way to a device, the source
//! to read it from.

use std::borrow::Cow;

use cs_kernels::PackedMatrix;
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

/// `y = x W + b`.
pub struct Linear<M = PackedMatrix> {
    /// `W` `[d_in, d_out]`
    pub weight: M,
    /// `b` `[d_out]`; `None` if the model has none.
    pub bias: Option<Vec<f32>>,
}

/// A norm over the last axis, with optional gain and bias `[d_model]`; its formula is the spec's
/// [`NormKind`](cs_model::spec::NormKind).
#[derive(Clone, Debug, Default)]
pub struct Norm {
    /// Elementwise gain as stored: with `RmsOnePlus`, `w` rather than `1 + w`. `None` if there is no gain.
    pub weight: Option<Vec<f32>>,
    /// Elementwise bias `β`; `None` means zeros. RMS norms have none.
    pub bias: Option<Vec<f32>>,
}

/// The layers of an MLP: `W_out(act(W_in x))`, or `W_out(act(W_gate x) · W_in x)`.
pub struct Mlp<M = PackedMatrix> {
    /// `[d_model, d_mlp]`; `None` if the MLP has no gate.
    pub w_gate: Option<Linear<M>>,
    /// `[d_model, d_mlp]`; with a gate, the layer that Hugging Face calls `up_proj`.
    pub w_in: Linear<M>,
    /// `[d_mlp, d_model]`
    pub w_out: Linear<M>,
}

/// One block's parameters.
pub struct LayerWeights<M = PackedMatrix> {
    /// The norm before attention (`Pre`, `PreAndBranch`; of both branches in one-norm parallel blocks), or after its
    /// residual addition (`Post`). Unused under `Branch`.
    pub ln1: Norm,
    /// The norm of attention's output before it is added (`Branch`, `PreAndBranch`).
    pub ln1_post: Option<Norm>,
    /// `W_Q`, `W_K`, `W_V` concatenated, `[d_model, d_attn + 2 * d_kv]`: all query heads, then all key heads, then all
    /// value heads; head `h` has columns `h * d_head ..` of its part.
    pub w_qkv: Linear<M>,
    /// Gain of the norm of queries, as stored: `[d_head]`, or `[d_attn]` if it normalizes all heads together.
    pub q_norm: Option<Vec<f32>>,
    /// Gain of the norm of keys: `[d_head]` or `[d_kv]`.
    pub k_norm: Option<Vec<f32>>,
    /// `W_O` of all heads stacked, `[d_attn, d_model]`: head `h` has rows `h * d_head ..`.
    pub w_o: Linear<M>,
    /// The MLP's norm, corresponding to `ln1`. Unused without an MLP, with `Branch`, and in one-norm parallel
    /// blocks.
    pub ln2: Norm,
    /// The norm of the MLP's output before it is added (`Branch`, `PreAndBranch`).
    pub ln2_post: Option<Norm>,
    /// `None` in attention-only models.
    pub mlp: Option<Mlp<M>>,
}

impl<M> Linear<M> {
    /// The same layer with another matrix type.
    pub(crate) fn map<'a, N>(&'a self, of: &mut impl FnMut(&'a M) -> N) -> Linear<N> {
        Linear { weight: of(&self.weight), bias: self.bias.clone() }
    }
}

impl<M> LayerWeights<M> {
    /// The block's linear layers, in this order: `W_Q W_K W_V`, `W_O`, the MLP's gate, first and second.
    pub(crate) fn linears(&self) -> impl Iterator<Item = &Linear<M>> {
        let (gate, first, second) = match &self.mlp {
            None => (None, None, None),
            Some(mlp) => (mlp.w_gate.as_ref(), Some(&mlp.w_in), Some(&mlp.w_out)),
        };
        [Some(&self.w_qkv), Some(&self.w_o), gate, first, second].into_iter().flatten()
    }

    /// The linear layers' matrices.
    pub(crate) fn matrices(&self) -> impl Iterator<Item = &M> {
        self.linears().map(|linear| &linear.weight)
    }

    /// The same block with another matrix type.
    pub(crate) fn map<'a, N>(&'a self, of: &mut impl FnMut(&'a M) -> N) -> LayerWeights<N> {
        let Self { ln1, ln1_post, w_qkv, q_norm, k_norm, w_o, ln2, ln2_post, mlp } = self;
        let mlp = mlp.as_ref().map(|Mlp { w_gate, w_in, w_out }| Mlp {
            w_gate: w_gate.as_ref().map(|gate| gate.map(of)),
            w_in: w_in.map(of),
            w_out: w_out.map(of),
        });
        LayerWeights {
            ln1: ln1.clone(),
            ln1_post: ln1_post.clone(),
            w_qkv: w_qkv.map(of),
            q_norm: q_norm.clone(),
            k_norm: k_norm.clone(),
            w_o: w_o.map(of),
            ln2: ln2.clone(),
            ln2_post: ln2_post.clone(),
            mlp,
        }
    }
}

/// Rows that the CPU looks up by token, `[rows, cols]` row-major, in the type they are stored in, and therefore exact.
#[derive(Clone, Debug, PartialEq)]
pub enum Table {
    /// float32
    F32(Vec<f32>),
    /// float16
    F16(Vec<f16>),
    /// bfloat16
    Bf16(Vec<bf16>),
}

impl From<Vec<f32>> for Table {
    fn from(values: Vec<f32>) -> Self {
        Self::F32(values)
    }
}

impl Table {
    /// Row `row` of a table with `cols` columns, as float32.
    ///
    /// # Panics
    /// If there is no such row.
    #[track_caller]
    pub fn row(&self, row: usize, cols: usize) -> Cow<'_, [f32]> {
        let at = row * cols..(row + 1) * cols;
        let mut out = vec![0.0; if matches!(self, Self::F32(_)) { 0 } else { cols }];
        match self {
            Self::F32(values) => return Cow::Borrowed(&values[at]),
            Self::F16(values) => values[at].convert_to_f32_slice(&mut out),
            Self::Bf16(values) => values[at].convert_to_f32_slice(&mut out),
        }
        Cow::Owned(out)
    }

    /// All values, in order, as float32.
    pub fn to_vec(&self) -> Vec<f32> {
        match self {
            Self::F32(values) => values.clone(),
            Self::F16(values) => values.to_f32_vec(),
            Self::Bf16(values) => values.to_f32_vec(),
        }
    }
}

/// All parameters of a decoder; if its blocks are on a device, their matrices are empty here.
pub struct Weights {
    /// Token embedding, `[d_vocab, d_embed]`, before the spec's `embed_scale`.
    pub embed: Table,
    /// Learned positions, `[n_ctx + offset, d_model]` row-major; empty with rotary positions.
    pub pos_embed: Vec<f32>,
    /// `[d_embed, d_model]`, if the two widths differ.
    pub project_in: Option<Linear>,
    /// Blocks in order.
    pub layers: Vec<LayerWeights>,
    /// The norm before the unembedding, if the spec has one.
    pub ln_final: Norm,
    /// `[d_model, d_embed]`, if the two widths differ.
    pub project_out: Option<Linear>,
    /// Unembedding, `[d_vocab, d_embed]`; `None` if tied to [`Weights::embed`].
    pub unembed: Option<Table>,
    /// Added to the logits, `[d_vocab]`; `None` if the model has none.
    pub unembed_bias: Option<Vec<f32>>,
}

impl Weights {
    /// The unembedding, `[d_vocab, d_embed]`, tied or not.
    pub fn unembed(&self) -> &Table {
        self.unembed.as_ref().unwrap_or(&self.embed)
    }
}
