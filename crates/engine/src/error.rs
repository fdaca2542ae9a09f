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
    /// No prompts.
    #[error("no prompts were given: give at least one")]
    NoPrompts,
    /// The model cannot read prompts this long.
    #[error("prompt {index} has {len} tokens, but the model reads at most {n_ctx}: shorten it")]
    TooLong {
        /// Index of the prompt.
        index: usize,
        /// Its number of tokens.
        len: usize,
        /// The model's limit.
        n_ctx: usize,
    },
    /// A token without an embedding.
    #[error(
        "prompt {index} has token id {token}, but the model's vocabulary has {d_vocab} entries: use its own tokenizer"
    )]
    UnknownToken {
        /// Index of the prompt.
        index: usize,
        /// Token id.
        token: u32,
        /// Size of the vocabulary.
        d_vocab: usize,
    },
    /// Values can only be taken from a prompt of the same length.
    #[error("prompt {index} has {len} tokens but its source has {source_len}: patching needs equal lengths")]
    SourceLength {
        /// Index of the prompt.
        index: usize,
        /// Its number of tokens.
        len: usize,
        /// The source's number of tokens.
        source_len: usize,
    },
    /// A branch takes values from a source, but a prompt has none.
    #[error("a branch takes values from prompts' sources, but prompt {index} has none")]
    NoSource {
        /// Index of the prompt.
        index: usize,
    },
    /// Means are taken position by position.
    #[error("group {group} holds prompts of {a} and of {b} tokens: prompts of a group must be equally long")]
    GroupLength {
        /// The group.
        group: u32,
        /// One length.
        a: usize,
        /// Another length.
        b: usize,
    },
    /// References are averaged position by position too.
    #[error(
        "prompt {index} has {len} tokens but one of its references has {reference_len}: means need equal lengths"
    )]
    ReferenceLength {
        /// Index of the prompt.
        index: usize,
        /// Its number of tokens.
        len: usize,
        /// The reference's number of tokens.
        reference_len: usize,
    },
    /// A weight that is not a number of draws.
    #[error(
        "prompt {index} counts {weight} times in its group's mean: give 0 or more, or at least 1 if one draw is left out"
    )]
    Weight {
        /// Index of the prompt.
        index: usize,
        /// Its weight.
        weight: f64,
    },
    /// A mean over no references.
    #[error("group {group} has nothing left to average: give it more prompts or references")]
    NothingToAverage {
        /// The group.
        group: u32,
    },
    /// A prompt can only be left out of a mean that includes it.
    #[error(
        "a branch leaves prompts out of their own means, but prompt {index} has separate references: give it none"
    )]
    NotItsOwnReference {
        /// Index of the prompt.
        index: usize,
    },
    /// No such head.
    #[error("branch {branch} edits L{layer}H{head}, but the model has {n_layers} layers of {n_heads} heads")]
    NoSuchHead {
        /// Index of the branch.
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
    /// A replacement that is not defined for that stream, or two for one stream.
    #[error("branch {branch} cannot replace {stream:?} of L{layer}H{head} by {replacement:?}: {why}")]
    BadEdit {
        /// Index of the branch.
        branch: usize,
        /// Its layer.
        layer: usize,
        /// Its head.
        head: usize,
        /// The stream.
        stream: Stream,
        /// The replacement.
        replacement: Replacement,
        /// The reason.
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
    /// A difference beyond the range of half precision.
    #[error(
        "a difference of activations is too large for float16 (65504): use --precision f32, or --device cpu"
    )]
    Overflow,
    /// Logits that are not finite.
    #[error("the model gives logits that are not finite: its weights or activations are beyond float32")]
    NotFinite,
    /// The model's files could not be loaded.
    #[error(transparent)]
    Load(Box<LoadError>),
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

impl From<LoadError> for EngineError {
    fn from(error: LoadError) -> Self {
        Self::Load(Box::new(error))
    }
}
