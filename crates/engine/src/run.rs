//! The plain run of prompts, and one run per branch.

use crate::decoder::Decoder;
use crate::driver::Driver;
use crate::error::EngineError;
use crate::intervention::Branch;
use crate::machine::Machine;
use crate::machine::place::{Job, carry_out, carry_out_on};
use crate::means::GroupMeans;
use crate::plan;
use crate::request::{Options, Prompt, Reading, Receiver};
use crate::side_by_side;
use crate::tree::Tree;

/// Computes the plain run of `prompts` and one run per branch, and passes logits to `receiver`.
///
/// A branch without edits is run too, and gives exactly the plain run's logits. If the decoder is on several GPUs, they share the
/// branches.
///
/// # Errors
/// See [`EngineError`]; everything is checked before the first layer is computed.
pub fn run(
    decoder: &Decoder,
    prompts: &[Prompt],
    branches: &[Branch],
    options: Options,
    receiver: &mut dyn Receiver,
) -> Result<(), EngineError> {
    plan::check(decoder.spec(), prompts, branches)?;
    let parts = Tree::new(branches).parts(decoder.spec().n_layers, decoder.place().n_machines());
    if parts.len() <= 1 {
        return carry_out(decoder, Run { decoder, prompts, branches, options, receiver });
    }
    side_by_side::run(&parts, receiver, |card, part, receiver| {
        let branches: Vec<Branch> = part.iter().map(|&branch| branches[branch].clone()).collect();
        carry_out_on(decoder, card, Run { decoder, prompts, branches: &branches, options, receiver })
    })
}

/// Inputs of a run, and its receiver.
struct Run<'a> {
    decoder: &'a Decoder,
    prompts: &'a [Prompt],
    branches: &'a [Branch],
    options: Options,
    receiver: &'a mut dyn Receiver,
}

impl Job for Run<'_> {
    type Output = ();

    fn run<M: Machine>(self, machine: &mut M) -> Result<Self::Output, EngineError> {
        let Self { decoder, prompts, branches, options, receiver } = self;
        let options = Options { memory: machine.memory(options) };
        let limits = machine.limits(branches, plan::longest(prompts));
        let chunks = plan::chunks(prompts, branches, limits, options)?;
        let means = GroupMeans::compute(machine, decoder, prompts, branches, options)?;
        let n_layers = decoder.spec().n_layers;
        let mut driver = Driver::new(machine, n_layers, branches, means.as_ref(), (limits, options), &chunks);
        chunks.iter().try_for_each(|chunk| driver.run_chunk(prompts, chunk, receiver))
    }
}

/// Logits of every prompt's [`Prompt::read`] tokens in every run, kept in memory.
#[derive(Debug, Clone, PartialEq)]
pub struct Readings {
    offsets: Vec<usize>,     // [n_prompts + 1]
    plain: Vec<f64>,         // [sum of read lengths]
    branches: Vec<Vec<f64>>, // [n_branches][sum of read lengths]
}

impl Readings {
    /// Runs everything and keeps all readings; see [`run`].
    ///
    /// # Errors
    /// As [`run`].
    pub fn collect(
        decoder: &Decoder,
        prompts: &[Prompt],
        branches: &[Branch],
        options: Options,
    ) -> Result<Self, EngineError> {
        let mut offsets = vec![0];
        offsets.extend(prompts.iter().scan(0, |sum, p| {
            *sum += p.read.len();
            Some(*sum)
        }));
        let total = offsets[prompts.len()];
        let mut readings = Self {
            offsets,
            plain: vec![f64::NAN; total],
            branches: vec![vec![f64::NAN; total]; branches.len()],
        };
        run(decoder, prompts, branches, options, &mut readings)?;
        Ok(readings)
    }

    /// Logits of the plain run at a prompt.
    pub fn plain(&self, prompt: usize) -> &[f64] {
        &self.plain[self.offsets[prompt]..self.offsets[prompt + 1]]
    }

    /// Logits of a branch at a prompt.
    pub fn branch(&self, branch: usize, prompt: usize) -> &[f64] {
        &self.branches[branch][self.offsets[prompt]..self.offsets[prompt + 1]]
    }
}

impl Receiver for Readings {
    fn reading(&mut self, reading: Reading<'_>) {
        let to = match reading.branch {
            None => &mut self.plain,
            Some(b) => &mut self.branches[b],
        };
        let mut from = 0;
        for &p in reading.prompts {
            let slot = self.offsets[p]..self.offsets[p + 1];
            let n = slot.len();
            to[slot].copy_from_slice(&reading.logits[from..from + n]);
            from += n;
        }
    }
}
