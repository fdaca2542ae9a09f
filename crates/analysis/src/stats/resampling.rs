//! Seeds, and random draws of prompts.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use sha2::{Digest, Sha256};

/// The source of random numbers: the user's seed, combined with the purpose of the numbers.
///
/// A seed depends only on the words it was made from, so results for one model do not change if others are added
/// or reordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seed([u8; 32]);

impl Seed {
    /// The seed for `purpose` (words such as the model, the task, the statistic) under the user's `seed`.
    #[must_use]
    pub fn new(seed: u64, purpose: &[&str]) -> Self {
        let mut hash = Sha256::new();
        hash.update(b"circuit-scaling statistics 1");
        hash.update(seed.to_le_bytes());
        for word in purpose {
            // The length keeps ["ab", "c"] and ["a", "bc"] apart.
            hash.update((word.len() as u64).to_le_bytes());
            hash.update(word.as_bytes());
        }
        Self(hash.finalize().into())
    }

    /// Random numbers for item `index`; those of different items are independent, so items can be processed in any
    /// order.
    #[must_use]
    pub fn stream(&self, index: u64) -> ChaCha8Rng {
        let mut rng = ChaCha8Rng::from_seed(self.0);
        rng.set_stream(index);
        rng
    }
}

/// Uniform in `0..n`, for `n` up to 2³². Multiply-shift: the bias, below `n` / 2³², is far below what 10,000
/// resamples can resolve.
pub(crate) fn index_below(rng: &mut ChaCha8Rng, n: u32) -> u32 {
    ((u64::from(rng.next_u32()) * u64::from(n)) >> 32) as u32
}

/// A random order of `0..n` (Fisher–Yates), or its first `take` entries.
pub(crate) fn sample_without_replacement(rng: &mut ChaCha8Rng, n: usize, take: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..n).collect();
    for place in 0..take.min(n) {
        // A table never has 2³² rows, so the cast is exact.
        let other = place + index_below(rng, (n - place) as u32) as usize;
        order.swap(place, other);
    }
    order.truncate(take);
    order
}

/// Drawn prompts, some of them equal, as the distinct prompt of each draw.
#[derive(Debug, Clone)]
pub(crate) struct Draws {
    /// `[n_drawn]`
    distinct_of: Vec<u32>,
}

impl Draws {
    /// `weights[p]` draws of each distinct prompt `p`.
    pub fn new(weights: &[u32]) -> Self {
        let distinct_of =
            (0u32..).zip(weights).flat_map(|(p, &weight)| std::iter::repeat_n(p, weight as usize)).collect();
        Self { distinct_of }
    }

    /// Number of draws, the sum of the weights.
    pub fn len(&self) -> usize {
        self.distinct_of.len()
    }

    /// Draws the same number of prompts again, with replacement; `counts` becomes how often each distinct prompt was
    /// drawn. `[n_distinct]`
    pub fn resample(&self, rng: &mut ChaCha8Rng, counts: &mut [f64]) {
        counts.fill(0.0);
        let n = self.len() as u32;
        for _ in 0..n {
            counts[self.distinct_of[index_below(rng, n) as usize] as usize] += 1.0;
        }
    }
}
