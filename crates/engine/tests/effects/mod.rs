//! Interventions on a model, and the differences between two machines' effects.

use cs_engine::decoder::Decoder;
use cs_engine::forest::Forest;
use cs_engine::intervention::{Branch, Replacement, Stream};
use cs_engine::{
    AttentionRow, Cache, Options, Prompt, Queries, Readings, attention_rows, direct_attribution,
};

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

/// What is read of the plain run beside logits: attention, direct effects (nothing where the model has none), activations.
pub fn of_plain_run(decoder: &Decoder, prompts: &[Prompt]) -> Vec<(&'static str, Vec<f64>)> {
    let wide = |values: &[f32]| values.iter().map(|&x| f64::from(x)).collect::<Vec<f64>>();
    let mut patterns = vec![];
    let mut keep = |row: AttentionRow<'_>| patterns.extend(wide(row.weights));
    attention_rows(decoder, prompts, Queries::All, Options::default(), &mut keep).unwrap();
    let direct = direct_attribution(decoder, prompts, Options::default()).unwrap();
    let mut found = vec![("attention", patterns), ("direct effects", direct.unwrap_or_default().concat())];
    let tokens: Vec<&[u32]> = prompts.iter().map(|prompt| &prompt.tokens[..]).collect();
    let forest = Forest::new(&tokens).unwrap();
    let cache = Cache::new(decoder, &forest).unwrap();
    for layer in (0..decoder.spec().n_layers).map(|layer| cache.layer(layer)) {
        let mid = layer.resid_mid.as_deref().unwrap_or(&[]);
        for (name, values) in [
            ("resid_pre", &layer.resid_pre[..]),
            ("resid_mid", mid),
            ("resid_post", &layer.resid_post),
            ("q", &layer.q),
            ("k", &layer.k),
            ("v", &layer.v),
            ("z", &layer.z),
        ] {
            found.push((name, wide(values)));
        }
    }
    found.push(("logits", cache.logits(forest.end(0))));
    found
}
