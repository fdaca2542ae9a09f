//! The plain run, layer by layer, with all activations of the current layer that branches start from or read.

use rayon::prelude::*;

use super::layer::Layer;
use super::linear::{Residual, linear};
use super::scratch::{grown, tile_rows, with_scratch};
use crate::decoder::Decoder;
use crate::forest::Forest;
use crate::machine::Rows;
use cs_model::spec::Positions;

/// State of the plain run after some layers. Before the first, only `resid` is meaningful.
pub(crate) struct Plain {
    /// `resid_post` of the last computed layer. `[n_nodes, d_model]`
    pub resid: Vec<f32>,
    /// The residual stream in that layer after attention's output has been added. `[n_nodes, d_model]`
    pub attn: Vec<f32>,
    /// `resid_pre` of that layer if branches start from it because attention's output is normalized before it is
    /// added; otherwise empty. `[n_nodes, d_model]`
    pub resid_pre: Vec<f32>,
    /// The heads' streams in that layer.
    pub streams: Streams,
}

/// All heads' streams in one layer of a plain run.
pub(crate) struct Streams {
    /// `[n_nodes, d_attn]`
    pub q: Vec<f32>,
    /// Keys, then values. `[n_nodes, 2 * d_kv]`
    pub kv: Vec<f32>,
    /// `[n_nodes, d_attn]`
    pub z: Vec<f32>,
}

impl Streams {
    /// A copy of `z`, and if `all`, of `q`, `k` and `v`.
    pub fn keep(&self, all: bool) -> Self {
        let (q, kv) = if all { (self.q.clone(), self.kv.clone()) } else { (vec![], vec![]) };
        Self { q, kv, z: self.z.clone() }
    }
}

/// The residual stream before the first layer: embeddings. `[n_nodes, d_model]`
pub(crate) fn embed(decoder: &Decoder, forest: &Forest) -> Vec<f32> {
    let (spec, weights) = (decoder.spec(), decoder.weights());
    let (n, d_model, d_embed) = (forest.n_nodes(), spec.d_model, spec.d_embed);
    let mut resid = vec![0.0; n * d_model];
    let tile = tile_rows(n);
    resid.par_chunks_mut(tile * d_model).enumerate().for_each(|(t, x)| {
        let nodes = t * tile..t * tile + x.len() / d_model;
        let embed = |node: usize, out: &mut [f32]| {
            let token = forest.tokens()[node] as usize;
            out.copy_from_slice(&weights.embed.row(token, d_embed));
            if let Some(scale) = spec.embed_scale {
                out.iter_mut().for_each(|x| *x *= scale);
            }
        };
        match &weights.project_in {
            None => {
                for (node, x) in nodes.clone().zip(x.chunks_exact_mut(d_model)) {
                    embed(node, x);
                }
            }
            Some(project) => with_scratch(|scratch| {
                let rows = grown(&mut scratch.tile.normed, nodes.len() * d_embed);
                for (node, row) in nodes.clone().zip(rows.chunks_exact_mut(d_embed)) {
                    embed(node, row);
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
    resid
}

impl Plain {
    /// The run before the first layer.
    pub fn embed(decoder: &Decoder, forest: &Forest) -> Self {
        let (spec, n) = (decoder.spec(), forest.n_nodes());
        let (resid, d_model) = (embed(decoder, forest), spec.d_model);
        let zeros = |width: usize| vec![0.0; n * width];
        let streams =
            Streams { q: zeros(spec.d_attn()), kv: zeros(2 * spec.d_kv()), z: zeros(spec.d_attn()) };
        let resid_pre = zeros(if spec.norm.has_branch_norm() { d_model } else { 0 });
        Self { resid, attn: zeros(d_model), resid_pre, streams }
    }

    /// Runs one layer.
    pub fn step(&mut self, layer: Layer<'_>, forest: &Forest) {
        let spec = layer.spec();
        let (d_model, d_attn) = (spec.d_model, spec.d_attn());
        let rows = Rows::All(forest.n_nodes());
        let Streams { q, kv, z } = &mut self.streams;
        layer.project(forest, rows, &self.resid, Some(q), Some(kv));
        if !self.resid_pre.is_empty() {
            self.resid_pre.copy_from_slice(&self.resid);
        }
        let tile = tile_rows(forest.n_nodes());
        let tiles = self.resid.par_chunks_mut(tile * d_model).zip(self.attn.par_chunks_mut(tile * d_model));
        let heads = q.par_chunks(tile * d_attn).zip(z.par_chunks_mut(tile * d_attn));
        tiles.zip(heads).enumerate().for_each(|(t, ((x, attn), (q, z)))| {
            let nodes = t * tile..t * tile + x.len() / d_model;
            with_scratch(|scratch| {
                layer.attend(forest, rows, nodes, q, (kv, spec.n_kv_heads), z, &mut scratch.seen);
                layer.block(x, z, Some(attn), &mut scratch.tile);
            });
        });
    }
}
