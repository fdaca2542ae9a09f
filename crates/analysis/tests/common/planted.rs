//! Models with known effects, measured on prompts.

use cs_analysis::stats::Interval;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use super::normal;

pub fn rng(seed: u64, stream: u64) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(stream);
    rng
}

pub fn holds(interval: Option<Interval>, truth: f64) -> bool {
    interval.is_some_and(|i| i.low <= truth && truth <= i.high)
}

/// Each prompt's template: `n_templates` in turn. `[n_prompts]`
pub fn in_turn(n_prompts: usize, n_templates: usize) -> Vec<u32> {
    (0..n_prompts).map(|prompt| (prompt % n_templates) as u32).collect()
}

/// The distribution of a model's true effects over its heads.
#[derive(Clone, Copy)]
pub enum Effects {
    /// Normal, with correlation 0.4.
    Dense,
    /// Normal, with effects ten times as large for 4% of the heads on IOI only, 4% on anti-repeat only, and 4%
    /// on both.
    Sparse,
}

/// One model: the true effect of each head on either task. `[n_heads]`
pub struct Model {
    pub x: Vec<f64>,
    pub y: Vec<f64>,
}

impl Model {
    pub fn new(effects: Effects, n_heads: usize, seed: u64) -> Self {
        let mut rng = rng(seed, 0);
        let n_strong = (0.04 * n_heads as f64).round().max(1.0) as usize;
        let (x, y) = (0..n_heads)
            .map(|head| {
                let (a, b) = (normal(&mut rng), normal(&mut rng));
                match effects {
                    Effects::Dense => (a, 0.4 * a + (1.0 - 0.16f64).sqrt() * b),
                    Effects::Sparse => match head / n_strong {
                        0 => (10.0 * a, b),
                        1 => (a, 10.0 * b),
                        2 => (10.0 * a, 10.0 * (0.7 * a + 0.3 * b)),
                        _ => (a, b),
                    },
                }
            })
            .unzip();
        Self { x, y }
    }

    /// Both tasks measured on prompts, with independent noise of standard deviation `noise` per head, a third of
    /// that shared by all heads, and `between` per template, shared by all heads.
    pub fn measure(&self, prompts: &Prompts, rng: &mut ChaCha8Rng) -> [Vec<Vec<f64>>; 2] {
        [&self.x, &self.y].map(|effects| {
            let common: Vec<f64> = prompts.templates.iter().map(|_| normal(rng) / 3.0).collect();
            let of_head = |&effect: &f64, rng: &mut ChaCha8Rng| -> Vec<f64> {
                let of_template: Vec<f64> =
                    (0..prompts.n_templates).map(|_| prompts.between * normal(rng)).collect();
                let value = |(&template, common): (&u32, &f64)| {
                    effect + of_template[template as usize] + prompts.noise * (normal(rng) + common)
                };
                prompts.templates.iter().zip(&common).map(value).collect()
            };
            effects.iter().map(|effect| of_head(effect, rng)).collect()
        })
    }
}

pub struct Prompts {
    pub templates: Vec<u32>,
    pub n_templates: usize,
    pub noise: f64,
    pub between: f64,
}

impl Prompts {
    pub fn new(n_prompts: usize, n_templates: usize, noise: f64, between: f64) -> Self {
        Self { templates: in_turn(n_prompts, n_templates), n_templates, noise, between }
    }
}
