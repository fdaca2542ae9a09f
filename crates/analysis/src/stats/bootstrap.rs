//! Bootstrap of many means over the same prompts.

use rayon::prelude::*;

use super::interval::{Correction, FEWEST_PROMPTS, Interval, bca_interval};
use super::resampling::{Draws, Seed};
use super::weighted_sums::PackedSeries;

/// Number of series whose resampled means are in memory at once: limits it to 20 MB for 10,000 resamples.
const SERIES_AT_ONCE: usize = 256;
/// Resamples per unit of parallel work.
const RESAMPLES_AT_ONCE: usize = 32;

/// A mean with its bootstrap interval.
#[derive(Debug, Clone, PartialEq)]
pub struct BootstrapMean {
    /// The weighted mean itself.
    pub mean: f64,
    /// Its interval; `None` for fewer than [`FEWEST_PROMPTS`] distinct prompts.
    pub interval: Option<Interval>,
    /// For each requested threshold, the share of resamples whose mean is at least that far from 0; `None`
    /// without an interval.
    pub share_at_least: Vec<Option<f64>>,
}

/// What to bootstrap and how.
#[derive(Debug, Clone, PartialEq)]
pub struct BootstrapOptions {
    /// Number of resamples.
    pub n_resamples: u32,
    /// Coverage of the intervals, such as 0.95.
    pub level: f64,
    /// Thresholds for [`BootstrapMean::share_at_least`].
    pub thresholds: Vec<f64>,
}

/// The mean of each series over weighted prompts, with a bootstrap over the prompts.
///
/// A resample draws as many prompts as were drawn originally (the sum of `weights`), with replacement, and is the same
/// for every series, since all heads were measured on the same prompts. Intervals are [`bca_interval`]s, expanded for
/// small samples, with the acceleration of a mean, Σd³ / 6(Σd²)^1.5.
///
/// `series` `[n_series]` of `[n_prompts]`, `weights` `[n_prompts]`, at least one of them above 0. Memory: 20 MB for
/// 10,000 resamples, regardless of the number of series and prompts.
#[must_use]
pub fn bootstrap_means(
    series: &[Vec<f64>],
    weights: &[u32],
    options: &BootstrapOptions,
    seed: &Seed,
) -> Vec<BootstrapMean> {
    let draws = Draws::new(weights);
    let n_resamples = options.n_resamples as usize;
    series
        .chunks(SERIES_AT_ONCE)
        .flat_map(|group| {
            let packed = PackedSeries::new(weights.len(), group.iter().map(Vec::as_slice));
            let resampled = resampled_means(&packed, &draws, weights.len(), n_resamples, seed);
            let summaries: Vec<BootstrapMean> = (0..group.len())
                .into_par_iter()
                .map(|s| {
                    let column = resampled.iter().skip(s).step_by(group.len()).copied().collect();
                    summarise(&group[s], weights, column, draws.len(), options)
                })
                .collect();
            summaries
        })
        .collect()
}

/// The means under every resample. `[n_resamples, n_series]`
pub(super) fn resampled_means(
    series: &PackedSeries,
    draws: &Draws,
    n_prompts: usize,
    n_resamples: usize,
    seed: &Seed,
) -> Vec<f64> {
    let mut means = vec![0.0; n_resamples * series.len()];
    means.par_chunks_mut(RESAMPLES_AT_ONCE * series.len()).enumerate().for_each(|(block, means)| {
        let n_rows = means.len() / series.len();
        let mut counts = vec![0.0; n_rows * n_prompts];
        for (row, counts) in counts.chunks_exact_mut(n_prompts).enumerate() {
            draws.resample(&mut seed.stream((block * RESAMPLES_AT_ONCE + row) as u64), counts);
        }
        series.weighted_sums(&counts, means);
        for mean in means {
            *mean /= draws.len() as f64;
        }
    });
    means
}

fn summarise(
    values: &[f64],
    weights: &[u32],
    mut resampled: Vec<f64>,
    n_drawn: usize,
    options: &BootstrapOptions,
) -> BootstrapMean {
    let mean = weighted_mean(values, weights);
    if weights.len() < FEWEST_PROMPTS {
        return BootstrapMean { mean, interval: None, share_at_least: vec![None; options.thresholds.len()] };
    }
    let n_resamples = resampled.len() as f64;
    let share_at_least = options
        .thresholds
        .iter()
        .map(|&t| Some(resampled.iter().filter(|m| m.abs() >= t).count() as f64 / n_resamples))
        .collect();
    resampled.sort_unstable_by(f64::total_cmp);
    let correction =
        Correction { acceleration: acceleration_of_mean(values, weights, mean), n: Some(n_drawn) };
    let interval = Some(bca_interval(&resampled, mean, options.level, correction));
    BootstrapMean { mean, interval, share_at_least }
}

/// Σ w·x / Σ w, summed in order; −0 becomes 0.
#[must_use]
pub fn weighted_mean(values: &[f64], weights: &[u32]) -> f64 {
    let (mut sum, mut total) = (0.0, 0.0);
    for (&value, &weight) in values.iter().zip(weights) {
        sum += value * f64::from(weight);
        total += f64::from(weight);
    }
    sum / total + 0.0
}

/// The jackknife acceleration, which for a mean is a sixth of the skewness over √n; 0 if all values are
/// equal.
fn acceleration_of_mean(values: &[f64], weights: &[u32], mean: f64) -> f64 {
    let (mut squares, mut cubes) = (0.0, 0.0);
    for (&value, &weight) in values.iter().zip(weights) {
        let deviation = value - mean;
        squares += deviation * deviation * f64::from(weight);
        cubes += deviation * deviation * deviation * f64::from(weight);
    }
    let denominator = 6.0 * squares * squares.sqrt();
    if denominator > 0.0 { cubes / denominator } else { 0.0 }
}
