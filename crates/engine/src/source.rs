//! Where a model's matrices are before they reach its device: in a checkpoint's files, or packed in memory.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

use cs_kernels::{PackedMatrix, PanelMut, UnfilledPanel};
use cs_model::checkpoint::{Checkpoint, Dtype, LinearPlan, Order, TensorStore};
use cs_model::error::LoadError;
use rayon::prelude::*;

use crate::load;
use crate::weights::{LayerWeights, Linear, Norm, Weights};

type Result<T> = std::result::Result<T, LoadError>;

/// All of a model's parameters.
#[derive(Clone, Copy)]
pub(crate) enum Source<'a> {
    /// In a checkpoint.
    Checkpoint(&'a Checkpoint),
    /// In memory, as float32.
    Weights(&'a Weights),
}

/// A matrix `[d_in, d_out]`.
pub(crate) enum MatrixSource<'a> {
    /// In a checkpoint.
    Stored(StoredMatrix<'a>),
    /// In memory.
    Packed(&'a PackedMatrix),
}

/// A matrix in a checkpoint.
pub(crate) struct StoredMatrix<'a> {
    store: &'a TensorStore,
    plan: &'a LinearPlan,
    /// Index of the first non-finite element of each part's tensor; `usize::MAX` if all are finite.
    bad: Vec<AtomicUsize>,
}

impl<'a> Source<'a> {
    /// A block: its small parameters, and the sources of its matrices.
    pub fn layer(self, layer: usize) -> Result<LayerWeights<MatrixSource<'a>>> {
        match self {
            Self::Checkpoint(checkpoint) => {
                let (store, plan) = (checkpoint.store(), checkpoint.plan());
                load::layer(store, &plan.layers[layer], |plan| Ok(MatrixSource::stored(store, plan)))
            }
            Self::Weights(weights) => Ok(weights.layers[layer].map(&mut MatrixSource::Packed)),
        }
    }

    /// A block's matrices, in order of [`LayerWeights::matrices`].
    pub fn matrices(self, layer: usize) -> Vec<MatrixSource<'a>> {
        match self {
            Self::Checkpoint(checkpoint) => {
                let stored = |plan| MatrixSource::stored(checkpoint.store(), plan);
                checkpoint.plan().layers[layer].matrices().map(stored).collect()
            }
            Self::Weights(weights) => weights.layers[layer].matrices().map(MatrixSource::Packed).collect(),
        }
    }

    /// The norm before the unembedding.
    pub fn ln_final(self) -> Result<Norm> {
        match self {
            Self::Checkpoint(checkpoint) => load::norm(checkpoint.store(), checkpoint.plan().ln_final),
            Self::Weights(weights) => Ok(weights.ln_final.clone()),
        }
    }

    /// From the model's width to the unembedding's, if they differ.
    pub fn project_out(self) -> Result<Option<Linear<MatrixSource<'a>>>> {
        match self {
            Self::Checkpoint(checkpoint) => {
                let (store, plan) = (checkpoint.store(), checkpoint.plan().project_out.as_ref());
                plan.map(|plan| {
                    let bias = load::bias(store, plan)?;
                    Ok(Linear { weight: MatrixSource::stored(store, plan), bias })
                })
                .transpose()
            }
            Self::Weights(weights) => {
                Ok(weights.project_out.as_ref().map(|linear| linear.map(&mut MatrixSource::Packed)))
            }
        }
    }

    /// Number of blocks.
    pub fn n_layers(self) -> usize {
        match self {
            Self::Checkpoint(checkpoint) => checkpoint.plan().layers.len(),
            Self::Weights(weights) => weights.layers.len(),
        }
    }

    /// Asks the system to prefetch a block.
    pub fn prefetch(self, layer: usize) {
        if let Self::Checkpoint(checkpoint) = self
            && layer < self.n_layers()
        {
            load::prefetch_layer(checkpoint, layer);
        }
    }
}

impl<'a> MatrixSource<'a> {
    fn stored(store: &'a TensorStore, plan: &'a LinearPlan) -> Self {
        Self::Stored(StoredMatrix::new(store, plan))
    }

    /// `[d_in, d_out]`
    pub fn shape(&self) -> (usize, usize) {
        match self {
            Self::Stored(stored) => (stored.plan.d_in, stored.plan.d_out),
            Self::Packed(matrix) => (matrix.k(), matrix.n()),
        }
    }

    /// The stored type, if it is the same for all parts.
    pub fn dtype(&self) -> Option<Dtype> {
        let Self::Stored(StoredMatrix { store, plan, .. }) = self else { return None };
        let mut dtypes = plan.parts.iter().map(|part| store.tensors[part.weight].dtype);
        let first = dtypes.next()?;
        dtypes.all(|dtype| dtype == first).then_some(first)
    }

    /// Calls `put` for some rows, piece by piece: the row, the piece's first column, and its values. Non-finite values are
    /// reported by [`Self::finish`].
    pub fn visit(&self, rows: Range<usize>, mut put: impl FnMut(usize, usize, &[f32])) {
        match self {
            Self::Stored(stored) => stored.visit(rows, put),
            Self::Packed(matrix) => {
                let mut values = vec![0.0; matrix.n()];
                for row in rows {
                    matrix.copy_row(row, &mut values);
                    put(row, 0, &values);
                }
            }
        }
    }

    /// Some columns, packed for the CPU.
    pub fn pack(&self, columns: Range<usize>) -> Result<PackedMatrix> {
        match self {
            Self::Stored(stored) => stored.pack(columns),
            Self::Packed(matrix) => {
                let mut values = vec![0.0; matrix.n()];
                Ok(PackedMatrix::pack_rows(matrix.k(), columns.len(), |row, out| {
                    matrix.copy_row(row, &mut values);
                    out.copy_from_slice(&values[columns.clone()]);
                }))
            }
        }
    }

    /// Releases the files' pages after reading.
    ///
    /// # Errors
    /// [`LoadError::NonFinite`] if a value that was read is not finite.
    pub fn finish(&self) -> Result<()> {
        match self {
            Self::Stored(stored) => stored.finish(),
            Self::Packed(_) => Ok(()),
        }
    }
}

/// Rows and columns of a piece that is read at a time from a transposed tensor.
const ROWS: usize = 128;
const COLUMNS: usize = 32;
/// Not a power of two: all columns of a piece would map to a few cache lines.
const STRIDE: usize = ROWS + 16;
/// Number of panels filled from one piece of a row, large enough to amortize the call.
const PANELS_PER_ROW_PIECE: usize = 8;

impl<'a> StoredMatrix<'a> {
    pub fn new(store: &'a TensorStore, plan: &'a LinearPlan) -> Self {
        Self { store, plan, bad: plan.parts.iter().map(|_| AtomicUsize::new(usize::MAX)).collect() }
    }

    /// Some columns, packed panel by panel on all threads.
    pub fn pack(&self, columns: Range<usize>) -> Result<PackedMatrix> {
        let first = columns.start;
        let matrix = PackedMatrix::pack(self.plan.d_in, columns.len(), |panels| {
            let panels = panels.into_par_iter();
            match self.plan.order {
                Order::Rows => {
                    panels.chunks(PANELS_PER_ROW_PIECE).for_each(|group| self.pack_rows(first, group));
                }
                Order::Columns | Order::ColumnsPerHead { .. } => {
                    panels.for_each(|panel| self.pack_columns(first, panel));
                }
            }
        });
        self.finish()?;
        Ok(matrix)
    }

    fn finish(&self) -> Result<()> {
        for (part, bad) in self.plan.parts.iter().zip(&self.bad) {
            let tensor = &self.store.tensors[part.weight];
            self.store.release(tensor);
            let index = bad.load(Ordering::Relaxed);
            if index != usize::MAX {
                return Err(self.store.non_finite(tensor, index));
            }
        }
        Ok(())
    }

    /// Decodes elements of one of the matrix's tensors.
    fn read(&self, part: usize, start: usize, out: &mut [f32]) {
        let tensor = &self.store.tensors[self.plan.parts[part].weight];
        if let Err(index) = self.store.decode(tensor, start, out) {
            self.bad[part].fetch_min(index, Ordering::Relaxed);
        }
    }

    /// Reads a piece of a transposed tensor, column by column at a stride of [`STRIDE`].
    fn read_columns(&self, rows: &Range<usize>, columns: Range<usize>, block: &mut [f32]) {
        for (column, out) in columns.zip(block.chunks_mut(STRIDE)) {
            let (part, row) = self.plan.column(column);
            self.read(part, row * self.plan.d_in + rows.start, &mut out[..rows.len()]);
        }
    }

    fn visit(&self, rows: Range<usize>, mut put: impl FnMut(usize, usize, &[f32])) {
        let d_out = self.plan.d_out;
        if self.plan.order == Order::Rows {
            let mut values = vec![0.0; d_out];
            for row in rows {
                self.read(0, row * d_out, &mut values);
                put(row, 0, &values);
            }
            return;
        }
        let mut block = [0.0; COLUMNS * STRIDE];
        for start in rows.clone().step_by(ROWS) {
            let rows = start..rows.end.min(start + ROWS);
            for first in (0..d_out).step_by(COLUMNS) {
                let columns = first..d_out.min(first + COLUMNS);
                self.read_columns(&rows, columns.clone(), &mut block);
                for row in rows.clone() {
                    let mut values = [0.0; COLUMNS];
                    for (value, column) in values.iter_mut().zip(block.chunks_exact(STRIDE)) {
                        *value = column[row - rows.start];
                    }
                    put(row, first, &values[..columns.len()]);
                }
            }
        }
    }

    /// Fills neighbouring panels from a tensor that is not transposed; the first of all panels starts at column `offset`.
    fn pack_rows(&self, offset: usize, panels: Vec<UnfilledPanel<'_>>) {
        let LinearPlan { d_in, d_out, .. } = *self.plan;
        let mut panels: Vec<PanelMut> = panels.into_iter().map(UnfilledPanel::zeroed).collect();
        let first = panels.first().map_or(0, |panel| panel.columns().start);
        let end = panels.last().map_or(0, |panel| panel.columns().end);
        let mut piece = vec![0.0; end - first];
        for row in 0..d_in {
            self.read(0, row * d_out + offset + first, &mut piece);
            for panel in &mut panels {
                let columns = panel.columns();
                panel.set_row(row, &piece[columns.start - first..columns.end - first]);
            }
        }
    }

    /// Fills a panel from transposed tensors: each column is a row there.
    fn pack_columns(&self, offset: usize, panel: UnfilledPanel<'_>) {
        let d_in = self.plan.d_in;
        let mut panel = panel.zeroed();
        let columns = panel.columns();
        let mut block = vec![0.0; columns.len() * STRIDE];
        for first in (0..d_in).step_by(ROWS) {
            let rows = first..d_in.min(first + ROWS);
            self.read_columns(&rows, columns.start + offset..columns.end + offset, &mut block);
            panel.set_columns(rows, &block, STRIDE);
        }
    }
}
