//! Interventions on a model, and the differences between two machines' effects.

use cs_engine::decoder::Decoder;
use cs_engine::intervention::{Branch, Replacement, Stream};
use cs_engine::{Options, Prompt, Readings};

use crate::checkpoints::heads;

/// Changes of logit differences by each branch, branch by branch, prompt by prompt.
pub fn effects(decoder: &Decoder, prompts: &[Prompt], branches: &[Branch]) -> Vec<f64> {
    let readings = Readings::collect(decoder, prompts, branches, Options::default()).unwrap();
    let difference = |logits: &[f64]| logits[0] - logits[1];
    let of_prompt = |b, p| difference(readings.branch(b, p)) - difference(readings.plain(p));
    (0..branches.len())
        .flat_map(|b| (0..prompts.len()).map(move |p| (b, p)))
        .map(|(b, p)| of_prompt(b, p))
        .collect()
}

/// Every valid replacement of every head's streams, one at a time; then sets of heads over several layers.
pub fn experiments(decoder: &Decoder) -> Vec<(&'static str, Vec<Branch>)> {
    use Replacement::{GroupMean, OthersMean, Source, ValueBias, Zero};
    let single = |stream, replacement| {
        let branch = |head| Branch::patch([head], stream, replacement);
        heads(decoder).into_iter().map(branch).collect::<Vec<Branch>>()
    };
    // Pairs of heads with the same first head, and all heads at once.
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

/// Differences from float32's effects relative to the largest effect: maximum and root mean square.
pub fn apart(expected: &[f64], found: &[f64]) -> (f64, f64) {
    assert_eq!(expected.len(), found.len());
    let largest = expected.iter().fold(0.0, |max: f64, x| max.max(x.abs()));
    let off: Vec<f64> = expected.iter().zip(found).map(|(e, f)| (e - f).abs() / largest).collect();
    let squares = off.iter().map(|off| off.powi(2)).sum::<f64>();
    (off.iter().copied().fold(0.0, f64::max), (squares / off.len() as f64).sqrt())
}
