//! Causal tracing: the effect of patching a head's stream from the clean run into the corrupted run.
//!
//! A pair is a clean prompt and its corrupted version, in which the repeated name is swapped for the other, so that
//! the correct answer changes. A head's **influence** on a pair is the logit difference (for the clean prompt's
//! answers) of the corrupted run with one of the head's streams patched in from the clean run, minus that of the
//! corrupted run: positive if the head restores the clean answer. The **normalised** influence is mean influence over
//! mean (clean − corrupted): 0 if nothing is restored, 1 if everything is. It is a ratio of means, since the ratio of
//! a single pair is unbounded if both runs nearly agree.

mod file;
mod tables;

use serde::{Deserialize, Serialize};

use crate::categories::{Category, ClassifiedHead};
use crate::contrast::{Contrast, Side};
use crate::error::{AnalysisError, Result};
use crate::origin::Origin;
use crate::scan_file::Resampling;
use crate::stats::bootstrap::{BootstrapMean, BootstrapOptions, weighted_mean};
use crate::stats::correlation_bootstrap::Measured;
use crate::stats::functions::{Coverage, bootstrap_functions};
use crate::stats::{Interval, Seed, benjamini_hochberg, bootstrap_means, sign_flip_p_values};
use crate::words::counted;

pub use file::{read_results, write_results};
pub use tables::{InfluenceCorrelation, correlation_table, correlations, summary_table};

/// Recommended minimum number of pairs per task.
pub const FEWEST_PAIRS: u64 = 200;
/// Number of heads whose normalised influences are bootstrapped at once: limits memory to 10 MB for 10,000
/// resamples.
const HEADS_AT_ONCE: usize = 128;

/// Results of tracing some heads of one model on one task.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskTrace {
    /// The task's name.
    pub task: String,
    /// Logit difference of each pair's clean run. `[n_pairs]`
    pub clean: Vec<f64>,
    /// Logit difference of each pair's corrupted run. `[n_pairs]`
    pub corrupted: Vec<f64>,
    /// Influence of each head on each pair. `[n_heads]` of `[n_pairs]`
    pub influences: Vec<Vec<f64>>,
    /// How often each pair was drawn. `[n_pairs]`
    pub weights: Vec<u32>,
    /// Number of prompts without a corrupted version of equal length.
    pub n_left_out: usize,
}

/// One head's influence on one task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Influence {
    /// Lower end of the 95% bootstrap interval of the mean influence over pairs; absent if there are too few.
    pub ci_low: Option<f64>,
    /// Upper end of that interval.
    pub ci_high: Option<f64>,
    /// Two-sided sign-flip p-value for no influence.
    pub p_value: f64,
    /// Benjamini–Hochberg q-value over the heads of the same list and model.
    pub q_value: f64,
    /// Mean influence over mean (clean − corrupted); absent if both runs agree.
    pub normalised: Option<f64>,
    /// Lower end of its 95% bootstrap interval.
    pub normalised_ci_low: Option<f64>,
    /// Upper end of that interval.
    pub normalised_ci_high: Option<f64>,
    /// Mean logit difference of the clean runs.
    pub clean_logit_diff_mean: f64,
    /// Mean logit difference of the corrupted runs.
    pub corrupted_logit_diff_mean: f64,
    /// Pairs drawn: the sum of `weights`.
    pub n_pairs: u64,
    /// Prompts left out because their corrupted version differs in length.
    pub n_left_out: u64,
    /// How often each pair was drawn, in the order of the influences.
    pub weights: Vec<u32>,
}

/// A traced head on one task.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskInfluence {
    /// Mean influence, in logits.
    pub mean: f64,
    /// Influence on each pair.
    pub influences: Vec<f32>,
    /// Δ on the discovery prompts.
    pub delta: f64,
    /// Intervals and tests.
    pub figures: Influence,
}

/// One head of one model: an entry of `hero_head_causal_results.json`.
#[derive(Debug, Clone, PartialEq)]
pub struct CausalResult {
    /// The two tasks.
    pub contrast: Contrast,
    /// Model family.
    pub family: String,
    /// Model.
    pub model: String,
    /// Hugging Face id or folder.
    pub hf_name: String,
    /// The head's category.
    pub category: Category,
    /// Block, from 0.
    pub layer: u32,
    /// Head within its block, from 0.
    pub head: u32,
    /// Its influence on each task.
    pub tasks: [TaskInfluence; 2],
    /// |Δ_a| + |Δ_b|.
    pub strength: f64,
    /// Rank among the hero heads of its model and category, from 0; absent for other heads.
    pub rank: Option<usize>,
    /// The stream that was patched: `v`, `z`, `q`, `k` or `pattern`.
    pub stream: String,
    /// How intervals and p-values were made.
    pub resampling: Resampling,
    /// Remarks for the reader.
    pub note: String,
    /// What was measured, and by which program.
    pub origin: Origin,
}

impl CausalResult {
    /// The head's influence on one of the tasks.
    #[must_use]
    pub fn on(&self, side: Side) -> &TaskInfluence {
        &self.tasks[side as usize]
    }
}

/// A head to trace.
#[derive(Debug, Clone, PartialEq)]
pub struct TracedHead {
    /// The head with its category.
    pub head: ClassifiedHead,
    /// Rank among the hero heads of its category, for hero heads.
    pub rank: Option<usize>,
}

/// Means, intervals and tests of all traced heads of one model, in their order.
///
/// `traces` hold the influences of `heads` on each task of `contrast`, in that order; `notes` are stored with each head, in
/// addition to remarks about the traces themselves.
///
/// # Errors
/// If the arrays of a trace are inconsistent or not finite, or there are no pairs.
pub fn summarise(
    contrast: &Contrast,
    origin: &Origin,
    stream: &str,
    heads: &[TracedHead],
    traces: [&TaskTrace; 2],
    resampling: &Resampling,
    notes: &[String],
) -> Result<Vec<CausalResult>> {
    let [a, b] = traces.map(|trace| influences(origin, stream, heads.len(), trace, resampling));
    let note = note(origin, traces, notes);
    let results = heads.iter().zip(a?.into_iter().zip(b?)).enumerate();
    Ok(results
        .map(|(at, (traced, (a, b)))| {
            let on = |side: Side, (mean, figures)| TaskInfluence {
                mean,
                influences: traces[side as usize].influences[at].iter().map(|&x| x as f32).collect(),
                delta: traced.head.deltas[side as usize],
                figures,
            };
            CausalResult {
                contrast: contrast.clone(),
                family: origin.family.clone(),
                model: origin.model.clone(),
                hf_name: origin.hf_name.clone(),
                category: traced.head.category,
                layer: traced.head.layer,
                head: traced.head.head,
                tasks: [on(Side::A, a), on(Side::B, b)],
                strength: traced.head.strength,
                rank: traced.rank,
                stream: stream.to_owned(),
                resampling: resampling.clone(),
                note: note.clone(),
                origin: origin.clone(),
            }
        })
        .collect())
}

/// Mean and further figures of each head on one task.
fn influences(
    origin: &Origin,
    stream: &str,
    n_heads: usize,
    trace: &TaskTrace,
    resampling: &Resampling,
) -> Result<Vec<(f64, Influence)>> {
    trace.check(origin, n_heads)?;
    let TaskTrace { weights, influences, .. } = trace;
    let seed = |purpose| Seed::new(origin.seed, &[&origin.model, &trace.task, stream, purpose]);
    let bootstrap = BootstrapOptions {
        n_resamples: resampling.n_resamples,
        level: resampling.level,
        thresholds: Vec::new(),
    };
    let means = bootstrap_means(influences, weights, &bootstrap, &seed("influence"));
    let p_values = sign_flip_p_values(influences, weights, resampling.n_permutations, &seed("sign flips"));
    let q_values = benjamini_hochberg(&p_values);

    let gap: Vec<f64> =
        trace.clean.iter().zip(&trace.corrupted).map(|(clean, corrupted)| clean - corrupted).collect();
    let coverage = Coverage { n_resamples: resampling.n_resamples, level: resampling.level };
    let mut normalised = Vec::with_capacity(n_heads);
    for group in influences.chunks(HEADS_AT_ONCE) {
        let series: Vec<Vec<f64>> = std::iter::once(&gap).chain(group).cloned().collect();
        let measured = Measured { series: &series, weights };
        normalised.extend(bootstrap_functions(
            &[(measured, seed("normalised influence"))],
            coverage,
            group.len(),
            |means, ratios| {
                ratios.iter_mut().zip(&means[1..]).for_each(|(ratio, mean)| *ratio = mean / means[0])
            },
        ));
    }
    let figures = means.into_iter().zip(p_values.into_iter().zip(q_values)).zip(normalised);
    Ok(figures
        .map(|((BootstrapMean { mean, interval, .. }, (p_value, q_value)), normalised)| {
            let of_normalised = |end: fn(Interval) -> f64| normalised.and_then(|n| n.interval).map(end);
            let influence = Influence {
                ci_low: interval.map(|i| i.low),
                ci_high: interval.map(|i| i.high),
                p_value,
                q_value,
                normalised: normalised.map(|n| n.value),
                normalised_ci_low: of_normalised(|i| i.low),
                normalised_ci_high: of_normalised(|i| i.high),
                clean_logit_diff_mean: weighted_mean(&trace.clean, weights),
                corrupted_logit_diff_mean: weighted_mean(&trace.corrupted, weights),
                n_pairs: trace.n_drawn(),
                n_left_out: trace.n_left_out as u64,
                weights: weights.clone(),
            };
            (mean, influence)
        })
        .collect())
}

impl TaskTrace {
    /// Pairs drawn: the sum of all weights.
    #[must_use]
    pub fn n_drawn(&self) -> u64 {
        self.weights.iter().map(|&w| u64::from(w)).sum()
    }

    fn check(&self, origin: &Origin, n_heads: usize) -> Result<()> {
        let n = self.weights.len();
        let fault = |problem: String, fix: &str| {
            let what = format!("tracing of {} on {}", origin.model, self.task);
            Err(AnalysisError::inconsistent(what, problem, fix))
        };
        if n == 0 {
            return fault(
                "no prompt has a corrupted version of equal length".into(),
                "use --protocol standard",
            );
        }
        let fits = self.clean.len() == n
            && self.corrupted.len() == n
            && self.influences.len() == n_heads
            && self.influences.iter().all(|head| head.len() == n);
        if !fits {
            return fault("its arrays differ in length".into(), "trace again");
        }
        let mut all = self.influences.iter().flatten().chain(&self.clean).chain(&self.corrupted);
        if all.any(|x| !x.is_finite()) {
            return fault(
                "a logit difference is not a finite number".into(),
                "check the checkpoint's weights",
            );
        }
        Ok(())
    }
}

/// Remarks about these traces, if anything.
fn note(origin: &Origin, traces: [&TaskTrace; 2], notes: &[String]) -> String {
    let caution = origin.caution().map(str::to_owned);
    let mut notes: Vec<String> = notes.iter().cloned().chain(caution).collect();
    for trace in traces {
        if trace.n_drawn() < FEWEST_PAIRS {
            notes.push(format!(
                "only {} on {}; {FEWEST_PAIRS} or more are better",
                counted(trace.n_drawn() as usize, "pair", "pairs"),
                trace.task
            ));
        }
        if trace.n_left_out > 0 {
            notes.push(format!(
                "left out because their corrupted version differs in length: {} of {}",
                counted(trace.n_left_out, "prompt", "prompts"),
                trace.task
            ));
        }
    }
    notes.join("; ")
}
