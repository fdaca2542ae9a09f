//! A machine that computes nothing and counts operations, to test the predictions of [`cost`](crate::cost).

use std::borrow::Cow;
use std::ops::ControlFlow;

use cs_model::spec::{BlockLayout, ModelSpec};
use proptest::prelude::*;

use super::{Child, Limits, Machine, Rows, Stage};
use crate::driver::Driver;
use crate::forest::Forest;
use crate::intervention::{Branch, Edit, Replacement, Stream};
use crate::machine::cpu;
use crate::plan::{self, Chunk};
use crate::request::{Options, Progress, Prompt, Reading, Receiver};

/// Counts the operations of every pass.
struct Counting<'a> {
    spec: &'a ModelSpec,
    dense: f64,
    attention: f64,
}

/// Runs in a stack.
struct Runs(usize);

impl Counting<'_> {
    fn product(&mut self, rows: usize, inputs: usize, outputs: usize) {
        self.dense += 2.0 * (rows * inputs * outputs) as f64;
    }

    fn mlp(&mut self, rows: usize) {
        (0..if self.spec.gated_mlp { 3 } else { 2 }).for_each(|_| {
            self.product(rows, self.spec.d_model, self.spec.d_mlp);
        });
    }

    /// `W_O` and the MLP.
    fn block(&mut self, rows: usize) {
        self.product(rows, self.spec.d_attn(), self.spec.d_model);
        self.mlp(rows);
    }

    /// Queries of some nodes, keys and values of all nodes, and attention of those queries; for each of
    /// `n_runs` runs.
    fn attention_of(&mut self, layer: usize, forest: &Forest, queries: Rows<'_>, n_runs: usize) {
        let (d_model, d_kv, d_attn) = (self.spec.d_model, self.spec.d_kv(), self.spec.d_attn());
        self.product(n_runs * forest.n_nodes(), d_model, 2 * d_kv);
        self.product(n_runs * queries.per_run(), d_model, d_attn);
        let mut path = Vec::new();
        for row in 0..queries.per_run() {
            forest.path_into(queries.node(row) as u32, self.spec.windows[layer], &mut path);
            // One multiply-add for the score and one for z, per coordinate and token attended to.
            self.attention += (n_runs * path.len() * 2 * 2 * d_attn) as f64;
        }
    }
}

impl Machine for Counting<'_> {
    type Plain = ();
    type Streams = ();
    type Stack = Runs;
    type Attended = ();

    fn limits(&self, branches: &[Branch], longest: usize) -> Limits {
        cpu::limits(self.spec, branches, longest)
    }

    fn embed(&mut self, _: &Forest) {}

    fn plain_layer(&mut self, layer: usize, forest: &Forest, (): &mut ()) {
        self.attention_of(layer, forest, Rows::All(forest.n_nodes()), 1);
        self.block(forest.n_nodes());
    }

    fn keep(&mut self, (): &(), _: bool) {}

    fn plain_z<'p>(&mut self, (): &'p ()) -> Cow<'p, [f32]> {
        Cow::Owned(vec![])
    }

    fn plain_qkv<'p>(&mut self, (): &'p ()) -> (Cow<'p, [f32]>, Cow<'p, [f32]>) {
        (Cow::Owned(vec![]), Cow::Owned(vec![]))
    }

    fn plain_resid<'p>(&mut self, (): &'p ()) -> Cow<'p, [f32]> {
        Cow::Owned(vec![])
    }

    fn plain_mid(&mut self, _: usize, (): &()) -> Option<Vec<f32>> {
        None
    }

    fn attributions(&mut self, _: usize, (): &(), _: &[u32], _: &[&[u32]]) -> Vec<Vec<f64>> {
        vec![]
    }

    fn start(&mut self, stage: Stage<'_, ()>, (): &(), runs: &[&[Edit]]) -> Runs {
        for edits in runs {
            let rows = stage.rows.per_run();
            self.product(rows, edits.len() * self.spec.d_head, self.spec.d_model);
            if !self.spec.block.is_parallel() {
                self.mlp(rows);
            }
        }
        Runs(runs.len())
    }

    fn advance(&mut self, stage: Stage<'_, ()>, stack: &mut Runs, runs: &[&[Edit]]) {
        self.attend(stage, stack, runs);
        self.block(runs.len() * stage.rows.per_run());
    }

    fn attend(&mut self, stage: Stage<'_, ()>, _: &Runs, runs: &[&[Edit]]) {
        self.attention_of(stage.layer, &stage.chunk.branch, stage.rows, runs.len());
    }

    fn rest(&mut self, stage: Stage<'_, ()>, _: (&Runs, &()), children: &[Child<'_>]) -> Runs {
        self.block(children.len() * stage.rows.per_run());
        Runs(children.len())
    }

    fn read(&mut self, _: &[Prompt], _: &Chunk, stack: &Runs) -> Vec<Vec<f64>> {
        vec![vec![]; stack.0]
    }

    fn read_plain(&mut self, _: &[Prompt], _: &Chunk, (): &()) -> Vec<f64> {
        vec![]
    }
}

struct Nobody;

impl Receiver for Nobody {
    fn reading(&mut self, _: Reading<'_>) {}

    fn progress(&mut self, _: Progress) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}

const N_LAYERS: usize = 5;
const N_HEADS: usize = 4;

fn spec(block: BlockLayout) -> ModelSpec {
    ModelSpec {
        n_layers: N_LAYERS,
        n_heads: N_HEADS,
        n_kv_heads: 2,
        d_model: 12,
        d_head: 4,
        d_mlp: 20,
        d_vocab: 8,
        d_embed: 12,
        n_ctx: 16,
        block,
        attn_scale: vec![0.5; N_LAYERS],
        windows: vec![None, Some(2), None, Some(3), None],
        ..ModelSpec::default()
    }
}

fn prompts() -> impl Strategy<Value = Vec<Prompt>> {
    let tokens = || prop::collection::vec(0u32..3, 4..7);
    prop::collection::vec((tokens(), tokens()), 1..8).prop_map(|drawn| {
        let prompt = |(tokens, mut source): (Vec<u32>, Vec<u32>)| {
            source.resize(tokens.len(), 1);
            Prompt { tokens, source: Some(source), weight: 1.0, read: vec![1], ..Prompt::default() }
        };
        drawn.into_iter().map(prompt).collect()
    })
}

/// Sets of heads ablated or resampled, or single heads patched.
fn branches() -> impl Strategy<Value = Vec<Branch>> {
    let heads = || prop::collection::btree_set((0..N_LAYERS, 0..N_HEADS), 1..5);
    (prop::collection::vec(heads(), 0..14), 0..3usize).prop_map(|(sets, kind)| {
        let branch = |heads: std::collections::BTreeSet<(usize, usize)>| match kind {
            0 => Branch::ablate(heads, Replacement::Zero),
            1 => Branch::ablate(heads, Replacement::Source),
            _ => Branch::patch(heads.into_iter().take(1), Stream::V, Replacement::Source),
        };
        sets.into_iter().map(branch).collect()
    })
}

proptest! {
    /// Ablated sets, resampled sets and patched heads, on prompts with common prefixes, with memory for all runs or only a
    /// few at a time.
    #[test]
    fn what_is_counted_is_what_is_run(
        prompts in prompts(), branches in branches(), parallel in any::<bool>(), memory in 0usize..40_000,
    ) {
        let spec = spec(if parallel { BlockLayout::Parallel } else { BlockLayout::Sequential });
        let mut machine = Counting { spec: &spec, dense: 0.0, attention: 0.0 };
        let limits = machine.limits(&branches, plan::longest(&prompts));
        let options = Options { memory: limits.scratch + 10_000 + memory };
        let Ok(chunks) = plan::chunks(&prompts, &branches, limits, options) else { return Ok(()) };
        let mut driver =
            Driver::new(&mut machine, spec.n_layers, &branches, None, (limits, options), &chunks);
        for chunk in &chunks {
            driver.run_chunk(&prompts, chunk, &mut Nobody).unwrap();
        }
        let counted = crate::cost(&spec, &prompts, &branches, options).unwrap();
        prop_assert_eq!((counted.dense, counted.attention), (machine.dense, machine.attention));
    }
}
