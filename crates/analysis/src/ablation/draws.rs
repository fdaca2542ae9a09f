//! Random sets of heads, drawn one after the other without duplicates.

use std::collections::HashSet;

use super::{HeadSet, SetKind};
use crate::stats::Seed;
use crate::stats::resampling::sample_without_replacement;

/// A comparison that cannot reach a p-value this low is not tested, and does not count for q-values.
pub(super) const WORTH_TESTING: f64 = 0.05;

/// Random sets of one kind, in a random order without duplicates.
///
/// If the hero set's heads were like any others, the hero set would be just another random one of these sets: all orderings
/// of it and the draws would be equally likely. [Sequential p-values](super::SequentialP) assume only that. If there are few
/// possible sets, all of them are drawn, and the p-value has no Monte Carlo error.
#[derive(Debug, Clone, PartialEq)]
pub struct Pool {
    /// [`SetKind::Random`] or [`SetKind::RandomMatched`].
    pub kind: SetKind,
    /// Heads in each set.
    pub k: usize,
    /// Number of possible sets; `u64::MAX` if there are more.
    pub n_possible: u64,
    /// The sets that may be run, in that order.
    pub sets: Vec<HeadSet>,
    /// Groups of heads, each with the number of heads to draw from it.
    strata: Vec<(HeadSet, usize)>,
}

impl Pool {
    /// `n_sets` sets of `k` heads out of all, the same for every selection, or all possible sets if there are
    /// fewer.
    #[must_use]
    pub fn of_all(model: &str, seed: u64, all: &[(u32, u32)], k: usize, n_sets: usize) -> Self {
        let seed = Seed::new(seed, &[model, "sets", "random", &k.to_string()]);
        Self::draw(SetKind::Random, vec![(all.to_vec(), k)], &seed, n_sets)
    }

    /// The same, with as many heads from each layer as `hero` has.
    pub(super) fn matched(
        model: &str,
        seed: u64,
        all: &[(u32, u32)],
        hero: &[(u32, u32)],
        n_sets: usize,
    ) -> Self {
        let strata = hero
            .chunk_by(|a, b| a.0 == b.0)
            .map(|of_layer| (all.iter().copied().filter(|h| h.0 == of_layer[0].0).collect(), of_layer.len()))
            .collect();
        let profile: Vec<String> = hero.iter().map(|(layer, _)| layer.to_string()).collect();
        let seed = Seed::new(seed, &[model, "sets", "matched", &profile.join(" ")]);
        Self::draw(SetKind::RandomMatched, strata, &seed, n_sets)
    }

    fn draw(kind: SetKind, strata: Vec<(HeadSet, usize)>, seed: &Seed, n_sets: usize) -> Self {
        let n_possible = strata
            .iter()
            .fold(1u64, |n, (heads, k)| n.saturating_mul(n_subsets(heads.len() as u64, *k as u64)));
        let n_sets = usize::try_from(n_possible).map_or(n_sets, |possible| n_sets.min(possible));
        let mut known = HashSet::new();
        let mut sets = Vec::with_capacity(n_sets);
        for stream in 0.. {
            if sets.len() == n_sets {
                break;
            }
            let mut rng = seed.stream(stream);
            let mut set = HeadSet::new();
            for (heads, k) in &strata {
                let drawn = sample_without_replacement(&mut rng, heads.len(), *k);
                set.extend(drawn.into_iter().map(|i| heads[i]));
            }
            set.sort_unstable();
            if known.insert(set.clone()) {
                sets.push(set);
            }
        }
        let k = strata.iter().map(|(_, k)| k).sum();
        Self { kind, k, n_possible, sets, strata }
    }

    /// Whether a comparison with at most `n_sets` of them can reach [`WORTH_TESTING`].
    pub(super) fn is_worth_it(&self, n_sets: usize) -> bool {
        1.0 / ((self.n_possible - 1).min(n_sets as u64) + 1) as f64 <= WORTH_TESTING
    }

    /// Mean over all sets of the sum of their heads' `value`.
    pub(super) fn expected_sum(&self, value: impl Fn((u32, u32)) -> f64) -> f64 {
        let of_stratum = |(heads, k): &(HeadSet, usize)| {
            *k as f64 * heads.iter().map(|&head| value(head)).sum::<f64>() / heads.len() as f64
        };
        self.strata.iter().map(of_stratum).sum()
    }
}

/// The number of ways to choose `k` of `n`; `u64::MAX` if there are more.
fn n_subsets(n: u64, k: u64) -> u64 {
    let k = k.min(n.saturating_sub(k));
    let mut ways: u128 = 1;
    for i in 0..k {
        // Exact: a product of i + 1 consecutive integers is a multiple of (i + 1)!.
        ways = ways * u128::from(n - i) / u128::from(i + 1);
        if ways > u128::from(u64::MAX) {
            return u64::MAX;
        }
    }
    ways as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heads() -> HeadSet {
        (0..4).flat_map(|l| (0..6).map(move |h| (l, h))).collect()
    }

    #[test]
    fn subsets_are_counted() {
        assert_eq!((n_subsets(48, 1), n_subsets(48, 2), n_subsets(6, 6), n_subsets(4, 0)), (48, 1128, 1, 1));
        assert_eq!(n_subsets(40, 38), 780);
        assert_eq!(n_subsets(1200, 128), u64::MAX);
    }

    #[test]
    fn no_set_comes_twice_and_all_come() {
        let of_seed = |seed, n| Pool::of_all("m", seed, &heads(), 2, n).sets;
        let all = of_seed(0, 10_000);
        assert_eq!(all.len(), 276);
        assert_eq!(all.iter().collect::<HashSet<_>>().len(), 276);
        assert_eq!(of_seed(0, 50), all[..50], "more sets leave the first as they were");
        assert!(all.iter().all(|set| set.len() == 2 && set.is_sorted()));
        assert_ne!(all, of_seed(1, 10_000));
    }

    #[test]
    fn matched_sets_have_the_hero_sets_layers() {
        let pool = Pool::matched("m", 0, &heads(), &[(0, 1), (2, 0), (2, 5)], 1000);
        assert_eq!((pool.n_possible, pool.sets.len(), pool.k), (6 * 15, 6 * 15, 3));
        for set in &pool.sets {
            assert_eq!(set.iter().map(|h| h.0).collect::<Vec<_>>(), [0, 2, 2]);
        }
        // Another hero set with the same layers is compared with the same sets.
        assert_eq!(pool, Pool::matched("m", 0, &heads(), &[(0, 5), (2, 1), (2, 2)], 1000));
    }

    /// Every set comes first equally often.
    #[test]
    fn draws_are_uniform() {
        let mut counts = [0.0f64; 24];
        for seed in 0..4800 {
            let (layer, head) = Pool::of_all("m", seed, &heads(), 1, 1).sets[0][0];
            counts[(layer * 6 + head) as usize] += 1.0;
        }
        let chi_squared: f64 = counts.iter().map(|c| (c - 200.0).powi(2) / 200.0).sum();
        assert!(chi_squared < 49.7, "{chi_squared}: the 99.9% point for 23 degrees of freedom is 49.7");
    }

    #[test]
    fn expected_sums_are_means_over_all_sets() {
        let value = |(layer, head): (u32, u32)| f64::from(layer * 10 + head * head);
        let matched = Pool::matched("m", 0, &heads(), &[(1, 1), (3, 0), (3, 2)], usize::MAX);
        for pool in [Pool::of_all("m", 0, &heads(), 2, usize::MAX), matched] {
            let mean = pool.sets.iter().flatten().map(|&h| value(h)).sum::<f64>() / pool.sets.len() as f64;
            assert!((pool.expected_sum(value) - mean).abs() < 1e-9);
        }
    }
}
