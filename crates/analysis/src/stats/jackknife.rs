//! The jackknife, and an unbiased sum of squared means, for which it is needed.
//!
//! A squared mean is biased upwards by the variance of the mean, so a sum of many is biased by all their noise. Where
//! that matters (a correlation of noisy values, shares of effects near the noise) the bias is subtracted; since a
//! bootstrap sample would contain the noise twice, the uncertainty is estimated by the jackknife.

use super::interval::{Interval, student_quantile};

/// Σ over several series of their squared mean, without noise bias.
#[derive(Debug, Clone, PartialEq)]
pub struct SquaredMeans {
    /// Σ_h (mean_h² − s_h²/n), whose expectation is Σ_h μ_h²; may be below 0.
    pub value: f64,
    /// The same with one draw of each prompt left out. `[n_prompts]`
    pub without: Vec<f64>,
}

impl SquaredMeans {
    /// Of `series` `[n_series]` of `[n_prompts]`, with `weights` `[n_prompts]`; s² is the variance over drawn prompts.
    /// `None` for fewer than 3 draws.
    #[must_use]
    pub fn new(series: &[Vec<f64>], weights: &[u32]) -> Option<Self> {
        let n: f64 = weights.iter().copied().map(f64::from).sum();
        if n < 3.0 {
            return None;
        }
        // Σ_h x_p², Σ_h mean_h x_p and Σ_h mean_h², all that leaving a prompt out depends on. [n_prompts]
        let mut squares = vec![0.0; weights.len()];
        let mut products = vec![0.0; weights.len()];
        let mut of_means = 0.0;
        for values in series {
            let mean = super::bootstrap::weighted_mean(values, weights);
            of_means += mean * mean;
            for ((square, product), x) in squares.iter_mut().zip(&mut products).zip(values) {
                *square += x * x;
                *product += mean * x;
            }
        }
        let all: f64 = squares.iter().zip(weights).map(|(s, &w)| s * f64::from(w)).sum();
        // From Σ x² and Σ mean² of n draws.
        let unbiased = |squares: f64, means: f64, n: f64| means - (squares - n * means) / (n * (n - 1.0));
        let without = |(square, product): (&f64, &f64)| {
            // The mean without x is (n · mean − x) / (n − 1).
            let means = (n * n * of_means - 2.0 * n * product + square) / ((n - 1.0) * (n - 1.0));
            unbiased(all - square, means, n - 1.0)
        };
        Some(Self {
            value: unbiased(all, of_means, n),
            without: squares.iter().zip(&products).map(without).collect(),
        })
    }
}

/// Values of a statistic with one draw of one sample left out. `[n_prompts]`, with that sample's weights.
#[derive(Debug, Clone, Copy)]
pub struct LeftOut<'a> {
    /// The statistic without one draw of each prompt.
    pub values: &'a [f64],
    /// How often each prompt was drawn.
    pub weights: &'a [u32],
}

impl LeftOut<'_> {
    fn n(&self) -> f64 {
        self.weights.iter().copied().map(f64::from).sum()
    }

    /// Tukey's estimate, (n − 1)/n · Σ (θ_without − mean)².
    fn variance(&self) -> f64 {
        let n = self.n();
        let mean = super::bootstrap::weighted_mean(self.values, self.weights);
        let squares: f64 =
            self.values.iter().zip(self.weights).map(|(v, &w)| f64::from(w) * (v - mean).powi(2)).sum();
        (n - 1.0) / n * squares
    }
}

/// The interval of a statistic of several independent samples: `estimate` ± t · standard error by the jackknife (Efron and
/// Tibshirani 1993, chapter 11), whose variances add, with Welch and Satterthwaite's degrees of freedom.
///
/// A statistic that no prompt changes, such as the share of an empty category, has an interval of zero width. `None` if
/// the statistic is undefined without some prompt.
#[must_use]
pub fn jackknife_interval(estimate: f64, samples: &[LeftOut<'_>], level: f64) -> Option<Interval> {
    let (mut variance, mut inverse_df) = (0.0, 0.0);
    for sample in samples {
        let own = sample.variance();
        variance += own;
        inverse_df += own * own / (sample.n() - 1.0);
    }
    if variance == 0.0 {
        return Some(Interval { low: estimate, high: estimate });
    }
    let half = student_quantile(0.5 * (1.0 + level), variance * variance / inverse_df) * variance.sqrt();
    half.is_finite().then_some(Interval { low: estimate - half, high: estimate + half })
}

#[cfg(test)]
mod tests {
    use super::super::bootstrap::weighted_mean;
    use super::*;

    fn series() -> (Vec<Vec<f64>>, Vec<u32>) {
        let values = |shift: u32| (0..7).map(|i| f64::from((i * 37 + shift) % 11) - 4.0).collect();
        (vec![values(1), values(5), values(8)], vec![1, 2, 1, 3, 1, 1, 2])
    }

    /// Compared with the definition: every pair of different draws, in the whole sample and without one draw.
    #[test]
    fn squared_means_are_means_of_products_of_different_draws() {
        let (series, weights) = series();
        let pairs = |weights: &[u32]| -> f64 {
            let n: f64 = weights.iter().copied().map(f64::from).sum();
            let of = |x: &Vec<f64>| {
                let sum = weighted_mean(x, weights) * n;
                let squares: f64 = x.iter().zip(weights).map(|(x, &w)| f64::from(w) * x * x).sum();
                (sum * sum - squares) / (n * (n - 1.0))
            };
            series.iter().map(of).sum()
        };
        let found = SquaredMeans::new(&series, &weights).unwrap();
        assert!((found.value - pairs(&weights)).abs() < 1e-12);
        for (p, without) in found.without.iter().enumerate() {
            let mut weights = weights.clone();
            weights[p] -= 1;
            assert!((without - pairs(&weights)).abs() < 1e-12, "{p}");
        }
        assert_eq!(SquaredMeans::new(&series, &[1, 1, 0, 0, 0, 0, 0]), None);
    }

    #[test]
    fn the_jackknife_of_a_mean_is_its_standard_interval() {
        let (series, weights) = series();
        let (x, n) = (&series[0], 11.0);
        let mean = weighted_mean(x, &weights);
        let without: Vec<f64> = x.iter().map(|x| (n * mean - x) / (n - 1.0)).collect();
        let found =
            jackknife_interval(mean, &[LeftOut { values: &without, weights: &weights }], 0.95).unwrap();
        let squares: f64 = x.iter().zip(&weights).map(|(x, &w)| f64::from(w) * (x - mean).powi(2)).sum();
        let half = student_quantile(0.975, n - 1.0) * (squares / (n - 1.0) / n).sqrt();
        assert!((found.high - (mean + half)).abs() < 1e-12, "{found:?} {mean} ± {half}");
        let one = LeftOut { values: &[2.0; 7], weights: &weights };
        assert_eq!(jackknife_interval(2.0, &[one], 0.95), Some(Interval { low: 2.0, high: 2.0 }));
        let none = LeftOut { values: &[f64::NAN; 7], weights: &weights };
        assert_eq!(jackknife_interval(2.0, &[none], 0.95), None);
    }
}
