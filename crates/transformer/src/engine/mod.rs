//! The exact intervened forward pass.
//!
//! One call runs a batch of [prompts](Prompt) plainly and once more for every [`Branch`], and reads logits of chosen
//! tokens at each prompt's last token. Results are those of a separate full forward pass per prompt and branch, up to
//! float32 rounding, but only work that a branch really changes is done:
//!
//! 1. prompts become a prefix [`Forest`], so what they share is computed once;
//! 2. a branch starts at its first edited layer, from the plain run's state there (`resid_mid − (z_h − c_h) W_O^h`
//!    in a sequential block, `resid_post − …` in a parallel one);
//! 3. in the last layer only the prompts' last tokens are carried on, and only the logits asked for are computed;
//! 4. branches that start at the same layer are stacked into one tall matrix.
//!
//! Prompts are cut into chunks and branches into stacks so that the [memory](Options::memory) bound holds. Neither
//! cut, nor the number of threads, changes a bit of the result: every row of every kernel depends on that row alone.
//!
//! ```text
//! prompts ──sort──► chunks ──► Forest ──► Baseline, layer by layer ──┬─► Stack of branches from layer l ─► readings
//!                              (plan)     (baseline)                 └─► next layer        (branches, layer)
//! ```

mod baseline;
mod branches;
mod capture;
mod cost;
mod edits;
mod last_attention;
mod layer;
mod means;
mod plan;
mod readout;
mod tree;

use std::ops::ControlFlow;

pub use capture::{Cache, CaptureError, LayerCache};
pub use cost::{Cost, Rates, cost};
pub use last_attention::{LastAttention, last_attention};

use crate::decoder::Decoder;
use crate::forest::ForestError;
use crate::intervention::{Branch, Replacement, Stream};
use branches::Runner;
use means::GroupMeans;

#[cfg(doc)]
use crate::forest::Forest;

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
    fn references(&self) -> &[Vec<u32>] {
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

/// Why a run is impossible.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// See [`ForestError`].
    #[error(transparent)]
    Forest(#[from] ForestError),
    /// No prompts, no result.
    #[error("no prompts were given: give at least one")]
    NoPrompts,
    /// The model cannot read prompts this long.
    #[error("prompt {index} has {len} tokens, but the model reads at most {n_ctx}: shorten it")]
    TooLong {
        /// Which prompt.
        index: usize,
        /// Its tokens.
        len: usize,
        /// The model's limit.
        n_ctx: usize,
    },
    /// A token the model has no embedding for.
    #[error(
        "prompt {index} has token id {token}, but the model's vocabulary has {d_vocab} entries: use its own tokenizer"
    )]
    UnknownToken {
        /// Which prompt.
        index: usize,
        /// The id.
        token: u32,
        /// Rows of the embedding.
        d_vocab: usize,
    },
    /// Values can only be taken from a prompt of the same length.
    #[error("prompt {index} has {len} tokens but its source has {source_len}: patching needs equal lengths")]
    SourceLength {
        /// Which prompt.
        index: usize,
        /// Its tokens.
        len: usize,
        /// The source's tokens.
        source_len: usize,
    },
    /// A branch takes values from a source that a prompt lacks.
    #[error("a branch takes values from prompts' sources, but prompt {index} has none")]
    NoSource {
        /// Which prompt.
        index: usize,
    },
    /// Means are position by position.
    #[error("group {group} holds prompts of {a} and of {b} tokens: prompts of a group must be equally long")]
    GroupLength {
        /// Which group.
        group: u32,
        /// One length.
        a: usize,
        /// Another.
        b: usize,
    },
    /// A reference is averaged position by position too.
    #[error(
        "prompt {index} has {len} tokens but a reference of it has {reference_len}: means need equal lengths"
    )]
    ReferenceLength {
        /// Which prompt.
        index: usize,
        /// Its tokens.
        len: usize,
        /// The reference's tokens.
        reference_len: usize,
    },
    /// A weight that counts no draws.
    #[error(
        "prompt {index} counts {weight} times in its group's mean: give 0 or more, and 1 or more where one draw is left out"
    )]
    Weight {
        /// Which prompt.
        index: usize,
        /// Its weight.
        weight: f64,
    },
    /// A mean over nothing.
    #[error(
        "group {group} has nothing to average beside what is left out: give it more prompts or references"
    )]
    NothingToAverage {
        /// Which group.
        group: u32,
    },
    /// One draw can be left out only of a mean that has it.
    #[error(
        "a branch leaves prompts out of their own means, but prompt {index} has references of its own: give it none"
    )]
    NotItsOwnReference {
        /// Which prompt.
        index: usize,
    },
    /// No such head.
    #[error("branch {branch} edits L{layer}H{head}, but the model has {n_layers} layers of {n_heads} heads")]
    NoSuchHead {
        /// Which branch.
        branch: usize,
        /// Its layer.
        layer: usize,
        /// Its head.
        head: usize,
        /// Layers of the model.
        n_layers: usize,
        /// Heads per layer.
        n_heads: usize,
    },
    /// A replacement that has no meaning for that stream, or two for one stream.
    #[error("branch {branch} cannot replace {stream:?} of L{layer}H{head} by {replacement:?}: {why}")]
    BadEdit {
        /// Which branch.
        branch: usize,
        /// Its layer.
        layer: usize,
        /// Its head.
        head: usize,
        /// The stream.
        stream: Stream,
        /// The replacement.
        replacement: Replacement,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The memory bound is below what a single prompt needs.
    #[error(
        "{need} bytes of working memory are needed for the longest prompt, but only {memory} are allowed: raise the memory limit"
    )]
    Memory {
        /// Bytes needed.
        need: usize,
        /// Bytes allowed.
        memory: usize,
    },
    /// The receiver of results asked to stop.
    #[error("stopped")]
    Stopped,
}

/// Where results go.
pub trait Receiver {
    /// Takes one run's logits for one chunk of prompts. Calls come in no promised order.
    fn reading(&mut self, reading: Reading<'_>);

    /// Called after every stack of branches; breaking ends the run with [`EngineError::Stopped`].
    fn progress(&mut self, _progress: Progress) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }

    /// Whether the logits of this branch are already known for these prompts, so that the work can be left out.
    fn is_known(&self, _branch: usize, _prompts: &[usize]) -> bool {
        false
    }
}

/// Runs `prompts` plainly and once for every branch, and hands logits to `receiver`.
///
/// A branch without edits is run too, and gives exactly the plain run's logits.
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
    let chunks = plan::chunks(decoder.spec(), prompts, branches, options)?;
    let means = GroupMeans::compute(decoder, prompts, branches, options)?;
    let mut runner = Runner::new(decoder, branches, means.as_ref(), options, &chunks);
    for chunk in &chunks {
        runner.run_chunk(prompts, chunk, receiver)?;
    }
    Ok(())
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
