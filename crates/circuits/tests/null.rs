//! On models with random weights, hero sets must not differ from random ones beyond the nominal rate.

#[path = "experiments/mod.rs"]
mod experiments;
#[path = "planted/mod.rs"]
mod planted;
#[path = "experiments/random_model.rs"]
mod random_model;

use std::collections::BTreeMap;

use analysis::ablation::{ModelAblation, SetKind};
use analysis::categories::DEFAULT_TAU;
use experiments::Scanned;
use planted::World;
use random_model::{Shape, random_model};

const N_SEEDS: u64 = 100;
/// A rate of 5% gives more than this many of 100 with probability 0.0015.
const MOST: usize = 12;

#[test]
fn hero_sets_of_random_weights_are_like_any_others() {
    let world = World::new();
    let shape = Shape { n_layers: 4, n_heads: 4, d_model: 16 };
    let mut rejected: BTreeMap<(usize, String, String, &str), usize> = BTreeMap::new();
    let mut rejected_by_others = 0;
    for seed in 0..N_SEEDS {
        let decoder = random_model(&world, shape, seed);
        let ablation = Scanned::new(&world, &decoder, DEFAULT_TAU).ablation_of_all_heads(99, seed);
        assert_eq!(ablation.tests.len(), 3 * 2 * 2 * 2, "k = 1, 2, 3; tasks; measures; both kinds of sets");
        for test in &ablation.tests {
            let key = (test.k, test.task.clone(), test.measure.clone(), test.against.name());
            *rejected.entry(key).or_default() += usize::from(test.p_value.unwrap() <= 0.05);
        }
        rejected_by_others += usize::from(p_from_other_heads(&ablation) <= 0.05);
    }
    for (test, &n) in &rejected {
        println!("{test:?}: {n} of {N_SEEDS} below 0.05");
        assert!(n <= MOST, "{test:?}: {n} of {N_SEEDS} hero sets differ from random ones at 0.05");
    }
    // Which is why p-values rest on sets of all heads: against the other heads alone, the one strongest head of 16 would
    // often beat every random set.
    println!("k = 1, against sets of the other heads only: {rejected_by_others} of {N_SEEDS}");
    assert!(rejected_by_others > MOST, "{rejected_by_others}");
}

/// What the two-sided p-value for one head on IOI would be if sets of the other heads were the reference.
fn p_from_other_heads(ablation: &ModelAblation) -> f64 {
    let values = |kind: SetKind| {
        let rows = ablation.rows.iter().filter(move |r| r.k == 1 && r.kind == kind);
        rows.map(|r| r.ioi.mean_diff).collect::<Vec<f64>>()
    };
    let (hero, others) = (values(SetKind::Hero)[0], values(SetKind::Random));
    let tail = |beyond: &dyn Fn(f64) -> bool| 1.0 + others.iter().filter(|&&x| beyond(x)).count() as f64;
    2.0 * tail(&|x| x <= hero).min(tail(&|x| x >= hero)) / (1.0 + others.len() as f64)
}
