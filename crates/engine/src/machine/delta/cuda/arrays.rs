//! Arrays on the GPU, and their formats.

use cs_cuda::{Array, Context, Pinned};

use super::{Card, Parts, Result, missing};
pub(super) use crate::machine::delta::packed::padded;
use crate::machine::delta::packed::{Layout, Packed, PackedValues};

/// float32 values.
pub(crate) struct Floats {
    pub array: Option<Array<f32>>,
    pub len: usize,
}

/// Indices.
pub(crate) struct Ints(pub Option<Array<u32>>);

/// A split difference `[rows, cols]`.
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

/// Weights `[d_in, d_out]`, `scale * (hi + lo / 2^11)`, in the given [`Layout`].
pub(crate) struct Matrix {
    pub d_in: usize,
    pub d_out: usize,
    pub scale: f32,
    layout: Layout,
    weights: Option<Weights>,
}

/// A matrix in pinned host memory.
pub(crate) struct Kept {
    scale: f32,
    values: KeptValues,
}

/// Its format.
enum KeptValues {
    Floats(Pinned<f32>),
    Halves { hi: Pinned<u16>, lo: Option<Pinned<u16>> },
}

/// Their format.
pub(crate) enum Weights {
    /// float32.
    Floats(Array<f32>),
    /// Bits of halves; `lo` only in pairs.
    Halves { hi: Array<u16>, lo: Option<Array<u16>> },
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

    /// The arrays, and the offset in them, of the columns from `first` on, which is 0 or the column where the matrix is split.
    pub fn columns_from(&self, first: usize) -> Result<(&Weights, usize)> {
        assert!(first == 0 || first == self.layout.cut, "column {first} of {:?}", self.layout);
        Ok((self.get()?, self.layout.place(first)))
    }

    /// Columns of a row with padding.
    pub fn width(&self) -> usize {
        self.layout.width()
    }

    /// Overwrites the matrix: see [`Ops::refill`](super::Ops::refill).
    pub fn refill(&mut self, by: &Kept) -> Result<()> {
        let lo = |lo: &mut Option<Array<u16>>, by: &Option<Pinned<u16>>| match (lo, by) {
            (Some(lo), Some(by)) => lo.write_aside(by),
            _ => Ok(()),
        };
        self.scale = by.scale;
        match (self.weights.as_mut().ok_or_else(missing)?, &by.values) {
            (Weights::Floats(array), KeptValues::Floats(by)) => array.write_aside(by),
            (Weights::Halves { hi, lo: second }, KeptValues::Halves { hi: by, lo: by_second }) => {
                hi.write_aside(by)?;
                lo(second, by_second)
            }
            _ => unreachable!("all matrices have one format"),
        }
    }
}

impl Kept {
    pub fn new(context: &Context, packed: Packed) -> Self {
        let values = match packed.values {
            PackedValues::Floats(floats) => KeptValues::Floats(context.pin(floats)),
            PackedValues::Halves { hi, lo } => {
                KeptValues::Halves { hi: context.pin(hi), lo: lo.map(|lo| context.pin(lo)) }
            }
        };
        Self { scale: packed.scale, values }
    }
}

/// Where a kernel writes a difference: float32 or halves, columns of a row, and the kernel's name for the
/// format.
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
    /// The target of a split; modes are those of `tools/gpu_kernels/kernels/common.py`.
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
        // Padding that kernels do not write is multiplied by zeros, and must not be NaN.
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

    pub(super) fn new_matrix(&mut self, packed: &Packed) -> Matrix {
        let Packed { layout, scale, ref values } = *packed;
        let weights = self.attempt(|card| {
            Ok(match values {
                PackedValues::Floats(floats) => Weights::Floats(card.context.upload(floats)?),
                PackedValues::Halves { hi, lo } => {
                    let lo = lo.as_ref().map(|lo| card.context.upload(lo));
                    Weights::Halves { hi: card.context.upload(hi)?, lo: lo.transpose()? }
                }
            })
        });
        Matrix { d_in: layout.d_in, d_out: layout.d_out, scale, layout, weights }
    }
}
