//! Why a run is impossible.

use cs_model::error::LoadError;

use crate::forest::ForestError;
use crate::intervention::{Replacement, Stream};

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
    /// A difference that half precision cannot hold.
    #[error(
        "a difference of activations is too large for float16 (65504): use --precision f32, or --device cpu"
    )]
    Overflow,
    /// Logits that are no numbers.
    #[error("the model gives logits that are not finite: its weights or activations are beyond float32")]
    NotFinite,
    /// The model's files.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The device failed.
    #[error("{device}: {problem}")]
    Device {
        /// Its name.
        device: String,
        /// What went wrong, and the fix.
        problem: String,
    },
    /// The receiver of results asked to stop.
    #[error("stopped")]
    Stopped,
}
