//! Bootstrap of functions of means, such as ratios and contrasts between independent samples.

use super::bootstrap::{resampled_means, weighted_mean};
use super::correlation_bootstrap::Measured;
use super::interval::{Correction, FEWEST_PROMPTS, Interval, bca_interval};
use super::resampling::{Draws, Seed};
use super::weighted_sums::PackedSeries;

/// An estimate with its interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// The estimate itself.
    pub value: f64,
    /// Its interval; `None` if fewer than half of the resamples give a value, or a sample is too small.
    pub interval: Option<Interval>,
}

/// Number of resamples, and nominal coverage of the intervals.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Coverage {
    /// Number of resamples.
    pub n_resamples: u32,
    /// Coverage of the intervals, such as 0.95.
    pub level: f64,
}

/// Estimates and intervals of `n_functions` functions of the weighted means of several independent samples.
///
/// `function` receives the means of all series, sample by sample, and fills in its values; NaN if undefined. Each sample
/// is resampled independently with its own seed, using the same resamples for all its series. Intervals are
/// [`bca_interval`]s without acceleration, expanded for the smallest sample; there is none if a sample has fewer than
/// [`FEWEST_PROMPTS`] distinct prompts. `None` for a function that has no value at the means themselves.
#[must_use]
pub fn bootstrap_functions(
    samples: &[(Measured<'_>, Seed)],
    coverage: Coverage,
    n_functions: usize,
    function: impl Fn(&[f64], &mut [f64]),
) -> Vec<Option<Estimate>> {
    let n_series: usize = samples.iter().map(|(m, _)| m.series.len()).sum();
    let n_resamples = coverage.n_resamples as usize;
    let mut means = Vec::with_capacity(n_series);
    let mut resampled = Vec::with_capacity(samples.len()); // per sample: [n_resamples, n_series]
    let mut n_smallest = usize::MAX;
    let few = samples.iter().any(|(sample, _)| sample.weights.len() < FEWEST_PROMPTS);
    for (sample, seed) in samples {
        means.extend(sample.series.iter().map(|s| weighted_mean(s, sample.weights)));
        let packed = PackedSeries::new(sample.weights.len(), sample.series.iter().map(Vec::as_slice));
        let draws = Draws::new(sample.weights);
        n_smallest = n_smallest.min(draws.len());
        resampled.push(match packed.len() {
            0 => Vec::new(),
            _ => resampled_means(&packed, &draws, sample.weights.len(), n_resamples, seed),
        });
    }
    let mut values = vec![f64::NAN; n_functions];
    function(&means, &mut values);

    let mut columns = vec![Vec::with_capacity(n_resamples); n_functions];
    let mut of_resample = vec![f64::NAN; n_functions];
    for resample in 0..n_resamples {
        means.clear();
        for ((sample, _), resampled) in samples.iter().zip(&resampled) {
            let n = sample.series.len();
            means.extend_from_slice(&resampled[resample * n..(resample + 1) * n]);
        }
        function(&means, &mut of_resample);
        for (column, &value) in columns.iter_mut().zip(&of_resample) {
            if value.is_finite() {
                column.push(value);
            }
        }
    }
    let summarise = |(value, mut column): (f64, Vec<f64>)| {
        column.sort_unstable_by(f64::total_cmp);
        let correction = Correction { acceleration: 0.0, n: Some(n_smallest) };
        let enough = !few && 2 * column.len() > n_resamples;
        value.is_finite().then(|| Estimate {
            value,
            interval: enough.then(|| bca_interval(&column, value, coverage.level, correction)),
        })
    };
    values.into_iter().zip(columns).map(summarise).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const COVERAGE: Coverage = Coverage { n_resamples: 4_000, level: 0.95 };

    /// The interval of a ratio of two means agrees with the delta method's.
    #[test]
    fn ratio_of_means() {
        let x: Vec<f64> = (0..400).map(|i| 1.0 + f64::from(i * 37 % 101) / 101.0).collect();
        let y: Vec<f64> =
            x.iter().enumerate().map(|(i, x)| 2.0 * x + f64::from(i as u32 * 53 % 97) / 97.0 - 0.5).collect();
        let weights = vec![1; 400];
        let sample = Measured { series: &[x.clone(), y.clone()], weights: &weights };
        let found = bootstrap_functions(&[(sample, Seed::new(1, &["test"]))], COVERAGE, 1, |m, out| {
            out[0] = m[1] / m[0]
        });
        let found = found[0].unwrap();
        let mean = |v: &[f64]| v.iter().sum::<f64>() / 400.0;
        let ratio = mean(&y) / mean(&x);
        assert!((found.value - ratio).abs() < 1e-12);
        let residual: f64 = x.iter().zip(&y).map(|(x, y)| (y - ratio * x).powi(2)).sum();
        let half = 1.96 * (residual / 399.0 / 400.0).sqrt() / mean(&x);
        let interval = found.interval.unwrap();
        assert!((interval.low - (ratio - half)).abs() < 0.15 * half, "{interval:?} {ratio} ± {half}");
        assert!((interval.high - (ratio + half)).abs() < 0.15 * half, "{interval:?} {ratio} ± {half}");
    }

    /// Independent samples are resampled independently: variances add.
    #[test]
    fn contrast_of_two_samples() {
        let series =
            |scale: f64| vec![(0..200).map(|i| scale * f64::from(i * 37 % 101)).collect::<Vec<f64>>()];
        let (a, b) = (series(1.0), series(-1.0));
        let weights = vec![1; 200];
        let seed = |name| Seed::new(1, &["test", name]);
        let measured = |series| Measured { series, weights: &weights };
        let samples = [(measured(&a), seed("a")), (measured(&b), seed("b"))];
        let found = bootstrap_functions(&samples, COVERAGE, 2, |m, out| {
            out[0] = m[0] + m[1];
            out[1] = f64::NAN;
        });
        assert!(found[1].is_none());
        let interval = found[0].unwrap().interval.unwrap();
        let sd = (101.0f64 * 101.0 - 1.0).sqrt() / 12f64.sqrt();
        let half = 1.96 * sd * (2.0f64 / 200.0).sqrt();
        assert!((interval.high - interval.low - 2.0 * half).abs() < 0.2 * half, "{interval:?} ± {half}");
    }
}
