//! Which machine carries out a decoder's runs.

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
    /// The delta form on a graphics card.
    Cuda(Box<Mutex<ModelOn<Card>>>),
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
                let problem =
                    |problem: String| EngineError::Device { device: compute.device().to_string(), problem };
                let &[card] = &cards[..] else {
                    return Err(problem("a model runs on one card: name one".to_owned()));
                };
                if let Some(why) = Card::cannot(decoder.spec()) {
                    return Err(problem(format!("{why}: use --device cpu")));
                }
                let (stored, parts) = formats(decoder.weights(), compute.precision());
                let card = Card::open(card, parts, stored).map_err(|e| problem(e.to_string()))?;
                let mut model = ModelOn::new(card, decoder);
                model.ops.status()?;
                Ok(Self::Cuda(Box::new(Mutex::new(model))))
            }
        }
    }
}

/// Something to do on whichever machine it is.
pub(crate) trait Job {
    /// What comes of it.
    type Output;

    fn run<M: Machine>(self, machine: &mut M) -> Self::Output;
}

/// Does a job on a decoder's machine, which does one at a time.
pub(crate) fn carry_out<J: Job>(decoder: &Decoder, job: J) -> J::Output {
    match decoder.place() {
        Place::Cpu => job.run(&mut Cpu::new(decoder)),
        Place::Delta(model) => job.run(&mut Delta::new(decoder, &mut lock(model))),
        Place::Cuda(model) => job.run(&mut Delta::new(decoder, &mut lock(model))),
    }
}

/// A model on a device. What a job that panicked left behind is overwritten by the next.
fn lock<T>(model: &Mutex<T>) -> MutexGuard<'_, T> {
    model.lock().unwrap_or_else(PoisonError::into_inner)
}
