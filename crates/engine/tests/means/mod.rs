//! Properties of means over references, for mean ablation.

use cs_engine::intervention::{Branch, Replacement};
use cs_engine::{EngineError, Options, Prompt, Readings};
use proptest::prelude::*;

use crate::{D_VOCAB, Parts, ablations, any_model, any_prompts, close, collect};

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    /// A mean without one draw is the mean over all other draws, also for sets of heads over several layers and with little
    /// memory.
    #[test]
    fn the_mean_of_the_others_is_that_of_references_without_the_prompt(
        parts in any_model(), prompts in any_prompts(), weights in prop::collection::vec(1u32..4, 7),
        sets in prop::collection::vec(prop::collection::vec((0usize..3, 0usize..3), 1..5), 1..6),
    ) {
        let mut prompts = prompts;
        prompts.iter_mut().zip(&weights).for_each(|(p, &weight)| p.weight = f64::from(weight));
        // A further prompt for each group, so that none is empty without one of its prompts.
        let further = prompts.clone().into_iter().map(|p| Prompt { tokens: vec![4; p.tokens.len()], ..p });
        prompts.extend(further.collect::<Vec<_>>());
        let ablate = |replacement| -> Vec<Branch> {
            sets.iter().map(|set| Branch::ablate(set.iter().copied(), replacement)).collect()
        };
        let branches = ablate(Replacement::OthersMean);
        let found = collect(&parts, &prompts, &branches);
        let others = |p: usize| {
            let mut references = Vec::new();
            for (at, other) in prompts.iter().enumerate().filter(|(_, other)| other.group == prompts[p].group) {
                let draws = other.weight as usize - usize::from(at == p);
                references.extend(std::iter::repeat_n(other.tokens.clone(), draws));
            }
            Prompt { references: Some(references), ..prompts[p].clone() }
        };
        for p in 0..prompts.len() {
            let alone = collect(&parts, &[others(p)], &ablate(Replacement::GroupMean));
            for (b, branch) in branches.iter().enumerate() {
                prop_assert!(close(found.branch(b, p), alone.branch(b, 0)), "prompt {}, {:?}", p, branch);
            }
        }
        let decoder = parts.decoder();
        let least = (8..).map(|bits| Options { memory: 1 << bits });
        let tight = least.map(|options| Readings::collect(&decoder, &prompts, &branches, options)).find(Result::is_ok);
        prop_assert_eq!(tight.unwrap().unwrap(), found);
    }

    #[test]
    fn a_prompt_is_its_own_reference_unless_it_has_others(parts in any_model(), prompts in any_prompts()) {
        let mut named = prompts.clone();
        named.iter_mut().for_each(|p| p.references = Some(vec![p.tokens.clone()]));
        let branches = ablations(&parts, Replacement::GroupMean);
        prop_assert_eq!(collect(&parts, &prompts, &branches), collect(&parts, &named, &branches));
    }

    #[test]
    fn a_weight_is_that_many_prompts(parts in any_model(), prompts in any_prompts()) {
        let twice: Vec<Prompt> = prompts.iter().flat_map(|p| [p.clone(), p.clone()]).collect();
        let mut weighted = prompts.clone();
        weighted.iter_mut().for_each(|p| p.weight = 2.0);
        let branches = ablations(&parts, Replacement::GroupMean);
        let (a, b) = (collect(&parts, &twice, &branches), collect(&parts, &weighted, &branches));
        for p in 0..prompts.len() {
            for branch in 0..branches.len() {
                prop_assert!(close(a.branch(branch, 2 * p), b.branch(branch, p)));
            }
        }
    }
}

/// A mean over no prompts, or over prompts of different lengths, is an error before anything is run.
#[test]
fn means_over_nothing_are_refused() {
    let parts = Parts::random(0);
    let prompt = Prompt { tokens: vec![1, 2, 3], weight: 1.0, read: vec![0], ..Prompt::default() };
    let others = [prompt.clone(), Prompt { tokens: vec![1, 2, 4], ..prompt.clone() }];
    let run = |replacement, prompts: &[Prompt]| {
        let branches = ablations(&parts, replacement);
        let readings = Readings::collect(&parts.decoder(), prompts, &branches, Options::default());
        readings.map(|readings| assert!(readings.branch(0, 0)[0].is_finite()))
    };
    let (mean, of_others) = (Replacement::GroupMean, Replacement::OthersMean);
    assert!(run(mean, &others).is_ok() && run(of_others, &others).is_ok());

    let with = |change: fn(&mut Prompt)| {
        let mut prompts = others.clone();
        change(&mut prompts[1]);
        prompts
    };
    // One prompt of a group may have weight 0; if all have, there is no mean.
    assert!(run(mean, &with(|p| p.weight = 0.0)).is_ok());
    let weightless: Vec<Prompt> = others.iter().map(|p| Prompt { weight: 0.0, ..p.clone() }).collect();
    let nothing = |result| matches!(result, Err(EngineError::NothingToAverage { group: 0 }));
    assert!(nothing(run(mean, &weightless)));
    assert!(nothing(run(mean, &[Prompt { references: Some(vec![]), ..prompt.clone() }])));
    assert!(nothing(run(of_others, std::slice::from_ref(&prompt))));
    assert!(nothing(run(of_others, &[Prompt { weight: 3.0, ..prompt.clone() }])), "three draws of one text");
    for weight in [f64::NAN, -1.0, f64::INFINITY] {
        let mut prompts = others.clone();
        prompts[1].weight = weight;
        assert!(matches!(run(mean, &prompts), Err(EngineError::Weight { index: 1, .. })), "{weight}");
    }
    let light = run(of_others, &with(|p| p.weight = 0.5));
    assert!(matches!(light, Err(EngineError::Weight { index: 1, .. })), "half a draw cannot be left out");

    let short = run(mean, &with(|p| p.references = Some(vec![vec![1, 2]])));
    assert!(matches!(short, Err(EngineError::ReferenceLength { index: 1, len: 3, reference_len: 2 })));
    let unknown = run(mean, &with(|p| p.references = Some(vec![vec![1, 2, D_VOCAB as u32]])));
    assert!(matches!(unknown, Err(EngineError::UnknownToken { index: 1, .. })));
    let foreign = run(of_others, &with(|p| p.references = Some(vec![vec![1, 2, 3]])));
    assert!(matches!(foreign, Err(EngineError::NotItsOwnReference { index: 1 })));
}
