//! Sequential Monte Carlo p-values: random sets are run only while they can still change a decision.

use super::measure::Measure;
use super::{AblationPlan, AblationSettings, ComparedSets, HeadSet, Outcome, SetKind, TaskOutcomes};

/// A comparison stops when this many random sets have moved the measure as far as the hero set: the p-value then has a
/// relative standard error of a third.
pub const ENOUGH_BEYOND: usize = 10;
/// Sets of the first round; each later round doubles their number.
const FIRST_ROUND: usize = 50;
/// If a comparison with sets of all heads is not significant at this level, layer-matched sets are not drawn: they test
/// whether the hero set's layers alone explain a difference.
pub const MATCHED_LEVEL: f64 = 0.05;

/// A sequential Monte Carlo p-value: how rarely a random set moves a measure as far as the hero set does.
///
/// Sets are run one after the other. The comparison stops at the set that is the [`ENOUGH_BEYOND`]th (h) to go as far, with p
/// = h / n for the n sets so far; if that never happens, p = (g + 1) / (n + 1), where g of the n sets went as far (Besag and
/// Clifford, Sequential Monte Carlo p-values, Biometrika 1991). Both are valid: P(p ≤ α) ≤ α for every α if all orderings of
/// the hero set and the draws are equally likely.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SequentialP {
    /// The p-value, from the sets up to the one at which the comparison stopped, or from all.
    pub p_value: f64,
    /// Number of those sets.
    pub n_sets: usize,
    /// Whether more sets could change it.
    pub is_open: bool,
}

impl SequentialP {
    /// Compares the hero set's distance with those of the random sets, in the order in which they were drawn.
    pub fn new(hero: f64, sets: impl Iterator<Item = f64>) -> Self {
        // Equal sets may differ in their last bits.
        let rounding = 1e-12 * (1.0 + hero.abs());
        let (mut n_sets, mut n_beyond) = (0, 0);
        for value in sets {
            n_sets += 1;
            n_beyond += usize::from(value >= hero - rounding);
            if n_beyond == ENOUGH_BEYOND {
                return Self { p_value: n_beyond as f64 / n_sets as f64, n_sets, is_open: false };
            }
        }
        Self { p_value: (n_beyond + 1) as f64 / (n_sets + 1) as f64, n_sets, is_open: true }
    }
}

/// Compares a hero set with the sets of a pool that were run on one task, by how far each moves the measure from
/// its value without ablation, in either direction. The hero set itself is skipped if it was drawn.
pub(super) fn compare(
    plan: &AblationPlan,
    outcomes: &TaskOutcomes,
    (hero, pool): (usize, usize),
    measure: Measure,
) -> SequentialP {
    let weights = outcomes.subsample_weights();
    let base = measure.mean(&outcomes.base.at(&outcomes.subsample), &weights);
    let moved = |outcome: &Outcome| (measure.mean(outcome, &weights) - base).abs();
    let others = plan.pools[pool].sets.iter().zip(&outcomes.random[pool]);
    let others = others.filter(|(set, _)| **set != plan.sets[hero]).map(|(_, outcome)| moved(outcome));
    SequentialP::new(moved(&outcomes.sets[hero].at(&outcomes.subsample)), others)
}

/// Runs some sets on the subsample of the task with this index.
pub type Ablate<'a, E> = &'a mut dyn FnMut(usize, &[HeadSet]) -> Result<Vec<Outcome>, E>;

/// Runs random sets in rounds until more of them could not change any comparison, and adds the results to `outcomes`,
/// whose hero sets have been run. `ablate` runs sets on the subsample of a task's prompts.
///
/// What is run next depends only on the results so far, so a run that is repeated from the beginning or from any round
/// asks for the same sets.
///
/// # Errors
/// Any error of `ablate`.
pub fn run_random_sets<E>(
    plan: &AblationPlan,
    settings: &AblationSettings,
    outcomes: &mut [TaskOutcomes; 2],
    ablate: Ablate<'_, E>,
) -> Result<(), E> {
    for of_task in outcomes.iter_mut() {
        of_task.random = vec![vec![]; plan.pools.len()];
    }
    let rounds = || {
        let doubled = std::iter::successors(Some(FIRST_ROUND), |n| Some(2 * n));
        let n_max = settings.n_random_sets;
        doubled.take_while(move |&n| n < n_max).chain([n_max])
    };
    for kind in [SetKind::Random, SetKind::RandomMatched] {
        for n_sets in rounds() {
            for (task, of_task) in outcomes.iter_mut().enumerate() {
                let wanted = wanted(plan, of_task, kind);
                let drawn = |pool: usize| {
                    let sets = &plan.pools[pool].sets;
                    &sets[of_task.random[pool].len().min(n_sets)..n_sets.min(sets.len())]
                };
                let sets: Vec<HeadSet> = wanted.iter().flat_map(|&pool| drawn(pool)).cloned().collect();
                if sets.is_empty() {
                    continue;
                }
                let counts: Vec<usize> = wanted.iter().map(|&pool| drawn(pool).len()).collect();
                let mut found = ablate(task, &sets)?.into_iter();
                for (pool, n) in wanted.into_iter().zip(counts) {
                    of_task.random[pool].extend(found.by_ref().take(n));
                }
            }
        }
    }
    Ok(())
}

/// The pools of a kind that have an undecided comparison on a task, in order.
fn wanted(plan: &AblationPlan, outcomes: &TaskOutcomes, kind: SetKind) -> Vec<usize> {
    let mut wanted = Vec::new();
    for sets in plan.comparisons.iter().filter_map(|c| c.sets.as_ref().ok()) {
        for pool in sets.pools().filter(|&pool| plan.pools[pool].kind == kind) {
            let is_open = |measure| {
                is_asked(plan, outcomes, sets, pool, measure)
                    && compare(plan, outcomes, (sets.hero, pool), measure).is_open
            };
            if Measure::BOTH.into_iter().any(is_open) {
                wanted.push(pool);
            }
        }
    }
    wanted.sort_unstable();
    wanted.dedup();
    wanted
}

/// Whether a hero set is to be compared with a pool: with layer-matched sets only if it differs from sets of all heads.
pub(super) fn is_asked(
    plan: &AblationPlan,
    outcomes: &TaskOutcomes,
    sets: &ComparedSets,
    pool: usize,
    measure: Measure,
) -> bool {
    plan.pools[pool].kind == SetKind::Random
        || compare(plan, outcomes, (sets.hero, sets.random), measure).p_value <= MATCHED_LEVEL
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p_values_are_those_of_besag_and_clifford() {
        let p = |hero, sets: &[f64]| SequentialP::new(hero, sets.iter().copied());
        let rising: Vec<f64> = (0..99).map(f64::from).collect();
        // Further than all: undecided.
        let above = p(99.0, &rising);
        assert_eq!((above.p_value, above.n_sets, above.is_open), (0.01, 99, true));
        assert_eq!(p(95.0, &rising).p_value, 0.05);
        // Every second set goes as far; sets after the tenth are ignored.
        let sets: Vec<f64> = (0..40).map(|i| if i % 2 == 0 { 0.0 } else { 2.0 }).collect();
        let middle = p(1.0, &sets);
        assert_eq!((middle.p_value, middle.n_sets, middle.is_open), (0.5, 20, false));
        assert_eq!(p(1.0, &sets[..20]), middle);
        // Ties count as going as far; without sets nothing is decided.
        assert_eq!(p(1.0, &[1.0; 9]).p_value, 1.0);
        assert_eq!((p(1.0, &[]).p_value, p(1.0, &[]).is_open), (1.0, true));
    }
}
