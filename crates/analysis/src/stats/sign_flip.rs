//! Sign-flip permutation test of many means over the same prompts.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::Rng;
use rayon::prelude::*;

use super::resampling::Seed;
use super::weighted_sums::PackedSeries;

/// Flips per unit of parallel work.
const FLIPS_AT_ONCE: usize = 32;

/// Two-sided p-values of the hypothesis that a series is symmetric about 0, one for each series.
///
/// Under the hypothesis, the sign of each drawn prompt's difference is random. p = (1 + flips whose |sum| reaches the
/// observed one) / (1 + `n_flips`) is never 0, which makes the test exact for any number of flips (Phipson and Smyth,
/// 2010). All series share their flips. A prompt of weight w counts as w draws, each with its own sign.
///
/// `series` `[n_series]` of `[n_prompts]`, `weights` `[n_prompts]`.
#[must_use]
pub fn sign_flip_p_values(series: &[Vec<f64>], weights: &[u32], n_flips: u32, seed: &Seed) -> Vec<f64> {
    let n_prompts = weights.len();
    let packed = PackedSeries::new(n_prompts, series.iter().map(Vec::as_slice));
    // A flip that gives the observed sum up to rounding counts as reaching it: without this, a test on few prompts, where many
    // flips give exactly the same sum, would depend on the order of additions.
    let reached: Vec<f64> = series
        .iter()
        .map(|values| {
            let terms = || values.iter().zip(weights).map(|(&v, &w)| v * f64::from(w));
            let scale: f64 = terms().map(f64::abs).sum();
            terms().sum::<f64>().abs() - 1e-12 * scale
        })
        .collect();
    let n_blocks = (n_flips as usize).div_ceil(FLIPS_AT_ONCE);
    let counts = (0..n_blocks)
        .into_par_iter()
        .map(|block| {
            let first = block * FLIPS_AT_ONCE;
            let n_rows = FLIPS_AT_ONCE.min(n_flips as usize - first);
            let mut signs = vec![0.0; n_rows * n_prompts];
            for (row, signs) in signs.chunks_exact_mut(n_prompts).enumerate() {
                flip_signs(&mut seed.stream((first + row) as u64), weights, signs);
            }
            let mut sums = vec![0.0; n_rows * packed.len()];
            packed.weighted_sums(&signs, &mut sums);
            let mut counts = vec![0u32; packed.len()];
            for row in sums.chunks_exact(packed.len().max(1)) {
                for ((count, sum), reached) in counts.iter_mut().zip(row).zip(&reached) {
                    *count += u32::from(sum.abs() >= *reached);
                }
            }
            counts
        })
        // Integers, so the order in which threads add them does not matter.
        .reduce(
            || vec![0u32; packed.len()],
            |mut a, b| {
                a.iter_mut().zip(b).for_each(|(a, b)| *a += b);
                a
            },
        );
    counts.into_iter().map(|count| f64::from(count + 1) / (f64::from(n_flips) + 1.0)).collect()
}

/// For each prompt, the sum of `weight` random signs. `[n_prompts]`
fn flip_signs(rng: &mut ChaCha8Rng, weights: &[u32], signs: &mut [f64]) {
    let (mut bits, mut n_bits) = (0u32, 0u32);
    for (sign, &weight) in signs.iter_mut().zip(weights) {
        let (mut left, mut heads) = (weight, 0);
        while left > 0 {
            if n_bits == 0 {
                (bits, n_bits) = (rng.next_u32(), 32);
            }
            let take = left.min(n_bits);
            heads += (bits & (u32::MAX >> (32 - take))).count_ones();
            // Hardware ignores a shift by all 32 bits, hence the 64-bit detour.
            bits = (u64::from(bits) >> take) as u32;
            n_bits -= take;
            left -= take;
        }
        *sign = 2.0 * f64::from(heads) - f64::from(weight);
    }
}
