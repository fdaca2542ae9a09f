//! A card's first task in a process: tiny models, whose effects must be those of the same form on the processor. A card on which
//! they are not is not used, whatever the reason.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use cs_kernels::PackedMatrix;
use cs_model::spec::{Activation, BlockLayout, ModelSpec, NormKind, Positions, Rotary};
use half::{bf16, f16};

use crate::decoder::Decoder;
use crate::device::{Compute, Precision};
use crate::error::EngineError;
use crate::intervention::{Branch, Replacement, Stream};
use crate::request::{Options, Prompt};
use crate::run::Readings;
use crate::weights::{LayerWeights, Linear, Mlp, Norm, Weights};

/// How far effects may be off, as a share of the largest.
const BOUND: f64 = 2e-5;

/// What a weight becomes when it is stored.
type Stored = fn(f32) -> f32;

const N_LAYERS: usize = 2;
const D_VOCAB: usize = 24;

/// Why a card is not to be used, if its trial says so. It is tried once.
pub(crate) fn why_not(card: usize) -> Option<String> {
    static TRIED: Mutex<BTreeMap<usize, Option<String>>> = Mutex::new(BTreeMap::new());
    let mut tried = TRIED.lock().unwrap_or_else(PoisonError::into_inner);
    tried.entry(card).or_insert_with(|| models().iter().find_map(|model| differs(model, card))).clone()
}

/// What a tiny model gives on a card that it does not give on the processor.
fn differs((spec, stored): &(ModelSpec, Stored), card: usize) -> Option<String> {
    let effects = |compute: &Compute| -> Result<Vec<f64>, EngineError> {
        effects(&decoder(spec, *stored).on(compute)?)
    };
    let expected = effects(&Compute::delta(Precision::Split)).expect("the processor can");
    let found = match effects(&Compute::on_card(card)) {
        Ok(found) => found,
        Err(EngineError::Device { problem, .. }) => return Some(problem),
        Err(error) => return Some(error.to_string()),
    };
    let largest = expected.iter().fold(0.0, |max: f64, x| max.max(x.abs()));
    let off = |(e, f): (&f64, &f64)| if f.is_finite() { (e - f).abs() / largest } else { f64::INFINITY };
    let most = expected.iter().zip(&found).map(off).fold(0.0, f64::max);
    (most > BOUND).then(|| {
        format!("what it computes differs from the processor's by {most:.0e} of the largest effect: please report it")
    })
}

/// Changes of logit differences, prompt by prompt: every head ablated, and one patched in what attention reads.
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

/// Settings, and what weights are stored as: one model for each format of products.
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

/// Numbers between -1 and 1: a linear congruential generator's high bits.
struct Draw(u64);

impl Draw {
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }

    fn vector(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.next()).collect()
    }

    fn linear(&mut self, d_in: usize, d_out: usize, stored: Stored) -> Linear {
        let size = 2.0 * (d_in as f32).powf(-0.5);
        let fill = |_: usize, row: &mut [f32]| row.iter_mut().for_each(|x| *x = stored(self.next() * size));
        Linear { weight: PackedMatrix::pack_rows(d_in, d_out, fill), bias: None }
    }
}

fn decoder(spec: &ModelSpec, stored: Stored) -> Decoder {
    let mut draw = Draw(1);
    let (d_model, d_mlp) = (spec.d_model, spec.d_mlp);
    let norm = |draw: &mut Draw| Norm {
        weight: Some(draw.vector(d_model).iter().map(|x| 1.0 + x / 2.0).collect()),
        bias: (spec.norm_kind == NormKind::Layer).then(|| draw.vector(d_model)),
    };
    let layers = (0..spec.n_layers).map(|_| LayerWeights {
        ln1: norm(&mut draw),
        ln1_post: None,
        w_qkv: draw.linear(d_model, spec.d_attn() + 2 * spec.d_kv(), stored),
        q_norm: None,
        k_norm: None,
        w_o: draw.linear(spec.d_attn(), d_model, stored),
        ln2: norm(&mut draw),
        ln2_post: None,
        mlp: Some(Mlp {
            w_gate: spec.gated_mlp.then(|| draw.linear(d_model, d_mlp, stored)),
            w_in: draw.linear(d_model, d_mlp, stored),
            w_out: draw.linear(d_mlp, d_model, stored),
        }),
    });
    let layers = layers.collect();
    let is_learned = matches!(spec.positions, Positions::Learned { .. });
    let weights = Weights {
        layers,
        embed: draw.vector(D_VOCAB * d_model).into(),
        pos_embed: draw.vector(if is_learned { spec.n_ctx * d_model } else { 0 }),
        project_in: None,
        ln_final: norm(&mut draw),
        project_out: None,
        unembed: None,
        unembed_bias: None,
    };
    Decoder::new(spec.clone(), weights)
}
