//! The delta form: a branch is the plain run plus a difference δ.
//!
//! The plain run's activations of every layer are kept, a row for each node, shared by all branches. Branches carry δ alone.
//! Every product is `W (x + δ) = W x + W δ`, so only `W δ` is computed, in half-precision parts whose rounding is relative to δ
//! and not to `x`; norms, softmax, activations and gates are computed in float32 on `x + δ`, less their value at `x`:
//!
//! ```text
//! δn = norm(x + δ) − norm(x)                        cut into halves                   norm
//! δq, δk, δv = δn W_qkv, normed and turned          float32                           product_heads
//! δz = attention(q + δq, k + δk, v + δv) − z        cut; edits write theirs           attend, attend_again, put_z
//! δ += δz W_O                                       float32                           product
//! δh = act(h + norm(x + δ) − norm(x) W_in) − …      cut                               norm, product_activate
//! δ += δh W_out                                     float32                           product
//! ```
//!
//! What a device does is [`Ops`]; [`Host`](host::Host) is the processor, which shows what the form itself costs in accuracy, and
//! what every kernel must give.
//!
//! Where a norm stands after `W_O`, `x + δ` may be small beside either, and the norm would blow up δ's rounding: `W_O` then takes
//! all of `z + δz`, in float32-grade.

pub(crate) mod cuda;
mod edits;
mod formats;
pub(crate) mod host;
pub(crate) mod ops;
mod plain;
mod read;
mod weights;

use std::borrow::Cow;
use std::rc::Rc;

use super::{Child, Limits, Machine, Rows, Stage};
use crate::block::Join;
use crate::decoder::Decoder;
use crate::error::EngineError;
use crate::forest::Forest;
use crate::intervention::{Branch, Edit};
use crate::plan::Chunk;
use crate::request::{Options, Prompt};
use crate::tree::Tree;
use cs_model::spec::ModelSpec;
use edits::Sites;
use ops::{
    Changed, DeltaHeads, MeanRows, MlpIn, NormOut, NormWeights, Ops, Parts, PutZ, Residual, Span, Values, Z,
};
use plain::{Layer, Plain, floats_per_node, scores};

pub(crate) use formats::formats;
pub(crate) use weights::ModelOn;

/// A device, and the chunk that is being run on it.
pub(crate) struct Delta<'a, O: Ops> {
    decoder: &'a Decoder,
    model: &'a mut ModelOn<O>,
    chunk: Option<OnChunk<O>>,
    /// Whether all logits read so far were.
    is_finite: bool,
}

/// What passes over a chunk's branches look up on the device.
struct OnChunk<O: Ops> {
    all: RowsOn<O>,
    ends: RowsOn<O>,
    /// The source of each branch node. `[n_nodes]`
    source: O::Ints,
}

/// Rows wanted of each run.
struct RowsOn<O: Ops> {
    per_run: usize,
    /// The plain run's row of each. `[per_run]`
    plain: O::Ints,
    /// Its position. `[per_run]`
    position: O::Ints,
    /// One for each width of windows seen so far.
    trees: Vec<(Option<usize>, O::Tree)>,
}

/// Differences of runs' residual streams, `[n_runs * n_nodes, d_model]`; after the last layer `[n_runs * n_ends, d_model]`.
pub(crate) struct Stack<O: Ops> {
    n_runs: usize,
    delta: O::Floats,
    /// The layer of the plain run that they have done.
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

    /// Whether `W_O` reads `z` in full.
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

    /// The tree of a layer's window, which [`Self::plant`] has made.
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

/// One pass over a stack: the machine's parts, lent out once.
struct Pass<'p, O: Ops> {
    spec: &'p ModelSpec,
    ops: &'p mut O,
    parameters: &'p weights::Parameters<O>,
    chunk: &'p OnChunk<O>,
    stage: Stage<'p, Rc<Layer<O>>>,
    plain: &'p Rc<Layer<O>>,
}

impl<O: Ops> Delta<'_, O> {
    fn pass<'p>(&'p mut self, stage: Stage<'p, Rc<Layer<O>>>) -> Pass<'p, O> {
        let spec = self.decoder.spec();
        let chunk = self.chunk.as_mut().expect("a chunk begins before its branches");
        chunk.plant(&mut self.model.ops, stage.chunk, stage.rows, spec.windows[stage.layer]);
        let plain = stage.kept.expect("every layer of the plain run is kept");
        let ModelOn { ops, parameters } = &mut *self.model;
        Pass { spec, ops, parameters, chunk, stage, plain }
    }
}

impl<O: Ops> Pass<'_, O> {
    /// The difference that a branch's input is, cut up: through its norm, or as it is.
    fn input(
        &mut self,
        span: &Span<'_, O>,
        norm: Option<&NormWeights<O>>,
        plain: &O::Floats,
        delta: &O::Floats,
    ) -> O::Split {
        let d_model = self.spec.d_model;
        let mut out = self.ops.split(span.n_runs * span.per_run, d_model, false);
        match norm {
            Some(norm) => {
                let (changed, out) = (Changed::By(delta), NormOut::Split(&mut out));
                self.ops.norm(span, norm, d_model, plain, changed, out);
            }
            None => self.ops.cut(span, d_model, delta, &mut out),
        }
        out
    }

    /// Queries of the rows wanted, keys and values of all nodes.
    fn project(&mut self, stack: &Stack<O>) -> DeltaHeads<O> {
        let (spec, index, parameters) = (self.spec, self.stage.layer, self.parameters);
        let (n_runs, d_attn, d_kv) = (stack.n_runs, spec.d_attn(), spec.d_kv());
        let (all, wanted) = (&self.chunk.all, self.chunk.rows(self.stage.rows));
        let layer = &parameters.layers[index];
        let plain = self.plain;
        let span = all.span(n_runs, None);
        let input = self.input(&span, layer.steps(spec).attn_in, &plain.resid_pre, &stack.delta);
        let from = match self.stage.rows {
            Rows::All(_) => None,
            rows => {
                let n_nodes = self.stage.chunk.branch.n_nodes();
                let from: Vec<u32> =
                    (0..n_runs * rows.per_run()).map(|row| rows.of_all(row, n_nodes)).collect();
                Some(self.ops.upload_ints(&from))
            }
        };
        let mut product = |is_key, rows: &RowsOn<O>, from, columns: std::ops::Range<usize>| {
            let span = rows.span(n_runs, from);
            let rule = parameters.heads_rule(spec, index, is_key, &rows.position);
            let raw = plain.raw.as_ref().map(|(q, kv)| if is_key { kv } else { q });
            let mut out = self.ops.floats(n_runs * rows.per_run * columns.len(), false);
            self.ops.product_heads(&span, &input, &layer.w_qkv.weight, columns, &rule, raw, &mut out);
            out
        };
        let q = product(false, wanted, from.as_ref(), 0..d_attn);
        let kv = product(true, all, None, d_attn..d_attn + 2 * d_kv);
        DeltaHeads { q, kv }
    }

    /// Carries out edits of heads that read something: again and silent ones after attention, those of `z` when runs have divided.
    fn edit(&mut self, sites: &Sites, z_too: bool, delta: Option<&DeltaHeads<O>>, z: &mut Z<O>) {
        let put: Vec<PutZ> =
            if z_too { [&sites.silent[..], &sites.z].concat() } else { sites.silent.clone() };
        if sites.again.is_empty() && put.is_empty() {
            return;
        }
        let (spec, index) = (self.spec, self.stage.layer);
        let tree = self.chunk.tree(self.stage.rows, spec.windows[index]);
        let means = self.means(&put);
        let bias = &self.parameters.layers[index].value_bias;
        let means = means.as_ref().map(|(z, row, step)| MeanRows { z, row, step });
        let values = Values { plain: &self.plain.heads, source: &self.chunk.source, bias, means };
        if !sites.again.is_empty() {
            self.ops.attend_again(tree, scores(spec, index), &sites.again, &values, delta, z);
        }
        if !put.is_empty() {
            self.ops.put_z(tree, spec.d_head, &put, &values, z);
        }
    }

    /// Means of this layer, the row of each node, and its step, where an edit reads them.
    fn means(&mut self, put: &[PutZ]) -> Option<(O::Floats, O::Ints, O::Floats)> {
        if !put.iter().any(|site| matches!(site.by, ops::Put::Mean | ops::Put::Others)) {
            return None;
        }
        let (chunk, means) = (self.stage.chunk, self.stage.means.expect("means wherever a branch uses them"));
        let nodes = || chunk.group.iter().zip(chunk.branch.positions());
        let row: Vec<u32> = nodes().map(|(&group, &position)| means.row(group, position)).collect();
        let step: Vec<f32> = nodes().map(|(&group, _)| (1.0 / (means.weight(group) - 1.0)) as f32).collect();
        let z = self.ops.upload(means.table(self.stage.layer));
        Some((z, self.ops.upload_ints(&row), self.ops.upload(&step)))
    }

    /// The rest of a block after attention. `delta`: the block's input, whose rows `span` picks; `None` where it is the plain run's.
    fn block(&mut self, span: &Span<'_, O>, delta: Option<&O::Floats>, z: &Z<O>) -> O::Floats {
        let (spec, rows, d_model) = (self.spec, span.n_runs * span.per_run, self.spec.d_model);
        let (plain, parameters) = (self.plain, self.parameters);
        let layer = &parameters.layers[self.stage.layer];
        let steps = layer.steps(spec);
        let own = Span { from: None, ..*span };
        let of_parallel = match delta {
            Some(delta) if steps.parallel => Some(self.input(span, steps.mlp_in, &plain.mlp_in, delta)),
            _ => None,
        };
        let mut out = match (delta, z) {
            (Some(delta), Z::Full(_)) => self.ops.gather(delta, d_model, rows, span.from),
            _ => self.ops.floats(rows * d_model, delta.is_none()),
        };
        match z {
            Z::Delta(z) => {
                let residual = delta.map_or(Residual::Zero, Residual::Rows);
                self.ops.product(span, z, &layer.w_o.weight, residual, &mut out);
                out = self.join(&own, &steps.attn_out, plain.attn_joined.as_ref(), out);
            }
            Z::Full(z) => {
                let Join::AddNormed(norm) = steps.attn_out else {
                    unreachable!("z is full before such norms alone")
                };
                let mut sum = self.ops.floats(rows * d_model, false);
                let (w, bias) = (&layer.w_o.weight, layer.w_o.bias.as_ref());
                self.ops.plain_product(rows, z, w, 0..d_model, bias, false, &mut sum);
                let joined = plain.attn_joined.as_ref().expect("kept before norms");
                self.ops.norm(&own, norm, d_model, joined, Changed::To(&sum), NormOut::Add(&mut out));
            }
        }
        let Some(mlp) = &layer.mlp else { return out };
        let input = match (steps.parallel, of_parallel) {
            (false, _) => self.input(&own, steps.mlp_in, &plain.mlp_in, &out),
            (true, Some(input)) => input,
            // A parallel MLP reads nothing of what attention has just changed.
            (true, None) => return out,
        };
        let (plain_in, plain_gate) = plain.hidden.as_ref().expect("kept where there is an MLP");
        let gate = mlp.gate.as_ref().map(|gate| &gate.weight).zip(plain_gate.as_ref());
        let first = MlpIn { w_in: &mlp.w_in.weight, plain_in, gate, activation: spec.activation };
        let mut hidden = self.ops.split(rows, spec.d_mlp, false);
        self.ops.product_activate(&own, &input, &first, &mut hidden);
        let w_out = &mlp.w_out.weight;
        if let Join::AddNormed(norm) = steps.mlp_out {
            let mut branch = self.ops.floats(rows * d_model, false);
            self.ops.product(&own, &hidden, w_out, Residual::Zero, &mut branch);
            let joined = plain.mlp_joined.as_ref().expect("kept before norms");
            self.ops.norm(&own, norm, d_model, joined, Changed::By(&branch), NormOut::Add(&mut out));
            return out;
        }
        self.ops.product(&own, &hidden, w_out, Residual::Own, &mut out);
        self.join(&own, &steps.mlp_out, plain.mlp_joined.as_ref(), out)
    }

    /// A difference of the residual stream through the norm that stands on it, if one does.
    fn join(
        &mut self,
        span: &Span<'_, O>,
        join: &Join<'_, NormWeights<O>>,
        joined: Option<&O::Floats>,
        delta: O::Floats,
    ) -> O::Floats {
        let Join::AddThenNorm(norm) = join else { return delta };
        let d_model = self.spec.d_model;
        let mut out = self.ops.floats(span.n_runs * span.per_run * d_model, false);
        let joined = joined.expect("kept before norms");
        self.ops.norm(span, norm, d_model, joined, Changed::By(&delta), NormOut::Set(&mut out));
        out
    }

    /// Attention of a stack, with the edits of what it reads.
    fn attend(&mut self, stack: &Stack<O>, sites: &Sites, z_too: bool) -> Z<O> {
        let (spec, index) = (self.spec, self.stage.layer);
        let heads = self.project(stack);
        let rows = stack.n_runs * self.stage.rows.per_run();
        let mut z = self.z(rows, false);
        let tree = self.chunk.tree(self.stage.rows, spec.windows[index]);
        self.ops.attend(stack.n_runs, tree, scores(spec, index), &self.plain.heads, &heads, &mut z);
        self.edit(sites, z_too, Some(&heads), &mut z);
        z
    }

    fn z(&mut self, rows: usize, zeroed: bool) -> Z<O> {
        let d_attn = self.spec.d_attn();
        if self.spec.norm.has_branch_norm() {
            Z::Full(self.ops.floats(rows * d_attn, zeroed))
        } else {
            Z::Delta(self.ops.split(rows, d_attn, zeroed))
        }
    }
}

impl<O: Ops> Machine for Delta<'_, O> {
    type Plain = Plain<O>;
    type Streams = Rc<Layer<O>>;
    type Stack = Stack<O>;
    type Attended = Attended<O>;

    const READS_EVERY_LAYER: bool = true;

    /// A node of the plain run: what is kept of each layer from the first edited one on, and one layer more while it runs. A node
    /// of one run: δ of each stack that waits for its children, of the one being run and of its next layer; its input, `q`, `k`,
    /// `v`, `z` and hidden layer; `z` of each stack that waits.
    fn limits(&self, branches: &[Branch], _longest: usize) -> Limits {
        const FLOAT: usize = size_of::<f32>();
        let spec = self.spec();
        let (d_model, d_attn, d_kv) = (spec.d_model, spec.d_attn(), spec.d_kv());
        let frames = Tree::new(branches).frames();
        let first = branches.iter().filter_map(Branch::first_layer).min();
        let n_kept = first.map_or(0, |first| spec.n_layers - first);
        let (kept, running) = floats_per_node(spec);
        // A gate and what it gates are there at once.
        let hidden = spec.d_mlp * if spec.gated_mlp { 2 } else { 1 };
        let layer = 3 * d_model + 2 * d_attn + 2 * d_kv + hidden;
        Limits {
            plain_node: FLOAT * (n_kept * kept + running),
            run_node: FLOAT * (layer + frames * d_model + (frames - 1) * d_attn),
            run_end: FLOAT * (3 * d_model + d_attn + spec.d_embed),
            scratch: 0,
            enough_rows: self.model.ops.enough_rows(),
        }
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
        // Edits of `z` wait until the runs have divided.
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
        // What attention read was edited with the parents.
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
