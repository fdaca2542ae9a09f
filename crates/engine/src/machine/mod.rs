//! Runs a stack of rows through a layer.
//!
//! The [driver](crate::driver) splits prompts into chunks and branches into stacks, divides runs, reports progress and
//! returns readings, independently of the device. A [`Machine`] gives it passes over whole stacks, since a CPU fuses
//! operations per tile of rows and a GPU per kernel:
//!
//! ```text
//! plain run   embed ─► plain_layer ─► plain_layer ─► …                                        ─► read_plain
//!                          │ first edited layer
//! branches               start ─► advance ─► … ─► attend ─► rest ─► advance ─► … ─► attend ─► rest ─► read
//!                                                 (if runs divide)                  (last layer: only ends)
//! ```
//!
//! A row's values may depend only on its own run, so that results do not depend on chunks and stacks.
//!
//! The CPU ([`cpu`]) computes branches in full, and needs the plain run only at a branch's first layer. The delta form
//! ([`delta`]: differences δ from the plain run, for GPUs) needs it in every layer: the plain run is then computed to the end
//! first ([`Machine::READS_EVERY_LAYER`]), and every pass finds its layer's streams in [`Stage::kept`].

#[cfg(test)]
mod counting;
pub(crate) mod cpu;
pub(crate) mod delta;
pub(crate) mod place;
mod rows;
pub(crate) mod trial;

use std::borrow::Cow;

use crate::error::EngineError;
use crate::forest::Forest;
use crate::intervention::{Branch, Edit};
use crate::means::GroupMeans;
use crate::plan::Chunk;
use crate::request::{Options, Prompt};
pub(crate) use rows::{Rows, row};

/// Inputs of a pass through one layer.
pub(crate) struct Stage<'a, S> {
    /// The layer.
    pub layer: usize,
    /// The prompts.
    pub chunk: &'a Chunk,
    /// The nodes whose output is needed: all, or in the last layer those at which prompts end.
    pub rows: Rows<'a>,
    /// The plain run's kept streams in this layer: kept if an edit reads them after its branch's first layer, or always with
    /// [`Machine::READS_EVERY_LAYER`].
    pub kept: Option<&'a S>,
    /// Means, if an edit reads them.
    pub means: Option<&'a GroupMeans>,
}

impl<S> Clone for Stage<'_, S> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<S> Copy for Stage<'_, S> {}

/// A run after a layer at which runs may divide.
#[derive(Clone, Copy)]
pub(crate) struct Child<'a> {
    /// The run of the stack that it comes from.
    pub parent: usize,
    /// Its edits in that layer, in order of head.
    pub edits: &'a [Edit],
}

/// Passes over whole stacks. A run's edits in the layer are given as slices in order of head.
pub(crate) trait Machine {
    /// The plain run over a forest: the residual stream after the layers computed so far, and the heads' streams in the
    /// last of them.
    type Plain;
    /// The plain run's streams in a layer, kept for branches that read them later.
    type Streams;
    /// The residual streams of runs over one forest: of all nodes, or after the last layer only of the
    /// prompts' ends.
    type Stack;
    /// Attention's result in one layer: `z` of the needed rows.
    type Attended;

    /// Whether branches read the plain run in every layer from their first on. If so, it is run to the end before any branch
    /// starts.
    const READS_EVERY_LAYER: bool = false;

    /// The limits for running `branches` on prompts of at most `longest` tokens.
    fn limits(&self, branches: &[Branch], longest: usize) -> Limits;

    /// Memory for activations, in bytes.
    fn memory(&self, options: Options) -> usize {
        options.memory
    }

    /// Called before a chunk's branches are run.
    fn begin(&mut self, _chunk: &Chunk) {}

    /// Any error so far; checked before results are returned. A device reports errors late, and results before the check are
    /// not valid.
    fn status(&mut self) -> Result<(), EngineError> {
        Ok(())
    }

    /// Residual streams before the first layer.
    fn embed(&mut self, forest: &Forest) -> Self::Plain;

    /// Runs one layer of the plain run.
    fn plain_layer(&mut self, layer: usize, forest: &Forest, plain: &mut Self::Plain);

    /// The streams of the last layer that later passes read: `z`, and `q`, `k` and `v` if `all`.
    fn keep(&mut self, plain: &Self::Plain, all: bool) -> Self::Streams;

    /// `z` of the last layer. `[n_nodes, d_attn]`
    fn plain_z<'p>(&mut self, plain: &'p Self::Plain) -> Cow<'p, [f32]>;

    /// Queries `[n_nodes, d_attn]`, keys and values `[n_nodes, 2 * d_kv]` of the last layer.
    fn plain_qkv<'p>(&mut self, plain: &'p Self::Plain) -> (Cow<'p, [f32]>, Cow<'p, [f32]>);

    /// The residual stream after it. `[n_nodes, d_model]`
    fn plain_resid<'p>(&mut self, plain: &'p Self::Plain) -> Cow<'p, [f32]>;

    /// `resid_mid` of the last layer, which is `layer`; `None` in parallel blocks. `[n_nodes, d_model]`
    fn plain_mid(&mut self, layer: usize, plain: &Self::Plain) -> Option<Vec<f32>>;

    /// The projection of the output of every head of the last layer, which is `layer`, at some nodes onto the
    /// [directions](crate::direct::directions) of the tokens `read` there: `[n_heads]` of `[tokens read, node after node]`.
    fn attributions(
        &mut self,
        layer: usize,
        plain: &Self::Plain,
        nodes: &[u32],
        read: &[&[u32]],
    ) -> Vec<Vec<f64>>;

    /// Runs after their first edited layer, from the plain run that has just computed it (or from its kept
    /// streams).
    fn start(
        &mut self,
        stage: Stage<'_, Self::Streams>,
        plain: &Self::Plain,
        runs: &[&[Edit]],
    ) -> Self::Stack;

    /// One layer of a stack whose runs do not divide, for all nodes.
    fn advance(&mut self, stage: Stage<'_, Self::Streams>, stack: &mut Self::Stack, runs: &[&[Edit]]);

    /// The first half of a layer: norm, `q k v`, edits of what attention reads, attention.
    fn attend(
        &mut self,
        stage: Stage<'_, Self::Streams>,
        stack: &Self::Stack,
        runs: &[&[Edit]],
    ) -> Self::Attended;

    /// The second half for some children of the stack: edits of `z`, `W_O`, MLP.
    fn rest(
        &mut self,
        stage: Stage<'_, Self::Streams>,
        parents: (&Self::Stack, &Self::Attended),
        children: &[Child<'_>],
    ) -> Self::Stack;

    /// For each run of a stack after all layers, the logits of every prompt's tokens to read, concatenated.
    fn read(&mut self, prompts: &[Prompt], chunk: &Chunk, stack: &Self::Stack) -> Vec<Vec<f64>>;

    /// The same for the plain run.
    fn read_plain(&mut self, prompts: &[Prompt], chunk: &Chunk, plain: &Self::Plain) -> Vec<f64>;
}

/// Memory needs of a machine, in bytes, and the rows that keep it busy.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// For each node of the plain run's forest.
    pub plain_node: usize,
    /// For each node of the branches' forest, in each run of a stack.
    pub run_node: usize,
    /// For each last token, in each run of a stack.
    pub run_end: usize,
    /// Scratch memory in addition.
    pub scratch: usize,
    /// Rows of a stack beyond which more rows bring no speedup.
    pub enough_rows: usize,
}

impl Limits {
    /// How many runs to stack: as many as fit into memory, but no more rows than keep the machine busy.
    pub fn stack_size(&self, chunk: &Chunk, memory: usize) -> usize {
        let n_nodes = chunk.branch.n_nodes();
        let taken = self.scratch + self.plain_node * chunk.base.n_nodes();
        let fits = memory.saturating_sub(taken) / self.per_run(chunk);
        fits.min(self.enough_rows.div_ceil(n_nodes)).max(1)
    }

    /// Peak memory without the weights, in bytes, with this many runs in a stack.
    pub fn bytes(&self, chunk: &Chunk, n_runs: usize) -> usize {
        self.scratch + self.plain_node * chunk.base.n_nodes() + self.per_run(chunk) * n_runs
    }

    fn per_run(&self, chunk: &Chunk) -> usize {
        self.run_node * chunk.branch.n_nodes() + self.run_end * chunk.ends.len()
    }
}
