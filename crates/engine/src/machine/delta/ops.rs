//! What the delta form needs from a device: memory, and operations on whole stacks of rows.
//!
//! One operation is one or a few kernels on a GPU: products with the elementwise operations that follow, norms with split
//! output, attention over a tree, edits. [`Host`](super::host::Host) implements them on the CPU in plain loops, as the
//! reference for every kernel.
//!
//! # Layouts
//!
//! All matrices are row-major without gaps, and all sizes are in elements. A *stack* holds `n_runs` runs of `per_run` rows
//! each, concatenated: row `r` is row `r % per_run` of run `r / per_run` ([`Span`]). The plain run's matrices have one row per
//! node of the *base* forest, `[n_base, ·]`, and are shared by all runs; `Span::plain` gives the plain row of each row. Keys
//! and values are concatenated, all keys first: `kv` `[·, 2 * d_kv]`.
//!
//! `x` is the plain run's value, `δ` a branch's difference from it. Products involve only `δ`, split into
//! half-precision parts ([`Parts`]); everything nonlinear is computed in float32 on `x + δ`, minus its value at `x`.
//!
//! # Rules
//!
//! - An output row depends, bit for bit, only on its own input rows: not on the number of rows or runs, nor on its position.
//! - If `δ` is 0, differences are exactly 0: `x + δ` goes through the same operations in the same order as `x`.
//! - Output arguments are overwritten in full, whatever they contained (including NaN), unless stated otherwise.
//! - Operations do not return errors: a failure (of memory or the device, or an overflow of float16) is recorded, later
//!   operations may do nothing, and [`Ops::status`] returns it. The driver checks the status before it returns any number.

use std::ops::Range;

use cs_model::spec::Activation;

use super::packed::Packed;
use crate::error::EngineError;
use crate::forest::Forest;
use crate::machine::Rows;

pub(crate) use super::operands::{
    Changed, DeltaHeads, HeadsRule, MeanRows, MlpIn, NormOut, NormWeights, Parts, PlainHeads, Put, PutZ,
    Recompute, Residual, Rotation, Scores, Span, Stored, Values, Z,
};

/// Memory and operations of a device, for one model.
pub(crate) trait Ops: Sized + Send {
    /// float32 values.
    type Floats: Send;
    /// Indices (`u32`).
    type Ints: Send;
    /// A difference `[rows, cols]`, in [`Ops::parts`].
    type Split: Send;
    /// A weight matrix `[d_in, d_out]` in the device's format: see [`Stored`].
    type Matrix: Send;
    /// Queries at some rows of a run, and the nodes that each attends to.
    type Tree: Send;
    /// A matrix in host memory.
    type Kept: Send + Sync;

    /// The device's name for users.
    fn name(&self) -> String;

    /// The first error since the device was opened, if any: memory, the device, an overflow. Waits for queued operations.
    fn status(&mut self) -> Result<(), EngineError>;

    /// Device memory available for activations, in bytes; `None` if the device shares the process's memory.
    fn memory(&self) -> Option<usize>;

    /// Rows of a stack beyond which more rows bring no speedup.
    fn enough_rows(&self) -> usize;

    /// The format of differences.
    fn parts(&self) -> Parts;

    /// The format of weights.
    fn stored(&self) -> Stored;

    // Memory.

    /// A copy on the device.
    fn upload(&mut self, values: &[f32]) -> Self::Floats;

    /// Indices on the device. Never empty.
    fn upload_ints(&mut self, values: &[u32]) -> Self::Ints;

    /// A copy of all values, in order.
    fn download(&mut self, floats: &Self::Floats) -> Vec<f32>;

    /// `len` floats: zeros if `zeroed`, otherwise unspecified values.
    fn floats(&mut self, len: usize, zeroed: bool) -> Self::Floats;

    /// A split `[rows, cols]`: zeros if `zeroed`, otherwise unspecified values.
    fn split(&mut self, rows: usize, cols: usize, zeroed: bool) -> Self::Split;

    /// A matrix on the device.
    fn matrix(&mut self, packed: &Packed) -> Self::Matrix;

    /// Moves a matrix to host memory that the device can copy from fast.
    fn keep(&mut self, packed: Packed) -> Self::Kept;

    /// Overwrites a matrix with one of the same layout, after all operations queued so far, and in parallel with those
    /// queued until [`Ops::join`].
    fn refill(&mut self, matrix: &mut Self::Matrix, by: &Self::Kept);

    /// Makes later operations wait for all refilled matrices.
    fn join(&mut self);

    /// Queries at `queries` of the runs over `forest`. Each attends to its own node and its ancestors, or the nearest `window` of
    /// them. `own`: the plain run's row of each node. `[n_nodes]`
    fn tree(&mut self, forest: &Forest, queries: Rows<'_>, window: Option<usize>, own: &[u32]) -> Self::Tree;

    // The plain run: everything in float32, products with float32 accuracy (three parts of `x`, or float32).

    /// `out = norm(x)`, rows of `cols` values.
    fn plain_norm(&mut self, norm: &NormWeights<Self>, cols: usize, x: &Self::Floats, out: &mut Self::Floats);

    /// Columns of a product: `out = a W[:, columns] + bias[columns]`, or `out += …` if `accumulate`; `a` `[rows, d_in]`, `bias`
    /// `[d_out]`, `out` `[rows, columns.len()]`.
    #[expect(clippy::too_many_arguments, reason = "a product and its destination")]
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

    /// Normalizes and rotates `heads` `[per_run, cols]` in place; `cols` is `turned` or twice that.
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

    /// `norm(x + δ) − norm(x)` of rows of `cols` values; `plain` `[n_base, cols]` is the norm's input in the plain run.
    ///
    /// With `c` and `d` the centred `x` and `δ`, `s` and `s'` the scales before and after, it is `gain · (c (s' − s) + d s')`
    /// with `s' − s = −mean(d (2 c + d)) s² s'² / (s + s')` and `s'` from `mean((c + d)²)`, whose rounding error is relative
    /// to `δ`. From [`Changed::To`] it is simply the difference of two norms.
    fn norm(
        &mut self,
        span: &Span<'_, Self>,
        norm: &NormWeights<Self>,
        cols: usize,
        plain: &Self::Floats,
        changed: Changed<'_, Self>,
        out: NormOut<'_, Self>,
    );

    /// Splits `δ` `[·, cols]` itself, if there is no norm before a product.
    fn cut(&mut self, span: &Span<'_, Self>, cols: usize, delta: &Self::Floats, out: &mut Self::Split);

    /// Queries' differences, or keys' and values': `a W[:, columns]`, with rows of `a` selected by [`Span::from`], then the rule
    /// for the leading `turned` columns. `raw` `[n_base, columns.len()]`: the plain run's values before their norm, if there is
    /// one: `norm(raw + δ) − norm(raw)`; rotation is linear. `out` `[rows, columns.len()]`.
    #[expect(clippy::too_many_arguments, reason = "a product and its epilogue")]
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

    /// Attention of all heads on `x + δ`, minus the plain `z` unless `out` is full.
    fn attend(
        &mut self,
        n_runs: usize,
        tree: &Self::Tree,
        scores: Scores,
        plain: &PlainHeads<Self>,
        delta: &DeltaHeads<Self>,
        out: &mut Z<Self>,
    );

    /// Overwrites some heads' `z` by attention with other queries, keys or values. `delta`: `None` if the runs equal the plain
    /// run so far.
    fn attend_again(
        &mut self,
        tree: &Self::Tree,
        scores: Scores,
        sites: &[Recompute],
        values: &Values<'_, Self>,
        delta: Option<&DeltaHeads<Self>>,
        out: &mut Z<Self>,
    );

    /// Overwrites some heads' `z`: the value's difference from the plain `z`, or the value itself if `out` is
    /// full.
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

    /// `out = residual + a W`; `a` `[rows, d_in]`, `out` `[rows, d_out]`. No bias: it cancels. [`Span::from`] selects the
    /// residual's rows, not those of `a`.
    fn product(
        &mut self,
        span: &Span<'_, Self>,
        a: &Self::Split,
        w: &Self::Matrix,
        residual: Residual<'_, Self>,
        out: &mut Self::Floats,
    );

    /// `act(x + a W) − act(x)`, with gates `act(g + a W_gate) · (x + a W_in) − act(g) · x`, split. `a` `[rows, d_model]`, `out`
    /// `[rows, d_mlp]`
    fn product_activate(
        &mut self,
        span: &Span<'_, Self>,
        a: &Self::Split,
        mlp: &MlpIn<'_, Self>,
        out: &mut Self::Split,
    );

    /// With `shape` `(n_runs, per_run, cols)`: for each run, dot products of rows of `x` `[n_runs * per_run, cols]` with rows of `table` `[·, cols]`, summed in
    /// float64: `pairs` are (row of the run, row of the table). `[n_runs, pairs.len()]`
    fn dots(
        &mut self,
        shape: (usize, usize, usize),
        x: &Self::Floats,
        table: &Self::Floats,
        pairs: &[(u32, u32)],
    ) -> Vec<f64>;
}
