//! Coverage of the intervals of two tasks' shared strong heads: simulations with known truth and fixed seeds.
//!
//! The ignored test prints the table of `docs/statistics.md`.

mod common;

use common::planted::{Effects, Model, Prompts, holds, rng};
use cs_analysis::stats::Seed;
use cs_analysis::stats::bootstrap::weighted_mean;
use cs_analysis::stats::correlation_bootstrap::Measured;
use cs_analysis::stats::functions::Coverage;
use cs_analysis::stats::shared_strong::shared_strong;
use rayon::prelude::*;

/// The simulated setting.
struct Case {
    effects: Effects,
    n_heads: usize,
    prompts: Prompts,
    /// In standard deviations of the weak heads' effects.
    tau: f64,
}

/// Shares of trials in which an interval covers the average over samples of the same size, and that average.
#[derive(Debug)]
struct SharedCoverage {
    /// The number of shared heads.
    n: f64,
    /// Their share, if it has an interval.
    jaccard: f64,
    /// Means over samples, and over models.
    means: [f64; 2],
    /// Mean standard deviation of the number over samples.
    sd: f64,
}

/// Over `models` models, each measured `trials` times.
fn coverage(case: &Case, [models, trials]: [u64; 2]) -> SharedCoverage {
    let weights = vec![1; case.prompts.templates.len()];
    let options = Coverage { n_resamples: 500, level: 0.95 };
    let strong = |series: &[Vec<f64>]| -> Vec<bool> {
        series.iter().map(|s| weighted_mean(s, &weights).abs() >= case.tau).collect()
    };
    let (mut held, mut tried) = ([0.0; 2], [0.0; 2]);
    let (mut means, mut sd) = ([0.0; 2], 0.0);
    for m in 0..models {
        let model = Model::new(case.effects, case.n_heads, 1_000 + m);
        // Averages over fresh samples; for the share, over those that have one.
        let fresh: Vec<[f64; 2]> = (0..1_000u64)
            .into_par_iter()
            .map(|draw| {
                let [x, y] = model.measure(&case.prompts, &mut rng(2_000 + m, draw));
                let pairs: Vec<(bool, bool)> = strong(&x).into_iter().zip(strong(&y)).collect();
                let both = pairs.iter().filter(|(x, y)| *x && *y).count() as f64;
                [both, both / pairs.iter().filter(|(x, y)| *x || *y).count() as f64]
            })
            .collect();
        let expected = [0, 1].map(|at| {
            let values: Vec<f64> = fresh.iter().map(|f| f[at]).filter(|v| v.is_finite()).collect();
            values.iter().sum::<f64>() / values.len() as f64
        });
        let variance = fresh.iter().map(|f| (f[0] - expected[0]).powi(2)).sum::<f64>() / fresh.len() as f64;
        (0..2).for_each(|at| means[at] += expected[at] / models as f64);
        sd += variance.sqrt() / models as f64;
        let of_trial = |trial: u64| {
            let [x, y] = model.measure(&case.prompts, &mut rng(3_000 + m, trial));
            let tasks = [&x, &y].map(|series| Measured { series, weights: &weights });
            let seeds = ["x", "y"].map(|task| Seed::new(trial, &[task]));
            let found = shared_strong(tasks, case.tau, options, seeds.each_ref());
            let intervals = [found.n.interval, found.jaccard.and_then(|j| j.interval)];
            [0, 1].map(|at| intervals[at].map(|interval| holds(Some(interval), expected[at])))
        };
        let found: Vec<[Option<bool>; 2]> = (0..trials).into_par_iter().map(of_trial).collect();
        for of_trial in found {
            for at in 0..2 {
                tried[at] += f64::from(u8::from(of_trial[at].is_some()));
                held[at] += f64::from(u8::from(of_trial[at] == Some(true)));
            }
        }
    }
    let [n, jaccard] = [0, 1].map(|at| held[at] / tried[at]);
    SharedCoverage { n, jaccard, means, sd }
}

fn case(effects: Effects, n_heads: usize, [n_prompts, noise]: [usize; 2], tau: f64) -> Case {
    Case { effects, n_heads, prompts: Prompts::new(n_prompts, 1, noise as f64, 0.0), tau }
}

/// Nominal 95%, for few heads, few prompts, noise as large as the distance of most heads from τ, and only a few strong effects.
/// Bounds of a number are whole heads and resampling adds noise, so intervals are rather wide.
#[test]
fn intervals_of_shared_strong_heads_cover_the_truth() {
    for (case, what) in [
        (case(Effects::Sparse, 24, [10, 4], 3.0), "sparse, 24 heads, 10 prompts"),
        (case(Effects::Sparse, 24, [40, 10], 3.0), "sparse, 24 heads, noise"),
        (case(Effects::Dense, 24, [40, 4], 1.0), "dense, 24 heads"),
        (case(Effects::Sparse, 96, [40, 6], 2.0), "sparse, 96 heads"),
    ] {
        let found = coverage(&case, [20, 40]);
        println!("{what}: {found:?}");
        assert!((0.93..=1.0).contains(&found.n), "{what}: {found:?}");
        assert!((0.93..=0.99).contains(&found.jaccard), "{what}: {found:?}");
    }
}

#[test]
#[ignore = "takes many minutes"]
fn table_of_shared_strong_heads() {
    println!(
        "| heads | effects | prompts | noise | τ | shared, mean | sd | share | number held | share held |"
    );
    for (name, effects) in [("dense", Effects::Dense), ("sparse", Effects::Sparse)] {
        for (n_heads, prompts, tau) in [
            (8, [40, 4], 2.0),
            (24, [10, 4], 2.0),
            (24, [40, 4], 2.0),
            (24, [40, 10], 3.0),
            (144, [10, 4], 2.0),
            (144, [40, 4], 2.0),
            (144, [40, 10], 3.0),
        ] {
            let found = coverage(&case(effects, n_heads, prompts, tau), [20, 100]);
            let [mean, share] = found.means;
            let [n, jaccard] = [found.n, found.jaccard].map(|x| 100.0 * x);
            println!(
                "| {n_heads} | {name} | {} | {} | {tau} | {mean:.1} | {:.1} | {share:.2} | {n:.1}% | {jaccard:.1}% |",
                prompts[0], prompts[1], found.sd
            );
        }
    }
}
