//! How near a scan comes to the machine's matrix products: zero ablation of heads of random models at real widths.
//!
//!     cargo bench -p cs-engine --bench scan [-- gpt2 pythia-1b …] [--layers 4] [--heads 2] [--prompts 100]
//!         [--length 16] [--shared 4] [--turns 3]
//!
//! `--heads` is per layer, `--shared` the number of tokens at the start that all prompts have in common (beyond that, none
//! are shared). The reference is what the `gemm` crate reaches on a 2048 x 768 x 3072 product with as many threads, timed
//! right before and after each turn; operations are those of `cs_engine::cost`. The table shows the turn with the best
//! share of the reference: other processes only ever take time away.

use std::time::Instant;

use cs_engine::decoder::Decoder;
use cs_engine::intervention::{Branch, Replacement};
use cs_engine::weights::{LayerNorm, LayerWeights, Linear, Mlp, Weights};
use cs_engine::{Options, Prompt, Readings};
use cs_kernels::PackedMatrix;
use cs_model::spec::{Activation, BlockLayout, ModelSpec, NormPlacement, Positions};

/// Name, d_model, heads, and family.
const SHAPES: &[(&str, usize, usize, Architecture)] = &[
    ("gpt2", 768, 12, Architecture::Gpt2),
    ("gpt2-large", 1280, 20, Architecture::Gpt2),
    ("gpt2-xl", 1600, 25, Architecture::Gpt2),
    ("pythia-1b", 2048, 8, Architecture::GptNeoX),
    ("pythia-2.8b", 2560, 32, Architecture::GptNeoX),
    ("opt-1.3b", 2048, 32, Architecture::Opt),
    ("gpt-neo-1.3b", 2048, 16, Architecture::GptNeo),
];

const D_VOCAB: usize = 4096;
const N_CTX: usize = 128;

fn spec(d_model: usize, n_heads: usize, architecture: Architecture, n_layers: usize) -> ModelSpec {
    let d_head = d_model / n_heads;
    let is_neox = architecture == Architecture::GptNeoX;
    let scale = if architecture == Architecture::GptNeo { 1.0 } else { (d_head as f32).powf(-0.5) };
    let window = |layer: usize| (architecture == Architecture::GptNeo && layer % 2 == 1).then_some(256);
    ModelSpec {
        n_layers,
        n_heads,
        d_model,
        d_head,
        d_mlp: 4 * d_model,
        d_vocab: D_VOCAB,
        d_embed: d_model,
        n_ctx: N_CTX,
        positions: if is_neox {
            Positions::Rotary { n_dims: d_head / 4, base: 10_000.0 }
        } else {
            Positions::Learned { offset: 0 }
        },
        block: if is_neox { BlockLayout::Parallel } else { BlockLayout::Sequential },
        norm: NormPlacement::Pre,
        norm_eps: 1e-5,
        final_norm: true,
        activation: match architecture {
            Architecture::Opt => Activation::Relu,
            Architecture::GptNeoX => Activation::GeluErf,
            _ => Activation::GeluTanh,
        },
        attn_scale: vec![scale; n_layers],
        windows: (0..n_layers).map(window).collect(),
        tied_unembed: true,
    }
}

/// Numbers between -1 and 1 that are cheap to draw: a linear congruential generator's high bits.
struct Draw(u64);

impl Draw {
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }

    fn vector(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.next()).collect()
    }

    fn linear(&mut self, d_in: usize, d_out: usize) -> Linear {
        let size = (d_in as f32).powf(-0.5);
        let fill = |_: usize, row: &mut [f32]| row.iter_mut().for_each(|x| *x = self.next() * size);
        let weight = PackedMatrix::pack_rows(d_in, d_out, fill);
        Linear { weight, bias: Some(self.vector(d_out)) }
    }
}

fn decoder(spec: &ModelSpec) -> Decoder {
    let mut draw = Draw(1);
    let (d_model, d_attn) = (spec.d_model, spec.d_attn());
    let layers = (0..spec.n_layers).map(|_| LayerWeights {
        ln1: LayerNorm::default(),
        w_qkv: draw.linear(d_model, 3 * d_attn),
        w_o: draw.linear(d_attn, d_model),
        ln2: LayerNorm::default(),
        mlp: Some(Mlp { w_in: draw.linear(d_model, spec.d_mlp), w_out: draw.linear(spec.d_mlp, d_model) }),
    });
    let layers = layers.collect();
    let weights = Weights {
        embed: draw.vector(D_VOCAB * d_model),
        pos_embed: draw.vector(if spec.block == BlockLayout::Parallel { 0 } else { N_CTX * d_model }),
        project_in: None,
        layers,
        ln_final: LayerNorm::default(),
        project_out: None,
        unembed: None,
    };
    Decoder::new(spec.clone(), weights)
}

fn prompts(n: usize, length: usize, shared: usize) -> Vec<Prompt> {
    let token = |prompt: usize, at: usize| match at {
        _ if at < shared => at as u32,
        // Another second token for each prompt, so that nothing later is shared.
        _ => ((prompt * 31 + (at - shared) * 977 + 1) % D_VOCAB) as u32,
    };
    let prompt = |p: usize| Prompt {
        tokens: (0..length).map(|at| token(p, at)).collect(),
        weight: 1.0,
        read: vec![1, 2],
        ..Prompt::default()
    };
    (0..n).map(prompt).collect()
}

/// GFLOP/s of the `gemm` crate on a 2048 x 768 x 3072 product, the fastest of a few.
fn reference(n_threads: usize, buffers: &mut (Vec<f32>, Vec<f32>, Vec<f32>)) -> f64 {
    const M: usize = 2048;
    const K: usize = 768;
    const N: usize = 3072;
    let (a, b, c) = buffers;
    a.resize(M * K, 0.5);
    b.resize(K * N, 0.5);
    c.resize(M * N, 0.0);
    let parallelism = match n_threads {
        1 => gemm::Parallelism::None,
        n => gemm::Parallelism::Rayon(n),
    };
    let mut best = f64::INFINITY;
    for _ in 0..12 {
        let start = Instant::now();
        let (a, b, c, k, n) = (a.as_ptr(), b.as_ptr(), c.as_mut_ptr(), K as isize, N as isize);
        // SAFETY: the strides describe row-major matrices of these shapes.
        unsafe {
            gemm::gemm(M, N, K, c, 1, n, false, a, 1, k, b, 1, n, 0.0, 1.0, false, false, false, parallelism)
        };
        best = best.min(start.elapsed().as_secs_f64());
    }
    2.0 * (M * K * N) as f64 / best / 1e9
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let value = |name: &str, default: usize| {
        let at = args.iter().position(|a| a == name);
        at.and_then(|i| args.get(i + 1)?.parse().ok()).unwrap_or(default)
    };
    let (n_layers, n_heads) = (value("--layers", 4), value("--heads", 2));
    let (n_prompts, length, shared) = (value("--prompts", 100), value("--length", 16), value("--shared", 4));
    let turns = value("--turns", 3);
    let n_threads = rayon::current_num_threads();
    println!(
        "{n_threads} threads, {n_layers} layers, {n_heads} heads ablated in each, {n_prompts} prompts of {length} tokens, {shared} shared"
    );
    println!(
        "{:13} {:>6} {:>8} {:>8} {:>8} {:>9} {:>10} {:>6}",
        "shape", "nodes", "TFLOP", "seconds", "floor", "GFLOP/s", "gemm crate", "share"
    );
    let mut buffers = Default::default();
    for &(name, d_model, heads, architecture) in SHAPES {
        let is_chosen = args.iter().any(|a| a == name);
        if !is_chosen && args.iter().any(|a| SHAPES.iter().any(|s| s.0 == a)) {
            continue;
        }
        let spec = spec(d_model, heads, architecture, n_layers);
        let decoder = decoder(&spec);
        let prompts = prompts(n_prompts, length, shared);
        let branches: Vec<Branch> = (0..n_layers)
            .flat_map(|layer| (0..n_heads.min(heads)).map(move |head| (layer, head)))
            .map(|head| Branch::ablate([head], Replacement::ValueBias))
            .collect();
        let cost =
            cs_engine::cost(&spec, &prompts, &branches, Options::default()).expect("a run that can be made");
        let flop = cost.dense + cost.attention;
        let mut best: Option<(f64, f64, f64)> = None;
        for _ in 0..turns {
            let before = reference(n_threads, &mut buffers);
            let start = Instant::now();
            let readings = Readings::collect(&decoder, &prompts, &branches, Options::default());
            let seconds = start.elapsed().as_secs_f64();
            std::hint::black_box(readings.expect("a run that can be made"));
            let peak = before.max(reference(n_threads, &mut buffers));
            let share = flop / seconds / 1e9 / peak;
            if best.is_none_or(|(_, _, other)| share > other) {
                best = Some((seconds, peak, share));
            }
        }
        let Some((seconds, peak, share)) = best else { continue };
        println!(
            "{name:13} {:6} {:8.3} {seconds:8.2} {:8.2} {:9.0} {peak:10.0} {:5.0}%",
            cost.n_nodes,
            flop / 1e12,
            flop / 1e9 / peak,
            flop / seconds / 1e9,
            100.0 * share
        );
    }
}
