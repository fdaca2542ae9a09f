//! How fast this machine is, measured on what models do.

use std::hint::black_box;
use std::time::{Duration, Instant};

use cs_kernels::{Init, KeyValues, MatMut, MatRef, PackedMatrix, PathAttention, ScoreRule, matmul};
use cs_model::spec::ModelSpec;

use crate::machine::cpu::{TILE, activate, activate_gate, mlp_block, norm};
use crate::weights::Norm;

#[cfg(doc)]
use crate::machine::cpu;

/// Floating-point operations a second that all threads of the current pool reach together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rates {
    /// In matrix products of the model's shape, the activation between them included.
    pub dense: f64,
    /// In attention over a few dozen nodes.
    pub attention: f64,
}

impl Rates {
    /// Measures them for a model's widths in about `budget`, on random numbers.
    #[must_use]
    pub fn measure(spec: &ModelSpec, budget: Duration) -> Self {
        Self { dense: dense_rate(spec, budget * 3 / 4), attention: attention_rate(spec, budget / 4) }
    }
}

/// A number that costs nothing to make and overflows nothing.
fn some_float(i: usize) -> f32 {
    (i % 251) as f32 / 125.5 - 1.0
}

/// Repeats `work`, which returns the operations it did, on every thread until `budget` is spent; operations a second.
fn rate(budget: Duration, work: impl Fn(&mut Vec<f32>) -> f64 + Sync) -> f64 {
    let rates = rayon::broadcast(|_| {
        let mut scratch = Vec::new();
        work(&mut scratch); // the first time pays for memory
        let start = Instant::now();
        let mut done = 0.0;
        while done == 0.0 || start.elapsed() < budget {
            done += work(&mut scratch);
        }
        done / start.elapsed().as_secs_f64()
    });
    rates.into_iter().sum()
}

/// The MLP of one layer on full tiles, as [`cpu::Layer`] runs it, its norm and residual addition included; of models
/// without, `W_O`.
fn dense_rate(spec: &ModelSpec, budget: Duration) -> f64 {
    let mlp = SomeMlp::new(spec);
    rate(budget, |scratch| mlp.run(scratch))
}

/// An MLP whose products are of about 1, as a model's are: activations of far larger ones end in subnormal numbers, which are
/// slow.
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

    /// Runs one tile of rows and returns its operations. Nothing of what `scratch` holds from one time counts the next.
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

/// Attention of every head of the last few nodes of paths of 20, as prompts that share a beginning have them.
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

    /// Subnormal numbers would be timed that no model has.
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
