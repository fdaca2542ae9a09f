//! Computes a scan file from logit differences per prompt. Sums over prompts are in float64, in the order of the prompts.

use std::collections::BTreeSet;

use crate::categories::TAU_SWEEP;
use crate::direct::{DirectEffect, direct_effects};
use crate::error::{AnalysisError, Result};
use crate::per_prompt::{Differences, PerPromptScan};
use crate::scan_file::{Baseline, HeadDelta, Resampling, ScanFile, Split};
use crate::stats::bootstrap::{BootstrapMean, BootstrapOptions, bootstrap_means, weighted_mean};
use crate::stats::clusters::cluster_interval;
use crate::stats::{Interval, Seed, benjamini_hochberg, sign_flip_p_values};

/// Options for computing a scan file from per-prompt logit differences.
#[derive(Debug, Clone, PartialEq)]
pub struct SummaryOptions {
    /// Bootstrap resamples and sign flips, and the coverage of intervals.
    pub resampling: Resampling,
    /// Thresholds τ for which to record the probability that |Δ| reaches them, in any order.
    pub taus: Vec<f64>,
}

impl Default for SummaryOptions {
    fn default() -> Self {
        Self {
            resampling: Resampling { n_resamples: 10_000, n_permutations: 10_000, level: 0.95 },
            taus: TAU_SWEEP.to_vec(),
        }
    }
}

/// Computes a scan file from the logit differences.
///
/// Resampling is seeded by the scan's seed, model, task and split, so a model's results do not depend on which others
/// are scanned.
///
/// # Errors
/// If the arrays of the scan are inconsistent ([`PerPromptScan::check`]) or an option is invalid.
pub fn summarise_scan(scan: &PerPromptScan, options: &SummaryOptions) -> Result<ScanFile> {
    options.check()?;
    scan.check()?;
    let mut options = options.clone();
    options.taus.sort_by(f64::total_cmp);
    options.taus.dedup();
    let options = &options;
    let split = scan.main_split();
    let has_held_out = scan.split.contains(&Split::HeldOut);
    let main = split_effects(scan, split, options);
    let held_out = has_held_out.then(|| split_effects(scan, Split::HeldOut, options));
    let direct = split_direct(scan, split, options);
    let held_out_direct = if has_held_out { split_direct(scan, Split::HeldOut, options) } else { None };
    let scanned = scan.meta.scanned_heads();
    let heads: Vec<HeadDelta> = scanned
        .into_iter()
        .zip(main)
        .enumerate()
        .map(|(index, (id, effect))| {
            let held_out = held_out.as_ref().map(|effects| &effects[index]);
            HeadDelta {
                layer: id.layer,
                head: id.head,
                delta: effect.mean.mean,
                delta_ci_low: effect.mean.interval.map(|i| i.low),
                delta_ci_high: effect.mean.interval.map(|i| i.high),
                delta_low_templates: effect.over_templates.map(|i| i.low),
                delta_high_templates: effect.over_templates.map(|i| i.high),
                p_value: Some(effect.p_value),
                q_value: Some(effect.q_value),
                prob_abs_delta_ge_tau: effect.mean.share_at_least,
                held_out_delta: held_out.map(|e| e.mean.mean),
                held_out_ci_low: held_out.and_then(|e| e.mean.interval).map(|i| i.low),
                held_out_ci_high: held_out.and_then(|e| e.mean.interval).map(|i| i.high),
                held_out_low_templates: held_out.and_then(|e| e.over_templates).map(|i| i.low),
                held_out_high_templates: held_out.and_then(|e| e.over_templates).map(|i| i.high),
                held_out_p_value: held_out.map(|e| e.p_value),
                held_out_q_value: held_out.map(|e| e.q_value),
                direct: direct.as_ref().map(|effects| effects[index].clone()),
                held_out_direct: held_out_direct.as_ref().map(|effects| effects[index].clone()),
            }
        })
        .collect();
    let (top_suppressor_candidates, top_anti_suppressors) = ScanFile::top_heads(&heads);
    Ok(ScanFile {
        meta: scan.meta.clone(),
        split,
        baseline: baseline(scan, split, options),
        held_out: has_held_out.then(|| baseline(scan, Split::HeldOut, options)),
        resampling: Some(options.resampling.clone()),
        taus: options.taus.clone(),
        heads,
        top_suppressor_candidates,
        top_anti_suppressors,
    })
}

impl SummaryOptions {
    fn bootstrap(&self, thresholds: Vec<f64>) -> BootstrapOptions {
        let Resampling { n_resamples, level, .. } = self.resampling;
        BootstrapOptions { n_resamples, level, thresholds }
    }

    fn check(&self) -> Result<()> {
        let fault = |option, problem: String| Err(AnalysisError::Option { option, problem });
        let Resampling { n_resamples, n_permutations, level } = self.resampling;
        if !(100..=10_000_000).contains(&n_resamples) {
            return fault("--resamples", format!("{n_resamples} is not between 100 and 10000000"));
        }
        if !(100..=10_000_000).contains(&n_permutations) {
            return fault("--permutations", format!("{n_permutations} is not between 100 and 10000000"));
        }
        if !(level > 0.0 && level < 1.0) {
            return fault("--level", format!("{level} is not between 0 and 1, such as 0.95"));
        }
        if let Some(tau) = self.taus.iter().find(|t| !(t.is_finite() && **t > 0.0)) {
            return fault("--tau", format!("{tau} is not above 0"));
        }
        Ok(())
    }
}

/// One head on one split.
struct SplitEffect {
    mean: BootstrapMean,
    over_templates: Option<Interval>,
    p_value: f64,
    q_value: f64,
}

/// Interval, p-value and q-value of every head on one split. `[n_heads_total]`
fn split_effects(scan: &PerPromptScan, split: Split, options: &SummaryOptions) -> Vec<SplitEffect> {
    let Differences { heads, weights, templates } = scan.differences(split);
    let seed = |purpose| seed(scan, split, purpose);
    let means =
        bootstrap_means(&heads, &weights, &options.bootstrap(options.taus.clone()), &seed("bootstrap"));
    let p_values =
        sign_flip_p_values(&heads, &weights, options.resampling.n_permutations, &seed("sign flips"));
    let q_values = benjamini_hochberg(&p_values);
    means
        .into_iter()
        .zip(&heads)
        .zip(p_values.into_iter().zip(q_values))
        .map(|((mean, values), (p_value, q_value))| SplitEffect {
            mean,
            over_templates: cluster_interval(values, &weights, &templates, options.resampling.level),
            p_value,
            q_value,
        })
        .collect()
}

/// Direct effect and compensation of every head on one split, with the same resamples as the intervals of Δ.
fn split_direct(scan: &PerPromptScan, split: Split, options: &SummaryOptions) -> Option<Vec<DirectEffect>> {
    direct_effects(scan, split, &options.bootstrap(Vec::new()), &seed(scan, split, "bootstrap"))
}

fn seed(scan: &PerPromptScan, split: Split, purpose: &str) -> Seed {
    Seed::new(scan.meta.seed, &[&scan.meta.model_name, &scan.meta.task, split.as_str(), purpose])
}

fn baseline(scan: &PerPromptScan, split: Split, options: &SummaryOptions) -> Baseline {
    let prompts = scan.prompts_of(split);
    let weights: Vec<u32> = prompts.iter().map(|&p| scan.weight[p]).collect();
    let templates: Vec<u32> = prompts.iter().map(|&p| scan.template[p]).collect();
    let base: Vec<f64> = prompts.iter().map(|&p| f64::from(scan.base[p])).collect();
    let correct: Vec<f64> = prompts.iter().map(|&p| f64::from(u8::from(scan.base_correct[p]))).collect();
    let over_templates = cluster_interval(&base, &weights, &templates, options.resampling.level);
    let mean = &bootstrap_means(
        std::slice::from_ref(&base),
        &weights,
        &options.bootstrap(Vec::new()),
        &seed(scan, split, "baseline"),
    )[0];
    Baseline {
        n_prompts: weights.iter().map(|&w| u64::from(w)).sum(),
        n_distinct_prompts: prompts.len() as u64,
        n_templates: templates.into_iter().collect::<BTreeSet<_>>().len() as u64,
        base_logit_diff_mean: mean.mean,
        base_logit_diff_ci_low: mean.interval.map(|i| i.low),
        base_logit_diff_ci_high: mean.interval.map(|i| i.high),
        base_logit_diff_low_templates: over_templates.map(|i| i.low),
        base_logit_diff_high_templates: over_templates.map(|i| i.high),
        base_accuracy: weighted_mean(&correct, &weights),
    }
}
