//! Coverage of the intervals of correlations for heavy-tailed effects, such as those of heads.
//!
//! Heads are drawn from populations with known correlation; 2,000 draws each. The ignored test prints the whole table of
//! `docs/statistics.md`.

mod common;

use common::{normal, uniform};
use cs_analysis::stats::Seed;
use cs_analysis::stats::correlation::Correlation;
use cs_analysis::stats::correlation_bootstrap::correlation_interval;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use rayon::prelude::*;

const TRIALS: u64 = 2_000;

/// A population of heads: one draw gives a head's effects on the two tasks.
struct Population {
    name: &'static str,
    draw: fn(&mut ChaCha8Rng) -> (f64, f64),
}

/// Standard normal numbers with correlation 0.4.
fn pair(rng: &mut ChaCha8Rng) -> (f64, f64) {
    let (x, y) = (normal(rng), normal(rng));
    (x, 0.4 * x + (1.0 - 0.16f64).sqrt() * y)
}

/// The same, both multiplied by a random scale: elliptical, so that the correlation stays.
fn scaled(rng: &mut ChaCha8Rng, scale: impl Fn(&mut ChaCha8Rng) -> f64) -> (f64, f64) {
    let ((x, y), scale) = (pair(rng), scale(rng));
    (scale * x, scale * y)
}

static NORMAL: Population = Population { name: "normal", draw: pair };
static LAPLACE: Population =
    Population { name: "Laplace", draw: |rng| scaled(rng, |rng| (-uniform(rng).ln()).sqrt()) };
static STUDENT: Population = Population {
    name: "Student's t, 5 degrees of freedom",
    draw: |rng| {
        scaled(rng, |rng| {
            let chi_squared: f64 = (0..5).map(|_| normal(rng).powi(2)).sum();
            (5.0 / chi_squared).sqrt()
        })
    },
};
static TENTH: Population = Population {
    name: "a tenth of the heads ten times as strong",
    draw: |rng| scaled(rng, |rng| if uniform(rng) < 0.1 { 10.0 } else { 1.0 }),
};
static CUBES: Population = Population {
    name: "cubes of normal numbers, one shared",
    draw: |rng| {
        let shared = normal(rng).powi(3);
        (shared + normal(rng).powi(3), shared + normal(rng).powi(3))
    },
};
static KINDS: Population = Population {
    name: "4% IOI-only, 4% anti-only, 4% shared, ten times the rest",
    draw: |rng| {
        let (kind, strong) = (uniform(rng), 10.0 * normal(rng));
        let (x, y) = (normal(rng), normal(rng));
        match kind {
            k if k < 0.04 => (x + strong, y),
            k if k < 0.08 => (x, y + strong),
            k if k < 0.12 => (x + strong, y + strong),
            _ => (x, y),
        }
    },
};
static ALL: [&Population; 6] = [&NORMAL, &LAPLACE, &STUDENT, &TENTH, &CUBES, &KINDS];

impl Population {
    fn heads(&self, n: usize, rng: &mut ChaCha8Rng) -> (Vec<f64>, Vec<f64>) {
        (0..n).map(|_| (self.draw)(rng)).unzip()
    }

    /// The population's correlation, from a million heads, so accurate to 0.003.
    fn truth(&self, kind: Correlation) -> f64 {
        let (x, y) = self.heads(1_000_000, &mut ChaCha8Rng::seed_from_u64(1));
        kind.of(&x, &y).unwrap()
    }

    /// The share of intervals over `n` heads that cover the truth.
    fn coverage(&self, n: usize, kind: Correlation) -> f64 {
        let truth = self.truth(kind);
        let covers = (0..TRIALS).into_par_iter().filter(|&trial| {
            let mut rng = ChaCha8Rng::seed_from_u64(trial);
            rng.set_stream(n as u64);
            let (x, y) = self.heads(n, &mut rng);
            let interval = correlation_interval(&x, &y, kind, None, 0.95, &Seed::new(trial, &[self.name]));
            interval.is_some_and(|i| i.low <= truth && truth <= i.high)
        });
        covers.count() as f64 / TRIALS as f64
    }
}

#[test]
fn intervals_cover_the_truth_for_heavy_tails() {
    for (population, n) in [(&NORMAL, 48), (&LAPLACE, 48), (&STUDENT, 144)] {
        for kind in Correlation::BOTH {
            let coverage = population.coverage(n, kind);
            println!("{}, {n} heads, {}: {coverage:.4}", population.name, kind.name());
            assert!(
                (0.93..=0.97).contains(&coverage),
                "{}, {n} heads, {}: {coverage}",
                population.name,
                kind.name()
            );
        }
    }
}

/// The table of `docs/statistics.md`, line by line as results arrive.
#[test]
#[ignore = "takes minutes"]
fn table_of_coverages() {
    println!("| heads | effects | Pearson | Spearman |\n|--:|---|--:|--:|");
    for n in [48, 144, 384, 1_200] {
        for population in ALL {
            let [pearson, spearman] = Correlation::BOTH.map(|kind| 100.0 * population.coverage(n, kind));
            println!("| {n} | {} | {pearson:.1}% | {spearman:.1}% |", population.name);
        }
    }
}
