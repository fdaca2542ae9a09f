//! What runs a stack of rows through a layer.
//!
//! The [driver](crate::driver) cuts prompts into chunks and branches into stacks, divides runs, reports progress and hands
//! over readings; it knows no device. A [`Machine`] offers it passes over whole stacks, since a processor fuses operations
//! per tile of rows and a graphics card per kernel:
//!
//! ```text
//! plain run   embed ─► plain_layer ─► plain_layer ─► …                                        ─► read_plain
//!                          │ first edited layer
//! branches               start ─► advance ─► … ─► attend ─► rest ─► advance ─► … ─► attend ─► rest ─► read
//!                                                 (where runs divide)               (last layer: ends alone)
//! ```
//!
//! A row's numbers may depend on nothing but its own run, so that neither chunks nor stacks show in a result.
//!
//! The processor ([`cpu`]) computes branches in full, and needs the plain run's layer at a branch's start alone. The delta form
//! ([`delta`]: δ beside the plain run, for graphics cards) needs it in every layer: the plain run then goes to the end first
//! ([`Machine::READS_EVERY_LAYER`]), and every pass is handed what was kept of its layer in [`Stage::kept`].

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

/// One layer's way through a machine.
pub(crate) struct Stage<'a, S> {
    /// The layer.
    pub layer: usize,
    /// The prompts.
    pub chunk: &'a Chunk,
    /// The nodes whose output is wanted: all, or in the last layer those at which prompts end.
    pub rows: Rows<'a>,
    /// What was kept of the plain run in this layer: wherever an edit of a later layer than a branch's first reads it, or everywhere
    /// under [`Machine::READS_EVERY_LAYER`].
    pub kept: Option<&'a S>,
    /// Means, wherever an edit reads them.
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
    /// Which run of the stack it was.
    pub parent: usize,
    /// Its edits in that layer, in order of head.
    pub edits: &'a [Edit],
}

/// Passes over whole stacks. A run's edits in the layer are given as slices in order of head.
pub(crate) trait Machine {
    /// The plain run over a forest: the residual stream after the layers done, and the heads' streams in the last of them.
    type Plain;
    /// What is kept of the plain run's layer for branches that read it later.
    type Streams;
    /// The residual streams of runs over one forest, of all nodes, after the last layer of the ends alone.
    type Stack;
    /// What attention gives in one layer, `z` of the rows wanted.
    type Attended;

    /// Whether branches read the plain run in every layer from their first on. It is then run to the end before any branch starts.
    const READS_EVERY_LAYER: bool = false;

    /// What running `branches` takes, with prompts of up to `longest` tokens.
    fn limits(&self, branches: &[Branch], longest: usize) -> Limits;

    /// Bytes that activations may take.
    fn memory(&self, options: Options) -> usize {
        options.memory
    }

    /// Called before a chunk's branches are run.
    fn begin(&mut self, _chunk: &Chunk) {}

    /// What went wrong so far; asked before results are handed over. A device notices late, and what it gives until then means
    /// nothing.
    fn status(&mut self) -> Result<(), EngineError> {
        Ok(())
    }

    /// Residual streams before the first layer.
    fn embed(&mut self, forest: &Forest) -> Self::Plain;

    /// Runs one layer of the plain run.
    fn plain_layer(&mut self, layer: usize, forest: &Forest, plain: &mut Self::Plain);

    /// What later passes read of the last layer: `z`, and `q`, `k` and `v` where `all` are wanted.
    fn keep(&mut self, plain: &Self::Plain, all: bool) -> Self::Streams;

    /// `z` of the last layer. `[n_nodes, d_attn]`
    fn plain_z<'p>(&mut self, plain: &'p Self::Plain) -> Cow<'p, [f32]>;

    /// Queries `[n_nodes, d_attn]`, keys and values `[n_nodes, 2 * d_kv]` of the last layer.
    fn plain_qkv<'p>(&mut self, plain: &'p Self::Plain) -> (Cow<'p, [f32]>, Cow<'p, [f32]>);

    /// The residual stream after it. `[n_nodes, d_model]`
    fn plain_resid<'p>(&mut self, plain: &'p Self::Plain) -> Cow<'p, [f32]>;

    /// What the MLP of the last layer, which is `layer`, read before its norm; `None` in parallel blocks. `[n_nodes, d_model]`
    fn plain_mid(&mut self, layer: usize, plain: &Self::Plain) -> Option<Vec<f32>>;

    /// What the output of every head of the last layer, which is `layer`, adds at some nodes along the
    /// [directions](crate::direct::directions) of the tokens `read` there: `[n_heads]` of `[tokens read, node after node]`.
    fn attributions(
        &mut self,
        layer: usize,
        plain: &Self::Plain,
        nodes: &[u32],
        read: &[&[u32]],
    ) -> Vec<Vec<f64>>;

    /// Runs after their first edited layer, from the plain run that has just done it (or from what was kept of it).
    fn start(
        &mut self,
        stage: Stage<'_, Self::Streams>,
        plain: &Self::Plain,
        runs: &[&[Edit]],
    ) -> Self::Stack;

    /// One layer of a stack whose runs do not divide, all nodes being wanted.
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

    /// For each run of a stack that has done all layers, the logits of every prompt's tokens to read, end to end.
    fn read(&mut self, prompts: &[Prompt], chunk: &Chunk, stack: &Self::Stack) -> Vec<Vec<f64>>;

    /// The same for the plain run.
    fn read_plain(&mut self, prompts: &[Prompt], chunk: &Chunk, plain: &Self::Plain) -> Vec<f64>;
}

/// Bytes that a machine takes, and the rows that keep it busy.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// For each node of the plain run's forest.
    pub plain_node: usize,
    /// For each node of the branches' forest, in each run of a stack.
    pub run_node: usize,
    /// For each last token, in each run of a stack.
    pub run_end: usize,
    /// Scratch beside all of these.
    pub scratch: usize,
    /// Rows of a stack beyond which nothing is gained.
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

    /// Bytes taken at the peak, beside the weights, with so many runs in a stack.
    pub fn bytes(&self, chunk: &Chunk, n_runs: usize) -> usize {
        self.scratch + self.plain_node * chunk.base.n_nodes() + self.per_run(chunk) * n_runs
    }

    fn per_run(&self, chunk: &Chunk) -> usize {
        self.run_node * chunk.branch.n_nodes() + self.run_end * chunk.ends.len()
    }
}
