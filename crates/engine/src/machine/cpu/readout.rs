//! From the last residual stream to the requested logits.

use rayon::prelude::*;

use super::linear::{Residual, linear, norm};
use crate::decoder::Decoder;
use crate::plan::Chunk;
use crate::request::Prompt;
use crate::weights::Table;

/// Prompts per unit of parallel work.
const PROMPTS_AT_ONCE: usize = 16;

/// Rows of the last residual stream, `[n, d_model]`, after the final norm and `project_out`. `[n, d_embed]`
pub(crate) fn normed(decoder: &Decoder, x: &[f32]) -> Vec<f32> {
    let (spec, weights) = (decoder.spec(), decoder.weights());
    let mut out = x.to_vec();
    if spec.final_norm {
        norm(spec, &weights.ln_final, x, &mut out);
    }
    if let Some(project) = &weights.project_out {
        let n_rows = x.len() / spec.d_model;
        let mut projected = vec![0.0; n_rows * spec.d_embed];
        linear(project, &out, n_rows, 0..spec.d_embed, &mut projected, Residual::Replace);
        return projected;
    }
    out
}

/// Logits of some tokens, given a row `[d_embed]` of [`normed`]. They are summed in float64, since logit differences are
/// small compared with logits.
pub(crate) fn logits_of(decoder: &Decoder, normed: &[f32], tokens: &[u32], out: &mut [f64]) {
    let weights = decoder.weights();
    match weights.unembed() {
        Table::F32(table) => cs_kernels::dot_rows(normed, table, tokens, out),
        table => {
            for (token, out) in tokens.iter().zip(out.iter_mut()) {
                let row = table.row(*token as usize, normed.len());
                cs_kernels::dot_rows(normed, &row, &[0], std::slice::from_mut(out));
            }
        }
    }
    if let Some(bias) = &weights.unembed_bias {
        out.iter_mut().zip(tokens).for_each(|(logit, &token)| *logit += f64::from(bias[token as usize]));
    }
    if let Some(cap) = decoder.spec().logit_softcap.map(f64::from) {
        out.iter_mut().for_each(|logit| *logit = cap * (*logit / cap).tanh());
    }
}

/// Logits of every prompt's tokens to read, concatenated, from `ends` `[n_ends, d_model]`.
pub(super) fn logits(decoder: &Decoder, prompts: &[Prompt], chunk: &Chunk, ends: &[f32]) -> Vec<f64> {
    let normed = normed(decoder, ends);
    let d_embed = decoder.spec().d_embed;
    let mut logits = vec![0.0; chunk.prompts.iter().map(|&p| prompts[p].read.len()).sum()];
    let mut rest = &mut logits[..];
    let mut jobs = Vec::with_capacity(chunk.prompts.len());
    for (&prompt, &end) in chunk.prompts.iter().zip(&chunk.end_of) {
        let tokens = &prompts[prompt].read[..];
        let (of_prompt, others) = std::mem::take(&mut rest).split_at_mut(tokens.len());
        jobs.push((&normed[end as usize * d_embed..][..d_embed], tokens, of_prompt));
        rest = others;
    }
    let each = |(x, tokens, out): (&[f32], &[u32], &mut [f64])| logits_of(decoder, x, tokens, out);
    jobs.into_par_iter().with_min_len(PROMPTS_AT_ONCE).for_each(each);
    logits
}
