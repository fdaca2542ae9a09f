//! Every pair of a study's tasks: how far they use the same heads.
//!
//! Two measures, for every pair of tasks of a model: the correlation of Δ over its heads, and the **shared strong heads**,
//! those with |Δ| ≥ τ on both tasks, as a share of those with |Δ| ≥ τ on at least one (Jaccard's index: 1 where the same heads
//! are strong on both, 0 where none is). Intervals are over prompts: equally many other prompts of each task, drawn
//! independently.

use crate::contrast::Contrast;
use crate::error::Result;
use crate::joint::{JointTable, ModelInfo, ScanPair};
use crate::model_measures::{LEVEL, TaskCorrelation, correlations};
use crate::per_prompt::PerPromptScan;
use crate::ranged::Ranged;
use crate::stats::Seed;
use crate::stats::correlation::Correlation;
use crate::stats::correlation_bootstrap::Measured;
use crate::stats::functions::Coverage;
use crate::stats::shared_strong::{SharedStrong, shared_strong};
use crate::table::Table;

/// Name of the table's file, without `.csv`.
pub const TASK_OVERLAP: &str = "task_overlap";
/// Minimum number of tasks for this table: two tasks are a single contrast.
pub const FEWEST_TASKS: usize = 3;
/// Resamples of the prompts behind the intervals of shared heads, and their coverage.
const COVERAGE: Coverage = Coverage { n_resamples: 2_000, level: LEVEL };

/// Two tasks in one model.
#[derive(Debug, Clone, PartialEq)]
pub struct Overlap {
    /// The model.
    pub info: ModelInfo,
    /// The tasks.
    pub contrast: Contrast,
    /// Heads measured on both.
    pub n_heads: usize,
    /// Pearson's correlation of Δ.
    pub pearson: TaskCorrelation,
    /// Spearman's.
    pub spearman: TaskCorrelation,
    /// Heads with |Δ| ≥ τ on each task.
    pub n_strong: [usize; 2],
    /// Heads with |Δ| ≥ τ on both.
    pub n_shared: Ranged,
    /// Their share of the heads that are strong on at least one task; none if there are no such heads.
    pub jaccard: Ranged,
}

/// A model's scans on two tasks, with their per-prompt files if available.
pub struct OverlapInput<'a> {
    /// The scans.
    pub pair: ScanPair,
    /// The per-prompt files.
    pub sides: Option<[&'a PerPromptScan; 2]>,
}

/// The overlap of two tasks in every one of these models, in the study's order.
///
/// # Errors
/// If the scans are inconsistent ([`crate::joint::from_scans`]).
pub fn overlap(contrast: &Contrast, models: &[OverlapInput], tau: f64) -> Result<Vec<Overlap>> {
    if models.is_empty() {
        return Ok(Vec::new());
    }
    let pairs: Vec<ScanPair> = models.iter().map(|m| m.pair.clone()).collect();
    let joint: JointTable = crate::joint::from_scans(contrast, &pairs)?;
    let correlations = correlations(&joint);
    let of_model =
        |(model, correlations): (&crate::joint::ModelHeads, &crate::model_measures::ModelCorrelations)| {
            let deltas = model.deltas();
            let is_strong = |delta: &f64| delta.abs() >= tau;
            let n_strong =
                [&deltas.0, &deltas.1].map(|of_task| of_task.iter().filter(|d| is_strong(d)).count());
            let of_model = models.iter().find(|m| m.pair.scans[0].meta.model_name == model.info.model);
            let shared = match of_model.and_then(|m| m.sides) {
                Some(sides) => shared(sides, tau),
                // Without per-prompt data, the means act as a single prompt, which has no interval.
                None => {
                    let series =
                        [&deltas.0, &deltas.1].map(|d| d.iter().map(|d| vec![*d]).collect::<Vec<_>>());
                    let tasks = series.each_ref().map(|series| Measured { series, weights: &[1] });
                    let unused = Seed::new(0, &[]);
                    shared_strong(tasks, tau, COVERAGE, [&unused; 2])
                }
            };
            Overlap {
                info: model.info.clone(),
                contrast: contrast.clone(),
                n_heads: correlations.n_heads,
                pearson: correlations.pearson,
                spearman: correlations.spearman,
                n_strong,
                n_shared: Some(shared.n).into(),
                jaccard: shared.jaccard.into(),
            }
        };
    Ok(joint.models.iter().zip(&correlations).map(of_model).collect())
}

/// Shared strong heads, with intervals over the prompts used to select heads.
fn shared(sides: [&PerPromptScan; 2], tau: f64) -> SharedStrong {
    let effects = sides.map(|side| side.differences(side.main_split()));
    let tasks =
        effects.each_ref().map(|effects| Measured { series: &effects.heads, weights: &effects.weights });
    let seeds = sides.map(|side| {
        let meta = &side.meta;
        Seed::new(meta.seed, &[&meta.model_name, &meta.task, "shared strong heads"])
    });
    shared_strong(tasks, tau, COVERAGE, seeds.each_ref())
}

/// The table [`TASK_OVERLAP`]: a row per model and pair of tasks.
#[must_use]
pub fn overlap_table(overlaps: &[Overlap], tau: f64) -> Table {
    let rows = || overlaps.iter();
    let ranged = |table: Table, name: &str, of: fn(&Overlap) -> Ranged| {
        table
            .float(name, rows().map(|o| of(o).value))
            .float(format!("{name}_low"), rows().map(|o| of(o).low))
            .float(format!("{name}_high"), rows().map(|o| of(o).high))
    };
    let mut table = Table::new(TASK_OVERLAP)
        .text("family", rows().map(|o| o.info.family.as_str()))
        .text("model", rows().map(|o| o.info.model.as_str()))
        .float("params_m", rows().map(|o| o.info.params_m))
        .text("task_a", rows().map(|o| o.contrast.tasks()[0]))
        .text("task_b", rows().map(|o| o.contrast.tasks()[1]))
        .integer("n_heads", rows().map(|o| o.n_heads));
    let kinds = [("pearson", Correlation::Pearson), ("spearman", Correlation::Spearman)];
    for (name, kind) in kinds {
        let of = |o: &Overlap| match kind {
            Correlation::Pearson => o.pearson,
            Correlation::Spearman => o.spearman,
        };
        let ends = |over: fn(&TaskCorrelation) -> Option<crate::stats::Interval>| {
            rows().map(move |o| over(&of(o))).collect::<Vec<_>>()
        };
        let (prompts, templates) = (ends(|c| c.prompts), ends(|c| c.templates));
        table = table
            .float(name, rows().map(|o| of(o).estimate))
            .float(format!("{name}_low"), prompts.iter().map(|i| i.map(|i| i.low)))
            .float(format!("{name}_high"), prompts.iter().map(|i| i.map(|i| i.high)))
            .float(format!("{name}_low_templates"), templates.iter().map(|i| i.map(|i| i.low)))
            .float(format!("{name}_high_templates"), templates.iter().map(|i| i.map(|i| i.high)));
    }
    table = table
        .integer("n_strong_a", rows().map(|o| o.n_strong[0]))
        .integer("n_strong_b", rows().map(|o| o.n_strong[1]));
    table = ranged(table, "n_shared", |o| o.n_shared);
    table = ranged(table, "jaccard", |o| o.jaccard);
    table
        .boolean("does_a", rows().map(|o| o.info.performance[0].does_task()))
        .boolean("does_b", rows().map(|o| o.info.performance[1].does_task()))
        .float("tau", rows().map(|_| tau))
}
