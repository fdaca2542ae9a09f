//! Tasks of names: which of two people comes next.
//!
//! Templates name two people and then one of them again: `{first}` and `{second}` are the mentions in order, `{repeated}` is
//! one of the two.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Pattern;

/// Default minimum number of usable names under the protocol `standard`.
pub const DEFAULT_MIN_USABLE: usize = 20;

/// A task of names: its prompts name two people and then one of them again, and ask for a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NameTask {
    /// Short name; used in file names, so only lower-case letters, digits and underscores.
    pub name: String,
    /// Name for tables and figures.
    pub title: String,
    /// Which of the two mentions is repeated.
    #[serde(default)]
    pub orders: Orders,
    /// Which of the two names is the correct answer.
    #[serde(default)]
    pub correct: CorrectRule,
    /// The names of the task.
    pub names: Names,
    /// Lists of words for the templates' other placeholders.
    #[serde(default)]
    pub fillers: BTreeMap<String, Vec<String>>,
    /// The forms of a prompt under the protocol `standard`.
    pub templates: Vec<Template>,
    /// The form of a prompt under the protocol `published`, if a published study has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published: Option<Published>,
}

/// Which of the two mentions is repeated by `{repeated}`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Orders {
    /// Each equally often.
    #[default]
    Both,
    /// Always the first.
    First,
    /// Always the second.
    Second,
}

/// The mention that a prompt repeats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// `{repeated}` is `{first}`.
    First,
    /// `{repeated}` is `{second}`.
    Second,
}

impl Orders {
    /// The orders to balance over.
    pub fn as_slice(self) -> &'static [Order] {
        match self {
            Orders::Both => &[Order::First, Order::Second],
            Orders::First => &[Order::First],
            Orders::Second => &[Order::Second],
        }
    }
}

impl Order {
    /// The repeated name and the other one.
    pub fn repeated_and_other<'a>(self, first: &'a str, second: &'a str) -> (&'a str, &'a str) {
        match self {
            Order::First => (first, second),
            Order::Second => (second, first),
        }
    }
}

/// Which of a prompt's two names is the correct answer; the distractor is the other one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CorrectRule {
    /// The name that is not repeated.
    #[default]
    Other,
    /// The name that is repeated.
    Repeated,
}

impl CorrectRule {
    /// The correct name and the distractor.
    pub fn correct_and_distractor<'a>(self, repeated: &'a str, other: &'a str) -> (&'a str, &'a str) {
        match self {
            CorrectRule::Other => (other, repeated),
            CorrectRule::Repeated => (repeated, other),
        }
    }
}

/// The names of a task. A prompt uses one from each list, or two from `pool` if that is the only list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Names {
    /// The names, or one half of them.
    pub pool: Vec<String>,
    /// The other half; shares no name with `pool`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub partner_pool: Vec<String>,
    /// Two names can share a prompt only if the sum of their indices in the lists, from 0, is a multiple of this: 1
    /// allows every pair. The other pairs remain available for a model's training corpus.
    #[serde(default = "every_pair")]
    pub pair_step: usize,
    /// Minimum number of names, over both lists, that must pass the one-token rule.
    #[serde(default = "default_min_usable")]
    pub min_usable: usize,
}

fn every_pair() -> usize {
    1
}

fn default_min_usable() -> usize {
    DEFAULT_MIN_USABLE
}

impl Names {
    /// No names, for a task without names.
    pub fn none() -> Self {
        Self { pool: Vec::new(), partner_pool: Vec::new(), pair_step: every_pair(), min_usable: 0 }
    }

    /// Every name, `pool` first.
    pub fn all(&self) -> impl Iterator<Item = &str> + Clone {
        self.pool.iter().chain(&self.partner_pool).map(String::as_str)
    }
}

/// One form of a prompt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Template {
    /// Short name that prompts and mean-ablation groups refer to.
    pub id: String,
    /// The text with its placeholders, up to the answer.
    pub text: Pattern,
}

/// The prompts of a published study: one form, names drawn with replacement, one split, no one-token rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Published {
    /// The text with its placeholders; no fillers.
    pub text: Pattern,
    /// Number of prompts in the study.
    pub n_prompts: usize,
    /// Which of the two mentions is repeated.
    #[serde(default = "first_only")]
    pub orders: Orders,
    /// The names, of any number of tokens.
    pub names: Vec<String>,
}

fn first_only() -> Orders {
    Orders::First
}
