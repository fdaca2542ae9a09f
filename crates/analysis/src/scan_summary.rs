//! From logit differences per prompt to a scan file. Sums over prompts are in float64, in the order of the prompts.

use crate::categories::TAU_SWEEP;
use crate::error::{AnalysisError, Result};
use crate::per_prompt::{Differences, PerPromptScan};
use crate::scan_file::{Baseline, HeadDelta, Resampling, ScanFile, Split};
use crate::stats::bootstrap::{BootstrapMean, BootstrapOptions, bootstrap_means, weighted_mean};
use crate::stats::{Seed, benjamini_hochberg, sign_flip_p_values};

/// How to turn per-prompt logit differences into a scan file.
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

/// Every figure of a scan file, from the logit differences alone.
///
/// Resampling is seeded by the scan's seed, model, task and split, so a model's figures do not depend on which others
/// are scanned.
///
/// # Errors
/// When the arrays of the scan do not fit each other ([`PerPromptScan::check`]) or an option makes no sense.
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
                delta_ci_low: Some(effect.mean.interval.low),
                delta_ci_high: Some(effect.mean.interval.high),
                p_value: Some(effect.p_value),
                q_value: Some(effect.q_value),
                prob_abs_delta_ge_tau: effect.mean.share_at_least,
                held_out_delta: held_out.map(|e| e.mean.mean),
                held_out_ci_low: held_out.map(|e| e.mean.interval.low),
                held_out_ci_high: held_out.map(|e| e.mean.interval.high),
                held_out_p_value: held_out.map(|e| e.p_value),
                held_out_q_value: held_out.map(|e| e.q_value),
            }
        })
        .collect();
    let (top_suppressor_candidates, top_anti_suppressors) = ScanFile::top_heads(&heads);
    Ok(ScanFile {
        meta: scan.meta.clone(),
        split,
        baseline: baseline(scan, split),
        held_out: has_held_out.then(|| baseline(scan, Split::HeldOut)),
        resampling: Some(options.resampling.clone()),
        taus: options.taus.clone(),
        heads,
        top_suppressor_candidates,
        top_anti_suppressors,
    })
}

impl SummaryOptions {
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
    p_value: f64,
    q_value: f64,
}

/// Interval, p-value and q-value of every head on one split. `[n_heads_total]`
fn split_effects(scan: &PerPromptScan, split: Split, options: &SummaryOptions) -> Vec<SplitEffect> {
    let Differences { heads, weights } = scan.differences(split);
    let seed = |purpose| {
        Seed::new(scan.meta.seed, &[&scan.meta.model_name, &scan.meta.task, split.as_str(), purpose])
    };
    let bootstrap = BootstrapOptions {
        n_resamples: options.resampling.n_resamples,
        level: options.resampling.level,
        thresholds: options.taus.clone(),
    };
    let means = bootstrap_means(&heads, &weights, &bootstrap, &seed("bootstrap"));
    let p_values =
        sign_flip_p_values(&heads, &weights, options.resampling.n_permutations, &seed("sign flips"));
    let q_values = benjamini_hochberg(&p_values);
    means
        .into_iter()
        .zip(p_values.into_iter().zip(q_values))
        .map(|(mean, (p_value, q_value))| SplitEffect { mean, p_value, q_value })
        .collect()
}

fn baseline(scan: &PerPromptScan, split: Split) -> Baseline {
    let prompts = scan.prompts_of(split);
    let weights: Vec<u32> = prompts.iter().map(|&p| scan.weight[p]).collect();
    let base: Vec<f64> = prompts.iter().map(|&p| f64::from(scan.base[p])).collect();
    let correct: Vec<f64> = prompts.iter().map(|&p| f64::from(u8::from(scan.base_correct[p]))).collect();
    Baseline {
        n_prompts: weights.iter().map(|&w| u64::from(w)).sum(),
        n_distinct_prompts: prompts.len() as u64,
        base_logit_diff_mean: weighted_mean(&base, &weights),
        base_accuracy: weighted_mean(&correct, &weights),
    }
}
