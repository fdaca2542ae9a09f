//! Reference prompts: the source of the values with which mean and resample ablation replace a prompt's own activations.

use cs_analysis::words::counted;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{PromptError, Split, TokenizedPrompt, TokenizedPrompts};

/// Generic advice for prompts that cannot be ablated as requested; [`crate::references`] finds what actually
/// helps.
const FIX: &str = "use another --reference, --protocol standard or --ablation zero";

/// The prompts from which mean and resample ablation take values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reference {
    /// Prompts of the same template and fillers with three different names, so that none is repeated
    /// ([Wang et al. 2022](https://arxiv.org/abs/2211.00593), "p_ABC").
    #[default]
    Abc,
    /// Prompts of the task itself: for a mean, the other prompts of the group; for resampling, the same template, fillers
    /// and order with two other names.
    Same,
}

impl Reference {
    /// Name on the command line and in files.
    pub fn as_str(self) -> &'static str {
        match self {
            Reference::Abc => "abc",
            Reference::Same => "same",
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Reference {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Abc, Self::Same]
            .into_iter()
            .find(|reference| reference.as_str() == text)
            .ok_or_else(|| format!("unknown reference prompts `{text}`: use abc or same"))
    }
}

/// Why a prompt of names has no reference prompt.
const NO_NAMES: &str = "no other names give as many tokens";

impl TokenizedPrompts {
    /// Groups of prompts of a split that share a mean, as indices into [`Self::prompts`]; see
    /// [`TokenizedPrompt::mean_group`].
    pub fn mean_groups(&self, split: Split) -> Vec<Vec<usize>> {
        let mut groups: BTreeMap<(Split, &str, usize), Vec<usize>> = BTreeMap::new();
        for (i, prompt) in self.of_split(split) {
            groups.entry(prompt.mean_group()).or_default().push(i);
        }
        groups.into_values().collect()
    }

    /// Checks that every group of a split has something to average, in addition to the prompt itself under
    /// [`Reference::Same`].
    ///
    /// # Errors
    /// [`PromptError::NothingToAverage`] and, under `published` only, [`PromptError::NoReference`];
    /// [`check_references`](crate::references::check_references) says more.
    pub fn require_means(&self, split: Split, reference: Reference) -> Result<(), PromptError> {
        let is_empty = |group: &Vec<usize>| match reference {
            Reference::Abc => group.iter().all(|&i| self.prompts[i].references.is_empty()),
            // Other draws of the same text would put the prompt itself back.
            Reference::Same => group.len() < 2,
        };
        let mut groups = self.mean_groups(split);
        let n_groups = groups.len();
        groups.retain(is_empty);
        let Some(example) = groups.first().map(|group| &self.prompts[group[0]]) else { return Ok(()) };
        let (task, model) = (self.task.clone(), self.model.clone());
        Err(match reference {
            Reference::Abc => {
                let missing = groups.iter().map(Vec::len).sum();
                let (prompts, example) = (self.of_split(split).count(), example.text.clone());
                let (reason, fix) = if self.from_file {
                    ("no `corrupted` is as long", "use another --reference or --ablation zero")
                } else {
                    (NO_NAMES, FIX)
                };
                PromptError::NoReference {
                    task,
                    model,
                    missing,
                    prompts,
                    example: example.into(),
                    reason,
                    fix: fix.into(),
                }
            }
            Reference::Same => PromptError::NothingToAverage {
                task,
                model,
                alone: format!(
                    "{} of {}, such as the one {} prompt of {} of template {:?}",
                    groups.len(),
                    counted(n_groups, "group of prompts", "groups of prompts"),
                    example.split,
                    counted(example.token_ids.len(), "token", "tokens"),
                    example.template
                )
                .into(),
                prompts: self.n_drawn(Split::All),
                fix: match self.from_file {
                    true => "merge groups of the file, or use --ablation zero".into(),
                    false => format!("ask for more prompts (--prompts), or {FIX}").into(),
                },
            },
        })
    }

    /// Checks that every prompt of a split can be resampled.
    ///
    /// # Errors
    /// [`PromptError::NoReference`]; only under `published`, where a name of several tokens may have no
    /// replacement.
    pub fn require_resample(&self, split: Split, reference: Reference) -> Result<(), PromptError> {
        let cannot = |prompt: &&TokenizedPrompt| prompt.resampled(reference).is_none();
        let missing: Vec<_> = self.of_split(split).map(|(_, prompt)| prompt).filter(cannot).collect();
        match missing.first() {
            None => Ok(()),
            Some(example) => Err(PromptError::NoReference {
                task: self.task.clone(),
                model: self.model.clone(),
                missing: missing.len(),
                prompts: self.of_split(split).count(),
                example: example.text.as_str().into(),
                reason: match (self.from_file, reference) {
                    (false, _) => NO_NAMES,
                    (true, Reference::Abc) => "no `corrupted` is as long",
                    (true, Reference::Same) => "no other prompt of its group and split is as long",
                },
                fix: match self.from_file {
                    false => FIX.into(),
                    true => "give each row a `corrupted` of as many tokens, or use --ablation zero".into(),
                },
            }),
        }
    }
}

impl TokenizedPrompt {
    /// The group over which mean ablation averages: prompts of the same split, template and token length
    /// (including BOS).
    pub fn mean_group(&self) -> (Split, &str, usize) {
        (self.split, &self.template, self.token_ids.len())
    }

    /// The tokens from which resample ablation takes values, as many as the prompt's own.
    pub fn resampled(&self, reference: Reference) -> Option<&[u32]> {
        match reference {
            Reference::Abc => self.references.first().map(|reference| &reference.token_ids[..]),
            Reference::Same => self.resample_token_ids.as_deref(),
        }
    }
}
