//! Intervals for a correlation over heads whose values were themselves measured on a sample of prompts.
//!
//! Both samples add uncertainty. Resampling the heads captures the variation of the heads together with their
//! individual measurement noise; resampling the prompts captures the noise that all heads share, and shows how much
//! noise attenuates the correlation (the same bias as in the estimate itself, so it can be subtracted). On Fisher's
//! scale, z = artanh r, the interval is
//!
//! ```text
//! z − bias_prompts ± q · √(se_heads² + var_prompts)
//! ```
//!
//! `se_heads` is the standard error from the influence of each head, which assumes no distribution (the "asymptotically distribution-free" one; Bishara, Li and Nash
//! 2018, British Journal of Mathematical and Statistical Psychology 71), and q the 95% quantile of |z* − z| / se* over resampled heads: the symmetric bootstrap-t
//! interval (Hall 1988, Journal of the Royal Statistical Society B 50; on the scale of a variance-stabilising transformation, as recommended by Efron and Tibshirani
//! 1993, section 12.6). It is well calibrated for moderately heavy-tailed effects, as those of heads are; `docs/statistics.md` has the coverages, including the case in
//! which it is too narrow: Pearson's correlation if a handful of heads carry the effect. The obvious alternative, percentiles of a joint resampling of heads and
//! prompts, counts the noise bias twice.

use rayon::prelude::*;

use super::correlation::{Correlation, Counted};
use super::interval::Interval;
use super::resampling::{Seed, index_below};

/// Resamples of heads and of prompts: enough to determine widths to about 2%.
pub(super) const N_RESAMPLES: usize = 2_000;
/// Minimum number of heads for a meaningful bootstrap over heads.
pub const FEWEST_HEADS: usize = 8;

/// One quantity of all heads, measured on weighted prompts.
#[derive(Debug, Clone, Copy)]
pub struct Measured<'a> {
    /// Value of each head on each prompt. `[n_heads]` of `[n_prompts]`
    pub series: &'a [Vec<f64>],
    /// How often each prompt was drawn. `[n_prompts]`
    pub weights: &'a [u32],
}

/// The effect of sampling prompts on a correlation, on Fisher's scale; see
/// [`resampled`](super::correlation_prompts::resampled).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PromptNoise {
    /// Mean of z over resampled prompts, minus z of the prompts themselves.
    pub bias: f64,
    /// Standard deviation of z over resampled prompts.
    pub sd: f64,
}

/// The interval of the correlation between `x` and `y` over heads, or over heads and prompts if `noise` gives the
/// prompts' contribution. `None` if it cannot be estimated: fewer than [`FEWEST_HEADS`], or no variation.
#[must_use]
pub fn correlation_interval(
    x: &[f64],
    y: &[f64],
    kind: Correlation,
    noise: Option<PromptNoise>,
    level: f64,
    seed: &Seed,
) -> Option<Interval> {
    let n_heads = x.len();
    let estimate = kind.of(x, y)?;
    if n_heads < FEWEST_HEADS {
        return None;
    }
    let Some(observed) = fisher(estimate) else {
        return Some(Interval { low: estimate, high: estimate });
    };
    let counted = Counted::new(x, y);
    let standard_error = counted.on_fisher_scale(kind, &vec![1.0; n_heads])?.standard_error;
    let studentised = (0..N_RESAMPLES as u64).into_par_iter().filter_map(|resample| {
        let mut rng = seed.stream(resample);
        let mut counts = vec![0.0; n_heads];
        for _ in 0..n_heads {
            counts[index_below(&mut rng, n_heads as u32) as usize] += 1.0;
        }
        let resampled = counted.on_fisher_scale(kind, &counts)?;
        let t = (resampled.z - observed).abs() / resampled.standard_error;
        // A few collinear heads look certain, but are not.
        Some(if t.is_nan() { f64::INFINITY } else { t })
    });
    let mut studentised: Vec<f64> = studentised.collect();
    if studentised.len() < N_RESAMPLES / 2 {
        return None;
    }
    studentised.sort_unstable_by(f64::total_cmp);
    let place = (level * (studentised.len() + 1) as f64).ceil() as usize;
    let quantile = studentised[place.clamp(1, studentised.len()) - 1];
    let noise = noise.unwrap_or(PromptNoise { bias: 0.0, sd: 0.0 });
    let centre = observed - noise.bias;
    // Too few different heads say nothing: the interval is infinitely wide.
    let half = if quantile.is_finite() { quantile * standard_error.hypot(noise.sd) } else { f64::INFINITY };
    Some(Interval { low: (centre - half).tanh(), high: (centre + half).tanh() })
}

/// artanh r, `None` for ±1.
pub(super) fn fisher(r: f64) -> Option<f64> {
    (r.abs() < 1.0 - 1e-12).then(|| r.atanh())
}

/// Mean and standard deviation, summed in order; `None` for fewer than half of the resamples.
pub(super) fn mean_and_sd(values: &[f64]) -> Option<(f64, f64)> {
    if values.len() < N_RESAMPLES / 2 {
        return None;
    }
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0);
    Some((mean, variance.sqrt()))
}
