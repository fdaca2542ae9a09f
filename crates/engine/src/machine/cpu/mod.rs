//! The CPU: tiles of rows in parallel; each tile runs through as much of a layer as depends only on its own rows.

mod direct;
mod edits;
mod layer;
mod limits;
mod linear;
mod plain;
mod readout;
mod scratch;

use std::borrow::Cow;
use std::ops::Range;

use cs_kernels::{Init, MatMut, MatRef, matmul};
use rayon::prelude::*;

use super::{Child, Limits, Machine, Rows, Stage, row};
use crate::block::Join;
use crate::decoder::Decoder;
use crate::forest::Forest;
use crate::intervention::{Branch, Edit};
use crate::plan::Chunk;
use crate::request::Prompt;
use edits::{EditSite, Unedited};
use scratch::{Buffer, Pool, grown, tile_rows, with_scratch};

pub(crate) use layer::{Layer, mlp_block};
pub(crate) use limits::limits;
pub(crate) use linear::{activate, activate_gate, norm};
pub(crate) use plain::{Plain, Streams, embed};
pub(crate) use readout::{logits_of, normed};
pub(crate) use scratch::TILE;

/// All cores of the current thread pool.
pub(crate) struct Cpu<'a> {
    decoder: &'a Decoder,
    q: Vec<f32>,  // [n_runs * rows, d_attn] of the stack being run
    kv: Vec<f32>, // [n_runs * n_nodes, 2 * d_kv], likewise
    pool: Pool,
}

/// The residual streams of some runs, concatenated: `[n_runs * n_nodes, d_model]`; after the last layer
/// `[n_runs * n_ends, d_model]`.
pub(crate) struct Stack(Buffer);

/// `z` `[n_runs * rows, d_attn]` of a stack.
pub(crate) struct Attended(Buffer);

/// The edited heads of each run.
type Sites<'a> = Vec<Vec<EditSite<'a>>>;

impl<'a> Cpu<'a> {
    pub fn new(decoder: &'a Decoder) -> Self {
        Self { decoder, q: vec![], kv: vec![], pool: Pool::default() }
    }

    fn layer(&self, index: usize) -> Layer<'a> {
        Layer { decoder: self.decoder, index }
    }

    fn sites<'s>(&self, stage: Stage<'s, Streams>, edits: impl Iterator<Item = &'s [Edit]>) -> Sites<'s>
    where
        'a: 's,
    {
        let layer = self.layer(stage.layer);
        edits.map(|edits| EditSite::of_layer(layer, stage, stage.kept, edits)).collect()
    }

    /// Queries of the needed rows, and keys and values of all nodes.
    fn project(&mut self, stage: Stage<'_, Streams>, resid: &[f32]) {
        let (layer, spec) = (self.layer(stage.layer), self.decoder.spec());
        let (d_model, d_attn, d_kv) = (spec.d_model, spec.d_attn(), spec.d_kv());
        let (forest, n_nodes, rows) = (&stage.chunk.branch, stage.chunk.branch.n_nodes(), stage.rows);
        let n_runs = resid.len() / (n_nodes * d_model);
        self.q.resize(n_runs * rows.per_run() * d_attn, 0.0);
        self.kv.resize(n_runs * n_nodes * 2 * d_kv, 0.0);
        let all = Rows::All(n_nodes);
        match rows {
            Rows::All(_) => layer.project(forest, all, resid, Some(&mut self.q), Some(&mut self.kv)),
            // The last layer's output is only read at prompts' ends.
            Rows::Some(_) => {
                layer.project(forest, all, resid, None, Some(&mut self.kv));
                let mut ends = self.pool.take(n_runs * rows.per_run() * d_model);
                ends.par_chunks_exact_mut(d_model).enumerate().for_each(|(r, x)| {
                    x.copy_from_slice(row(resid, rows.of_all(r, n_nodes), d_model));
                });
                layer.project(forest, rows, &ends, Some(&mut self.q), None);
            }
        }
    }

    /// Recomputes attention for the heads that need it, from the projected queries, keys and values.
    fn attend_again(&self, stage: Stage<'_, Streams>, sites: &mut Sites<'_>) {
        let spec = self.decoder.spec();
        let q = self.q.par_chunks_exact(stage.rows.per_run() * spec.d_attn());
        let kv = self.kv.par_chunks_exact(stage.chunk.branch.n_nodes() * 2 * spec.d_kv());
        sites.par_iter_mut().zip(q.zip(kv)).for_each(|(sites, (q, kv))| {
            sites.par_iter_mut().for_each(|site| site.attend_again(Unedited::Own { q, kv }));
        });
    }

    /// Attention of a tile of a stack's rows, from the projected queries, keys and values.
    fn attend_tile(
        &self,
        stage: Stage<'_, Streams>,
        tile: Range<usize>,
        z: &mut [f32],
        seen: &mut scratch::Seen,
    ) {
        let (layer, spec) = (self.layer(stage.layer), self.decoder.spec());
        let q = &self.q[tile.start * spec.d_attn()..tile.end * spec.d_attn()];
        layer.attend(&stage.chunk.branch, stage.rows, tile, q, (&self.kv, spec.n_kv_heads), z, seen);
    }

    /// A tile of rows after their first edited layer, `x` `[tile, d_model]`: the change of the heads' output is added to the
    /// plain run's.
    fn start_tile(
        &self,
        stage: Stage<'_, Streams>,
        plain: &Plain,
        tile: Range<usize>,
        sites: &Sites<'_>,
        x: &mut [f32],
    ) {
        let (layer, spec, rows) = (self.layer(stage.layer), self.decoder.spec(), stage.rows);
        let (d_model, d_attn, d_head) = (spec.d_model, spec.d_attn(), spec.d_head);
        let parallel = layer.steps().parallel;
        gather(stage, tile.clone(), if parallel { &plain.resid } else { &plain.attn }, x);
        with_scratch(|scratch| {
            for (run, part) in rows.by_run(tile.clone()) {
                let x = &mut x[(part.start - tile.start) * d_model..(part.end - tile.start) * d_model];
                for site in &sites[run] {
                    let delta = grown(&mut scratch.z, part.len() * d_head);
                    for (r, delta) in part.clone().zip(delta.chunks_exact_mut(d_head)) {
                        let at = r - run * rows.per_run();
                        site.replace_z(at, delta);
                        let z = row(&plain.streams.z, stage.chunk.own[rows.node(at)], d_attn);
                        for (d, z) in delta.iter_mut().zip(&z[site.columns()]) {
                            *d -= z;
                        }
                    }
                    let w_o = layer.weights().w_o.weight.block(site.columns(), 0..d_model);
                    let (delta, x) =
                        (MatRef::new(delta, part.len(), d_head), MatMut::new(x, part.len(), d_model));
                    matmul(delta, w_o, x, Init::Accumulate);
                }
            }
            if !parallel {
                layer.after_attention(x, &mut scratch.tile);
            }
        });
    }

    /// The same if attention's output is normalized before it is added. After a change it may be small compared with the
    /// plain run's, and the norm would amplify the rounding error of the change, so `W_O` is recomputed for all heads.
    fn start_tile_in_full(
        &self,
        stage: Stage<'_, Streams>,
        plain: &Plain,
        tile: Range<usize>,
        sites: &Sites<'_>,
        x: &mut [f32],
    ) {
        gather(stage, tile.clone(), &plain.resid_pre, x);
        with_scratch(|scratch| {
            let z = grown(&mut scratch.z, tile.len() * self.decoder.spec().d_attn());
            gather(stage, tile.clone(), &plain.streams.z, z);
            self.replace_z(stage.rows, tile, sites, z);
            self.layer(stage.layer).block(x, z, None, &mut scratch.tile);
        });
    }

    /// Writes edited heads' `z` into a tile of rows, `z` `[tile, d_attn]`.
    fn replace_z(&self, rows: Rows<'_>, tile: Range<usize>, sites: &Sites<'_>, z: &mut [f32]) {
        let d_attn = self.decoder.spec().d_attn();
        for (run, part) in rows.by_run(tile.clone()) {
            for site in &sites[run] {
                for r in part.clone() {
                    let z = &mut z[(r - tile.start) * d_attn..][site.columns()];
                    site.replace_z(r - run * rows.per_run(), z);
                }
            }
        }
    }
}

/// Rows of the plain run, `plain` `[n_nodes, width]`, for a tile of branches' rows, `out` `[tile, width]`.
fn gather(stage: Stage<'_, Streams>, tile: Range<usize>, plain: &[f32], out: &mut [f32]) {
    let width = out.len() / tile.len();
    for (r, out) in tile.zip(out.chunks_exact_mut(width)) {
        let (_, node) = stage.rows.locate(r);
        out.copy_from_slice(row(plain, stage.chunk.own[node], width));
    }
}

impl Machine for Cpu<'_> {
    type Plain = Plain;
    type Streams = Streams;
    type Stack = Stack;
    type Attended = Attended;

    fn limits(&self, branches: &[Branch], longest: usize) -> Limits {
        limits(self.decoder.spec(), branches, longest)
    }

    fn embed(&mut self, forest: &Forest) -> Plain {
        Plain::embed(self.decoder, forest)
    }

    fn plain_layer(&mut self, layer: usize, forest: &Forest, plain: &mut Plain) {
        plain.step(self.layer(layer), forest);
    }

    fn keep(&mut self, plain: &Plain, all: bool) -> Streams {
        plain.streams.keep(all)
    }

    fn plain_z<'p>(&mut self, plain: &'p Plain) -> Cow<'p, [f32]> {
        Cow::Borrowed(&plain.streams.z)
    }

    fn plain_qkv<'p>(&mut self, plain: &'p Plain) -> (Cow<'p, [f32]>, Cow<'p, [f32]>) {
        (Cow::Borrowed(&plain.streams.q), Cow::Borrowed(&plain.streams.kv))
    }

    fn plain_resid<'p>(&mut self, plain: &'p Plain) -> Cow<'p, [f32]> {
        Cow::Borrowed(&plain.resid)
    }

    fn plain_mid(&mut self, layer: usize, plain: &Plain) -> Option<Vec<f32>> {
        let (spec, steps) = (self.decoder.spec(), self.layer(layer).steps());
        let mut mid = plain.attn.clone();
        if let Join::AddThenNorm(of_join) = steps.attn_out {
            norm(spec, of_join, &plain.attn, &mut mid);
        }
        (!steps.parallel).then_some(mid)
    }

    fn attributions(&mut self, layer: usize, plain: &Plain, nodes: &[u32], read: &[&[u32]]) -> Vec<Vec<f64>> {
        direct::attributions(self.layer(layer), &plain.streams.z, nodes, read)
    }

    fn start(&mut self, stage: Stage<'_, Streams>, plain: &Plain, runs: &[&[Edit]]) -> Stack {
        let (layer, spec, rows) = (self.layer(stage.layer), self.decoder.spec(), stage.rows);
        let streams = &plain.streams;
        let mut sites: Sites =
            runs.iter().map(|edits| EditSite::of_layer(layer, stage, Some(streams), edits)).collect();
        sites.par_iter_mut().flatten().for_each(|site| site.attend_again(Unedited::Plain(streams)));

        let n_rows = runs.len() * rows.per_run();
        let mut out = self.pool.take(n_rows * spec.d_model);
        let tile = tile_rows(n_rows);
        out.par_chunks_mut(tile * spec.d_model).enumerate().for_each(|(t, x)| {
            let tile = t * tile..t * tile + x.len() / spec.d_model;
            match layer.steps().attn_out {
                Join::Add | Join::AddThenNorm(_) => self.start_tile(stage, plain, tile, &sites, x),
                Join::AddNormed(_) => self.start_tile_in_full(stage, plain, tile, &sites, x),
            }
        });
        Stack(out)
    }

    fn advance(&mut self, stage: Stage<'_, Streams>, stack: &mut Stack, runs: &[&[Edit]]) {
        self.project(stage, &stack.0);
        let mut sites = self.sites(stage, runs.iter().copied());
        self.attend_again(stage, &mut sites);
        let (layer, spec) = (self.layer(stage.layer), self.decoder.spec());
        let d_model = spec.d_model;
        let tile = tile_rows(stack.0.len() / d_model);
        stack.0.par_chunks_mut(tile * d_model).enumerate().for_each(|(t, x)| {
            let tile = t * tile..t * tile + x.len() / d_model;
            with_scratch(|scratch| {
                let z = grown(&mut scratch.z, tile.len() * spec.d_attn());
                self.attend_tile(stage, tile.clone(), z, &mut scratch.seen);
                self.replace_z(stage.rows, tile, &sites, z);
                layer.block(x, z, None, &mut scratch.tile);
            });
        });
    }

    fn attend(&mut self, stage: Stage<'_, Streams>, stack: &Stack, runs: &[&[Edit]]) -> Attended {
        self.project(stage, &stack.0);
        let mut sites = self.sites(stage, runs.iter().copied());
        self.attend_again(stage, &mut sites);
        // Edits of `z` are applied after the runs have divided.
        sites.iter_mut().for_each(|sites| sites.retain(EditSite::is_attended_again));
        let d_attn = self.decoder.spec().d_attn();
        let mut z = self.pool.take(self.q.len());
        let tile = tile_rows(z.len() / d_attn);
        z.par_chunks_mut(tile * d_attn).enumerate().for_each(|(t, z)| {
            let tile = t * tile..t * tile + z.len() / d_attn;
            with_scratch(|scratch| self.attend_tile(stage, tile.clone(), z, &mut scratch.seen));
            self.replace_z(stage.rows, tile, &sites, z);
        });
        Attended(z)
    }

    fn rest(
        &mut self,
        stage: Stage<'_, Streams>,
        (stack, attended): (&Stack, &Attended),
        children: &[Child<'_>],
    ) -> Stack {
        let (layer, rows) = (self.layer(stage.layer), stage.rows);
        let (d_model, d_attn) = (self.decoder.spec().d_model, self.decoder.spec().d_attn());
        let n_nodes = stage.chunk.branch.n_nodes();
        let sites = self.sites(stage, children.iter().map(|child| child.edits));
        let n_rows = children.len() * rows.per_run();
        let tile = tile_rows(n_rows);
        let mut out = self.pool.take(n_rows * d_model);
        out.par_chunks_mut(tile * d_model).enumerate().for_each(|(t, x)| {
            let tile = t * tile..t * tile + x.len() / d_model;
            with_scratch(|scratch| {
                let z = grown(&mut scratch.z, tile.len() * d_attn);
                let of_tile = x.chunks_exact_mut(d_model).zip(z.chunks_exact_mut(d_attn));
                for (r, (x, z)) in tile.clone().zip(of_tile) {
                    let (child, at) = (r / rows.per_run(), r % rows.per_run());
                    let of_parent = children[child].parent * rows.per_run() + at;
                    x.copy_from_slice(row(&stack.0, rows.of_all(of_parent, n_nodes), d_model));
                    z.copy_from_slice(row(&attended.0, of_parent as u32, d_attn));
                }
                self.replace_z(rows, tile, &sites, z);
                layer.block(x, z, None, &mut scratch.tile);
            });
        });
        Stack(out)
    }

    fn read(&mut self, prompts: &[Prompt], chunk: &Chunk, stack: &Stack) -> Vec<Vec<f64>> {
        let per_run = chunk.ends.len() * self.decoder.spec().d_model;
        let runs = stack.0.chunks_exact(per_run);
        runs.map(|ends| readout::logits(self.decoder, prompts, chunk, ends)).collect()
    }

    fn read_plain(&mut self, prompts: &[Prompt], chunk: &Chunk, plain: &Plain) -> Vec<f64> {
        let rows = chunk
            .ends
            .iter()
            .flat_map(|&e| row(&plain.resid, chunk.own[e as usize], self.decoder.spec().d_model));
        let ends: Vec<f32> = rows.copied().collect();
        readout::logits(self.decoder, prompts, chunk, &ends)
    }
}
