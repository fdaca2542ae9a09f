//! Borrowed row-major matrices with a row stride.

use std::ops::Range;

/// A read-only row-major matrix `[rows, cols]` whose rows start `stride` values apart.
#[derive(Clone, Copy, Debug)]
pub struct MatRef<'a> {
    data: &'a [f32],
    rows: usize,
    cols: usize,
    stride: usize,
}

/// A mutable row-major matrix `[rows, cols]` whose rows start `stride` values apart.
#[derive(Debug)]
pub struct MatMut<'a> {
    data: &'a mut [f32],
    rows: usize,
    cols: usize,
    stride: usize,
}

/// Panics unless `[rows, cols]` with this stride fits into `len` values.
#[track_caller]
fn check(len: usize, rows: usize, cols: usize, stride: usize) {
    assert!(stride >= cols, "row stride {stride} is less than the {cols} columns");
    let need = if rows == 0 { 0 } else { (rows - 1).checked_mul(stride).map_or(usize::MAX, |n| n + cols) };
    assert!(len >= need, "matrix [{rows}, {cols}] with row stride {stride} needs {need} values, got {len}");
}

impl<'a> MatRef<'a> {
    /// `data` as a contiguous `[rows, cols]`.
    ///
    /// # Panics
    /// If `data` is too short.
    #[track_caller]
    pub fn new(data: &'a [f32], rows: usize, cols: usize) -> Self {
        Self::with_stride(data, rows, cols, cols)
    }

    /// `data` as `[rows, cols]`, row `i` starting at `i * stride`.
    ///
    /// # Panics
    /// If `data` is too short or `stride < cols`.
    #[track_caller]
    pub fn with_stride(data: &'a [f32], rows: usize, cols: usize, stride: usize) -> Self {
        check(data.len(), rows, cols, stride);
        Self { data, rows, cols, stride }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Distance between the starts of two rows.
    pub fn stride(&self) -> usize {
        self.stride
    }

    /// Row `i`, `[cols]`.
    #[track_caller]
    pub fn row(&self, i: usize) -> &'a [f32] {
        assert!(i < self.rows, "row {i} of {}", self.rows);
        &self.data[i * self.stride..][..self.cols]
    }

    /// The rows in `range`.
    #[track_caller]
    pub fn row_range(&self, range: Range<usize>) -> MatRef<'a> {
        assert!(range.start <= range.end && range.end <= self.rows, "rows {range:?} of {}", self.rows);
        let start = (range.start * self.stride).min(self.data.len());
        MatRef { data: &self.data[start..], rows: range.len(), ..*self }
    }

    /// The columns in `range`.
    #[track_caller]
    pub fn col_range(&self, range: Range<usize>) -> MatRef<'a> {
        assert!(range.start <= range.end && range.end <= self.cols, "columns {range:?} of {}", self.cols);
        let start = range.start.min(self.data.len());
        MatRef { data: &self.data[start..], cols: range.len(), ..*self }
    }

    pub(crate) fn as_ptr(&self) -> *const f32 {
        self.data.as_ptr()
    }
}

impl<'a> MatMut<'a> {
    /// `data` as a contiguous `[rows, cols]`.
    ///
    /// # Panics
    /// If `data` is too short.
    #[track_caller]
    pub fn new(data: &'a mut [f32], rows: usize, cols: usize) -> Self {
        Self::with_stride(data, rows, cols, cols)
    }

    /// `data` as `[rows, cols]`, row `i` starting at `i * stride`.
    ///
    /// # Panics
    /// If `data` is too short or `stride < cols`.
    #[track_caller]
    pub fn with_stride(data: &'a mut [f32], rows: usize, cols: usize, stride: usize) -> Self {
        check(data.len(), rows, cols, stride);
        Self { data, rows, cols, stride }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Distance between the starts of two rows.
    pub fn stride(&self) -> usize {
        self.stride
    }

    /// The same matrix, read-only.
    pub fn as_ref(&self) -> MatRef<'_> {
        MatRef { data: self.data, rows: self.rows, cols: self.cols, stride: self.stride }
    }

    /// The same matrix with a shorter lifetime.
    pub fn reborrow(&mut self) -> MatMut<'_> {
        MatMut { data: self.data, rows: self.rows, cols: self.cols, stride: self.stride }
    }

    /// Row `i`, `[cols]`.
    #[track_caller]
    pub fn row_mut(&mut self, i: usize) -> &mut [f32] {
        assert!(i < self.rows, "row {i} of {}", self.rows);
        &mut self.data[i * self.stride..][..self.cols]
    }

    /// The columns in `range`.
    #[track_caller]
    pub fn col_range(self, range: Range<usize>) -> MatMut<'a> {
        assert!(range.start <= range.end && range.end <= self.cols, "columns {range:?} of {}", self.cols);
        let start = range.start.min(self.data.len());
        MatMut { data: &mut self.data[start..], rows: self.rows, cols: range.len(), stride: self.stride }
    }

    /// Splits into the rows before `row` and the rest.
    #[track_caller]
    pub fn split_rows(self, row: usize) -> (MatMut<'a>, MatMut<'a>) {
        assert!(row <= self.rows, "row {row} of {}", self.rows);
        let Self { data, rows, cols, stride } = self;
        let at = (row * stride).min(data.len());
        let (head, tail) = data.split_at_mut(at);
        (
            MatMut { data: head, rows: row, cols, stride },
            MatMut { data: tail, rows: rows - row, cols, stride },
        )
    }

    /// Tiles of `tile` rows, the last possibly shorter, for distribution over threads.
    ///
    /// # Panics
    /// If `tile` is zero.
    #[track_caller]
    pub fn row_tiles(self, tile: usize) -> impl Iterator<Item = MatMut<'a>> {
        assert!(tile > 0, "a tile needs at least one row");
        let mut rest = Some(self);
        std::iter::from_fn(move || {
            let whole = rest.take().filter(|m| m.rows > 0)?;
            let n = tile.min(whole.rows);
            let (head, tail) = whole.split_rows(n);
            rest = Some(tail);
            Some(head)
        })
    }

    pub(crate) fn as_mut_ptr(&mut self) -> *mut f32 {
        self.data.as_mut_ptr()
    }
}
