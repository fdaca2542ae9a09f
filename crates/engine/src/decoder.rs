//! A decoder ready to run: spec, weights, and values precomputed from them.

use std::convert::Infallible;
use std::ops::Range;

use cs_kernels::{Init, MatMut, MatRef, PackedMatrix, PackedRef, matmul};
use cs_model::checkpoint::{Checkpoint, LayerPlan};
use cs_model::error::LoadError;
use cs_model::spec::{ModelSpec, NormPlacement, Positions, RotaryPairing};

use crate::device::{Compute, Device};
use crate::error::EngineError;
use crate::load::{host_part_bytes, load, load_host_part};
use crate::machine::delta::Blueprint;
use crate::machine::place::{Place, Placed};
use crate::rotary::RotaryTable;
use crate::source::Source;
use crate::weights::{LayerWeights, Weights};

/// A spec with its weights.
pub struct Decoder {
    spec: ModelSpec,
    weights: Weights,
    value_bias: Vec<Vec<f32>>, // [n_layers][d_attn]
    rotary: Vec<RotaryTable>,  // one per set of frequencies
    place: Place,
    compute: Compute,
    note: Option<String>,
}

impl Decoder {
    /// Pairs `spec` with `weights`, to run on the CPU. Shapes must match the spec; the checkpoint loader checks them.
    ///
    /// # Panics
    /// If a matrix does not have the shape given by `spec`, or a parallel block has norms other than before
    /// attention and MLP.
    pub fn new(spec: ModelSpec, weights: Weights) -> Self {
        assert_eq!(weights.layers.len(), spec.n_layers);
        let of_layer = |block| {
            let Ok(c) = value_bias(&spec, block, |w: &PackedMatrix, columns, beta, c| {
                add_product(beta, w.block(0..spec.d_model, columns), c);
                Ok::<_, Infallible>(())
            });
            c
        };
        let value_bias = weights.layers.iter().map(of_layer).collect();
        let rotary = rotary_tables(&spec);
        let (place, compute) = (Place::Cpu, Compute::cpu());
        Self { spec, weights, value_bias, rotary, place, compute, note: None }
    }

    /// Loads a checkpoint's parameters to the device that runs the model. Blocks are copied from the files to a GPU one after
    /// the other, in half precision if that is exact; the tables that the CPU looks up stay on the host.
    ///
    /// # Errors
    /// [`EngineError::Load`]; [`EngineError::Device`] if the device fails, or, before anything is read, if the model does not fit.
    pub fn load(spec: ModelSpec, checkpoint: &Checkpoint, compute: &Compute) -> Result<Self, EngineError> {
        if *compute.device() == Device::Cpu {
            return Ok(Self::new(spec, load(checkpoint)?));
        }
        check_memory(checkpoint, compute)?;
        let rotary = rotary_tables(&spec);
        let source = Source::Checkpoint(checkpoint);
        let Placed { place, value_bias, note } =
            Place::of(&Blueprint { spec: &spec, rotary: &rotary, source }, compute)?;
        let weights = load_host_part(checkpoint)?;
        Ok(Self { spec, weights, value_bias, rotary, place, compute: compute.clone(), note })
    }

    /// Moves the decoder to a device: its blocks are copied there and released on the host.
    ///
    /// # Errors
    /// [`EngineError::Device`] if the device cannot take them, or the blocks are already on another device.
    pub fn on(mut self, compute: &Compute) -> Result<Self, EngineError> {
        if !matches!(self.place, Place::Cpu) {
            let problem =
                format!("the model's blocks are already on {}: load it again", self.compute.device());
            return Err(EngineError::Device { device: compute.device().to_string(), problem });
        }
        if *compute.device() != Device::Cpu {
            let source = Source::Weights(&self.weights);
            let blueprint = Blueprint { spec: &self.spec, rotary: &self.rotary, source };
            Placed { place: self.place, value_bias: self.value_bias, note: self.note } =
                Place::of(&blueprint, compute)?;
            let empty = |block: &LayerWeights| block.map(&mut |_| PackedMatrix::from_rows(&[], 0, 0));
            self.weights.layers = self.weights.layers.iter().map(empty).collect();
        }
        self.compute = compute.clone();
        Ok(self)
    }

    /// A one-line remark for the user about the model's place on its device.
    pub fn note(&self) -> Option<&str> {
        self.note.as_deref()
    }

    pub(crate) fn place(&self) -> &Place {
        &self.place
    }

    /// The device that executes its runs.
    pub fn compute(&self) -> &Compute {
        &self.compute
    }

    /// The model's spec.
    pub fn spec(&self) -> &ModelSpec {
        &self.spec
    }

    /// The model's parameters.
    pub fn weights(&self) -> &Weights {
        &self.weights
    }

    /// `c_h = b_V^h + β W_V^h` of all query heads of a layer, `[d_attn]`: the input-independent part of every value,
    /// where `β` is the bias of the norm before attention. It is just `b_V` if that norm has no bias (RMS norms) or
    /// attention reads the residual stream directly.
    pub fn value_bias(&self, layer: usize) -> &[f32] {
        &self.value_bias[layer]
    }

    /// The pairing of a layer's rotary embedding, and cosines and sines of the angles at a position, `[n_dims / 2]`
    /// each; `None` without rotary positions.
    pub(crate) fn rotary(&self, layer: usize, position: usize) -> Option<(RotaryPairing, &[f32], &[f32])> {
        let Positions::Rotary(rotary) = &self.spec.positions else { return None };
        let (cos, sin) = self.rotary[rotary.of_layer[layer]].at(position);
        Some((rotary.pairing, cos, sin))
    }
}

fn rotary_tables(spec: &ModelSpec) -> Vec<RotaryTable> {
    match &spec.positions {
        Positions::Learned { .. } => vec![],
        Positions::Rotary(rotary) => RotaryTable::of(rotary, spec.n_ctx),
    }
}

/// `y += x W`
pub(crate) fn add_product(x: &[f32], w: PackedRef<'_>, y: &mut [f32]) {
    let (d_in, d_out) = (x.len(), y.len());
    matmul(MatRef::new(x, 1, d_in), w, MatMut::new(y, 1, d_out), Init::Accumulate);
}

/// See [`Decoder::value_bias`]. `add` adds a row's product with some columns of `W_Q W_K W_V`.
///
/// # Errors
/// Those of `add`.
pub(crate) fn value_bias<M, E>(
    spec: &ModelSpec,
    block: &LayerWeights<M>,
    add: impl FnOnce(&M, Range<usize>, &[f32], &mut [f32]) -> Result<(), E>,
) -> Result<Vec<f32>, E> {
    assert!(!spec.block.is_parallel() || spec.norm == NormPlacement::Pre, "norms of a parallel block");
    let (d_kv, d_head) = (spec.d_kv(), spec.d_head);
    let values = spec.d_attn() + d_kv..spec.d_attn() + 2 * d_kv;
    let mut c = vec![0.0; d_kv];
    if let Some(bias) = &block.w_qkv.bias {
        c.copy_from_slice(&bias[values.clone()]);
    }
    if let (true, Some(beta)) = (spec.norm.has_input_norm(), &block.ln1.bias) {
        add(&block.w_qkv.weight, values, beta, &mut c)?;
    }
    let of_head = |h: usize| &c[h / spec.group_size() * d_head..][..d_head];
    Ok((0..spec.n_heads).flat_map(of_head).copied().collect())
}

/// Host memory for loading a model to a device, in bytes: all weights as float32 for the CPU, or in two parts for the delta form
/// on the CPU; for a GPU, the tables that the CPU looks up and two blocks in transit.
fn host_bytes(checkpoint: &Checkpoint, compute: &Compute) -> u64 {
    match compute.device() {
        Device::Cpu => return checkpoint.weight_bytes() as u64,
        Device::Delta => return 2 * checkpoint.weight_bytes() as u64,
        Device::Cuda(_) => {}
    }
    let block = |layer: &LayerPlan| layer.matrices().map(|matrix| matrix.d_in * matrix.d_out).sum::<usize>();
    let largest = checkpoint.plan().layers.iter().map(block).max().unwrap_or(0);
    (host_part_bytes(checkpoint) + 2 * size_of::<f32>() * largest) as u64
}

/// Checks, from headers only, that enough host memory is free to load a model to a device.
///
/// # Errors
/// [`LoadError::Memory`]
pub fn check_memory(checkpoint: &Checkpoint, compute: &Compute) -> Result<(), LoadError> {
    checkpoint.check_memory(host_bytes(checkpoint, compute))
}
