//! Head roles, by scores from the literature.
//!
//! | score | definition | measured on | source |
//! |---|---|---|---|
//! | `previous_token` | attention to the previous token | repeated random tokens | Elhage et al. 2021 |
//! | `duplicate_token` | attention to the earlier occurrence of the same token | 〃 | Wang et al. 2023 |
//! | `induction` | attention to the token after that occurrence | 〃 | Olsson et al. 2022 |
//! | `name_mover` | mean attention from the last token to the answer × what the head's output adds to the logit difference on average | the task's prompts | Wang et al. 2023 |
//! | `s_inhibition` | attention from the last token to the second mention of the distractor | 〃 | 〃 |
//! | `copy_suppression` | mean attention from the last token to the distractor × what the head's output adds on average | 〃 | McDougall et al. 2023 |
//!
//! The first three are shares of attention, averaged over the queries that have such a key: TransformerLens's `head_detector`, restricted to the
//! queries that its detection pattern marks. Scores with an effect are in logits: the contribution of an output is minus the [direct
//! effect](crate::direct). A head plays a role if its score reaches a threshold ([`HeadRole::threshold`]) and its interval excludes 0; name
//! movers attend more to the answer than to the distractor, copy suppressors more to the distractor, and S-inhibition heads help through later
//! layers.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::files::{read_json, write_json};
use crate::origin::Origin;
use crate::ranged::Ranged;
use crate::stats::Seed;
use crate::stats::bootstrap::{BootstrapOptions, bootstrap_means};
use crate::stats::correlation_bootstrap::Measured;
use crate::stats::functions::{Coverage, bootstrap_functions};

/// The share of attention from which a head counts as attending to something.
pub const ATTENDS: f64 = 0.4;
/// The task name used for scores that do not depend on a task.
pub const REPEATED_TOKENS: &str = "repeated_tokens";

/// A role of heads known from the literature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HeadRole {
    /// Attends to the previous token.
    PreviousToken,
    /// Attends to the earlier occurrence of the same token.
    DuplicateToken,
    /// Attends to the token after that occurrence.
    Induction,
    /// Attends to the answer and raises its logit.
    NameMover,
    /// Attends to the answer and lowers its logit.
    NegativeNameMover,
    /// Attends to the repeated name, and helps through later heads.
    SInhibition,
    /// Attends to the distractor and lowers its logit.
    CopySuppression,
}

impl HeadRole {
    /// All roles: those of repeated random tokens first.
    pub const ALL: [Self; 7] = [
        Self::PreviousToken,
        Self::DuplicateToken,
        Self::Induction,
        Self::NameMover,
        Self::NegativeNameMover,
        Self::SInhibition,
        Self::CopySuppression,
    ];

    /// Name in files.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::PreviousToken => "previous_token",
            Self::DuplicateToken => "duplicate_token",
            Self::Induction => "induction",
            Self::NameMover => "name_mover",
            Self::NegativeNameMover => "negative_name_mover",
            Self::SInhibition => "s_inhibition",
            Self::CopySuppression => "copy_suppression",
        }
    }

    /// In words.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::PreviousToken => "previous token",
            Self::DuplicateToken => "duplicate token",
            Self::Induction => "induction",
            Self::NameMover => "name mover",
            Self::NegativeNameMover => "negative name mover",
            Self::SInhibition => "S-inhibition",
            Self::CopySuppression => "copy suppression",
        }
    }

    /// Whether its score is measured on repeated random tokens, and so is the same for every task.
    #[must_use]
    pub fn is_of_repeated_tokens(self) -> bool {
        matches!(self, Self::PreviousToken | Self::DuplicateToken | Self::Induction)
    }

    /// Whether its score is a share of attention rather than an effect in logits.
    #[must_use]
    pub fn is_share(self) -> bool {
        self.is_of_repeated_tokens() || self == Self::SInhibition
    }

    /// Its minimum score: a share of [`ATTENDS`], or an effect of `tau` logits.
    #[must_use]
    pub fn threshold(self, tau: f64) -> f64 {
        if self.is_share() { ATTENDS } else { tau }
    }
}

/// One head's task-independent scores.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PatternScores {
    /// Block, from 0.
    pub layer: u32,
    /// Head within its block, from 0.
    pub head: u32,
    /// See the module documentation.
    pub previous_token: Ranged,
    /// See the module documentation.
    pub duplicate_token: Ranged,
    /// See the module documentation.
    pub induction: Ranged,
}

/// One head's scores on a task; missing if the prompts lack the required mentions, or the model has no direct
/// effects.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskScores {
    /// Block, from 0.
    pub layer: u32,
    /// Head within its block, from 0.
    pub head: u32,
    /// See the module documentation.
    pub name_mover: Ranged,
    /// See the module documentation.
    pub s_inhibition: Ranged,
    /// See the module documentation.
    pub copy_suppression: Ranged,
    /// Compensation: the effect of its ablation through later layers, Δ − direct effect, in logits.
    pub indirect: Ranged,
    /// Mean attention from the last token to the answer, and to the distractor.
    pub attention: [f64; 2],
}

/// All heads' scores on one task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskRoles {
    /// The task's name.
    pub task: String,
    /// Number of prompts drawn, including weights.
    pub n_prompts: u64,
    /// Every head, ordered by layer and head.
    pub heads: Vec<TaskScores>,
}

/// `results/attention/roles_<model>.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RolesFile {
    /// What was measured, and by which program.
    pub origin: Origin,
    /// Sequences of repeated random tokens.
    pub n_sequences: usize,
    /// Number of random tokens in each, before repetition.
    pub n_random_tokens: usize,
    /// Task-independent scores of every head, in order; empty if the model's context is too short to repeat tokens.
    pub heads: Vec<PatternScores>,
    /// Scores on each task.
    pub tasks: Vec<TaskRoles>,
    /// Explanation of the numbers.
    pub note: String,
}

impl RolesFile {
    /// The results of one model.
    #[must_use]
    pub fn new(
        origin: Origin,
        (n_sequences, n_random_tokens): (usize, usize),
        heads: Vec<PatternScores>,
        tasks: Vec<TaskRoles>,
    ) -> Self {
        let note = format!(
            "previous_token, duplicate_token and induction: mean attention to that token on repeated sequences of random tokens, over the \
         queries that have one; s_inhibition: attention from the last token to the second mention of the distractor; name_mover and \
             copy_suppression: attention from the last token to the answer, or to the distractor, times the direct contribution of the head's output to the logit \
         difference; indirect: Δ minus the direct effect; over the {} prompts, with 95% intervals over prompts or sequences",
            origin.split
        );
        Self { origin, n_sequences, n_random_tokens, heads, tasks, note }
    }

    /// Writes the file, atomically.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        write_json(path, self)
    }

    /// Reads what [`Self::write`] wrote.
    ///
    /// # Errors
    /// When the file cannot be read or holds something else.
    pub fn read(path: &Path) -> Result<Self> {
        read_json(path, "delete the file and run circuit-scaling attend again")
    }

    /// Every head's score for a role: on `task`, or on repeated tokens for roles that need no task.
    #[must_use]
    pub fn scores(&self, role: HeadRole, task: &str) -> Vec<RoleScore> {
        let of_task = || self.tasks.iter().filter(|t| t.task == task).flat_map(|t| &t.heads);
        let pattern = |of: fn(&PatternScores) -> Ranged| {
            let score =
                |h: &PatternScores| RoleScore { head: (h.layer, h.head), score: of(h), also: Also::Nothing };
            self.heads.iter().map(score).collect()
        };
        let on_task = |of: fn(&TaskScores) -> Ranged, also: fn(&TaskScores) -> Also| {
            of_task().map(|h| RoleScore { head: (h.layer, h.head), score: of(h), also: also(h) }).collect()
        };
        let to_answer = |h: &TaskScores| Also::Attention(h.attention);
        let to_distractor = |h: &TaskScores| Also::Attention([h.attention[1], h.attention[0]]);
        match role {
            HeadRole::PreviousToken => pattern(|h| h.previous_token),
            HeadRole::DuplicateToken => pattern(|h| h.duplicate_token),
            HeadRole::Induction => pattern(|h| h.induction),
            HeadRole::NameMover => on_task(|h| h.name_mover, to_answer),
            HeadRole::NegativeNameMover => on_task(|h| negated(h.name_mover), to_answer),
            HeadRole::SInhibition => on_task(|h| h.s_inhibition, |h| Also::Indirect(h.indirect)),
            HeadRole::CopySuppression => on_task(|h| h.copy_suppression, to_distractor),
        }
    }
}

fn negated(score: Ranged) -> Ranged {
    let minus = |x: Option<f64>| x.map(|x| -x);
    Ranged { value: minus(score.value), low: minus(score.high), high: minus(score.low) }
}

/// A role's requirement in addition to the score.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Also {
    Nothing,
    /// A helping effect through later layers.
    Indirect(Ranged),
    /// More attention to its own token than to the other.
    Attention([f64; 2]),
}

/// One head's score for a role.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RoleScore {
    /// Layer and head.
    pub head: (u32, u32),
    /// The score; larger means a stronger role.
    pub score: Ranged,
    also: Also,
}

impl RoleScore {
    /// Whether the head plays the role.
    #[must_use]
    pub fn plays(&self, role: HeadRole, tau: f64) -> bool {
        let reaches = |score: Ranged, threshold: f64| {
            score.value.is_some_and(|value| value >= threshold) && score.low.is_some_and(|low| low > 0.0)
        };
        let also = match self.also {
            Also::Nothing => true,
            Also::Indirect(indirect) => reaches(negated(indirect), tau),
            Also::Attention([own, other]) => own > other,
        };
        also && reaches(self.score, role.threshold(tau))
    }
}

/// Resamples of prompts or sequences, and coverage of the intervals.
const COVERAGE: Coverage = Coverage { n_resamples: 2_000, level: 0.95 };

/// Means of every head's score over prompts or sequences, with intervals over them: `series` `[n_heads]` of `[n]`, `weights` `[n]`. All
/// missing if there is nothing to average.
#[must_use]
pub fn ranged_means(series: &[Vec<f64>], weights: &[u32], seed: &Seed) -> Vec<Ranged> {
    if weights.is_empty() {
        return vec![Ranged::default(); series.len()];
    }
    let Coverage { n_resamples, level } = COVERAGE;
    let options = BootstrapOptions { n_resamples, level, thresholds: Vec::new() };
    let ranged = |mean: crate::stats::bootstrap::BootstrapMean| Ranged {
        value: Some(mean.mean),
        low: mean.interval.map(|i| i.low),
        high: mean.interval.map(|i| i.high),
    };
    bootstrap_means(series, weights, &options, seed).into_iter().map(ranged).collect()
}

/// For every head the product of its means of `a` and of `b` over prompts, with intervals over them: both `[n_heads]` of `[n]`, `weights` `[n]`. A
/// product of means, not a mean of products: a head whose contribution follows its attention, to the answer on some prompts and to the distractor on
/// others, adds nothing on average.
#[must_use]
pub fn ranged_products(a: &[Vec<f64>], b: &[Vec<f64>], weights: &[u32], seed: &Seed) -> Vec<Ranged> {
    if weights.is_empty() {
        return vec![Ranged::default(); a.len()];
    }
    let series = [a, b].concat();
    let products = |means: &[f64], out: &mut [f64]| {
        let (a, b) = means.split_at(out.len());
        out.iter_mut().zip(a.iter().zip(b)).for_each(|(out, (a, b))| *out = a * b);
    };
    let sample = Measured { series: &series, weights };
    bootstrap_functions(&[(sample, *seed)], COVERAGE, a.len(), products)
        .into_iter()
        .map(Ranged::from)
        .collect()
}
