//! Runs branches from the plain run's state at their first edited layer to their logits.
//!
//! A stack of runs goes through the layers together. Each run represents all branches that have not diverged yet (see
//! [`tree`](crate::tree)); when runs divide, the stack keeps its state while its children are run to the end, as many at a
//! time as fit in a stack. The computation itself is a [`Machine`]'s.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use crate::error::EngineError;
use crate::intervention::{Branch, Edit};
use crate::machine::{Child, Limits, Machine, Rows, Stage};
use crate::means::GroupMeans;
use crate::plan::Chunk;
use crate::request::{Options, Progress, Prompt, Reading, Receiver};
use crate::tree::Tree;

/// Runs all branches over one chunk of prompts after another.
pub(crate) struct Driver<'a, M> {
    machine: &'a mut M,
    n_layers: usize,
    branches: &'a [Branch],
    tree: Tree<'a>,
    by_first_layer: BTreeMap<usize, Vec<usize>>,
    means: Option<&'a GroupMeans>,
    limits: Limits,
    memory: usize,
    progress: Progress,
}

/// What all stacks with the same first edited layer share.
struct Context<'w, S> {
    prompts: &'w [Prompt],
    chunk: &'w Chunk,
    /// The plain run's kept streams, by layer.
    kept: &'w BTreeMap<usize, S>,
    first_layer: usize,
    /// Maximum number of runs in a stack.
    size: usize,
}

/// Some runs at one layer.
struct Stack<'w, R> {
    /// The branches of each run.
    runs: Vec<&'w [usize]>,
    /// How often they have diverged from others.
    partings: usize,
    /// Their residual streams.
    resid: R,
}

impl<'a, M: Machine> Driver<'a, M> {
    pub fn new(
        machine: &'a mut M,
        n_layers: usize,
        branches: &'a [Branch],
        means: Option<&'a GroupMeans>,
        (limits, options): (Limits, Options),
        chunks: &[Chunk],
    ) -> Self {
        let tree = Tree::new(branches);
        let by_first_layer = tree.by_first_layer();
        let total = |chunk| -> u64 {
            let of_layer =
                |(&layer, branches): (&usize, &Vec<usize>)| work(chunk, n_layers, layer, branches.len());
            by_first_layer.iter().map(of_layer).sum()
        };
        let progress = Progress { done: 0, total: chunks.iter().map(total).sum() };
        let memory = options.memory;
        Self { machine, n_layers, branches, tree, by_first_layer, means, limits, memory, progress }
    }

    pub fn run_chunk(
        &mut self,
        prompts: &[Prompt],
        chunk: &Chunk,
        receiver: &mut dyn Receiver,
    ) -> Result<(), EngineError> {
        let size = self.limits.stack_size(chunk, self.memory);
        let by_first_layer = std::mem::take(&mut self.by_first_layer);
        self.machine.begin(chunk);
        let (kept, mut plain) = if M::READS_EVERY_LAYER {
            let first = by_first_layer.first_key_value().map_or(usize::MAX, |(&layer, _)| layer);
            self.run_to_the_end(chunk, first)
        } else {
            (self.keep(chunk), self.machine.embed(&chunk.base))
        };
        for layer in 0..self.n_layers {
            if !M::READS_EVERY_LAYER {
                self.machine.plain_layer(layer, &chunk.base, &mut plain);
            }
            let starting = by_first_layer.get(&layer).map_or(&[][..], Vec::as_slice);
            let (known, todo): (Vec<usize>, Vec<usize>) =
                starting.iter().partition(|&&b| receiver.is_known(b, &chunk.prompts));
            self.advance_progress(chunk, layer, known.len(), receiver)?;
            let context = Context { prompts, chunk, kept: &kept, first_layer: layer, size };
            let runs: Vec<&[usize]> = self.tree.divide(&todo, layer, 0).collect();
            for runs in even_parts(&runs, size) {
                let edits: Vec<&[Edit]> = runs.iter().map(|run| self.edits(run, layer)).collect();
                let resid = self.machine.start(self.stage(&context, layer), &plain, &edits);
                let stack = Stack { runs: runs.to_vec(), partings: 0, resid };
                self.finish(&context, layer + 1, stack, receiver)?;
            }
        }
        self.by_first_layer = by_first_layer;

        let logits = self.machine.read_plain(prompts, chunk, &plain);
        self.machine.status()?;
        // A branch without edits has the plain run's logits.
        let unedited = self.by_first_layer.get(&usize::MAX).map_or(&[][..], Vec::as_slice);
        for branch in std::iter::once(None).chain(unedited.iter().copied().map(Some)) {
            receiver.reading(Reading { branch, prompts: &chunk.prompts, logits: &logits });
        }
        Ok(())
    }

    /// The plain run through all layers, and its kept streams from `first` on.
    fn run_to_the_end(&mut self, chunk: &Chunk, first: usize) -> (BTreeMap<usize, M::Streams>, M::Plain) {
        let (mut kept, mut plain) = (BTreeMap::new(), self.machine.embed(&chunk.base));
        for layer in 0..self.n_layers {
            self.machine.plain_layer(layer, &chunk.base, &mut plain);
            if layer >= first {
                kept.insert(layer, self.machine.keep(&plain, true));
            }
        }
        (kept, plain)
    }

    /// The plain run's streams in the layers after their first edited one where branches read them.
    fn keep(&mut self, chunk: &Chunk) -> BTreeMap<usize, M::Streams> {
        let layers = self.tree.sources_read_later();
        let mut kept = BTreeMap::new();
        let Some((&last, _)) = layers.last_key_value() else { return kept };
        let mut plain = self.machine.embed(&chunk.base);
        for layer in 0..=last {
            self.machine.plain_layer(layer, &chunk.base, &mut plain);
            if let Some(&all) = layers.get(&layer) {
                kept.insert(layer, self.machine.keep(&plain, all));
            }
        }
        kept
    }

    /// Runs a stack from `layer` to the end, and passes its logits to the receiver.
    fn finish(
        &mut self,
        context: &Context<'_, M::Streams>,
        layer: usize,
        mut stack: Stack<'_, M::Stack>,
        receiver: &mut dyn Receiver,
    ) -> Result<(), EngineError> {
        for layer in layer..self.n_layers {
            self.report(receiver)?;
            let (stage, is_last) = (self.stage(context, layer), layer + 1 == self.n_layers);
            let edits: Vec<&[Edit]> = stack.runs.iter().map(|run| self.edits(run, layer)).collect();
            let children: Vec<(usize, &[usize])> = (stack.runs.iter().enumerate())
                .flat_map(|(parent, run)| {
                    self.tree.divide(run, layer, stack.partings).map(move |child| (parent, child))
                })
                .collect();
            let parts = children.len() > stack.runs.len();
            if !parts && !is_last {
                self.machine.advance(stage, &mut stack.resid, &edits);
                continue;
            }
            let attended = self.machine.attend(stage, &stack.resid, &edits);
            for children in even_parts(&children, context.size) {
                let child =
                    |&(parent, run): &(usize, &[usize])| Child { parent, edits: self.edits(run, layer) };
                let edited: Vec<Child> = children.iter().map(child).collect();
                let resid = self.machine.rest(stage, (&stack.resid, &attended), &edited);
                let runs = children.iter().map(|&(_, run)| run).collect();
                let divided = Stack { runs, partings: stack.partings + usize::from(parts), resid };
                self.finish(context, layer + 1, divided, receiver)?;
            }
            return Ok(());
        }

        let logits = self.machine.read(context.prompts, context.chunk, &stack.resid);
        self.machine.status()?;
        for (run, logits) in stack.runs.iter().zip(&logits) {
            for &branch in *run {
                receiver.reading(Reading { branch: Some(branch), prompts: &context.chunk.prompts, logits });
            }
        }
        let n_branches = stack.runs.iter().map(|run| run.len()).sum();
        self.advance_progress(context.chunk, context.first_layer, n_branches, receiver)
    }

    fn stage<'s>(&self, context: &Context<'s, M::Streams>, layer: usize) -> Stage<'s, M::Streams>
    where
        'a: 's,
    {
        let (chunk, kept, means) = (context.chunk, context.kept.get(&layer), self.means);
        let is_last = layer + 1 == self.n_layers;
        let rows = if is_last { Rows::Some(&chunk.ends) } else { Rows::All(chunk.branch.n_nodes()) };
        Stage { layer, chunk, rows, kept, means }
    }

    /// The edits of a run at a layer: those of its first branch; branches with other edits diverge there.
    fn edits(&self, run: &[usize], layer: usize) -> &'a [Edit] {
        self.branches[run[0]].at_layer(layer)
    }

    fn advance_progress(
        &mut self,
        chunk: &Chunk,
        layer: usize,
        n_branches: usize,
        receiver: &mut dyn Receiver,
    ) -> Result<(), EngineError> {
        self.progress.done += work(chunk, self.n_layers, layer, n_branches);
        if n_branches == 0 { Ok(()) } else { self.report(receiver) }
    }

    /// Reports progress, and stops the run if the receiver asks to.
    fn report(&self, receiver: &mut dyn Receiver) -> Result<(), EngineError> {
        match receiver.progress(self.progress) {
            ControlFlow::Break(()) => Err(EngineError::Stopped),
            ControlFlow::Continue(()) => Ok(()),
        }
    }
}

/// Branch-layer-nodes of branches that start at `first`.
fn work(chunk: &Chunk, n_layers: usize, first: usize, n_branches: usize) -> u64 {
    (n_layers.saturating_sub(first) * n_branches) as u64 * chunk.branch.n_nodes() as u64
}

/// Splits `items` into as few parts of at most `size` as possible, of about equal size.
pub(crate) fn even_parts<T>(items: &[T], size: usize) -> impl Iterator<Item = &[T]> {
    let n_parts = items.len().div_ceil(size).max(1);
    items.chunks(items.len().div_ceil(n_parts).max(1))
}
