//! The trial of a GPU when a process first uses it: the effects of tiny models must equal those of the delta form on the CPU.
//! Otherwise the GPU is not used, whatever the reason.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use cs_model::spec::{Activation, BlockLayout, ModelSpec, NormKind, Positions, Rotary};
use half::{bf16, f16};

use crate::decoder::Decoder;
use crate::device::{Compute, Precision};
use crate::error::EngineError;
use crate::intervention::{Branch, Replacement, Stream};
use crate::request::{Options, Prompt};
use crate::run::Readings;
use crate::weights::Weights;

/// Maximum difference of effects, relative to the largest effect.
const BOUND: f64 = 2e-5;

/// Rounds a weight as a checkpoint would.
type Stored = fn(f32) -> f32;

const N_LAYERS: usize = 2;
const D_VOCAB: usize = 24;

/// Why a GPU must not be used, if its trial fails. Runs once per process.
pub(crate) fn why_not(card: usize) -> Option<String> {
    static TRIED: Mutex<BTreeMap<usize, Option<String>>> = Mutex::new(BTreeMap::new());
    let mut tried = TRIED.lock().unwrap_or_else(PoisonError::into_inner);
    tried.entry(card).or_insert_with(|| models().iter().find_map(|model| differs(model, card))).clone()
}

/// How a tiny model's effects on a GPU differ from those on the CPU, if they do.
fn differs((spec, stored): &(ModelSpec, Stored), card: usize) -> Option<String> {
    let effects = |compute: &Compute| -> Result<Vec<f64>, EngineError> {
        effects(&Decoder::new(spec.clone(), Weights::random(spec, *stored)).on(compute)?)
    };
    let expected = effects(&Compute::delta(Precision::Split)).expect("the CPU can run it");
    let found = match effects(&Compute::on_card(card)) {
        Ok(found) => found,
        Err(EngineError::Device { problem, .. }) => return Some(problem),
        Err(error) => return Some(error.to_string()),
    };
    let largest = expected.iter().fold(0.0, |max: f64, x| max.max(x.abs()));
    let off = |(e, f): (&f64, &f64)| if f.is_finite() { (e - f).abs() / largest } else { f64::INFINITY };
    let most = expected.iter().zip(&found).map(off).fold(0.0, f64::max);
    (most > BOUND).then(|| {
        format!("its results differ from the CPU's by {most:.0e} of the largest effect: please report it")
    })
}

/// Changes of logit differences, prompt by prompt: with every head ablated, and with one head's `k` or `v`
/// patched.
fn effects(decoder: &Decoder) -> Result<Vec<f64>, EngineError> {
    let tokens = |p: u32| [&[1, 2][..], &[3 + p % 2, 5, 6 + p, 7, 3 + p % 3]].concat();
    let prompt = |p: u32| Prompt {
        tokens: tokens(p),
        source: Some(tokens(p + 1)),
        weight: 1.0,
        read: vec![1, 2],
        ..Prompt::default()
    };
    let prompts: Vec<Prompt> = (0..4).map(prompt).collect();
    let heads = (0..N_LAYERS).flat_map(|layer| (0..decoder.spec().n_heads).map(move |head| (layer, head)));
    let ablated = heads.map(|head| Branch::ablate([head], Replacement::ValueBias));
    let patched = [Stream::K, Stream::V].map(|stream| Branch::patch([(0, 1)], stream, Replacement::Source));
    let branches: Vec<Branch> = ablated.chain(patched).collect();
    let readings = Readings::collect(decoder, &prompts, &branches, Options::default())?;
    let difference = |logits: &[f64]| logits[0] - logits[1];
    let effect = |b: usize, p: usize| difference(readings.branch(b, p)) - difference(readings.plain(p));
    Ok((0..branches.len())
        .flat_map(|b| (0..prompts.len()).map(move |p| (b, p)))
        .map(|(b, p)| effect(b, p))
        .collect())
}

/// Specs and rounding of weights: one model per format of products.
fn models() -> [(ModelSpec, Stored); 3] {
    let gpt2 = ModelSpec {
        n_layers: N_LAYERS,
        n_heads: 4,
        n_kv_heads: 4,
        d_model: 72,
        d_head: 16,
        d_mlp: 136,
        d_vocab: D_VOCAB,
        d_embed: 72,
        n_ctx: 16,
        attn_scale: vec![0.25; N_LAYERS],
        windows: vec![None; N_LAYERS],
        ..ModelSpec::default()
    };
    let neox = ModelSpec {
        positions: Positions::Rotary(Rotary::plain(N_LAYERS, 8, 10_000.0)),
        block: BlockLayout::Parallel,
        activation: Activation::GeluErf,
        ..gpt2.clone()
    };
    let llama = ModelSpec {
        n_kv_heads: 2,
        positions: Positions::Rotary(Rotary::plain(N_LAYERS, 16, 10_000.0)),
        norm_kind: NormKind::Rms,
        activation: Activation::Silu,
        gated_mlp: true,
        ..gpt2.clone()
    };
    [(gpt2, |x| x), (neox, |x| f16::from_f32(x).to_f32()), (llama, |x| bf16::from_f32(x).to_f32())]
}
