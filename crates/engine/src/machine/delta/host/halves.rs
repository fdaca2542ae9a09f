//! Emulated half-precision parts: a part is a float32 value that a half can represent.

use std::sync::atomic::{AtomicBool, Ordering};

use rayon::prelude::*;

use crate::machine::delta::formats::{LO, to_bf16, to_f16};
use crate::machine::delta::ops::{Parts, Stored};
use crate::machine::delta::packed::{Layout, Packed};

/// A difference `[rows, cols]` in its parts; the second is zero if there is only one.
pub(crate) struct Split {
    pub cols: usize,
    pub hi: Vec<f32>,
    pub lo: Vec<f32>,
}

/// Weights `[d_in, d_out]`, `scale * (hi + lo / 2^11)`.
pub(crate) struct Matrix {
    pub d_in: usize,
    pub d_out: usize,
    hi: Vec<f32>,
    /// Empty except in pairs.
    lo: Vec<f32>,
    scale: f32,
}

/// Splits a value into its parts; sets `overflow` if a half cannot represent it.
pub(super) fn cut(parts: Parts, x: f32, overflow: &AtomicBool) -> (f32, f32) {
    let (hi, lo) = match parts {
        Parts::F32 => (x, 0.0),
        Parts::F16 { two } => {
            let hi = to_f16(x);
            (hi, if two { to_f16((x - hi) * LO) } else { 0.0 })
        }
        Parts::Bf16 { two } => {
            let hi = to_bf16(x);
            (hi, if two { to_bf16(x - hi) } else { 0.0 })
        }
    };
    if hi.is_infinite() && x.is_finite() {
        overflow.store(true, Ordering::Relaxed);
    }
    (hi, lo)
}

impl Split {
    pub fn zeros(rows: usize, cols: usize) -> Self {
        Self { cols, hi: vec![0.0; rows * cols], lo: vec![0.0; rows * cols] }
    }

    pub fn row(&self, row: usize) -> (&[f32], &[f32]) {
        let at = row * self.cols..(row + 1) * self.cols;
        (&self.hi[at.clone()], &self.lo[at])
    }

    /// Writes values starting at `at`.
    pub fn write(&mut self, parts: Parts, at: usize, values: &[f32], overflow: &AtomicBool) {
        for (i, &x) in (at..).zip(values) {
            (self.hi[i], self.lo[i]) = cut(parts, x, overflow);
        }
    }
}

impl Matrix {
    /// A matrix in a format, with halves widened to float32 and without padding.
    pub fn new(stored: Stored, packed: &Packed) -> Self {
        let Packed { layout: Layout { d_in, d_out, .. }, scale, .. } = *packed;
        let row = |row| packed.row(row, stored == Stored::Bf16);
        let (hi, lo): (Vec<_>, Vec<_>) = (0..d_in).into_par_iter().map(row).unzip();
        Self { d_in, d_out, hi: hi.concat(), lo: lo.concat(), scale }
    }

    /// Adds `a W[row, first..]` to `sums`, for as many columns.
    pub fn add_row(&self, row: usize, first: usize, a: f32, sums: &mut [f64]) {
        let at = row * self.d_out + first..row * self.d_out + first + sums.len();
        for (sum, w) in sums.iter_mut().zip(&self.hi[at.clone()]) {
            *sum += f64::from(a) * f64::from(w * self.scale);
        }
        let lo = self.lo.get(at).unwrap_or(&[]);
        for (sum, w) in sums.iter_mut().zip(lo) {
            *sum += f64::from(a) * f64::from(w / LO * self.scale);
        }
    }

    /// `out = a W[:, first..]`, for as many columns as `out` has, according to the table
    /// at [`Parts`].
    pub fn product(&self, parts: Parts, (hi, lo): (&[f32], &[f32]), first: usize, out: &mut [f32]) {
        out.fill(0.0);
        let add = |a: &[f32], w: &[f32], out: &mut [f32]| {
            for (&a, w) in a.iter().zip(w.chunks_exact(self.d_out)) {
                if a != 0.0 {
                    out.iter_mut().zip(&w[first..]).for_each(|(out, w)| *out += a * w);
                }
            }
        };
        match parts {
            Parts::F32 | Parts::Bf16 { two: false } => {}
            Parts::Bf16 { two: true } => add(lo, &self.hi, out),
            Parts::F16 { two } => {
                if two {
                    add(lo, &self.hi, out);
                }
                // Adds nothing, except in pairs.
                add(hi, &self.lo, out);
                out.iter_mut().for_each(|out| *out /= LO);
            }
        }
        add(hi, &self.hi, out);
        out.iter_mut().for_each(|out| *out *= self.scale);
    }
}

#[cfg(test)]
mod tests {
    use cs_kernels::PackedMatrix;

    use super::*;
    use crate::source::MatrixSource;

    fn off(parts: Parts, x: f32) -> f32 {
        let (hi, lo) = cut(parts, x, &AtomicBool::new(false));
        let lo = if matches!(parts, Parts::F16 { .. }) { lo / LO } else { lo };
        ((f64::from(hi) + f64::from(lo) - f64::from(x)) / f64::from(x)).abs() as f32
    }

    #[test]
    fn two_parts_hold_twice_the_digits_of_one() {
        for i in 1..2000 {
            let x = (i as f32 * 0.37).sin() * 3.0;
            assert!(off(Parts::F16 { two: true }, x) <= 2f32.powi(-22));
            assert!(off(Parts::Bf16 { two: true }, x) <= 2f32.powi(-16));
            assert_eq!(off(Parts::F32, x), 0.0);
        }
        assert!(off(Parts::F16 { two: false }, 1.0 + 2f32.powi(-11)) > 2f32.powi(-12));
        // For tiny values, the error of two float16 parts is at most 2^-36.
        assert!(off(Parts::F16 { two: true }, 3.3e-6) * 3.3e-6 <= 2f32.powi(-36));
    }

    #[test]
    fn what_float16_cannot_hold_is_noticed() {
        for (parts, x, expected) in [
            (Parts::F16 { two: true }, 65519.0, false),
            (Parts::F16 { two: true }, -65520.0, true),
            (Parts::F16 { two: false }, 1e9, true),
            (Parts::Bf16 { two: true }, 1e9, false),
            (Parts::F32, 1e9, false),
        ] {
            let overflow = AtomicBool::new(false);
            cut(parts, x, &overflow);
            assert_eq!(overflow.into_inner(), expected, "{parts:?}, {x}");
        }
    }

    #[test]
    fn pairs_hold_any_float32_matrix() {
        for size in [1e-30, 1e-3, 1.0, 4e7, 1e30] {
            let values: Vec<f32> = (0..60).map(|i| (i as f32 * 0.7).cos() * size).collect();
            let source = PackedMatrix::from_rows(&values, 6, 10);
            let packed = Packed::read(&MatrixSource::Packed(&source), Stored::F16Pair, 3).expect("numbers");
            let matrix = Matrix::new(Stored::F16Pair, &packed);
            for (row, values) in values.chunks(10).enumerate() {
                let mut found = [0.0; 10];
                matrix.add_row(row, 0, 1.0, &mut found);
                let close = |(x, found): (&f32, &f64)| {
                    (found - f64::from(*x)).abs() <= f64::from(x.abs()) * 2f64.powi(-21)
                };
                assert!(values.iter().zip(&found).all(close), "{size}: {found:?}, not {values:?}");
            }
        }
    }
}
