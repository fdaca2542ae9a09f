//! Intervals of accuracies, of normalised influences and of damages in their hardest cases: nearly all prompts correct,
//! few pairs, skewed effects.

mod common;

use common::{normal, uniform};
use cs_analysis::stats::Seed;
use cs_analysis::stats::correlation_bootstrap::Measured;
use cs_analysis::stats::functions::{Coverage, bootstrap_functions};
use cs_analysis::stats::interval::{FEWEST_PROMPTS, share_interval};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

const LEVEL: f64 = 0.95;

/// Probability that the interval of a share from `n` prompts covers the true share, summed over all outcomes.
fn coverage_of_share(truth: f64, n: usize) -> f64 {
    let weights = vec![1; n];
    let (mut coverage, mut ways) = (0.0, 1.0);
    for right in 0..=n {
        let probability = ways * truth.powi(right as i32) * (1.0 - truth).powi((n - right) as i32);
        let interval = share_interval(right as f64 / n as f64, &weights, LEVEL).unwrap();
        if (interval.low..=interval.high).contains(&truth) {
            coverage += probability;
        }
        ways *= (n - right) as f64 / (right + 1) as f64;
    }
    coverage
}

/// Shares are discrete: no interval covers 95% at every truth, but on average over truths, and never far below.
#[test]
fn intervals_of_accuracies_cover_the_truth() {
    for n in [10, 24, 80, 240] {
        let truths: Vec<f64> = (1..400).map(|i| f64::from(i) / 400.0).collect();
        let coverages: Vec<f64> = truths.iter().map(|&truth| coverage_of_share(truth, n)).collect();
        let mean = coverages.iter().sum::<f64>() / coverages.len() as f64;
        // Wrong answers that are rarer than one in `n` prompts are mostly not observed.
        let seen = |(truth, _): &(&f64, &f64)| (1.0 / n as f64..=1.0 - 1.0 / n as f64).contains(*truth);
        let least = truths.iter().zip(&coverages).filter(seen).map(|(_, &c)| c).fold(1.0, f64::min);
        println!("{n} prompts: mean {mean:.4}, least {least:.4} between 1/n and 1 − 1/n");
        assert!((0.945..=0.965).contains(&mean), "{n}: {mean}");
        assert!(least >= 0.9, "{n}: {least}");
    }
}

#[test]
fn an_accuracy_that_is_perfect_has_an_interval() {
    let all_right = share_interval(1.0, &[1; 80], LEVEL).unwrap();
    assert_eq!(all_right.high, 1.0);
    assert!((all_right.low - 0.9542).abs() < 1e-3, "{all_right:?}");
    let none_right = share_interval(0.0, &[1; 80], LEVEL).unwrap();
    assert_eq!(none_right.low, 0.0);
    assert!((1.0 - none_right.high - all_right.low).abs() < 1e-12);
    // A prompt drawn twice counts twice.
    assert_eq!(share_interval(0.7, &[2; 40], LEVEL), share_interval(0.7, &[1; 80], LEVEL));
    assert_eq!(share_interval(1.0, &[9; FEWEST_PROMPTS - 1], LEVEL), None);
}

/// Draws of a clean run, a corrupted run and the part that a head restores: with skewed gaps and varying parts.
fn gap_and_influence(rng: &mut ChaCha8Rng) -> (f64, f64) {
    let gap = 4.0 * (0.5 * normal(rng)).exp();
    (gap, gap * (0.3 + 0.2 * normal(rng)) + 0.5 * normal(rng))
}

#[test]
fn intervals_of_normalised_influences_cover_the_truth() {
    for (n, trials) in [(12, 1_000), (24, 1_000), (80, 500)] {
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        // A ratio of means: the mean share weighted by the gap, 0.3.
        covers(&format!("normalised influence, {n} pairs"), trials, 0.3, |trial| {
            let (gap, influence) = (0..n).map(|_| gap_and_influence(&mut rng)).unzip();
            let (series, weights) = ([gap, influence], vec![1; n]);
            let sample = Measured { series: &series, weights: &weights };
            let seed = Seed::new(trial, &["influence"]);
            (vec![(sample.series.to_vec(), seed)], |m: &[f64]| m[1] / m[0])
        });
    }
}

/// The interaction of dissociation: contrasts of damages on two tasks with separate prompts, one of them sparse.
#[test]
fn intervals_of_interactions_cover_the_truth() {
    for (n, trials) in [(12, 1_000), (24, 1_000), (80, 500)] {
        let mut rng = ChaCha8Rng::seed_from_u64(6);
        covers(&format!("interaction, {n} prompts a task"), trials, 1.0 + 0.6, |trial| {
            let skewed = (0..n).map(|_| -uniform(&mut rng).ln()).collect();
            let sparse =
                (0..n).map(|_| if uniform(&mut rng) < 0.2 { 3.0 } else { 0.0 } + 0.3 * normal(&mut rng));
            let samples = vec![
                (vec![skewed], Seed::new(trial, &["a"])),
                (vec![sparse.collect()], Seed::new(trial, &["b"])),
            ];
            (samples, |m: &[f64]| m[0] + m[1])
        });
    }
}

/// Samples, each of some series, and a function of the means of all series.
type Case = (Vec<(Vec<Vec<f64>>, Seed)>, fn(&[f64]) -> f64);

#[track_caller]
fn covers(what: &str, trials: u64, truth: f64, mut draw: impl FnMut(u64) -> Case) {
    let coverage = Coverage { n_resamples: 1_000, level: LEVEL };
    let mut held = 0;
    for trial in 0..trials {
        let (samples, function) = draw(trial);
        let weights = vec![1; samples[0].0[0].len()];
        let measured: Vec<_> =
            samples.iter().map(|(series, seed)| (Measured { series, weights: &weights }, *seed)).collect();
        let found = bootstrap_functions(&measured, coverage, 1, |means, out| out[0] = function(means));
        let interval = found[0].unwrap().interval.unwrap();
        held += u64::from(interval.low <= truth && truth <= interval.high);
    }
    let share = held as f64 / trials as f64;
    println!("{what}: {share:.4}");
    assert!((0.93..=0.97).contains(&share), "{what}: {share}");
}
