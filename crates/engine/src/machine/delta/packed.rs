//! Matrices in a device's layout, before they are copied there.

use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};

use cs_model::checkpoint::Dtype;
use cs_model::error::LoadError;
use half::slice::{HalfBitsSliceExt, HalfFloatSliceExt};
use half::{bf16, f16};
use rayon::prelude::*;

use super::formats::{Half, LO, exponent};
use super::ops::Stored;
use crate::source::MatrixSource;

/// Widths of halves and weights are padded with zeros to multiples of this.
const PADDING: usize = 64;
/// Halves that kernels read at once, aligned to multiples of this.
const READ_TOGETHER: usize = 8;
/// Rows that a thread packs at a time.
const ROWS: usize = 128;

/// A width with padding.
pub(crate) fn padded(width: usize) -> usize {
    width.next_multiple_of(PADDING)
}

/// The place of a matrix `[d_in, d_out]` among its [`padded`] rows of [`padded`] columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    pub d_in: usize,
    pub d_out: usize,
    /// The one column besides the first that reads start from: it is aligned to a multiple of [`READ_TOGETHER`].
    pub cut: usize,
}

impl Layout {
    /// Columns of a row with padding.
    pub fn width(&self) -> usize {
        padded(self.place(self.d_out))
    }

    /// The position of a column in its row.
    pub fn place(&self, column: usize) -> usize {
        if column < self.cut { column } else { self.cut.next_multiple_of(READ_TOGETHER) + column - self.cut }
    }

    /// Number of values with padding.
    pub fn len(&self) -> usize {
        padded(self.d_in) * self.width()
    }

    /// Size in bytes in a format.
    pub fn bytes(&self, stored: Stored) -> usize {
        self.len()
            * match stored {
                Stored::F16 | Stored::Bf16 => 2,
                Stored::F16Pair | Stored::F32 => 4,
            }
    }
}

/// Weights `scale * (hi + lo / 2^11)`.
pub(crate) struct Packed {
    pub layout: Layout,
    pub scale: f32,
    pub values: PackedValues,
}

/// Their format.
pub(crate) enum PackedValues {
    /// float32.
    Floats(Vec<f32>),
    /// Bits of halves; `lo` only in pairs.
    Halves { hi: Vec<u16>, lo: Option<Vec<u16>> },
}

impl Packed {
    /// Reads a matrix, on all threads. Apart from the result, only a few rows are in memory at a time.
    ///
    /// # Errors
    /// [`LoadError::NonFinite`]
    pub fn read(source: &MatrixSource<'_>, stored: Stored, cut: usize) -> Result<Self, LoadError> {
        let (d_in, d_out) = source.shape();
        let layout = Layout { d_in, d_out, cut };
        let scale = 2f32.powi(exponent_of(source, stored));
        source.finish()?;
        let zeros = || vec![0u16; layout.len()];
        let halves = |lo: Option<Vec<u16>>, of: Cut| {
            let (mut hi, mut lo) = (zeros(), lo);
            layout.fill(source, (&mut hi[..], lo.as_deref_mut()), |x, hi, lo| of(scale, x, hi, lo));
            PackedValues::Halves { hi, lo }
        };
        let values = match stored {
            Stored::F32 => {
                let mut floats = vec![0.0; layout.len()];
                layout.fill(source, (&mut floats[..], None), |x, out, _| out.copy_from_slice(x));
                PackedValues::Floats(floats)
            }
            Stored::F16 => halves(None, cut_f16),
            Stored::Bf16 => halves(None, cut_bf16),
            Stored::F16Pair => halves(Some(zeros()), cut_pair),
        };
        source.finish()?;
        Ok(Self { layout, scale: 1.0 / scale, values })
    }

    /// Row `row` without padding: its values, and their second parts (empty if there are none).
    pub fn row(&self, row: usize, is_brain: bool) -> (Vec<f32>, Vec<f32>) {
        let of_row = |column| row * self.layout.width() + self.layout.place(column);
        let columns = 0..self.layout.d_out;
        let half =
            |bits| if is_brain { bf16::from_bits(bits).to_f32() } else { f16::from_bits(bits).to_f32() };
        let widened = |bits: &[u16]| columns.clone().map(|column| half(bits[of_row(column)])).collect();
        match &self.values {
            PackedValues::Floats(floats) => (columns.map(|column| floats[of_row(column)]).collect(), vec![]),
            PackedValues::Halves { hi, lo } => (widened(hi), lo.as_deref().map_or(vec![], widened)),
        }
    }
}

/// Writes the bits of some values, and of their second parts.
type Cut = fn(f32, &[f32], &mut [u16], Option<&mut [u16]>);

fn cut_f16(scale: f32, x: &[f32], hi: &mut [u16], _lo: Option<&mut [u16]>) {
    scaled(scale, x, |x| hi.reinterpret_cast_mut::<f16>().convert_from_f32_slice(x));
}

fn cut_bf16(_scale: f32, x: &[f32], hi: &mut [u16], _lo: Option<&mut [u16]>) {
    hi.reinterpret_cast_mut::<bf16>().convert_from_f32_slice(x);
}

fn cut_pair(scale: f32, x: &[f32], hi: &mut [u16], lo: Option<&mut [u16]>) {
    cut_f16(scale, x, hi, None);
    let left = |(x, hi): (&f32, &u16)| (x * scale - f16::from_bits(*hi).to_f32()) * LO;
    let left: Vec<f32> = x.iter().zip(&*hi).map(left).collect();
    if let Some(lo) = lo {
        lo.reinterpret_cast_mut::<f16>().convert_from_f32_slice(&left);
    }
}

fn scaled(scale: f32, x: &[f32], then: impl FnOnce(&[f32])) {
    if scale == 1.0 { then(x) } else { then(&x.iter().map(|x| x * scale).collect::<Vec<f32>>()) }
}

impl Layout {
    /// Writes a matrix in its layout: `put` writes neighbouring values of a row, to one array or two.
    fn fill<T: Send>(
        &self,
        source: &MatrixSource<'_>,
        (first, second): (&mut [T], Option<&mut [T]>),
        put: impl Fn(&[f32], &mut [T], Option<&mut [T]>) + Sync,
    ) {
        let (width, part) = (self.width(), ROWS * self.width());
        let of_rows = |chunk: usize, first: &mut [T], mut second: Option<&mut [T]>| {
            let start = chunk * ROWS;
            source.visit(start..self.d_in.min(start + ROWS), |row, column, values| {
                let cut = self.cut.clamp(column, column + values.len());
                let (before, after) = values.split_at(cut - column);
                for (column, values) in [(column, before), (cut, after)] {
                    let at = (row - start) * width + self.place(column);
                    let at = at..at + values.len();
                    put(values, &mut first[at.clone()], second.as_deref_mut().map(|second| &mut second[at]));
                }
            });
        };
        let in_use = self.d_in * width;
        let first = first[..in_use].par_chunks_mut(part.max(1)).enumerate();
        match second {
            None => first.for_each(|(chunk, first)| of_rows(chunk, first, None)),
            Some(second) => {
                let both = first.zip(second[..in_use].par_chunks_mut(part.max(1)));
                both.for_each(|((chunk, first), second)| of_rows(chunk, first, Some(second)));
            }
        }
    }
}

/// The exponent `e` of a matrix in a format: see [`Stored`].
fn exponent_of(source: &MatrixSource<'_>, stored: Stored) -> i32 {
    match stored {
        Stored::F32 | Stored::Bf16 => return 0,
        Stored::F16 if is_exact(source, Half::F16) => return 0,
        Stored::F16 | Stored::F16Pair => {}
    }
    let largest = AtomicU32::new(0);
    over_rows(source, |values| {
        // Absolute values of floats sort like their bits.
        largest.fetch_max(values.iter().fold(0, |most, x| most.max(x.abs().to_bits())), Ordering::Relaxed);
        true
    });
    exponent(f32::from_bits(largest.into_inner()))
}

/// Whether a half-precision type represents a matrix exactly. If its stored type does not decide this, the matrix is read up to the
/// first value that is not representable.
pub(crate) fn is_exact(source: &MatrixSource<'_>, half: Half) -> bool {
    let of_type = match half {
        Half::F16 => Dtype::F16,
        Half::Bf16 => Dtype::BF16,
    };
    source.dtype() == Some(of_type) || {
        let is_exact = over_rows(source, |values| half.holds(values));
        // A value that is not finite is never representable, and is an error when the matrix is packed.
        let _ = source.finish();
        is_exact
    }
}

/// Whether a predicate holds for all pieces of a matrix; stops at the first for which it does not.
fn over_rows(source: &MatrixSource<'_>, what: impl Fn(&[f32]) -> bool + Sync) -> bool {
    let (d_in, _) = source.shape();
    let rows = (0..d_in.div_ceil(ROWS)).into_par_iter().map(|i| i * ROWS..d_in.min((i + 1) * ROWS));
    rows.all(|rows: Range<usize>| {
        let mut holds = true;
        source.visit(rows, |_, _, values| holds = holds && what(values));
        holds
    })
}

#[cfg(test)]
mod tests {
    use cs_kernels::PackedMatrix;
    use cs_model::checkpoint::Checkpoint;
    use cs_model::{ModelFiles, ModelInfo};

    use super::*;
    use crate::source::Source;

    fn checkpoint(name: &str) -> Checkpoint {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
        ModelInfo::open(&ModelFiles::folder(folder).unwrap()).unwrap().checkpoint
    }

    /// Tensors as stored, transposed, and with interleaved heads; in one tensor and in three.
    #[test]
    fn matrices_lie_alike_wherever_they_come_from() {
        for name in ["gpt2-default", "neox-parallel", "llama-3-rotary", "phi3-window", "gpt2-f16"] {
            let checkpoint = checkpoint(name);
            let weights = crate::load(&checkpoint).unwrap();
            let sources = Source::Checkpoint(&checkpoint).matrices(1).into_iter();
            for (stored, packed) in sources.zip(Source::Weights(&weights).matrices(1)) {
                for format in [Stored::F32, Stored::F16, Stored::Bf16, Stored::F16Pair] {
                    let cut = packed.shape().1 / 3;
                    let read = |source: &MatrixSource<'_>| Packed::read(source, format, cut).unwrap();
                    let (a, b) = (read(&stored), read(&packed));
                    assert_eq!((a.layout, a.scale), (b.layout, b.scale), "{name}, {format:?}");
                    let rows = |packed: &Packed| -> Vec<_> {
                        (0..a.layout.d_in).map(|row| packed.row(row, false)).collect()
                    };
                    assert_eq!(rows(&a), rows(&b), "{name}, {format:?}");
                }
            }
        }
    }

    #[test]
    fn kernels_read_from_multiples_of_eight_and_sum_over_zeros() {
        let (d_in, d_out, cut) = (70, 45, 15);
        let values: Vec<f32> = (0..d_in * d_out).map(|i| 1.0 + i as f32).collect();
        let matrix = PackedMatrix::from_rows(&values, d_in, d_out);
        let packed = Packed::read(&MatrixSource::Packed(&matrix), Stored::F32, cut).unwrap();
        let layout = packed.layout;
        assert_eq!(
            (layout.width(), layout.len(), layout.place(14), layout.place(15)),
            (64, 128 * 64, 14, 16)
        );
        let PackedValues::Floats(floats) = &packed.values else { panic!("float32 was asked for") };
        for (row, floats) in floats.chunks(64).enumerate() {
            let expected = values.chunks(d_out).nth(row).unwrap_or(&[0.0; 45]);
            assert_eq!((&floats[..15], &floats[16..46]), (&expected[..15], &expected[15..]), "row {row}");
            assert!(floats[15] == 0.0 && floats[46..].iter().all(|&x| x == 0.0), "row {row}");
        }
        assert_eq!(packed.row(69, false), (values[69 * 45..].to_vec(), vec![]));
    }
}
