//! Running branches: from the plain run's state at their first edited layer to their logits.
//!
//! A stack of runs, one below the other, goes through the layers together. Each run stands for all branches that have not
//! parted yet (see [`tree`](crate::tree)); where runs divide, the stack waits with its state while its children are run to
//! the end, as many at a time as a stack may hold.

use std::collections::BTreeMap;

use cs_kernels::{Init, MatMut, MatRef, matmul};
use rayon::prelude::*;

use crate::baseline::{Baseline, Sources};
use crate::decoder::Decoder;
use crate::edits::EditSite;
use crate::error::EngineError;
use crate::intervention::Branch;
use crate::layer::{Layer, Rows, Seen, grown, tile_rows, with_scratch};
use crate::means::GroupMeans;
use crate::plan::{Chunk, stack_size};
use crate::readout;
use crate::request::{Options, Progress, Prompt, Reading, Receiver};
use crate::tree::Tree;
use cs_model::spec::BlockLayout;

/// Runs all branches over one chunk of prompts after another.
pub(crate) struct Runner<'a> {
    decoder: &'a Decoder,
    branches: &'a [Branch],
    tree: Tree<'a>,
    by_first_layer: BTreeMap<usize, Vec<usize>>,
    means: Option<&'a GroupMeans>,
    memory: usize,
    progress: Progress,
    q: Vec<f32>,          // [n_runs * n_nodes, d_attn] of the stack being run
    kv: Vec<f32>,         // [n_runs * n_nodes, 2 * d_attn], likewise
    spare: Vec<Vec<f32>>, // buffers that no stack uses at present
}

/// What stays the same on the way from one first layer to the end.
struct Way<'w> {
    prompts: &'w [Prompt],
    chunk: &'w Chunk,
    sources: &'w Sources,
    first_layer: usize,
    /// Runs in a stack at most.
    size: usize,
}

/// Some runs at one layer, one below the other.
struct Stack<'w> {
    /// The branches of each run.
    runs: Vec<&'w [usize]>,
    /// How often they have parted from others.
    partings: usize,
    /// `[n_runs * n_nodes, d_model]`; after the last layer `[n_runs * n_ends, d_model]`
    resid: Vec<f32>,
}

/// A run after a layer, and which run of the stack it came from.
struct Child<'w> {
    parent: usize,
    branches: &'w [usize],
}

impl<'a> Runner<'a> {
    pub fn new(
        decoder: &'a Decoder,
        branches: &'a [Branch],
        means: Option<&'a GroupMeans>,
        options: Options,
        chunks: &[Chunk],
    ) -> Self {
        let tree = Tree::new(branches);
        let by_first_layer = tree.by_first_layer();
        let total = |chunk| -> u64 {
            let of_layer = |(&layer, branches): (&usize, &Vec<usize>)| {
                work(chunk, decoder.spec().n_layers, layer, branches.len())
            };
            by_first_layer.iter().map(of_layer).sum()
        };
        let progress = Progress { done: 0, total: chunks.iter().map(total).sum() };
        let memory = options.memory;
        let (q, kv, spare) = Default::default();
        Self { decoder, branches, tree, by_first_layer, means, memory, progress, q, kv, spare }
    }

    pub fn run_chunk(
        &mut self,
        prompts: &[Prompt],
        chunk: &Chunk,
        receiver: &mut dyn Receiver,
    ) -> Result<(), EngineError> {
        let spec = self.decoder.spec();
        let size = stack_size(spec, self.branches, chunk, self.memory);
        let sources = Sources::compute(self.decoder, &chunk.base, &self.tree.sources_read_later());
        let by_first_layer = std::mem::take(&mut self.by_first_layer);
        let mut base = Baseline::embed(self.decoder, &chunk.base);
        for index in 0..spec.n_layers {
            base.step(Layer { decoder: self.decoder, index }, &chunk.base);
            let starting = by_first_layer.get(&index).map_or(&[][..], Vec::as_slice);
            let (known, todo): (Vec<usize>, Vec<usize>) =
                starting.iter().partition(|&&b| receiver.is_known(b, &chunk.prompts));
            self.advance_progress(chunk, index, known.len(), receiver)?;
            let way = Way { prompts, chunk, sources: &sources, first_layer: index, size };
            let runs: Vec<&[usize]> = self.tree.divide(&todo, index, 0).collect();
            for runs in even_parts(&runs, size) {
                let mut stack = Stack { runs: runs.to_vec(), partings: 0, resid: self.buffer() };
                self.start(&way, &base, &mut stack);
                self.finish(&way, index + 1, stack, receiver)?;
            }
        }
        self.by_first_layer = by_first_layer;

        let rows = chunk.ends.iter().flat_map(|&e| row(&base.resid, chunk.own[e as usize], spec.d_model));
        let ends: Vec<f32> = rows.copied().collect();
        let logits = readout::logits(self.decoder, prompts, chunk, &ends);
        // A branch without edits ends as the plain run does.
        let unedited = self.by_first_layer.get(&usize::MAX).map_or(&[][..], Vec::as_slice);
        for branch in std::iter::once(None).chain(unedited.iter().copied().map(Some)) {
            receiver.reading(Reading { branch, prompts: &chunk.prompts, logits: &logits });
        }
        Ok(())
    }

    /// An empty buffer, or one that was used before.
    fn buffer(&mut self) -> Vec<f32> {
        self.spare.pop().unwrap_or_default()
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

    /// Runs a stack from `layer` on to the end, and hands over what is read there.
    fn finish(
        &mut self,
        way: &Way<'_>,
        layer: usize,
        mut stack: Stack<'_>,
        receiver: &mut dyn Receiver,
    ) -> Result<(), EngineError> {
        let n_layers = self.decoder.spec().n_layers;
        for index in layer..n_layers {
            let layer = Layer { decoder: self.decoder, index };
            let children: Vec<Child> = (stack.runs.iter().enumerate())
                .flat_map(|(parent, run)| {
                    let branches = self.tree.divide(run, index, stack.partings);
                    branches.map(move |branches| Child { parent, branches })
                })
                .collect();
            let (parts, is_last) = (children.len() > stack.runs.len(), index + 1 == n_layers);
            let rows =
                if is_last { Rows::Some(&way.chunk.ends) } else { Rows::All(way.chunk.branch.n_nodes()) };
            self.project(way, layer, rows, &stack);
            if !parts && !is_last {
                self.step(way, layer, rows, &mut stack);
                continue;
            }
            let mut z = self.buffer();
            self.attend(way, layer, rows, &stack, &mut z);
            for children in even_parts(&children, way.size) {
                let runs = children.iter().map(|c| c.branches).collect();
                let partings = stack.partings + usize::from(parts);
                let mut divided = Stack { runs, partings, resid: self.buffer() };
                self.step_divided(way, layer, rows, (&stack, &z), children, &mut divided.resid);
                self.finish(way, index + 1, divided, receiver)?;
            }
            self.spare.extend([stack.resid, z]);
            return Ok(());
        }

        let n_ends = way.chunk.ends.len() * self.decoder.spec().d_model;
        for (run, ends) in stack.runs.iter().zip(stack.resid.chunks_exact(n_ends)) {
            let logits = readout::logits(self.decoder, way.prompts, way.chunk, ends);
            for &branch in *run {
                let prompts = &way.chunk.prompts;
                receiver.reading(Reading { branch: Some(branch), prompts, logits: &logits });
            }
        }
        let n_branches = stack.runs.iter().map(|run| run.len()).sum();
        self.spare.push(stack.resid);
        self.advance_progress(way.chunk, way.first_layer, n_branches, receiver)
    }

    /// The edits of each run at a layer. Its branches agree on them.
    fn sites<'s>(&'s self, chunk: &'s Chunk, layer: Layer<'s>, run: &[usize]) -> Vec<EditSite<'s>> {
        EditSite::of_layer(layer, chunk, self.means, self.branches[run[0]].at_layer(layer.index))
    }

    /// The stack's residual stream after its first edited layer: what the edits change of the heads' output is added
    /// to the plain run's.
    fn start(&self, way: &Way<'_>, base: &Baseline, stack: &mut Stack<'_>) {
        let (chunk, layer) = (way.chunk, Layer { decoder: self.decoder, index: way.first_layer });
        let spec = layer.spec();
        let (d_model, d_attn, d_head) = (spec.d_model, spec.d_attn(), spec.d_head);
        let is_last = layer.index + 1 == spec.n_layers;
        let rows = if is_last { Rows::Some(&chunk.ends) } else { Rows::All(chunk.branch.n_nodes()) };
        let sites: Vec<Vec<EditSite>> = stack.runs.iter().map(|run| self.sites(chunk, layer, run)).collect();
        // Edits of q, k, v or pattern need the head's attention over again.
        let new_z: Vec<Vec<Option<Vec<f32>>>> = sites
            .par_iter()
            .map(|sites| sites.par_iter().map(|site| site.attend_again(&base.streams, rows)).collect())
            .collect();
        let plain = if spec.block == BlockLayout::Parallel { &base.resid } else { &base.attn_sum };

        let n_rows = stack.runs.len() * rows.per_run();
        let out = sized(&mut stack.resid, n_rows * d_model);
        let tile = tile_rows(n_rows);
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
                                None => site.replace_z(&base.streams, node, delta),
                            }
                            let z = row(&base.streams.z, chunk.own[node], d_attn);
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

    /// Queries, keys and values of a stack, edits of them included: `self.q` of `rows`, `self.kv` of all nodes.
    fn project(&mut self, way: &Way<'_>, layer: Layer<'_>, rows: Rows<'_>, stack: &Stack<'_>) {
        let (chunk, spec, n_runs) = (way.chunk, layer.spec(), stack.runs.len());
        let (d_model, d_attn) = (spec.d_model, spec.d_attn());
        let (forest, n_nodes) = (&chunk.branch, chunk.branch.n_nodes());
        let (all, resid) = (Rows::All(n_nodes), &stack.resid);
        let (mut q, mut kv) = (std::mem::take(&mut self.q), std::mem::take(&mut self.kv));
        let kv_rows = sized(&mut kv, n_runs * n_nodes * 2 * d_attn);
        let q_rows = sized(&mut q, n_runs * rows.per_run() * d_attn);
        match rows {
            Rows::All(_) => layer.project(forest, all, resid, Some(q_rows), Some(kv_rows)),
            // The last layer's output is read where prompts end and nowhere else.
            Rows::Some(_) => {
                layer.project(forest, all, resid, None, Some(kv_rows));
                let mut ends = self.buffer();
                let ends_rows = sized(&mut ends, n_runs * rows.per_run() * d_model);
                ends_rows.par_chunks_exact_mut(d_model).enumerate().for_each(|(r, x)| {
                    x.copy_from_slice(row(resid, rows.of_all(r, n_nodes), d_model));
                });
                layer.project(forest, rows, ends_rows, Some(q_rows), None);
                self.spare.push(ends);
            }
        }
        let source = way.sources.at(layer.index);
        let runs = kv_rows
            .par_chunks_exact_mut(n_nodes * 2 * d_attn)
            .zip(q_rows.par_chunks_exact_mut(rows.per_run() * d_attn));
        runs.zip(&stack.runs).for_each(|((kv, q), run)| {
            self.sites(chunk, layer, run).iter().for_each(|site| site.replace_inputs(source, rows, q, kv));
        });
        (self.q, self.kv) = (q, kv);
    }

    /// One later layer of a stack whose runs do not divide, edits of that layer included.
    fn step(&self, way: &Way<'_>, layer: Layer<'_>, rows: Rows<'_>, stack: &mut Stack<'_>) {
        let (d_model, d_attn) = (layer.spec().d_model, layer.spec().d_attn());
        let sites: Vec<Vec<EditSite>> =
            stack.runs.iter().map(|run| self.sites(way.chunk, layer, run)).collect();
        let tile = tile_rows(stack.resid.len() / d_model);
        stack.resid.par_chunks_mut(tile * d_model).enumerate().for_each(|(t, x)| {
            let tile = t * tile..t * tile + x.len() / d_model;
            let q = &self.q[tile.start * d_attn..tile.end * d_attn];
            with_scratch(|scratch| {
                let (z, normed, hidden, seen) = scratch.split();
                let z = grown(z, tile.len() * d_attn);
                layer.attend(&way.chunk.branch, rows, tile.clone(), (q, &self.kv), z, seen);
                self.replace_outputs(way, layer, rows, tile, |run| (run, &sites[run]), z, seen);
                layer.block(x, z, None, normed, hidden);
            });
        });
    }

    /// Attention of a stack at one layer, before its runs divide: `z` `[n_runs * rows, d_attn]`.
    fn attend(&self, way: &Way<'_>, layer: Layer<'_>, rows: Rows<'_>, stack: &Stack<'_>, z: &mut Vec<f32>) {
        let d_attn = layer.spec().d_attn();
        let n_rows = stack.runs.len() * rows.per_run();
        let tile = tile_rows(n_rows);
        sized(z, n_rows * d_attn).par_chunks_mut(tile * d_attn).enumerate().for_each(|(t, z)| {
            let tile = t * tile..t * tile + z.len() / d_attn;
            let q = &self.q[tile.start * d_attn..tile.end * d_attn];
            with_scratch(|scratch| {
                layer.attend(&way.chunk.branch, rows, tile, (q, &self.kv), z, scratch.split().3);
            });
        });
    }

    /// The rest of a layer after [`attend`](Self::attend), for some children of a stack: `out` `[children * rows, d_model]`.
    fn step_divided(
        &self,
        way: &Way<'_>,
        layer: Layer<'_>,
        rows: Rows<'_>,
        (stack, z_of_stack): (&Stack<'_>, &[f32]),
        children: &[Child<'_>],
        out: &mut Vec<f32>,
    ) {
        let (d_model, d_attn) = (layer.spec().d_model, layer.spec().d_attn());
        let n_nodes = way.chunk.branch.n_nodes();
        let sites: Vec<Vec<EditSite>> =
            children.iter().map(|child| self.sites(way.chunk, layer, child.branches)).collect();
        let n_rows = children.len() * rows.per_run();
        let tile = tile_rows(n_rows);
        sized(out, n_rows * d_model).par_chunks_mut(tile * d_model).enumerate().for_each(|(t, x)| {
            let tile = t * tile..t * tile + x.len() / d_model;
            with_scratch(|scratch| {
                let (z, normed, hidden, seen) = scratch.split();
                let z = grown(z, tile.len() * d_attn);
                let of_tile = x.chunks_exact_mut(d_model).zip(z.chunks_exact_mut(d_attn));
                for (r, (x, z)) in tile.clone().zip(of_tile) {
                    let (child, at) = (r / rows.per_run(), r % rows.per_run());
                    let of_parent = children[child].parent * rows.per_run() + at;
                    x.copy_from_slice(row(&stack.resid, rows.of_all(of_parent, n_nodes), d_model));
                    z.copy_from_slice(row(z_of_stack, of_parent as u32, d_attn));
                }
                let of_child = |child: usize| (children[child].parent, &sites[child]);
                self.replace_outputs(way, layer, rows, tile, of_child, z, seen);
                layer.block(x, z, None, normed, hidden);
            });
        });
    }

    /// Carries out edits of `z` and `pattern` in a tile of rows: `of_run` gives each run's place in `self.kv`, and its edits.
    #[expect(clippy::too_many_arguments, reason = "a tile, where it lies, and its scratch")]
    fn replace_outputs<'s>(
        &self,
        way: &Way<'_>,
        layer: Layer<'_>,
        rows: Rows<'_>,
        tile: std::ops::Range<usize>,
        of_run: impl Fn(usize) -> (usize, &'s Vec<EditSite<'s>>),
        z: &mut [f32],
        seen: &mut Seen,
    ) {
        let (d_attn, source) = (layer.spec().d_attn(), way.sources.at(layer.index));
        let per_run = way.chunk.branch.n_nodes() * 2 * d_attn;
        for (run, part) in rows.by_run(tile.clone()) {
            let (in_kv, sites) = of_run(run);
            for site in sites {
                // Edits of `pattern` alone read it. Where a stack waits for its children, later layers have written there by
                // now, but then there are no such edits: with them, branches part before they start.
                let kv = self.kv.get(in_kv * per_run..(in_kv + 1) * per_run).unwrap_or_default();
                for r in part.clone() {
                    let z = &mut z[(r - tile.start) * d_attn..][..d_attn];
                    site.replace_outputs(source, rows.locate(r).1, kv, z, seen);
                }
            }
        }
    }
}

/// Row `index` of a matrix with `width` columns.
pub(crate) fn row(matrix: &[f32], index: u32, width: usize) -> &[f32] {
    &matrix[index as usize * width..][..width]
}

/// Branch-layer-nodes of branches that start at `first`.
fn work(chunk: &Chunk, n_layers: usize, first: usize, n_branches: usize) -> u64 {
    (n_layers.saturating_sub(first) * n_branches) as u64 * chunk.branch.n_nodes() as u64
}

/// Cuts `items` into as few parts of at most `size` as possible, about equally large.
fn even_parts<T>(items: &[T], size: usize) -> impl Iterator<Item = &[T]> {
    let n_parts = items.len().div_ceil(size).max(1);
    items.chunks(items.len().div_ceil(n_parts).max(1))
}

/// Makes a buffer `len` floats long, whatever it held.
fn sized(buffer: &mut Vec<f32>, len: usize) -> &mut [f32] {
    buffer.resize(len, 0.0);
    buffer
}
