//! The delta form, carried out on the processor as a card would, against the processor's own machine: how far its rounding takes
//! effects from float32's, on every checkpoint in `tests/golden` and on random models; and what must not show in a result.

mod checkpoints;
mod random;

use checkpoints::{Expected, decoder, heads, names};
use cs_engine::decoder::Decoder;
use cs_engine::intervention::{Branch, Edit, Replacement, Stream};
use cs_engine::{EngineError, Options, Precision, Prompt, Readings};
use proptest::prelude::*;
use random::{D_VOCAB, N_CTX, Parts};

/// Changes of logit differences by each branch, branch by branch, prompt by prompt.
fn effects(decoder: &Decoder, prompts: &[Prompt], branches: &[Branch]) -> Vec<f64> {
    let readings = Readings::collect(decoder, prompts, branches, Options::default()).unwrap();
    let difference = |logits: &[f64]| logits[0] - logits[1];
    let of_prompt = |b, p| difference(readings.branch(b, p)) - difference(readings.plain(p));
    (0..branches.len())
        .flat_map(|b| (0..prompts.len()).map(move |p| (b, p)))
        .map(|(b, p)| of_prompt(b, p))
        .collect()
}

/// Every head's streams replaced by everything that can replace them, one at a time; then sets of heads over several layers.
fn experiments(decoder: &Decoder) -> Vec<(&'static str, Vec<Branch>)> {
    use Replacement::{GroupMean, OthersMean, Source, ValueBias, Zero};
    let single = |stream, replacement| {
        let branch = |head| Branch::patch([head], stream, replacement);
        heads(decoder).into_iter().map(branch).collect::<Vec<Branch>>()
    };
    // Pairs of heads that begin alike, and everything at once.
    let sets = |replacement| {
        let all = heads(decoder);
        let pair = |i: usize| Branch::ablate([all[i % 3], all[(5 * i + 4) % all.len()]], replacement);
        let whole = Branch::ablate(all.clone(), replacement);
        (0..all.len()).map(pair).chain([whole]).collect::<Vec<Branch>>()
    };
    vec![
        ("z zero", single(Stream::Z, Zero)),
        ("z value bias", single(Stream::Z, ValueBias)),
        ("z group mean", single(Stream::Z, GroupMean)),
        ("z source", single(Stream::Z, Source)),
        ("v zero", single(Stream::V, Zero)),
        ("v value bias", single(Stream::V, ValueBias)),
        ("v source", single(Stream::V, Source)),
        ("q zero", single(Stream::Q, Zero)),
        ("q source", single(Stream::Q, Source)),
        ("k zero", single(Stream::K, Zero)),
        ("k source", single(Stream::K, Source)),
        ("pattern zero", single(Stream::Pattern, Zero)),
        ("pattern source", single(Stream::Pattern, Source)),
        ("sets zero", sets(Zero)),
        ("sets value bias", sets(ValueBias)),
        ("sets mean", sets(GroupMean)),
        ("sets source", sets(Source)),
        ("z others", single(Stream::Z, OthersMean)),
        ("sets others", sets(OthersMean)),
    ]
}

/// The largest distance between two lists of effects, as a share of the largest effect.
fn apart(expected: &[f64], found: &[f64]) -> f64 {
    assert_eq!(expected.len(), found.len());
    let largest = expected.iter().fold(0.0, |max: f64, x| max.max(x.abs()));
    expected.iter().zip(found).map(|(e, f)| (e - f).abs()).fold(0.0, f64::max) / largest
}

#[test]
fn effects_on_every_checkpoint_are_the_processors() {
    let mut report = String::new();
    for name in names() {
        let cpu = decoder(&name);
        let mut prompts = Expected::read(&name).prompts();
        // Twice each, so that something is left of a group beside a draw.
        prompts.iter_mut().for_each(|prompt| prompt.weight = 2.0);
        let experiments = experiments(&cpu);
        let expected: Vec<Vec<f64>> =
            experiments.iter().map(|(_, branches)| effects(&cpu, &prompts, branches)).collect();
        for (precision, tolerance) in
            [(Precision::Split, 2e-5), (Precision::Half, 2e-3), (Precision::F32, 2e-5)]
        {
            let delta = decoder(&name).in_delta_form(precision);
            let mut worst = (0.0, "");
            for ((what, branches), expected) in experiments.iter().zip(&expected) {
                let off = apart(expected, &effects(&delta, &prompts, branches));
                if off > worst.0 {
                    worst = (off, what)
                }
            }
            report += &format!(
                "{name:28} {precision:6} {:.1e} ({}){}\n",
                worst.0,
                worst.1,
                if worst.0 <= tolerance { "" } else { "  <<<" }
            );
        }
    }
    println!("{report}");
    assert!(!report.contains("<<<"));
}
