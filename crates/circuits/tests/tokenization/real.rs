//! The tasks with the real tokenizers of GPT-2 and Pythia, if `../shared/hf` has them.

use std::collections::BTreeSet;

use crate::support::{self, Real, ids, real};
use cs_circuits::prompts::{PromptOptions, PromptSet, Protocol, Reference, Split, Tokenize};
use cs_circuits::references::check_references;
use cs_circuits::scan::{Ablation, ScanOptions};
use cs_circuits::task::{Names, Task, Template};

fn both() -> Option<(Real, Real)> {
    Some((real("gpt2")?, real("pythia")?))
}

fn published() -> PromptOptions {
    PromptOptions { protocol: Protocol::Published, ..PromptOptions::default() }
}

#[test]
fn known_ids_of_known_strings() {
    let Some((gpt2, pythia)) = both() else { return };
    assert_eq!(ids(&gpt2, " Mary"), [5335]);
    assert_eq!(ids(&gpt2, "When John and Mary"), [2215, 1757, 290, 5335]);
    // Two spaces are an added token in Pythia, and two tokens in GPT-2.
    assert_eq!(ids(&gpt2, ".  Alice"), [13, 220, 14862]);
    assert_eq!(ids(&pythia, ".  Alice").len(), 4);
}

#[test]
fn every_name_of_the_built_in_tasks_is_one_token_in_both() {
    let Some((gpt2, pythia)) = both() else { return };
    for name in ["ioi", "anti-repeat"] {
        let task = Task::load(name).unwrap();
        let set = PromptSet::resolve(&task, &PromptOptions::default(), &[&gpt2, &pythia]).unwrap();
        assert!(set.refused.is_empty(), "{:?}", set.refused);
        assert!(set.names.all().count() >= 60);
        for tokenizer in [&gpt2, &pythia] {
            let tokens = set.tokenize(tokenizer).unwrap();
            for reference in [Reference::Abc, Reference::Same] {
                tokens.require_resample(Split::All, reference).unwrap();
                tokens.require_means(Split::All, reference).unwrap();
            }
            assert!(tokens.tracing_pairs(Split::HeldOut).pairs.len() >= 200);
            for prompt in &tokens.prompts {
                let bos = tokenizer.bos_id().unwrap();
                assert!(prompt.token_ids[0] == bos && !prompt.token_ids[1..].contains(&bos));
                assert_eq!(tokenizer.decode(&prompt.token_ids[1..]).unwrap(), prompt.text);
                assert_eq!(tokenizer.decode(&[prompt.correct_id]).unwrap(), format!(" {}", prompt.correct));
            }
        }
    }
}

#[test]
fn names_of_several_tokens_are_refused_with_their_pieces() {
    let Some((gpt2, pythia)) = both() else { return };
    let mut task = support::name_task("ioi");
    task.names.pool.extend(["Mallory", "Heidi", "Mia"].map(str::to_owned));
    let set = PromptSet::resolve(&task.clone().into(), &PromptOptions::default(), &[&gpt2, &pythia]).unwrap();
    let refused: BTreeSet<(&str, &str, &str)> =
        set.refused.iter().map(|r| (r.models[0].as_str(), r.name.as_str(), r.reason.as_str())).collect();
    assert_eq!(
        refused,
        BTreeSet::from([
            ("gpt2", "Mallory", "' Mallory' is split into ' Mall', 'ory'"),
            ("pythia", "Heidi", "' Heidi' is split into ' He', 'idi'"),
            ("pythia", "Mallory", "' Mallory' is split into ' Mall', 'ory'"),
            ("pythia", "Mia", "' Mia' is split into ' M', 'ia'"),
        ])
    );
}

#[test]
fn the_published_anti_repeat_prompt_breaks_the_rule_in_pythia_only() {
    let Some((gpt2, pythia)) = both() else { return };
    // Its template, with a list of names long enough for the rule.
    let anti = support::name_task("anti-repeat");
    let form = anti.published.clone().unwrap();
    let mut task = anti.clone();
    task.name = "two_spaces".to_owned();
    task.names = Names { pool: [form.names, anti.names.pool[..29].to_vec()].concat(), ..anti.names.clone() };
    task.names.partner_pool.retain(|name| name != "Bob");
    task.templates = vec![Template { id: "met_talked".to_owned(), text: form.text }];
    task.fillers.clear();

    let accepted = PromptSet::resolve(&task.clone().into(), &PromptOptions::default(), &[&gpt2]).unwrap();
    assert!(accepted.names.all().count() > 60);
    let error = PromptSet::resolve(&task.clone().into(), &PromptOptions::default(), &[&gpt2, &pythia])
        .unwrap_err()
        .to_string();
    println!("{error}");
    assert!(error.contains("two_spaces: 0 of the"), "{error}");
    assert!(
        error.contains("' Alice' at {repeated} is split into '  ', 'Al', 'ice' in template \"met_talked\"")
    );
    assert!(!error.contains('\n'));

    // The protocol of the published study accepts its own prompts.
    let set = PromptSet::resolve(&anti.clone().into(), &published(), &[&gpt2, &pythia]).unwrap();
    let tokens = set.tokenize(&pythia).unwrap();
    let alice = tokens.candidates.iter().find(|candidate| candidate.name == "Alice").unwrap();
    assert_eq!(vec![alice.id], ids(&pythia, " Alice"));
    let mallory = tokens.candidates.iter().find(|candidate| candidate.name == "Mallory").unwrap();
    assert_eq!(Some(&mallory.id), ids(&pythia, " Mallory").last());
}

/// The published prompts have 6,741 token positions with GPT-2's tokenizer, BOS included, in about 2,255 nodes of
/// one forest. That follows from names drawn with replacement; each pair once would give about 3,100 nodes.
#[test]
fn the_published_prompts_make_the_forest_that_the_study_states() {
    let Some(gpt2) = real("gpt2") else { return };
    for seed in 0..5 {
        let (mut positions, mut prompts) = (0, 0);
        let mut nodes: BTreeSet<Vec<u32>> = BTreeSet::new();
        for name in ["ioi", "anti-repeat"] {
            let task = Task::load(name).unwrap();
            let set = PromptSet::resolve(&task, &PromptOptions { seed, ..published() }, &[&gpt2]).unwrap();
            for prompt in set.tokenize(&gpt2).unwrap().prompts {
                prompts += prompt.weight;
                positions += prompt.token_ids.len() * prompt.weight as usize;
                nodes.extend((1..=prompt.token_ids.len()).map(|end| prompt.token_ids[..end].to_vec()));
            }
        }
        println!("seed {seed}: {prompts} prompts, {positions} positions, {} nodes", nodes.len());
        assert_eq!(prompts, 600);
        assert!(positions.abs_diff(6741) < 50, "{positions}");
        assert!(nodes.len().abs_diff(2255) < 100, "{}", nodes.len());
    }
}

/// In GPT-2, Lina is two tokens, and the only such name of the study; in Pythia, Mallory and Heidi are two
/// tokens each.
#[test]
fn published_prompts_have_twins_and_references_as_long_in_both() {
    let Some((gpt2, pythia)) = both() else { return };
    for name in ["ioi", "anti-repeat"] {
        let task = Task::load(name).unwrap();
        let tokenizers: [&[&dyn Tokenize]; 3] = [&[&gpt2], &[&pythia], &[&gpt2, &pythia]];
        for of_study in tokenizers {
            let set = PromptSet::resolve(&task, &published(), of_study).unwrap();
            for &tokenizer in of_study {
                let tokens = set.tokenize(tokenizer).unwrap();
                tokens.require_means(Split::All, Reference::Abc).unwrap();
                tokens.require_resample(Split::All, Reference::Abc).unwrap();
                tokens.require_resample(Split::All, Reference::Same).unwrap();
                for prompt in &tokens.prompts {
                    let references = prompt.references.iter().map(|reference| &reference.token_ids);
                    let twins =
                        [&prompt.resample_token_ids, &prompt.corrupted_token_ids].into_iter().flatten();
                    for ids in twins.chain(references) {
                        assert_eq!(ids.len(), prompt.token_ids.len());
                    }
                }
            }
            // "Mallory met Heidi" is the only prompt of its length in Pythia's tokens, however many are drawn.
            let scan = ScanOptions {
                ablation: Ablation::Mean,
                reference: Reference::Same,
                ..ScanOptions::default()
            };
            let error = check_references(&task, &published(), of_study, scan).err().map(|e| e.to_string());
            let alone = name == "anti-repeat" && of_study.iter().any(|t| t.model() == "pythia");
            assert_eq!(error.is_some(), alone, "{error:?}");
            let fix = "no number of prompts helps: use --reference abc";
            assert!(error.is_none_or(|error| error.contains("1 of 5 groups") && error.contains(fix)));
        }
    }
}
