//! Properties of any model: random small decoders over all settings of a spec, against the reference in plain loops and
//! under transformations that cannot change results.

mod means;
mod random;

use cs_engine::forest::Forest;
use cs_engine::intervention::{Branch, Replacement, Stream};
use cs_engine::reference::{self, Edits, Rows, Run};
use cs_engine::{Cache, EngineError, Options, Prompt, Queries, Readings, attention_rows};
use proptest::prelude::*;
use random::{D_VOCAB, N_KINDS, Parts, any_edits, any_model, any_prompts};

fn heads(parts: &Parts) -> Vec<(usize, usize)> {
    (0..parts.spec.n_layers).flat_map(|l| (0..parts.spec.n_heads).map(move |h| (l, h))).collect()
}

fn ablations(parts: &Parts, replacement: Replacement) -> Vec<Branch> {
    heads(parts).into_iter().map(|head| Branch::ablate([head], replacement)).collect()
}

fn collect(parts: &Parts, prompts: &[Prompt], branches: &[Branch]) -> Readings {
    Readings::collect(&parts.decoder(), prompts, branches, Options::default()).unwrap()
}

fn close(a: &[f64], b: &[f64]) -> bool {
    let scale = a.iter().chain(b).fold(1.0, |m: f64, x| m.max(x.abs()));
    a.iter().zip(b).all(|(a, b)| (a - b).abs() <= 1e-4 * scale)
}

/// Attention at each prompt's last token: by prompt, layer and head, over the positions from `first` on; prompts of a layer in
/// order of arrival.
type LastAttention = Vec<(usize, usize, usize, Vec<Vec<f32>>)>;

fn attention(parts: &Parts, prompts: &[Prompt], memory: usize) -> Result<LastAttention, EngineError> {
    let mut found = Vec::new();
    attention_rows(&parts.decoder(), prompts, Queries::Last, Options { memory }, &mut |seen| {
        let heads = seen.weights.chunks(seen.n_seen).map(<[f32]>::to_vec).collect();
        found.push((seen.layer, seen.prompt, seen.first, heads));
    })?;
    found.sort_by_key(|of_prompt| of_prompt.0); // stable: prompts keep their order
    Ok(found)
}

/// Means of `z` over the prompts of a group, layer by layer.
fn mean_z(runs: &[Run], prompts: &[Prompt], group: u32) -> Vec<Rows> {
    let members: Vec<&Run> =
        runs.iter().zip(prompts).filter(|(_, prompt)| prompt.group == group).map(|(run, _)| run).collect();
    let of_layer = |layer: usize| -> Rows {
        let z_of = |run: &Run, token: usize| -> Vec<f64> {
            run.layers[layer].heads.iter().flat_map(|head| head.z[token].clone()).collect()
        };
        let mean = |token: usize| {
            let mut sum = z_of(members[0], token);
            for run in &members[1..] {
                sum.iter_mut().zip(z_of(run, token)).for_each(|(sum, z)| *sum += z);
            }
            sum.iter().map(|z| z / members.len() as f64).collect()
        };
        (0..members[0].logits.len()).map(mean).collect()
    };
    (0..runs[0].layers.len()).map(of_layer).collect()
}

const ALL_REPLACEMENTS: [Replacement; 4] =
    [Replacement::Zero, Replacement::ValueBias, Replacement::GroupMean, Replacement::Source];

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn forest_is_the_reference(parts in any_model(), prompts in any_prompts()) {
        let whole_layer = |l| Branch::ablate((0..parts.spec.n_heads).map(|h| (l, h)), Replacement::Zero);
        let mut branches = ablations(&parts, Replacement::Zero);
        branches.extend((0..parts.spec.n_layers).map(whole_layer));
        let readings = collect(&parts, &prompts, &branches);
        let decoder = parts.decoder();
        for (p, prompt) in prompts.iter().enumerate() {
            let last = |edits: Edits<'_>| reference::run(&decoder, &prompt.tokens, edits).logits.pop().unwrap();
            prop_assert!(close(readings.plain(p), &last(Edits::default())));
            for (b, branch) in branches.iter().enumerate() {
                let expected = last(Edits { edits: branch.edits(), ..Edits::default() });
                prop_assert!(close(readings.branch(b, p), &expected), "{:?}", branch);
            }
        }
    }

    /// Any edits, of several streams, heads and layers at once.
    #[test]
    fn edits_do_what_the_reference_does(
        parts in any_model(),
        prompts in any_prompts(),
        sets in prop::collection::vec(prop::collection::vec((0usize..3, 0usize..3, 0..N_KINDS), 1..5), 1..5),
    ) {
        let branches: Vec<Branch> = sets.iter().map(|set| any_edits(set)).collect();
        let readings = collect(&parts, &prompts, &branches);
        let decoder = parts.decoder();
        let plain = |tokens: &Vec<u32>| reference::run(&decoder, tokens, Edits::default());
        let runs: Vec<Run> = prompts.iter().map(|p| plain(&p.tokens)).collect();
        for (p, prompt) in prompts.iter().enumerate() {
            let source = plain(prompt.source.as_ref().unwrap());
            let mean_z = mean_z(&runs, &prompts, prompt.group);
            for (b, branch) in branches.iter().enumerate() {
                let edits = Edits { edits: branch.edits(), source: Some(&source), mean_z: &mean_z };
                let expected = reference::run(&decoder, &prompt.tokens, edits).logits.pop().unwrap();
                let found = readings.branch(b, p);
                prop_assert!(close(found, &expected), "{:?}: {:?}, not {:?}", branch, found, expected);
            }
        }
    }

    #[test]
    fn captures_are_those_of_the_reference(parts in any_model(), prompts in any_prompts()) {
        let (decoder, spec) = (parts.decoder(), &parts.spec);
        let tokens: Vec<&[u32]> = prompts.iter().map(|p| &p.tokens[..]).collect();
        let forest = Forest::new(&tokens).unwrap();
        let cache = Cache::new(&decoder, &forest).unwrap();
        let path = forest.path(forest.end(0));
        let expected = reference::run(&decoder, tokens[0], Edits::default());
        for (layer, expected) in expected.layers.iter().enumerate() {
            let found = cache.layer(layer);
            let rows = |matrix: &[f32], width: usize, from: usize, n: usize| -> Vec<f64> {
                let of_node = |&node: &u32| &matrix[node as usize * width + from..][..n];
                path.iter().flat_map(of_node).map(|&x| f64::from(x)).collect()
            };
            let whole = |matrix: &[f32]| rows(matrix, spec.d_model, 0, spec.d_model);
            prop_assert!(close(&whole(&found.resid_pre), &expected.resid_pre.concat()));
            prop_assert!(close(&whole(&found.resid_post), &expected.resid_post.concat()));
            prop_assert_eq!(found.resid_mid.is_some(), expected.resid_mid.is_some());
            if let (Some(found), Some(expected)) = (&found.resid_mid, &expected.resid_mid) {
                prop_assert!(close(&whole(found), &expected.concat()));
            }
            let (d_head, d_attn, d_kv) = (spec.d_head, spec.d_attn(), spec.d_kv());
            for (h, expected) in expected.heads.iter().enumerate() {
                let of_group = h / spec.group_size() * d_head;
                let head = |matrix: &[f32], width: usize, from: usize| rows(matrix, width, from, d_head);
                prop_assert!(close(&head(&found.q, d_attn, h * d_head), &expected.q.concat()));
                prop_assert!(close(&head(&found.k, d_kv, of_group), &expected.k.concat()));
                prop_assert!(close(&head(&found.v, d_kv, of_group), &expected.v.concat()));
                prop_assert!(close(&head(&found.z, d_attn, h * d_head), &expected.z.concat()));
                for (i, &node) in path.iter().enumerate() {
                    let seen: Vec<f64> = cache.pattern(layer, h, node).into_iter().map(f64::from).collect();
                    let row = &expected.pattern[i][..=i];
                    prop_assert!(close(&seen, &row[row.len() - seen.len()..]));
                    prop_assert!(row[..row.len() - seen.len()].iter().all(|&p| p == 0.0));
                }
            }
        }
        for (i, &node) in path.iter().enumerate() {
            prop_assert!(close(&cache.logits(node), &expected.logits[i]));
        }
    }

    #[test]
    fn attention_at_the_last_token_is_that_of_the_reference(
        parts in any_model(), prompts in any_prompts(),
    ) {
        let found = attention(&parts, &prompts, Options::default().memory).unwrap();
        prop_assert_eq!(found.len(), prompts.len() * parts.spec.n_layers);
        for (layer, prompt, first, heads) in &found {
            let tokens = &prompts[*prompt].tokens;
            let expected = reference::run(&parts.decoder(), tokens, Edits::default());
            prop_assert_eq!(heads.len(), parts.spec.n_heads);
            for (found, expected) in heads.iter().zip(&expected.layers[*layer].heads) {
                let found: Vec<f64> = found.iter().map(|&x| f64::from(x)).collect();
                prop_assert_eq!(first + found.len(), tokens.len());
                let expected = &expected.pattern[tokens.len() - 1][*first..];
                prop_assert!(close(&found, expected), "L{}: {:?}, not {:?}", layer, found, expected);
            }
        }
        // With memory for as few prompts at a time as possible: the same bits, in the same order.
        let least = (8..).map(|bits| 1 << bits).find(|&memory| attention(&parts, &prompts, memory).is_ok());
        prop_assert_eq!(&attention(&parts, &prompts, least.unwrap()).unwrap(), &found);
    }

    #[test]
    fn permuting_heads_permutes_results(parts in any_model(), prompts in any_prompts()) {
        let order = parts.another_order();
        let n_heads = order.len();
        let permuted = parts.with_heads_permuted(&order);
        for replacement in ALL_REPLACEMENTS {
            let old = collect(&parts, &prompts, &ablations(&parts, replacement));
            let new = collect(&permuted, &prompts, &ablations(&permuted, replacement));
            for p in 0..prompts.len() {
                for layer in 0..parts.spec.n_layers {
                    for (to, from) in order.iter().enumerate() {
                        prop_assert!(close(
                            new.branch(layer * n_heads + to, p),
                            old.branch(layer * n_heads + from, p)
                        ));
                    }
                }
            }
        }
    }

    #[test]
    fn scaling_values_against_outputs_changes_nothing(
        parts in any_model(), prompts in any_prompts(), layer in 0usize..3, head in 0usize..3, c in 0.25f32..4.0,
    ) {
        let scaled = parts.with_values_scaled(layer, head, c);
        for replacement in ALL_REPLACEMENTS {
            let branches = ablations(&parts, replacement);
            let (old, new) = (collect(&parts, &prompts, &branches), collect(&scaled, &prompts, &branches));
            for p in 0..prompts.len() {
                prop_assert!((0..branches.len()).all(|b| close(old.branch(b, p), new.branch(b, p))));
            }
        }
    }

    #[test]
    fn a_head_without_output_has_no_effect_at_all(
        parts in any_model(), prompts in any_prompts(), layer in 0usize..3, head in 0usize..3,
    ) {
        let silent = parts.with_no_output(layer, head);
        for replacement in ALL_REPLACEMENTS {
            let readings = collect(&silent, &prompts, &[Branch::ablate([(layer, head)], replacement)]);
            for p in 0..prompts.len() {
                prop_assert_eq!(readings.plain(p), readings.branch(0, p)); // to the bit
            }
        }
    }

    #[test]
    fn patching_from_the_same_run_changes_nothing(parts in any_model(), mut prompts in any_prompts()) {
        prompts.iter_mut().for_each(|p| p.source = Some(p.tokens.clone()));
        for stream in [Stream::Q, Stream::K, Stream::V, Stream::Z] {
            let branches: Vec<Branch> =
                heads(&parts).into_iter().map(|h| Branch::patch([h], stream, Replacement::Source)).collect();
            let readings = collect(&parts, &prompts, &branches);
            for p in 0..prompts.len() {
                for b in 0..branches.len() {
                    prop_assert_eq!(readings.plain(p), readings.branch(b, p)); // to the bit
                }
            }
        }
    }

    /// Scores of a pattern are recomputed: the same up to rounding.
    #[test]
    fn patching_a_pattern_from_the_same_run_changes_nothing(parts in any_model(), mut prompts in any_prompts()) {
        prompts.iter_mut().for_each(|p| p.source = Some(p.tokens.clone()));
        let patch = |h| Branch::patch([h], Stream::Pattern, Replacement::Source);
        let branches: Vec<Branch> = heads(&parts).into_iter().map(patch).collect();
        let readings = collect(&parts, &prompts, &branches);
        for p in 0..prompts.len() {
            for b in 0..branches.len() {
                prop_assert!(close(readings.plain(p), readings.branch(b, p)));
            }
        }
    }

    /// Only attention moves information between positions, so with every head's z from the source, positions with the
    /// source's token are as in the source, and others are not.
    #[test]
    fn patching_every_z_restores_the_source_where_tokens_agree(
        parts in any_model(), mut prompts in any_prompts(),
    ) {
        let mut sources = prompts.clone();
        for (p, (prompt, source)) in prompts.iter_mut().zip(&mut sources).enumerate() {
            source.tokens = prompt.source.clone().unwrap_or_else(|| prompt.tokens.clone());
            let last = prompt.tokens.len() - 1;
            if p % 2 == 0 {
                source.tokens[last] = prompt.tokens[last];
            }
            prompt.source = Some(source.tokens.clone());
        }
        let everything = Branch::patch(heads(&parts), Stream::Z, Replacement::Source);
        let readings = collect(&parts, &prompts, &[everything]);
        let clean = collect(&parts, &sources, &[]);
        for (p, (prompt, source)) in prompts.iter().zip(&sources).enumerate() {
            let agree = prompt.tokens.last() == source.tokens.last();
            prop_assert_eq!(close(readings.branch(0, p), clean.plain(p)), agree, "prompt {}", p);
        }
    }

    #[test]
    fn a_prompt_does_not_depend_on_the_others(parts in any_model(), prompts in any_prompts()) {
        let branches: Vec<Branch> = [Replacement::ValueBias, Replacement::Source]
            .into_iter()
            .flat_map(|r| ablations(&parts, r))
            .collect();
        let together = collect(&parts, &prompts, &branches);
        for (p, prompt) in prompts.iter().enumerate() {
            let alone = collect(&parts, std::slice::from_ref(prompt), &branches);
            prop_assert_eq!(alone.plain(0), together.plain(p)); // to the bit
            for b in 0..branches.len() {
                prop_assert_eq!(alone.branch(b, 0), together.branch(b, p));
            }
        }
    }

    /// Branches with a common prefix are run together until they diverge; results must be bit-identical whatever else is run
    /// with a branch and however little memory there is.
    #[test]
    fn a_branch_does_not_depend_on_the_others(
        parts in any_model(),
        mut prompts in any_prompts(),
        sets in prop::collection::vec((prop::collection::vec((0usize..3, 0usize..3), 0..5), 0usize..6), 1..12),
    ) {
        for prompt in &mut prompts {
            prompt.source = Some(prompt.tokens.iter().map(|t| (t + 1) % D_VOCAB as u32).collect());
        }
        let branches = |streams: &[Stream]| -> Vec<Branch> {
            let one = |(heads, kind): &(Vec<(usize, usize)>, usize)| match kind % streams.len() {
                0 => Branch::ablate(heads.iter().copied(), Replacement::ValueBias),
                i => Branch::patch(heads.iter().copied(), streams[i], Replacement::Source),
            };
            sets.iter().map(one).collect()
        };
        let z_alone = branches(&[Stream::Z, Stream::Z]);
        let all_streams = branches(&[Stream::Z, Stream::Z, Stream::Q, Stream::K, Stream::V, Stream::Pattern]);
        for branches in [z_alone, all_streams] {
            let together = collect(&parts, &prompts, &branches);
            let decoder = parts.decoder();
            let least = match Readings::collect(&decoder, &prompts, &branches, Options { memory: 0 }) {
                Err(EngineError::Memory { need, .. }) => need,
                other => panic!("no memory was enough: {other:?}"),
            };
            let tight = Readings::collect(&decoder, &prompts, &branches, Options { memory: least }).unwrap();
            prop_assert_eq!(&tight, &together);
            for (i, branch) in branches.iter().enumerate() {
                let alone = collect(&parts, &prompts, std::slice::from_ref(branch));
                for p in 0..prompts.len() {
                    prop_assert_eq!(alone.branch(0, p), together.branch(i, p), "branch {} of {:?}", i, branches);
                }
            }
        }
    }
}
