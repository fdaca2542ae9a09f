//! Inputs of a run, and the trait that receives its results.

use std::ops::ControlFlow;

#[cfg(doc)]
use crate::error::EngineError;
#[cfg(doc)]
use crate::intervention::Replacement;

/// One prompt, with its source, its references and the tokens to read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Prompt {
    /// Token ids, BOS included.
    pub tokens: Vec<u32>,
    /// The prompt whose plain run [`Replacement::Source`] takes values from, with the same number of tokens.
    pub source: Option<Vec<u32>>,
    /// References of the prompts of one group are averaged together for [`Replacement::GroupMean`]; all prompts of a group
    /// have the same length.
    pub group: u32,
    /// The prompts that it contributes to its group's mean, each of the same length; `None`: the prompt
    /// itself.
    pub references: Option<Vec<Vec<u32>>>,
    /// How often each of its references counts in the group's mean.
    pub weight: f64,
    /// Tokens whose logits are read at the prompt's last token.
    pub read: Vec<u32>,
}

impl Prompt {
    /// The prompts that it contributes to its group's mean.
    pub(crate) fn references(&self) -> &[Vec<u32>] {
        self.references.as_deref().unwrap_or(std::slice::from_ref(&self.tokens))
    }
}

/// Resource limits of the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Bytes for activations, not counting the weights. The default is 1 GiB.
    pub memory: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { memory: 1 << 30 }
    }
}

/// Logits of one run (plain or branch) for one chunk of the prompts.
#[derive(Debug)]
pub struct Reading<'a> {
    /// Index of the branch; `None` for the plain run.
    pub branch: Option<usize>,
    /// Indices of the prompts read.
    pub prompts: &'a [usize],
    /// For each of `prompts`, in that order, one logit per token of its [`Prompt::read`], concatenated.
    pub logits: &'a [f64],
}

/// Work done so far, in units of one branch × one chunk × one layer (weighted by nodes).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Progress {
    /// Branch-layer-nodes done.
    pub done: u64,
    /// Total branch-layer-nodes.
    pub total: u64,
}

/// Receives the results of a run.
pub trait Receiver {
    /// Takes one run's logits for one chunk of prompts. The order of calls is unspecified.
    fn reading(&mut self, reading: Reading<'_>);

    /// Called at every layer of a stack of branches, and after the last; returning `Break` ends the run with
    /// [`EngineError::Stopped`].
    fn progress(&mut self, _progress: Progress) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }

    /// Whether the logits of this branch are already known for these prompts, so that the work can be skipped.
    fn is_known(&self, _branch: usize, _prompts: &[usize]) -> bool {
        false
    }
}
