//! A decoder ready to run: spec, weights, and what is derived from them once.

use std::convert::Infallible;
use std::ops::Range;

use cs_kernels::{Init, MatMut, MatRef, PackedMatrix, PackedRef, matmul};
use cs_model::checkpoint::{Checkpoint, LayerPlan};
use cs_model::error::LoadError;
use cs_model::spec::{ModelSpec, NormPlacement, Positions, RotaryPairing};

use crate::device::{Compute, Device};
use crate::error::EngineError;
use crate::load::{bytes_beside, load, load_beside};
use crate::machine::delta::Blueprint;
use crate::machine::place::{Place, Placed};
use crate::rotary::RotaryTable;
use crate::source::Source;
use crate::weights::{LayerWeights, Weights};

/// A spec with the weights that belong to it.
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
    /// Pairs `spec` with `weights`, to be run by the processor. Their shapes must be those that the spec says; the checkpoint loader
    /// checks them.
    ///
    /// # Panics
    /// If a matrix does not have the shape that `spec` gives it, or a parallel block has norms elsewhere than before
    /// its branches.
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

    /// Loads a checkpoint's parameters to where the model is to run. On a device, its blocks go there from the files one after
    /// the other, in half precision where the checkpoint has it; the processor keeps what it looks up.
    ///
    /// # Errors
    /// [`EngineError::Load`]; [`EngineError::Device`], before anything is read where the model has no room: a device that does not
    /// take it.
    pub fn load(spec: ModelSpec, checkpoint: &Checkpoint, compute: &Compute) -> Result<Self, EngineError> {
        if *compute.device() == Device::Cpu {
            return Ok(Self::new(spec, load(checkpoint)?));
        }
        check_memory(checkpoint, compute)?;
        let rotary = rotary_tables(&spec);
        let source = Source::Checkpoint(checkpoint);
        let Placed { place, value_bias, note } =
            Place::of(&Blueprint { spec: &spec, rotary: &rotary, source }, compute)?;
        let weights = load_beside(checkpoint)?;
        Ok(Self { spec, weights, value_bias, rotary, place, compute: compute.clone(), note })
    }

    /// The same decoder, its runs carried out there: its blocks are brought to the device and let go here.
    ///
    /// # Errors
    /// [`EngineError::Device`]: a device that does not take them, or blocks that are not here any more.
    pub fn on(mut self, compute: &Compute) -> Result<Self, EngineError> {
        if !matches!(self.place, Place::Cpu) {
            let problem =
                format!("the model's blocks lie on {} already: load it again", self.compute.device());
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

    /// What a user should know of how the model lies on its device, in a line.
    pub fn note(&self) -> Option<&str> {
        self.note.as_deref()
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

/// Bytes that loading a model for a device takes of the program's memory: all as float32 for the processor, and in two parts for
/// what it does as a card would; for cards what the processor looks up, and two blocks on their way.
fn host_bytes(checkpoint: &Checkpoint, compute: &Compute) -> u64 {
    match compute.device() {
        Device::Cpu => return checkpoint.weight_bytes() as u64,
        Device::Delta => return 2 * checkpoint.weight_bytes() as u64,
        Device::Cuda(_) => {}
    }
    let block = |layer: &LayerPlan| layer.matrices().map(|matrix| matrix.d_in * matrix.d_out).sum::<usize>();
    let largest = checkpoint.plan().layers.iter().map(block).max().unwrap_or(0);
    (bytes_beside(checkpoint) + 2 * size_of::<f32>() * largest) as u64
}

/// Whether the system can give what loading a model for a device takes of the program's memory; known from headers alone.
///
/// # Errors
/// [`LoadError::Memory`](cs_model::error::LoadError::Memory)
pub fn check_memory(checkpoint: &Checkpoint, compute: &Compute) -> Result<(), LoadError> {
    checkpoint.check_memory(host_bytes(checkpoint, compute))
}
