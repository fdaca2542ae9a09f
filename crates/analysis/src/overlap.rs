//! Every task of a study against every other: how far the same heads do both.
//!
//! Two figures, each for every pair of tasks of a model: the correlation of Δ over its heads, and the **shared strong heads**,
//! those with |Δ| ≥ τ on both tasks, as a share of those with |Δ| ≥ τ on at least one (Jaccard's index: 1 where the same
//! heads are strong on both, 0 where none is). Intervals are over prompts: as many other prompts of each task, drawn
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
use crate::stats::functions::{Coverage, bootstrap_functions};
use crate::table::Table;

/// Name of the table's file, without `.csv`.
pub const TASK_OVERLAP: &str = "task_overlap";
/// Tasks from which a study has a matrix of them: two are one contrast.
pub const FEWEST_TASKS: usize = 3;
/// Resamples of the prompts behind the intervals of shared heads.
const N_RESAMPLES: u32 = 2_000;

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
    /// Their share of those that are strong on at least one; none where no head is.
    pub jaccard: Ranged,
}

/// A model's scans on two tasks, and their side files where those are there.
pub struct OverlapInput<'a> {
    /// The scans.
    pub pair: ScanPair,
    /// The side files.
    pub sides: Option<[&'a PerPromptScan; 2]>,
}

/// The overlap of two tasks in every one of these models, in the study's order.
///
/// # Errors
/// When the scans do not fit each other ([`crate::joint::from_scans`]).
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
            let sides = models.iter().find(|m| m.pair.scans[0].meta.model_name == model.info.model);
            let [n_shared, jaccard] = match sides.and_then(|m| m.sides) {
                Some(sides) => shared(sides, tau),
                None => {
                    let both = deltas.0.iter().zip(&deltas.1);
                    let means: Vec<f64> = both.clone().map(|d| *d.0).chain(both.map(|d| *d.1)).collect();
                    let mut out = [f64::NAN; 2];
                    count_shared(&means, tau, &mut out);
                    out.map(|value| Ranged::new(Some(value).filter(|v| v.is_finite()), None))
                }
            };
            Overlap {
                info: model.info.clone(),
                contrast: contrast.clone(),
                n_heads: correlations.n_heads,
                pearson: correlations.pearson,
                spearman: correlations.spearman,
                n_strong,
                n_shared,
                jaccard,
            }
        };
    Ok(joint.models.iter().zip(&correlations).map(of_model).collect())
}

/// Number and share of shared strong heads, with intervals over the prompts that heads are picked on.
fn shared(sides: [&PerPromptScan; 2], tau: f64) -> [Ranged; 2] {
    let effects = sides.map(|side| side.differences(side.main_split()));
    let samples: Vec<(Measured, Seed)> = effects
        .iter()
        .zip(sides)
        .map(|(effects, side)| {
            let meta = &side.meta;
            let seed = Seed::new(meta.seed, &[&meta.model_name, &meta.task, "shared strong heads"]);
            (Measured { series: &effects.heads, weights: &effects.weights }, seed)
        })
        .collect();
    let coverage = Coverage { n_resamples: N_RESAMPLES, level: LEVEL };
    let found = bootstrap_functions(&samples, coverage, 2, |means, out| count_shared(means, tau, out));
    [found[0].into(), found[1].into()]
}

/// Heads that are strong on both tasks, and their share of those that are strong on one; `means` are Δ of all heads on the one
/// task, then on the other.
fn count_shared(means: &[f64], tau: f64, out: &mut [f64]) {
    let (a, b) = means.split_at(means.len() / 2);
    let strong = |delta: &f64| delta.abs() >= tau;
    let (mut both, mut either) = (0.0, 0.0);
    for (a, b) in a.iter().zip(b) {
        both += f64::from(u8::from(strong(a) && strong(b)));
        either += f64::from(u8::from(strong(a) || strong(b)));
    }
    out[0] = both;
    out[1] = if either > 0.0 { both / either } else { f64::NAN };
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_heads_are_counted() {
        let mut out = [0.0; 2];
        count_shared(&[0.1, -0.1, 0.01, 0.0, 0.2, 0.01, -0.3, 0.0], 0.05, &mut out);
        assert_eq!(out, [1.0, 1.0 / 3.0]);
        count_shared(&[0.0, 0.01, 0.0, 0.0], 0.05, &mut out);
        assert!(out[0] == 0.0 && out[1].is_nan());
    }
}
