//! Tables of rotary angles, computed as in Hugging Face Transformers: frequencies and their products with positions in
//! float32 (`modeling_rope_utils.py`).

use std::f64::consts::PI;
use std::sync::OnceLock;

use cs_model::spec::{Rotary, RotaryFrequencies, RotaryScaling};

/// Number of positions whose angles are computed together, when one of them is first needed.
const BLOCK: usize = 256;

/// Cosines and sines of one set of frequencies, by position.
pub(crate) struct RotaryTable {
    frequencies: Vec<f32>, // [n_dims / 2]
    size: f32,             // factor of cosines and sines
    blocks: Vec<OnceLock<Angles>>,
}

/// Cosines and sines. `[BLOCK, n_dims / 2]`
struct Angles {
    cos: Vec<f32>,
    sin: Vec<f32>,
}

impl RotaryTable {
    /// The tables of each of a model's sets of frequencies, up to position `n_ctx`.
    pub fn of(rotary: &Rotary, n_ctx: usize) -> Vec<Self> {
        let table = |set: &RotaryFrequencies| {
            let (frequencies, size) = frequencies(set, rotary.n_dims);
            let blocks = (0..n_ctx.div_ceil(BLOCK)).map(|_| OnceLock::new()).collect();
            Self { frequencies, size, blocks }
        };
        rotary.frequencies.iter().map(table).collect()
    }

    /// Cosines and sines at a position. `[n_dims / 2]` each
    pub fn at(&self, position: usize) -> (&[f32], &[f32]) {
        let half = self.frequencies.len();
        let angles = self.blocks[position / BLOCK].get_or_init(|| self.block(position / BLOCK * BLOCK));
        let at = position % BLOCK * half;
        (&angles.cos[at..at + half], &angles.sin[at..at + half])
    }

    fn block(&self, first: usize) -> Angles {
        let of_position = |p| self.frequencies.iter().map(move |f| f64::from(p as f32 * f));
        let angles = (first..first + BLOCK).flat_map(of_position);
        let (cos, sin) = angles.map(|a| (a.cos() as f32 * self.size, a.sin() as f32 * self.size)).unzip();
        Angles { cos, sin }
    }
}

/// Radians per position of each pair, and the factor of cosines and sines.
fn frequencies(set: &RotaryFrequencies, n_dims: usize) -> (Vec<f32>, f32) {
    let period = |pair: usize| set.base.powf(2.0 * pair as f64 / n_dims as f64) as f32;
    let pairs = 0..n_dims / 2;
    match &set.scaling {
        RotaryScaling::None => (pairs.map(|i| 1.0 / period(i)).collect(), 1.0),
        RotaryScaling::Linear { factor } => (pairs.map(|i| 1.0 / period(i) / *factor as f32).collect(), 1.0),
        RotaryScaling::LongRope { short_factor, attention_factor } => {
            let frequency = |i: usize| 1.0 / (short_factor[i] as f32 * period(i));
            (pairs.map(frequency).collect(), *attention_factor as f32)
        }
        &RotaryScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_n_ctx } => {
            let n_ctx = original_n_ctx as f64;
            let frequency = |i: usize| {
                let plain = 1.0 / period(i);
                let wavelength = (2.0 * PI) as f32 / plain;
                if wavelength > (n_ctx / low_freq_factor) as f32 {
                    return plain / factor as f32;
                }
                if wavelength < (n_ctx / high_freq_factor) as f32 {
                    return plain;
                }
                let kept = (n_ctx as f32 / wavelength - low_freq_factor as f32)
                    / (high_freq_factor - low_freq_factor) as f32;
                (1.0 - kept) * plain / factor as f32 + kept * plain
            };
            (pairs.map(frequency).collect(), 1.0)
        }
        &RotaryScaling::Yarn { factor, attention_factor, beta_fast, beta_slow, original_n_ctx, truncate } => {
            // The pair that makes this number of turns over the original context.
            let pair_of = |turns: f64| {
                n_dims as f64 * (original_n_ctx as f64 / (turns * 2.0 * PI)).ln() / (2.0 * set.base.ln())
            };
            let (mut low, mut high) = (pair_of(beta_fast), pair_of(beta_slow));
            if truncate {
                (low, high) = (low.floor(), high.ceil());
            }
            (low, high) = (low.max(0.0), high.min(n_dims as f64 - 1.0));
            if low == high {
                high += 0.001; // avoids division by zero
            }
            let frequency = |i: usize| {
                let kept = 1.0 - ((i as f32 - low as f32) / (high - low) as f32).clamp(0.0, 1.0);
                1.0 / (factor as f32 * period(i)) * (1.0 - kept) + 1.0 / period(i) * kept
            };
            (pairs.map(frequency).collect(), attention_factor as f32)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(scaling: RotaryScaling, n_dims: usize) -> RotaryTable {
        let rotary = Rotary {
            frequencies: vec![RotaryFrequencies { base: 100.0, scaling }],
            ..Rotary::plain(1, n_dims, 100.0)
        };
        RotaryTable::of(&rotary, 1000).remove(0)
    }

    #[test]
    fn angles_are_positions_times_frequencies_in_every_block() {
        let table = table(RotaryScaling::None, 4);
        for position in [0, 1, 255, 256, 999] {
            let (cos, sin) = table.at(position);
            for (i, frequency) in [1.0, 0.1].into_iter().enumerate() {
                let angle = position as f64 * frequency;
                assert!((f64::from(cos[i]) - angle.cos()).abs() < 1e-5, "cos {i} at {position}");
                assert!((f64::from(sin[i]) - angle.sin()).abs() < 1e-5, "sin {i} at {position}");
            }
        }
    }

    #[test]
    fn scaled_frequencies_keep_the_fast_and_divide_the_slow() {
        let plain = table(RotaryScaling::None, 32).frequencies;
        let (factor, original_n_ctx) = (8.0, 64);
        let llama =
            RotaryScaling::Llama3 { factor, low_freq_factor: 1.0, high_freq_factor: 4.0, original_n_ctx };
        let yarn = |truncate| RotaryScaling::Yarn {
            factor,
            attention_factor: 1.2,
            beta_fast: 8.0,
            beta_slow: 1.0,
            original_n_ctx,
            truncate,
        };
        for scaling in [llama, yarn(true), yarn(false)] {
            let scaled = table(scaling.clone(), 32).frequencies;
            let ratios: Vec<f32> = plain.iter().zip(&scaled).map(|(a, b)| a / b).collect();
            assert_eq!(ratios[0], 1.0, "{scaling:?}");
            assert!((ratios[15] - 8.0).abs() < 1e-5, "{scaling:?}");
            assert!(ratios.is_sorted(), "{scaling:?}: {ratios:?}");
            assert!(ratios.iter().any(|&r| r > 1.01 && r < 7.99), "{scaling:?}: {ratios:?}");
        }
        assert_eq!(table(yarn(true), 32).at(0).0[0], 1.2);
    }
}
