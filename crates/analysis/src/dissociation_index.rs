//! The index of dissociation: how much of the effect on the two tasks is due to heads specific to one task.
//!
//! Heads are classified on the discovery prompts. For every head h that is not weak, let a(h) be its squared effect on the first task on held-out prompts, and b(h) that on the second. With the
//! shares A(c) = Σ_{h∈c} a / Σ a and B(c) = Σ_{h∈c} b / Σ b of a category c in the sums over these heads,
//!
//! ```text
//! index = ½ [A(a_only) − B(a_only) + B(b_only) − A(b_only)]
//! ```
//!
//! It is the interaction of the 2 × 2 table of shares, category × task. If the tasks have separate heads, a_only holds all of
//! the first task and none of the second, and vice versa, so the index is 1; if all heads are shared, both categories are
//! empty and it is 0. Shares make it independent of the tasks' scales.
//!
//! A squared effect is estimated without noise bias, as the mean product of the effects on two different held-out prompts
//! ([`SquaredMeans`]). So heads that are in a category only because of noise count with their true effects on both tasks,
//! and the index of tasks with identical effects is 0 on average, however large the noise. (Sums of |effect| have no such
//! estimator: with signs fixed on the discovery prompts, the weaker effect of each head loses more to wrong signs than the
//! stronger one, which looks like dissociation.) Intervals are over prompts, by the jackknife; the estimate is not clipped
//! to 0 to 1. Two limitations: the index depends on the threshold τ, and with a single split (`published`) the noise that
//! put a head into its category is measured again, so the index is too large.

use crate::ablation::MEASURED;
use crate::categories::{Category, ClassifiedModel};
use crate::contrast::Contrast;
use crate::error::{AnalysisError, Result};
use crate::model_measures::LEVEL;
use crate::per_prompt::PerPromptScan;
use crate::ranged::Ranged;
use crate::scan_file::Split;
use crate::stats::interval::FEWEST_PROMPTS;
use crate::stats::jackknife::{LeftOut, SquaredMeans, jackknife_interval};

/// The categories of [`DissociationIndex::shares`], in order.
pub const CATEGORIES: [Category; 3] = [Category::OnlyA, Category::OnlyB, Category::Shared];

/// The index of one model and its shares.
#[derive(Debug, Clone, PartialEq)]
pub struct DissociationIndex {
    /// Share of each task's squared effect in a category: [`CATEGORIES`] × tasks.
    pub shares: [[Ranged; 2]; 3],
    /// The index.
    pub index: Ranged,
    /// `measured`, or why there is none.
    pub status: String,
}

/// The index of a model whose heads are classified as in `model`, on the prompts of `split` of both `scans`.
///
/// # Errors
/// If a head is not in a scan.
pub fn dissociation_index(
    contrast: &Contrast,
    model: &ClassifiedModel,
    scans: [&PerPromptScan; 2],
    split: Split,
) -> Result<DissociationIndex> {
    let none = |status: String| {
        Ok(DissociationIndex { shares: Default::default(), index: Ranged::default(), status })
    };
    if model.heads.iter().all(|h| h.category == Category::Weak) {
        return none("every head is weak".to_owned());
    }
    let mut squares = Vec::new(); // per task: [category]
    let mut weights = Vec::new();
    for (key, scan) in contrast.keys().into_iter().zip(scans) {
        let measured = scan.differences(split);
        let n = measured.weights.len();
        if n < FEWEST_PROMPTS {
            return none(format!(
                "not estimable: distinct prompts on {key}: {n}, at least {FEWEST_PROMPTS} needed"
            ));
        }
        let mut series = [const { Vec::new() }; 3];
        for head in &model.heads {
            let Some(category) = CATEGORIES.iter().position(|&c| c == head.category) else { continue };
            let index = (head.layer * scan.meta.n_heads + head.head) as usize;
            let effect = measured.heads.get(index).ok_or_else(|| {
                AnalysisError::inconsistent(
                    format!("dissociation of {}", model.info.model),
                    format!("L{}H{} is not in its scan on {}", head.layer, head.head, scan.meta.task),
                    "scan the model again on both tasks",
                )
            })?;
            series[category].push(effect.clone());
        }
        let of_task: Option<Vec<SquaredMeans>> =
            series.iter().map(|s| SquaredMeans::new(s, &measured.weights)).collect();
        let Some(of_task) = of_task.filter(|s| s.iter().map(|s| s.value).sum::<f64>() > 0.0) else {
            return none(format!("the heads' effects on {key} do not replicate on held-out prompts"));
        };
        squares.push(of_task);
        weights.push(measured.weights);
    }
    let of_squares = |task: usize| [0, 1, 2].map(|category| squares[task][category].value);
    let whole = shares_and_index([of_squares(0), of_squares(1)]);
    // The same with one draw of each prompt left out, per task. [2] of [n_prompts]
    let without = [0, 1].map(|task| {
        let of_prompt = |prompt: usize| {
            let mut both = [of_squares(0), of_squares(1)];
            both[task] = [0, 1, 2].map(|category| squares[task][category].without[prompt]);
            shares_and_index(both)
        };
        (0..weights[task].len()).map(of_prompt).collect::<Vec<_>>()
    });
    let ranged = |at: usize| {
        let values = without.each_ref().map(|of_task| of_task.iter().map(|f| f[at]).collect::<Vec<f64>>());
        let samples = [0, 1].map(|task| LeftOut { values: &values[task], weights: &weights[task] });
        let interval = jackknife_interval(whole[at], &samples, LEVEL);
        Ranged { value: Some(whole[at]), low: interval.map(|i| i.low), high: interval.map(|i| i.high) }
    };
    Ok(DissociationIndex {
        shares: [[ranged(0), ranged(1)], [ranged(2), ranged(3)], [ranged(4), ranged(5)]],
        index: ranged(6),
        status: MEASURED.to_owned(),
    })
}

/// The shares, [`CATEGORIES`] × tasks, row by row, and the resulting index; NaN if a task's squared effects,
/// `[task, category]`, do not sum to more than 0.
fn shares_and_index(squares: [[f64; 3]; 2]) -> [f64; 7] {
    let mut found = [f64::NAN; 7];
    for (task, of_task) in squares.iter().enumerate() {
        let total: f64 = of_task.iter().sum();
        for (category, square) in of_task.iter().enumerate() {
            found[2 * category + task] = if total > 0.0 { square / total } else { f64::NAN };
        }
    }
    found[6] = 0.5 * (found[0] - found[1] + found[3] - found[2]);
    found
}
