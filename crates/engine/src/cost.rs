//! The cost of a run without running it: the number of operations of [`run`](crate::run), and their time on this machine.
//!
//! With `n` branch nodes, `e` last-token nodes and `s(x)` the sum of context lengths over nodes `x`, a branch that starts
//! at layer `l` of `L` costs
//!
//! ```text
//! dense      its own layer         2 d_head d_model n  + [sequential block] 4 d_model d_mlp n
//!            each later layer      (4 d_attn d_model + 4 d_kv d_model + 4 d_model d_mlp) n
//!            the last layer        4 d_kv d_model n + (4 d_attn d_model + 4 d_model d_mlp) e
//! attention  each later layer      4 d_attn s(n), and s(e) in the last
//! ```
//!
//! floating-point operations (6 d_model d_mlp if MLPs have gates; d_attn instead of d_head if attention's output has a norm), and the plain run
//! costs all layers in full, as do the reference prompts of means up to the last layer that reads a mean, and a first plain run up to the last layer
//! at which a branch reads it after its first edit. Branches with a common prefix are counted once until they diverge, in the stacks of the actual
//! run. The expected time is the sum over kinds of operations / measured rate ([`Rates::measure`]); activation functions, norms and residual
//! additions are timed together with the neighbouring products. Copies, the unembedding of a few tokens, and threads waiting for each other are not
//! counted, since they are small in large models.

use std::ops::Range;

use crate::driver::even_parts;
use crate::error::EngineError;
use crate::forest::Forest;
use crate::intervention::Branch;
use crate::machine::cpu;
use crate::means;
use crate::plan::{self, Chunk};
use crate::rates::Rates;
use crate::request::{Options, Prompt};
use crate::tree::Tree;
use cs_model::spec::ModelSpec;

/// The cost of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cost {
    /// Token positions of all prompts.
    pub n_tokens: usize,
    /// Number of nodes of the branches' forests.
    pub n_nodes: usize,
    /// Floating-point operations in matrix products; a multiplication and an addition are two.
    pub dense: f64,
    /// Floating-point operations in attention.
    pub attention: f64,
    /// Peak memory of activations, not counting the weights, in bytes.
    pub memory: usize,
}

/// Counts the operations of a run.
///
/// # Errors
/// As [`run`](crate::run), which checks the same things first.
pub fn cost(
    spec: &ModelSpec,
    prompts: &[Prompt],
    branches: &[Branch],
    options: Options,
) -> Result<Cost, EngineError> {
    plan::check(spec, prompts, branches)?;
    let mut total = Cost { n_tokens: prompts.iter().map(|p| p.tokens.len()).sum(), ..Cost::default() };
    let limits = cpu::limits(spec, branches, plan::longest(prompts));
    for chunk in plan::chunks(prompts, branches, limits, options)? {
        let size = limits.stack_size(&chunk, options.memory);
        total.add_chunk(spec, &chunk, branches, size);
        let stack = size.min(branches.len());
        total.memory = total.memory.max(limits.bytes(&chunk, stack));
    }
    let (references, n_layers) =
        means::work(prompts, branches, |longest| cpu::limits(spec, &[], longest), options)?;
    references.iter().for_each(|chunk| total.add_plain(spec, &chunk.base, 0..n_layers));
    Ok(total)
}

/// What all branches of a chunk share.
struct Context<'w> {
    spec: &'w ModelSpec,
    tree: &'w Tree<'w>,
    /// Number of nodes, and of last tokens among them.
    n: usize,
    ends: usize,
    /// Maximum number of runs in a stack.
    size: usize,
    /// Operations in one run's attention at each layer.
    attention: Vec<f64>,
}

impl Context<'_> {
    /// Rows of one run after a layer's attention.
    fn rows(&self, layer: usize) -> usize {
        if layer + 1 == self.spec.n_layers { self.ends } else { self.n }
    }
}

impl Cost {
    /// Adds a chunk whose stacks have at most `size` runs.
    fn add_chunk(&mut self, spec: &ModelSpec, chunk: &Chunk, branches: &[Branch], size: usize) {
        let (n, ends) = (chunk.branch.n_nodes(), chunk.ends.len());
        self.n_nodes += n;
        let last = spec.n_layers - 1;
        let branch_nodes = everywhere(&chunk.branch);
        let tree = Tree::new(branches);
        let starting = tree.by_first_layer();
        // The plain run's streams that later edits read are kept by a separate run.
        if let Some((&last_kept, _)) = tree.sources_read_later().last_key_value() {
            self.add_plain(spec, &chunk.base, 0..last_kept + 1);
        }
        let attention_of = |layer: usize| {
            attention(spec, layer, &chunk.branch, if layer == last { &chunk.ends } else { &branch_nodes })
        };
        let context = Context {
            spec,
            tree: &tree,
            n,
            ends,
            size,
            attention: (0..spec.n_layers).map(attention_of).collect(),
        };
        for layer in 0..spec.n_layers {
            self.add_plain(spec, &chunk.base, layer..layer + 1);
            let start = starting.get(&layer).map_or(&[][..], Vec::as_slice);
            let runs: Vec<&[usize]> = tree.divide(start, layer, 0).collect();
            let rows = context.rows(layer);
            for run in &runs {
                let edited = branches[run[0]].at_layer(layer).len() * spec.d_head;
                let width = if spec.norm.has_branch_norm() { spec.d_attn() } else { edited };
                self.dense += (2 * width * spec.d_model * rows) as f64;
                if !spec.block.is_parallel() {
                    self.dense += mlp(spec, rows);
                }
            }
            for runs in even_parts(&runs, size) {
                self.add_stack(&context, layer + 1, runs, 0);
            }
        }
    }

    /// Adds a stack of runs that have diverged from others `partings` times, from `layer` to the end, just as
    /// the [driver](crate::driver) runs them.
    fn add_stack(&mut self, context: &Context<'_>, layer: usize, runs: &[&[usize]], partings: usize) {
        for index in layer..context.spec.n_layers {
            let children: Vec<&[usize]> =
                runs.iter().flat_map(|run| context.tree.divide(run, index, partings)).collect();
            let rows = context.rows(index);
            self.dense += runs.len() as f64 * projections(context.spec, context.n, rows);
            self.attention += runs.len() as f64 * context.attention[index];
            self.dense += children.len() as f64 * rest_of_block(context.spec, rows);
            if children.len() > runs.len() {
                for children in even_parts(&children, context.size) {
                    self.add_stack(context, index + 1, children, partings + 1);
                }
                return;
            }
        }
    }

    /// The cost of this run and then another: work adds up, memory does not.
    #[must_use]
    pub fn and(self, then: Self) -> Self {
        Self {
            n_tokens: self.n_tokens + then.n_tokens,
            n_nodes: self.n_nodes + then.n_nodes,
            dense: self.dense + then.dense,
            attention: self.attention + then.attention,
            memory: self.memory.max(then.memory),
        }
    }

    /// Adds some layers of a plain run.
    fn add_plain(&mut self, spec: &ModelSpec, forest: &Forest, layers: Range<usize>) {
        let (n, nodes) = (forest.n_nodes(), everywhere(forest));
        for layer in layers {
            self.dense += projections(spec, n, n) + rest_of_block(spec, n);
            self.attention += attention(spec, layer, forest, &nodes);
        }
    }

    /// Seconds that the run takes at these rates.
    #[must_use]
    pub fn seconds(&self, rates: &Rates) -> f64 {
        self.dense / rates.dense + self.attention / rates.attention
    }
}

/// All nodes of a forest.
fn everywhere(forest: &Forest) -> Vec<u32> {
    (0..forest.n_nodes() as u32).collect()
}

/// Operations in one layer's products before attention: keys and values of `n` rows, queries of `n_queries`.
pub(crate) fn projections(spec: &ModelSpec, n: usize, n_queries: usize) -> f64 {
    (2 * spec.d_model * (2 * spec.d_kv() * n + spec.d_attn() * n_queries)) as f64
}

/// Operations in one layer's products after attention: `W_O` and the MLP of `n` rows.
pub(crate) fn rest_of_block(spec: &ModelSpec, n: usize) -> f64 {
    (2 * spec.d_model * spec.d_attn() * n) as f64 + mlp(spec, n)
}

/// Operations in the MLP's two products, or three with a gate, of `n` rows.
fn mlp(spec: &ModelSpec, n: usize) -> f64 {
    let products = if spec.gated_mlp { 3 } else { 2 };
    (2 * products * spec.d_model * spec.d_mlp * n) as f64
}

/// Operations in one layer's attention of these nodes' queries.
pub(crate) fn attention(spec: &ModelSpec, layer: usize, forest: &Forest, queries: &[u32]) -> f64 {
    let window = spec.windows[layer].unwrap_or(usize::MAX);
    let seen = |&node: &u32| (forest.positions()[node as usize] as usize + 1).min(window);
    4.0 * spec.d_attn() as f64 * queries.iter().map(seen).sum::<usize>() as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::intervention::Replacement;
    use cs_model::spec::BlockLayout;

    fn spec(block: BlockLayout) -> ModelSpec {
        ModelSpec {
            n_layers: 3,
            n_heads: 2,
            n_kv_heads: 2,
            d_model: 8,
            d_head: 4,
            d_mlp: 16,
            d_vocab: 10,
            d_embed: 8,
            n_ctx: 16,
            block,
            attn_scale: vec![0.5; 3],
            windows: vec![None, Some(2), None],
            ..ModelSpec::default()
        }
    }

    /// Two prompts that share two of three tokens: four nodes, two ends.
    fn prompts() -> Vec<Prompt> {
        [[1, 2, 3], [1, 2, 4]]
            .map(|tokens| Prompt { tokens: tokens.to_vec(), read: vec![5], weight: 1.0, ..Prompt::default() })
            .to_vec()
    }

    #[test]
    fn operations_are_those_of_the_formula() {
        let layer = |n: f64, e: f64| 4.0 * 8.0 * 8.0 * (n + e) + 4.0 * 8.0 * 16.0 * e;
        let (own, mlp) = (2.0 * 4.0 * 8.0, 4.0 * 8.0 * 16.0);
        // Contexts: 1, 2, 3, 3 tokens; at most 2 under the window.
        let (all, windowed, ends) = (9.0, 7.0, 6.0);
        let plain = 3.0 * layer(4.0, 4.0);
        let plain_attention = 4.0 * 8.0 * (all + windowed + all);
        let cost_of = |block, layers: &[usize]| {
            let branches: Vec<Branch> =
                layers.iter().map(|&l| Branch::ablate([(l, 1)], Replacement::Zero)).collect();
            cost(&spec(block), &prompts(), &branches, Options::default()).unwrap()
        };
        let none = cost_of(BlockLayout::Sequential, &[]);
        assert_eq!((none.n_tokens, none.n_nodes), (6, 4));
        assert_eq!((none.dense, none.attention), (plain, plain_attention));

        let first = cost_of(BlockLayout::Sequential, &[0]);
        assert_eq!(first.dense, plain + 4.0 * (own + mlp) + layer(4.0, 4.0) + layer(4.0, 2.0));
        assert_eq!(first.attention, plain_attention + 4.0 * 8.0 * (windowed + ends));
        // Equal branches are run once.
        let last = cost_of(BlockLayout::Sequential, &[2, 2]);
        assert_eq!((last.dense, last.attention), (plain + 2.0 * (own + mlp), plain_attention));
        // Two sets that part in the second layer: its projections and attention are shared, what follows is not.
        let sets = [vec![(0, 1)], vec![(0, 1), (1, 0)]].map(|heads| Branch::ablate(heads, Replacement::Zero));
        let parted = cost(&spec(BlockLayout::Sequential), &prompts(), &sets, Options::default()).unwrap();
        let shared = 3.0 * 2.0 * 8.0 * 8.0 * 4.0; // q, k and v of four nodes
        let expected = plain + 4.0 * (own + mlp) + 2.0 * layer(4.0, 4.0) - shared + 2.0 * layer(4.0, 2.0);
        assert_eq!(parted.dense, expected);
        assert_eq!(parted.attention, plain_attention + 4.0 * 8.0 * (windowed + 2.0 * ends));
        // As deep down as any: how often branches parted counts, not the layer at which they do.
        let deep = ModelSpec {
            n_layers: 9,
            attn_scale: vec![0.5; 9],
            windows: vec![None; 9],
            ..spec(BlockLayout::Sequential)
        };
        let sets = [vec![(6, 1)], vec![(6, 1), (8, 0)]].map(|heads| Branch::ablate(heads, Replacement::Zero));
        let parted = cost(&deep, &prompts(), &sets, Options::default()).unwrap();
        let shared_last = 2.0 * 8.0 * 8.0 * (2.0 * 4.0 + 2.0); // k and v of four nodes, q of two
        let expected =
            9.0 * layer(4.0, 4.0) + 4.0 * (own + mlp) + layer(4.0, 4.0) + 2.0 * layer(4.0, 2.0) - shared_last;
        assert_eq!(parted.dense, expected);
        assert_eq!(cost_of(BlockLayout::Parallel, &[2]).dense, plain + 2.0 * own);
        assert!(first.memory > 0 && first.memory < 1 << 30);
    }

    #[test]
    fn the_references_of_a_mean_are_run_too_up_to_the_last_layer_that_reads_it() {
        let spec = spec(BlockLayout::Sequential);
        let mut prompts = prompts();
        prompts.iter_mut().for_each(|p| p.references = Some(vec![vec![1, 2, 5]]));
        let cost_of = |layer, replacement| {
            cost(&spec, &prompts, &[Branch::ablate([(layer, 1)], replacement)], Options::default()).unwrap()
        };
        // One path of three nodes, whose contexts are 1, 2 and 3 tokens; in the second layer at most 2.
        let (dense, contexts) =
            (3.0 * (4.0 * 8.0 * 8.0 * 2.0 + 4.0 * 8.0 * 16.0), [6.0, 6.0 + 5.0, 6.0 + 5.0 + 6.0]);
        for (layer, contexts) in contexts.into_iter().enumerate() {
            let (mean, zero) = (cost_of(layer, Replacement::GroupMean), cost_of(layer, Replacement::Zero));
            assert_eq!(mean.dense - zero.dense, (layer + 1) as f64 * dense);
            assert_eq!(mean.attention - zero.attention, 4.0 * 8.0 * contexts);
        }
    }
}
