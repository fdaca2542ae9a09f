//! Sets of hero heads ablated together, against random sets of as many heads.
//!
//! [`plan`] picks the sets: for each [`Selection`] (the heads of a category, or all) and each k, the k strongest heads by what
//! the scan found on the prompts that heads are picked on, and the [pools](Pool) that random sets are drawn from.
//! `cs_circuits::ablate` runs them, and [`evaluate()`] turns the outcomes into rows, tests and areas between curves.
//!
//! **What is asked.** Whether a hero set moves a measure further from where it is with nothing ablated than random sets do, in
//! either direction: heads are picked by the size of their effects, whatever the sign.
//!
//! **What is run.** Hero sets are run on every held-out prompt. Random sets are many, and what they show is how much sets
//! differ, for which few prompts are enough: they are run on a *subsample*, balanced over templates and orders. Tests
//! compare hero and random sets on that same subsample, so they are exact whatever its size.
//! [`run_random_sets`] runs random sets only as long as they decide something ([`SequentialP`]).
//!
//! **Which random sets.** They are drawn from *all* heads, the hero set's included: what the hero set would be if its heads
//! were like any others. Against sets of the other heads alone the test would be too eager: of four equal heads the best one
//! beats the other three in one case of four, and p would be 1/(1 + sets) each time. Draws from all heads serve every
//! selection. *Matched* sets have as many heads of each layer as the hero set; they are drawn for the hero sets that go
//! further than sets of all heads, and say whether their layers alone account for that.
//!
//! **How many are found by chance.** Sets of all heads and matched sets are two questions and two families of tests, all of which
//! are fixed before anything is run; each has q-values of its own ([`two_stage`](crate::stats::two_stage)).
//!
//! **Curves.** The sum of a set's single-head Δ is known from the scan, for every set and every held-out prompt. It serves as
//! a control variate: the mean of the random sets that were run, on the subsample, is corrected by what the sums tell of the
//! difference between these sets on these prompts and all sets on all prompts (see `curves.rs`). What a set does beyond the
//! sum is its **interaction**: Δ of the set − Σ Δ of its heads. It is below 0 where heads stand in for each other.

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

/// Random sets of each kind at most, by default and at least for a claim.
pub const DEFAULT_RANDOM_SETS: usize = 200;
/// Held-out prompts of each task that random sets are run on, by default.
pub const DEFAULT_RANDOM_PROMPTS: usize = 20;

/// Which heads a hero set is taken from.
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

/// What stands under `set_type` for sets of this kind: `hero`, `random_shared`, …
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
    /// As many of all heads.
    Random,
    /// As many of each layer's heads as the hero set has.
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

/// What one run gives on each prompt of one task.
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
    /// Prompts that it is of.
    #[must_use]
    pub fn n_prompts(&self) -> usize {
        self.mean_diff.len()
    }

    /// All numbers in one row: mean differences, logit differences, and 1 or 0 for correct. `[3 * n_prompts]`
    pub fn numbers(&self) -> impl Iterator<Item = f32> {
        let correct = self.correct.iter().map(|&c| f32::from(u8::from(c)));
        self.mean_diff.iter().chain(&self.logit_diff).copied().chain(correct)
    }

    /// What [`Self::numbers`] gave.
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

/// What the sets of a plan give on one task.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskOutcomes {
    /// The task's name.
    pub task: String,
    /// How often each prompt was drawn. `[n_prompts]`
    pub weights: Vec<u32>,
    /// Candidate names.
    pub n_candidates: usize,
    /// Nothing ablated.
    pub base: Outcome,
    /// Each of [`AblationPlan::sets`] ablated.
    pub sets: Vec<Outcome>,
    /// The prompts that random sets are run on.
    pub subsample: Vec<usize>,
    /// For each of [`AblationPlan::pools`], those of its first sets that were run, on the subsample.
    pub random: Vec<Vec<Outcome>>,
}

impl TaskOutcomes {
    /// How often each prompt of the subsample was drawn.
    #[must_use]
    pub fn subsample_weights(&self) -> Vec<u32> {
        self.subsample.iter().map(|&p| self.weights[p]).collect()
    }
}

/// What one model was measured by.
#[derive(Debug, Clone, Copy)]
pub struct Evidence<'a> {
    /// The two tasks.
    pub contrast: &'a Contrast,
    /// The model's heads with their categories.
    pub model: &'a ClassifiedModel,
    /// The side files of both scans.
    pub scans: [&'a PerPromptScan; 2],
    /// Which sets were to be ablated.
    pub plan: &'a AblationPlan,
    /// What they gave on each task.
    pub outcomes: [&'a TaskOutcomes; 2],
}

/// How sets were ablated and compared.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AblationSettings {
    /// `zero`, `mean` or `resample`.
    pub ablation: String,
    /// `folded` or `in-head`.
    pub value_bias: String,
    /// `abc` or `same`; none under `zero`.
    #[serde(default)]
    pub reference: Option<String>,
    /// Random sets of each kind and size at most.
    pub n_random_sets: usize,
    /// Held-out prompts of each task that random sets are run on at most.
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
    /// Δ of the set: mean of (correct − distractor), minus the same with nothing ablated.
    pub delta: f64,
    /// Sum of its heads' Δ in the scan, on the same prompts.
    pub sum_delta: f64,
    /// Prompts drawn, weights included.
    pub n_prompts: u64,
}

/// One set of heads: a row of `hero_vs_random_ablation.csv`. Random sets of all heads stand there once, under
/// [`ALL_HEADS`].
#[derive(Debug, Clone, PartialEq)]
pub struct RawRow {
    /// Where the hero set's heads come from: `all` or a category.
    pub selection: String,
    /// Heads in the set; 0 for the baseline.
    pub k: usize,
    /// What the set is.
    pub kind: SetKind,
    /// Which of the sets of this kind, from 0.
    pub index: usize,
    /// Its heads (layer, head), in order.
    pub heads: Vec<(u32, u32)>,
    /// Means on each task, if it was run there.
    pub tasks: [Option<SetMeans>; 2],
}

/// A row of `hero_vs_random_ablation_summary.csv`.
///
/// Figures are over all held-out prompts, of random sets estimated for them from the subsample. For a hero set and the
/// baseline `low` and `high` are the ends of a 95% bootstrap interval over prompts (`interval_over` says `prompts`), for
/// random sets they enclose the central 95% of the sets (`sets`). Where a set cannot be had its figures are missing and
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
    /// What the sets do on each task.
    pub tasks: [TaskSummary; 2],
    /// Sets behind the row, on the task where they are more.
    pub n_sets: usize,
    /// What `low` and `high` enclose: `prompts` or `sets`.
    pub interval_over: String,
    /// Where the hero heads come from: `all` or a category.
    pub selection: String,
    /// `measured`, or why not.
    pub status: String,
    /// The prompts that the sets were judged on; unknown in a table without that column.
    pub split: Option<Split>,
}

impl SummaryRow {
    /// What the sets do on one of the tasks.
    #[must_use]
    pub fn on(&self, side: Side) -> &TaskSummary {
        &self.tasks[side as usize]
    }
}

/// What sets do on one task.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct TaskSummary {
    /// Accuracy among all candidate names, with the ends of what surrounds it.
    pub acc: Ranged,
    /// Mean of (correct − mean of the other candidates).
    pub mean_diff: Ranged,
    /// Δ of the sets (correct − distractor, minus baseline).
    pub delta: Option<f64>,
    /// Sets behind the figures.
    pub n_sets: usize,
    /// Sum of the heads' Δ in the scan.
    pub sum_delta: Option<f64>,
    /// `delta` minus that: what the heads do together beyond what each does alone. Missing where the sets were ablated in
    /// another way than the scan's heads.
    pub interaction: Ranged,
    /// Share of the variance between random sets in `mean_diff` that the sums account for.
    pub variance_removed: Option<f64>,
}

/// Hero set against random sets at one k, on one task and measure, over the subsample that both were run on.
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
    /// Hero minus random mean; negative where hero heads matter more.
    pub difference: Option<f64>,
    /// Lower end of its 95% interval over prompts (Student's t).
    pub difference_ci_low: Option<f64>,
    /// Upper end.
    pub difference_ci_high: Option<f64>,
    /// Difference in standard deviations of the random sets (Glass's Δ).
    pub effect_size: Option<f64>,
    /// [`SequentialP`] of how far the hero set moves the measure from the baseline.
    pub p_value: Option<f64>,
    /// q-value over the model's tests against sets of this kind that could reach p ≤ 0.05, those that were left out counted
    /// as p = 1.
    pub q_value: Option<f64>,
    /// Random sets that were run.
    pub n_random: usize,
    /// Those behind the p-value, which were enough to decide it.
    pub n_behind_p: usize,
    /// Different sets that there are; missing where they are more than 2⁶³.
    pub n_possible: Option<u64>,
    /// Prompts of the subsample, weights included.
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
    /// Random minus hero, averaged over ln k by trapezoids: what hero heads matter more than others, in the measure's
    /// own units, over all held-out prompts.
    pub area: Option<f64>,
    /// Lower end of its 95% interval over prompts and random sets (Student's t).
    pub ci_low: Option<f64>,
    /// Upper end.
    pub ci_high: Option<f64>,
    /// Share of the variance that comes from the draw of random sets which the sums of single-head Δ took away.
    pub variance_removed: Option<f64>,
    /// The k's of the curve.
    pub sizes: Vec<usize>,
    /// `measured`, or why not.
    pub status: String,
}

/// Everything that ablating sets of heads says of one model.
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
    /// Prompts drawn for each, weights included.
    pub n_prompts: [u64; 2],
    /// Every set.
    pub rows: Vec<RawRow>,
    /// Baseline, hero and random curves.
    pub summary: Vec<SummaryRow>,
    /// Hero against random at each k.
    pub tests: Vec<SetTest>,
    /// Area between the curves.
    pub areas: Vec<CurveArea>,
    /// What could not be had, and anything else the reader should know.
    pub notes: Vec<String>,
}

/// Status of a row whose figures are all there.
pub const MEASURED: &str = "measured";
