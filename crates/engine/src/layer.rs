//! One block of the decoder on a tall matrix of rows, tile by tile.
//!
//! A row is one node of a forest in one run; `n_runs` runs over the same forest lie one below the other. A block is
//! two parallel passes over tiles of rows, with one barrier between them, since attention reads other rows' keys and
//! values and everything else reads its own row alone:
//!
//! 1. [`Layer::project`]: `ln1`, then `W_Q`, `W_K`, `W_V` and the rotary embedding;
//! 2. [`Layer::attend`] and [`Layer::block`]: attention, `W_O`, the MLP, norms and residual additions.

use std::cell::RefCell;
use std::ops::Range;

use cs_kernels::{Init, KeyValues, MatMut, MatRef, PathAttention, matmul};
use rayon::prelude::*;

use crate::decoder::Decoder;
use crate::forest::Forest;
use crate::weights::{LayerNorm, LayerWeights, Linear};
use cs_model::spec::{Activation, BlockLayout, ModelSpec, NormPlacement};

/// Rows per tile at most: enough that the weights, read once a tile, cost less than the arithmetic on them.
pub(crate) const TILE: usize = 256;

/// Columns of the MLP's hidden layer at a time, so that a tile of them stays in the second-level cache.
pub(crate) const MLP_BLOCK: usize = 768;

/// Rows per tile for `n_rows`: small problems are cut finer, so that every thread has some. Row results do not depend
/// on it.
pub(crate) fn tile_rows(n_rows: usize) -> usize {
    n_rows.div_ceil(4 * rayon::current_num_threads()).clamp(16, TILE)
}

/// Buffers of one thread, kept from tile to tile.
#[derive(Default)]
pub(crate) struct Scratch {
    pub normed: Vec<f32>, // [TILE, d_model]
    pub z: Vec<f32>,      // [TILE, d_attn]
    hidden: Vec<f32>,     // [TILE, MLP_BLOCK]
    seen: Seen,
}

/// What a query sees, and the buffers of attention to it.
#[derive(Default)]
pub(crate) struct Seen {
    pub path: Vec<u32>,   // nodes
    pub scores: Vec<f32>, // [path]
    attention: PathAttention,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// Lends this thread's scratch. Nothing inside `f` may start parallel work, which could come back to this thread.
pub(crate) fn with_scratch<R>(f: impl FnOnce(&mut Scratch) -> R) -> R {
    SCRATCH.with_borrow_mut(f)
}

/// The first `len` floats of a buffer that grows as needed.
pub(crate) fn grown(buffer: &mut Vec<f32>, len: usize) -> &mut [f32] {
    if buffer.len() < len {
        buffer.resize(len, 0.0);
    }
    &mut buffer[..len]
}

/// Which nodes of a forest the rows of one run stand for.
#[derive(Clone, Copy)]
pub(crate) enum Rows<'a> {
    /// Every node, in order.
    All(usize),
    /// These nodes.
    Some(&'a [u32]),
}

impl Rows<'_> {
    pub fn per_run(self) -> usize {
        match self {
            Rows::All(n) => n,
            Rows::Some(nodes) => nodes.len(),
        }
    }

    /// The run and the node that a row stands for.
    pub fn locate(self, row: usize) -> (usize, usize) {
        let (run, at) = (row / self.per_run(), row % self.per_run());
        match self {
            Rows::All(_) => (run, at),
            Rows::Some(nodes) => (run, nodes[at] as usize),
        }
    }

    /// Where a row stands among all nodes' rows of all runs.
    pub fn of_all(self, row: usize, n_nodes: usize) -> u32 {
        let (run, node) = self.locate(row);
        (run * n_nodes + node) as u32
    }

    /// Cuts a tile of rows where one run ends and the next begins: `(run, rows of the tile, rows of the run)`.
    pub fn by_run(self, tile: Range<usize>) -> impl Iterator<Item = (usize, Range<usize>)> {
        let per_run = self.per_run();
        let mut at = tile.start;
        std::iter::from_fn(move || {
            if at >= tile.end {
                return None;
            }
            let run = at / per_run;
            let to = tile.end.min((run + 1) * per_run);
            let rows = at..to;
            at = to;
            Some((run, rows))
        })
    }
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

    /// Queries, or keys and values, or all of them, of all rows.
    ///
    /// `resid` `[rows, d_model]` → `q` `[rows, d_attn]`, `kv` `[rows, 2 * d_attn]`
    pub fn project(
        &self,
        forest: &Forest,
        rows: Rows<'_>,
        resid: &[f32],
        q: Option<&mut [f32]>,
        kv: Option<&mut [f32]>,
    ) {
        let (d_model, d_attn) = (self.spec().d_model, self.spec().d_attn());
        let tile = tile_rows(resid.len() / d_model);
        let tile_of = |t: usize, x: &[f32]| t * tile..t * tile + x.len() / d_model;
        let resid = resid.par_chunks(tile * d_model).enumerate();
        match (q, kv) {
            (Some(q), Some(kv)) => {
                let out = q.par_chunks_mut(tile * d_attn).zip(kv.par_chunks_mut(tile * 2 * d_attn));
                resid.zip(out).for_each(|((t, x), (q, kv))| {
                    self.project_tile(forest, rows, tile_of(t, x), x, Some(q), Some(kv));
                });
            }
            (Some(q), None) => resid.zip(q.par_chunks_mut(tile * d_attn)).for_each(|((t, x), q)| {
                self.project_tile(forest, rows, tile_of(t, x), x, Some(q), None);
            }),
            (None, Some(kv)) => resid.zip(kv.par_chunks_mut(tile * 2 * d_attn)).for_each(|((t, x), kv)| {
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
        let d_attn = self.spec().d_attn();
        with_scratch(|scratch| {
            let input = match self.spec().norm {
                NormPlacement::Pre => self.norm(&self.weights().ln1, resid, &mut scratch.normed),
                NormPlacement::Post => resid,
            };
            let w = &self.weights().w_qkv;
            let parts = [(q, 0..d_attn, 1), (kv, d_attn..3 * d_attn, 2)];
            for (out, columns, n_parts) in parts {
                let Some(out) = out else { continue };
                linear(w, input, tile.len(), columns.clone(), out, Residual::Replace);
                self.rotate(forest, rows, tile.clone(), out, n_parts * d_attn);
            }
        });
    }

    /// Rotary embedding of the first `d_attn` columns of a tile with `width` columns.
    fn rotate(&self, forest: &Forest, rows: Rows<'_>, tile: Range<usize>, out: &mut [f32], width: usize) {
        let (d_attn, d_head) = (self.spec().d_attn(), self.spec().d_head);
        for (row, out) in tile.zip(out.chunks_exact_mut(width)) {
            let position = forest.positions()[rows.locate(row).1] as usize;
            let Some((cos, sin)) = self.decoder.rotary(position) else { return };
            for head in out[..d_attn].chunks_exact_mut(d_head) {
                cs_kernels::rotary(&mut head[..2 * cos.len()], cos, sin);
            }
        }
    }

    /// Attention of one tile of query rows: `z` `[tile, d_attn]`.
    ///
    /// `q` `[tile, d_attn]` are the tile's own rows; `kv` `[n_runs * n_nodes, 2 * d_attn]` are all rows. Both may hold all heads
    /// or some of them.
    pub fn attend(
        &self,
        forest: &Forest,
        rows: Rows<'_>,
        tile: Range<usize>,
        (q, kv): (&[f32], &[f32]),
        z: &mut [f32],
        seen: &mut Seen,
    ) {
        let d_attn = q.len() / tile.len();
        let (window, scale) = (self.spec().windows[self.index], self.spec().attn_scale[self.index]);
        let kv = KeyValues { data: kv, stride: 2 * d_attn, key: 0, value: d_attn };
        let Seen { path, attention, .. } = seen;
        attention.reset(d_attn / self.spec().d_head, self.spec().d_head);
        let mut at = tile.start;
        while at < tile.end {
            // Nodes that follow each other down one path.
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
            attention.attend(q, kv, path, window, scale, MatMut::new(&mut z[of_tile], n, d_attn));
            at += n;
        }
    }

    /// The rest of a block after attention, for one tile: `x` `[tile, d_model]` is `resid_pre` on entry and
    /// `resid_post` on return. `attn_sum`, if wanted, receives `resid_pre + z W_O + b_O`.
    pub fn block(
        &self,
        x: &mut [f32],
        z: &[f32],
        attn_sum: Option<&mut [f32]>,
        normed: &mut Vec<f32>,
        hidden: &mut Hidden,
    ) {
        let d_model = self.spec().d_model;
        let n_rows = x.len() / d_model;
        let parallel = self.spec().block == BlockLayout::Parallel;
        if parallel {
            self.norm(&self.weights().ln2, x, normed);
        }
        linear(&self.weights().w_o, z, n_rows, 0..d_model, x, Residual::Add);
        if let Some(sum) = attn_sum {
            sum.copy_from_slice(x);
        }
        if parallel {
            self.mlp(&normed[..x.len()], x, hidden);
        } else {
            self.after_attention(x, normed, hidden);
        }
    }

    /// A sequential block from `x = resid_pre + attention` `[tile, d_model]` to `resid_post`, in place.
    pub fn after_attention(&self, x: &mut [f32], normed: &mut Vec<f32>, hidden: &mut Hidden) {
        let (ln1, ln2) = (&self.weights().ln1, &self.weights().ln2);
        match self.spec().norm {
            NormPlacement::Pre if self.weights().mlp.is_some() => {
                let input = self.norm(ln2, x, normed);
                self.mlp(input, x, hidden);
            }
            NormPlacement::Pre => {}
            NormPlacement::Post => {
                let mid = self.norm(ln1, x, normed);
                x.copy_from_slice(mid);
                if self.weights().mlp.is_some() {
                    self.mlp(mid, x, hidden);
                    let post = self.norm(ln2, x, normed);
                    x.copy_from_slice(post);
                }
            }
        }
    }

    /// `x += mlp(input)`, a block of hidden columns at a time.
    fn mlp(&self, input: &[f32], x: &mut [f32], hidden: &mut Hidden) {
        let Some(mlp) = &self.weights().mlp else { return };
        let (d_model, d_mlp) = (self.spec().d_model, self.spec().d_mlp);
        let n_rows = x.len() / d_model;
        let mut residual = Residual::Add;
        for from in (0..d_mlp).step_by(MLP_BLOCK) {
            let columns = from..d_mlp.min(from + MLP_BLOCK);
            let hidden = grown(hidden, n_rows * columns.len());
            linear(&mlp.w_in, input, n_rows, columns.clone(), hidden, Residual::Replace);
            activate(self.spec().activation, hidden);
            let init = residual.init(mlp.w_out.bias.as_deref());
            let hidden = MatRef::new(hidden, n_rows, columns.len());
            matmul(
                hidden,
                mlp.w_out.weight.block(columns, 0..d_model),
                MatMut::new(x, n_rows, d_model),
                init,
            );
            residual = Residual::AddWithoutBias;
        }
    }

    /// Layer norm of rows `[rows, d_model]` into a buffer.
    pub fn norm<'s>(&self, norm: &LayerNorm, x: &[f32], out: &'s mut Vec<f32>) -> &'s [f32] {
        let out = grown(out, x.len());
        layer_norm(self.spec(), norm, x, out);
        out
    }
}

/// A tile of the MLP's hidden activations.
pub(crate) type Hidden = Vec<f32>;

impl Scratch {
    /// The parts that [`Layer::block`] needs, beside `z`.
    pub fn split(&mut self) -> (&mut Vec<f32>, &mut Vec<f32>, &mut Hidden, &mut Seen) {
        (&mut self.z, &mut self.normed, &mut self.hidden, &mut self.seen)
    }
}

/// Layer norm of rows `[rows, d_model]`.
pub(crate) fn layer_norm(spec: &ModelSpec, norm: &LayerNorm, x: &[f32], out: &mut [f32]) {
    let (d_model, n_rows) = (spec.d_model, x.len() / spec.d_model);
    let (weight, bias) = (norm.weight.as_deref(), norm.bias.as_deref());
    let (x, out) = (MatRef::new(x, n_rows, d_model), MatMut::new(out, n_rows, d_model));
    cs_kernels::layer_norm(x, weight, bias, spec.norm_eps, out);
}

/// What a linear layer does with what its output held before.
#[derive(Clone, Copy)]
pub(crate) enum Residual {
    /// `y = x W + b`
    Replace,
    /// `y += x W + b`
    Add,
    /// `y += x W`
    AddWithoutBias,
}

impl Residual {
    fn init(self, bias: Option<&[f32]>) -> Init<'_> {
        match (self, bias) {
            (Self::Replace, None) => Init::Zero,
            (Self::Replace, Some(bias)) => Init::Bias(bias),
            (Self::Add, Some(bias)) => Init::AccumulateBias(bias),
            (Self::Add | Self::AddWithoutBias, _) => Init::Accumulate,
        }
    }
}

/// `columns` of a linear layer: `x` `[rows, d_in]` → `y` `[rows, columns.len()]`.
pub(crate) fn linear(
    layer: &Linear,
    x: &[f32],
    n_rows: usize,
    columns: Range<usize>,
    y: &mut [f32],
    residual: Residual,
) {
    let (d_in, width) = (layer.weight.k(), columns.len());
    let init = residual.init(layer.bias.as_ref().map(|b| &b[columns.clone()]));
    let w = layer.weight.block(0..d_in, columns);
    matmul(MatRef::new(x, n_rows, d_in), w, MatMut::new(y, n_rows, width), init);
}

pub(crate) fn activate(activation: Activation, x: &mut [f32]) {
    match activation {
        Activation::GeluErf => cs_kernels::gelu_erf(x),
        Activation::GeluTanh => cs_kernels::gelu_tanh(x),
        Activation::Relu => cs_kernels::relu(x),
        Activation::Silu => cs_kernels::silu(x),
    }
}
