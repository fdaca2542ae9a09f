//! Tasks as data: templates, fillers and names, read from TOML.
//!
//! A task asks which of two people comes next. Its templates name two people and then one of them again:
//! `{first}` and `{second}` are the mentions in order, `{repeated}` is one of the two. The format is described in
//! `crates/circuits/tasks/README.md`; the built-in tasks are written in it and compiled in.

mod error;
mod template;
mod validate;

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::toml_error;

pub use error::TaskError;
pub use template::{Mention, Pattern, PatternError, Piece, Rendered, Role};

/// Fewest usable names that a task needs under the protocol `standard`, unless it says otherwise.
pub const DEFAULT_MIN_USABLE: usize = 20;

/// The built-in tasks: name, file, contents.
const BUILT_IN: [(&str, &str, &str); 2] = [
    ("ioi", "tasks/ioi.toml", include_str!("../../tasks/ioi.toml")),
    ("anti_repeat", "tasks/anti_repeat.toml", include_str!("../../tasks/anti_repeat.toml")),
];

/// A task: what its prompts say, and which answer is correct.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Task {
    /// Short name; part of file names, so lower-case letters, digits and underscores only.
    pub name: String,
    /// Name for tables and figures.
    pub title: String,
    /// Which of the two mentions is repeated.
    #[serde(default)]
    pub orders: Orders,
    /// Which of the two names is the correct answer.
    #[serde(default)]
    pub correct: CorrectRule,
    /// The names that may take part.
    pub names: Names,
    /// Lists of words for the templates' other placeholders.
    #[serde(default)]
    pub fillers: BTreeMap<String, Vec<String>>,
    /// The forms of a prompt under the protocol `standard`.
    pub templates: Vec<Template>,
    /// The one form of a prompt under the protocol `published`, where a published study has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published: Option<Published>,
}

/// Which of the two mentions `{repeated}` repeats.
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

/// The names of a task. A prompt takes one from each list, or two from `pool` where that is the only list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Names {
    /// The names, or one half of them.
    pub pool: Vec<String>,
    /// The other half; shares no name with `pool`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub partner_pool: Vec<String>,
    /// Two names can share a prompt only where the sum of their places in the lists, from 0, is a multiple of this: 1
    /// allows every pair. It keeps the other pairs free for a model's training corpus.
    #[serde(default = "every_pair")]
    pub pair_step: usize,
    /// Fewest names, over both lists, that must be left after the one-token rule.
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
    /// How many prompts the study drew.
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

impl Task {
    /// The task that a user names: a built-in one (`ioi`, `anti-repeat` or `anti_repeat`), or a path ending in `.toml`.
    ///
    /// # Errors
    /// [`TaskError`] for a name that is neither, and for a file that does not hold a task.
    pub fn load(name_or_path: &str) -> Result<Self, TaskError> {
        let path = Path::new(name_or_path);
        if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("toml")) {
            let file = path.display().to_string();
            let text = std::fs::read_to_string(path)
                .map_err(|source| TaskError::Read { file: file.clone(), source })?;
            return Self::from_toml(&text, &file);
        }
        let wanted = name_or_path.replace('-', "_");
        match BUILT_IN.iter().find(|(name, ..)| *name == wanted) {
            Some((_, file, text)) => Self::from_toml(text, file),
            None => {
                Err(TaskError::Unknown { name: name_or_path.to_owned(), known: Self::built_in().join(", ") })
            }
        }
    }

    /// Names of the built-in tasks.
    pub fn built_in() -> Vec<&'static str> {
        BUILT_IN.iter().map(|(name, ..)| *name).collect()
    }

    /// Reads a task from TOML; `file` is what errors call it.
    ///
    /// # Errors
    /// [`TaskError::Syntax`] and [`TaskError::Invalid`].
    pub fn from_toml(text: &str, file: &str) -> Result<Self, TaskError> {
        let task: Self = toml::from_str(text).map_err(|error| {
            let (line, message) = toml_error::describe(text, &error);
            TaskError::Syntax { file: file.to_owned(), line, message }
        })?;
        task.validate(file)?;
        Ok(task)
    }

    /// Checks everything that the types do not: placeholders, lists, names. `file` is what errors call the task.
    ///
    /// # Errors
    /// [`TaskError::Invalid`], naming the first field that is wrong.
    pub fn validate(&self, file: &str) -> Result<(), TaskError> {
        validate::task(self, file)
    }

    /// SHA-256 of the task's contents, in hex: of its fields, so that comments and layout do not count.
    pub fn hash(&self) -> String {
        let fields = serde_json::json!(self).to_string();
        Sha256::digest(fields.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
    }
}
