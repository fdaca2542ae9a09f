//! What other prompts would give for the correlation over one model's heads.
//!
//! All heads of a model are measured, so they are no sample; the prompts are. Two questions, both about this model:
//!
//! - **What would as many other prompts, or prompts of other templates, give?** [`interval_over_prompts`]: on Fisher's
//!   scale, z ± t · √(var_x + var_y), with the variances of z when prompts (or whole templates) of one task are resampled
//!   and the other's are kept, each times n/(n − 1), and Welch and Satterthwaite's degrees of freedom.
//! - **What would be left if every effect were measured without noise?** [`disattenuated`]: noise pulls a correlation
//!   towards 0. Spearman's (1904) correction takes the noise off the variances; here it is the known sampling
//!   variance of each head's mean, relative to the mean of all heads, since what moves all heads alike moves no correlation.

use rayon::prelude::*;

use super::bootstrap::weighted_mean;
use super::clusters::{FEWEST_CLUSTERS, n_clusters, places};
use super::correlation::Correlation;
use super::correlation_bootstrap::{Measured, N_RESAMPLES, fisher, mean_and_sd};
use super::functions::Estimate;
use super::interval::{FEWEST_PROMPTS, Interval, student_quantile};
use super::jackknife::{LeftOut, SquaredMeans, jackknife_interval};
use super::resampling::{Draws, Seed};
use super::weighted_sums::PackedSeries;

/// What is drawn anew.
#[derive(Debug, Clone, Copy)]
pub enum Over<'a> {
    /// Prompts, each by itself.
    Prompts,
    /// Whole templates: of `x` and of `y`, each prompt's. `[n_prompts]`
    Templates([&'a [u32]; 2]),
}

/// The interval of the correlation between the heads' means, over other prompts or templates of both tasks.
///
/// `None` where it cannot be estimated: fewer than [`FEWEST_PROMPTS`] distinct prompts or [`FEWEST_CLUSTERS`] templates
/// of a task, no variation, or a correlation of exactly ±1.
#[must_use]
pub fn interval_over_prompts(
    x: Measured,
    y: Measured,
    over: Over,
    kind: Correlation,
    level: f64,
    seeds: &[Seed; 2],
) -> Option<Interval> {
    let (mean_x, mean_y) = (means(&x), means(&y));
    let observed = fisher(kind.of(&mean_x, &mean_y)?)?;
    let units = match over {
        Over::Prompts => [Units::prompts(&x)?, Units::prompts(&y)?],
        Over::Templates([of_x, of_y]) => [Units::templates(&x, of_x)?, Units::templates(&y, of_y)?],
    };
    let (mut variance, mut inverse_df) = (0.0, 0.0);
    for ((units, fixed), seed) in units.iter().zip([&mean_y, &mean_x]).zip(seeds) {
        let z = units.resampled(seed, |mean| kind.of(mean, fixed).and_then(fisher));
        let df = units.draws.len() as f64 - 1.0;
        let own = mean_and_sd(&z)?.1.powi(2) * (df + 1.0) / df;
        variance += own;
        inverse_df += own * own / df;
    }
    let half = student_quantile(0.5 * (1.0 + level), variance * variance / inverse_df) * variance.sqrt();
    half.is_finite().then(|| Interval { low: (observed - half).tanh(), high: (observed + half).tanh() })
}

/// Pearson's correlation between the heads' effects, corrected for the noise of their measurement, with its interval over
/// prompts by the jackknife; both cut off at ±1.
///
/// With x̃ the effects relative to the mean of all heads, r = Σ x̃ỹ / √(Σ x̃² · Σ ỹ²), where the sums of squares are those of
/// [`SquaredMeans`]. `None` where there is nothing to correct: fewer than [`FEWEST_PROMPTS`] distinct prompts of a task,
/// fewer than 3 heads, or effects that vary no more than their noise does.
#[must_use]
pub fn disattenuated(x: Measured, y: Measured, level: f64) -> Option<Estimate> {
    if x.series.len() < 3 || [&x, &y].iter().any(|m| m.weights.len() < FEWEST_PROMPTS) {
        return None;
    }
    let [of_x, of_y] = [centred(&x), centred(&y)];
    let centred =
        [Measured { series: &of_x, weights: x.weights }, Measured { series: &of_y, weights: y.weights }];
    let means = centred.map(|m| means(&m));
    let squares = [0, 1].map(|task| SquaredMeans::new(centred[task].series, centred[task].weights));
    let [Some(xx), Some(yy)] = squares else { return None };
    let xy: f64 = means[0].iter().zip(&means[1]).map(|(x, y)| x * y).sum();
    if xx.value <= 0.0 || yy.value <= 0.0 {
        return None;
    }
    let value = xy / (xx.value * yy.value).sqrt();
    // Without a draw of one task the other's figures stay.
    let without = |task: usize, own: &SquaredMeans, other: &SquaredMeans| -> Vec<f64> {
        let Measured { series, weights } = centred[task];
        let n: f64 = weights.iter().copied().map(f64::from).sum();
        let product = |prompt: usize| -> f64 {
            series.iter().zip(&means[1 - task]).map(|(s, other)| s[prompt] * other).sum()
        };
        let of_prompt = |prompt: usize| {
            (n * xy - product(prompt)) / (n - 1.0) / (own.without[prompt] * other.value).sqrt()
        };
        (0..weights.len()).map(of_prompt).collect()
    };
    let (without_x, without_y) = (without(0, &xx, &yy), without(1, &yy, &xx));
    let samples = [
        LeftOut { values: &without_x, weights: x.weights },
        LeftOut { values: &without_y, weights: y.weights },
    ];
    let cut = |r: f64| r.clamp(-1.0, 1.0);
    let interval = jackknife_interval(value, &samples, level);
    Some(Estimate {
        value: cut(value),
        interval: interval.map(|i| Interval { low: cut(i.low), high: cut(i.high) }),
    })
}

/// The weighted mean of each head. `[n_heads]`
fn means(measured: &Measured) -> Vec<f64> {
    measured.series.iter().map(|s| weighted_mean(s, measured.weights)).collect()
}

/// Each head's values less the mean of all heads on that prompt. `[n_heads]` of `[n_prompts]`
fn centred(measured: &Measured) -> Vec<Vec<f64>> {
    let n_heads = measured.series.len() as f64;
    let common: Vec<f64> = (0..measured.weights.len())
        .map(|prompt| measured.series.iter().map(|s| s[prompt]).sum::<f64>() / n_heads)
        .collect();
    measured.series.iter().map(|s| s.iter().zip(&common).map(|(x, c)| x - c).collect()).collect()
}

/// What is drawn together, as sums over its prompts.
struct Units {
    /// Σ w·x of each head, and Σ w, over the prompts of a unit. `[n_heads + 1]` of `[n_units]`
    sums: PackedSeries,
    n_units: usize,
    draws: Draws,
}

impl Units {
    /// Every drawn prompt by itself.
    fn prompts(measured: &Measured) -> Option<Self> {
        let n_units = measured.weights.len();
        if n_units < FEWEST_PROMPTS {
            return None;
        }
        let ones = vec![1.0; n_units];
        let series = measured.series.iter().chain(std::iter::once(&ones)).map(Vec::as_slice);
        let series: Vec<&[f64]> = series.collect();
        Some(Self {
            sums: PackedSeries::new(n_units, series.into_iter()),
            n_units,
            draws: Draws::new(measured.weights),
        })
    }

    /// All prompts of a template together.
    fn templates(measured: &Measured, templates: &[u32]) -> Option<Self> {
        let places = places(templates);
        let n_units = n_clusters(&places);
        if n_units < FEWEST_CLUSTERS {
            return None;
        }
        let ones = vec![1.0; templates.len()];
        let sums: Vec<Vec<f64>> = measured
            .series
            .iter()
            .chain(std::iter::once(&ones))
            .map(|values| {
                let mut sums = vec![0.0; n_units];
                for ((&place, x), &weight) in places.iter().zip(values).zip(measured.weights) {
                    sums[place] += f64::from(weight) * x;
                }
                sums
            })
            .collect();
        Some(Self {
            sums: PackedSeries::new(n_units, sums.iter().map(Vec::as_slice)),
            n_units,
            draws: Draws::new(&vec![1; n_units]),
        })
    }

    /// What `of` makes of the heads' means under each resample, where it makes something of them.
    fn resampled(&self, seed: &Seed, of: impl Fn(&[f64]) -> Option<f64> + Sync) -> Vec<f64> {
        let one = |resample: u64| {
            let mut counts = vec![0.0; self.n_units];
            self.draws.resample(&mut seed.stream(resample), &mut counts);
            let mut sums = vec![0.0; self.sums.len()];
            self.sums.weighted_sums(&counts, &mut sums);
            let total = sums.pop()?;
            sums.iter_mut().for_each(|sum| *sum /= total);
            of(&sums)
        };
        let values: Vec<Option<f64>> = (0..N_RESAMPLES as u64).into_par_iter().map(one).collect();
        values.into_iter().flatten().collect()
    }
}
