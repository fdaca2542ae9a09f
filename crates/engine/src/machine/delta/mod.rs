//! The delta form: a branch is the plain run plus a difference δ.
//!
//! The plain run's activations of every layer are kept, one row per node, and shared by all branches. Branches only carry δ.
//! Every product is `W (x + δ) = W x + W δ`, so only `W δ` is computed, in half-precision parts whose rounding error is
//! relative to δ rather than `x`; norms, softmax, activations and gates are computed in float32 on `x + δ`, minus their value
//! at `x`:
//!
//! ```text
//! δn = norm(x + δ) − norm(x)                        split into halves                 norm
//! δq, δk, δv = δn W_qkv, normalized and rotated     float32                           product_heads
//! δz = attention(q + δq, k + δk, v + δv) − z        split; edits overwrite it         attend, attend_again, put_z
//! δ += δz W_O                                       float32                           product
//! δh = act(h + δn W_in) − act(h)                    split                             norm, product_activate
//! δ += δh W_out                                     float32                           product
//! ```
//!
//! A device implements [`Ops`]; [`Host`](host::Host) implements them on the CPU, to show the accuracy of the delta form itself
//! and as the reference for every kernel.
//!
//! If there is a norm after `W_O`, `x + δ` may be small compared with either, and the norm would amplify δ's rounding error:
//! `W_O` is then applied to all of `z + δz`, with float32 accuracy.

mod blocks;
pub(crate) mod cuda;
mod direct;
mod edits;
mod filling;
mod formats;
pub(crate) mod host;
mod operands;
pub(crate) mod ops;
mod packed;
mod pass;
mod plain;
mod read;
mod residence;
mod weights;

use std::borrow::Cow;
use std::rc::Rc;

use super::{Child, Limits, Machine, Rows, Stage};
use crate::decoder::Decoder;
use crate::error::EngineError;
use crate::forest::Forest;
use crate::intervention::{Branch, Edit};
use crate::plan::Chunk;
use crate::request::{Options, Prompt};
use crate::tree::Tree;
use cs_model::spec::ModelSpec;
use edits::Sites;
use ops::{Ops, Parts, Span, Z};
use pass::Pass;
use plain::{Layer, Plain, floats_per_node};

pub(crate) use filling::{Blueprint, Filled};
pub(crate) use formats::formats;
pub(crate) use weights::ModelOn;

/// A device, and the current chunk.
pub(crate) struct Delta<'a, O: Ops> {
    decoder: &'a Decoder,
    model: &'a mut ModelOn<O>,
    chunk: Option<OnChunk<O>>,
    /// Whether all logits read so far were finite.
    is_finite: bool,
}

/// A chunk's indices on the device, for passes over its branches.
struct OnChunk<O: Ops> {
    all: RowsOn<O>,
    ends: RowsOn<O>,
    /// The source of each branch node. `[n_nodes]`
    source: O::Ints,
}

/// The needed rows of each run.
struct RowsOn<O: Ops> {
    per_run: usize,
    /// The plain run's row of each. `[per_run]`
    plain: O::Ints,
    /// Its position. `[per_run]`
    position: O::Ints,
    /// One tree per window width that has occurred so far.
    trees: Vec<(Option<usize>, O::Tree)>,
}

/// Differences of runs' residual streams, `[n_runs * n_nodes, d_model]`; after the last layer `[n_runs * n_ends, d_model]`.
pub(crate) struct Stack<O: Ops> {
    n_runs: usize,
    delta: O::Floats,
    /// The plain run's layer that they have reached.
    plain: Rc<Layer<O>>,
}

/// `z` of a stack.
pub(crate) struct Attended<O: Ops>(Z<O>);

impl<'a, O: Ops> Delta<'a, O> {
    pub fn new(decoder: &'a Decoder, model: &'a mut ModelOn<O>) -> Self {
        Self { decoder, model, chunk: None, is_finite: true }
    }

    fn spec(&self) -> &'a ModelSpec {
        self.decoder.spec()
    }

    /// Whether `W_O` is applied to `z + δz` instead of `δz`.
    fn is_full(&self) -> bool {
        self.spec().norm.has_branch_norm()
    }
}

impl<O: Ops> RowsOn<O> {
    fn new(ops: &mut O, chunk: &Chunk, rows: Rows<'_>) -> Self {
        let nodes = || (0..rows.per_run()).map(|r| rows.node(r));
        let plain: Vec<u32> = nodes().map(|node| chunk.own[node]).collect();
        let position: Vec<u32> = nodes().map(|node| chunk.branch.positions()[node]).collect();
        Self {
            per_run: rows.per_run(),
            plain: ops.upload_ints(&plain),
            position: ops.upload_ints(&position),
            trees: vec![],
        }
    }

    fn span<'s>(&'s self, n_runs: usize, from: Option<&'s O::Ints>) -> Span<'s, O> {
        Span { n_runs, per_run: self.per_run, plain: &self.plain, from }
    }
}

impl<O: Ops> OnChunk<O> {
    fn rows(&self, rows: Rows<'_>) -> &RowsOn<O> {
        match rows {
            Rows::All(_) => &self.all,
            Rows::Some(_) => &self.ends,
        }
    }

    /// The tree for a layer's window, made by [`Self::plant`].
    fn tree(&self, rows: Rows<'_>, window: Option<usize>) -> &O::Tree {
        let mut trees = self.rows(rows).trees.iter();
        &trees.find(|(of, _)| *of == window).expect("planted before").1
    }

    fn plant(&mut self, ops: &mut O, chunk: &Chunk, rows: Rows<'_>, window: Option<usize>) {
        let of_rows = match rows {
            Rows::All(_) => &mut self.all,
            Rows::Some(_) => &mut self.ends,
        };
        if !of_rows.trees.iter().any(|(of, _)| *of == window) {
            of_rows.trees.push((window, ops.tree(&chunk.branch, rows, window, &chunk.own)));
        }
    }
}

impl<O: Ops> Delta<'_, O> {
    fn pass<'p>(&'p mut self, stage: Stage<'p, Rc<Layer<O>>>) -> Pass<'p, O> {
        let spec = self.decoder.spec();
        let chunk = self.chunk.as_mut().expect("a chunk begins before its branches");
        chunk.plant(&mut self.model.ops, stage.chunk, stage.rows, spec.windows[stage.layer]);
        let plain = stage.kept.expect("every layer of the plain run is kept");
        let ModelOn { ops, parameters } = &mut *self.model;
        parameters.fetch(ops, stage.layer);
        Pass { spec, ops, parameters, chunk, stage, plain }
    }
}

/// A node of the plain run has the kept activations of each layer from the first edited one on, and of one more layer while
/// it runs. A node of a run has δ of each stack that waits for its children, of the current stack and of its next layer; its
/// input, `q`, `k`, `v`, `z` and hidden layer; and `z` of each stack that waits.
fn limits(spec: &ModelSpec, branches: &[Branch], enough_rows: usize) -> Limits {
    const FLOAT: usize = size_of::<f32>();
    let (d_model, d_attn, d_kv) = (spec.d_model, spec.d_attn(), spec.d_kv());
    let frames = Tree::new(branches).frames();
    let first = branches.iter().filter_map(Branch::first_layer).min();
    let n_kept = first.map_or(0, |first| spec.n_layers - first);
    let (kept, running) = floats_per_node(spec);
    // The gate and the gated values exist at the same time.
    let hidden = spec.d_mlp * if spec.gated_mlp { 2 } else { 1 };
    let layer = 3 * d_model + 2 * d_attn + 2 * d_kv + hidden;
    Limits {
        plain_node: FLOAT * (n_kept * kept + running),
        run_node: FLOAT * (layer + frames * d_model + (frames - 1) * d_attn),
        run_end: FLOAT * (3 * d_model + d_attn + spec.d_embed),
        scratch: 0,
        enough_rows,
    }
}

impl<O: Ops> Machine for Delta<'_, O> {
    type Plain = Plain<O>;
    type Streams = Rc<Layer<O>>;
    type Stack = Stack<O>;
    type Attended = Attended<O>;

    const READS_EVERY_LAYER: bool = true;

    fn limits(&self, branches: &[Branch], _longest: usize) -> Limits {
        limits(self.spec(), branches, self.model.ops.enough_rows())
    }

    fn memory(&self, options: Options) -> usize {
        self.model.ops.memory().unwrap_or(options.memory)
    }

    fn begin(&mut self, chunk: &Chunk) {
        let ops = &mut self.model.ops;
        let all = RowsOn::new(ops, chunk, Rows::All(chunk.branch.n_nodes()));
        let ends = RowsOn::new(ops, chunk, Rows::Some(&chunk.ends));
        let source = ops.upload_ints(if chunk.source.is_empty() { &[0] } else { &chunk.source });
        self.chunk = Some(OnChunk { all, ends, source });
    }

    fn status(&mut self) -> Result<(), EngineError> {
        self.model.ops.status()?;
        match self.model.ops.parts() {
            _ if self.is_finite => Ok(()),
            Parts::F16 { .. } => Err(EngineError::Overflow),
            Parts::F32 | Parts::Bf16 { .. } => Err(EngineError::NotFinite),
        }
    }

    fn embed(&mut self, forest: &Forest) -> Plain<O> {
        Plain::embed(&mut self.model.ops, self.decoder, forest)
    }

    fn plain_layer(&mut self, layer: usize, forest: &Forest, plain: &mut Plain<O>) {
        plain.step(self.model, self.decoder.spec(), layer, forest);
    }

    fn keep(&mut self, plain: &Plain<O>, _all: bool) -> Rc<Layer<O>> {
        plain.last.clone().expect("a layer has been done")
    }

    fn plain_z<'p>(&mut self, plain: &'p Plain<O>) -> Cow<'p, [f32]> {
        let last = plain.last.as_ref().expect("a layer has been done");
        Cow::Owned(self.model.ops.download(&last.heads.z))
    }

    fn plain_qkv<'p>(&mut self, plain: &'p Plain<O>) -> (Cow<'p, [f32]>, Cow<'p, [f32]>) {
        let heads = &plain.last.as_ref().expect("a layer has been done").heads;
        let ops = &mut self.model.ops;
        (Cow::Owned(ops.download(&heads.q)), Cow::Owned(ops.download(&heads.kv)))
    }

    fn plain_resid<'p>(&mut self, plain: &'p Plain<O>) -> Cow<'p, [f32]> {
        Cow::Owned(self.model.ops.download(&plain.resid))
    }

    fn plain_mid(&mut self, layer: usize, plain: &Plain<O>) -> Option<Vec<f32>> {
        let last = plain.last.as_ref().expect("a layer has been done");
        let is_parallel = self.model.parameters.layers[layer].steps(self.spec()).parallel;
        (!is_parallel).then(|| self.model.ops.download(&last.mlp_in))
    }

    fn attributions(
        &mut self,
        layer: usize,
        plain: &Plain<O>,
        nodes: &[u32],
        read: &[&[u32]],
    ) -> Vec<Vec<f64>> {
        self.attributions_of(layer, plain, nodes, read)
    }

    fn start(&mut self, stage: Stage<'_, Self::Streams>, _: &Plain<O>, runs: &[&[Edit]]) -> Stack<O> {
        let (n_runs, is_full) = (runs.len(), self.is_full());
        let mut pass = self.pass(stage);
        let sites = Sites::of(runs.iter().copied());
        let wanted = pass.chunk.rows(stage.rows);
        let rows = n_runs * wanted.per_run;
        let mut z = if is_full {
            let plain = |row| stage.chunk.own[stage.rows.locate(row).1];
            let from = pass.ops.upload_ints(&(0..rows).map(plain).collect::<Vec<u32>>());
            Z::Full(pass.ops.gather(&pass.plain.heads.z, pass.spec.d_attn(), rows, Some(&from)))
        } else {
            pass.z(rows, true)
        };
        pass.edit(&sites, true, None, &mut z);
        let delta = pass.block(&wanted.span(n_runs, None), None, &z);
        Stack { n_runs, delta, plain: pass.plain.clone() }
    }

    fn advance(&mut self, stage: Stage<'_, Self::Streams>, stack: &mut Stack<O>, runs: &[&[Edit]]) {
        let mut pass = self.pass(stage);
        let z = pass.attend(stack, &Sites::of(runs.iter().copied()), true);
        let span = pass.chunk.rows(stage.rows).span(stack.n_runs, None);
        stack.delta = pass.block(&span, Some(&stack.delta), &z);
        stack.plain = pass.plain.clone();
    }

    fn attend(&mut self, stage: Stage<'_, Self::Streams>, stack: &Stack<O>, runs: &[&[Edit]]) -> Attended<O> {
        // Edits of `z` are applied after the runs have divided.
        Attended(self.pass(stage).attend(stack, &Sites::of(runs.iter().copied()), false))
    }

    fn rest(
        &mut self,
        stage: Stage<'_, Self::Streams>,
        (stack, Attended(attended)): (&Stack<O>, &Attended<O>),
        children: &[Child<'_>],
    ) -> Stack<O> {
        let mut pass = self.pass(stage);
        let (n_runs, n_nodes) = (children.len(), stage.chunk.branch.n_nodes());
        let per_run = stage.rows.per_run();
        let rows = n_runs * per_run;
        let of_parent = |row: usize| children[row / per_run].parent * per_run + row % per_run;
        let z_from: Vec<u32> = (0..rows).map(|row| of_parent(row) as u32).collect();
        let from: Vec<u32> = (0..rows).map(|row| stage.rows.of_all(of_parent(row), n_nodes)).collect();
        let (z_from, from) = (pass.ops.upload_ints(&z_from), pass.ops.upload_ints(&from));
        let mut z = pass.ops.gather_z(attended, pass.spec.d_attn(), rows, Some(&z_from));
        let edits = Sites::of(children.iter().map(|child| child.edits));
        // Edits of what attention reads were applied to the parents.
        pass.edit(&Sites { z: edits.z, ..Sites::default() }, true, None, &mut z);
        let span = pass.chunk.rows(stage.rows).span(n_runs, Some(&from));
        let delta = pass.block(&span, Some(&stack.delta), &z);
        Stack { n_runs, delta, plain: pass.plain.clone() }
    }

    fn read(&mut self, prompts: &[Prompt], chunk: &Chunk, stack: &Stack<O>) -> Vec<Vec<f64>> {
        self.read_stack(prompts, chunk, stack)
    }

    fn read_plain(&mut self, prompts: &[Prompt], chunk: &Chunk, plain: &Plain<O>) -> Vec<f64> {
        self.read_base(prompts, chunk, &plain.resid).logits(self.decoder)
    }
}
