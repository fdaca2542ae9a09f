//! Random choices, by an algorithm defined here, so that it does not change with a library's version.
//!
//! Each purpose has its own ChaCha8 stream, keyed by SHA-256 of the version tag, the task's name, the seed and the
//! purpose: adding a draw for one purpose does not affect any other, and two tasks with the same seed draw
//! independently.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use sha2::{Digest, Sha256};

/// To be changed whenever the same seed would draw other prompts.
const VERSION: &str = "circuit-scaling prompts v1";

/// A stream of random choices for one purpose.
pub(crate) struct Draw(ChaCha8Rng);

impl Draw {
    pub(crate) fn new(task: &str, seed: u64, purpose: &str) -> Self {
        // Neither name can contain a NUL byte, so different inputs give different texts.
        let key = Sha256::digest(format!("{VERSION}\0{task}\0{seed}\0{purpose}").as_bytes());
        Self(ChaCha8Rng::from_seed(key.into()))
    }

    /// A uniform integer below `n`, by rejection of 32-bit words in the last, incomplete multiple of `n`. 0 for `n` =
    /// 0.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        let Some(n) = u32::try_from(n).ok().filter(|&n| n > 0) else { return 0 };
        let limit = u32::MAX - (u32::MAX % n + 1) % n;
        loop {
            let word = self.0.next_u32();
            if word <= limit {
                return (word % n) as usize;
            }
        }
    }

    /// True half of the time.
    pub(crate) fn coin(&mut self) -> bool {
        self.below(2) == 1
    }

    /// Fisher–Yates, from the end.
    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Draw;

    #[test]
    fn draws_are_fixed_by_task_seed_and_purpose() {
        let draws = |task, seed, purpose| {
            let mut draw = Draw::new(task, seed, purpose);
            (0..8).map(|_| draw.below(1000)).collect::<Vec<_>>()
        };
        let base = draws("ioi", 0, "pairs");
        assert_eq!(base, draws("ioi", 0, "pairs"));
        for other in [draws("anti_repeat", 0, "pairs"), draws("ioi", 1, "pairs"), draws("ioi", 0, "held_out")]
        {
            assert_ne!(base, other);
        }
    }

    #[test]
    fn below_is_uniform_and_in_range() {
        let mut draw = Draw::new("t", 7, "test");
        let mut counts = [0u32; 6];
        for _ in 0..60_000 {
            counts[draw.below(6)] += 1;
        }
        // Standard deviation of each count is 91.
        assert!(counts.iter().all(|&count| count.abs_diff(10_000) < 500), "{counts:?}");
        assert_eq!(draw.below(1), 0);
    }
}
