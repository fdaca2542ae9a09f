//! Two-stage q-values control the false discovery rate for dependent tests, such as tests of sets that share heads.

mod common;

use common::normal;
use cs_analysis::stats::two_stage;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use statrs::distribution::{ContinuousCDF, Normal};

const N_TESTS: usize = 60;
const N_TRIALS: usize = 1500;
const LEVEL: f64 = 0.05;

/// Mean false discovery proportion and its standard error: one-sided tests of means, a share `share_null` of which are 0 and
/// the others `effect` standard errors, in `n_blocks` blocks of correlation `rho`.
fn false_discovery_rate(rho: f64, n_blocks: usize, share_null: f64, effect: f64) -> (f64, f64) {
    let mut rng = ChaCha8Rng::seed_from_u64(11);
    let standard = Normal::standard();
    let is_null = |test: usize| ((test * 7) % N_TESTS) < (share_null * N_TESTS as f64).round() as usize;
    let shares: Vec<f64> = (0..N_TRIALS)
        .map(|_| {
            let blocks: Vec<f64> = (0..n_blocks).map(|_| normal(&mut rng)).collect();
            let p_values: Vec<f64> = (0..N_TESTS)
                .map(|test| {
                    let noise = rho.sqrt() * blocks[test % n_blocks] + (1.0 - rho).sqrt() * normal(&mut rng);
                    standard.sf(noise + if is_null(test) { 0.0 } else { effect })
                })
                .collect();
            let found: Vec<usize> = two_stage(&p_values)
                .iter()
                .enumerate()
                .filter(|(_, q)| **q <= LEVEL)
                .map(|(i, _)| i)
                .collect();
            let n_false = found.iter().filter(|test| is_null(**test)).count();
            n_false as f64 / found.len().max(1) as f64
        })
        .collect();
    let mean = shares.iter().sum::<f64>() / N_TRIALS as f64;
    let variance = shares.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (N_TRIALS - 1) as f64;
    (mean, (variance / N_TRIALS as f64).sqrt())
}

#[test]
fn dependent_tests_keep_the_rate() {
    for (rho, n_blocks) in [(0.0, 1), (0.5, 1), (0.9, 1), (0.5, 10), (0.9, 10)] {
        for (share_null, effect) in [(1.0, 0.0), (0.5, 1.5), (0.5, 3.0), (0.25, 3.0)] {
            let (rate, error) = false_discovery_rate(rho, n_blocks, share_null, effect);
            println!(
                "correlation {rho} in {n_blocks} blocks, {share_null} null, effect {effect}: {rate:.4} ± {error:.4}"
            );
            assert!(
                rate <= LEVEL + 3.0 * error,
                "{rho}, {n_blocks}, {share_null}, {effect}: {rate} ± {error}"
            );
        }
    }
}
