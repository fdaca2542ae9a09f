//! The plain run, layer by layer, with everything of the current layer that branches start from or read.

use std::collections::BTreeMap;

use rayon::prelude::*;

use crate::decoder::Decoder;
use crate::forest::Forest;
use crate::layer::{Layer, Residual, Rows, grown, linear, tile_rows, with_scratch};
use cs_model::spec::Positions;

/// State of the plain run after some layers. Before the first step only `resid` is meaningful.
pub(crate) struct Baseline {
    /// `resid_post` of the last layer done. `[n_nodes, d_model]`
    pub resid: Vec<f32>,
    /// `resid_pre + z W_O + b_O` of that layer. `[n_nodes, d_model]`
    pub attn_sum: Vec<f32>,
    /// The heads' streams in that layer.
    pub streams: Streams,
}

/// All heads' streams in one layer of a plain run.
pub(crate) struct Streams {
    /// `[n_nodes, d_attn]`
    pub q: Vec<f32>,
    /// Keys, then values. `[n_nodes, 2 * d_attn]`
    pub kv: Vec<f32>,
    /// `[n_nodes, d_attn]`
    pub z: Vec<f32>,
}

impl Baseline {
    /// The residual stream before the first layer: embeddings.
    pub fn embed(decoder: &Decoder, forest: &Forest) -> Self {
        let (spec, weights) = (decoder.spec(), decoder.weights());
        let (n, d_model, d_embed) = (forest.n_nodes(), spec.d_model, spec.d_embed);
        let mut resid = vec![0.0; n * d_model];
        let tile = tile_rows(n);
        resid.par_chunks_mut(tile * d_model).enumerate().for_each(|(t, x)| {
            let nodes = t * tile..t * tile + x.len() / d_model;
            let embedding = |node: usize| {
                let token = forest.tokens()[node] as usize;
                &weights.embed[token * d_embed..][..d_embed]
            };
            match &weights.project_in {
                None => {
                    for (node, x) in nodes.clone().zip(x.chunks_exact_mut(d_model)) {
                        x.copy_from_slice(embedding(node));
                    }
                }
                Some(project) => with_scratch(|scratch| {
                    let rows = grown(&mut scratch.normed, nodes.len() * d_embed);
                    for (node, row) in nodes.clone().zip(rows.chunks_exact_mut(d_embed)) {
                        row.copy_from_slice(embedding(node));
                    }
                    linear(project, rows, nodes.len(), 0..d_model, x, Residual::Replace);
                }),
            }
            if let Positions::Learned { offset } = spec.positions {
                for (node, x) in nodes.zip(x.chunks_exact_mut(d_model)) {
                    let row = forest.positions()[node] as usize + offset;
                    cs_kernels::add_assign(x, &weights.pos_embed[row * d_model..][..d_model]);
                }
            }
        });
        let zeros = |width: usize| vec![0.0; n * width];
        let d_attn = spec.d_attn();
        let streams = Streams { q: zeros(d_attn), kv: zeros(2 * d_attn), z: zeros(d_attn) };
        Self { resid, attn_sum: zeros(d_model), streams }
    }

    /// Runs one layer.
    pub fn step(&mut self, layer: Layer<'_>, forest: &Forest) {
        let (d_model, d_attn) = (layer.spec().d_model, layer.spec().d_attn());
        let rows = Rows::All(forest.n_nodes());
        let Streams { q, kv, z } = &mut self.streams;
        layer.project(forest, rows, &self.resid, Some(q), Some(kv));
        let tile = tile_rows(forest.n_nodes());
        let tiles =
            self.resid.par_chunks_mut(tile * d_model).zip(self.attn_sum.par_chunks_mut(tile * d_model));
        let heads = q.par_chunks(tile * d_attn).zip(z.par_chunks_mut(tile * d_attn));
        tiles.zip(heads).enumerate().for_each(|(t, ((x, attn_sum), (q, z)))| {
            let nodes = t * tile..t * tile + x.len() / d_model;
            with_scratch(|scratch| {
                let (_, normed, hidden, seen) = scratch.split();
                layer.attend(forest, rows, nodes, (q, kv), z, seen);
                layer.block(x, z, Some(attn_sum), normed, hidden);
            });
        });
    }
}

/// The plain run's streams in the layers where branches read them after their first edited layer.
pub(crate) struct Sources(BTreeMap<usize, Streams>);

impl Sources {
    /// Runs `forest` plainly and keeps the streams of `layers`: `z` of each, and `q`, `k` and `v` where the map says so.
    pub fn compute(decoder: &Decoder, forest: &Forest, layers: &BTreeMap<usize, bool>) -> Self {
        let mut kept = BTreeMap::new();
        let Some((&last, _)) = layers.last_key_value() else { return Self(kept) };
        let mut run = Baseline::embed(decoder, forest);
        for index in 0..=last {
            run.step(Layer { decoder, index }, forest);
            if let Some(&all) = layers.get(&index) {
                let Streams { q, kv, z } = &run.streams;
                let (q, kv) = if all { (q.clone(), kv.clone()) } else { (vec![], vec![]) };
                kept.insert(index, Streams { q, kv, z: z.clone() });
            }
        }
        Self(kept)
    }

    /// The streams of a layer, if some branch reads them.
    pub fn at(&self, layer: usize) -> Option<&Streams> {
        self.0.get(&layer)
    }

    /// Floats that the streams of `layers` take for each node.
    pub fn floats_per_node(d_attn: usize, layers: &BTreeMap<usize, bool>) -> usize {
        layers.values().map(|&all| if all { 4 * d_attn } else { d_attn }).sum()
    }
}
