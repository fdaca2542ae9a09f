//! Weights in the packed layout of the matrix product.

use std::mem::MaybeUninit;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::pages::prefer_huge_pages;
use crate::simd::NR;

/// One row of a panel, aligned to cache lines.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct PanelRow([f32; NR]);

/// A weight matrix `W` of shape `[k, n]`, packed once into panels of 32 columns.
///
/// Panel `p` holds columns `32 p .. 32 (p + 1)` as a contiguous row-major `[k, 32]` block, padded with zeros beyond
/// column `n`, so that any range of rows (such as a head's rows of `W_O`) and any range of columns can be addressed.
#[derive(Clone)]
pub struct PackedMatrix {
    panels: Vec<PanelRow>,
    k: usize,
    n: usize,
}

/// A panel whose memory has not been touched yet: see [`PackedMatrix::pack`].
pub struct UnfilledPanel<'a> {
    rows: &'a mut [MaybeUninit<PanelRow>],
    columns: Range<usize>,
    written: &'a AtomicUsize,
}

impl<'a> UnfilledPanel<'a> {
    /// Fills the panel with zeros and makes it writable. Best called by the writing thread, right before writing.
    pub fn zeroed(self) -> PanelMut<'a> {
        for row in self.rows.iter_mut() {
            row.write(PanelRow([0.0; NR]));
        }
        // SAFETY: every row has just been written.
        let rows = unsafe { self.rows.assume_init_mut() };
        self.written.fetch_add(1, Ordering::Release);
        PanelMut { rows, columns: self.columns }
    }
}

/// A writable panel: all rows of up to 32 columns.
pub struct PanelMut<'a> {
    rows: &'a mut [PanelRow],
    columns: Range<usize>,
}

impl PanelMut<'_> {
    /// The columns of the matrix that the panel holds.
    pub fn columns(&self) -> Range<usize> {
        self.columns.clone()
    }

    /// Writes row `row`: one value for each of the panel's columns.
    ///
    /// # Panics
    /// If there is no such row, or there are more values than columns.
    #[track_caller]
    pub fn set_row(&mut self, row: usize, values: &[f32]) {
        assert!(values.len() <= self.columns.len(), "{} values, {:?}", values.len(), self.columns);
        self.rows[row].0[..values.len()].copy_from_slice(values);
    }

    /// Writes the rows `rows` of every column: column `j` of the panel is `columns[j * stride ..]`.
    ///
    /// # Panics
    /// If the panel lacks a row, or `columns` a value.
    #[track_caller]
    pub fn set_columns(&mut self, rows: Range<usize>, columns: &[f32], stride: usize) {
        let (n_rows, n_columns) = (rows.len(), self.columns.len());
        if n_rows == 0 || n_columns == 0 {
            return;
        }
        let columns = &columns[..(n_columns - 1) * stride + n_rows];
        let rows = &mut self.rows[rows];
        if n_columns == NR {
            for (i, row) in rows.iter_mut().enumerate() {
                for (j, value) in row.0.iter_mut().enumerate() {
                    *value = columns[j * stride + i];
                }
            }
        } else {
            for (i, row) in rows.iter_mut().enumerate() {
                for (j, value) in row.0[..n_columns].iter_mut().enumerate() {
                    *value = columns[j * stride + i];
                }
            }
        }
    }
}

/// A block of rows and columns of a [`PackedMatrix`].
#[derive(Clone)]
pub struct PackedRef<'a> {
    pub(crate) matrix: &'a PackedMatrix,
    pub(crate) rows: Range<usize>,
    pub(crate) cols: Range<usize>,
}

impl PackedMatrix {
    /// Packs a row-major `[k, n]` slice: the layout of GPT-2's `Conv1D`.
    ///
    /// # Panics
    /// If `w` does not hold `k * n` values.
    #[track_caller]
    pub fn from_rows(w: &[f32], k: usize, n: usize) -> Self {
        assert_eq!(w.len(), k * n, "a [{k}, {n}] weight needs {} values, got {}", k * n, w.len());
        Self::pack_rows(k, n, |row, out| out.copy_from_slice(&w[row * n..][..n]))
    }

    /// Packs the transpose of a row-major `[n, k]` slice: the layout of PyTorch's `Linear`.
    ///
    /// # Panics
    /// If `w` does not hold `n * k` values.
    #[track_caller]
    pub fn from_transposed(w: &[f32], k: usize, n: usize) -> Self {
        assert_eq!(w.len(), n * k, "a transposed [{n}, {k}] weight needs {} values, got {}", n * k, w.len());
        Self::pack(k, n, |panels| {
            for mut panel in panels.into_iter().map(UnfilledPanel::zeroed) {
                let first = panel.columns().start;
                panel.set_columns(0..k, &w[first * k..], k);
            }
        })
    }

    /// Packs a `[k, n]` matrix row by row: `fill(i, out)` writes row `i` into `out`, `[n]`.
    pub fn pack_rows(k: usize, n: usize, mut fill: impl FnMut(usize, &mut [f32])) -> Self {
        let mut packed = Self { panels: vec![PanelRow([0.0; NR]); n.div_ceil(NR) * k], k, n };
        let mut row = vec![0.0; n];
        for i in 0..k {
            fill(i, &mut row);
            for (p, part) in row.chunks(NR).enumerate() {
                packed.panels[p * k + i].0[..part.len()].copy_from_slice(part);
            }
        }
        packed
    }

    /// Packs a `[k, n]` matrix panel by panel, on as many threads as `share_out` chooses: it receives all panels, in
    /// column order, and writes to each after [`UnfilledPanel::zeroed`].
    ///
    /// Needs no memory beyond the result and touches it once, so that float16 weights can be widened while packing.
    ///
    /// # Panics
    /// If `share_out` leaves a panel out.
    #[track_caller]
    pub fn pack(k: usize, n: usize, share_out: impl FnOnce(Vec<UnfilledPanel<'_>>)) -> Self {
        let (n_panels, len) = (n.div_ceil(NR), n.div_ceil(NR) * k);
        let mut panels: Vec<PanelRow> = Vec::with_capacity(len);
        if k == 0 {
            return Self { panels, k, n };
        }
        let written = AtomicUsize::new(0);
        let memory = &mut panels.spare_capacity_mut()[..len];
        prefer_huge_pages(memory);
        let unfilled = memory.chunks_mut(k).enumerate();
        let unfilled = unfilled.map(|(p, rows)| {
            let columns = p * NR..n.min((p + 1) * NR);
            UnfilledPanel { rows, columns, written: &written }
        });
        share_out(unfilled.collect());
        assert_eq!(written.into_inner(), n_panels, "panels were left out");
        // SAFETY: all `n_panels` panels, which are the first `len` rows, have been written: each counts itself once, after
        // `zeroed` (which takes it by value) has written its rows.
        unsafe { panels.set_len(len) };
        Self { panels, k, n }
    }

    /// Number of rows: the length of the products' sums.
    pub fn k(&self) -> usize {
        self.k
    }

    /// Number of columns: outputs.
    pub fn n(&self) -> usize {
        self.n
    }

    /// `W[row, col]`.
    ///
    /// # Panics
    /// If `row >= k` or `col >= n`.
    #[track_caller]
    pub fn get(&self, row: usize, col: usize) -> f32 {
        assert!(row < self.k && col < self.n, "W[{row}, {col}] of [{}, {}]", self.k, self.n);
        self.panels[col / NR * self.k + row].0[col % NR]
    }

    /// Copies row `row` into `out`, `[n]`.
    ///
    /// # Panics
    /// If `row >= k` or `out` is not `n` long.
    #[track_caller]
    pub fn copy_row(&self, row: usize, out: &mut [f32]) {
        assert!(row < self.k && out.len() == self.n, "row {row} of [{}, {}]", self.k, self.n);
        for (p, part) in out.chunks_mut(NR).enumerate() {
            part.copy_from_slice(&self.panels[p * self.k + row].0[..part.len()]);
        }
    }

    /// Size in bytes.
    pub fn bytes(&self) -> usize {
        self.panels.len() * size_of::<PanelRow>()
    }

    /// The whole matrix.
    pub fn view(&self) -> PackedRef<'_> {
        PackedRef { matrix: self, rows: 0..self.k, cols: 0..self.n }
    }

    /// Rows `k_range` and columns `n_range`. Columns may start anywhere; multiples of 32 are fastest.
    ///
    /// # Panics
    /// If a range reaches past the matrix.
    #[track_caller]
    pub fn block(&self, k_range: Range<usize>, n_range: Range<usize>) -> PackedRef<'_> {
        assert!(k_range.start <= k_range.end && k_range.end <= self.k, "rows {k_range:?} of {}", self.k);
        assert!(n_range.start <= n_range.end && n_range.end <= self.n, "columns {n_range:?} of {}", self.n);
        PackedRef { matrix: self, rows: k_range, cols: n_range }
    }

    /// Start of panel `panel` at row `row`; valid for `(k - row) * NR` values.
    pub(crate) fn panel_ptr(&self, panel: usize, row: usize) -> *const f32 {
        self.panels[panel * self.k..][row..self.k].as_ptr().cast()
    }
}

impl<'a> PackedRef<'a> {
    /// Number of rows of the block.
    pub fn k(&self) -> usize {
        self.rows.len()
    }

    /// Number of columns of the block.
    pub fn n(&self) -> usize {
        self.cols.len()
    }
}

impl std::fmt::Debug for PackedMatrix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PackedMatrix").field("k", &self.k).field("n", &self.n).finish_non_exhaustive()
    }
}
