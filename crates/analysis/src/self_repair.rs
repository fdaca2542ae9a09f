//! Self-repair: how much of the helping heads' direct contribution later layers make up for when it is ablated, per model and task.
//!
//! Heads whose own output helps (direct effect ≤ −τ, with a 95% interval below 0) are selected on the discovery prompts. On the evaluation prompts,
//! the repaired share is the slope through 0 of their compensation (Δ − direct effect) on their direct contribution (said = −direct effect):
//!
//! ```text
//! repaired = Σ w_h compensation_h / Σ w_h said_h      w_h: said of head h on the discovery prompts
//! ```
//!
//! It is 1 if later layers make up for all of it, 0 if they do not react, and below 0 if they make the loss worse, since later heads also rely on these
//! heads. A head is weighted by its direct contribution, so that one that contributes little directly, and acts through others, hardly counts. Weights
//! from other prompts keep noise from biasing the slope.

use crate::direct::compares_with_delta;
use crate::joint::ModelInfo;
use crate::per_prompt::PerPromptScan;
use crate::ranged::Ranged;
use crate::scan_file::Split;
use crate::stats::Seed;
use crate::stats::bootstrap::weighted_mean;
use crate::stats::correlation_bootstrap::Measured;
use crate::stats::functions::{Coverage, bootstrap_functions};
use crate::stats::interval::student_quantile;
use crate::table::Table;

/// Resamples of the prompts, and coverage of the intervals.
const COVERAGE: Coverage = Coverage { n_resamples: 2_000, level: 0.95 };

/// Self-repair in one model on one task.
#[derive(Debug, Clone, PartialEq)]
pub struct SelfRepair {
    /// The prompts used to evaluate heads.
    pub split: Split,
    /// Heads whose own output helps by τ or more.
    pub n_heads: usize,
    /// Their direct contribution: minus the sum of their direct effects, in logits.
    pub said: f64,
    /// The sum of their compensation, in logits.
    pub compensation: f64,
    /// The repaired share, with its interval over prompts; missing if the heads do not help on the evaluation prompts.
    pub repaired: Ranged,
}

/// The self-repair of a scan; `None` if direct effects are missing or not comparable with Δ, or if no head helps by `tau`.
#[must_use]
pub fn self_repair(scan: &PerPromptScan, tau: f64) -> Option<SelfRepair> {
    if !compares_with_delta(&scan.meta) {
        return None;
    }
    let picked_on = scan.main_split();
    let split = if scan.split.contains(&Split::HeldOut) { Split::HeldOut } else { picked_on };
    let weights = scan.differences(picked_on).weights;
    // Each selected head, with its direct contribution there.
    let picked: Vec<(usize, f64)> = (scan.direct_differences(picked_on)?.iter().enumerate())
        .filter(|(_, direct)| {
            mean_and_upper_end(direct, &weights).is_some_and(|(mean, high)| mean <= -tau && high < 0.0)
        })
        .map(|(head, direct)| (head, -weighted_mean(direct, &weights)))
        .collect();
    if picked.is_empty() {
        return None;
    }
    let (delta, direct) = (scan.differences(split), scan.direct_differences(split)?);
    let mean_of = |series: &dyn Fn(usize, usize) -> f64| -> f64 {
        let of_prompt = |p: usize| picked.iter().map(|&(head, _)| series(head, p)).sum::<f64>();
        weighted_mean(&(0..delta.weights.len()).map(of_prompt).collect::<Vec<_>>(), &delta.weights)
    };
    let compensation = mean_of(&|head, p| delta.heads[head][p] - direct[head][p]);
    let said = mean_of(&|head, p| -direct[head][p]);
    let mut series = vec![vec![0.0; delta.weights.len()]; 2]; // weighted compensation, weighted contribution
    for &(head, weight) in &picked {
        for (prompt, (delta, direct)) in delta.heads[head].iter().zip(&direct[head]).enumerate() {
            series[0][prompt] += weight * (delta - direct);
            series[1][prompt] -= weight * direct;
        }
    }
    let words = [&scan.meta.model_name[..], &scan.meta.task, split.as_str(), "self-repair"];
    let sample = Measured { series: &series, weights: &delta.weights };
    let ratio =
        |means: &[f64], out: &mut [f64]| out[0] = if means[1] > 0.0 { means[0] / means[1] } else { f64::NAN };
    let repaired = bootstrap_functions(&[(sample, Seed::new(scan.meta.seed, &words))], COVERAGE, 1, ratio);
    Some(SelfRepair { split, n_heads: picked.len(), said, compensation, repaired: repaired[0].into() })
}

/// The weighted mean, and the upper end of its 95% interval by Student's t; `None` for a single draw.
fn mean_and_upper_end(values: &[f64], weights: &[u32]) -> Option<(f64, f64)> {
    let n: f64 = weights.iter().copied().map(f64::from).sum();
    let mean = weighted_mean(values, weights);
    let squares: f64 = values.iter().zip(weights).map(|(x, &w)| f64::from(w) * (x - mean).powi(2)).sum();
    let error = (squares / (n - 1.0) / n).sqrt();
    (n > 1.0).then(|| (mean, mean + student_quantile(0.975, n - 1.0) * error))
}

/// [`SelfRepair`] of one model on one task of a study.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelRepair {
    /// The model.
    pub info: ModelInfo,
    /// The task.
    pub task: String,
    /// The self-repair.
    pub repair: SelfRepair,
}

/// Name of the table's file, without `.csv`.
pub const SELF_REPAIR: &str = "self_repair";

/// The table [`SELF_REPAIR`].
#[must_use]
pub fn self_repair_table(repairs: &[ModelRepair], tau: f64) -> Table {
    let rows = || repairs.iter();
    Table::new(SELF_REPAIR)
        .text("family", rows().map(|r| r.info.family.as_str()))
        .text("model", rows().map(|r| r.info.model.as_str()))
        .float("params_m", rows().map(|r| r.info.params_m))
        .text("task", rows().map(|r| r.task.as_str()))
        .text("split", rows().map(|r| r.repair.split.as_str()))
        .integer("n_heads", rows().map(|r| r.repair.n_heads))
        .float("said", rows().map(|r| r.repair.said))
        .float("compensation", rows().map(|r| r.repair.compensation))
        .float("repaired", rows().map(|r| r.repair.repaired.value))
        .float("repaired_low", rows().map(|r| r.repair.repaired.low))
        .float("repaired_high", rows().map(|r| r.repair.repaired.high))
        .float("tau", rows().map(|_| tau))
}
