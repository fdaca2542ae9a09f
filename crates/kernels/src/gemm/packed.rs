//! Weights in the layout that the matrix product reads.

use std::ops::Range;

/// Columns per panel: two AVX-512 vectors, four AVX2 vectors.
pub(crate) const NR: usize = 32;

/// One row of a panel, aligned to cache lines.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct PanelRow([f32; NR]);

/// A weight matrix `W` of shape `[k, n]`, packed once into panels of 32 columns and used in place from then on.
///
/// Panel `p` holds columns `32 p .. 32 (p + 1)` as a contiguous row-major `[k, 32]` block, columns past `n` filled with
/// zeros, so that any range of rows (a head's rows of `W_O`) and any range of columns starts at a computable place.
#[derive(Clone)]
pub struct PackedMatrix {
    panels: Vec<PanelRow>,
    k: usize,
    n: usize,
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
        Self::pack_columns(k, n, |col, out| out.copy_from_slice(&w[col * k..][..k]))
    }

    /// Packs a `[k, n]` matrix row by row: `fill(i, out)` writes row `i` into `out`, `[n]`.
    ///
    /// Needs no more memory than the result and one row, so float16 storage can be widened on the way.
    pub fn pack_rows(k: usize, n: usize, mut fill: impl FnMut(usize, &mut [f32])) -> Self {
        let mut packed = Self::zeros(k, n);
        let mut row = vec![0.0; n];
        for i in 0..k {
            fill(i, &mut row);
            for (p, part) in row.chunks(NR).enumerate() {
                packed.panels[p * k + i].0[..part.len()].copy_from_slice(part);
            }
        }
        packed
    }

    /// Packs a `[k, n]` matrix column by column: `fill(j, out)` writes column `j` into `out`, `[k]`.
    ///
    /// Needs no more memory than the result and 16 columns.
    pub fn pack_columns(k: usize, n: usize, mut fill: impl FnMut(usize, &mut [f32])) -> Self {
        const GROUP: usize = 16; // columns transposed together: one cache line of the panel
        let mut packed = Self::zeros(k, n);
        let mut columns = vec![0.0; GROUP * k];
        for first in (0..n).step_by(GROUP) {
            let width = GROUP.min(n - first);
            if k == 0 {
                break;
            }
            for (j, column) in columns.chunks_mut(k).enumerate().take(width) {
                fill(first + j, column);
            }
            let panel = &mut packed.panels[first / NR * k..][..k];
            for (i, row) in panel.iter_mut().enumerate() {
                for j in 0..width {
                    row.0[first % NR + j] = columns[j * k + i];
                }
            }
        }
        packed
    }

    fn zeros(k: usize, n: usize) -> Self {
        Self { panels: vec![PanelRow([0.0; NR]); n.div_ceil(NR) * k], k, n }
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

    /// Bytes held.
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
