//! Uncertainty over prompts of the correlation over one model's heads.
//!
//! All heads of a model are measured, so they are not a sample; the prompts are. Two questions, both about this model:
//!
//! - **What would equally many other prompts, or prompts of other templates, give?** [`resampled`]: on Fisher's scale, z
//!   ± t · √(var_x + var_y), with the variances of z when resampling the prompts (or whole templates) of one task and
//!   keeping the other's, each times n/(n − 1), and Welch and Satterthwaite's degrees of freedom.
//! - **What would the correlation be if every effect were measured without noise?** [`disattenuated`]: noise attenuates a
//!   correlation. Spearman's (1904) correction subtracts the noise from the variances; here that is the sampling variance of
//!   each head's mean, relative to the mean of all heads, since a shift common to all heads does not affect a correlation.

use std::ops::Range;

use rayon::prelude::*;

use super::bootstrap::weighted_mean;
use super::clusters::{FEWEST_CLUSTERS, n_clusters, places};
use super::correlation::{Correlation, Ranked};
use super::correlation_bootstrap::{Measured, N_RESAMPLES, PromptNoise, fisher, mean_and_sd};
use super::functions::Estimate;
use super::interval::{FEWEST_PROMPTS, Interval, student_quantile};
use super::jackknife::{LeftOut, SquaredMeans, jackknife_interval};
use super::resampling::{Draws, Seed};
use super::weighted_sums::PackedSeries;

/// Resamples per unit of parallel work.
const AT_ONCE: usize = 32;

/// The units of resampling.
#[derive(Debug, Clone, Copy)]
pub enum Over<'a> {
    /// Individual prompts.
    Prompts,
    /// Whole templates: of `x` and of `y`, each prompt's. `[n_prompts]`
    Templates([&'a [u32]; 2]),
}

/// Resampling results for one correlation between the heads' means.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Resampled {
    /// Its interval over other prompts or templates of both tasks. `None` for fewer than [`FEWEST_PROMPTS`] distinct prompts
    /// or [`FEWEST_CLUSTERS`] templates of a task, no variation, or a correlation of exactly ±1.
    pub interval: Option<Interval>,
    /// The effect of resampling both tasks at once; `None` as for the interval, but regardless of the number of
    /// prompts.
    pub noise: Option<PromptNoise>,
}

/// Both correlations ([`Correlation::BOTH`]) between the heads' means, from the same resamples of prompts or templates.
#[must_use]
pub fn resampled(x: Measured, y: Measured, over: Over, level: f64, seeds: &[Seed; 2]) -> [Resampled; 2] {
    let units = match over {
        Over::Prompts => [Some(Units::prompts(&x)), Some(Units::prompts(&y))],
        Over::Templates([of_x, of_y]) => [Units::templates(&x, of_x), Units::templates(&y, of_y)],
    };
    let [Some(of_x), Some(of_y)] = units else { return [Resampled::default(); 2] };
    let means = [means(&x), means(&y)];
    let [fixed_x, fixed_y] = means.each_ref().map(|means| Ranked::new(means));
    let z_of = |x: &Ranked, y: &Ranked| Correlation::BOTH.map(|kind| x.correlation(kind, y).and_then(fisher));
    let observed = z_of(&fixed_x, &fixed_y);
    // With x, y, or both resampled. [n_resamples][3][2]
    let z: Vec<[[Option<f64>; 2]; 3]> = (0..N_RESAMPLES.div_ceil(AT_ONCE))
        .into_par_iter()
        .flat_map_iter(|block| {
            let streams = block * AT_ONCE..N_RESAMPLES.min((block + 1) * AT_ONCE);
            let [x, y] =
                [of_x.resample(&seeds[0], streams.clone()), of_y.resample(&seeds[1], streams.clone())];
            let of_one = |(x, y): (&[f64], &[f64])| {
                let (x, y) = (Ranked::new(x), Ranked::new(y));
                [z_of(&x, &fixed_y), z_of(&fixed_x, &y), z_of(&x, &y)]
            };
            let n_heads = means[0].len();
            x.chunks_exact(n_heads).zip(y.chunks_exact(n_heads)).map(of_one).collect::<Vec<_>>()
        })
        .collect();
    let enough =
        [&x, &y].iter().all(|m| matches!(over, Over::Templates(_)) || m.weights.len() >= FEWEST_PROMPTS);
    [0, 1].map(|kind| {
        let spread =
            |which: usize| mean_and_sd(&z.iter().filter_map(|z| z[which][kind]).collect::<Vec<f64>>());
        let (Some(observed), Some(of_x_alone), Some(of_y_alone), Some((mean, sd))) =
            (observed[kind], spread(0), spread(1), spread(2))
        else {
            return Resampled::default();
        };
        let (mut variance, mut inverse_df) = (0.0, 0.0);
        for ((_, sd), units) in [of_x_alone, of_y_alone].into_iter().zip([&of_x, &of_y]) {
            let df = units.draws.len() as f64 - 1.0;
            let own = sd.powi(2) * (df + 1.0) / df;
            variance += own;
            inverse_df += own * own / df;
        }
        let half = student_quantile(0.5 * (1.0 + level), variance * variance / inverse_df) * variance.sqrt();
        Resampled {
            interval: (enough && half.is_finite())
                .then(|| Interval { low: (observed - half).tanh(), high: (observed + half).tanh() }),
            noise: Some(PromptNoise { bias: mean - observed, sd }),
        }
    })
}

/// Pearson's correlation between the heads' effects, corrected for the noise of their measurement, with its interval over
/// prompts by the jackknife; both clipped to ±1.
///
/// With x̃ the effects relative to the mean of all heads, r = Σ x̃ỹ / √(Σ x̃² · Σ ỹ²), where the sums of squares are those of
/// [`SquaredMeans`]. `None` with fewer than [`FEWEST_PROMPTS`] distinct prompts of a task, fewer than 3 heads, or effects
/// that vary no more than their noise.
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
    // Leaving out a draw of one task does not change the other's values.
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

/// Each head's values minus the mean of all heads on that prompt. `[n_heads]` of `[n_prompts]`
fn centred(measured: &Measured) -> Vec<Vec<f64>> {
    let n_heads = measured.series.len() as f64;
    let common: Vec<f64> = (0..measured.weights.len())
        .map(|prompt| measured.series.iter().map(|s| s[prompt]).sum::<f64>() / n_heads)
        .collect();
    measured.series.iter().map(|s| s.iter().zip(&common).map(|(x, c)| x - c).collect()).collect()
}

/// The units of resampling, as sums over their prompts.
struct Units {
    /// Σ w·x of each head, and Σ w, over the prompts of a unit. `[n_heads + 1]` of `[n_units]`
    sums: PackedSeries,
    n_units: usize,
    draws: Draws,
}

impl Units {
    /// One unit per drawn prompt.
    fn prompts(measured: &Measured) -> Self {
        let n_units = measured.weights.len();
        let ones = vec![1.0; n_units];
        let series = measured.series.iter().chain(std::iter::once(&ones)).map(Vec::as_slice);
        let series: Vec<&[f64]> = series.collect();
        Self {
            sums: PackedSeries::new(n_units, series.into_iter()),
            n_units,
            draws: Draws::new(measured.weights),
        }
    }

    /// One unit per template.
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

    /// The heads' means under some resamples. `[n_resamples, n_heads]`
    fn resample(&self, seed: &Seed, streams: Range<usize>) -> Vec<f64> {
        let n_sums = self.sums.len();
        let mut counts = vec![0.0; streams.len() * self.n_units];
        for (stream, counts) in streams.clone().zip(counts.chunks_exact_mut(self.n_units)) {
            self.draws.resample(&mut seed.stream(stream as u64), counts);
        }
        let mut sums = vec![0.0; streams.len() * n_sums];
        self.sums.weighted_sums(&counts, &mut sums);
        let of_resample = |sums: &[f64]| {
            let (heads, total) = sums.split_at(n_sums - 1);
            heads.iter().map(|sum| sum / total[0]).collect::<Vec<f64>>()
        };
        sums.chunks_exact(n_sums).flat_map(of_resample).collect()
    }
}
