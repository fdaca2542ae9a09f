//! The plain run on a device, and the activations of each layer that are kept for branches.

use std::rc::Rc;

use cs_model::spec::{ModelSpec, QkNorm};

use super::ops::{NormWeights, Ops, PlainHeads, Scores};
use super::weights::{ModelOn, Parameters};
use crate::block::Join;
use crate::decoder::Decoder;
use crate::forest::Forest;
use crate::machine::{Rows, cpu};

/// The plain run after some layers.
pub(crate) struct Plain<O: Ops> {
    n_nodes: usize,
    position: O::Ints,
    /// One tree per window width that has occurred so far.
    trees: Vec<(Option<usize>, O::Tree)>,
    /// `resid_post` of the last computed layer. `[n_base, d_model]`
    pub resid: Rc<O::Floats>,
    /// The last computed layer.
    pub last: Option<Rc<Layer<O>>>,
}

/// Queries, and keys and values, before norms. `[n_base, d_attn]`, `[n_base, 2 * d_kv]`
type Raw<O> = (<O as Ops>::Floats, <O as Ops>::Floats);

/// Activations of one layer of the plain run from which differences are taken. One row per node of the base forest.
pub(crate) struct Layer<O: Ops> {
    /// Attention's input before its norm. `d_model`
    pub resid_pre: Rc<O::Floats>,
    /// Queries, and keys and values, before the norms of queries and keys, if the model has them. `d_attn`, `2 * d_kv`
    pub raw: Option<Raw<O>>,
    /// The heads' streams.
    pub heads: PlainHeads<O>,
    /// The input of the norm after attention, if there is one. `d_model`
    pub attn_joined: Option<O::Floats>,
    /// The MLP's input before its norm. `d_model`
    pub mlp_in: Rc<O::Floats>,
    /// The MLP's hidden layer before the activation, and its gate. `d_mlp`
    pub hidden: Option<(O::Floats, Option<O::Floats>)>,
    /// The input of the norm after the MLP, if there is one. `d_model`
    pub mlp_joined: Option<O::Floats>,
    /// The block's output. `d_model`
    pub resid_post: Rc<O::Floats>,
}

/// Number of float32 values per node in each kept layer, and in addition while a layer is computed.
pub(super) fn floats_per_node(spec: &ModelSpec) -> (usize, usize) {
    let (d_model, d_attn, d_kv) = (spec.d_model, spec.d_attn(), spec.d_kv());
    let hidden = spec.d_mlp * if spec.gated_mlp { 2 } else { 1 };
    let raw = if spec.qk_norm == QkNorm::None { 0 } else { d_attn + 2 * d_kv };
    let joined = if spec.norm.has_branch_norm() || !spec.norm.has_input_norm() { 2 * d_model } else { 0 };
    let kept = 2 * d_model + 2 * d_attn + 2 * d_kv + raw + hidden + joined;
    (kept, kept + 3 * d_model + spec.d_mlp)
}

/// How a layer's scores are computed from queries and keys.
pub(super) fn scores(spec: &ModelSpec, layer: usize) -> Scores {
    Scores {
        scale: spec.attn_scale[layer],
        softcap: spec.attn_softcap,
        n_heads: spec.n_heads,
        n_kv_heads: spec.n_kv_heads,
        d_head: spec.d_head,
    }
}

impl<O: Ops> Plain<O> {
    /// The run before the first layer.
    pub fn embed(ops: &mut O, decoder: &Decoder, forest: &Forest) -> Self {
        let resid = Rc::new(ops.upload(&cpu::embed(decoder, forest)));
        let position = ops.upload_ints(forest.positions());
        Self { n_nodes: forest.n_nodes(), position, trees: vec![], resid, last: None }
    }

    /// Runs one layer.
    pub fn step(&mut self, model: &mut ModelOn<O>, spec: &ModelSpec, index: usize, forest: &Forest) {
        let ModelOn { ops, parameters } = model;
        parameters.fetch(ops, index);
        let layer = parameters.layer(index);
        let (n, d_model) = (self.n_nodes, spec.d_model);
        let resid_pre = self.resid.clone();
        let steps = layer.steps(spec);

        let normed = steps.attn_in.map(|norm| normed(ops, norm, n * d_model, d_model, &resid_pre));
        let input = normed.as_ref().unwrap_or(&resid_pre);
        let (raw, heads) = self.heads(ops, parameters, spec, index, forest, input);
        // `W_O`, and how its output is added.
        let bias = layer.w_o.bias;
        let mut attn = ops.floats(n * d_model, false);
        ops.plain_product(n, &heads.z, layer.w_o.weight, 0..d_model, bias, false, &mut attn);
        let (mid, attn_joined) = join(ops, &steps.attn_out, &resid_pre, attn, d_model, n);

        let mlp_in = if steps.parallel { resid_pre.clone() } else { mid.clone() };
        let (mut hidden, mut mlp_joined, mut resid_post) = (None, None, mid.clone());
        if let Some(mlp) = &layer.mlp {
            let d_mlp = spec.d_mlp;
            let normed = steps.mlp_in.map(|norm| self::normed(ops, norm, n * d_model, d_model, &mlp_in));
            let input = normed.as_ref().unwrap_or(&mlp_in);
            let mut up = ops.floats(n * d_mlp, false);
            ops.plain_product(n, input, mlp.w_in.weight, 0..d_mlp, mlp.w_in.bias, false, &mut up);
            let gate = mlp.gate.as_ref().map(|gate| {
                let mut out = ops.floats(n * d_mlp, false);
                ops.plain_product(n, input, gate.weight, 0..d_mlp, gate.bias, false, &mut out);
                out
            });
            let mut act = ops.floats(n * d_mlp, false);
            ops.plain_activate(spec.activation, gate.as_ref(), &up, &mut act);
            hidden = Some((up, gate));
            let mut out = ops.floats(n * d_model, false);
            let bias = mlp.w_out.bias;
            ops.plain_product(n, &act, mlp.w_out.weight, 0..d_model, bias, false, &mut out);
            (resid_post, mlp_joined) = join(ops, &steps.mlp_out, &mid, out, d_model, n);
        }
        self.resid = resid_post.clone();
        let layer = Layer { resid_pre, raw, heads, attn_joined, mlp_in, hidden, mlp_joined, resid_post };
        self.last = Some(Rc::new(layer));
    }

    /// Queries, keys, values and `z`.
    fn heads(
        &mut self,
        ops: &mut O,
        parameters: &Parameters<O>,
        spec: &ModelSpec,
        index: usize,
        forest: &Forest,
        input: &O::Floats,
    ) -> (Option<Raw<O>>, PlainHeads<O>) {
        let (n, d_attn, d_kv) = (self.n_nodes, spec.d_attn(), spec.d_kv());
        let linear = parameters.layer(index).w_qkv;
        let mut product = |columns: std::ops::Range<usize>| {
            let mut out = ops.floats(n * columns.len(), false);
            ops.plain_product(n, input, linear.weight, columns, linear.bias, false, &mut out);
            out
        };
        let (mut q, mut kv) = (product(0..d_attn), product(d_attn..d_attn + 2 * d_kv));
        let is_normed = spec.qk_norm != QkNorm::None;
        let raw = is_normed.then(|| (ops.gather(&q, d_attn, n, None), ops.gather(&kv, 2 * d_kv, n, None)));
        for (is_key, heads, cols) in [(false, &mut q, d_attn), (true, &mut kv, 2 * d_kv)] {
            let rule = parameters.heads_rule(spec, index, is_key, &self.position);
            if rule.norm.is_some() || rule.rotary.is_some() {
                ops.plain_heads(&rule, n, cols, heads);
            }
        }
        let mut z = ops.floats(n * d_attn, false);
        let tree = self.tree(ops, forest, spec.windows[index]);
        ops.plain_attend(tree, scores(spec, index), &q, &kv, &mut z);
        (raw, PlainHeads { q, kv, z })
    }

    fn tree(&mut self, ops: &mut O, forest: &Forest, window: Option<usize>) -> &O::Tree {
        let known = self.trees.iter().position(|(of, _)| *of == window);
        let at = known.unwrap_or_else(|| {
            let own: Vec<u32> = (0..self.n_nodes as u32).collect();
            self.trees.push((window, ops.tree(forest, Rows::All(self.n_nodes), window, &own)));
            self.trees.len() - 1
        });
        &self.trees[at].1
    }
}

/// `norm(x)` of rows of `cols` values, `len` values in all.
pub(super) fn normed<O: Ops>(
    ops: &mut O,
    norm: &NormWeights<O>,
    len: usize,
    cols: usize,
    x: &O::Floats,
) -> O::Floats {
    let mut out = ops.floats(len, false);
    ops.plain_norm(norm, cols, x, &mut out);
    out
}

/// Adds the output `f` of attention or the MLP to the residual stream `x`; returns the sum, and the input of
/// the join's norm.
fn join<O: Ops>(
    ops: &mut O,
    join: &Join<'_, NormWeights<O>>,
    x: &O::Floats,
    mut f: O::Floats,
    cols: usize,
    rows: usize,
) -> (Rc<O::Floats>, Option<O::Floats>) {
    match join {
        Join::Add => {
            ops.plain_add(&mut f, x);
            (Rc::new(f), None)
        }
        Join::AddThenNorm(norm) => {
            ops.plain_add(&mut f, x);
            (Rc::new(normed(ops, norm, rows * cols, cols, &f)), Some(f))
        }
        Join::AddNormed(norm) => {
            let mut sum = normed(ops, norm, rows * cols, cols, &f);
            ops.plain_add(&mut sum, x);
            (Rc::new(sum), Some(f))
        }
    }
}
