//! One block of the decoder on a tall matrix of rows, tile by tile.
//!
//! A block is two parallel passes over tiles of rows, with one barrier between them, since attention reads other rows'
//! keys and values and everything else reads only its own row:
//!
//! 1. [`Layer::project`]: attention's norm, then `W_Q`, `W_K`, `W_V`, their norms and the rotary embedding;
//! 2. [`Layer::attend`] and [`Layer::block`]: attention, `W_O`, the MLP, norms and residual additions.

use std::ops::Range;

use cs_kernels::{KeyValues, MatMut, MatRef, PathAttention, ScoreRule, matmul};
use rayon::prelude::*;

use super::linear::{Residual, activate, activate_gate, linear, norm, norm_rows};
use super::scratch::{Seen, Tile, grown, tile_rows, with_scratch};
use crate::block::{Block, Join};
use crate::decoder::Decoder;
use crate::forest::Forest;
use crate::machine::Rows;
use crate::weights::{LayerWeights, Mlp, Norm};
use cs_model::spec::{ModelSpec, QkNorm, RotaryPairing};

/// Columns of the MLP's hidden layer computed at a time, so that a tile of them stays in the L2 cache.
pub(crate) fn mlp_block(spec: &ModelSpec) -> usize {
    if spec.gated_mlp { 384 } else { 768 }
}

/// One block of a decoder.
#[derive(Clone, Copy)]
pub(crate) struct Layer<'a> {
    pub decoder: &'a Decoder,
    pub index: usize,
}

impl<'a> Layer<'a> {
    pub fn spec(&self) -> &'a ModelSpec {
        self.decoder.spec()
    }

    pub fn weights(&self) -> &'a LayerWeights {
        &self.decoder.weights().layers[self.index]
    }

    /// The steps of the block.
    pub fn steps(&self) -> Block<'a> {
        Block::of(self.spec(), self.weights())
    }

    /// How scores are computed from products of queries and keys.
    pub fn score_rule(&self) -> ScoreRule {
        ScoreRule { scale: self.spec().attn_scale[self.index], softcap: self.spec().attn_softcap }
    }

    /// Queries, or keys and values, or all of them, of all rows.
    ///
    /// `resid` `[rows, d_model]` → `q` `[rows, d_attn]`, `kv` `[rows, 2 * d_kv]`
    pub fn project(
        &self,
        forest: &Forest,
        rows: Rows<'_>,
        resid: &[f32],
        q: Option<&mut [f32]>,
        kv: Option<&mut [f32]>,
    ) {
        let (d_model, d_attn, d_kv) = (self.spec().d_model, self.spec().d_attn(), self.spec().d_kv());
        let tile = tile_rows(resid.len() / d_model);
        let tile_of = |t: usize, x: &[f32]| t * tile..t * tile + x.len() / d_model;
        let resid = resid.par_chunks(tile * d_model).enumerate();
        match (q, kv) {
            (Some(q), Some(kv)) => {
                let out = q.par_chunks_mut(tile * d_attn).zip(kv.par_chunks_mut(tile * 2 * d_kv));
                resid.zip(out).for_each(|((t, x), (q, kv))| {
                    self.project_tile(forest, rows, tile_of(t, x), x, Some(q), Some(kv));
                });
            }
            (Some(q), None) => resid.zip(q.par_chunks_mut(tile * d_attn)).for_each(|((t, x), q)| {
                self.project_tile(forest, rows, tile_of(t, x), x, Some(q), None);
            }),
            (None, Some(kv)) => resid.zip(kv.par_chunks_mut(tile * 2 * d_kv)).for_each(|((t, x), kv)| {
                self.project_tile(forest, rows, tile_of(t, x), x, None, Some(kv));
            }),
            (None, None) => {}
        }
    }

    fn project_tile(
        &self,
        forest: &Forest,
        rows: Rows<'_>,
        tile: Range<usize>,
        resid: &[f32],
        q: Option<&mut [f32]>,
        kv: Option<&mut [f32]>,
    ) {
        let (d_attn, d_kv) = (self.spec().d_attn(), self.spec().d_kv());
        let weights = self.weights();
        with_scratch(|scratch| {
            let Tile { normed, branch, .. } = &mut scratch.tile;
            let input = match self.steps().attn_in {
                Some(norm) => self.norm(norm, resid, normed),
                None => resid,
            };
            let parts = [
                (q, 0..d_attn, d_attn, &weights.q_norm),
                (kv, d_attn..d_attn + 2 * d_kv, d_kv, &weights.k_norm),
            ];
            for (out, columns, turned, gain) in parts {
                let Some(out) = out else { continue };
                linear(&weights.w_qkv, input, tile.len(), columns.clone(), out, Residual::Replace);
                for (row, out) in tile.clone().zip(out.chunks_exact_mut(columns.len())) {
                    self.norm_heads(gain.as_deref(), &mut out[..turned], branch);
                    self.rotate(forest.positions()[rows.locate(row).1] as usize, &mut out[..turned]);
                }
            }
        });
    }

    /// The norm of one row's queries or keys, per head or over all heads, if the model has one.
    fn norm_heads(&self, gain: Option<&[f32]>, heads: &mut [f32], buffer: &mut Vec<f32>) {
        let width = match self.spec().qk_norm {
            QkNorm::None => return,
            QkNorm::PerHead => self.spec().d_head,
            QkNorm::AllHeads => heads.len(),
        };
        let buffer = grown(buffer, heads.len());
        buffer.copy_from_slice(heads);
        norm_rows(self.spec(), gain, None, width, buffer, heads);
    }

    /// Rotary embedding of one row's queries or keys, if the model has one.
    fn rotate(&self, position: usize, heads: &mut [f32]) {
        let Some((pairing, cos, sin)) = self.decoder.rotary(self.index, position) else { return };
        for head in heads.chunks_exact_mut(self.spec().d_head) {
            let turned = &mut head[..2 * cos.len()];
            match pairing {
                RotaryPairing::Halves => cs_kernels::rotary(turned, cos, sin),
                RotaryPairing::Interleaved => cs_kernels::rotary_interleaved(turned, cos, sin),
            }
        }
    }

    /// Attention of one tile of query rows: `z` `[tile, n_heads * d_head]`.
    ///
    /// `q` `[tile, n_heads * d_head]` are the tile's own rows; `kv` `[n_runs * n_nodes, 2 * n_kv_heads * d_head]` are all rows.
    /// Both may have all heads or only some.
    #[expect(clippy::too_many_arguments, reason = "a tile, its position, and its scratch")]
    pub(super) fn attend(
        &self,
        forest: &Forest,
        rows: Rows<'_>,
        tile: Range<usize>,
        q: &[f32],
        (kv, n_kv_heads): (&[f32], usize),
        z: &mut [f32],
        seen: &mut Seen,
    ) {
        let d_head = self.spec().d_head;
        let (d_attn, d_kv) = (q.len() / tile.len(), n_kv_heads * d_head);
        let (window, rule) = (self.spec().windows[self.index], self.score_rule());
        let kv = KeyValues { data: kv, stride: 2 * d_kv, key: 0, value: d_kv };
        let Seen { path, attention, .. } = seen;
        attention.reset(d_attn / d_head, n_kv_heads, d_head);
        let mut at = tile.start;
        while at < tile.end {
            // Consecutive nodes on one path.
            let (run, mut node) = rows.locate(at);
            let mut n = 1;
            while n < PathAttention::QUERIES && at + n < tile.end {
                let next = rows.locate(at + n);
                if next.0 != run || forest.parent(next.1 as u32) != Some(node as u32) {
                    break;
                }
                (node, n) = (next.1, n + 1);
            }
            forest.path_into(node as u32, None, path);
            let first = (run * forest.n_nodes()) as u32;
            path.iter_mut().for_each(|n| *n += first);
            let of_tile = (at - tile.start) * d_attn..(at - tile.start + n) * d_attn;
            let q = MatRef::new(&q[of_tile.clone()], n, d_attn);
            attention.attend(q, kv, path, window, rule, MatMut::new(&mut z[of_tile], n, d_attn));
            at += n;
        }
    }

    /// The rest of a block after attention, for one tile: `x` `[tile, d_model]` is `resid_pre` on entry and
    /// `resid_post` on return. `attn`, if given, receives the residual stream after attention's output has been added.
    pub(super) fn block(&self, x: &mut [f32], z: &[f32], attn: Option<&mut [f32]>, tile: &mut Tile) {
        let (steps, w_o, d_model) = (self.steps(), &self.weights().w_o, self.spec().d_model);
        let n_rows = x.len() / d_model;
        let mlp_input = match steps.mlp_in {
            Some(norm) if steps.parallel => Some(self.norm(norm, x, &mut tile.normed).len()),
            _ => None,
        };
        match steps.attn_out {
            Join::Add | Join::AddThenNorm(_) => linear(w_o, z, n_rows, 0..d_model, x, Residual::Add),
            Join::AddNormed(norm) => {
                let out = grown(&mut tile.branch, x.len());
                linear(w_o, z, n_rows, 0..d_model, out, Residual::Replace);
                cs_kernels::add_assign(x, self.norm(norm, out, &mut tile.normed));
            }
        }
        if let Some(attn) = attn {
            attn.copy_from_slice(x);
        }
        match (mlp_input, &self.weights().mlp) {
            (Some(len), Some(mlp)) => {
                self.mlp(mlp, &tile.normed[..len], x, Residual::Add, &mut tile.hidden);
            }
            (Some(_), None) => {}
            (None, _) => self.after_attention(x, tile),
        }
    }

    /// A sequential block from `x` `[tile, d_model]`, with attention's output added, to `resid_post`, in place.
    pub(super) fn after_attention(&self, x: &mut [f32], tile: &mut Tile) {
        let steps = self.steps();
        if let Join::AddThenNorm(norm) = steps.attn_out {
            x.copy_from_slice(self.norm(norm, x, &mut tile.normed));
        }
        let Some(mlp) = &self.weights().mlp else { return };
        let input = match steps.mlp_in {
            Some(norm) => self.norm(norm, x, &mut tile.normed),
            None => {
                let copy = grown(&mut tile.normed, x.len());
                copy.copy_from_slice(x);
                copy
            }
        };
        match steps.mlp_out {
            Join::Add => self.mlp(mlp, input, x, Residual::Add, &mut tile.hidden),
            Join::AddThenNorm(norm) => {
                self.mlp(mlp, input, x, Residual::Add, &mut tile.hidden);
                x.copy_from_slice(self.norm(norm, x, &mut tile.normed));
            }
            Join::AddNormed(norm) => {
                let out = grown(&mut tile.branch, x.len());
                self.mlp(mlp, input, out, Residual::Replace, &mut tile.hidden);
                cs_kernels::add_assign(x, self.norm(norm, out, &mut tile.normed));
            }
        }
    }

    /// `out = mlp(input)`, or `out += mlp(input)`, a block of hidden columns at a time.
    fn mlp(&self, mlp: &Mlp, input: &[f32], out: &mut [f32], mut residual: Residual, hidden: &mut Vec<f32>) {
        let (d_model, d_mlp, activation) = (self.spec().d_model, self.spec().d_mlp, self.spec().activation);
        let n_rows = out.len() / d_model;
        let block = mlp_block(self.spec());
        for from in (0..d_mlp).step_by(block) {
            let columns = from..d_mlp.min(from + block);
            let len = n_rows * columns.len();
            let n_kept = if mlp.w_gate.is_some() { 2 * len } else { len };
            let (hidden, up) = grown(hidden, n_kept).split_at_mut(len);
            match &mlp.w_gate {
                None => {
                    linear(&mlp.w_in, input, n_rows, columns.clone(), hidden, Residual::Replace);
                    activate(activation, hidden);
                }
                Some(gate) => {
                    linear(gate, input, n_rows, columns.clone(), hidden, Residual::Replace);
                    linear(&mlp.w_in, input, n_rows, columns.clone(), up, Residual::Replace);
                    activate_gate(activation, hidden, up);
                }
            }
            let init = residual.init(mlp.w_out.bias.as_deref());
            let hidden = MatRef::new(hidden, n_rows, columns.len());
            let w_out = mlp.w_out.weight.block(columns, 0..d_model);
            matmul(hidden, w_out, MatMut::new(out, n_rows, d_model), init);
            residual = Residual::AddWithoutBias;
        }
    }

    /// The model's norm of rows `[rows, d_model]` into a buffer.
    fn norm<'s>(&self, by: &Norm, x: &[f32], out: &'s mut Vec<f32>) -> &'s [f32] {
        let out = grown(out, x.len());
        norm(self.spec(), by, x, out);
        out
    }
}
