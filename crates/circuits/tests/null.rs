//! Random "hero" sets are found to differ exactly as often as the test's level allows. `analysis` tests that
//! planted effects are found, since effects can be planted as numbers there.

#[path = "experiments/mod.rs"]
mod experiments;
#[path = "planted/mod.rs"]
mod planted;
#[path = "experiments/random_model.rs"]
mod random_model;

use cs_analysis::ablation::SetKind;
use cs_analysis::categories::DEFAULT_TAU;
use experiments::Scanned;
use planted::World;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use random_model::{Shape, random_model};

const N_SEEDS: u64 = 100;

/// P-values of sets of randomly chosen "hero" heads are uniform, as far as Monte Carlo p-values can be. Of 32
/// heads there are 496 pairs, so p = 0.02 can be reached with 99 sets.
#[test]
fn p_values_of_heroes_by_lot_are_uniform() {
    let world = World::new();
    let shape = Shape { n_layers: 4, n_heads: 8, d_model: 32 };
    let mut p_values = [vec![], vec![]];
    for seed in 0..N_SEEDS {
        let decoder = random_model(&world, shape, seed);
        let mut scanned = Scanned::new(&world, &decoder, DEFAULT_TAU);
        let mut lot = ChaCha8Rng::seed_from_u64(1000 + seed);
        for head in &mut scanned.classified.models[0].heads {
            head.strength = f64::from(lot.next_u32());
        }
        let (ablation, _) = scanned.ablation(99, seed);
        for test in ablation.tests.iter().filter(|t| t.against == SetKind::Random && t.k > 1) {
            let p = test.p_value.expect("sets of all heads are always drawn");
            let at = usize::from(test.measure == "mean_diff");
            p_values[at].push((seed, p));
        }
    }
    // Comparisons within a model are not independent, but those of different models are.
    let share_below = |of: &[(u64, f64)], level: f64| {
        of.iter().filter(|(_, p)| *p <= level).count() as f64 / of.len() as f64
    };
    for level in [0.02, 0.05, 0.1, 0.2, 0.5] {
        let [acc, mean_diff] = p_values.each_ref().map(|of| share_below(of, level));
        println!("p <= {level}: {acc:.3} of accuracy's, {mean_diff:.3} of the mean difference's");
        // Three standard errors, if each model had only one comparison.
        let error = 3.0 * (level * (1.0 - level) / N_SEEDS as f64).sqrt();
        assert!(acc <= level + error, "accuracy: {acc} of p-values are at most {level}");
        assert!(
            (mean_diff - level).abs() <= error,
            "mean difference: {mean_diff} of p-values are at most {level}"
        );
    }
    // Small p-values do occur.
    assert!(share_below(&p_values[1], 0.05) > 0.01);
    // (g + 1) / (n + 1) for at most 99 sets: the hero set itself counts as one of the sets at least as extreme.
    assert!(p_values.iter().flatten().all(|(_, p)| *p >= 0.01));
}
