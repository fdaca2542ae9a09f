//! What a run is asked for, and how it answers.

use std::ops::ControlFlow;

#[cfg(doc)]
use crate::error::EngineError;
#[cfg(doc)]
use crate::intervention::Replacement;

/// One prompt and what is wanted of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Prompt {
    /// Token ids, BOS included.
    pub tokens: Vec<u32>,
    /// The prompt whose plain run [`Replacement::Source`] takes values from: equally many tokens.
    pub source: Option<Vec<u32>>,
    /// References of the prompts of one group are averaged together for [`Replacement::GroupMean`]; all prompts of a group
    /// have the same length.
    pub group: u32,
    /// The prompts that it brings to its group's mean, each with as many tokens; `None`: itself.
    pub references: Option<Vec<Vec<u32>>>,
    /// How often each of its references counts in the group's mean.
    pub weight: f64,
    /// Tokens whose logits are read at the prompt's last token.
    pub read: Vec<u32>,
}

impl Prompt {
    /// The prompts that it brings to its group's mean.
    pub(crate) fn references(&self) -> &[Vec<u32>] {
        self.references.as_deref().unwrap_or(std::slice::from_ref(&self.tokens))
    }
}

/// How much the engine may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Bytes for activations, beside the weights. The default is 1 GiB.
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
    /// For each of `prompts`, in that order, one logit per token of its [`Prompt::read`], end to end.
    pub logits: &'a [f64],
}

/// Work done so far, in units of one branch × one chunk × one layer (weighted by nodes).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Progress {
    /// Branch-layer-nodes done.
    pub done: u64,
    /// Branch-layer-nodes in all.
    pub total: u64,
}

/// Where results go.
pub trait Receiver {
    /// Takes one run's logits for one chunk of prompts. Calls come in no promised order.
    fn reading(&mut self, reading: Reading<'_>);

    /// Called at every layer of a stack of branches, and after it; breaking ends the run with [`EngineError::Stopped`].
    fn progress(&mut self, _progress: Progress) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }

    /// Whether the logits of this branch are already known for these prompts, so that the work can be left out.
    fn is_known(&self, _branch: usize, _prompts: &[usize]) -> bool {
        false
    }
}
