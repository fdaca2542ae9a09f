//! From logit differences per prompt to a scan file. Sums over prompts are in float64, in the order of the prompts.

use crate::categories::TAU_SWEEP;
use crate::error::Result;
use crate::per_prompt::PerPromptScan;
use crate::scan_file::{Baseline, HeadDelta, Resampling, ScanFile, Split};

/// How to turn per-prompt logit differences into a scan file.
#[derive(Debug, Clone, PartialEq)]
pub struct SummaryOptions {
    /// Bootstrap resamples and sign flips, and the coverage of intervals.
    pub resampling: Resampling,
    /// Thresholds τ for which to record the probability that |Δ| reaches them.
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
/// # Errors
/// When the arrays of the scan do not fit each other ([`PerPromptScan::check`]).
pub fn summarise_scan(scan: &PerPromptScan, options: &SummaryOptions) -> Result<ScanFile> {
    scan.check()?;
    let split = if scan.split.contains(&Split::All) { Split::All } else { Split::Discovery };
    let prompts = scan.prompts_of(split);
    let held_out = scan.prompts_of(Split::HeldOut);
    let n_heads = scan.meta.n_heads;
    let heads: Vec<HeadDelta> = (0u32..)
        .take(scan.n_heads_total())
        .map(|index| HeadDelta {
            layer: index / n_heads,
            head: index % n_heads,
            delta: mean_delta(scan, index as usize, &prompts),
            delta_ci_low: None,
            delta_ci_high: None,
            p_value: None,
            q_value: None,
            prob_abs_delta_ge_tau: Vec::new(),
            held_out_delta: (!held_out.is_empty()).then(|| mean_delta(scan, index as usize, &held_out)),
            held_out_ci_low: None,
            held_out_ci_high: None,
            held_out_p_value: None,
            held_out_q_value: None,
        })
        .collect();
    let (top_suppressor_candidates, top_anti_suppressors) = ScanFile::top_heads(&heads);
    let meta = scan.meta.clone();
    Ok(ScanFile {
        model_name: meta.model_name,
        hf_name: meta.hf_name,
        family: meta.family,
        task: meta.task,
        protocol: meta.protocol,
        seed: meta.seed,
        split,
        baseline: baseline(scan, &prompts),
        value_bias: meta.value_bias,
        ablation: meta.ablation,
        n_layers: meta.n_layers,
        n_heads: meta.n_heads,
        n_params: meta.n_params,
        held_out: (!held_out.is_empty()).then(|| baseline(scan, &held_out)),
        resampling: Some(options.resampling.clone()),
        taus: Vec::new(),
        heads,
        top_suppressor_candidates,
        top_anti_suppressors,
        note: meta.note,
        provenance: meta.provenance,
    })
}

/// Weighted mean over `prompts` of the logit difference without the head minus the one with it.
fn mean_delta(scan: &PerPromptScan, head: usize, prompts: &[usize]) -> f64 {
    let ablated = scan.ablated_head(head);
    let difference = |p: usize| f64::from(ablated[p]) - f64::from(scan.base[p]);
    weighted_mean(prompts.iter().map(|&p| (difference(p), scan.weight[p])))
}

fn baseline(scan: &PerPromptScan, prompts: &[usize]) -> Baseline {
    let weight = |p: usize| scan.weight[p];
    Baseline {
        n_prompts: prompts.iter().map(|&p| u64::from(weight(p))).sum(),
        n_distinct_prompts: prompts.len() as u64,
        base_logit_diff_mean: weighted_mean(prompts.iter().map(|&p| (f64::from(scan.base[p]), weight(p)))),
        base_accuracy: weighted_mean(
            prompts.iter().map(|&p| (f64::from(u8::from(scan.base_correct[p])), weight(p))),
        ),
    }
}

fn weighted_mean(values: impl Iterator<Item = (f64, u32)>) -> f64 {
    let (mut sum, mut total) = (0.0, 0.0);
    for (value, weight) in values {
        sum += value * f64::from(weight);
        total += f64::from(weight);
    }
    // + 0.0 turns −0 into 0.
    sum / total + 0.0
}
