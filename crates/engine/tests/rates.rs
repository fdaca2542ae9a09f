//! Rates of devices must match the speed of runs. The delta form on the CPU stands in for a GPU.

use std::time::{Duration, Instant};

use cs_engine::decoder::Decoder;
use cs_engine::intervention::{Branch, Replacement};
use cs_engine::weights::Weights;
use cs_engine::{Compute, Halves, Options, Precision, Prompt, Rates, Readings, cost};
use cs_model::spec::{Activation, ModelSpec, NormKind, NormPlacement, Positions, QkNorm, Rotary};

fn spec(n_layers: usize, d_model: usize) -> ModelSpec {
    ModelSpec {
        n_layers,
        n_heads: d_model / 32,
        n_kv_heads: d_model / 32,
        d_model,
        d_head: 32,
        d_mlp: 4 * d_model,
        d_vocab: 100,
        d_embed: d_model,
        n_ctx: 128,
        attn_scale: vec![0.2; n_layers],
        windows: vec![None; n_layers],
        ..ModelSpec::default()
    }
}

/// Every kind of model has a layer that can be timed: norms in every place, norms of queries and keys, gates, rotary positions, few
/// positions, no MLP.
#[test]
fn rates_of_any_settings_are_rates() {
    let plain = spec(3, 64);
    let gemma = ModelSpec {
        n_kv_heads: 1,
        norm: NormPlacement::PreAndBranch,
        norm_kind: NormKind::RmsOnePlus,
        qk_norm: QkNorm::PerHead,
        gated_mlp: true,
        activation: Activation::GeluTanh,
        positions: Positions::Rotary(Rotary::plain(3, 32, 10_000.0)),
        windows: vec![Some(4), None, Some(4)],
        ..plain.clone()
    };
    let olmo = ModelSpec { norm: NormPlacement::Branch, qk_norm: QkNorm::AllHeads, ..gemma.clone() };
    let post = ModelSpec { norm: NormPlacement::Post, n_ctx: 8, ..plain.clone() };
    for spec in [plain, gemma, olmo, post] {
        for (halves, precision) in [
            (Halves::None, Precision::Split),
            (Halves::F16, Precision::Half),
            (Halves::Bf16, Precision::Split),
            (Halves::None, Precision::F32),
        ] {
            let compute = Compute::delta(precision);
            let rates = Rates::measure_on(&compute, &spec, halves, Duration::from_millis(5)).unwrap();
            assert!(rates.dense.is_finite() && rates.dense > 1e5, "{rates:?} of {spec:?}");
            assert!(rates.attention > 0.0, "{rates:?} of {spec:?}");
        }
    }
}

/// A scan takes about as long as its cost and the rates predict. Run by hand, since timings on a busy machine are meaningless.
#[test]
#[ignore = "a timing: needs an idle machine"]
fn scans_take_what_rates_foretell() {
    for (length, d_model) in [(20, 128), (20, 256), (60, 128)] {
        let spec = spec(4, d_model);
        let compute = Compute::delta(Precision::Split);
        let decoder = Decoder::new(spec.clone(), Weights::random(&spec, |x| x)).on(&compute).unwrap();
        let tokens = |p: u32| (0..length).map(|at| if at < 8 { at } else { (7 * p + at) % 100 }).collect();
        let prompt = |p| Prompt { tokens: tokens(p), weight: 1.0, read: vec![1, 2], ..Prompt::default() };
        let prompts: Vec<Prompt> = (0..10).map(prompt).collect();
        let heads = (0..spec.n_layers).flat_map(|l| (0..spec.n_heads).map(move |h| (l, h)));
        let branches: Vec<Branch> = heads.map(|head| Branch::ablate([head], Replacement::Zero)).collect();
        let rates = Rates::measure_on(&compute, &spec, Halves::None, Duration::from_secs(2)).unwrap();
        let cost = cost(&spec, &prompts, &branches, Options::default()).unwrap();
        let start = Instant::now();
        Readings::collect(&decoder, &prompts, &branches, Options::default()).unwrap();
        let (taken, foretold) = (start.elapsed().as_secs_f64(), cost.seconds(&rates));
        println!("{d_model} wide, {length} tokens: {taken:.2} s, foretold {foretold:.2} s");
        assert!((foretold / taken - 1.0).abs() < 0.25, "{taken} s, foretold {foretold} s");
    }
}
