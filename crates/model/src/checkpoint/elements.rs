//! Decodes the bytes of tensors.

use half::{bf16, f16, slice::HalfFloatSliceExt};
use safetensors::Dtype;

/// Whether [`decode`] reads this type.
pub(super) fn is_supported(dtype: Dtype) -> bool {
    matches!(dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16 | Dtype::F64)
}

/// Little-endian `bytes` of a supported type as float32. Exact except for float64, which is rounded.
pub(super) fn decode(dtype: Dtype, bytes: &[u8], out: &mut [f32]) {
    match dtype {
        Dtype::F32 => {
            for (x, b) in out.iter_mut().zip(bytes.as_chunks().0) {
                *x = f32::from_le_bytes(*b);
            }
        }
        Dtype::F64 => {
            for (x, b) in out.iter_mut().zip(bytes.as_chunks().0) {
                *x = f64::from_le_bytes(*b) as f32;
            }
        }
        Dtype::BF16 => {
            for (x, b) in out.iter_mut().zip(bytes.as_chunks().0) {
                *x = bf16::from_le_bytes(*b).to_f32();
            }
        }
        Dtype::F16 => {
            // `half` selects the CPU's conversion instruction once per slice, but needs aligned values.
            const BLOCK: usize = 512;
            let mut aligned = [f16::ZERO; BLOCK];
            for (out, bytes) in out.chunks_mut(BLOCK).zip(bytes.chunks(2 * BLOCK)) {
                for (x, b) in aligned.iter_mut().zip(bytes.as_chunks().0) {
                    *x = f16::from_le_bytes(*b);
                }
                aligned[..out.len()].convert_to_f32_slice(out);
            }
        }
        // The plan admits no tensor of another type.
        _ => out.fill(f32::NAN),
    }
}

/// Elements `start..start + n`, in row-major order, of a tensor with other strides; `size` bytes each.
pub(super) fn gather(
    bytes: &[u8],
    size: usize,
    shape: &[usize],
    strides: &[usize],
    start: usize,
    n: usize,
) -> Vec<u8> {
    // The index of element `start`, digit by digit.
    let mut index = vec![0; shape.len()];
    let mut rest = start;
    for (digit, &base) in index.iter_mut().zip(shape).rev() {
        *digit = rest % base;
        rest /= base;
    }
    let mut out = Vec::with_capacity(n * size);
    for _ in 0..n {
        let at = size * index.iter().zip(strides).map(|(&i, &stride)| i * stride).sum::<usize>();
        out.extend_from_slice(&bytes[at..at + size]);
        for (digit, &base) in index.iter_mut().zip(shape).rev() {
            *digit += 1;
            if *digit < base {
                break;
            }
            *digit = 0;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_half_decodes_exactly() {
        let bytes: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
        let mut out = vec![0.0; 1 << 16];
        // An odd start and length exercise unaligned input and the last partial block.
        decode(Dtype::F16, &bytes, &mut out);
        for (bits, x) in (0..=u16::MAX).zip(&out) {
            let (sign, exponent, fraction) = (bits >> 15, i32::from(bits >> 10 & 31), f64::from(bits & 1023));
            let magnitude = match exponent {
                0 => fraction * 2f64.powi(-24),
                31 if fraction == 0.0 => f64::INFINITY,
                31 => f64::NAN,
                e => (1024.0 + fraction) * 2f64.powi(e - 25),
            };
            let expected = if sign == 1 { -magnitude } else { magnitude };
            assert!(
                f64::from(*x) == expected || (x.is_nan() && expected.is_nan()),
                "{bits:#06x}: {x} {expected}"
            );
        }
        decode(Dtype::BF16, &bytes, &mut out);
        for (bits, x) in (0..=u16::MAX).zip(&out) {
            let expected = f32::from_bits(u32::from(bits) << 16);
            assert!(*x == expected || (x.is_nan() && expected.is_nan()), "{bits:#06x}: {x} {expected}");
        }
    }

    #[test]
    fn unaligned_input_decodes() {
        let values: Vec<f32> = (0..777).map(|i| i as f32 - 300.0).collect();
        let mut bytes = vec![0u8];
        bytes.extend(values.iter().flat_map(|x| f16::from_f32(*x).to_le_bytes()));
        let mut out = vec![0.0; values.len()];
        decode(Dtype::F16, &bytes[1..], &mut out);
        assert_eq!(out, values);
        let mut bytes = vec![0u8];
        bytes.extend(values.iter().flat_map(|x| f64::from(*x).to_le_bytes()));
        decode(Dtype::F64, &bytes[1..], &mut out);
        assert_eq!(out, values);
    }
}
