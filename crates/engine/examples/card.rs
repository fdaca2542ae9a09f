//! How long scans of every head take on a GPU, on models of real shapes with random weights.
//!
//!     cargo run --release --example card -- [gpt2] [gpt2-xl] [pythia-2.8b] [llama-3.1-8b] [--device cuda:0] [--precision split]
//!
//! Prompts share beginnings as those of the published tasks do. Rates are useful operations: those of the float32 products that the
//! processor would do.

use std::time::Instant;

use cs_engine::decoder::Decoder;
use cs_engine::intervention::{Branch, Replacement};
use cs_engine::weights::Weights;
use cs_engine::{Compute, DeviceChoice, Options, Precision, Prompt, Readings};
use cs_model::spec::{Activation, BlockLayout, ModelSpec, NormKind, Positions, Rotary};
use half::{bf16, f16};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

const D_VOCAB: usize = 4096;
const N_CTX: usize = 128;

/// What a checkpoint stores weights as.
type Stored = fn(f32) -> f32;

/// Shapes by name: those of the models' own `config.json`, but for the vocabulary.
fn shape(name: &str) -> Option<(ModelSpec, Stored)> {
    let gpt2 = |d_model: usize, n_heads, n_layers| ModelSpec {
        n_layers,
        n_heads,
        n_kv_heads: n_heads,
        d_model,
        d_mlp: 4 * d_model,
        d_vocab: D_VOCAB,
        d_embed: d_model,
        n_ctx: N_CTX,
        attn_scale: vec![0.125; n_layers],
        windows: vec![None; n_layers],
        ..ModelSpec::default()
    };
    Some(match name {
        "gpt2" => (gpt2(768, 12, 12), |x| x),
        "gpt2-xl" => (gpt2(1600, 25, 48), |x| x),
        "pythia-2.8b" => {
            let spec = ModelSpec {
                d_head: 80,
                positions: Positions::Rotary(Rotary::plain(32, 20, 10_000.0)),
                block: BlockLayout::Parallel,
                activation: Activation::GeluErf,
                tied_unembed: false,
                ..gpt2(2560, 32, 32)
            };
            (spec, |x| f16::from_f32(x).to_f32())
        }
        "llama-3.1-8b" => {
            let spec = ModelSpec {
                n_kv_heads: 8,
                d_head: 128,
                d_mlp: 14336,
                positions: Positions::Rotary(Rotary::plain(32, 128, 500_000.0)),
                norm_kind: NormKind::Rms,
                activation: Activation::Silu,
                gated_mlp: true,
                tied_unembed: false,
                ..gpt2(4096, 32, 32)
            };
            (spec, |x| bf16::from_f32(x).to_f32())
        }
        _ => return None,
    })
}

/// Prompts of one form: at each position the number of tokens to choose from, 1 where it is always the same, 0 where the first
/// that was chosen stands again.
fn prompts(n: usize, form: &[u32]) -> Vec<Prompt> {
    let mut random = ChaCha8Rng::seed_from_u64(7);
    let mut prompt = || {
        let mut first = None;
        let token = |(at, &choices): (usize, &u32)| match choices {
            0 => first.expect("something was chosen before"),
            1 => 7 + at as u32,
            choices => {
                let token = 100 + random.next_u32() % choices;
                first.get_or_insert(token);
                token
            }
        };
        let tokens = form.iter().enumerate().map(token).collect();
        Prompt { tokens, weight: 1.0, references: None, read: vec![50, 60], ..Prompt::default() }
    };
    (0..n).map(|_| prompt()).collect()
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let value = |name: &str| args.iter().position(|a| a == name).and_then(|i| args.get(i + 1));
    let choice: DeviceChoice = value("--device").map_or("cuda", String::as_str).parse()?;
    let precision: Option<Precision> = value("--precision").map(|p| p.parse()).transpose()?;
    let compute = Compute::choose(&choice, precision)?;
    println!("on {}", compute.kind());
    let tasks: [(&str, usize, &[u32]); 2] = [
        ("ioi", 200, &[1, 1, 15, 1, 15, 1, 1, 1, 1, 1, 0, 1, 1, 1, 1]),
        ("anti-repeat", 400, &[1, 12, 1, 12, 1, 1, 0, 1, 1]),
    ];
    for name in &args {
        let Some((spec, stored)) = shape(name) else { continue };
        let start = Instant::now();
        let decoder = Decoder::new(spec.clone(), Weights::random(&spec, stored));
        let built = start.elapsed().as_secs_f64();
        let decoder = decoder.on(&compute)?;
        let ready = start.elapsed().as_secs_f64();
        println!("{name}: weights drawn in {built:.2} s, on the card after {:.2} s more", ready - built);
        let heads = (0..spec.n_layers).flat_map(|layer| (0..spec.n_heads).map(move |head| (layer, head)));
        let branches: Vec<Branch> = heads.map(|head| Branch::ablate([head], Replacement::Zero)).collect();
        for (task, n, form) in tasks {
            let prompts = prompts(n, form);
            let cost = cs_engine::cost(&spec, &prompts, &branches, Options::default())?;
            let start = Instant::now();
            let readings = Readings::collect(&decoder, &prompts, &branches, Options::default())?;
            let seconds = start.elapsed().as_secs_f64();
            let difference = |logits: &[f64]| logits[0] - logits[1];
            let effect = |b: usize| difference(readings.branch(b, 0)) - difference(readings.plain(0));
            let largest = (0..branches.len()).map(|b| effect(b).abs()).fold(0.0, f64::max);
            println!(
                "{name} {task}: {} nodes, {} heads in {seconds:.3} s, {:.0} TFLOP/s of useful work; largest effect {largest:.3}",
                cost.n_nodes,
                branches.len(),
                (cost.dense + cost.attention) / seconds / 1e12
            );
        }
    }
    Ok(())
}
