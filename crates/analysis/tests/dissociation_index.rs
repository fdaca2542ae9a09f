//! The dissociation index is unbiased by noise: tasks with the same effects have an index of 0, however noisy; tasks
//! with separate heads have an index of 1.

mod common;

use common::{meta, normal, quick, scan, uniform};
use cs_analysis::categories::classify;
use cs_analysis::contrast::Contrast;
use cs_analysis::dissociation_index::dissociation_index;
use cs_analysis::joint::{ScanPair, from_scans};
use cs_analysis::per_prompt::PerPromptScan;
use cs_analysis::ranged::Ranged;
use cs_analysis::scan_file::Split;
use cs_analysis::scan_summary::summarise_scan;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use rayon::prelude::*;

/// Prompts of each split.
const N_PROMPTS: usize = 30;

/// A scan of 144 heads with these effects, whose means over the prompts of a split have standard error `error`.
fn measured(task: &str, effects: &[f64], error: f64, rng: &mut ChaCha8Rng) -> PerPromptScan {
    let mut side = scan(meta("gpt2", "simulated", task, 12, 12), 2 * N_PROMPTS, 0.0, 1);
    side.weight = vec![1; 2 * N_PROMPTS];
    let n = side.n_distinct();
    for (row, effect) in side.ablated.chunks_exact_mut(n).zip(effects) {
        for (x, base) in row.iter_mut().zip(&side.base) {
            *x = base + (effect + error * (N_PROMPTS as f64).sqrt() * normal(rng)) as f32;
        }
    }
    side
}

/// Indices over `trials` models; `draw` gives a head's effects on both tasks.
fn indices(draw: fn(&mut ChaCha8Rng) -> (f64, f64), errors: [f64; 2], trials: u64) -> Vec<Ranged> {
    let of_trial = |trial: u64| {
        let mut rng = ChaCha8Rng::seed_from_u64(trial);
        let (ioi, anti): (Vec<f64>, Vec<f64>) = (0..144).map(|_| draw(&mut rng)).unzip();
        let scans =
            [measured("ioi", &ioi, errors[0], &mut rng), measured("anti_repeat", &anti, errors[1], &mut rng)];
        let [of_ioi, of_anti] = scans.each_ref().map(|side| summarise_scan(side, &quick()).unwrap());
        let joint = from_scans(&Contrast::published(), &[ScanPair::new(of_ioi, of_anti)]).unwrap();
        let model = classify(&joint, 0.05).unwrap().models.remove(0);
        dissociation_index(&Contrast::published(), &model, [&scans[0], &scans[1]], Split::HeldOut)
            .unwrap()
            .index
    };
    (0..trials).into_par_iter().map(of_trial).filter(|index| index.value.is_some()).collect()
}

/// Mean of the indices, its standard error, and the share of intervals that cover `truth`.
fn summary(indices: &[Ranged], truth: f64) -> (f64, f64, f64) {
    let n = indices.len() as f64;
    let values: Vec<f64> = indices.iter().filter_map(|i| i.value).collect();
    let mean = values.iter().sum::<f64>() / n;
    let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0);
    let holds = |i: &&Ranged| i.low.zip(i.high).is_some_and(|(low, high)| low <= truth && truth <= high);
    (mean, (variance / n).sqrt(), indices.iter().filter(holds).count() as f64 / n)
}

/// Laplace-distributed effects with scale 0.02, the same on both tasks.
fn identical(rng: &mut ChaCha8Rng) -> (f64, f64) {
    let size = -0.02 * uniform(rng).ln();
    let effect = if uniform(rng) < 0.5 { -size } else { size };
    (effect, effect)
}

#[test]
fn tasks_with_the_same_effects_do_not_dissociate_however_noisy() {
    for errors in [[0.01, 0.01], [0.02, 0.02], [0.03, 0.03], [0.02, 0.03]] {
        let found = indices(identical, errors, 200);
        assert!(found.len() >= 190, "{errors:?}: {} of 200", found.len());
        let (mean, standard_error, coverage) = summary(&found, 0.0);
        println!("{errors:?}: mean index {mean:.4} ± {standard_error:.4}, coverage {coverage:.3}");
        assert!(standard_error < 0.01, "{errors:?}: {standard_error}");
        assert!(mean.abs() < 0.02 + 3.0 * standard_error, "{errors:?}: mean index {mean} ± {standard_error}");
        assert!(coverage >= 0.9, "{errors:?}: {coverage}");
    }
}

#[test]
fn tasks_with_heads_of_their_own_dissociate_wholly() {
    let separate = |rng: &mut ChaCha8Rng| {
        let (size, kind) = (0.2 + 0.05 * normal(rng), uniform(rng));
        (if kind < 0.1 { -size } else { 0.0 }, if kind > 0.9 { size } else { 0.0 })
    };
    let (mean, standard_error, coverage) = summary(&indices(separate, [0.01, 0.01], 100), 1.0);
    println!("separate: mean index {mean:.4} ± {standard_error:.4}, coverage {coverage:.3}");
    assert!((mean - 1.0).abs() < 0.01, "{mean} ± {standard_error}");
    assert!(coverage >= 0.88, "{coverage}");
    // If noise moves one in eighty heads without an effect across τ, it makes as many of the others shared.
    let (mean, ..) = summary(&indices(separate, [0.02, 0.02], 100), 1.0);
    assert!((0.97..1.0).contains(&mean), "{mean}");
}
