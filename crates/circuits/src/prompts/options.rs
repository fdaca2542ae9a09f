//! Options for drawing prompts.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{PromptError, Split};
use crate::task::Task;

/// Default number of prompts per task under `standard`, over both splits.
///
/// 240 per split are 12 for each template and order of `ioi` (10 templates × 2) and 15 of `anti_repeat` (8 × 2), so
/// both tasks are exactly balanced; and the held-out split has more than the 200 pairs recommended for tracing.
pub const DEFAULT_PROMPTS: usize = 480;

/// Reference prompts are drawn until each template has this many in each split, or one per prompt if that is more;
/// [`DEFAULT_PROMPTS`] gives this many for `ioi`. So there are enough references for a mean even with few prompts.
pub const REFERENCES_PER_TEMPLATE: usize = 24;

/// Maximum number of prompts per task.
pub const MAX_PROMPTS: usize = 1_000_000;

/// How prompts are generated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// The task's templates, balanced; the one-token rule; two splits.
    #[default]
    Standard,
    /// The published study's single template; names of any number of tokens; one split.
    Published,
}

impl Protocol {
    /// The template id of prompts of the published form.
    pub const PUBLISHED_TEMPLATE: &'static str = "published";

    /// Name on the command line and in files.
    pub fn as_str(self) -> &'static str {
        match self {
            Protocol::Standard => "standard",
            Protocol::Published => "published",
        }
    }

    /// The split used to scan and select heads.
    pub fn discovery_split(self) -> Split {
        match self {
            Protocol::Standard => Split::Discovery,
            Protocol::Published => Split::All,
        }
    }

    /// The split used to evaluate selected heads. `published` has one split for both.
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
    /// Pairs of names: held-out prompts have the same templates with other pairs of names.
    #[default]
    Pairs,
    /// Templates as well: held-out prompts have other templates and other pairs of names.
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

/// Options that determine the drawn prompts, in addition to the task and the tokenizers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PromptOptions {
    /// How prompts are generated.
    pub protocol: Protocol,
    /// Seed of every draw.
    pub seed: u64,
    /// Number of prompts over all splits; by default [`DEFAULT_PROMPTS`], or the published number. For a file of prompts, the
    /// maximum number of distinct prompts; by default all.
    pub n_prompts: Option<usize>,
    /// What only held-out prompts have.
    pub hold_out: HoldOut,
    /// Minimum number of usable names, overriding the task's `names.min_usable`.
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

    /// The number of prompts to draw: from the options, or the protocol's `default`.
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

    /// Rejects the protocol `published` for tasks without a published form.
    pub(super) fn no_published_form(&self, task: &str) -> Result<(), PromptError> {
        match self.protocol {
            Protocol::Standard => Ok(()),
            Protocol::Published => {
                Err(PromptError::NotPublished { task: task.to_owned(), can_have_one: false })
            }
        }
    }
}
