//! From the last residual stream to the logits that were asked for.

use rayon::prelude::*;

use super::Prompt;
use super::layer::{Residual, layer_norm, linear};
use super::plan::Chunk;
use crate::decoder::Decoder;

/// Prompts per unit of parallel work.
const PROMPTS_AT_ONCE: usize = 16;

/// Rows of the last residual stream, `[n, d_model]`, made ready for the unembedding: final norm and `project_out`.
/// `[n, d_embed]`
pub(super) fn normed(decoder: &Decoder, x: &[f32]) -> Vec<f32> {
    let (spec, weights) = (decoder.spec(), decoder.weights());
    let mut out = x.to_vec();
    if spec.final_norm {
        layer_norm(spec, &weights.ln_final, x, &mut out);
    }
    if let Some(project) = &weights.project_out {
        let n_rows = x.len() / spec.d_model;
        let mut projected = vec![0.0; n_rows * spec.d_embed];
        linear(project, &out, n_rows, 0..spec.d_embed, &mut projected, Residual::Replace);
        return projected;
    }
    out
}

/// Logit of one token, given a row `[d_embed]` of [`normed`].
pub(super) fn logit(decoder: &Decoder, normed: &[f32], token: u32) -> f64 {
    let d_embed = decoder.spec().d_embed;
    dot(normed, &decoder.weights().unembed()[token as usize * d_embed..][..d_embed])
}

/// Logits of every prompt's tokens to read, end to end, from `ends` `[n_ends, d_model]`.
pub(super) fn logits(decoder: &Decoder, prompts: &[Prompt], chunk: &Chunk, ends: &[f32]) -> Vec<f64> {
    let normed = normed(decoder, ends);
    let d_embed = decoder.spec().d_embed;
    let of_prompt = |(&prompt, &end): (&usize, &u32)| {
        let x = &normed[end as usize * d_embed..][..d_embed];
        prompts[prompt].read.iter().map(move |&token| logit(decoder, x, token))
    };
    chunk
        .prompts
        .par_iter()
        .zip(&chunk.end_of)
        .with_min_len(PROMPTS_AT_ONCE)
        .flat_map_iter(of_prompt)
        .collect()
}

/// A dot product summed in float64: logit differences are small beside the logits that they are the difference of.
/// Eight sums side by side, so that the compiler can use vectors.
fn dot(a: &[f32], b: &[f32]) -> f64 {
    let (a8, a_rest) = a.as_chunks::<8>();
    let (b8, b_rest) = b.as_chunks::<8>();
    let mut sums = [0.0f64; 8];
    for (a, b) in a8.iter().zip(b8) {
        for ((sum, &a), &b) in sums.iter_mut().zip(a).zip(b) {
            *sum += f64::from(a) * f64::from(b);
        }
    }
    let rest: f64 = a_rest.iter().zip(b_rest).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
    sums.iter().sum::<f64>() + rest
}
