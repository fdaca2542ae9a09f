//! What operations of a device are given beside matrices: formats, rows, norms, heads, replacements.

use cs_model::spec::{Activation, RotaryPairing};

use super::ops::Ops;

/// How a matrix of weights lies on the device, `[d_in, d_out]`: one format for all matrices of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stored {
    /// float32, for products in float32 where the checkpoint holds no halves.
    F32,
    /// float16, `W = 2^-e hi`: `e = 0` where the checkpoint holds float16, otherwise as in a pair.
    F16,
    /// bfloat16, which is what the checkpoint holds.
    Bf16,
    /// Two float16 parts of a float32 matrix, `W = 2^-e (hi + lo / 2^11)`: `e` is the matrix's own, such that the largest
    /// entry of `2^e W` lies in `[2^14, 2^15)`; `hi` is rounded to nearest, `lo` is what that leaves, times 2^11.
    F16Pair,
}

/// How a difference is cut up for products, elementwise: a [`Split`](Ops::Split) has one such form, `[rows, cols]` in each part.
///
/// | | parts | product with `W` |
/// |---|---|---|
/// | `F32` | `δ` | `δ · W` in float32 |
/// | `F16`, two | `hi = f16(δ)`, `lo = f16((δ − hi) 2^11)` | `2^-e (hi · W_hi + (lo · W_hi) / 2^11)` |
/// | the same with [`Stored::F16Pair`] | | `2^-e (hi · W_hi + (lo · W_hi + hi · W_lo) / 2^11)` |
/// | `Bf16`, two | `hi = bf16(δ)`, `lo = bf16(δ − hi)` | `hi · W + lo · W` |
/// | `F16`, one | `hi` | `2^-e (hi · W_hi)` |
/// | the same with [`Stored::F16Pair`] | | `2^-e (hi · W_hi + hi · W_lo / 2^11)` |
/// | `Bf16`, one | `hi` | `hi · W` |
///
/// Roundings are to nearest, ties to even; subnormal halves count. Products of halves are exact and are summed in float32.
/// `F16` has no scale: a difference fits wherever the model runs in float16 at all, and two parts reach down to 2^-36. One whose
/// size rounds to 2^16 or more is an overflow, which [`Ops::status`] reports; bfloat16 has float32's range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parts {
    /// float32 as it is.
    F32,
    /// float16, in one part or two.
    F16 {
        /// Whether there is a second part.
        two: bool,
    },
    /// bfloat16, in one part or two.
    Bf16 {
        /// Whether there is a second part.
        two: bool,
    },
}

/// Rows of an operation's output, and where its inputs' rows are.
pub(crate) struct Span<'a, O: Ops> {
    /// Runs, one below the other.
    pub n_runs: usize,
    /// Rows of each.
    pub per_run: usize,
    /// The plain run's row of each row of a run. `[per_run]`
    pub plain: &'a O::Ints,
    /// The row of the stack that is read for each row of the output (parents of children; ends among all nodes); `None`: the
    /// same row. `[n_runs * per_run]`
    pub from: Option<&'a O::Ints>,
}

/// A norm over `cols` values: `(x − mean) / √(mean square + ε) · gain + bias`.
pub(crate) struct NormWeights<O: Ops> {
    /// Whether the mean is taken away: layer norm, otherwise RMS norm.
    pub centred: bool,
    /// ε
    pub eps: f32,
    /// `[cols]`, `1 + w` where the model means that; `None`: ones.
    pub gain: Option<O::Floats>,
    /// `[cols]`; `None`: zeros. It cancels in differences.
    pub bias: Option<O::Floats>,
}

/// What a norm reads beside the plain run.
#[derive(Clone, Copy)]
pub(crate) enum Changed<'a, O: Ops> {
    /// `δ`, in the rows of [`Span::from`].
    By(&'a O::Floats),
    /// `x + δ` itself, where `δ` may have cancelled most of `x`.
    To(&'a O::Floats),
}

/// Where the difference of a norm goes.
pub(crate) enum NormOut<'a, O: Ops> {
    /// Cut up for a product.
    Split(&'a mut O::Split),
    /// float32.
    Set(&'a mut O::Floats),
    /// Added to what is there.
    Add(&'a mut O::Floats),
}

/// What a product is added to.
#[derive(Clone, Copy)]
pub(crate) enum Residual<'a, O: Ops> {
    /// Nothing.
    Zero,
    /// What the output holds.
    Own,
    /// These rows, `[·, cols]`, as [`Span::from`] picks them.
    Rows(&'a O::Floats),
}

/// Norm and rotation of queries, or of keys beside their values.
pub(crate) struct HeadsRule<'a, O: Ops> {
    /// Width of a head.
    pub d_head: usize,
    /// Leading columns that are normed and turned: all of the queries', the keys' alone of keys and values.
    pub turned: usize,
    /// The norm, and how many neighbouring columns it runs over (`d_head` or `turned`); its gain is as wide.
    pub norm: Option<(&'a NormWeights<O>, usize)>,
    /// The rotation.
    pub rotary: Option<Rotation<'a, O>>,
}

/// Rotary embedding of the first `2 * half` columns of each head.
pub(crate) struct Rotation<'a, O: Ops> {
    /// Coordinate `i` with `i + half`, or `2 i` with `2 i + 1`.
    pub pairing: RotaryPairing,
    /// Pairs.
    pub half: usize,
    /// `[n_positions, half]`
    pub cos: &'a O::Floats,
    /// `[n_positions, half]`
    pub sin: &'a O::Floats,
    /// Row of the tables for each row of a run. `[per_run]`
    pub position: &'a O::Ints,
}

/// The plain run's heads in a layer.
pub(crate) struct PlainHeads<O: Ops> {
    /// `[n_base, d_attn]`, normed and turned.
    pub q: O::Floats,
    /// `[n_base, 2 * d_kv]`, likewise.
    pub kv: O::Floats,
    /// `[n_base, d_attn]`
    pub z: O::Floats,
}

/// Differences of the heads that attention reads, normed and turned.
pub(crate) struct DeltaHeads<O: Ops> {
    /// `[n_runs * rows wanted, d_attn]`
    pub q: O::Floats,
    /// `[n_runs * n_nodes, 2 * d_kv]`
    pub kv: O::Floats,
}

/// `z` of the rows wanted of a stack, as `W_O` reads it.
pub(crate) enum Z<O: Ops> {
    /// `δ`, cut up. `[n_runs * per_run, d_attn]`
    Delta(O::Split),
    /// `x + δ` in float32, where a norm follows `W_O`. `[n_runs * per_run, d_attn]`
    Full(O::Floats),
}

/// How scores come from queries and keys: `c tanh(s q·k / c)`, query head `h` reading key head `h / (n_heads / n_kv_heads)`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scores {
    /// `s`
    pub scale: f32,
    /// `c`; `None`: scores are `s q·k`.
    pub softcap: Option<f32>,
    /// Query heads.
    pub n_heads: usize,
    /// Key and value heads.
    pub n_kv_heads: usize,
    /// Width of a head.
    pub d_head: usize,
}

/// What stands in a stream's place at a branch node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Put {
    /// The run's own, `x + δ`.
    Own = 0,
    /// Zeros.
    Zero = 1,
    /// [`Values::bias`]; of `v` and `z` alone.
    Bias = 2,
    /// The plain run's, at the node's source.
    Source = 3,
    /// The mean of [`Values::means`]; of `z` alone.
    Mean = 4,
    /// The same, a step away from the node's own plain `z`.
    Others = 5,
}

/// Attention over again for one head of one run: others of its group see the run's own keys and values.
///
/// A pattern from the source is `q` and `k` from the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Again {
    /// The run.
    pub run: u32,
    /// The query head.
    pub head: u32,
    /// In place of its queries, keys and values: own, zero, source; of values also the bias.
    pub q: Put,
    /// Keys.
    pub k: Put,
    /// Values.
    pub v: Put,
}

/// A head's `z` in one run, replaced at all rows. Never [`Put::Own`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PutZ {
    /// The run.
    pub run: u32,
    /// The query head.
    pub head: u32,
    /// By what.
    pub by: Put,
}

/// Where replacements take values from in one layer.
pub(crate) struct Values<'a, O: Ops> {
    /// The plain run's heads.
    pub plain: &'a PlainHeads<O>,
    /// The base node that [`Put::Source`] reads, for each branch node. `[n_nodes]`, or one value where nothing reads it.
    pub source: &'a O::Ints,
    /// The constant part of each query head's values. `[d_attn]`
    pub bias: &'a O::Floats,
    /// Means of `z`.
    pub means: Option<MeanRows<'a, O>>,
}

/// Means of `z`: `mean` at a node, or `mean + step (mean − z)` with its own plain `z`.
pub(crate) struct MeanRows<'a, O: Ops> {
    /// `[·, d_attn]`
    pub z: &'a O::Floats,
    /// The row of `z` for each branch node. `[n_nodes]`
    pub row: &'a O::Ints,
    /// `1 / (W − 1)`, `W` the draws of the node's group. `[n_nodes]`
    pub step: &'a O::Floats,
}

/// The MLP's first half.
pub(crate) struct MlpIn<'a, O: Ops> {
    /// `[d_model, d_mlp]`
    pub w_in: &'a O::Matrix,
    /// Its plain output, bias included. `[n_base, d_mlp]`
    pub plain_in: &'a O::Floats,
    /// The gate's matrix and plain output, where there is one: `act(gate) · in`, otherwise `act(in)`.
    pub gate: Option<(&'a O::Matrix, &'a O::Floats)>,
    /// `act`
    pub activation: Activation,
}
