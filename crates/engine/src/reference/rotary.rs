//! Rotary position embedding.

use std::f64::consts::PI;

use cs_model::spec::{RotaryFrequencies, RotaryPairing, RotaryScaling};

/// Rotates the pairs of the first `n_dims` coordinates of one head's query or key, `[d_head]`.
pub(super) fn rotate(
    x: &mut [f64],
    position: usize,
    n_dims: usize,
    pairing: RotaryPairing,
    frequencies: &RotaryFrequencies,
) {
    let size = match frequencies.scaling {
        RotaryScaling::Yarn { attention_factor, .. } | RotaryScaling::LongRope { attention_factor, .. } => {
            attention_factor
        }
        RotaryScaling::None | RotaryScaling::Linear { .. } | RotaryScaling::Llama3 { .. } => 1.0,
    };
    for pair in 0..n_dims / 2 {
        let (i, j) = match pairing {
            RotaryPairing::Halves => (pair, pair + n_dims / 2),
            RotaryPairing::Interleaved => (2 * pair, 2 * pair + 1),
        };
        let angle = position as f64 * frequency(frequencies, pair, n_dims);
        let (cos, sin) = (size * angle.cos(), size * angle.sin());
        (x[i], x[j]) = (x[i] * cos - x[j] * sin, x[j] * cos + x[i] * sin);
    }
}

/// Radians per position of one pair.
fn frequency(frequencies: &RotaryFrequencies, pair: usize, n_dims: usize) -> f64 {
    let base = frequencies.base;
    let plain = base.powf(-2.0 * pair as f64 / n_dims as f64);
    match &frequencies.scaling {
        RotaryScaling::None => plain,
        RotaryScaling::Linear { factor } => plain / factor,
        RotaryScaling::Yarn { factor, beta_fast, beta_slow, original_n_ctx, truncate, .. } => {
            // The pair that makes this number of turns over the original context.
            let pair_of = |turns: f64| {
                n_dims as f64 * (*original_n_ctx as f64 / (turns * 2.0 * PI)).ln() / (2.0 * base.ln())
            };
            let (low, high) = match truncate {
                true => (pair_of(*beta_fast).floor(), pair_of(*beta_slow).ceil()),
                false => (pair_of(*beta_fast), pair_of(*beta_slow)),
            };
            let (low, high) = (low.max(0.0), high.min(n_dims as f64 - 1.0));
            let width = if low == high { 0.001 } else { high - low };
            let divided = ((pair as f64 - low) / width).clamp(0.0, 1.0);
            divided * plain / factor + (1.0 - divided) * plain
        }
        RotaryScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_n_ctx } => {
            let turns = *original_n_ctx as f64 * plain / (2.0 * PI); // over the original context
            let kept = ((turns - low_freq_factor) / (high_freq_factor - low_freq_factor)).clamp(0.0, 1.0);
            kept * plain + (1.0 - kept) * plain / factor
        }
        RotaryScaling::LongRope { short_factor, .. } => plain / short_factor[pair],
    }
}
