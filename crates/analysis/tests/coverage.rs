//! Coverage of intervals, and validity of p-values and q-values: simulations with known truth and fixed seeds.
//!
//! A coverage of 95% over 2,000 trials has a standard error of 0.5%, so 93% to 97% is four standard errors
//! either way.

mod common;

use common::{normal, uniform};
use cs_analysis::categories::{Category, STABLE_PROBABILITY};
use cs_analysis::contrast::Side;
use cs_analysis::stats::bootstrap::{BootstrapOptions, bootstrap_means, weighted_mean};
use cs_analysis::stats::correlation::Correlation;
use cs_analysis::stats::correlation_bootstrap::{Measured, correlation_interval};
use cs_analysis::stats::correlation_prompts::{Over, resampled};
use cs_analysis::stats::ols::ols;
use cs_analysis::stats::{Interval, Seed, benjamini_hochberg, sign_flip_p_values};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

const TRIALS: usize = 2_000;

fn rng(seed: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(seed)
}

#[track_caller]
fn assert_covers(what: &str, intervals: impl Iterator<Item = Interval>, truth: f64) {
    let covers: Vec<bool> = intervals.map(|i| i.low <= truth && truth <= i.high).collect();
    let coverage = covers.iter().filter(|&&c| c).count() as f64 / covers.len() as f64;
    println!("{what}: {coverage:.4}");
    assert!(covers.len() >= 1_900, "{what}: only {} intervals", covers.len());
    assert!((0.93..=0.97).contains(&coverage), "{what}: {coverage}");
}

fn options(n_resamples: u32) -> BootstrapOptions {
    BootstrapOptions { n_resamples, level: 0.95, thresholds: vec![] }
}

#[test]
fn intervals_of_means_cover_the_truth() {
    type Draw = fn(&mut ChaCha8Rng) -> f64;
    // The last is a head with an effect on only a tenth of the prompts.
    let cases: [(&str, usize, Draw, f64); 5] = [
        ("normal, 50 prompts", 50, normal, 0.0),
        ("normal, 200 prompts", 200, normal, 0.0),
        ("exponential, 100 prompts", 100, |r| -uniform(r).ln(), 1.0),
        ("log-normal, 200 prompts", 200, |r| (0.75 * normal(r)).exp(), (0.75f64 * 0.75 / 2.0).exp()),
        (
            "sparse, 200 prompts",
            200,
            |r| if uniform(r) < 0.1 { 3.0 + normal(r) } else { 0.1 * normal(r) },
            0.3,
        ),
    ];
    for (what, n, draw, truth) in cases {
        let mut rng = rng(2);
        let series: Vec<Vec<f64>> = (0..TRIALS).map(|_| (0..n).map(|_| draw(&mut rng)).collect()).collect();
        let means = bootstrap_means(&series, &vec![1; n], &options(2_000), &Seed::new(1, &[what]));
        assert_covers(what, means.iter().filter_map(|m| m.interval), truth);
    }
}

#[test]
fn intervals_of_weighted_means_cover_the_truth() {
    // 100 prompts drawn from 40 possible ones: many are drawn several times.
    let possible: Vec<f64> = (0..40).map(|i| f64::from(i * i) / 400.0).collect();
    let truth = possible.iter().sum::<f64>() / 40.0;
    let mut rng = rng(3);
    let intervals: Vec<Interval> = (0..TRIALS)
        .map(|trial| {
            let mut weights = vec![0u32; 40];
            for _ in 0..100 {
                weights[(40.0 * uniform(&mut rng)) as usize] += 1;
            }
            let seed = Seed::new(trial as u64, &["weights"]);
            bootstrap_means(std::slice::from_ref(&possible), &weights, &options(1_000), &seed)[0]
                .interval
                .unwrap()
        })
        .collect();
    assert_covers("weighted", intervals.into_iter(), truth);
}

#[test]
fn weights_mean_what_duplicates_mean() {
    let mut rng = rng(4);
    let distinct: Vec<f64> = (0..30).map(|_| normal(&mut rng)).collect();
    let weights: Vec<u32> = (0..30).map(|i| 1 + i % 4).collect();
    let drawn: Vec<f64> =
        distinct.iter().zip(&weights).flat_map(|(&x, &w)| std::iter::repeat_n(x, w as usize)).collect();
    let ones = vec![1; drawn.len()];
    let seed = Seed::new(1, &["duplicates"]);
    // The same random numbers select the same draws, so bootstraps agree up to the order of additions.
    let a = &bootstrap_means(std::slice::from_ref(&distinct), &weights, &options(2_000), &seed)[0];
    let b = &bootstrap_means(std::slice::from_ref(&drawn), &ones, &options(2_000), &seed)[0];
    let [of_a, of_b] = [a, b].map(|m| m.interval.unwrap());
    for (a, b) in [(a.mean, b.mean), (of_a.low, of_b.low), (of_a.high, of_b.high)] {
        assert!((a - b).abs() < 1e-12, "{a} {b}");
    }
    let p = |values, weights: &[u32]| sign_flip_p_values(&[values], weights, 100_000, &seed)[0];
    assert!((p(distinct, &weights) - p(drawn, &ones)).abs() < 0.01);
}

#[test]
fn p_values_are_uniform_under_the_null() {
    for (what, n, draw) in [
        ("normal", 60, normal as fn(&mut ChaCha8Rng) -> f64),
        ("heavy tails", 60, |r| normal(r) / uniform(r).sqrt()),
        ("few prompts", 12, normal),
    ] {
        let mut rng = rng(5);
        let series: Vec<Vec<f64>> = (0..TRIALS).map(|_| (0..n).map(|_| draw(&mut rng)).collect()).collect();
        let weights = vec![1; n];
        let mut p = sign_flip_p_values(&series, &weights, 5_000, &Seed::new(1, &[what]));
        p.sort_by(f64::total_cmp);
        // Kolmogorov–Smirnov: 1.95/√n is exceeded once in a thousand times.
        let distance = (0..TRIALS)
            .map(|i| {
                (p[i] - i as f64 / TRIALS as f64).abs().max((p[i] - (i + 1) as f64 / TRIALS as f64).abs())
            })
            .fold(0.0, f64::max);
        println!("{what}: {distance:.4}");
        assert!(distance < 1.95 / (TRIALS as f64).sqrt(), "{what}: {distance}");
        let below = p.iter().filter(|&&p| p <= 0.05).count() as f64 / TRIALS as f64;
        assert!((0.03..=0.07).contains(&below), "{what}: {below}");
    }
}

#[test]
fn the_false_discovery_rate_is_kept() {
    // 300 models of 144 heads, of which 24 work: among heads called at q ≤ 0.1, at most a tenth may be false.
    let (n_models, n_heads, n_working, n) = (300, 144, 24, 50);
    let mut rng = rng(6);
    let (mut false_share, mut found) = (0.0, 0);
    for model in 0..n_models {
        let series: Vec<Vec<f64>> = (0..n_heads)
            .map(|h| (0..n).map(|_| normal(&mut rng) + if h < n_working { 0.6 } else { 0.0 }).collect())
            .collect();
        let q =
            benjamini_hochberg(&sign_flip_p_values(&series, &vec![1; n], 2_000, &Seed::new(model, &["fdr"])));
        let called: Vec<usize> = (0..n_heads).filter(|&h| q[h] <= 0.1).collect();
        let wrong = called.iter().filter(|&&h| h >= n_working).count();
        false_share += wrong as f64 / called.len().max(1) as f64 / n_models as f64;
        found += called.len() - wrong;
    }
    let power = found as f64 / (n_models as f64 * n_working as f64);
    println!("false discovery rate {false_share:.4}, power {power:.3}");
    // Benjamini–Hochberg keeps q · share of true nulls = 0.1 · 120/144 = 0.083 here.
    assert!((0.07..=0.095).contains(&false_share), "{false_share}");
    assert!(power > 0.9, "{power}");
}

#[test]
fn intervals_of_correlations_cover_the_truth() {
    // 60 heads on 40 prompts a task; prompt effects are shared by all heads, and noise is as large as the effects on
    // each prompt.
    let (n_heads, n_prompts, truth) = (60, 40, 0.4f64);
    let mut rng = rng(7);
    let weights = vec![1; n_prompts];
    let intervals: Vec<Interval> = (0..TRIALS as u64)
        .map(|trial| {
            let effects: Vec<(f64, f64)> = (0..n_heads)
                .map(|_| {
                    let (x, y) = (normal(&mut rng), normal(&mut rng));
                    (x, truth * x + (1.0 - truth * truth).sqrt() * y)
                })
                .collect();
            let mut measure = |effect: fn(&(f64, f64)) -> f64| -> Vec<Vec<f64>> {
                let prompts: Vec<f64> = (0..n_prompts).map(|_| normal(&mut rng)).collect();
                let of_head = |head: &(f64, f64), rng: &mut ChaCha8Rng| {
                    let delta = effect(head);
                    prompts.iter().map(|g| delta * (1.0 + 0.5 * g) + 0.2 * g + normal(rng)).collect()
                };
                effects.iter().map(|head| of_head(head, &mut rng)).collect()
            };
            let (ioi, anti) = (measure(|e| e.0), measure(|e| e.1));
            let seed = |word| Seed::new(trial, &[word]);
            let [x, y] = [&ioi, &anti].map(|series| Measured { series, weights: &weights });
            let [pearson, _] = resampled(x, y, Over::Prompts, 0.95, &[seed("ioi"), seed("anti")]);
            let means = |series: &[Vec<f64>]| -> Vec<f64> {
                series.iter().map(|s| weighted_mean(s, &weights)).collect()
            };
            correlation_interval(
                &means(&ioi),
                &means(&anti),
                Correlation::Pearson,
                pearson.noise,
                0.95,
                &seed("heads"),
            )
            .unwrap()
        })
        .collect();
    assert_covers("correlation", intervals.into_iter(), truth);
}

#[test]
fn intervals_of_slopes_cover_the_truth() {
    let mut rng = rng(8);
    let x = [70.0f64, 160.0, 410.0, 1000.0, 1400.0, 2800.0].map(f64::log10);
    let intervals = (0..TRIALS).map(|_| {
        let y: Vec<f64> = x.iter().map(|x| 0.2 - 0.1 * x + 0.05 * normal(&mut rng)).collect();
        ols(&x, &y, 0.95).unwrap().slope_interval
    });
    assert_covers("slope", intervals, -0.1);
}

#[test]
fn stable_categories_are_right() {
    // 2,000 heads with true effects around the threshold: those called stable should have their true category.
    let (n, tau) = (100, 0.05);
    let mut rng = rng(9);
    let mut measured = |seed: &str| {
        let truth: Vec<f64> = (0..TRIALS).map(|_| 0.08 * normal(&mut rng)).collect();
        let series: Vec<Vec<f64>> =
            truth.iter().map(|t| (0..n).map(|_| t + 0.2 * normal(&mut rng)).collect()).collect();
        let options = BootstrapOptions { n_resamples: 2_000, level: 0.95, thresholds: vec![tau] };
        (truth, bootstrap_means(&series, &vec![1; n], &options, &Seed::new(1, &[seed])))
    };
    let ((true_ioi, ioi), (true_anti, anti)) = (measured("ioi"), measured("anti"));
    let (mut stable, mut right) = (0, 0);
    for head in 0..TRIALS {
        let category = Category::of([ioi[head].mean, anti[head].mean], tau);
        let agrees = |strong: bool, share: f64| if strong { share } else { 1.0 - share };
        let probability = agrees(category.works_on(Side::A), ioi[head].share_at_least[0].unwrap())
            * agrees(category.works_on(Side::B), anti[head].share_at_least[0].unwrap());
        if probability >= STABLE_PROBABILITY {
            stable += 1;
            right += usize::from(category == Category::of([true_ioi[head], true_anti[head]], tau));
        }
    }
    println!("{stable} stable, {right} right");
    assert!((200..1_900).contains(&stable), "{stable}");
    assert!(right as f64 / stable as f64 >= 0.95, "{right} of {stable}");
}
