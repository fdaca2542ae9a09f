//! Measures the speed of this machine's devices on the operations of models.

use std::hint::black_box;
use std::time::{Duration, Instant};

use cs_kernels::{Init, KeyValues, MatMut, MatRef, PackedMatrix, PathAttention, ScoreRule, matmul};
use cs_model::spec::{ModelSpec, Positions, Rotary};
use half::{bf16, f16};

use crate::cost;
use crate::decoder::Decoder;
use crate::device::{Compute, Device};
use crate::error::EngineError;
use crate::intervention::{Branch, Edit, Replacement};
use crate::machine::cpu::{TILE, activate, activate_gate, mlp_block, norm};
use crate::machine::place::{Job, carry_out};
use crate::machine::{Machine, Rows, Stage};
use crate::plan;
use crate::request::{Options, Prompt};
use crate::weights::{Norm, Weights};

#[cfg(doc)]
use crate::machine::cpu;

/// The half-precision type of most of a checkpoint's weights, if any: others need more half-precision
/// products.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Halves {
    /// float32 or float64.
    None,
    /// float16
    F16,
    /// bfloat16
    Bf16,
}

/// Floating-point operations per second: of all threads of the current pool, or of all GPUs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rates {
    /// In matrix products of the model's shape, including the activation function between them.
    pub dense: f64,
    /// In attention over a few dozen nodes.
    pub attention: f64,
}

impl Rates {
    /// Measures the CPU for a model's widths in about `budget`, on random numbers.
    #[must_use]
    pub fn measure(spec: &ModelSpec, budget: Duration) -> Self {
        Self { dense: dense_rate(spec, budget * 3 / 4), attention: attention_rate(spec, budget / 4) }
    }

    /// Measures a device: on a GPU, branches run through one layer with the model's widths and random weights, as many at a time
    /// as keep the GPU busy within `budget`.
    ///
    /// # Errors
    /// If the device cannot hold the layer, or fails.
    pub fn measure_on(
        compute: &Compute,
        spec: &ModelSpec,
        halves: Halves,
        budget: Duration,
    ) -> Result<Self, EngineError> {
        let n_devices = match compute.device() {
            Device::Cpu => return Ok(Self::measure(spec, budget)),
            Device::Delta => 1,
            Device::Cuda(cards) => cards.len(),
        };
        let stored: fn(f32) -> f32 = match halves {
            Halves::None => |x| x,
            Halves::F16 => |x| f16::from_f32(x).to_f32(),
            Halves::Bf16 => |x| bf16::from_f32(x).to_f32(),
        };
        let spec = one_layer(spec);
        let first = compute.first();
        let decoder = Decoder::new(spec.clone(), Weights::random(&spec, stored)).on(&first)?;
        let one = carry_out(&decoder, OneLayer { spec: &spec, budget })?;
        // GPUs of the same model take equal shares.
        Ok(Self { dense: one.dense * n_devices as f64, attention: one.attention * n_devices as f64 })
    }
}

/// A model's spec with only its first layer and a small vocabulary.
fn one_layer(spec: &ModelSpec) -> ModelSpec {
    let positions = match &spec.positions {
        Positions::Rotary(rotary) => {
            Positions::Rotary(Rotary { of_layer: rotary.of_layer[..1].to_vec(), ..rotary.clone() })
        }
        learned => learned.clone(),
    };
    ModelSpec {
        n_layers: 1,
        attn_scale: spec.attn_scale[..1].to_vec(),
        windows: vec![None],
        positions,
        n_ctx: spec.n_ctx.min(LONG),
        d_vocab: N_TOKENS,
        d_embed: spec.d_model,
        tied_unembed: true,
        ..spec.clone()
    }
}

/// Tokens of the longest prompts that are timed, and of usual ones; of each, those that are its own.
const LONG: usize = 96;
const USUAL: usize = 20;
const OWN: usize = 8;
/// Number of timed prompts.
const N_PROMPTS: usize = 32;
const N_TOKENS: usize = N_PROMPTS + 1;

/// One layer, timed on a machine.
struct OneLayer<'a> {
    spec: &'a ModelSpec,
    budget: Duration,
}

/// Operations in products and in attention of one pass, and its time in seconds.
struct Timed {
    dense: f64,
    attention: f64,
    seconds: f64,
}

impl Job for OneLayer<'_> {
    type Output = Rates;

    /// From prompts of two lengths, of as many tokens: what the longer ones take more is attention's.
    fn run<M: Machine>(self, machine: &mut M) -> Result<Self::Output, EngineError> {
        let n_ctx = self.spec.n_ctx;
        let usual = self.time(machine, USUAL.min(n_ctx))?;
        let alone = |timed: &Timed| Rates { dense: timed.dense / timed.seconds, attention: f64::INFINITY };
        if n_ctx <= USUAL {
            return Ok(alone(&usual));
        }
        let long = self.time(machine, LONG.min(n_ctx))?;
        let per_token = |timed: &Timed| timed.seconds / timed.dense;
        let more = per_token(&long) - per_token(&usual);
        // Attention per operation of products, which is what the two differ in.
        let share = |timed: &Timed| timed.attention / timed.dense;
        let attention = (share(&long) - share(&usual)) / more;
        let left = per_token(&usual) - share(&usual) / attention;
        if more <= 0.0 || left <= 0.0 {
            return Ok(alone(&usual));
        }
        Ok(Rates { dense: 1.0 / left, attention })
    }
}

impl OneLayer<'_> {
    /// Times passes of branches over prompts of so many tokens.
    fn time<M: Machine>(&self, machine: &mut M, length: usize) -> Result<Timed, EngineError> {
        let own = OWN.min(length - 1);
        let tokens = |prompt: u32| -> Vec<u32> {
            let ends = std::iter::repeat_n(1 + prompt, own);
            std::iter::repeat_n(0, length - own).chain(ends).collect()
        };
        let prompt = |p| Prompt { tokens: tokens(p), weight: 1.0, ..Prompt::default() };
        let prompts: Vec<Prompt> = (0..N_PROMPTS as u32).map(prompt).collect();
        let branches = [Branch::ablate([(0, 0)], Replacement::Zero)];
        let options = Options { memory: machine.memory(Options::default()) };
        let limits = machine.limits(&branches, length);
        let chunk = plan::chunks(&prompts, &branches, limits, options)?.swap_remove(0);
        machine.begin(&chunk);
        let mut plain = machine.embed(&chunk.base);
        machine.plain_layer(0, &chunk.base, &mut plain);
        let kept = machine.keep(&plain, true);
        let n = chunk.branch.n_nodes();
        let stage = Stage { layer: 0, chunk: &chunk, rows: Rows::All(n), kept: Some(&kept), means: None };
        // The first pass loads kernels and allocates memory.
        let enough = limits.stack_size(&chunk, options.memory);
        let mut n_runs = 1;
        self.pass(machine, (stage, &plain), &branches, (n_runs, 1))?;
        let budget = self.budget / 2;
        let (mut passes, mut seconds) = (1, self.pass(machine, (stage, &plain), &branches, (n_runs, 1))?);
        while n_runs < enough && 8.0 * seconds < budget.as_secs_f64() {
            n_runs = (4 * n_runs).min(enough);
            seconds = self.pass(machine, (stage, &plain), &branches, (n_runs, 1))?;
        }
        if 2.0 * seconds < budget.as_secs_f64() {
            passes = ((budget.as_secs_f64() / seconds / 2.0) as usize).clamp(1, 50);
            seconds = self.pass(machine, (stage, &plain), &branches, (n_runs, passes))?;
        }
        let all: Vec<u32> = (0..n as u32).collect();
        let times = (n_runs * passes) as f64;
        Ok(Timed {
            dense: times * (cost::projections(self.spec, n, n) + cost::rest_of_block(self.spec, n)),
            attention: times * cost::attention(self.spec, 0, &chunk.branch, &all),
            seconds,
        })
    }

    /// Time of some passes of some runs, from the start of branches, in seconds.
    fn pass<M: Machine>(
        &self,
        machine: &mut M,
        (stage, plain): (Stage<'_, M::Streams>, &M::Plain),
        branches: &[Branch],
        (n_runs, passes): (usize, usize),
    ) -> Result<f64, EngineError> {
        let (edits, none): (Vec<&[Edit]>, Vec<&[Edit]>) =
            (vec![branches[0].at_layer(0); n_runs], vec![&[]; n_runs]);
        let mut stack = machine.start(stage, plain, &edits);
        machine.status()?;
        let start = Instant::now();
        (0..passes).for_each(|_| machine.advance(stage, &mut stack, &none));
        machine.status()?;
        Ok(start.elapsed().as_secs_f64())
    }
}

/// A cheap number that does not overflow anything.
fn some_float(i: usize) -> f32 {
    (i % 251) as f32 / 125.5 - 1.0
}

/// Repeats `work`, which returns its number of operations, on every thread until `budget` is spent; returns
/// operations per second.
fn rate(budget: Duration, work: impl Fn(&mut Vec<f32>) -> f64 + Sync) -> f64 {
    let rates = rayon::broadcast(|_| {
        let mut scratch = Vec::new();
        work(&mut scratch); // the first call allocates memory
        let start = Instant::now();
        let mut done = 0.0;
        while done == 0.0 || start.elapsed() < budget {
            done += work(&mut scratch);
        }
        done / start.elapsed().as_secs_f64()
    });
    rates.into_iter().sum()
}

/// The MLP of one layer on full tiles, as run by [`cpu::Layer`], including its norm and residual addition; for
/// models without MLPs, `W_O`.
fn dense_rate(spec: &ModelSpec, budget: Duration) -> f64 {
    let mlp = SomeMlp::new(spec);
    rate(budget, |scratch| mlp.run(scratch))
}

/// An MLP whose products are of order 1, as in a model: activation functions of much larger values give subnormal numbers,
/// which are slow.
struct SomeMlp<'a> {
    spec: &'a ModelSpec,
    d_hidden: usize,
    gain: Norm,
    w_in: PackedMatrix,
    w_gate: Option<PackedMatrix>,
    w_out: PackedMatrix,
}

impl<'a> SomeMlp<'a> {
    fn new(spec: &'a ModelSpec) -> Self {
        let (d_model, d_hidden) = (spec.d_model, if spec.d_mlp > 0 { spec.d_mlp } else { spec.d_attn() });
        let weights = |inputs: usize, outputs: usize| {
            let scale = (inputs as f32).sqrt().recip();
            PackedMatrix::pack_rows(inputs, outputs, |row, out: &mut [f32]| {
                out.iter_mut().enumerate().for_each(|(i, x)| *x = scale * some_float(row * 97 + i));
            })
        };
        Self {
            spec,
            d_hidden,
            gain: Norm { weight: Some(vec![1.0; d_model]), bias: None },
            w_in: weights(d_model, d_hidden),
            w_gate: spec.gated_mlp.then(|| weights(d_model, d_hidden)),
            w_out: weights(d_hidden, d_model),
        }
    }

    /// Runs one tile of rows and returns its operations. The contents of `scratch` are not reused.
    fn run(&self, scratch: &mut Vec<f32>) -> f64 {
        let (spec, d_model, d_hidden) = (self.spec, self.spec.d_model, self.d_hidden);
        let block = mlp_block(spec);
        let (n_x, n_hidden) = (TILE * d_model, TILE * block.min(d_hidden));
        if scratch.is_empty() {
            scratch.extend((0..3 * n_x + 2 * n_hidden).map(some_float));
        }
        let (resid, rest) = scratch.split_at_mut(n_x);
        let (x, rest) = rest.split_at_mut(n_x);
        let (normed, rest) = rest.split_at_mut(n_x);
        let (hidden, up) = rest.split_at_mut(n_hidden);
        x.copy_from_slice(resid);
        norm(spec, &self.gain, x, normed);
        for from in (0..d_hidden).step_by(block) {
            let columns = from..d_hidden.min(from + block);
            let width = columns.len();
            let (hidden, up) = (&mut hidden[..TILE * width], &mut up[..TILE * width]);
            let product = |w: &PackedMatrix, out: &mut [f32]| {
                let (input, into) = (MatRef::new(normed, TILE, d_model), MatMut::new(out, TILE, width));
                matmul(input, w.block(0..d_model, columns.clone()), into, Init::Zero);
            };
            product(&self.w_in, hidden);
            match &self.w_gate {
                None => activate(spec.activation, hidden),
                Some(w_gate) => {
                    product(w_gate, up);
                    activate_gate(spec.activation, hidden, up);
                }
            }
            let w_out = self.w_out.block(columns, 0..d_model);
            let (hidden, into) = (MatRef::new(hidden, TILE, width), MatMut::new(x, TILE, d_model));
            matmul(hidden, w_out, into, Init::Accumulate);
        }
        black_box(&x[0]);
        let n_products = if spec.gated_mlp { 3 } else { 2 };
        (2 * n_products * TILE * d_model * d_hidden) as f64
    }
}

/// Attention of every head of the last few nodes of paths of length 20, as in prompts with a common prefix.
fn attention_rate(spec: &ModelSpec, budget: Duration) -> f64 {
    const LEN: usize = 20;
    const OWN: usize = 8;
    let (d_attn, d_kv, n_paths) = (spec.d_attn(), spec.d_kv(), 16);
    let kv: Vec<f32> = (0..2 * d_kv * (LEN + n_paths * OWN)).map(some_float).collect();
    let kv = KeyValues { data: &kv, stride: 2 * d_kv, key: 0, value: d_kv };
    let rule = ScoreRule { scale: 0.1, softcap: spec.attn_softcap };
    rate(budget, |scratch| {
        scratch.resize(2 * d_attn * OWN, 0.5);
        let (q, z) = scratch.split_at_mut(d_attn * OWN);
        let mut attention = PathAttention::new(spec.n_heads, spec.n_kv_heads, spec.d_head);
        for path in 0..n_paths {
            let own = (LEN + path * OWN) as u32;
            let nodes: Vec<u32> = (0..(LEN - OWN) as u32).chain(own..own + OWN as u32).collect();
            for first in (0..OWN).step_by(PathAttention::QUERIES) {
                let end = first + PathAttention::QUERIES;
                let rows = first * d_attn..end * d_attn;
                let q = MatRef::new(&q[rows.clone()], PathAttention::QUERIES, d_attn);
                let z = MatMut::new(&mut z[rows], PathAttention::QUERIES, d_attn);
                attention.attend(q, kv, &nodes[..LEN - OWN + end], None, rule, z);
            }
        }
        black_box(&z[0]);
        (4 * d_attn * n_paths * (LEN - OWN + 1..=LEN).sum::<usize>()) as f64
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use cs_model::spec::Activation;

    fn spec(d_model: usize, d_mlp: usize, gated_mlp: bool, activation: Activation) -> ModelSpec {
        let (n_heads, d_head) = (2, d_model / 2);
        ModelSpec {
            n_layers: 1,
            n_heads,
            n_kv_heads: n_heads,
            d_model,
            d_head,
            d_mlp,
            gated_mlp,
            activation,
            attn_scale: vec![0.5],
            windows: vec![None],
            ..ModelSpec::default()
        }
    }

    /// Otherwise, subnormal numbers would be timed, which do not occur in models.
    #[test]
    fn what_is_timed_is_of_a_models_size() {
        for activation in [Activation::GeluErf, Activation::GeluTanh, Activation::Relu, Activation::Silu] {
            for (d_model, d_mlp, gated_mlp) in [(64, 256, false), (96, 200, true), (768, 3072, false)] {
                let spec = spec(d_model, d_mlp, gated_mlp, activation);
                let (mlp, mut scratch) = (SomeMlp::new(&spec), vec![]);
                for _ in 0..3 {
                    mlp.run(&mut scratch);
                }
                let sound = |x: &&f32| x.is_finite() && !x.is_subnormal();
                assert_eq!(scratch.iter().filter(|x| !sound(x)).count(), 0, "{activation:?} {d_model}");
            }
        }
    }

    #[test]
    fn rates_are_rates() {
        let rates = Rates::measure(&spec(8, 16, false, Activation::Relu), Duration::from_millis(20));
        assert!(rates.dense.is_finite() && rates.dense > 1e6, "{rates:?}");
        assert!(rates.attention.is_finite() && rates.attention > 1e6, "{rates:?}");
    }
}
