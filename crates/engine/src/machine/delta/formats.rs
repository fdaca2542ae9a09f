//! Formats of weights and differences on a device.

use half::{bf16, f16};

use super::ops::{Parts, Stored};
use super::packed;
use crate::device::Precision;
use crate::source::{MatrixSource, Source};

/// Scale of second float16 parts, which keeps them out of float16's subnormal range: 2^11.
pub(crate) const LO: f32 = 2048.0;

/// A half-precision type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Half {
    F16,
    Bf16,
}

impl Half {
    /// Whether it represents these values exactly.
    pub fn holds(self, values: &[f32]) -> bool {
        match self {
            Self::F16 => values.iter().all(|&x| to_f16(x) == x),
            Self::Bf16 => values.iter().all(|&x| to_bf16(x) == x),
        }
    }
}

/// The formats for a model: halves if they represent all of its matrices exactly, whatever the stored
/// type.
pub(crate) fn formats(source: Source<'_>, precision: Precision) -> (Stored, Parts) {
    let all = |half| {
        let is_exact = |matrix: &MatrixSource<'_>| packed::is_exact(matrix, half);
        let of_layers = (0..source.n_layers()).all(|layer| source.matrices(layer).iter().all(is_exact));
        of_layers && source.project_out().iter().flatten().all(|linear| is_exact(&linear.weight))
    };
    let stored = if all(Half::F16) {
        Stored::F16
    } else if all(Half::Bf16) {
        Stored::Bf16
    } else {
        Stored::F16Pair
    };
    match (precision, stored) {
        (Precision::F32, Stored::F16Pair) => (Stored::F32, Parts::F32),
        (Precision::F32, stored) => (stored, Parts::F32),
        (Precision::Split, Stored::Bf16) => (stored, Parts::Bf16 { two: true }),
        (Precision::Split, stored) => (stored, Parts::F16 { two: true }),
        // As a single part, float16 is eight times as precise as bfloat16, and with a scale it represents bfloat16 weights.
        (Precision::Half, Stored::Bf16) => (Stored::F16, Parts::F16 { two: false }),
        (Precision::Half, stored) => (stored, Parts::F16 { two: false }),
    }
}

pub(super) fn to_f16(x: f32) -> f32 {
    f16::from_f32(x).to_f32()
}

pub(super) fn to_bf16(x: f32) -> f32 {
    bf16::from_f32(x).to_f32()
}

/// The exponent `e` of a scaled matrix whose largest absolute entry is `largest`: see [`Stored`].
pub(crate) fn exponent(largest: f32) -> i32 {
    let floor_log2 = ((largest.to_bits() >> 23) & 255) as i32 - 127;
    if largest == 0.0 { 0 } else { (14 - floor_log2).min(100) }
}

#[cfg(test)]
mod tests {
    use cs_kernels::PackedMatrix;
    use cs_model::{ModelFiles, ModelInfo};

    use super::*;

    /// Golden checkpoints: by stored type, and by values only.
    #[test]
    fn halves_are_halves_whatever_type_they_are_stored_as() {
        for (name, expected) in [
            ("gpt2-default", Stored::F16Pair),
            ("gpt2-f16", Stored::F16),
            ("neox-pythia-f16", Stored::F16),
            ("opt-projected-f16", Stored::F16),
            ("gpt2-bf16", Stored::Bf16),
        ] {
            let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
            let checkpoint = ModelInfo::open(&ModelFiles::folder(folder).unwrap()).unwrap().checkpoint;
            let mut weights = crate::load(&checkpoint).unwrap();
            for source in [Source::Checkpoint(&checkpoint), Source::Weights(&weights)] {
                assert_eq!(formats(source, Precision::Split).0, expected, "{name}");
                let in_f32 = if expected == Stored::F16Pair { Stored::F32 } else { expected };
                assert_eq!(formats(source, Precision::F32), (in_f32, Parts::F32), "{name}");
                let (half, _) = formats(source, Precision::Half);
                assert_eq!(half, if expected == Stored::Bf16 { Stored::F16 } else { expected }, "{name}");
            }
            // A single value in one matrix decides.
            let last = weights.layers.last_mut().and_then(|layer| layer.mlp.as_mut()).unwrap();
            let (k, n) = (last.w_out.weight.k(), last.w_out.weight.n());
            let matrix = &last.w_out.weight;
            let mut values: Vec<f32> = (0..k * n).map(|i| matrix.get(i / n, i % n)).collect();
            values[k * n - 1] = 1.0 + f32::EPSILON;
            last.w_out.weight = PackedMatrix::from_rows(&values, k, n);
            assert_eq!(formats(Source::Weights(&weights), Precision::Split).0, Stored::F16Pair, "{name}");
        }
    }
}
