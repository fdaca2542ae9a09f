//! A decoder ready to run: spec, weights, and what is derived from them once.

use cs_kernels::{Init, MatMut, MatRef, matmul};

use crate::weights::Weights;
use cs_model::spec::{ModelSpec, NormPlacement, Positions};

/// A spec with the weights that belong to it.
pub struct Decoder {
    spec: ModelSpec,
    weights: Weights,
    value_bias: Vec<Vec<f32>>,            // [n_layers][d_attn]
    rotary: Option<(Vec<f32>, Vec<f32>)>, // cos, sin: [n_ctx, n_dims / 2] each
}

impl Decoder {
    /// Pairs `spec` with `weights`, whose shapes must be those that the spec says; the checkpoint loader checks them.
    ///
    /// # Panics
    /// If a matrix does not have the shape that `spec` gives it.
    pub fn new(spec: ModelSpec, weights: Weights) -> Self {
        assert_eq!(weights.layers.len(), spec.n_layers);
        let value_bias = (0..spec.n_layers).map(|l| value_bias(&spec, &weights, l)).collect();
        let rotary = match spec.positions {
            Positions::Learned { .. } => None,
            Positions::Rotary(ref rotary) => {
                Some(rotary_table(spec.n_ctx, rotary.n_dims, rotary.frequencies[0].base))
            }
        };
        Self { spec, weights, value_bias, rotary }
    }

    /// What is computed.
    pub fn spec(&self) -> &ModelSpec {
        &self.spec
    }

    /// With which parameters.
    pub fn weights(&self) -> &Weights {
        &self.weights
    }

    /// `c_h = b_V^h + β W_V^h` of all heads of a layer, `[d_attn]`: the part of every value that does not depend on
    /// the input, `β` being the bias of the norm that feeds attention. A post-norm block's attention is fed by no
    /// norm of its own, so there it is `b_V` alone.
    pub fn value_bias(&self, layer: usize) -> &[f32] {
        &self.value_bias[layer]
    }

    /// Cosines and sines of the rotary angles at a position, `[n_dims / 2]` each; `None` without rotary positions.
    pub(crate) fn rotary(&self, position: usize) -> Option<(&[f32], &[f32])> {
        let Positions::Rotary(rotary) = &self.spec.positions else { return None };
        let half = rotary.n_dims / 2;
        let (cos, sin) = self.rotary.as_ref()?;
        Some((&cos[position * half..][..half], &sin[position * half..][..half]))
    }
}

fn value_bias(spec: &ModelSpec, weights: &Weights, layer: usize) -> Vec<f32> {
    let d_attn = spec.d_attn();
    let block = &weights.layers[layer];
    let mut c = vec![0.0; d_attn];
    if let Some(bias) = &block.w_qkv.bias {
        c.copy_from_slice(&bias[2 * d_attn..]);
    }
    if let (NormPlacement::Pre, Some(beta)) = (spec.norm, &block.ln1.bias) {
        let w_v = block.w_qkv.weight.block(0..spec.d_model, 2 * d_attn..3 * d_attn);
        matmul(MatRef::new(beta, 1, spec.d_model), w_v, MatMut::new(&mut c, 1, d_attn), Init::Accumulate);
    }
    c
}

/// Angles as PyTorch computes them: frequencies and their products with positions in float32.
fn rotary_table(n_ctx: usize, n_dims: usize, base: f64) -> (Vec<f32>, Vec<f32>) {
    let half = n_dims / 2;
    let frequencies: Vec<f32> =
        (0..half).map(|i| 1.0 / base.powf(2.0 * i as f64 / n_dims as f64) as f32).collect();
    let angles = (0..n_ctx).flat_map(|p| frequencies.iter().map(move |f| f64::from(p as f32 * f)));
    angles.map(|a| (a.cos() as f32, a.sin() as f32)).unzip()
}
