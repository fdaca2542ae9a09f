//! How many heads are strong on two tasks at once, and its uncertainty over prompts.
//!
//! A head is strong on a task if its mean effect reaches ±τ. Resampling adds noise to means that are already noisy, so more heads
//! cross τ in resamples than in samples, and percentiles of resamples are biased. Only the spread is taken from them, as a dispersion:
//! the variance of a number N of shared heads is φN, that of their share J (Jaccard's index) φJ(1 − J), and the interval has the
//! values whose own variance puts the estimate within q standard deviations (Wilson 1927):
//!
//! ```text
//! (N̂ − N)² ≤ q² φ N        (Ĵ − J)² ≤ q² φ J(1 − J)
//! ```
//!
//! It stays within the possible range, and does not shrink to a point if no head is shared. φ is the larger of two estimates: the sum of
//! the variances when resampling the prompts of one task and keeping the other's, relative to the estimate, which counts noise once; and
//! the variance when resampling both, relative to its own mean, which also captures heads near τ on both tasks. (For a share, the latter
//! refers to the larger number of heads that cross τ in resamples, and is rescaled to those that are strong in the sample.) q is
//! Student's quantile, expanded for the smaller sample as in [`bca_interval`](super::interval::bca_interval). The ends of an interval
//! for a number are whole heads.

use super::bootstrap::{resampled_means, weighted_mean};
use super::correlation_bootstrap::Measured;
use super::functions::{Coverage, Estimate};
use super::interval::{FEWEST_PROMPTS, Interval, expanded_quantile, score_interval};
use super::resampling::{Draws, Seed};
use super::weighted_sums::PackedSeries;

/// Heads that are strong on both tasks.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SharedStrong {
    /// Their number.
    pub n: Estimate,
    /// Their share of the heads that are strong on either task; `None` if there are none.
    pub jaccard: Option<Estimate>,
}

/// Heads with |mean| ≥ `tau` on both tasks, with intervals over equally many other prompts of each task,
/// drawn independently.
///
/// `tasks` are the same heads' effects on each task. There are no intervals with fewer than [`FEWEST_PROMPTS`] distinct prompts of a
/// task, and none of the share if fewer than half of the resamples have one.
#[must_use]
pub fn shared_strong(tasks: [Measured; 2], tau: f64, coverage: Coverage, seeds: [&Seed; 2]) -> SharedStrong {
    let of_means = |means: &[f64]| means.iter().map(|mean| mean.abs() >= tau).collect::<Vec<bool>>();
    let observed = tasks.map(|task| {
        let means: Vec<f64> = task.series.iter().map(|s| weighted_mean(s, task.weights)).collect();
        of_means(&means)
    });
    let [n, jaccard, n_either] = counts(&observed[0], &observed[1]);
    let without = SharedStrong {
        n: Estimate { value: n, interval: None },
        jaccard: jaccard.is_finite().then_some(Estimate { value: jaccard, interval: None }),
    };
    let n_heads = observed[0].len();
    if n_heads == 0 || tasks.iter().any(|task| task.weights.len() < FEWEST_PROMPTS) {
        return without;
    }
    let n_resamples = coverage.n_resamples as usize;
    let mut n_smallest = usize::MAX;
    // Which heads are strong in each resample, task by task. [n_resamples * n_heads]
    let resampled = [0, 1].map(|task| {
        let Measured { series, weights } = tasks[task];
        let draws = Draws::new(weights);
        n_smallest = n_smallest.min(draws.len());
        let packed = PackedSeries::new(weights.len(), series.iter().map(Vec::as_slice));
        of_means(&resampled_means(&packed, &draws, weights.len(), n_resamples, seeds[task]))
    });
    let [a, b] = [0, 1].map(|task: usize| resampled[task].chunks_exact(n_heads));
    let only_a = a.clone().map(|a| counts(a, &observed[1]));
    let only_b = b.clone().map(|b| counts(&observed[0], b));
    let both = a.zip(b).map(|(a, b)| counts(a, b));
    let [only_a, only_b, both] = [only_a.collect::<Vec<_>>(), only_b.collect(), both.collect()];

    let quantile = expanded_quantile(coverage.level, n_smallest);
    let interval = |which: usize, value: f64| -> Option<Interval> {
        let spread = |values: &[[f64; 3]], which: usize| {
            mean_and_variance(values.iter().map(|v| v[which]), n_resamples)
        };
        let ((_, of_a), (_, of_b)) = (spread(&only_a, which)?, spread(&only_b, which)?);
        let (mean, of_both) = spread(&both, which)?;
        let (kind, more) = match which {
            0 => (Scale::Number { most: n_heads as f64 }, 1.0),
            _ => (Scale::Share, (spread(&both, 2)?.0 / n_either).max(1.0)),
        };
        let phi = kind.dispersion(of_a + of_b, value).max(more * kind.dispersion(of_both, mean));
        Some(kind.interval(value, quantile * quantile * phi))
    };
    SharedStrong {
        n: Estimate { value: n, interval: interval(0, n) },
        jaccard: without.jaccard.map(|found| Estimate { interval: interval(1, found.value), ..found }),
    }
}

/// Number of heads strong on both tasks, their share of those strong on either (NaN if none), and the number strong on
/// either.
fn counts(a: &[bool], b: &[bool]) -> [f64; 3] {
    let both = a.iter().zip(b).filter(|(a, b)| **a && **b).count() as f64;
    let either = a.iter().zip(b).filter(|(a, b)| **a || **b).count() as f64;
    [both, both / either, either]
}

/// Mean and variance of the values that are not NaN; `None` if fewer than half of `n` are.
fn mean_and_variance(values: impl Iterator<Item = f64> + Clone, n: usize) -> Option<(f64, f64)> {
    let values = values.filter(|v| v.is_finite());
    let found = values.clone().count();
    if 2 * found <= n {
        return None;
    }
    let mean = values.clone().sum::<f64>() / found as f64;
    Some((mean, values.map(|v| (v - mean).powi(2)).sum::<f64>() / (found - 1).max(1) as f64))
}

/// How the variance of an estimate depends on its value.
#[derive(Clone, Copy)]
enum Scale {
    /// φN, for a number of at most `most` heads.
    Number { most: f64 },
    /// φJ(1 − J)
    Share,
}

impl Scale {
    fn dispersion(self, variance: f64, at: f64) -> f64 {
        let unit = match self {
            Self::Number { .. } => at,
            Self::Share => at * (1.0 - at),
        };
        if unit > 0.0 { variance / unit } else { 0.0 }
    }

    /// The values compatible with the estimate; `k` is q²φ.
    fn interval(self, estimate: f64, k: f64) -> Interval {
        match self {
            Self::Number { most } => {
                let (middle, half) = (estimate + 0.5 * k, (k * estimate + 0.25 * k * k).sqrt());
                Interval { low: (middle - half).floor().max(0.0), high: (middle + half).ceil().min(most) }
            }
            Self::Share => score_interval(estimate, k),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COVERAGE: Coverage = Coverage { n_resamples: 500, level: 0.95 };

    fn found(a: &[Vec<f64>], b: &[Vec<f64>]) -> SharedStrong {
        let weights = vec![1; a[0].len()];
        let measured = |series| Measured { series, weights: &weights };
        let seeds = ["a", "b"].map(|task| Seed::new(1, &[task]));
        shared_strong([measured(a), measured(b)], 0.05, COVERAGE, seeds.each_ref())
    }

    #[test]
    fn heads_are_counted_and_what_is_certain_has_no_width() {
        let constant = |values: [f64; 4]| values.map(|v| vec![v; 12]).to_vec();
        let (a, b) = (constant([0.1, -0.1, 0.01, 0.0]), constant([0.2, 0.01, -0.3, 0.0]));
        let shared = found(&a, &b);
        let certain = |value| Estimate { value, interval: Some(Interval { low: value, high: value }) };
        let third = shared.jaccard.unwrap();
        let width = third.interval.map(|i| i.high - i.low).unwrap();
        assert_eq!((shared.n, third.value), (certain(1.0), 1.0 / 3.0));
        assert!(width < 1e-12, "{third:?}");
        let none = found(&constant([0.01; 4]), &b);
        assert_eq!((none.n, none.jaccard), (certain(0.0), Some(certain(0.0))));
        let nothing = found(&constant([0.01; 4]), &constant([0.0; 4]));
        assert_eq!((nothing.n, nothing.jaccard), (certain(0.0), None));
        let few = |series: Vec<Vec<f64>>| series.iter().map(|s| s[..9].to_vec()).collect::<Vec<_>>();
        let few = found(&few(a), &few(b));
        assert_eq!((few.n.value, few.n.interval, few.jaccard.unwrap().interval), (1.0, None, None));
    }

    /// A count is the limit of a share of very many heads.
    #[test]
    fn the_interval_of_a_number_is_the_limit_of_wilsons() {
        let z2 = 1.959_963_985f64.powi(2);
        let of_share = Scale::Share.interval(30.0 / 1e6, z2 / 1e6);
        let of_number = Scale::Number { most: 1e6 }.interval(30.0, z2);
        assert_eq!(of_number.low, (1e6 * of_share.low).floor(), "{of_share:?}");
        assert_eq!(of_number.high, (1e6 * of_share.high).ceil(), "{of_share:?}");
        // A Poisson count of 0: up to z².
        let of_number = Scale::Number { most: 100.0 }.interval(0.0, z2);
        assert_eq!((of_number.low, of_number.high), (0.0, 4.0));
        assert_eq!(Scale::Number { most: 2.0 }.interval(1.0, z2).high, 2.0);
    }
}
