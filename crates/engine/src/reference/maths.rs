//! Norms, products, activations, softmax.

use super::Rows;
use crate::weights::{Linear, Norm};
use cs_model::spec::{Activation, ModelSpec, NormKind};

/// `x + y`
pub(super) fn add(x: &Rows, y: &Rows) -> Rows {
    x.iter().zip(y).map(|(x, y)| x.iter().zip(y).map(|(x, y)| x + y).collect()).collect()
}

pub(super) fn scaled(x: &[f32], scale: f64) -> Vec<f64> {
    x.iter().map(|&x| scale * f64::from(x)).collect()
}

/// `x W + b`
pub(super) fn linear(layer: &Linear, x: &Rows) -> Rows {
    let (d_in, d_out) = (layer.weight.k(), layer.weight.n());
    let element = |x: &[f64], j: usize| {
        let product: f64 = (0..d_in).map(|i| x[i] * f64::from(layer.weight.get(i, j))).sum();
        product + layer.bias.as_ref().map_or(0.0, |b| f64::from(b[j]))
    };
    x.iter().map(|x| (0..d_out).map(|j| element(x, j)).collect()).collect()
}

/// The model's norm of each row.
pub(super) fn norm(spec: &ModelSpec, norm: &Norm, x: &Rows) -> Rows {
    x.iter().map(|x| norm_row(spec, norm.weight.as_deref(), norm.bias.as_deref(), x)).collect()
}

/// The model's norm of one row.
pub(super) fn norm_row(spec: &ModelSpec, gain: Option<&[f32]>, bias: Option<&[f32]>, x: &[f64]) -> Vec<f64> {
    let size = norm_size(spec, x);
    let bias = |i: usize| bias.map_or(0.0, |b| f64::from(b[i]));
    (0..).zip(centred(spec, x)).map(|(i, x)| x / size * gain_at(spec, gain, i) + bias(i)).collect()
}

/// The share of a part `x` of a row in the norm of the whole row: divided by the whole's size, without bias.
pub(super) fn frozen_norm(spec: &ModelSpec, norm: &Norm, whole: &[f64], x: &[f64]) -> Vec<f64> {
    let size = norm_size(spec, whole);
    (0..).zip(centred(spec, x)).map(|(i, x)| x / size * gain_at(spec, norm.weight.as_deref(), i)).collect()
}

/// A row minus its mean, if the norm centres.
fn centred(spec: &ModelSpec, x: &[f64]) -> Vec<f64> {
    let mean = match spec.norm_kind {
        NormKind::Layer => x.iter().sum::<f64>() / x.len() as f64,
        NormKind::Rms | NormKind::RmsOnePlus => 0.0,
    };
    x.iter().map(|x| x - mean).collect()
}

/// `√(var + ε)`, or with the mean square.
fn norm_size(spec: &ModelSpec, x: &[f64]) -> f64 {
    let squares: f64 = centred(spec, x).iter().map(|x| x.powi(2)).sum();
    (squares / x.len() as f64 + f64::from(spec.norm_eps)).sqrt()
}

fn gain_at(spec: &ModelSpec, gain: Option<&[f32]>, i: usize) -> f64 {
    match (gain, spec.norm_kind) {
        (None, _) => 1.0,
        (Some(w), NormKind::RmsOnePlus) => 1.0 + f64::from(w[i]),
        (Some(w), _) => f64::from(w[i]),
    }
}

pub(super) fn activation(activation: Activation, x: f64) -> f64 {
    use std::f64::consts::{FRAC_1_SQRT_2, PI};
    match activation {
        Activation::GeluErf => 0.5 * x * libm::erfc(-x * FRAC_1_SQRT_2),
        Activation::GeluTanh => 0.5 * x * (1.0 + ((2.0 / PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh()),
        Activation::Relu => x.max(0.0),
        Activation::Silu => x / (1.0 + (-x).exp()),
    }
}

/// `c tanh(x / c)`
pub(super) fn softcap(x: f64, cap: Option<f32>) -> f64 {
    cap.map(f64::from).map_or(x, |cap| cap * (x / cap).tanh())
}

pub(super) fn softmax(scores: Vec<f64>) -> Vec<f64> {
    let top = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let exp: Vec<f64> = scores.iter().map(|score| (score - top).exp()).collect();
    let total: f64 = exp.iter().sum();
    exp.iter().map(|e| e / total).collect()
}
