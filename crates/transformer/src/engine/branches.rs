//! Running stacks of branches: from the plain run's state at their first edited layer to their logits.

use std::collections::BTreeMap;

use kernels::{Init, MatMut, MatRef, matmul};
use rayon::prelude::*;

use super::baseline::Baseline;
use super::edits::EditSite;
use super::layer::{Layer, Rows, grown, tile_rows, with_scratch};
use super::means::GroupMeans;
use super::plan::{Chunk, stack_size};
use super::{EngineError, Options, Progress, Prompt, Reading, Receiver, readout};
use crate::decoder::Decoder;
use crate::intervention::Branch;
use crate::spec::BlockLayout;

/// Runs all branches over one chunk of prompts after another.
pub(super) struct Runner<'a> {
    decoder: &'a Decoder,
    branches: &'a [Branch],
    means: Option<&'a GroupMeans>,
    memory: usize,
    by_first_layer: BTreeMap<usize, Vec<usize>>,
    progress: Progress,
    stack: Stack,
}

/// Activations of a stack of runs, one below the other.
#[derive(Default)]
struct Stack {
    resid: Vec<f32>, // [n_runs * n_nodes, d_model]
    q: Vec<f32>,     // [n_runs * n_nodes, d_attn]
    kv: Vec<f32>,    // [n_runs * n_nodes, 2 * d_attn]
    ends: Vec<f32>,  // [n_runs * n_ends, d_model]: the residual stream of the last layer, where it is read
}

impl<'a> Runner<'a> {
    pub fn new(
        decoder: &'a Decoder,
        branches: &'a [Branch],
        means: Option<&'a GroupMeans>,
        options: Options,
        chunks: &[Chunk],
    ) -> Self {
        let mut by_first_layer: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (index, branch) in branches.iter().enumerate() {
            // A branch without edits ends as the plain run does: it has nothing to run.
            by_first_layer.entry(branch.first_layer().unwrap_or(usize::MAX)).or_default().push(index);
        }
        let n_layers = decoder.spec().n_layers;
        let mut runner = Self {
            decoder,
            branches,
            means,
            memory: options.memory,
            by_first_layer,
            progress: Progress { done: 0, total: 0 },
            stack: Stack::default(),
        };
        for chunk in chunks {
            for (&layer, branches) in &runner.by_first_layer {
                runner.progress.total += work(chunk, n_layers, layer, branches.len());
            }
        }
        runner
    }

    pub fn run_chunk(
        &mut self,
        prompts: &[Prompt],
        chunk: &Chunk,
        receiver: &mut dyn Receiver,
    ) -> Result<(), EngineError> {
        let n_layers = self.decoder.spec().n_layers;
        let size = stack_size(self.decoder.spec(), self.branches, chunk, self.memory);
        let mut base = Baseline::embed(self.decoder, &chunk.base);
        for index in 0..n_layers {
            base.step(Layer { decoder: self.decoder, index }, &chunk.base);
            let starting = self.by_first_layer.get(&index).map_or(&[][..], Vec::as_slice);
            let (known, todo): (Vec<usize>, Vec<usize>) =
                starting.iter().partition(|&&b| receiver.is_known(b, &chunk.prompts));
            self.advance_progress(chunk, index, known.len(), receiver)?;
            for stack in even_stacks(&todo, size) {
                self.run_stack(chunk, &base, index, stack);
                for (run, &branch) in stack.iter().enumerate() {
                    let n_ends = chunk.ends.len() * self.decoder.spec().d_model;
                    let ends = &self.stack.ends[run * n_ends..][..n_ends];
                    let logits = readout::logits(self.decoder, prompts, chunk, ends);
                    receiver.reading(Reading {
                        branch: Some(branch),
                        prompts: &chunk.prompts,
                        logits: &logits,
                    });
                }
                self.advance_progress(chunk, index, stack.len(), receiver)?;
            }
        }
        let d_model = self.decoder.spec().d_model;
        let ends: Vec<f32> = chunk
            .ends
            .iter()
            .flat_map(|&e| row(&base.resid, chunk.own[e as usize], d_model))
            .copied()
            .collect();
        let logits = readout::logits(self.decoder, prompts, chunk, &ends);
        receiver.reading(Reading { branch: None, prompts: &chunk.prompts, logits: &logits });
        for &branch in self.by_first_layer.get(&usize::MAX).map_or(&[][..], Vec::as_slice) {
            receiver.reading(Reading { branch: Some(branch), prompts: &chunk.prompts, logits: &logits });
        }
        Ok(())
    }

    fn advance_progress(
        &mut self,
        chunk: &Chunk,
        layer: usize,
        n_branches: usize,
        receiver: &mut dyn Receiver,
    ) -> Result<(), EngineError> {
        self.progress.done += work(chunk, self.decoder.spec().n_layers, layer, n_branches);
        match n_branches > 0 && receiver.progress(self.progress).is_break() {
            true => Err(EngineError::Stopped),
            false => Ok(()),
        }
    }

    /// Runs `stack`'s branches, all starting at layer `first`, and leaves their last residual stream in
    /// `self.stack.ends`.
    fn run_stack(&mut self, chunk: &Chunk, base: &Baseline, first: usize, stack: &[usize]) {
        let last = self.decoder.spec().n_layers - 1;
        let branches: Vec<&Branch> = stack.iter().map(|&b| &self.branches[b]).collect();
        self.start(chunk, base, first, &branches);
        // Sources of later edits are read from a copy of the plain run that goes along.
        let mut along = branches.iter().any(|b| b.reads_source_later()).then(|| base.clone());
        for index in first + 1..=last {
            let layer = Layer { decoder: self.decoder, index };
            if let Some(base) = &mut along {
                base.step(layer, &chunk.base);
            }
            self.step(chunk, along.as_ref(), layer, &branches);
        }
    }

    /// The stack's residual stream after its first edited layer: what the edits change of the heads' output is added
    /// to the plain run's.
    fn start(&mut self, chunk: &Chunk, base: &Baseline, first: usize, branches: &[&Branch]) {
        let layer = Layer { decoder: self.decoder, index: first };
        let spec = layer.spec();
        let (d_model, d_attn, d_head) = (spec.d_model, spec.d_attn(), spec.d_head);
        let is_last = first + 1 == spec.n_layers;
        let rows = if is_last { Rows::Some(&chunk.ends) } else { Rows::All(chunk.branch.n_nodes()) };
        let sites: Vec<Vec<EditSite>> = branches
            .iter()
            .map(|b| EditSite::of_layer(layer, chunk, self.means, b.at_layer(first)))
            .collect();
        // Edits of q, k, v or pattern need the head's attention over again.
        let new_z: Vec<Vec<Option<Vec<f32>>>> = sites
            .par_iter()
            .map(|sites| sites.par_iter().map(|site| site.attend_again(base, rows)).collect())
            .collect();
        let plain = if spec.block == BlockLayout::Parallel { &base.resid } else { &base.attn_sum };

        let out = if is_last { &mut self.stack.ends } else { &mut self.stack.resid };
        let out = grown(out, branches.len() * rows.per_run() * d_model);
        let tile = tile_rows(branches.len() * rows.per_run());
        out.par_chunks_mut(tile * d_model).enumerate().for_each(|(t, x)| {
            let from = t * tile;
            for (row_of_tile, x) in x.chunks_exact_mut(d_model).enumerate() {
                let (_, node) = rows.locate(from + row_of_tile);
                x.copy_from_slice(row(plain, chunk.own[node], d_model));
            }
            with_scratch(|scratch| {
                let (delta, normed, hidden, _) = scratch.split();
                for (run, part) in rows.by_run(from..from + x.len() / d_model) {
                    let x = &mut x[(part.start - from) * d_model..(part.end - from) * d_model];
                    for (site, new_z) in sites[run].iter().zip(&new_z[run]) {
                        let delta = grown(delta, part.len() * d_head);
                        for (r, delta) in part.clone().zip(delta.chunks_exact_mut(d_head)) {
                            let node = rows.locate(r).1;
                            match new_z {
                                Some(z) => {
                                    let at = (r - run * rows.per_run()) * d_head;
                                    delta.copy_from_slice(&z[at..at + d_head]);
                                }
                                None => site.replace_z(base, node, delta),
                            }
                            let z = row(&base.z, chunk.own[node], d_attn);
                            for (d, z) in delta.iter_mut().zip(&z[site.head * d_head..]) {
                                *d -= z;
                            }
                        }
                        let of_head = site.head * d_head..(site.head + 1) * d_head;
                        let w_o = layer.weights().w_o.weight.block(of_head, 0..d_model);
                        let (delta, x) =
                            (MatRef::new(delta, part.len(), d_head), MatMut::new(x, part.len(), d_model));
                        matmul(delta, w_o, x, Init::Accumulate);
                    }
                }
                if spec.block == BlockLayout::Sequential {
                    layer.after_attention(x, normed, hidden);
                }
            });
        });
    }

    /// One later layer of the whole stack, edits of that layer included.
    fn step(&mut self, chunk: &Chunk, base: Option<&Baseline>, layer: Layer<'_>, branches: &[&Branch]) {
        let spec = layer.spec();
        let (d_model, d_attn) = (spec.d_model, spec.d_attn());
        let (forest, n_nodes) = (&chunk.branch, chunk.branch.n_nodes());
        let all = Rows::All(n_nodes);
        let Stack { resid, q, kv, ends } = &mut self.stack;
        let resid = &mut resid[..branches.len() * n_nodes * d_model];
        let kv = grown(kv, branches.len() * n_nodes * 2 * d_attn);

        // The last layer's output is read where prompts end and nowhere else.
        let (rows, x) = if layer.index + 1 == spec.n_layers {
            let rows = Rows::Some(&chunk.ends);
            let ends = grown(ends, branches.len() * chunk.ends.len() * d_model);
            ends.par_chunks_exact_mut(d_model).enumerate().for_each(|(r, x)| {
                let (run, node) = rows.locate(r);
                x.copy_from_slice(row(resid, (run * n_nodes + node) as u32, d_model));
            });
            layer.project(forest, all, resid, None, Some(kv));
            let q = grown(q, branches.len() * chunk.ends.len() * d_attn);
            layer.project(forest, rows, ends, Some(q), None);
            (rows, ends)
        } else {
            let q = grown(q, branches.len() * n_nodes * d_attn);
            layer.project(forest, all, resid, Some(q), Some(kv));
            (all, resid)
        };
        let q = grown(q, branches.len() * rows.per_run() * d_attn);

        let sites: Vec<Vec<EditSite>> = branches
            .iter()
            .map(|b| EditSite::of_layer(layer, chunk, self.means, b.at_layer(layer.index)))
            .collect();
        let runs = kv
            .par_chunks_exact_mut(n_nodes * 2 * d_attn)
            .zip(q.par_chunks_exact_mut(rows.per_run() * d_attn));
        runs.zip(&sites).for_each(|((kv, q), sites)| {
            sites.iter().for_each(|site| site.replace_inputs(base, rows, q, kv));
        });

        let (q, kv) = (&*q, &*kv);
        let tile = tile_rows(x.len() / d_model);
        x.par_chunks_mut(tile * d_model).enumerate().for_each(|(t, x)| {
            let tile_rows = t * tile..t * tile + x.len() / d_model;
            let q = &q[tile_rows.start * d_attn..tile_rows.end * d_attn];
            with_scratch(|scratch| {
                let (z, normed, hidden, seen) = scratch.split();
                let z = grown(z, tile_rows.len() * d_attn);
                layer.attend(forest, rows, tile_rows.clone(), (q, kv), z, seen);
                for (run, part) in rows.by_run(tile_rows.clone()) {
                    for site in &sites[run] {
                        let kv = &kv[run * n_nodes * 2 * d_attn..][..n_nodes * 2 * d_attn];
                        for r in part.clone() {
                            let z = &mut z[(r - tile_rows.start) * d_attn..][..d_attn];
                            site.replace_outputs(base, rows.locate(r).1, kv, z, seen);
                        }
                    }
                }
                layer.block(x, z, None, normed, hidden);
            });
        });
    }
}

/// Row `index` of a matrix with `width` columns.
pub(super) fn row(matrix: &[f32], index: u32, width: usize) -> &[f32] {
    &matrix[index as usize * width..][..width]
}

/// Branch-layer-nodes of branches that start at `first`.
fn work(chunk: &Chunk, n_layers: usize, first: usize, n_branches: usize) -> u64 {
    (n_layers.saturating_sub(first) * n_branches) as u64 * chunk.branch.n_nodes() as u64
}

/// Cuts `items` into as few stacks of at most `size` as possible, about equally large.
fn even_stacks(items: &[usize], size: usize) -> impl Iterator<Item = &[usize]> {
    let n_stacks = items.len().div_ceil(size).max(1);
    items.chunks(items.len().div_ceil(n_stacks).max(1))
}
