//! What lies on the card, and in which format.

use std::cell::OnceCell;

use cs_cuda::Array;
use half::{bf16, f16};
use rayon::prelude::*;

use super::{Card, Parts, Result, Stored, missing};
use crate::machine::delta::formats::{LO, exponent};

/// Widths of halves and weights are multiples of this, filled up by zeros.
const PADDING: usize = 64;
/// Halves that kernels read at once, from multiples of it on.
const READ_TOGETHER: usize = 8;

/// float32 values.
pub(crate) struct Floats {
    pub array: Option<Array<f32>>,
    pub len: usize,
}

/// Indices.
pub(crate) struct Ints(pub Option<Array<u32>>);

/// A difference `[rows, cols]`, cut up.
pub(crate) struct Split {
    pub cols: usize,
    pub form: Option<Form>,
}

/// Its format.
pub(crate) enum Form {
    /// float32. `[rows, cols]`
    Floats(Array<f32>),
    /// Bits of halves, in rows of [`padded`] columns.
    Halves { hi: Array<u16>, lo: Option<Array<u16>> },
}

/// Weights `[d_in, d_out]`, `scale * (hi + lo / 2^11)`, in rows of [`padded`] columns, [`padded`] in number too.
pub(crate) struct Matrix {
    pub d_in: usize,
    pub d_out: usize,
    pub scale: f32,
    weights: Option<Weights>,
    /// All columns from one on at which kernels cannot begin to read, once they have been asked for.
    later: OnceCell<(usize, Weights)>,
}

/// Their format.
pub(crate) enum Weights {
    /// float32.
    Floats(Array<f32>),
    /// Bits of halves; `lo` in pairs alone.
    Halves { hi: Array<u16>, lo: Option<Array<u16>> },
}

/// A width filled up.
pub(super) fn padded(width: usize) -> usize {
    width.next_multiple_of(PADDING)
}

impl Floats {
    pub fn get(&self) -> Result<&Array<f32>> {
        self.array.as_ref().ok_or_else(missing)
    }
}

impl Ints {
    pub fn get(&self) -> Result<&Array<u32>> {
        self.0.as_ref().ok_or_else(missing)
    }
}

impl Split {
    pub fn get(&self) -> Result<&Form> {
        self.form.as_ref().ok_or_else(missing)
    }
}

impl Matrix {
    pub fn get(&self) -> Result<&Weights> {
        self.weights.as_ref().ok_or_else(missing)
    }

    /// Where the columns from `first` on are: in which arrays, and from which of their elements on.
    pub fn columns_from(&self, card: &Card, first: usize) -> Result<(&Weights, usize)> {
        let weights = self.get()?;
        let Weights::Halves { hi, lo } = weights else { return Ok((weights, first)) };
        if first.is_multiple_of(READ_TOGETHER) {
            return Ok((weights, first));
        }
        // Heads of a width that small models alone have: a copy that begins there.
        if self.later.get().is_none() {
            let copy = |bits: &Array<u16>| {
                let mut bits = bits.to_vec()?;
                for row in bits.chunks_exact_mut(self.width()) {
                    row.rotate_left(first);
                }
                card.context.upload(&bits)
            };
            let later = Weights::Halves { hi: copy(hi)?, lo: lo.as_ref().map(copy).transpose()? };
            // Set by nobody else: it was empty above.
            let _ = self.later.set((first, later));
        }
        let (of, later) = self.later.get().ok_or_else(missing)?;
        assert_eq!(*of, first, "a matrix is cut at one column");
        Ok((later, 0))
    }

    /// Columns of a row as it lies.
    pub fn width(&self) -> usize {
        padded(self.d_out)
    }
}

/// Where a kernel writes a difference: float32 or halves, columns of a row, and what it calls the format.
pub(super) struct Target<'a> {
    pub floats: Option<&'a Array<f32>>,
    pub hi: Option<&'a Array<u16>>,
    pub lo: Option<&'a Array<u16>>,
    pub width: usize,
    pub mode: usize,
}

impl<'a> Target<'a> {
    /// float32 rows.
    pub fn floats(array: &'a Array<f32>, width: usize) -> Self {
        Self { floats: Some(array), hi: None, lo: None, width, mode: 0 }
    }
}

impl Card {
    /// Where a split is written: modes are those of `tools/gpu_kernels/kernels/common.py`.
    pub(super) fn target<'a>(&self, split: &'a Split) -> Result<Target<'a>> {
        Ok(match split.get()? {
            Form::Floats(array) => Target::floats(array, split.cols),
            Form::Halves { hi, lo } => {
                let mode = match self.parts {
                    Parts::F32 => 0,
                    Parts::F16 { two: true } => 1,
                    Parts::Bf16 { two: true } => 2,
                    Parts::F16 { two: false } => 3,
                    Parts::Bf16 { two: false } => 4,
                };
                Target { floats: None, hi: Some(hi), lo: lo.as_ref(), width: padded(split.cols), mode }
            }
        })
    }

    pub(super) fn new_split(&self, rows: usize, cols: usize, zeroed: bool) -> Result<Form> {
        // What kernels leave of a row's end is multiplied by zeros, and must be numbers.
        let zeroed = zeroed || (padded(cols) != cols && self.parts != Parts::F32);
        let halves = || {
            let len = rows * padded(cols);
            if zeroed { self.context.zeros(len) } else { self.context.array(len) }
        };
        Ok(match self.parts {
            Parts::F32 if zeroed => Form::Floats(self.context.zeros(rows * cols)?),
            Parts::F32 => Form::Floats(self.context.array(rows * cols)?),
            Parts::F16 { two } | Parts::Bf16 { two } => {
                Form::Halves { hi: halves()?, lo: two.then(halves).transpose()? }
            }
        })
    }

    pub(super) fn new_matrix(&mut self, d_in: usize, d_out: usize, values: &[f32]) -> Matrix {
        let scale = 2f32.powi(exponent(self.stored, values));
        let stored = self.stored;
        let weights = self.attempt(|card| match stored {
            Stored::F32 => {
                let mut floats = vec![0.0f32; padded(d_in) * padded(d_out)];
                for (to, from) in floats.chunks_exact_mut(padded(d_out)).zip(values.chunks_exact(d_out)) {
                    to[..d_out].copy_from_slice(from);
                }
                Ok(Weights::Floats(card.context.upload(&floats)?))
            }
            Stored::F16 | Stored::Bf16 | Stored::F16Pair => {
                let bits = |value: fn(f32) -> u16, of: &(dyn Fn(f32) -> f32 + Sync)| {
                    let mut bits = vec![0u16; padded(d_in) * padded(d_out)];
                    let rows = bits.par_chunks_exact_mut(padded(d_out)).zip(values.par_chunks_exact(d_out));
                    rows.for_each(|(to, from)| {
                        to.iter_mut().zip(from).for_each(|(to, &x)| *to = value(of(x)))
                    });
                    card.context.upload(&bits)
                };
                let to_f16 = |x: f32| f16::from_f32(x).to_bits();
                let hi = match stored {
                    Stored::Bf16 => bits(|x| bf16::from_f32(x).to_bits(), &|x| x)?,
                    _ => bits(to_f16, &|x| x * scale)?,
                };
                let rest = |x: f32| (x * scale - f16::from_f32(x * scale).to_f32()) * LO;
                let lo = (stored == Stored::F16Pair).then(|| bits(to_f16, &rest)).transpose()?;
                Ok(Weights::Halves { hi, lo })
            }
        });
        Matrix { d_in, d_out, weights, later: OnceCell::new(), scale: 1.0 / scale }
    }
}
