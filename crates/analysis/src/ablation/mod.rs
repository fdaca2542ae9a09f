//! Sets of hero heads ablated together, compared with random sets of the same size.
//!
//! [`plan`] picks the sets: for each [`Selection`] (the heads of a category, or all) and each k, the k strongest heads in the
//! scan on the discovery prompts, and the [pools](Pool) that random sets are drawn from. `cs_circuits::ablate` runs them, and
//! [`evaluate()`] turns the outcomes into rows, tests and areas between curves.
//!
//! **The question.** Whether a hero set moves a measure further from its value without ablation than random sets do, in
//! either direction: heads are selected by the size of their effects, regardless of sign.
//!
//! **What is run.** Hero sets are run on every held-out prompt. Random sets are many, and are needed only to show how
//! much sets differ, for which few prompts suffice: they are run on a *subsample*, balanced over templates and name
//! orders. Tests compare hero and random sets on the same subsample, so they are exact for any size of it.
//! [`run_random_sets`] runs random sets only while they can still change a decision ([`SequentialP`]).
//!
//! **Which random sets.** They are drawn from *all* heads, including the hero set's: this is the distribution of the hero
//! set if its heads were like any others. A comparison with sets of only the other heads would reject too often: of four
//! equal heads, a random one beats the other three in one case of four, with p = 1/(1 + sets) each time. The same draws
//! serve every selection. *Matched* sets have as many heads from each layer as the hero set; they are drawn for hero sets
//! that differ from sets of all heads, and show whether their layers alone account for that.
//!
//! **Multiple testing.** Sets of all heads and matched sets answer two questions and form two families of tests, both fixed
//! before anything is run; each family has its own q-values ([`two_stage`](crate::stats::two_stage)).
//!
//! **Curves.** The scan gives the sum of a set's single-head Δ for every set and every held-out prompt. It serves as a
//! control variate: the mean over the random sets that were run, on the subsample, is corrected by the difference in these
//! sums between those sets and prompts and all sets and prompts (see `curves.rs`). The effect of a set beyond the sum is its
//! **interaction**: Δ of the set − Σ Δ of its heads. It is below 0 if heads back each other up.

mod curves;
mod draws;
mod evaluate;
mod file;
mod measure;
mod sequential;
mod sets;
mod tables;

use serde::{Deserialize, Serialize};

use crate::categories::{Category, ClassifiedModel};
use crate::contrast::{Contrast, Side};
use crate::origin::Origin;
use crate::per_prompt::PerPromptScan;
use crate::ranged::Ranged;
use crate::scan_file::Split;

pub use draws::Pool;
pub use evaluate::{evaluate, task_values};
pub use file::AblationFile;
pub use sequential::{ENOUGH_BEYOND, MATCHED_LEVEL, SequentialP, run_random_sets};
pub use sets::{AblationPlan, ComparedSets, Comparison, HeadSet, plan, set_sizes};
pub use tables::{
    AREA_TABLE, SUMMARY_TABLE, TEST_TABLE, area_table, raw_table, read_summary, summary_table, test_table,
};

/// Maximum number of random sets of each kind, by default; claims should use at least this many.
pub const DEFAULT_RANDOM_SETS: usize = 200;
/// Default number of held-out prompts per task on which random sets are run.
pub const DEFAULT_RANDOM_PROMPTS: usize = 20;

/// The heads from which a hero set is selected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Selection {
    /// All heads.
    All,
    /// Heads of the category `shared`.
    Shared,
    /// Heads that work on the first task alone.
    OnlyA,
    /// Heads that work on the second task alone.
    OnlyB,
}

impl Selection {
    /// All four, in the order of the tables.
    pub const ALL: [Self; 4] = [Self::All, Self::Shared, Self::OnlyA, Self::OnlyB];

    /// The name in tables.
    #[must_use]
    pub fn name(self, contrast: &Contrast) -> String {
        self.category().map_or_else(|| ALL_HEADS.to_owned(), |category| contrast.category(category))
    }

    /// The category that heads are taken from; `None` for all of them.
    #[must_use]
    pub fn category(self) -> Option<Category> {
        match self {
            Self::All => None,
            Self::Shared => Some(Category::Shared),
            Self::OnlyA => Some(Category::OnlyA),
            Self::OnlyB => Some(Category::OnlyB),
        }
    }
}

/// Name of [`Selection::All`] in tables.
pub const ALL_HEADS: &str = "all";

/// The value of `set_type` for sets of this kind: `hero`, `random_shared`, …
pub(crate) fn set_type(selection: &str, kind: SetKind) -> String {
    if selection == ALL_HEADS { kind.name().to_owned() } else { format!("{}_{selection}", kind.name()) }
}

/// What a set is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SetKind {
    /// No head at all.
    Baseline,
    /// The strongest heads.
    Hero,
    /// The same number of heads, drawn from all.
    Random,
    /// The same number of heads from each layer as the hero set has.
    RandomMatched,
}

impl SetKind {
    /// The name in tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Baseline => "baseline",
            Self::Hero => "hero",
            Self::Random => "random",
            Self::RandomMatched => "random_matched",
        }
    }
}

/// The results of one run on each prompt of one task.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Outcome {
    /// Logit of the correct name minus the mean of the other candidates'. `[n_prompts]`
    pub mean_diff: Vec<f32>,
    /// Logit of the correct name minus the distractor's. `[n_prompts]`
    pub logit_diff: Vec<f32>,
    /// Whether the correct name has the highest logit of all candidates. `[n_prompts]`
    pub correct: Vec<bool>,
}

impl Outcome {
    /// Number of prompts.
    #[must_use]
    pub fn n_prompts(&self) -> usize {
        self.mean_diff.len()
    }

    /// All numbers in one row: mean differences, logit differences, and 1 or 0 for correct. `[3 * n_prompts]`
    pub fn numbers(&self) -> impl Iterator<Item = f32> {
        let correct = self.correct.iter().map(|&c| f32::from(u8::from(c)));
        self.mean_diff.iter().chain(&self.logit_diff).copied().chain(correct)
    }

    /// The inverse of [`Self::numbers`].
    #[must_use]
    pub fn from_numbers(numbers: &[f32]) -> Self {
        let n_prompts = numbers.len() / 3;
        Self {
            mean_diff: numbers[..n_prompts].to_vec(),
            logit_diff: numbers[n_prompts..2 * n_prompts].to_vec(),
            correct: numbers[2 * n_prompts..].iter().map(|&c| c == 1.0).collect(),
        }
    }

    /// The same on some of the prompts.
    #[must_use]
    pub fn at(&self, prompts: &[usize]) -> Self {
        Self {
            mean_diff: prompts.iter().map(|&p| self.mean_diff[p]).collect(),
            logit_diff: prompts.iter().map(|&p| self.logit_diff[p]).collect(),
            correct: prompts.iter().map(|&p| self.correct[p]).collect(),
        }
    }
}

/// Outcomes of a plan's sets on one task.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskOutcomes {
    /// The task's name.
    pub task: String,
    /// How often each prompt was drawn. `[n_prompts]`
    pub weights: Vec<u32>,
    /// Candidate names.
    pub n_candidates: usize,
    /// Without ablation.
    pub base: Outcome,
    /// With each of [`AblationPlan::sets`] ablated.
    pub sets: Vec<Outcome>,
    /// The prompts that random sets are run on.
    pub subsample: Vec<usize>,
    /// For each of [`AblationPlan::pools`], the outcomes of the first sets, as many as were run, on the
    /// subsample.
    pub random: Vec<Vec<Outcome>>,
}

impl TaskOutcomes {
    /// How often each prompt of the subsample was drawn.
    #[must_use]
    pub fn subsample_weights(&self) -> Vec<u32> {
        self.subsample.iter().map(|&p| self.weights[p]).collect()
    }
}

/// The measurements of one model.
#[derive(Debug, Clone, Copy)]
pub struct Evidence<'a> {
    /// The two tasks.
    pub contrast: &'a Contrast,
    /// The model's heads with their categories.
    pub model: &'a ClassifiedModel,
    /// The per-prompt files of both scans.
    pub scans: [&'a PerPromptScan; 2],
    /// The planned sets.
    pub plan: &'a AblationPlan,
    /// Their outcomes on each task.
    pub outcomes: [&'a TaskOutcomes; 2],
}

/// How sets were ablated and compared.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AblationSettings {
    /// `zero`, `mean` or `resample`.
    pub ablation: String,
    /// `folded` or `in-head`.
    pub value_bias: String,
    /// `abc` or `same`; none for `zero`.
    #[serde(default)]
    pub reference: Option<String>,
    /// Maximum number of random sets of each kind and size.
    pub n_random_sets: usize,
    /// Maximum number of held-out prompts per task on which random sets are run.
    pub n_random_prompts: usize,
    /// Threshold of the categories.
    pub tau: f64,
    /// Bootstrap resamples of the prompts.
    pub n_resamples: u32,
}

/// Means of one set on one task.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct SetMeans {
    /// Share of prompts whose correct name has the highest logit of all candidates.
    pub acc: f64,
    /// Mean of (correct − mean of the other candidates), in logits.
    pub mean_diff: f64,
    /// Δ of the set: mean logit difference (correct − distractor), minus the same without ablation.
    pub delta: f64,
    /// Sum of its heads' Δ in the scan, on the same prompts.
    pub sum_delta: f64,
    /// Number of prompts drawn, including weights.
    pub n_prompts: u64,
}

/// One set of heads: a row of `hero_vs_random_ablation.csv`. Random sets of all heads are listed once, under
/// [`ALL_HEADS`].
#[derive(Debug, Clone, PartialEq)]
pub struct RawRow {
    /// Where the hero set's heads come from: `all` or a category.
    pub selection: String,
    /// Heads in the set; 0 for the baseline.
    pub k: usize,
    /// What the set is.
    pub kind: SetKind,
    /// Index among the sets of this kind, from 0.
    pub index: usize,
    /// Its heads (layer, head), in order.
    pub heads: Vec<(u32, u32)>,
    /// Means on each task, if it was run there.
    pub tasks: [Option<SetMeans>; 2],
}

/// A row of `hero_vs_random_ablation_summary.csv`.
///
/// Values are over all held-out prompts; for random sets they are estimated from the subsample. For a hero set and the
/// baseline, `low` and `high` are the ends of a 95% bootstrap interval over prompts (`interval_over` is `prompts`); for
/// random sets they enclose the central 95% of the sets (`sets`). If there is no such set, its values are missing and
/// `status` says why.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SummaryRow {
    /// Family.
    pub family: String,
    /// Model.
    pub model: String,
    /// Heads ablated.
    pub k: usize,
    /// `baseline`, `hero`, `random`, `random_matched`, and the last three followed by `_` and a category.
    pub set_type: String,
    /// The effects of the sets on each task.
    pub tasks: [TaskSummary; 2],
    /// Number of sets in the row, on the task with more of them.
    pub n_sets: usize,
    /// What `low` and `high` enclose: `prompts` or `sets`.
    pub interval_over: String,
    /// Where the hero heads come from: `all` or a category.
    pub selection: String,
    /// `measured`, or the reason why not.
    pub status: String,
    /// The prompts used to evaluate the sets; unknown in a table without that column.
    pub split: Option<Split>,
}

impl SummaryRow {
    /// The effects of the sets on one of the tasks.
    #[must_use]
    pub fn on(&self, side: Side) -> &TaskSummary {
        &self.tasks[side as usize]
    }
}

/// The effects of sets on one task.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct TaskSummary {
    /// Accuracy among all candidate names, with its range.
    pub acc: Ranged,
    /// Mean of (correct − mean of the other candidates).
    pub mean_diff: Ranged,
    /// Δ of the sets (correct − distractor, minus baseline).
    pub delta: Option<f64>,
    /// Number of sets.
    pub n_sets: usize,
    /// Sum of the heads' Δ in the scan.
    pub sum_delta: Option<f64>,
    /// `delta` minus `sum_delta`: the joint effect of the heads beyond the sum of their individual effects. Missing if
    /// the sets were not ablated in the same way as the scan's heads.
    pub interaction: Ranged,
    /// Share of the variance of `mean_diff` between random sets that is explained by the sums.
    pub variance_removed: Option<f64>,
}

/// Comparison of a hero set with random sets at one k, on one task and measure, over the subsample on which
/// both were run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SetTest {
    /// Where the hero heads come from: `all` or a category.
    pub selection: String,
    /// Heads in each set.
    pub k: usize,
    /// The task's [key](Contrast::key).
    pub task: String,
    /// `acc` or `mean_diff`.
    pub measure: String,
    /// [`SetKind::Random`] or [`SetKind::RandomMatched`].
    pub against: SetKind,
    /// The hero set.
    pub hero: Option<f64>,
    /// Mean of the random sets.
    pub random_mean: Option<f64>,
    /// Their standard deviation.
    pub random_sd: Option<f64>,
    /// Hero minus random mean; negative if hero heads matter more.
    pub difference: Option<f64>,
    /// Lower end of its 95% interval over prompts (Student's t).
    pub difference_ci_low: Option<f64>,
    /// Upper end.
    pub difference_ci_high: Option<f64>,
    /// Difference in standard deviations of the random sets (Glass's Δ).
    pub effect_size: Option<f64>,
    /// [`SequentialP`] for the distance by which the hero set moves the measure from the baseline.
    pub p_value: Option<f64>,
    /// q-value over those of the model's tests against sets of this kind that could reach p ≤ 0.05, with tests that were
    /// not run counted as p = 1.
    pub q_value: Option<f64>,
    /// Random sets that were run.
    pub n_random: usize,
    /// The sets used for the p-value, which were enough to decide it.
    pub n_behind_p: usize,
    /// Number of possible sets; missing if there are more than 2⁶³.
    pub n_possible: Option<u64>,
    /// Prompts of the subsample, including weights.
    pub n_prompts: u64,
    /// `measured`, or why something is missing.
    pub status: String,
}

/// The area between the hero curve and the random curve over k.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CurveArea {
    /// Where the hero heads come from: `all` or a category.
    pub selection: String,
    /// The task's [key](Contrast::key).
    pub task: String,
    /// `acc` or `mean_diff`.
    pub measure: String,
    /// [`SetKind::Random`] or [`SetKind::RandomMatched`].
    pub against: SetKind,
    /// Random minus hero, averaged over ln k by the trapezoidal rule: how much more hero heads matter than others, in
    /// units of the measure, over all held-out prompts.
    pub area: Option<f64>,
    /// Lower end of its 95% interval over prompts and random sets (Student's t).
    pub ci_low: Option<f64>,
    /// Upper end.
    pub ci_high: Option<f64>,
    /// Share of the variance due to the draw of random sets that the sums of single-head Δ removed.
    pub variance_removed: Option<f64>,
    /// The k's of the curve.
    pub sizes: Vec<usize>,
    /// `measured`, or the reason why not.
    pub status: String,
}

/// All results of set ablation for one model.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelAblation {
    /// The two tasks.
    pub contrast: Contrast,
    /// The model, its prompts, the program.
    pub origin: Origin,
    /// How sets were ablated and compared.
    pub settings: AblationSettings,
    /// Candidate names on each task.
    pub n_candidates: [usize; 2],
    /// Prompts drawn for each, including weights.
    pub n_prompts: [u64; 2],
    /// Every set.
    pub rows: Vec<RawRow>,
    /// Baseline, hero and random curves.
    pub summary: Vec<SummaryRow>,
    /// Hero against random at each k.
    pub tests: Vec<SetTest>,
    /// Area between the curves.
    pub areas: Vec<CurveArea>,
    /// What could not be measured, and other remarks for the reader.
    pub notes: Vec<String>,
}

/// Status of a row without missing values.
pub const MEASURED: &str = "measured";
