//! The machines that execute a decoder's runs.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::Machine;
use super::cpu::Cpu;
use super::delta::cuda::Card;
use super::delta::host::Host;
use super::delta::{Blueprint, Delta, Filled, ModelOn, formats};
use crate::decoder::Decoder;
use crate::device::{Compute, Device};
use crate::error::EngineError;

/// Where a decoder's runs are computed.
pub(crate) enum Place {
    /// The CPU.
    Cpu,
    /// The delta form on the CPU.
    Delta(Vec<Mutex<ModelOn<Host>>>),
    /// The delta form on GPUs, each with all parameters.
    Cuda(Vec<Mutex<ModelOn<Card>>>),
}

/// A model on its device.
pub(crate) struct Placed {
    pub place: Place,
    /// The input-independent part of each query head's values, per layer.
    /// `[n_layers][d_attn]`
    pub value_bias: Vec<Vec<f32>>,
    /// A remark for the user about the model's place on the device.
    pub note: Option<String>,
}

impl Place {
    /// Copies a model's parameters to a device.
    ///
    /// # Errors
    /// If the device cannot hold or run the model.
    ///
    /// # Panics
    /// For the CPU, which uses the decoder's own parameters.
    pub fn of(model: &Blueprint<'_>, compute: &Compute) -> Result<Placed, EngineError> {
        let (stored, parts) = formats(model.source, compute.precision());
        match compute.device() {
            Device::Cpu => unreachable!("the CPU uses the decoder's own parameters"),
            Device::Delta => {
                let Filled { models, value_bias, note } = model.fill(vec![Host::new(parts, stored)])?;
                let place = Self::Delta(models.into_iter().map(Mutex::new).collect());
                Ok(Placed { place, value_bias, note })
            }
            Device::Cuda(cards) => {
                let problem = |device: String, problem: String| EngineError::Device { device, problem };
                if let Some(why) = Card::cannot(model.spec) {
                    return Err(problem(compute.device().to_string(), format!("{why}: use --device cpu")));
                }
                let open = |&card: &usize| {
                    let word = Device::Cuda(vec![card]).to_string();
                    Card::open(card, parts, stored).map_err(|e| problem(word, e.to_string()))
                };
                let cards = cards.iter().map(open).collect::<Result<_, _>>()?;
                let Filled { models, value_bias, note } = model.fill(cards)?;
                let place = Self::Cuda(models.into_iter().map(Mutex::new).collect());
                Ok(Placed { place, value_bias, note })
            }
        }
    }

    /// Number of machines that can run branches in parallel.
    pub fn n_machines(&self) -> usize {
        match self {
            Self::Cpu | Self::Delta(_) => 1,
            Self::Cuda(cards) => cards.len(),
        }
    }
}

/// A computation that is generic over the machine.
pub(crate) trait Job {
    /// The result.
    type Output;

    fn run<M: Machine>(self, machine: &mut M) -> Result<Self::Output, EngineError>;
}

/// Executes a job on a decoder's machine (the first if there are several), one job at a
/// time.
///
/// # Errors
/// Those of the job; [`EngineError::Device`] if a GPU has no room for it.
pub(crate) fn carry_out<J: Job>(decoder: &Decoder, job: J) -> Result<J::Output, EngineError> {
    carry_out_on(decoder, 0, job)
}

/// The same on one of the decoder's [machines](Place::n_machines).
///
/// # Errors
/// As [`carry_out`].
pub(crate) fn carry_out_on<J: Job>(
    decoder: &Decoder,
    machine: usize,
    job: J,
) -> Result<J::Output, EngineError> {
    match decoder.place() {
        Place::Cpu => job.run(&mut Cpu::new(decoder)),
        Place::Delta(models) => job.run(&mut Delta::new(decoder, &mut lock(&models[machine]))),
        Place::Cuda(models) => {
            let result = job.run(&mut Delta::new(decoder, &mut lock(&models[machine])));
            result.map_err(|error| match error {
                // What a GPU has free is no limit that the user set.
                EngineError::Memory { need, memory } => EngineError::Device {
                    device: decoder.compute().device().to_string(),
                    problem: format!(
                        "the longest prompt needs {} beside the parameters, and {} are free on the GPU: shorten it, or use --device cpu",
                        cs_cuda::bytes(need),
                        cs_cuda::bytes(memory)
                    ),
                },
                error => error,
            })
        }
    }
}

/// A model on a device. State left behind by a job that panicked is overwritten by the
/// next.
fn lock<T>(model: &Mutex<T>) -> MutexGuard<'_, T> {
    model.lock().unwrap_or_else(PoisonError::into_inner)
}
