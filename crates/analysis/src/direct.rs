//! Direct effects, and how later layers compensate.
//!
//! A head's *direct effect* is minus the direct contribution of its output to the logit difference, with the scales of norms on the path frozen: the change from
//! removing it if no later layer reacted. Its *compensation* is Δ − direct effect: how later heads and MLPs change the logit difference because it is ablated. If
//! backups make up for a helping head (direct effect below 0), its compensation is above 0 and Δ is near 0 (self-repair: McGrath et al. 2023, Rushing and Nanda
//! 2024).
//!
//! The direct effect excludes the input-independent part of a head's value, like zero ablation with folded value biases.
//! Other ablations remove something else, so there is no compensation for their Δ.

use serde::{Deserialize, Serialize};

use crate::per_prompt::PerPromptScan;
use crate::scan_file::{ScanMeta, Split};
use crate::stats::Seed;
use crate::stats::bootstrap::{BootstrapMean, BootstrapOptions, bootstrap_means};

/// One head's direct effect and compensation over the prompts of a split, with intervals over prompts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DirectEffect {
    /// Mean direct effect, in logits; negative if the head's own output helps.
    pub direct: f64,
    /// Lower end of its bootstrap interval; absent for too few prompts.
    #[serde(default)]
    pub direct_low: Option<f64>,
    /// Upper end of that interval.
    #[serde(default)]
    pub direct_high: Option<f64>,
    /// Δ − direct effect, in logits; absent if the ablation removes something else.
    #[serde(default)]
    pub compensation: Option<f64>,
    /// Lower end of its bootstrap interval.
    #[serde(default)]
    pub compensation_low: Option<f64>,
    /// Upper end of that interval.
    #[serde(default)]
    pub compensation_high: Option<f64>,
}

/// Whether Δ and the direct effect are about removing the same output.
#[must_use]
pub fn compares_with_delta(meta: &ScanMeta) -> bool {
    meta.ablation == "zero" && meta.value_bias == "folded"
}

/// Direct effect and compensation of every scanned head on one split; `None` if the model has no direct effects. With the same `options`
/// and `seed`, the resamples are those of Δ, so that differences of means are means of differences.
pub(crate) fn direct_effects(
    scan: &PerPromptScan,
    split: Split,
    options: &BootstrapOptions,
    seed: &Seed,
) -> Option<Vec<DirectEffect>> {
    let direct = scan.direct_differences(split)?;
    let effects = scan.differences(split);
    let means = bootstrap_means(&direct, &effects.weights, options, seed);
    let compensation: Vec<Option<BootstrapMean>> = if compares_with_delta(&scan.meta) {
        let of_head =
            |(delta, direct): (&Vec<f64>, &Vec<f64>)| delta.iter().zip(direct).map(|(a, b)| a - b).collect();
        let series: Vec<Vec<f64>> = effects.heads.iter().zip(&direct).map(of_head).collect();
        bootstrap_means(&series, &effects.weights, options, seed).into_iter().map(Some).collect()
    } else {
        vec![None; means.len()]
    };
    let effect = |(direct, compensation): (BootstrapMean, Option<BootstrapMean>)| DirectEffect {
        direct: direct.mean,
        direct_low: direct.interval.map(|i| i.low),
        direct_high: direct.interval.map(|i| i.high),
        compensation: compensation.as_ref().map(|c| c.mean),
        compensation_low: compensation.as_ref().and_then(|c| c.interval).map(|i| i.low),
        compensation_high: compensation.as_ref().and_then(|c| c.interval).map(|i| i.high),
    };
    Some(means.into_iter().zip(compensation).map(effect).collect())
}
