//! Sequential Monte Carlo p-values are valid, and lose little power.

mod common;

use common::normal;
use cs_analysis::ablation::{ENOUGH_BEYOND, SequentialP};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

const N_TRIALS: usize = 20_000;
const LEVELS: [f64; 6] = [0.01, 0.02, 0.05, 0.1, 0.25, 0.5];

/// Shares of p-values that are at most each of [`LEVELS`].
fn shares(mut p_value: impl FnMut(&mut ChaCha8Rng) -> f64) -> [f64; 6] {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let p_values: Vec<f64> = (0..N_TRIALS).map(|_| p_value(&mut rng)).collect();
    LEVELS.map(|level| p_values.iter().filter(|p| **p <= level).count() as f64 / N_TRIALS as f64)
}

/// Three standard errors of a share.
fn error(level: f64) -> f64 {
    3.0 * (level * (1.0 - level) / N_TRIALS as f64).sqrt()
}

#[test]
fn p_values_are_uniform_where_they_can_be() {
    // At 99 sets and these levels g / n would also be valid; at 100 only (g + 1) / (n + 1) is.
    for n_sets in [99, 100, 199, 999] {
        let found = shares(|rng| {
            let hero = normal(rng);
            SequentialP::new(hero, (0..n_sets).map(|_| normal(rng))).p_value
        });
        for (share, level) in found.into_iter().zip(LEVELS) {
            println!("{n_sets} sets, p <= {level}: {share:.4}");
            assert!(share <= level + error(level), "{n_sets} sets: {share} of p-values are at most {level}");
            // p-values are (g + 1)/(n + 1) or 10/n, so there is one close below most levels.
            let reached = level * (n_sets + 1) as f64 >= 1.0;
            assert!(
                !reached || share >= 0.75 * level - error(level),
                "{n_sets} sets: {share} at most {level}"
            );
        }
    }
}

/// Ties, which are frequent for accuracies, make p-values larger, never smaller.
#[test]
fn ties_are_no_evidence() {
    let found = shares(|rng| {
        let mut value = || (2.0 * normal(rng)).round();
        let hero = value();
        SequentialP::new(hero, (0..199).map(|_| value())).p_value
    });
    for (share, level) in found.into_iter().zip(LEVELS) {
        assert!(share <= level + error(level), "{share} of p-values are at most {level}");
    }
}

/// A random hero set from few sets, and all others in random order.
#[test]
fn few_sets_hold_the_level_too() {
    for n_possible in [8u32, 28, 64] {
        let found = shares(|rng| {
            let mut order: Vec<f64> = (0..n_possible).map(f64::from).collect();
            for place in (1..order.len()).rev() {
                order.swap(place, (rng.next_u64() % (place as u64 + 1)) as usize);
            }
            SequentialP::new(order[0], order[1..].iter().copied()).p_value
        });
        for (share, level) in found.into_iter().zip(LEVELS) {
            assert!(
                share <= level + error(level),
                "{n_possible} sets: {share} of p-values are at most {level}"
            );
            assert!(level >= 1.0 / f64::from(n_possible) || share == 0.0);
        }
    }
}

/// Most sets need not be run for a hero set that is like any other.
#[test]
fn random_heroes_end_early() {
    let mut rng = ChaCha8Rng::seed_from_u64(4);
    let mut n_sets = 0;
    for _ in 0..2_000 {
        let hero = normal(&mut rng);
        let found = SequentialP::new(hero, (0..1_000).map(|_| normal(&mut rng)));
        // Only tests with a small p-value run to the end.
        assert!(found.p_value <= ENOUGH_BEYOND as f64 / 1_000.0 || !found.is_open);
        n_sets += found.n_sets;
    }
    assert!(n_sets < 2_000 * 150, "{} sets a hero on average", n_sets / 2_000);
}
