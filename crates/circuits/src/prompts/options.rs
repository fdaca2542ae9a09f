//! What decides which prompts are drawn.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{PromptError, Split};
use crate::task::Task;

/// Prompts drawn per task under `standard`, both splits together.
///
/// 240 per split are 12 for each template and order of `ioi` (10 templates × 2) and 15 of `anti_repeat` (8 × 2), so
/// both tasks are balanced exactly; and the held-out split has more than the 200 pairs that tracing asks for.
pub const DEFAULT_PROMPTS: usize = 480;

/// Reference prompts are drawn until each template has so many in each split, or one for each prompt where that is more: as
/// many as [`DEFAULT_PROMPTS`] give `ioi`. So a mean over few prompts' references is a mean all the same.
pub const REFERENCES_PER_TEMPLATE: usize = 24;

/// Most prompts drawn per task.
pub const MAX_PROMPTS: usize = 1_000_000;

/// Where prompts come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// The task's templates, balanced; the one-token rule; two splits.
    #[default]
    Standard,
    /// The one form of the published study; names of any number of tokens; one split.
    Published,
}

impl Protocol {
    /// What prompts of the published form have as their template's id.
    pub const PUBLISHED_TEMPLATE: &'static str = "published";

    /// Name on the command line and in files.
    pub fn as_str(self) -> &'static str {
        match self {
            Protocol::Standard => "standard",
            Protocol::Published => "published",
        }
    }

    /// The split on which heads are scanned and picked.
    pub fn discovery_split(self) -> Split {
        match self {
            Protocol::Standard => Split::Discovery,
            Protocol::Published => Split::All,
        }
    }

    /// The split on which picked heads are judged. `published` has one split for both.
    pub fn held_out_split(self) -> Split {
        match self {
            Protocol::Standard => Split::HeldOut,
            Protocol::Published => Split::All,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Protocol {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Protocol::Standard, Protocol::Published]
            .into_iter()
            .find(|protocol| protocol.as_str() == text)
            .ok_or_else(|| format!("unknown protocol `{text}`: use standard or published"))
    }
}

/// What prompts of the two splits of `standard` must not share.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HoldOut {
    /// Pairs of names: held-out prompts have the same templates with other names.
    #[default]
    Pairs,
    /// Templates too: held-out prompts are other wordings of the task, with other names.
    Templates,
}

impl HoldOut {
    /// Name on the command line and in files.
    pub fn as_str(self) -> &'static str {
        match self {
            HoldOut::Pairs => "pairs",
            HoldOut::Templates => "templates",
        }
    }
}

impl fmt::Display for HoldOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for HoldOut {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [HoldOut::Pairs, HoldOut::Templates]
            .into_iter()
            .find(|hold_out| hold_out.as_str() == text)
            .ok_or_else(|| format!("`{text}` cannot be held out: use pairs or templates"))
    }
}

/// What decides which prompts are drawn, beside the task and the tokenizers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PromptOptions {
    /// Where prompts come from.
    pub protocol: Protocol,
    /// Seed of every draw.
    pub seed: u64,
    /// Prompts drawn, all splits together; by default [`DEFAULT_PROMPTS`], or the published number. Of a file of prompts, the
    /// most distinct prompts that are taken; by default all.
    pub n_prompts: Option<usize>,
    /// What only held-out prompts have.
    pub hold_out: HoldOut,
    /// Fewest usable names, in place of the task's `names.min_usable`.
    pub min_names: Option<usize>,
}

impl PromptOptions {
    /// Whether a task's templates can be divided between two splits.
    pub(super) fn check_hold_out(&self, task: &Task) -> Result<(), PromptError> {
        let name = || task.name().to_owned();
        if self.hold_out == HoldOut::Pairs {
            return Ok(());
        }
        if self.protocol == Protocol::Published {
            return Err(PromptError::NothingHeldOut { task: name() });
        }
        let n_templates = match task {
            Task::Names(task) => task.templates.len(),
            Task::Words(task) => task.templates.len(),
            Task::Rows(task) => task.rows.iter().map(|row| &row.group).collect::<BTreeSet<_>>().len(),
        };
        if n_templates < 2 {
            return Err(PromptError::TooFewTemplates { task: name() });
        }
        Ok(())
    }

    /// Prompts to draw: what the options ask for, or the protocol's `default`.
    pub(super) fn drawn(&self, task: &str, default: usize) -> Result<usize, PromptError> {
        let needed = if self.protocol == Protocol::Standard { 2 } else { 1 };
        let asked = self.n_prompts.unwrap_or(default);
        if asked < needed {
            return Err(PromptError::TooFewPrompts { task: task.to_owned(), asked, needed });
        }
        if asked > MAX_PROMPTS {
            return Err(PromptError::TooManyPrompts { task: task.to_owned(), asked, most: MAX_PROMPTS });
        }
        Ok(asked)
    }

    /// Refuses the protocol `published` for tasks that have no published form.
    pub(super) fn no_published_form(&self, task: &str) -> Result<(), PromptError> {
        match self.protocol {
            Protocol::Standard => Ok(()),
            Protocol::Published => {
                Err(PromptError::NotPublished { task: task.to_owned(), can_have_one: false })
            }
        }
    }
}
