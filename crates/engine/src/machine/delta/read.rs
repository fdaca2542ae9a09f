//! From residual streams to logits: the plain run's, and a branch's difference from each.

use std::collections::BTreeMap;

use super::ops::{Changed, NormOut, Ops, Span};
use super::plain::normed;
use super::weights::ModelOn;
use super::{Delta, Stack};
use crate::decoder::Decoder;
use crate::plan::Chunk;
use crate::request::Prompt;

/// The logits of a chunk to read, prompt by prompt: their ends, their tokens, and the plain run's values before the
/// soft cap.
pub(super) struct Base {
    /// For each, the end, and the row in the table of tokens to read.
    pairs: Vec<(u32, u32)>,
    /// The plain run's, bias included.
    raw: Vec<f64>,
}

impl Base {
    /// The plain run's logits.
    pub fn logits(&self, decoder: &Decoder) -> Vec<f64> {
        self.raw.iter().map(|&raw| capped(decoder, raw)).collect()
    }
}

fn capped(decoder: &Decoder, logit: f64) -> f64 {
    let cap = decoder.spec().logit_softcap.map(f64::from);
    cap.map_or(logit, |cap| cap * (logit / cap).tanh())
}

/// The distinct tokens that a chunk's prompts read, with their rows in the table; and the pairs to read.
fn tokens_read(prompts: &[Prompt], chunk: &Chunk) -> (BTreeMap<u32, u32>, Vec<(u32, u32)>) {
    let read = |prompt: usize| prompts[prompt].read.iter();
    let mut rows: BTreeMap<u32, u32> = chunk.prompts.iter().flat_map(|&p| read(p)).map(|&t| (t, 0)).collect();
    rows.values_mut().zip(0..).for_each(|(row, index)| *row = index);
    let of_prompt =
        |(&prompt, &end): (&usize, &u32)| read(prompt).map(|t| (end, rows[t])).collect::<Vec<_>>();
    let pairs = chunk.prompts.iter().zip(&chunk.end_of).flat_map(of_prompt).collect();
    (rows, pairs)
}

impl<O: Ops> Delta<'_, O> {
    /// Unembedding rows of the tokens read, on the device. `[tokens, d_embed]`
    fn unembed(&mut self, tokens: &BTreeMap<u32, u32>) -> O::Floats {
        let (unembed, d_embed) = (self.decoder.weights().unembed(), self.decoder.spec().d_embed);
        let row = |&token: &u32| unembed.row(token as usize, d_embed).into_owned();
        let rows: Vec<f32> = tokens.keys().flat_map(row).collect();
        self.model.ops.upload(&rows)
    }

    /// Applies `project_out`, if the model has it; without its bias for differences.
    fn projected(&mut self, rows: usize, x: O::Floats, with_bias: bool) -> O::Floats {
        let ModelOn { ops, parameters } = &mut *self.model;
        let Some((weight, bias)) = &parameters.project_out else { return x };
        let d_embed = self.decoder.spec().d_embed;
        let mut out = ops.floats(rows * d_embed, false);
        let bias = bias.as_ref().filter(|_| with_bias);
        ops.plain_product(rows, &x, weight, 0..d_embed, bias, false, &mut out);
        out
    }

    /// The plain run's logits at a chunk's ends, from its last residual stream `[n_base, d_model]`.
    pub(super) fn read_base(&mut self, prompts: &[Prompt], chunk: &Chunk, resid: &O::Floats) -> Base {
        let (tokens, pairs) = tokens_read(prompts, chunk);
        let (spec, n_ends) = (self.decoder.spec(), chunk.ends.len());
        let table = self.unembed(&tokens);
        let plain: Vec<u32> = chunk.ends.iter().map(|&end| chunk.own[end as usize]).collect();
        let ModelOn { ops, parameters } = &mut *self.model;
        let plain = ops.upload_ints(&plain);
        let mut x = ops.gather(resid, spec.d_model, n_ends, Some(&plain));
        if spec.final_norm {
            x = normed(ops, &parameters.ln_final, n_ends * spec.d_model, spec.d_model, &x);
        }
        let x = self.projected(n_ends, x, true);
        let mut raw = self.model.ops.dots((1, n_ends, spec.d_embed), &x, &table, &pairs);
        if let Some(bias) = &self.decoder.weights().unembed_bias {
            let read = chunk.prompts.iter().flat_map(|&prompt| &prompts[prompt].read);
            raw.iter_mut().zip(read).for_each(|(raw, &token)| *raw += f64::from(bias[token as usize]));
        }
        self.is_finite &= raw.iter().all(|raw| raw.is_finite());
        Base { pairs, raw }
    }

    /// Logits of every run of a stack after all layers.
    pub(super) fn read_stack(
        &mut self,
        prompts: &[Prompt],
        chunk: &Chunk,
        stack: &Stack<O>,
    ) -> Vec<Vec<f64>> {
        let base = self.read_base(prompts, chunk, &stack.plain.resid_post);
        let (tokens, _) = tokens_read(prompts, chunk);
        let table = self.unembed(&tokens);
        let (spec, n_ends, n_runs) = (self.decoder.spec(), chunk.ends.len(), stack.n_runs);
        let (rows, d_model) = (n_runs * n_ends, spec.d_model);
        let ModelOn { ops, parameters } = &mut *self.model;
        let x = if spec.final_norm {
            let ends = &self.chunk.as_ref().expect("a chunk begins before its branches").ends;
            let span = Span { n_runs, per_run: n_ends, plain: &ends.plain, from: None };
            let mut out = ops.floats(rows * d_model, false);
            let (changed, to) = (Changed::By(&stack.delta), NormOut::Set(&mut out));
            ops.norm(&span, &parameters.ln_final, d_model, &stack.plain.resid_post, changed, to);
            out
        } else {
            ops.gather(&stack.delta, d_model, rows, None)
        };
        let x = self.projected(rows, x, false);
        let added = self.model.ops.dots((n_runs, n_ends, spec.d_embed), &x, &table, &base.pairs);
        let decoder = self.decoder;
        let of_run = |added: &[f64]| {
            base.raw.iter().zip(added).map(|(raw, added)| capped(decoder, raw + added)).collect()
        };
        self.is_finite &= added.iter().all(|added| added.is_finite());
        (0..n_runs).map(|run| of_run(&added[run * base.pairs.len()..][..base.pairs.len()])).collect()
    }
}
