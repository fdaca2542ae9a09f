//! Which machines carry out a decoder's runs.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::Machine;
use super::cpu::Cpu;
use super::delta::cuda::Card;
use super::delta::host::Host;
use super::delta::ops::Ops;
use super::delta::{Delta, ModelOn, formats};
use crate::decoder::Decoder;
use crate::device::{Compute, Device};
use crate::error::EngineError;

/// What computes a decoder's runs.
pub(crate) enum Place {
    /// The processor.
    Cpu,
    /// The delta form on the processor.
    Delta(Box<Mutex<ModelOn<Host>>>),
    /// The delta form on graphics cards, each of which has all parameters.
    Cuda(Vec<Mutex<ModelOn<Card>>>),
}

impl Place {
    /// Brings a decoder's parameters to where it is to run.
    ///
    /// # Errors
    /// A device that does not take them.
    pub fn of(decoder: &Decoder, compute: &Compute) -> Result<Self, EngineError> {
        match compute.device() {
            Device::Cpu => Ok(Self::Cpu),
            Device::Delta => {
                let (stored, parts) = formats(decoder.weights(), compute.precision());
                Ok(Self::Delta(Box::new(Mutex::new(ModelOn::new(Host::new(parts, stored), decoder)))))
            }
            Device::Cuda(cards) => {
                let problem = |device: String, problem: String| EngineError::Device { device, problem };
                if let Some(why) = Card::cannot(decoder.spec()) {
                    return Err(problem(compute.device().to_string(), format!("{why}: use --device cpu")));
                }
                let (stored, parts) = formats(decoder.weights(), compute.precision());
                let filled = |&card: &usize| {
                    let word = Device::Cuda(vec![card]).to_string();
                    let card = Card::open(card, parts, stored).map_err(|e| problem(word, e.to_string()))?;
                    let mut model = ModelOn::new(card, decoder);
                    model.ops.status()?;
                    Ok(Mutex::new(model))
                };
                cards.iter().map(filled).collect::<Result<_, _>>().map(Self::Cuda)
            }
        }
    }

    /// Machines that may run branches side by side.
    pub fn n_machines(&self) -> usize {
        match self {
            Self::Cpu | Self::Delta(_) => 1,
            Self::Cuda(cards) => cards.len(),
        }
    }
}

/// Something to do on whichever machine it is.
pub(crate) trait Job {
    /// What comes of it.
    type Output;

    fn run<M: Machine>(self, machine: &mut M) -> Self::Output;
}

/// Does a job on a decoder's machine, the first of several, which does one at a time.
pub(crate) fn carry_out<J: Job>(decoder: &Decoder, job: J) -> J::Output {
    carry_out_on(decoder, 0, job)
}

/// The same on one of its [machines](Place::n_machines).
pub(crate) fn carry_out_on<J: Job>(decoder: &Decoder, machine: usize, job: J) -> J::Output {
    match decoder.place() {
        Place::Cpu => job.run(&mut Cpu::new(decoder)),
        Place::Delta(model) => job.run(&mut Delta::new(decoder, &mut lock(model))),
        Place::Cuda(cards) => job.run(&mut Delta::new(decoder, &mut lock(&cards[machine]))),
    }
}

/// A model on a device. What a job that panicked left behind is overwritten by the next.
fn lock<T>(model: &Mutex<T>) -> MutexGuard<'_, T> {
    model.lock().unwrap_or_else(PoisonError::into_inner)
}
