//! Attention patterns of every head from the tokens of each prompt, in the plain run.

use cs_kernels::KeyValues;
use rayon::prelude::*;

use crate::decoder::Decoder;
use crate::error::EngineError;
use crate::machine::Machine;
use crate::machine::cpu::Layer;
use crate::machine::place::{Job, carry_out};
use crate::plan::{self, Chunk};
use crate::request::{Options, Prompt};

/// The query tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Queries {
    /// Each prompt's last token.
    Last,
    /// Every token of each prompt, in order.
    All,
}

/// Attention of all heads of one layer from one query token of a prompt.
#[derive(Clone, Copy, Debug)]
pub struct AttentionRow<'a> {
    /// Index of the prompt.
    pub prompt: usize,
    /// The layer.
    pub layer: usize,
    /// Position of the first token attended to: 0, except in layers with a window.
    pub first: usize,
    /// Number of tokens attended to, including the query token, which is the last.
    pub n_seen: usize,
    /// Attention probabilities, head by head, in order of position. `[n_heads, n_seen]`
    pub weights: &'a [f32],
}

/// Runs `prompts` plainly, and passes the attention of each head of each layer from the query tokens to
/// `receive`.
///
/// Only [`Prompt::tokens`] is used. Within a layer, the order of prompts depends only on their tokens, so that sums over them
/// are bit-identical for any number of threads and any memory bound.
///
/// # Errors
/// See [`EngineError`]; everything is checked before the first layer is computed.
pub fn attention_rows(
    decoder: &Decoder,
    prompts: &[Prompt],
    queries: Queries,
    options: Options,
    receive: &mut dyn FnMut(AttentionRow<'_>),
) -> Result<(), EngineError> {
    let spec = decoder.spec();
    plan::check(spec, prompts, &[])?;
    carry_out(decoder, Rows { decoder, prompts, queries, options, receive })
}

/// The request to the machine.
struct Rows<'a> {
    decoder: &'a Decoder,
    prompts: &'a [Prompt],
    queries: Queries,
    options: Options,
    receive: &'a mut dyn FnMut(AttentionRow<'_>),
}

impl Job for Rows<'_> {
    type Output = ();

    fn run<M: Machine>(self, machine: &mut M) -> Result<Self::Output, EngineError> {
        let Self { decoder, prompts, queries, options, receive } = self;
        let spec = decoder.spec();
        let mut weights = Vec::new();
        let options = Options { memory: machine.memory(options) };
        let limits = machine.limits(&[], plan::longest(prompts));
        for chunk in plan::chunks(prompts, &[], limits, options)? {
            let ends = chunk.prompts.iter().zip(chunk.base.ends());
            let nodes: Vec<(usize, u32)> = match queries {
                Queries::Last => ends.map(|(&prompt, &end)| (prompt, end)).collect(),
                Queries::All => ends
                    .flat_map(|(&p, &end)| chunk.base.path(end).into_iter().map(move |n| (p, n)))
                    .collect(),
            };
            let mut run = machine.embed(&chunk.base);
            // A chunk leaves memory for one branch, which is not run here.
            let branch_floats = limits.run_node / size_of::<f32>();
            let per_query = spec.n_heads * chunk.base.max_len();
            let at_once = (branch_floats * chunk.base.n_nodes() / per_query).max(1);
            for index in 0..spec.n_layers {
                let layer = Layer { decoder, index };
                machine.plain_layer(index, &chunk.base, &mut run);
                let (q, kv) = machine.plain_qkv(&run);
                machine.status()?;
                for group in nodes.chunks(at_once) {
                    weights.resize(per_query * at_once.min(nodes.len()), 0.0);
                    attend(layer, &chunk, (&q, &kv), group, &mut weights);
                    for (&(prompt, node), weights) in group.iter().zip(weights.chunks_exact(per_query)) {
                        let (first, n_seen) = seen(layer, &chunk, node);
                        let weights = &weights[..spec.n_heads * n_seen];
                        receive(AttentionRow { prompt, layer: index, first, n_seen, weights });
                    }
                }
            }
        }
        Ok(())
    }
}

/// Position of the first token that a node attends to, and their number.
fn seen(layer: Layer<'_>, chunk: &Chunk, node: u32) -> (usize, usize) {
    let len = chunk.base.positions()[node as usize] as usize + 1;
    let n_seen = layer.spec().windows[layer.index].map_or(len, |window| window.min(len));
    (len - n_seen, n_seen)
}

/// Attention from each of `nodes`: `weights` has one part of equal size per node, whose first `n_heads *
/// n_seen` values are written.
fn attend(
    layer: Layer<'_>,
    chunk: &Chunk,
    (q, kv): (&[f32], &[f32]),
    nodes: &[(usize, u32)],
    weights: &mut [f32],
) {
    let spec = layer.spec();
    let (d_attn, d_kv, d_head) = (spec.d_attn(), spec.d_kv(), spec.d_head);
    let (window, rule) = (spec.windows[layer.index], layer.score_rule());
    let per_query = spec.n_heads * chunk.base.max_len();
    nodes.par_iter().zip(weights.par_chunks_exact_mut(per_query)).for_each_init(
        || (Vec::new(), vec![0.0; d_head]),
        |(path, z), (&(_, node), weights)| {
            chunk.base.path_into(node, window, path);
            let q = &q[node as usize * d_attn..][..d_attn];
            for (head, weights) in weights.chunks_exact_mut(path.len()).take(spec.n_heads).enumerate() {
                let (at, key) = (head * d_head, head / spec.group_size() * d_head);
                let kv = KeyValues { data: kv, stride: 2 * d_kv, key, value: d_kv + key };
                cs_kernels::attention_row(&q[at..at + d_head], kv, path, rule, weights, z);
            }
        },
    );
}
