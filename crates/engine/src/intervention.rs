//! The interventions of a branch: its differences from the plain run.
//!
//! Every experiment replaces one stream of a head by something else, at some layers and heads, at all positions: a
//! *zero*, *mean* or *resample ablation* replaces `z`; causal tracing replaces `v` (or `q`, `k`, `z`, `pattern`) by
//! its value in another run; ablating a set of heads does this for many heads at once. A [`Branch`] is one such
//! list of replacements, and one forward pass of the [engine](crate) computes many branches.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A head's activation that can be replaced. Names are TransformerLens's (`hook_q`, …).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stream {
    /// Queries `[position, d_head]`, bias included; after rotation if positions are rotary.
    Q,
    /// Keys `[position, d_head]`, likewise.
    K,
    /// Values `[position, d_head]`, bias included.
    V,
    /// Attention probabilities `[query position, key position]`.
    Pattern,
    /// The pattern-weighted mean of values `[position, d_head]`: the input of `W_O`.
    Z,
}

impl Stream {
    /// All streams.
    pub const ALL: [Self; 5] = [Self::V, Self::Z, Self::Q, Self::K, Self::Pattern];

    /// Name on the command line and in files.
    pub fn as_str(self) -> &'static str {
        match self {
            Stream::Q => "q",
            Stream::K => "k",
            Stream::V => "v",
            Stream::Pattern => "pattern",
            Stream::Z => "z",
        }
    }
}

impl fmt::Display for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Stream {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|stream| stream.as_str() == text)
            .ok_or_else(|| format!("unknown stream `{text}`: use v, z, q, k or pattern"))
    }
}

/// What a stream is replaced by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Replacement {
    /// Zeros: on `z`, the same as zeroing a head's slice of the output projection's input.
    Zero,
    /// `c_h = b_V + β W_V`, the input-independent part of the head's value (`β`: the bias of the norm that feeds
    /// attention; `b_V` alone in post-norm blocks). On `z`, the same as zeroing after value biases are folded into
    /// the output bias. Only for [`Stream::V`] and [`Stream::Z`].
    ValueBias,
    /// The mean of `z` over the [references](field@crate::Prompt::references) of the prompts of the same
    /// [group](crate::Prompt::group), position by position. Only for [`Stream::Z`].
    GroupMean,
    /// The mean of `z` over the other draws of the prompts of the same group, position by position: `(W · mean − z) / (W −
    /// 1)`, with `W` the group's number of draws and `z` the prompt's own. Only for [`Stream::Z`], and for prompts that
    /// are their own references.
    OthersMean,
    /// The stream's value in the plain run of the prompt's [source](crate::Prompt::source).
    Source,
}

/// One replacement at one head.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Edit {
    /// Layer, from 0.
    pub layer: usize,
    /// Head within the layer, from 0.
    pub head: usize,
    /// The edited activation.
    pub stream: Stream,
    /// Its replacement.
    pub replacement: Replacement,
}

/// A set of edits that are applied together.
///
/// Edits are sorted by layer, head and stream, so that the order in which heads are given does not change a byte of
/// the result.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Branch {
    edits: Vec<Edit>,
}

impl Branch {
    /// A branch with these edits; duplicates are removed.
    pub fn new(edits: impl IntoIterator<Item = Edit>) -> Self {
        let mut edits: Vec<Edit> = edits.into_iter().collect();
        edits.sort_unstable();
        edits.dedup();
        Self { edits }
    }

    /// The same replacement of `z` at each of `heads`, given as (layer, head).
    pub fn ablate(heads: impl IntoIterator<Item = (usize, usize)>, replacement: Replacement) -> Self {
        Self::patch(heads, Stream::Z, replacement)
    }

    /// The same replacement of one stream at each of `heads`, given as (layer, head).
    pub fn patch(
        heads: impl IntoIterator<Item = (usize, usize)>,
        stream: Stream,
        replacement: Replacement,
    ) -> Self {
        Self::new(heads.into_iter().map(|(layer, head)| Edit { layer, head, stream, replacement }))
    }

    /// All edits, in order.
    pub fn edits(&self) -> &[Edit] {
        &self.edits
    }

    /// Edits at one layer, in order of head and stream.
    pub fn at_layer(&self, layer: usize) -> &[Edit] {
        let from = self.edits.partition_point(|e| e.layer < layer);
        let to = self.edits.partition_point(|e| e.layer <= layer);
        &self.edits[from..to]
    }

    /// The first layer that differs from the plain run; `None` if nothing is edited.
    pub fn first_layer(&self) -> Option<usize> {
        self.edits.first().map(|e| e.layer)
    }

    /// Whether any edit uses this replacement.
    pub fn uses(&self, replacement: Replacement) -> bool {
        self.edits.iter().any(|e| e.replacement == replacement)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_and_repetition_of_heads_do_not_matter() {
        let a = Branch::ablate([(3, 1), (0, 2), (3, 0)], Replacement::Zero);
        let b = Branch::ablate([(0, 2), (3, 0), (3, 1), (3, 0)], Replacement::Zero);
        assert_eq!(a, b);
        assert_eq!(a.first_layer(), Some(0));
        assert_eq!(a.at_layer(3).len(), 2);
        assert!(a.at_layer(1).is_empty());
    }
}
