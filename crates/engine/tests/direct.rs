//! Direct logit attribution: against Hugging Face (`golden/direct.json`), against the reference in plain loops, and properties of any
//! model.

mod checkpoints;
mod random;

use std::collections::BTreeMap;

use checkpoints::{Expected, TOLERANCE, decoder, golden, names};
use cs_engine::reference::{self, Edits};
use cs_engine::{Cost, EngineError, Options, Prompt, cost, direct_attribution, direct_attribution_cost};
use cs_model::spec::NormPlacement;
use proptest::prelude::*;
use random::{D_VOCAB, N_CTX, Parts, any_model};

/// For each checkpoint, minus each head's direct contribution to the logit difference, `[n_layers * n_heads][n_prompts]`;
/// `None` if post-norm.
fn expected() -> BTreeMap<String, Option<Vec<Vec<f64>>>> {
    serde_json::from_slice(&std::fs::read(golden().join("direct.json")).unwrap()).unwrap()
}

/// Minus the difference of a head's attributions to the two tokens that each prompt reads.
fn differences(attribution: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let of_head = |head: &Vec<f64>| head.as_chunks::<2>().0.iter().map(|[a, b]| b - a).collect();
    attribution.iter().map(of_head).collect()
}

#[test]
fn attribution_is_that_of_hugging_face_on_all_golden_checkpoints() {
    let (mut n_compared, mut n_post_norm) = (0, 0);
    let all = expected();
    for name in names() {
        let expected = all.get(&name).unwrap_or_else(|| panic!("{name}: tools/golden/direct.py measures it"));
        let (decoder, golden) = (decoder(&name), Expected::read(&name));
        let is_read = golden.is_read();
        let found = direct_attribution(&decoder, &golden.prompts(), Options::default()).unwrap();
        let Some(expected) = expected else {
            assert_eq!(found, None, "{name}");
            n_post_norm += 1;
            continue;
        };
        let found = differences(&found.unwrap());
        assert_eq!(found.len(), expected.len(), "{name}");
        let scale = expected.iter().flatten().fold(1.0, |m: f64, x| m.max(x.abs()));
        for (head, (found, expected)) in found.iter().zip(expected).enumerate() {
            let read = expected.iter().zip(&is_read).filter(|(_, is_read)| **is_read).map(|(x, _)| x);
            assert_eq!(read.clone().count(), found.len(), "{name}");
            for (found, expected) in found.iter().zip(read) {
                let apart = (found - expected).abs() / scale;
                assert!(apart < TOLERANCE, "{name}, head {head}: {found} is not {expected}");
            }
        }
        // Sandwich norms, soft caps and projections must all occur; zeros would test nothing.
        assert!(expected.iter().flatten().all(|x| x.abs() > 0.0), "{name}");
        n_compared += 1;
    }
    assert!(n_compared >= 45 && n_post_norm == 2, "{n_compared} compared, {n_post_norm} post-norm");
}

fn any_prompts() -> impl Strategy<Value = Vec<Prompt>> {
    let read = proptest::collection::vec(0u32..D_VOCAB as u32, 0..4);
    let prompt = (proptest::collection::vec(0u32..4, 1..N_CTX), read).prop_map(|(tokens, read)| Prompt {
        tokens,
        read,
        ..Prompt::default()
    });
    proptest::collection::vec(prompt, 1..7)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn attribution_is_the_reference(parts in any_model(), prompts in any_prompts()) {
        let decoder = parts.decoder();
        let found = direct_attribution(&decoder, &prompts, Options::default()).unwrap();
        prop_assert_eq!(found.is_none(), parts.spec.norm == NormPlacement::Post);
        let mut at = 0;
        for prompt in &prompts {
            let run = reference::run(&decoder, &prompt.tokens, Edits::default());
            for &token in &prompt.read {
                let expected = reference::direct_attribution(&decoder, &run, token as usize);
                prop_assert_eq!(found.is_none(), expected.is_none());
                let (Some(found), Some(expected)) = (&found, expected) else { continue };
                for (found, expected) in found.iter().zip(expected.iter().flatten()) {
                    let apart = (found[at] - expected).abs();
                    prop_assert!(apart < 1e-4 * expected.abs().max(1.0), "{} is not {expected}", found[at]);
                }
                at += 1;
            }
        }
    }

    #[test]
    fn neither_memory_nor_threads_change_a_bit(parts in any_model(), prompts in any_prompts()) {
        let decoder = parts.decoder();
        let whole = direct_attribution(&decoder, &prompts, Options::default()).unwrap();
        let Err(EngineError::Memory { need, .. }) = direct_attribution(&decoder, &prompts, Options { memory: 1 }) else {
            prop_assert!(whole.is_none(), "one byte is enough?");
            return Ok(());
        };
        let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
        let cut = pool.install(|| direct_attribution(&decoder, &prompts, Options { memory: 2 * need })).unwrap();
        let bits = |found: &Option<Vec<Vec<f64>>>| -> Vec<u64> {
            found.iter().flatten().flatten().map(|x| x.to_bits()).collect()
        };
        prop_assert_eq!(bits(&cut), bits(&whole));
    }
}

/// In a last block without nonlinearities after the head, its effect is its direct effect; elsewhere they differ because norms are
/// frozen.
#[test]
fn in_a_last_block_without_norms_or_mlp_attribution_equals_the_effect_of_ablation() {
    let mut n_compared = 0;
    for seed in 0..400 {
        let parts = Parts::random(seed);
        let spec = &parts.spec;
        let is_straight = spec.norm == NormPlacement::Pre
            && !spec.final_norm
            && spec.logit_softcap.is_none()
            && (spec.d_mlp == 0 || spec.block.is_parallel());
        if !is_straight {
            continue;
        }
        n_compared += 1;
        let decoder = parts.decoder();
        let (tokens, last) = (vec![1, 3, 2, 1], spec.n_layers - 1);
        let prompt = Prompt { tokens: tokens.clone(), read: vec![5, 7], ..Prompt::default() };
        let found = direct_attribution(&decoder, &[prompt], Options::default()).unwrap().unwrap();
        let logits = |edits: Edits<'_>| reference::run(&decoder, &tokens, edits).logits.pop().unwrap();
        for head in 0..spec.n_heads {
            use cs_engine::intervention::{Branch, Replacement};
            let ablated = Branch::ablate([(last, head)], Replacement::ValueBias);
            let without = logits(Edits { edits: ablated.edits(), ..Edits::default() });
            for (token, found) in [5, 7].into_iter().zip(&found[last * spec.n_heads + head]) {
                let taken = logits(Edits::default())[token] - without[token];
                assert!(
                    (found - taken).abs() < 1e-4 * taken.abs().max(1.0),
                    "seed {seed}: {found}, not {taken}"
                );
            }
        }
    }
    assert!(n_compared > 5, "only {n_compared} models are straight");
}

/// One plain run and a product with `W_O` at each last token.
#[test]
fn the_cost_is_that_of_one_plain_run() {
    let mut norms = BTreeMap::new();
    for seed in 0..60 {
        let spec = Parts::random(seed).spec;
        let prompts = [[1, 2, 3], [1, 2, 0]].map(|t| Prompt { tokens: t.to_vec(), ..Prompt::default() });
        let plain = cost(&spec, &prompts, &[], Options::default()).unwrap();
        let found = direct_attribution_cost(&spec, &prompts, Options::default()).unwrap();
        let w_o = (2 * 2 * spec.n_layers * spec.d_attn() * spec.d_model) as f64;
        let expected = match spec.norm {
            NormPlacement::Post => Cost::default(),
            NormPlacement::Pre => Cost { dense: plain.dense + w_o, ..plain },
            NormPlacement::Branch | NormPlacement::PreAndBranch => {
                Cost { dense: plain.dense + 2.0 * w_o, ..plain }
            }
        };
        assert_eq!(found, expected);
        *norms.entry(format!("{:?}", spec.norm)).or_insert(0) += 1;
    }
    assert_eq!(norms.len(), 4, "{norms:?}");
}
