//! The operations on the CPU, in plain loops: the reference for kernels.
//!
//! Halves are emulated exactly (operands rounded, products exact, float32 sums), so that this machine also shows the effect of
//! the delta form's rounding on a model's results.

mod attention;
mod halves;

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

use cs_model::spec::{Activation, RotaryPairing};
use rayon::prelude::*;

use super::ops::{
    Changed, DeltaHeads, HeadsRule, MlpIn, NormOut, NormWeights, Ops, Parts, PlainHeads, PutZ, Recompute,
    Residual, Rotation, Scores, Span, Stored, Values, Z,
};
use super::packed::Packed;
use crate::device::Device;
use crate::error::EngineError;
use crate::forest::Forest;
use crate::machine::{Rows, cpu};
use attention::Tree;
use halves::{Matrix, Split, cut};

/// The CPU as a device.
pub(crate) struct Host {
    parts: Parts,
    stored: Stored,
    overflow: AtomicBool,
}

impl Host {
    pub fn new(parts: Parts, stored: Stored) -> Self {
        Self { parts, stored, overflow: AtomicBool::new(false) }
    }

    /// Splits and writes rows of differences, `[rows, cols]`.
    fn write(&self, out: &mut Split, delta: &[f32]) {
        for (i, &x) in delta.iter().enumerate() {
            (out.hi[i], out.lo[i]) = cut(self.parts, x, &self.overflow);
        }
    }
}

impl Span<'_, Host> {
    fn n_rows(&self) -> usize {
        self.n_runs * self.per_run
    }

    /// The stack's row that an output row reads.
    fn from(&self, row: usize) -> usize {
        self.from.map_or(row, |from| from[row] as usize)
    }

    /// The plain run's row.
    fn plain(&self, row: usize) -> usize {
        self.plain[row % self.per_run] as usize
    }
}

fn row(matrix: &[f32], row: usize, cols: usize) -> &[f32] {
    &matrix[row * cols..][..cols]
}

/// The row, centred if the norm subtracts its mean.
fn centred(norm: &NormWeights<Host>, x: &[f32]) -> Vec<f32> {
    let mean = x.iter().map(|&x| f64::from(x)).sum::<f64>() / x.len() as f64;
    let mean = if norm.centred { mean as f32 } else { 0.0 };
    x.iter().map(|x| x - mean).collect()
}

/// `1 / √(mean square + ε)` of a centred row.
fn scale(norm: &NormWeights<Host>, c: impl ExactSizeIterator<Item = f32>) -> f64 {
    let n = c.len() as f64;
    let square = c.map(|c| f64::from(c) * f64::from(c)).sum::<f64>() / n;
    1.0 / (square + f64::from(norm.eps)).sqrt()
}

fn gain(norm: &NormWeights<Host>, i: usize) -> f32 {
    norm.gain.as_ref().map_or(1.0, |gain| gain[i])
}

/// `norm(x)` of one row.
fn norm_row(norm: &NormWeights<Host>, x: &[f32]) -> Vec<f32> {
    let c = centred(norm, x);
    let scale = scale(norm, c.iter().copied()) as f32;
    let bias = |i: usize| norm.bias.as_ref().map_or(0.0, |bias| bias[i]);
    c.iter().enumerate().map(|(i, c)| c * scale * gain(norm, i) + bias(i)).collect()
}

/// `norm(x + δ) − norm(x)` of one row; see [`Ops::norm`].
fn norm_change(norm: &NormWeights<Host>, x: &[f32], delta: &[f32]) -> Vec<f32> {
    let (c, d) = (centred(norm, x), centred(norm, delta));
    let before = scale(norm, c.iter().copied());
    let after = scale(norm, c.iter().zip(&d).map(|(c, d)| c + d));
    let change = c.iter().zip(&d).map(|(&c, &d)| f64::from(d) * (2.0 * f64::from(c) + f64::from(d)));
    let change = change.sum::<f64>() / x.len() as f64;
    let of_scale = (-change * before.powi(2) * after.powi(2) / (before + after)) as f32;
    let after = after as f32;
    (0..).zip(c.iter().zip(&d)).map(|(i, (c, d))| gain(norm, i) * (c * of_scale + d * after)).collect()
}

/// Rotates one row's heads.
fn rotate(rotation: &Rotation<'_, Host>, position: usize, heads: &mut [f32], d_head: usize) {
    let (cos, sin) = (row(rotation.cos, position, rotation.half), row(rotation.sin, position, rotation.half));
    for head in heads.chunks_exact_mut(d_head) {
        let turned = &mut head[..2 * rotation.half];
        match rotation.pairing {
            RotaryPairing::Halves => cs_kernels::rotary(turned, cos, sin),
            RotaryPairing::Interleaved => cs_kernels::rotary_interleaved(turned, cos, sin),
        }
    }
}

/// `act(hidden)`, or `act(gate) · hidden`.
fn activated(activation: Activation, gate: Option<&[f32]>, hidden: &[f32]) -> Vec<f32> {
    let mut out = gate.unwrap_or(hidden).to_vec();
    match gate {
        None => cpu::activate(activation, &mut out),
        Some(_) => cpu::activate_gate(activation, &mut out, hidden),
    }
    out
}

fn sums(x: &[f32], y: &[f32]) -> Vec<f32> {
    x.iter().zip(y).map(|(x, y)| x + y).collect()
}

impl Ops for Host {
    type Floats = Vec<f32>;
    type Ints = Vec<u32>;
    type Split = Split;
    type Matrix = Matrix;
    type Tree = Tree;
    type Kept = Packed;

    fn name(&self) -> String {
        Device::Delta.to_string()
    }

    fn status(&mut self) -> Result<(), EngineError> {
        if self.overflow.load(Ordering::Relaxed) { Err(EngineError::Overflow) } else { Ok(()) }
    }

    fn memory(&self) -> Option<usize> {
        None
    }

    fn enough_rows(&self) -> usize {
        4096
    }

    fn parts(&self) -> Parts {
        self.parts
    }

    fn stored(&self) -> Stored {
        self.stored
    }

    fn upload(&mut self, values: &[f32]) -> Vec<f32> {
        values.to_vec()
    }

    fn upload_ints(&mut self, values: &[u32]) -> Vec<u32> {
        values.to_vec()
    }

    fn download(&mut self, floats: &Vec<f32>) -> Vec<f32> {
        floats.clone()
    }

    fn floats(&mut self, len: usize, zeroed: bool) -> Vec<f32> {
        vec![if zeroed { 0.0 } else { f32::NAN }; len]
    }

    fn split(&mut self, rows: usize, cols: usize, zeroed: bool) -> Split {
        let mut split = Split::zeros(rows, cols);
        if !zeroed {
            split.hi.fill(f32::NAN);
        }
        split
    }

    fn matrix(&mut self, packed: &Packed) -> Matrix {
        Matrix::new(self.stored, packed)
    }

    fn keep(&mut self, packed: Packed) -> Packed {
        packed
    }

    fn refill(&mut self, matrix: &mut Matrix, by: &Packed) {
        *matrix = Matrix::new(self.stored, by);
    }

    fn join(&mut self) {}

    fn tree(&mut self, forest: &Forest, queries: Rows<'_>, window: Option<usize>, own: &[u32]) -> Tree {
        Tree::new(forest, queries, window, own)
    }

    fn plain_norm(&mut self, norm: &NormWeights<Self>, cols: usize, x: &Vec<f32>, out: &mut Vec<f32>) {
        let rows = out.par_chunks_exact_mut(cols).zip(x.par_chunks_exact(cols));
        rows.for_each(|(out, x)| out.copy_from_slice(&norm_row(norm, x)));
    }

    fn plain_product(
        &mut self,
        rows: usize,
        a: &Vec<f32>,
        w: &Matrix,
        columns: Range<usize>,
        bias: Option<&Vec<f32>>,
        accumulate: bool,
        out: &mut Vec<f32>,
    ) {
        assert_eq!(a.len(), rows * w.d_in);
        let rows = out.par_chunks_exact_mut(columns.len()).zip(a.par_chunks_exact(w.d_in));
        rows.for_each(|(out, a)| {
            let mut sums = vec![0.0; columns.len()];
            let some = a.iter().enumerate().filter(|(_, a)| **a != 0.0);
            some.for_each(|(k, &a)| w.add_row(k, columns.start, a, &mut sums));
            for ((out, sum), j) in out.iter_mut().zip(sums).zip(columns.clone()) {
                let sum = (sum + bias.map_or(0.0, |bias| f64::from(bias[j]))) as f32;
                *out = if accumulate { *out + sum } else { sum };
            }
        });
    }

    fn plain_add(&mut self, x: &mut Vec<f32>, y: &Vec<f32>) {
        cs_kernels::add_assign(x, y);
    }

    fn plain_heads(&mut self, rule: &HeadsRule<'_, Self>, per_run: usize, cols: usize, heads: &mut Vec<f32>) {
        assert_eq!(heads.len(), per_run * cols);
        heads.par_chunks_exact_mut(cols).enumerate().for_each(|(node, heads)| {
            let turned = &mut heads[..rule.turned];
            if let Some((norm, width)) = rule.norm {
                turned
                    .chunks_exact_mut(width)
                    .for_each(|heads| heads.copy_from_slice(&norm_row(norm, heads)));
            }
            if let Some(rotation) = &rule.rotary {
                rotate(rotation, rotation.position[node] as usize, turned, rule.d_head);
            }
        });
    }

    fn plain_attend(&mut self, tree: &Tree, scores: Scores, q: &Vec<f32>, kv: &Vec<f32>, z: &mut Vec<f32>) {
        *z = self.attend_plain(tree, scores, q, kv);
    }

    fn plain_activate(
        &mut self,
        activation: Activation,
        gate: Option<&Vec<f32>>,
        hidden: &Vec<f32>,
        out: &mut Vec<f32>,
    ) {
        *out = activated(activation, gate.map(Vec::as_slice), hidden);
    }

    fn norm(
        &mut self,
        span: &Span<'_, Self>,
        norm: &NormWeights<Self>,
        cols: usize,
        plain: &Vec<f32>,
        changed: Changed<'_, Self>,
        out: NormOut<'_, Self>,
    ) {
        let of_row = |r: usize| -> Vec<f32> {
            let x = row(plain, span.plain(r), cols);
            match changed {
                Changed::By(delta) => norm_change(norm, x, row(delta, span.from(r), cols)),
                Changed::To(sum) => {
                    let after = norm_row(norm, row(sum, span.from(r), cols));
                    after.iter().zip(norm_row(norm, x)).map(|(after, before)| after - before).collect()
                }
            }
        };
        let delta: Vec<f32> = (0..span.n_rows()).into_par_iter().flat_map_iter(of_row).collect();
        match out {
            NormOut::Split(split) => self.write(split, &delta),
            NormOut::Set(out) => *out = delta,
            NormOut::Add(out) => cs_kernels::add_assign(out, &delta),
        }
    }

    fn cut(&mut self, span: &Span<'_, Self>, cols: usize, delta: &Vec<f32>, out: &mut Split) {
        for r in 0..span.n_rows() {
            out.write(self.parts, r * cols, row(delta, span.from(r), cols), &self.overflow);
        }
    }

    fn product_heads(
        &mut self,
        span: &Span<'_, Self>,
        a: &Split,
        w: &Matrix,
        columns: Range<usize>,
        rule: &HeadsRule<'_, Self>,
        raw: Option<&Vec<f32>>,
        out: &mut Vec<f32>,
    ) {
        out.par_chunks_exact_mut(columns.len()).enumerate().for_each(|(r, out)| {
            w.product(self.parts, a.row(span.from(r)), columns.start, out);
            let turned = &mut out[..rule.turned];
            if let (Some((norm, width)), Some(raw)) = (rule.norm, raw) {
                let raw = &row(raw, span.plain(r), columns.len())[..rule.turned];
                for (delta, raw) in turned.chunks_exact_mut(width).zip(raw.chunks_exact(width)) {
                    delta.copy_from_slice(&norm_change(norm, raw, delta));
                }
            }
            if let Some(rotation) = &rule.rotary {
                rotate(rotation, rotation.position[r % span.per_run] as usize, turned, rule.d_head);
            }
        });
    }

    fn attend(
        &mut self,
        n_runs: usize,
        tree: &Tree,
        scores: Scores,
        plain: &PlainHeads<Self>,
        delta: &DeltaHeads<Self>,
        out: &mut Z<Self>,
    ) {
        self.attend_stack(n_runs, tree, scores, plain, delta, out);
    }

    fn attend_again(
        &mut self,
        tree: &Tree,
        scores: Scores,
        sites: &[Recompute],
        values: &Values<'_, Self>,
        delta: Option<&DeltaHeads<Self>>,
        out: &mut Z<Self>,
    ) {
        self.attend_sites(tree, scores, sites, values, delta, out);
    }

    fn put_z(
        &mut self,
        tree: &Tree,
        d_head: usize,
        sites: &[PutZ],
        values: &Values<'_, Self>,
        out: &mut Z<Self>,
    ) {
        self.put_values(tree, d_head, sites, values, out);
    }

    fn gather_z(&mut self, z: &Z<Self>, cols: usize, rows: usize, from: Option<&Vec<u32>>) -> Z<Self> {
        match z {
            Z::Full(z) => Z::Full(self.gather(z, cols, rows, from)),
            Z::Delta(Split { hi, lo, .. }) => {
                let (hi, lo) = (self.gather(hi, cols, rows, from), self.gather(lo, cols, rows, from));
                Z::Delta(Split { cols, hi, lo })
            }
        }
    }

    fn gather(&mut self, x: &Vec<f32>, cols: usize, rows: usize, from: Option<&Vec<u32>>) -> Vec<f32> {
        let from = |r: usize| from.map_or(r, |from| from[r] as usize);
        (0..rows).flat_map(|r| row(x, from(r), cols)).copied().collect()
    }

    fn product(
        &mut self,
        span: &Span<'_, Self>,
        a: &Split,
        w: &Matrix,
        residual: Residual<'_, Self>,
        out: &mut Vec<f32>,
    ) {
        let cols = w.d_out;
        out.par_chunks_exact_mut(cols).enumerate().for_each(|(r, out)| {
            let mut product = vec![0.0; cols];
            w.product(self.parts, a.row(r), 0, &mut product);
            match residual {
                Residual::Zero => out.copy_from_slice(&product),
                Residual::Own => cs_kernels::add_assign(out, &product),
                Residual::Rows(rows) => {
                    out.copy_from_slice(&sums(row(rows, span.from(r), cols), &product));
                }
            }
        });
    }

    fn product_activate(&mut self, span: &Span<'_, Self>, a: &Split, mlp: &MlpIn<'_, Self>, out: &mut Split) {
        let d_mlp = mlp.w_in.d_out;
        let of_row = |r: usize| -> Vec<f32> {
            let changed = |w: &Matrix, plain: &[f32]| {
                let mut product = vec![0.0; d_mlp];
                w.product(self.parts, a.row(r), 0, &mut product);
                sums(plain, &product)
            };
            let plain = row(mlp.plain_in, span.plain(r), d_mlp);
            let gate = mlp.gate.map(|(w, plain)| (w, row(plain, span.plain(r), d_mlp)));
            let before = activated(mlp.activation, gate.map(|(_, plain)| plain), plain);
            let gate = gate.map(|(w, plain)| changed(w, plain));
            let after = activated(mlp.activation, gate.as_deref(), &changed(mlp.w_in, plain));
            after.iter().zip(&before).map(|(after, before)| after - before).collect()
        };
        let delta: Vec<f32> = (0..span.n_rows()).into_par_iter().flat_map_iter(of_row).collect();
        self.write(out, &delta);
    }

    fn dots(
        &mut self,
        (n_runs, per_run, cols): (usize, usize, usize),
        x: &Vec<f32>,
        table: &Vec<f32>,
        pairs: &[(u32, u32)],
    ) -> Vec<f64> {
        let dot = |x: &[f32], y: &[f32]| x.iter().zip(y).map(|(&x, &y)| f64::from(x) * f64::from(y)).sum();
        let of_run = |run: usize| {
            let x = &x[run * per_run * cols..];
            pairs
                .iter()
                .map(move |&(r, token)| dot(row(x, r as usize, cols), row(table, token as usize, cols)))
        };
        (0..n_runs).flat_map(of_run).collect()
    }
}
