//! Operands of a device's operations besides matrices: formats, rows, norms, heads, replacements.

use cs_model::spec::{Activation, RotaryPairing};

use super::ops::Ops;

/// The format of weight matrices `[d_in, d_out]` on the device, which is the same for all matrices of a
/// model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stored {
    /// float32, for products in float32 if halves do not represent the weights exactly.
    F32,
    /// float16, `W = 2^-e hi`: `e = 0` if float16 represents the weights exactly, otherwise as in a pair.
    F16,
    /// bfloat16, if it represents the weights exactly.
    Bf16,
    /// Two float16 parts of a float32 matrix, `W = 2^-e (hi + lo / 2^11)`: `e` is chosen per matrix, such that the
    /// largest absolute entry of `2^e W` is in `[2^14, 2^15)`; `hi` is rounded to nearest, and `lo` is the remainder,
    /// times 2^11.
    F16Pair,
}

/// How a difference is split for products, elementwise: a [`Split`](Ops::Split) has one of these forms, with `[rows, cols]` in
/// each part.
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
/// Rounding is to nearest, ties to even; subnormal halves are kept. Products of halves are exact and summed in float32. `F16`
/// has no scale: differences fit if the model can run in float16 at all, and two parts resolve 2^-36. A difference whose
/// absolute value rounds to 2^16 or more is an overflow, which [`Ops::status`] reports; bfloat16 has float32's range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parts {
    /// float32, unsplit.
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

/// The rows of an operation's output, and of its inputs.
pub(crate) struct Span<'a, O: Ops> {
    /// Number of runs, whose rows are concatenated.
    pub n_runs: usize,
    /// Rows per run.
    pub per_run: usize,
    /// The plain run's row of each row of a run. `[per_run]`
    pub plain: &'a O::Ints,
    /// The input row of the stack for each output row (parents of children; ends among all nodes); `None`: the same row.
    /// `[n_runs * per_run]`
    pub from: Option<&'a O::Ints>,
}

/// A norm over `cols` values: `(x − mean) / √(mean square + ε) · gain + bias`.
pub(crate) struct NormWeights<O: Ops> {
    /// Whether the mean is subtracted: layer norm, otherwise RMS norm.
    pub centred: bool,
    /// ε
    pub eps: f32,
    /// `[cols]`, `1 + w` if the model stores `w`; `None`: ones.
    pub gain: Option<O::Floats>,
    /// `[cols]`; `None`: zeros. It cancels in differences.
    pub bias: Option<O::Floats>,
}

/// What a norm reads besides the plain run.
#[derive(Clone, Copy)]
pub(crate) enum Changed<'a, O: Ops> {
    /// `δ`, in the rows of [`Span::from`].
    By(&'a O::Floats),
    /// `x + δ` itself, if `δ` may cancel most of `x`.
    To(&'a O::Floats),
}

/// The destination of a norm's difference.
pub(crate) enum NormOut<'a, O: Ops> {
    /// Split for a product.
    Split(&'a mut O::Split),
    /// float32.
    Set(&'a mut O::Floats),
    /// Added to the destination.
    Add(&'a mut O::Floats),
}

/// What a product is added to.
#[derive(Clone, Copy)]
pub(crate) enum Residual<'a, O: Ops> {
    /// Nothing.
    Zero,
    /// The output's current contents.
    Own,
    /// These rows, `[·, cols]`, as selected by [`Span::from`].
    Rows(&'a O::Floats),
}

/// Norm and rotation of queries, or of keys (concatenated with values).
pub(crate) struct HeadsRule<'a, O: Ops> {
    /// Width of a head.
    pub d_head: usize,
    /// Leading columns that are normalized and rotated: all columns of queries; of keys and values, only
    /// those of keys.
    pub turned: usize,
    /// The norm, and its width in columns (`d_head` or `turned`), which is also that of its gain.
    pub norm: Option<(&'a NormWeights<O>, usize)>,
    /// The rotation.
    pub rotary: Option<Rotation<'a, O>>,
}

/// Rotary embedding of the first `2 * half` columns of each head.
pub(crate) struct Rotation<'a, O: Ops> {
    /// Coordinate `i` with `i + half`, or `2 i` with `2 i + 1`.
    pub pairing: RotaryPairing,
    /// Number of pairs.
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
    /// `[n_base, d_attn]`, normalized and rotated.
    pub q: O::Floats,
    /// `[n_base, 2 * d_kv]`, likewise.
    pub kv: O::Floats,
    /// `[n_base, d_attn]`
    pub z: O::Floats,
}

/// Differences of queries, keys and values, normalized and rotated.
pub(crate) struct DeltaHeads<O: Ops> {
    /// `[n_runs * needed rows, d_attn]`
    pub q: O::Floats,
    /// `[n_runs * n_nodes, 2 * d_kv]`
    pub kv: O::Floats,
}

/// `z` of the needed rows of a stack, as read by `W_O`.
pub(crate) enum Z<O: Ops> {
    /// `δ`, split. `[n_runs * per_run, d_attn]`
    Delta(O::Split),
    /// `x + δ` in float32, if a norm follows `W_O`. `[n_runs * per_run, d_attn]`
    Full(O::Floats),
}

/// How scores are computed from queries and keys: `c tanh(s q·k / c)`; query head `h` reads key head `h / (n_heads /
/// n_kv_heads)`.
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

/// The replacement of a stream at a branch node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Put {
    /// No replacement: the run's `x + δ`.
    Own = 0,
    /// Zeros.
    Zero = 1,
    /// [`Values::bias`]; only for `v` and `z`.
    Bias = 2,
    /// The plain run's, at the node's source.
    Source = 3,
    /// The mean of [`Values::means`]; only for `z`.
    Mean = 4,
    /// The same without the node's own plain `z`; see [`MeanRows`].
    Others = 5,
}

/// Recomputes attention for one head of one run: other heads of its group use the run's keys and values.
///
/// A pattern from the source is `q` and `k` from the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Recompute {
    /// The run.
    pub run: u32,
    /// The query head.
    pub head: u32,
    /// Replacement of its queries: own, zero or source.
    pub q: Put,
    /// Likewise of its keys.
    pub k: Put,
    /// Of its values: own, zero, source or bias.
    pub v: Put,
}

/// A head's `z` in one run, replaced at all rows. Never [`Put::Own`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PutZ {
    /// The run.
    pub run: u32,
    /// The query head.
    pub head: u32,
    /// The replacement.
    pub by: Put,
}

/// The sources of replacements in one layer.
pub(crate) struct Values<'a, O: Ops> {
    /// The plain run's heads.
    pub plain: &'a PlainHeads<O>,
    /// The base node that [`Put::Source`] reads, for each branch node. `[n_nodes]`, or a single value if nothing reads
    /// it.
    pub source: &'a O::Ints,
    /// The input-independent part of each query head's values. `[d_attn]`
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
    /// `1 / (W − 1)`, where `W` is the number of draws in the node's group. `[n_nodes]`
    pub step: &'a O::Floats,
}

/// The MLP's first half.
pub(crate) struct MlpIn<'a, O: Ops> {
    /// `[d_model, d_mlp]`
    pub w_in: &'a O::Matrix,
    /// Its plain output, bias included. `[n_base, d_mlp]`
    pub plain_in: &'a O::Floats,
    /// The gate's matrix and plain output, if there is one: `act(gate) · in`, otherwise `act(in)`.
    pub gate: Option<(&'a O::Matrix, &'a O::Floats)>,
    /// `act`
    pub activation: Activation,
}
