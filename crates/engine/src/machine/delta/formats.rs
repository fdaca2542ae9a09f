//! How weights lie on a device, and how differences are cut up beside them.

use cs_kernels::PackedMatrix;
use half::{bf16, f16};
use rayon::prelude::*;

use super::ops::{Parts, Stored};
use crate::device::Precision;
use crate::weights::Weights;

/// What second float16 parts are multiplied by, so that they stay clear of float16's smallest numbers: 2^11.
pub(crate) const LO: f32 = 2048.0;

/// The formats for a model: halves where all of its matrices are halves, whatever type they are stored as.
pub(crate) fn formats(weights: &Weights, precision: Precision) -> (Stored, Parts) {
    let all = |to_half: fn(f32) -> f32| matrices(weights).all(|matrix| is_exact(matrix, to_half));
    let stored = if all(to_f16) {
        Stored::F16
    } else if all(to_bf16) {
        Stored::Bf16
    } else {
        Stored::F16Pair
    };
    match (precision, stored) {
        (Precision::F32, Stored::F16Pair) => (Stored::F32, Parts::F32),
        (Precision::F32, stored) => (stored, Parts::F32),
        (Precision::Split, Stored::Bf16) => (stored, Parts::Bf16 { two: true }),
        (Precision::Split, stored) => (stored, Parts::F16 { two: true }),
        // Of one part, float16 has eight times bfloat16's digits, and scaled it holds bfloat16's weights.
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

/// `e` of a matrix's [`Stored`] format.
pub(crate) fn exponent(stored: Stored, values: &[f32]) -> i32 {
    let is_plain = match stored {
        Stored::F32 | Stored::Bf16 => true,
        Stored::F16 => values.iter().all(|&x| to_f16(x) == x),
        Stored::F16Pair => false,
    };
    let largest = values.iter().fold(0.0, |max: f32, x| max.max(x.abs()));
    let floor_log2 = ((largest.to_bits() >> 23) & 255) as i32 - 127;
    if is_plain || largest == 0.0 { 0 } else { (14 - floor_log2).min(100) }
}

fn matrices(weights: &Weights) -> impl Iterator<Item = &PackedMatrix> {
    let of_layers = weights.layers.iter().flat_map(|layer| {
        let (gate, first, second) = match &layer.mlp {
            None => (None, None, None),
            Some(mlp) => (mlp.w_gate.as_ref(), Some(&mlp.w_in), Some(&mlp.w_out)),
        };
        [Some(&layer.w_qkv), Some(&layer.w_o), gate, first, second].into_iter().flatten()
    });
    of_layers.chain(&weights.project_out).map(|linear| &linear.weight)
}

/// Whether halves hold a matrix exactly.
fn is_exact(matrix: &PackedMatrix, to_half: fn(f32) -> f32) -> bool {
    let is_exact = |row: &mut Vec<f32>, i: usize| {
        matrix.copy_row(i, row);
        row.iter().all(|&x| to_half(x) == x)
    };
    (0..matrix.k()).into_par_iter().map_init(|| vec![0.0; matrix.n()], is_exact).all(|exact| exact)
}
