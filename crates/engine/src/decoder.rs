//! A decoder ready to run: spec, weights, and what is derived from them once.

use cs_kernels::{Init, MatMut, MatRef, matmul};

use crate::device::Compute;
use crate::error::EngineError;
use crate::machine::place::Place;
use crate::rotary::RotaryTable;
use crate::weights::Weights;
use cs_model::spec::{ModelSpec, NormPlacement, Positions, RotaryPairing};

/// A spec with the weights that belong to it.
pub struct Decoder {
    spec: ModelSpec,
    weights: Weights,
    value_bias: Vec<Vec<f32>>, // [n_layers][d_attn]
    rotary: Vec<RotaryTable>,  // one per set of frequencies
    place: Place,
    compute: Compute,
}

impl Decoder {
    /// Pairs `spec` with `weights`, whose shapes must be those that the spec says; the checkpoint loader checks them.
    ///
    /// # Panics
    /// If a matrix does not have the shape that `spec` gives it, or a parallel block has norms elsewhere than before
    /// its branches.
    pub fn new(spec: ModelSpec, weights: Weights) -> Self {
        assert_eq!(weights.layers.len(), spec.n_layers);
        assert!(!spec.block.is_parallel() || spec.norm == NormPlacement::Pre, "norms of a parallel block");
        let value_bias = (0..spec.n_layers).map(|l| value_bias(&spec, &weights, l)).collect();
        let rotary = match &spec.positions {
            Positions::Learned { .. } => vec![],
            Positions::Rotary(rotary) => RotaryTable::of(rotary, spec.n_ctx),
        };
        Self { spec, weights, value_bias, rotary, place: Place::Cpu, compute: Compute::cpu() }
    }

    /// The same decoder, its runs carried out there: parameters are copied to the device.
    ///
    /// # Errors
    /// [`EngineError::Device`]: a device that does not take them.
    pub fn on(mut self, compute: &Compute) -> Result<Self, EngineError> {
        self.place = Place::of(&self, compute)?;
        self.compute = compute.clone();
        Ok(self)
    }

    pub(crate) fn place(&self) -> &Place {
        &self.place
    }

    /// What its runs are carried out on.
    pub fn compute(&self) -> &Compute {
        &self.compute
    }

    /// What is computed.
    pub fn spec(&self) -> &ModelSpec {
        &self.spec
    }

    /// With which parameters.
    pub fn weights(&self) -> &Weights {
        &self.weights
    }

    /// `c_h = b_V^h + β W_V^h` of all query heads of a layer, `[d_attn]`: the part of every value that does not depend
    /// on the input, `β` being the bias of the norm that feeds attention. It is `b_V` alone where that norm has no bias
    /// (RMS norms) or attention reads the residual stream as it is.
    pub fn value_bias(&self, layer: usize) -> &[f32] {
        &self.value_bias[layer]
    }

    /// Which coordinates a layer's rotary embedding turns together, and cosines and sines of the angles at a position,
    /// `[n_dims / 2]` each; `None` without rotary positions.
    pub(crate) fn rotary(&self, layer: usize, position: usize) -> Option<(RotaryPairing, &[f32], &[f32])> {
        let Positions::Rotary(rotary) = &self.spec.positions else { return None };
        let (cos, sin) = self.rotary[rotary.of_layer[layer]].at(position);
        Some((rotary.pairing, cos, sin))
    }
}

fn value_bias(spec: &ModelSpec, weights: &Weights, layer: usize) -> Vec<f32> {
    let (d_kv, d_head) = (spec.d_kv(), spec.d_head);
    let block = &weights.layers[layer];
    let values = spec.d_attn() + d_kv..spec.d_attn() + 2 * d_kv;
    let mut c = vec![0.0; d_kv];
    if let Some(bias) = &block.w_qkv.bias {
        c.copy_from_slice(&bias[values.clone()]);
    }
    if let (true, Some(beta)) = (spec.norm.has_input_norm(), &block.ln1.bias) {
        let w_v = block.w_qkv.weight.block(0..spec.d_model, values);
        matmul(MatRef::new(beta, 1, spec.d_model), w_v, MatMut::new(&mut c, 1, d_kv), Init::Accumulate);
    }
    let of_head = |h: usize| &c[h / spec.group_size() * d_head..][..d_head];
    (0..spec.n_heads).flat_map(of_head).copied().collect()
}
