//! Sums of slices, dot products.

use crate::simd::{Isa, Kernel, Simd, dispatch};

/// Products of `x` `[d]` with rows of `table` `[n, d]`.
struct DotRows<'a> {
    x: &'a [f32],
    table: &'a [f32],
    rows: &'a [u32],
    out: &'a mut [f64],
}

impl Kernel for DotRows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { x, table, rows, out } = self;
        let (rows, rest) = rows.as_chunks::<4>();
        let (outs, out_rest) = out.as_chunks_mut::<4>();
        for (&rows, out) in rows.iter().zip(outs) {
            *out = sums(s, x, table, rows);
        }
        for (&row, out) in rest.iter().zip(out_rest) {
            [*out] = sums(s, x, table, [row]);
        }
    }
}

/// `x` times `N` rows of `table` at once; each sum is independent of the others.
#[inline(always)]
fn sums<S: Simd, const N: usize>(s: S, x: &[f32], table: &[f32], rows: [u32; N]) -> [f64; N] {
    let d = x.len();
    let mut of_rows = [&table[..0]; N];
    for (of_row, row) in of_rows.iter_mut().zip(rows) {
        *of_row = &table[row as usize * d..][..d];
    }
    let (mut acc, mut sums) = ([s.zero_f64(); N], [0.0; N]);
    for i in (0..d).step_by(S::LANES) {
        let n = S::LANES.min(d - i);
        // SAFETY: x and each row have d values, and `i + n <= d`; the zeros after fewer than LANES values add nothing.
        unsafe {
            let load = |v: &[f32]| {
                let at = v.as_ptr().add(i);
                if n == S::LANES { s.load(at) } else { s.load_first(at, n) }
            };
            let x = load(x);
            for (acc, row) in acc.iter_mut().zip(of_rows) {
                *acc = s.mul_add_f64(x, load(row), *acc);
            }
        }
    }
    // Not `map`, whose closure would be compiled without the vector instructions.
    for (sum, acc) in sums.iter_mut().zip(acc) {
        *sum = s.sum_f64(acc);
    }
    sums
}

/// `y += alpha x`
struct Axpy<'a>(f32, &'a [f32], &'a mut [f32]);

impl Kernel for Axpy<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (alpha, x, y, n) = (s.splat(self.0), self.1.as_ptr(), self.2.as_mut_ptr(), self.1.len());
        let mut i = 0;
        while i + S::LANES <= n {
            // SAFETY: both slices have n values.
            unsafe { s.store(y.add(i), s.fma(alpha, s.load(x.add(i)), s.load(y.add(i)))) };
            i += S::LANES;
        }
        let rest = n - i;
        // SAFETY: both slices have `rest` values from i on.
        unsafe {
            let v = s.fma(alpha, s.load_first(x.add(i), rest), s.load_first(y.add(i), rest));
            s.store_first(y.add(i), rest, v);
        }
    }
}

/// `out_i = Σ_j x_j table[rows_i, j]` in float64: each product is exact, and sums have float64 precision.
///
/// Shapes: `x` `[d]`, `table` `[n, d]`, `rows` and `out` of equal length.
///
/// # Panics
/// If `rows` and `out` differ in length, or `table` lacks a row.
#[track_caller]
pub fn dot_rows(x: &[f32], table: &[f32], rows: &[u32], out: &mut [f64]) {
    dot_rows_with(Isa::best(), x, table, rows, out);
}

/// [`dot_rows`] with the instructions of `isa`, or portable code if the CPU lacks them.
#[track_caller]
pub fn dot_rows_with(isa: Isa, x: &[f32], table: &[f32], rows: &[u32], out: &mut [f64]) {
    assert_eq!(rows.len(), out.len(), "number of rows and of products");
    let n_rows = table.len().checked_div(x.len()).unwrap_or(usize::MAX);
    assert!(rows.iter().all(|&row| (row as usize) < n_rows), "a row past the table's {n_rows}");
    dispatch(isa, DotRows { x, table, rows, out });
}

/// `y += alpha x`
///
/// # Panics
/// If the lengths differ.
#[track_caller]
pub fn axpy(alpha: f32, x: &[f32], y: &mut [f32]) {
    assert_eq!(x.len(), y.len(), "lengths of x and y");
    dispatch(Isa::best(), Axpy(alpha, x, y));
}

/// `y += x`
///
/// # Panics
/// If the lengths differ.
#[track_caller]
pub fn add_assign(y: &mut [f32], x: &[f32]) {
    axpy(1.0, x, y);
}
