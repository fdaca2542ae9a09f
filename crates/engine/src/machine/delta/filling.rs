//! Copies a model's parameters to devices.
//!
//! A thread reads one block after the other from its source and packs its matrices in the device's layout ([`Packed`]), while
//! the previous block is copied to all devices. So host memory holds two blocks at a time, plus the blocks that do not fit on
//! the device and are [streamed](super::residence).

use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;

use cs_model::error::LoadError;
use cs_model::memory;
use cs_model::spec::ModelSpec;

use super::blocks::{Blocks, Turn};
use super::ops::{Ops, Stored};
use super::packed::Packed;
use super::residence::{Need, Residence, TURNS, cut};
use super::weights::{LayerOn, ModelOn, Parameters, norm_on, rotary_on};
use crate::decoder::{add_product, value_bias};
use crate::error::EngineError;
use crate::rotary::RotaryTable;
use crate::source::{MatrixSource, Source};
use crate::weights::{LayerWeights, Norm};

/// A model to copy to devices.
#[derive(Clone, Copy)]
pub(crate) struct Blueprint<'a> {
    /// The model's spec.
    pub spec: &'a ModelSpec,
    /// Its rotary angles, one table per set of frequencies; empty without rotary positions.
    pub rotary: &'a [RotaryTable],
    /// Its parameters.
    pub source: Source<'a>,
}

/// A model on some devices.
pub(crate) struct Filled<O: Ops> {
    /// The model on each device.
    pub models: Vec<ModelOn<O>>,
    /// The input-independent part of each query head's values, per layer. `[n_layers][d_attn]`
    pub value_bias: Vec<Vec<f32>>,
    /// A remark for the user about streamed blocks.
    pub note: Option<String>,
}

/// A block on its way to devices.
pub(super) struct Arriving {
    /// All parameters but its matrices.
    pub small: LayerWeights<()>,
    pub value_bias: Vec<f32>,
    matrices: Vec<Packed>,
}

/// The parameters after the blocks.
struct End {
    ln_final: Norm,
    project_out: Option<(Packed, Option<Vec<f32>>)>,
}

/// The parameters that have arrived on a device.
struct Arrived<O: Ops> {
    ops: O,
    layers: Vec<LayerOn<O>>,
    turns: Vec<Turn<O>>,
    resident: Vec<Vec<O::Matrix>>,
}

impl Blueprint<'_> {
    /// Copies the model to devices, which must all have the same format. The source is read once for all devices.
    ///
    /// # Errors
    /// [`EngineError::Device`], before anything is read if the model does not fit, or if a device fails;
    /// [`EngineError::Load`].
    pub fn fill<O: Ops>(&self, devices: Vec<O>) -> Result<Filled<O>, EngineError> {
        let Some(stored) = devices.first().map(Ops::stored) else {
            return Ok(Filled { models: vec![], value_bias: vec![], note: None });
        };
        let Residence { waiting, note } = self.residence(&devices, stored)?;
        let empty = |ops| Arrived { ops, layers: vec![], turns: vec![], resident: vec![] };
        let mut arrived: Vec<Arrived<O>> = devices.into_iter().map(empty).collect();
        let (value_bias, kept) = thread::scope(|scope| {
            let (send, blocks) = sync_channel(0);
            let read = *self;
            scope.spawn(move || {
                // The receiver may have stopped after an error.
                (0..read.source.n_layers()).all(|layer| send.send(read.block(layer, stored)).is_ok())
            });
            self.receive(&blocks, waiting, &mut arrived)
        })?;
        let (end, kept) = (self.end(stored)?, Arc::new(kept));
        let mut models = Vec::with_capacity(arrived.len());
        for Arrived { mut ops, layers, turns, resident } in arrived {
            let floats = |ops: &mut O, bias: &Option<Vec<f32>>| bias.as_ref().map(|bias| ops.upload(bias));
            let ln_final = norm_on(&mut ops, self.spec, &end.ln_final);
            let project_out =
                end.project_out.as_ref().map(|(packed, bias)| (ops.matrix(packed), floats(&mut ops, bias)));
            let rotary = rotary_on(&mut ops, self.spec, self.rotary);
            ops.status()?;
            let blocks = Blocks::new(kept.clone(), turns, resident);
            let parameters = Parameters { layers, blocks, ln_final, project_out, rotary };
            models.push(ModelOn { ops, parameters });
        }
        Ok(Filled { models, value_bias, note })
    }

    /// The model's residence, which is the same on all devices.
    fn residence<O: Ops>(&self, devices: &[O], stored: Stored) -> Result<Residence, EngineError> {
        let Some((room, at)) = (0..).zip(devices).filter_map(|(at, ops)| Some((ops.memory()?, at))).min()
        else {
            return Ok(Residence::default());
        };
        let need = Need::of(self.spec, self.source, stored);
        need.residence(room, memory::available())
            .map_err(|problem| EngineError::Device { device: devices[at as usize].name(), problem })
    }

    /// Reads a block.
    fn block(&self, layer: usize, stored: Stored) -> Result<Arriving, LoadError> {
        let Self { spec, source, .. } = *self;
        source.prefetch(layer + 1);
        let block = source.layer(layer)?;
        let value_bias = value_bias(spec, &block, |w_qkv: &MatrixSource<'_>, columns, beta, c| {
            let n = columns.len();
            add_product(beta, w_qkv.pack(columns)?.block(0..spec.d_model, 0..n), c);
            Ok::<_, LoadError>(())
        })?;
        let pack = |(at, matrix): (usize, &MatrixSource<'_>)| {
            Packed::read(matrix, stored, cut(spec, at, matrix.shape().1))
        };
        let matrices = block.matrices().enumerate().map(pack).collect::<Result<_, _>>()?;
        Ok(Arriving { small: block.map(&mut |_| ()), value_bias, matrices })
    }

    fn end(&self, stored: Stored) -> Result<End, LoadError> {
        let project_out = self.source.project_out()?.map(|linear| {
            let (_, d_out) = linear.weight.shape();
            Ok::<_, LoadError>((Packed::read(&linear.weight, stored, d_out)?, linear.bias))
        });
        Ok(End { ln_final: self.source.ln_final()?, project_out: project_out.transpose()? })
    }

    /// Copies blocks to the devices as they arrive; returns value biases, and the matrices of streamed
    /// blocks.
    #[expect(clippy::type_complexity, reason = "two lists")]
    fn receive<O: Ops>(
        &self,
        blocks: &Receiver<Result<Arriving, LoadError>>,
        waiting: usize,
        devices: &mut [Arrived<O>],
    ) -> Result<(Vec<Vec<f32>>, Vec<Vec<O::Kept>>), EngineError> {
        let (mut value_bias, mut kept) = (vec![], vec![]);
        for (layer, arriving) in blocks.iter().enumerate() {
            let arriving = arriving?;
            let copy = |device: &mut Arrived<O>| {
                device.layers.push(LayerOn::new(&mut device.ops, self.spec, &arriving));
                if layer < waiting.min(TURNS) || layer >= waiting {
                    let matrices = arriving.matrices.iter().map(|packed| device.ops.matrix(packed)).collect();
                    if layer < waiting {
                        device.turns.push(Turn { layer, matrices });
                    } else {
                        device.resident.push(matrices);
                    }
                }
                device.ops.status()
            };
            match &mut *devices {
                [device] => copy(device)?,
                devices => thread::scope(|scope| {
                    let copies: Vec<_> =
                        devices.iter_mut().map(|device| scope.spawn(|| copy(device))).collect();
                    let copied = |copy: thread::ScopedJoinHandle<'_, _>| {
                        copy.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
                    };
                    copies.into_iter().try_for_each(copied)
                })?,
            }
            value_bias.push(arriving.value_bias);
            if layer < waiting
                && let Some(device) = devices.first_mut()
            {
                kept.push(arriving.matrices.into_iter().map(|packed| device.ops.keep(packed)).collect());
            }
        }
        Ok((value_bias, kept))
    }
}
