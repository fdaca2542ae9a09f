//! Linear layers, norms and activation functions for a tile of rows, according to the model's settings.

use std::ops::Range;

use cs_kernels::{Init, MatMut, MatRef, matmul};

use crate::weights::{Linear, Norm};
use cs_model::spec::{Activation, ModelSpec, NormKind};

/// How a linear layer writes to its output.
#[derive(Clone, Copy)]
pub(super) enum Residual {
    /// `y = x W + b`
    Replace,
    /// `y += x W + b`
    Add,
    /// `y += x W`
    AddWithoutBias,
}

impl Residual {
    pub fn init(self, bias: Option<&[f32]>) -> Init<'_> {
        match (self, bias) {
            (Self::Replace, None) => Init::Zero,
            (Self::Replace, Some(bias)) => Init::Bias(bias),
            (Self::Add, Some(bias)) => Init::AccumulateBias(bias),
            (Self::Add | Self::AddWithoutBias, _) => Init::Accumulate,
        }
    }
}

/// `columns` of a linear layer: `x` `[rows, d_in]` → `y` `[rows, columns.len()]`.
pub(super) fn linear(
    layer: &Linear,
    x: &[f32],
    n_rows: usize,
    columns: Range<usize>,
    y: &mut [f32],
    residual: Residual,
) {
    let (d_in, width) = (layer.weight.k(), columns.len());
    let init = residual.init(layer.bias.as_ref().map(|b| &b[columns.clone()]));
    let w = layer.weight.block(0..d_in, columns);
    matmul(MatRef::new(x, n_rows, d_in), w, MatMut::new(y, n_rows, width), init);
}

/// The model's norm of rows `[rows, d_model]`.
pub(crate) fn norm(spec: &ModelSpec, norm: &Norm, x: &[f32], out: &mut [f32]) {
    norm_rows(spec, norm.weight.as_deref(), norm.bias.as_deref(), spec.d_model, x, out);
}

/// The model's norm of rows of `width` values, with this gain and bias.
pub(super) fn norm_rows(
    spec: &ModelSpec,
    gain: Option<&[f32]>,
    bias: Option<&[f32]>,
    width: usize,
    x: &[f32],
    out: &mut [f32],
) {
    let n_rows = x.len() / width;
    let (x, out) = (MatRef::new(x, n_rows, width), MatMut::new(out, n_rows, width));
    let one_plus = spec.norm_kind == NormKind::RmsOnePlus;
    match spec.norm_kind {
        NormKind::Layer => cs_kernels::layer_norm(x, gain, bias, spec.norm_eps, out),
        NormKind::Rms | NormKind::RmsOnePlus => {
            let gain = gain.expect("an RMS norm has a gain");
            cs_kernels::rms_norm(x, gain, one_plus, spec.norm_eps, out);
        }
    }
}

/// `x ← act(x)`
pub(crate) fn activate(activation: Activation, x: &mut [f32]) {
    match activation {
        Activation::GeluErf => cs_kernels::gelu_erf(x),
        Activation::GeluTanh => cs_kernels::gelu_tanh(x),
        Activation::Relu => cs_kernels::relu(x),
        Activation::Silu => cs_kernels::silu(x),
    }
}

/// `gate ← act(gate) · up`
pub(crate) fn activate_gate(activation: Activation, gate: &mut [f32], up: &[f32]) {
    match activation {
        Activation::GeluErf => cs_kernels::gelu_erf_gate(gate, up),
        Activation::GeluTanh => cs_kernels::gelu_tanh_gate(gate, up),
        Activation::Relu => cs_kernels::relu_gate(gate, up),
        Activation::Silu => cs_kernels::silu_gate(gate, up),
    }
}
