//! Confidence intervals from a bootstrap distribution.

use statrs::distribution::{ContinuousCDF, Normal, StudentsT};

/// Minimum number of distinct prompts for an interval: with fewer, resamples do not reach far enough for 95%
/// coverage.
pub const FEWEST_PROMPTS: usize = 10;

/// A confidence interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// The quantile `q` of `sorted`, interpolated linearly between order statistics (type 7 of Hyndman and Fan).
///
/// NaN for no values.
#[must_use]
pub fn quantile(sorted: &[f64], q: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else { return f64::NAN };
    let place = q.clamp(0.0, 1.0) * last as f64;
    let below = place.floor() as usize;
    let above = (below + 1).min(last);
    sorted[below] + (place - below as f64) * (sorted[above] - sorted[below])
}

/// Φ(x), the standard normal distribution function.
pub(crate) fn normal_cdf(x: f64) -> f64 {
    Normal::standard().cdf(x)
}

/// Φ⁻¹(p).
pub(crate) fn normal_quantile(p: f64) -> f64 {
    Normal::standard().inverse_cdf(p)
}

/// The quantile `p` of Student's t with `df` degrees of freedom; NaN unless `df` > 0.
#[must_use]
pub fn student_quantile(p: f64, df: f64) -> f64 {
    StudentsT::new(0.0, 1.0, df).map_or(f64::NAN, |t| t.inverse_cdf(p))
}

/// Two-sided p-value of a t statistic with `df` degrees of freedom; NaN unless `df` > 0.
#[must_use]
pub fn student_p_value(t: f64, df: f64) -> f64 {
    StudentsT::new(0.0, 1.0, df).map_or(f64::NAN, |dist| (2.0 * dist.sf(t.abs())).min(1.0))
}

/// Wilson's score interval of a share (*Journal of the American Statistical Association* 22, 1927): the true shares that
/// are no more than a normal quantile of standard errors away from the observed one. Unlike a bootstrap interval, it has
/// a positive width even if all draws are equal.
///
/// `weights`: how often each prompt was drawn; `None` below [`FEWEST_PROMPTS`] prompts.
#[must_use]
pub fn share_interval(share: f64, weights: &[u32], level: f64) -> Option<Interval> {
    if weights.len() < FEWEST_PROMPTS {
        return None;
    }
    let n: f64 = weights.iter().copied().map(f64::from).sum();
    Some(score_interval(share, normal_quantile(0.5 * (1.0 - level)).powi(2) / n))
}

/// The shares x with (share − x)² ≤ k x(1 − x): Wilson's interval where k is the squared quantile over the number of draws.
pub(super) fn score_interval(share: f64, k: f64) -> Interval {
    let centre = (share + 0.5 * k) / (1.0 + k);
    let half = (k * share * (1.0 - share) + 0.25 * k * k).sqrt() / (1.0 + k);
    // Rounding could otherwise exclude the share itself at 0 and 1.
    Interval { low: (centre - half).clamp(0.0, share), high: (centre + half).clamp(share, 1.0) }
}

/// Corrections of a bootstrap interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Correction {
    /// Acceleration: how the standard error changes with the value. 0 for none.
    pub acceleration: f64,
    /// Sample size, if the interval is to be widened for small samples; see [`bca_interval`].
    pub n: Option<usize>,
}

/// √(n/(n−1)) · t quantile: the half-width of an interval in bootstrap standard deviations (Hesterberg 2015). The bootstrap's
/// variance is that of n and not of n − 1 degrees of freedom.
pub(super) fn expanded_quantile(level: f64, n: usize) -> f64 {
    let n = n as f64;
    student_quantile(0.5 * (1.0 + level), n - 1.0) * (n / (n - 1.0)).sqrt()
}

/// The bias-corrected and accelerated (BCa) interval of Efron (1987), after Efron and Tibshirani (1993), section 14.3,
/// from a sorted bootstrap distribution.
///
/// With [`Correction::n`], its normal quantile is replaced by a wider one (`expanded_quantile`), because bootstrap distributions
/// are too narrow: at 20 normal points the plain interval covers 93% instead of 95%.
#[must_use]
pub fn bca_interval(sorted: &[f64], estimate: f64, level: f64, correction: Correction) -> Interval {
    let n_resamples = sorted.len() as f64;
    let below = sorted.partition_point(|&x| x < estimate) as f64;
    let equal = sorted.partition_point(|&x| x <= estimate) as f64 - below;
    // Half of the ties count as below; half a resample at each end keeps the quantile finite.
    let share = ((below + 0.5 * equal) / n_resamples).clamp(0.5 / n_resamples, 1.0 - 0.5 / n_resamples);
    let bias = normal_quantile(share);
    let tail = 0.5 * (1.0 - level);
    let z = match correction.n {
        Some(n) if n > 1 => expanded_quantile(level, n),
        _ => -normal_quantile(tail),
    };
    let end = |z: f64| {
        let shifted = bias + z;
        let scale = 1.0 - correction.acceleration * shifted;
        // Beyond the pole of the transformation, the corrected quantile would change sign.
        let corrected = if scale > 0.0 { bias + shifted / scale } else { z.signum() * f64::INFINITY };
        quantile(sorted, normal_cdf(corrected))
    };
    Interval { low: end(-z), high: end(z) }
}
