//! What the delta form asks of a device: memory, and operations on whole stacks of rows.
//!
//! One operation is one kernel on a card, or a few: products with what follows them, norms with split output, attention over a
//! tree, edits. [`Host`](super::host::Host) carries them out on the processor in plain loops; that is what every kernel is
//! tested against.
//!
//! # Layouts
//!
//! All matrices are row-major without gaps, and all sizes are in elements. A *stack* holds `n_runs` runs of `per_run` rows
//! each, one run below the other: row `r` is row `r % per_run` of run `r / per_run` ([`Span`]). The plain run's matrices have a
//! row per node of the *base* forest, `[n_base, ·]`, and are shared by all runs; `Span::plain` says which of them belongs to a
//! row. Keys and values lie side by side, all keys first: `kv` `[·, 2 * d_kv]`.
//!
//! `x` is the plain run's value, `δ` what a branch adds to it. Products are of `δ` alone, cut into half-precision parts
//! ([`Parts`]); whatever is not linear is computed in float32 on `x + δ`, less its value at `x`.
//!
//! # Rules
//!
//! - A row of an output depends on the inputs' rows that belong to it and on nothing else, bit for bit: not on the number of
//!   rows or runs, nor on a row's place.
//! - Where `δ` is 0, differences are 0 exactly: `x + δ` goes through the same operations in the same order as `x`.
//! - Outputs that are given are overwritten in full, whatever they held (NaN included), unless it says otherwise.
//! - Nothing is returned but values: what fails (memory, the device, an overflow of float16) is remembered, everything after
//!   it may do nothing, and [`Ops::status`] tells. The driver asks before it hands any number over.

use std::ops::Range;

use cs_model::spec::{Activation, RotaryPairing};

use crate::error::EngineError;
use crate::forest::Forest;
use crate::machine::Rows;

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
/// | one part | `hi` | `2^-e (hi · W_hi)` |
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

/// Memory and operations of a device, for one model.
pub(crate) trait Ops: Sized {
    /// float32 values.
    type Floats;
    /// Indices (`u32`).
    type Ints;
    /// A difference `[rows, cols]`, in [`Ops::parts`].
    type Split;
    /// A matrix of weights `[d_in, d_out]`, as the device was told to store them: see [`Stored`].
    type Matrix;
    /// Queries at some rows of a run, and the nodes that each sees.
    type Tree;

    /// What went wrong since the device was opened, if anything did: memory, the device, an overflow. Waits for what is queued.
    fn status(&mut self) -> Result<(), EngineError>;

    /// Bytes of its own that activations may take; `None`: it shares the process's memory.
    fn memory(&self) -> Option<usize>;

    /// Rows of a stack beyond which nothing is gained.
    fn enough_rows(&self) -> usize;

    /// How differences are cut up.
    fn parts(&self) -> Parts;

    // Memory.

    /// A copy on the device.
    fn upload(&mut self, values: &[f32]) -> Self::Floats;

    /// Indices on the device. Never empty.
    fn upload_ints(&mut self, values: &[u32]) -> Self::Ints;

    /// A copy of all values, in order.
    fn download(&mut self, floats: &Self::Floats) -> Vec<f32>;

    /// `len` floats: zeros if `zeroed`, otherwise whatever they are.
    fn floats(&mut self, len: usize, zeroed: bool) -> Self::Floats;

    /// A split `[rows, cols]`: zeros if `zeroed`, otherwise whatever it is.
    fn split(&mut self, rows: usize, cols: usize, zeroed: bool) -> Self::Split;

    /// A matrix `[d_in, d_out]`. `fill` writes some of its rows as float32, `[rows.len(), d_out]`; it may be called for any rows,
    /// as often as wanted. [`exponent`](super::formats::exponent) says what `e` is.
    fn matrix(
        &mut self,
        d_in: usize,
        d_out: usize,
        fill: &mut dyn FnMut(Range<usize>, &mut [f32]),
    ) -> Self::Matrix;

    /// Queries at `queries` of the runs over `forest`. Each sees its own node and its ancestors, or the nearest `window` of them.
    /// `own`: the plain run's row of each node. `[n_nodes]`
    fn tree(&mut self, forest: &Forest, queries: Rows<'_>, window: Option<usize>, own: &[u32]) -> Self::Tree;

    // The plain run: everything in float32, products float32-grade (three parts of `x`, or float32).

    /// `out = norm(x)`, rows of `cols` values.
    fn plain_norm(&mut self, norm: &NormWeights<Self>, cols: usize, x: &Self::Floats, out: &mut Self::Floats);

    /// Columns of a product: `out = a W[:, columns] + bias[columns]`, or `out += …` if `accumulate`; `a` `[rows, d_in]`, `bias`
    /// `[d_out]`, `out` `[rows, columns.len()]`.
    #[expect(clippy::too_many_arguments, reason = "a product and where it goes")]
    fn plain_product(
        &mut self,
        rows: usize,
        a: &Self::Floats,
        w: &Self::Matrix,
        columns: Range<usize>,
        bias: Option<&Self::Floats>,
        accumulate: bool,
        out: &mut Self::Floats,
    );

    /// `x += y`, of equal length.
    fn plain_add(&mut self, x: &mut Self::Floats, y: &Self::Floats);

    /// Norms and turns `heads` `[per_run, cols]` in place; `cols` is `turned` or twice that.
    fn plain_heads(
        &mut self,
        rule: &HeadsRule<'_, Self>,
        per_run: usize,
        cols: usize,
        heads: &mut Self::Floats,
    );

    /// `z` `[n_base, d_attn]` of all nodes, from `q` and `kv`. The tree's `own` is each node itself.
    fn plain_attend(
        &mut self,
        tree: &Self::Tree,
        scores: Scores,
        q: &Self::Floats,
        kv: &Self::Floats,
        z: &mut Self::Floats,
    );

    /// `out = act(hidden)`, or `act(gate) · hidden`.
    fn plain_activate(
        &mut self,
        activation: Activation,
        gate: Option<&Self::Floats>,
        hidden: &Self::Floats,
        out: &mut Self::Floats,
    );

    // Differences.

    /// `norm(x + δ) − norm(x)` of rows of `cols` values; `plain` `[n_base, cols]` is what the norm reads in the plain run.
    ///
    /// With `c` and `d` the centred `x` and `δ`, `s` and `s'` the scales before and after, it is `gain · (c (s' − s) + d s')`
    /// with `s' − s = −mean(d (2 c + d)) s² s'² / (s + s')` and `s'` from `mean((c + d)²)`, whose rounding is relative to `δ`.
    /// From [`Changed::To`] it is the plain difference of two norms.
    fn norm(
        &mut self,
        span: &Span<'_, Self>,
        norm: &NormWeights<Self>,
        cols: usize,
        plain: &Self::Floats,
        changed: Changed<'_, Self>,
        out: NormOut<'_, Self>,
    );

    /// Cuts `δ` `[·, cols]` up as it is, where no norm stands before a product.
    fn cut(&mut self, span: &Span<'_, Self>, cols: usize, delta: &Self::Floats, out: &mut Self::Split);

    /// Queries' differences, or keys' and values': `a W[:, columns]`, rows of `a` picked by [`Span::from`], then what the rule says
    /// of the leading `turned` columns. `raw` `[n_base, columns.len()]`: the plain run's before their norm, where there is one:
    /// `norm(raw + δ) − norm(raw)`; rotation is linear. `out` `[rows, columns.len()]`.
    #[expect(clippy::too_many_arguments, reason = "a product and what follows it")]
    fn product_heads(
        &mut self,
        span: &Span<'_, Self>,
        a: &Self::Split,
        w: &Self::Matrix,
        columns: Range<usize>,
        rule: &HeadsRule<'_, Self>,
        raw: Option<&Self::Floats>,
        out: &mut Self::Floats,
    );

    /// Attention of all heads on `x + δ`, less the plain `z` unless `out` is full.
    fn attend(
        &mut self,
        n_runs: usize,
        tree: &Self::Tree,
        scores: Scores,
        plain: &PlainHeads<Self>,
        delta: &DeltaHeads<Self>,
        out: &mut Z<Self>,
    );

    /// Writes some heads' `z` over, by attention with other queries, keys or values. `delta`: `None` where the runs are the plain
    /// run so far.
    fn attend_again(
        &mut self,
        tree: &Self::Tree,
        scores: Scores,
        sites: &[Again],
        values: &Values<'_, Self>,
        delta: Option<&DeltaHeads<Self>>,
        out: &mut Z<Self>,
    );

    /// Writes some heads' `z` over: the value's difference from the plain `z`, or the value if `out` is full.
    fn put_z(
        &mut self,
        tree: &Self::Tree,
        d_head: usize,
        sites: &[PutZ],
        values: &Values<'_, Self>,
        out: &mut Z<Self>,
    );

    /// Rows of `z`, `[·, cols]`, at `from` `[rows]`; `None`: all, in order.
    fn gather_z(&mut self, z: &Z<Self>, cols: usize, rows: usize, from: Option<&Self::Ints>) -> Z<Self>;

    /// Rows of a float32 matrix `[·, cols]`, likewise.
    fn gather(
        &mut self,
        x: &Self::Floats,
        cols: usize,
        rows: usize,
        from: Option<&Self::Ints>,
    ) -> Self::Floats;

    /// `out = residual + a W`; `a` `[rows, d_in]`, `out` `[rows, d_out]`. No bias: it cancels. [`Span::from`] picks the residual's
    /// rows, not those of `a`.
    fn product(
        &mut self,
        span: &Span<'_, Self>,
        a: &Self::Split,
        w: &Self::Matrix,
        residual: Residual<'_, Self>,
        out: &mut Self::Floats,
    );

    /// `act(x + a W) − act(x)`, with gates `act(g + a W_gate) · (x + a W_in) − act(g) · x`, cut up. `a` `[rows, d_model]`, `out`
    /// `[rows, d_mlp]`
    fn product_activate(
        &mut self,
        span: &Span<'_, Self>,
        a: &Self::Split,
        mlp: &MlpIn<'_, Self>,
        out: &mut Self::Split,
    );

    /// For each run, `(n_runs, per_run, cols)` being `shape`, products of rows of `x` `[n_runs * per_run, cols]` with rows of `table` `[·, cols]`, summed in float64:
    /// `pairs` are (row of the run, row of the table). `[n_runs, pairs.len()]`
    fn dots(
        &mut self,
        shape: (usize, usize, usize),
        x: &Self::Floats,
        table: &Self::Floats,
        pairs: &[(u32, u32)],
    ) -> Vec<f64>;
}
