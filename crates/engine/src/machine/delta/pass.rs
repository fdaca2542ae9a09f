//! One layer of a stack, step by step.

use std::rc::Rc;

use cs_model::spec::ModelSpec;

use super::edits::Sites;
use super::ops::{
    Changed, DeltaHeads, MeanRows, MlpIn, NormOut, NormWeights, Ops, Put, PutZ, Residual, Span, Values, Z,
};
use super::plain::{Layer, scores};
use super::{OnChunk, RowsOn, Stack, weights};
use crate::block::Join;
use crate::machine::{Rows, Stage};

/// One pass over a stack: borrowed parts of the machine.
pub(super) struct Pass<'p, O: Ops> {
    pub spec: &'p ModelSpec,
    pub ops: &'p mut O,
    pub parameters: &'p weights::Parameters<O>,
    pub chunk: &'p OnChunk<O>,
    pub stage: Stage<'p, Rc<Layer<O>>>,
    pub plain: &'p Rc<Layer<O>>,
}

impl<O: Ops> Pass<'_, O> {
    /// The split difference of the input of attention or the MLP: through its norm, if there is one.
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

    /// Queries of the needed rows, keys and values of all nodes.
    fn project(&mut self, stack: &Stack<O>) -> DeltaHeads<O> {
        let (spec, index, parameters) = (self.spec, self.stage.layer, self.parameters);
        let (n_runs, d_attn, d_kv) = (stack.n_runs, spec.d_attn(), spec.d_kv());
        let (all, wanted) = (&self.chunk.all, self.chunk.rows(self.stage.rows));
        let layer = parameters.layer(index);
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
            self.ops.product_heads(&span, &input, layer.w_qkv.weight, columns, &rule, raw, &mut out);
            out
        };
        let q = product(false, wanted, from.as_ref(), 0..d_attn);
        let kv = product(true, all, None, d_attn..d_attn + 2 * d_kv);
        DeltaHeads { q, kv }
    }

    /// Applies edits: `again` and `silent` after attention, those of `z` after runs have divided.
    pub fn edit(&mut self, sites: &Sites, z_too: bool, delta: Option<&DeltaHeads<O>>, z: &mut Z<O>) {
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

    /// Means of this layer, the row of each node, and its step, if an edit reads them.
    fn means(&mut self, put: &[PutZ]) -> Option<(O::Floats, O::Ints, O::Floats)> {
        if !put.iter().any(|site| matches!(site.by, Put::Mean | Put::Others)) {
            return None;
        }
        let (chunk, means) =
            (self.stage.chunk, self.stage.means.expect("means are computed if a branch uses them"));
        let nodes = || chunk.group.iter().zip(chunk.branch.positions());
        let row: Vec<u32> = nodes().map(|(&group, &position)| means.row(group, position)).collect();
        let step: Vec<f32> = nodes().map(|(&group, _)| (1.0 / (means.weight(group) - 1.0)) as f32).collect();
        let z = self.ops.upload(means.table(self.stage.layer));
        Some((z, self.ops.upload_ints(&row), self.ops.upload(&step)))
    }

    /// The rest of a block after attention. `delta`: the block's input, with rows selected by `span`; `None` if it is the plain
    /// run's.
    pub fn block(&mut self, span: &Span<'_, O>, delta: Option<&O::Floats>, z: &Z<O>) -> O::Floats {
        let (spec, rows, d_model) = (self.spec, span.n_runs * span.per_run, self.spec.d_model);
        let (plain, parameters) = (self.plain, self.parameters);
        let layer = parameters.layer(self.stage.layer);
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
                self.ops.product(span, z, layer.w_o.weight, residual, &mut out);
                out = self.join(&own, &steps.attn_out, plain.attn_joined.as_ref(), out);
            }
            Z::Full(z) => {
                let Join::AddNormed(norm) = steps.attn_out else {
                    unreachable!("z is full only before such norms")
                };
                let mut sum = self.ops.floats(rows * d_model, false);
                let (w, bias) = (layer.w_o.weight, layer.w_o.bias);
                self.ops.plain_product(rows, z, w, 0..d_model, bias, false, &mut sum);
                let joined = plain.attn_joined.as_ref().expect("kept before norms");
                self.ops.norm(&own, norm, d_model, joined, Changed::To(&sum), NormOut::Add(&mut out));
            }
        }
        let Some(mlp) = &layer.mlp else { return out };
        let input = match (steps.parallel, of_parallel) {
            (false, _) => self.input(&own, steps.mlp_in, &plain.mlp_in, &out),
            (true, Some(input)) => input,
            // A parallel MLP does not read attention's output.
            (true, None) => return out,
        };
        let (plain_in, plain_gate) = plain.hidden.as_ref().expect("kept if there is an MLP");
        let gate = mlp.gate.as_ref().map(|gate| gate.weight).zip(plain_gate.as_ref());
        let first = MlpIn { w_in: mlp.w_in.weight, plain_in, gate, activation: spec.activation };
        let mut hidden = self.ops.split(rows, spec.d_mlp, false);
        self.ops.product_activate(&own, &input, &first, &mut hidden);
        let w_out = mlp.w_out.weight;
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

    /// A difference of the residual stream through the norm on it, if there is one.
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

    /// Attention of a stack, with edits of what attention reads.
    pub fn attend(&mut self, stack: &Stack<O>, sites: &Sites, z_too: bool) -> Z<O> {
        let (spec, index) = (self.spec, self.stage.layer);
        let heads = self.project(stack);
        let rows = stack.n_runs * self.stage.rows.per_run();
        let mut z = self.z(rows, false);
        let tree = self.chunk.tree(self.stage.rows, spec.windows[index]);
        self.ops.attend(stack.n_runs, tree, scores(spec, index), &self.plain.heads, &heads, &mut z);
        self.edit(sites, z_too, Some(&heads), &mut z);
        z
    }

    pub fn z(&mut self, rows: usize, zeroed: bool) -> Z<O> {
        let d_attn = self.spec.d_attn();
        if self.spec.norm.has_branch_norm() {
            Z::Full(self.ops.floats(rows * d_attn, zeroed))
        } else {
            Z::Delta(self.ops.split(rows, d_attn, zeroed))
        }
    }
}
