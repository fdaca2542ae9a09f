//! The plain run, layer by layer, with everything of the current layer that branches start from or read.

use rayon::prelude::*;

use super::layer::{Layer, Residual, Rows, grown, linear, tile_rows, with_scratch};
use crate::decoder::Decoder;
use crate::forest::Forest;
use crate::spec::Positions;

/// State of the plain run after some layers. Before the first step only `resid` is meaningful.
#[derive(Clone)]
pub(super) struct Baseline {
    /// `resid_post` of the last layer done. `[n_nodes, d_model]`
    pub resid: Vec<f32>,
    /// `resid_pre + z W_O + b_O` of that layer. `[n_nodes, d_model]`
    pub attn_sum: Vec<f32>,
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
                    kernels::add_assign(x, &weights.pos_embed[row * d_model..][..d_model]);
                }
            }
        });
        let zeros = |width: usize| vec![0.0; n * width];
        let d_attn = spec.d_attn();
        Self { resid, attn_sum: zeros(d_model), q: zeros(d_attn), kv: zeros(2 * d_attn), z: zeros(d_attn) }
    }

    /// Runs one layer.
    pub fn step(&mut self, layer: Layer<'_>, forest: &Forest) {
        let (d_model, d_attn) = (layer.spec().d_model, layer.spec().d_attn());
        let rows = Rows::All(forest.n_nodes());
        layer.project(forest, rows, &self.resid, Some(&mut self.q), Some(&mut self.kv));
        let tile = tile_rows(forest.n_nodes());
        let tiles =
            self.resid.par_chunks_mut(tile * d_model).zip(self.attn_sum.par_chunks_mut(tile * d_model));
        let heads = self.q.par_chunks(tile * d_attn).zip(self.z.par_chunks_mut(tile * d_attn));
        tiles.zip(heads).enumerate().for_each(|(t, ((x, attn_sum), (q, z)))| {
            let nodes = t * tile..t * tile + x.len() / d_model;
            with_scratch(|scratch| {
                let (_, normed, hidden, seen) = scratch.split();
                layer.attend(forest, rows, nodes, (q, &self.kv), z, seen);
                layer.block(x, z, Some(attn_sum), normed, hidden);
            });
        });
    }
}
