//! Reference prompts of mean and resample ablation: what they are, how many, and what is refused without them.

#[path = "planted/mod.rs"]
mod planted;
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use cs_analysis::categories::DEFAULT_TAU;
use cs_circuits::ablate::ablate_sets;
use cs_circuits::prompts::{
    PromptOptions, PromptSet, Protocol, REFERENCES_PER_TEMPLATE, Reference, Split, TokenizedPrompts,
};
use cs_circuits::scan::{Ablation, ScanOptions};
use cs_circuits::task::Task;
use planted::{Planted, World, deltas, failures, full_circuit, scan_with, shared_circuit};
use support::Words;

fn resolve(
    task: &str,
    n_prompts: usize,
    protocol: Protocol,
    tokenizer: &Words,
) -> (PromptSet, TokenizedPrompts) {
    let task = Task::load(task).unwrap();
    let options = PromptOptions { n_prompts: Some(n_prompts), protocol, ..PromptOptions::default() };
    let set = PromptSet::resolve(&task, &options, &[tokenizer]).unwrap();
    let tokens = set.tokenize(tokenizer).unwrap();
    (set, tokens)
}

#[test]
fn references_have_the_prompts_words_and_three_other_names() {
    for task in ["ioi", "anti_repeat"] {
        let (set, tokens) = resolve(task, 480, Protocol::Standard, &Words::new("words"));
        let pairs = |split| {
            let own = set.prompts.iter().filter(move |p| p.split == split);
            own.map(|p| BTreeSet::from([p.first.as_str(), p.second.as_str()])).collect::<BTreeSet<_>>()
        };
        let (discovery, held_out) = (pairs(Split::Discovery), pairs(Split::HeldOut));
        for (prompt, tokenized) in set.prompts.iter().zip(&tokens.prompts) {
            for (reference, tokenized_reference) in prompt.references.iter().zip(&tokenized.references) {
                let names = [&reference.first, &reference.second, &reference.third];
                let all: BTreeSet<_> = names.into_iter().chain([&prompt.first, &prompt.second]).collect();
                assert_eq!(all.len(), 5, "{} {}", prompt.text, reference.text);
                // Nothing but the names differs, and each is at its place.
                let words = prompt.text.split_whitespace().zip(reference.text.split_whitespace());
                let differing: Vec<&str> = words.filter(|(a, b)| a != b).map(|(_, b)| b).collect();
                assert_eq!(differing.len(), 3, "{} {}", prompt.text, reference.text);
                assert!(differing.iter().zip(names).all(|(word, name)| word.starts_with(name.as_str())));
                assert_eq!(tokenized.token_ids.len(), tokenized_reference.token_ids.len());
                // No pair of the other split is met again.
                let pair = BTreeSet::from([reference.first.as_str(), reference.second.as_str()]);
                let others = if prompt.split == Split::Discovery { &held_out } else { &discovery };
                assert!(!others.contains(&pair), "{}", reference.text);
            }
        }
    }
}

#[test]
fn few_prompts_have_as_many_references_as_many() {
    let words = Words::new("words");
    let mut first: BTreeMap<String, String> = BTreeMap::new();
    for n in [20, 80, 480] {
        let (set, _) = resolve("ioi", n, Protocol::Standard, &words);
        let mut of_group: BTreeMap<(Split, &str), usize> = BTreeMap::new();
        for prompt in &set.prompts {
            *of_group.entry((prompt.split, &prompt.template)).or_default() += prompt.references.len();
            // More prompts change nothing for those that were there.
            let reference = &prompt.references[0].text;
            assert_eq!(first.entry(prompt.text.clone()).or_insert_with(|| reference.clone()), reference);
        }
        assert_eq!(of_group.len(), 20);
        assert!(of_group.values().all(|&n| (REFERENCES_PER_TEMPLATE..32).contains(&n)), "{n}: {of_group:?}");
    }
    // No two prompts share a stream of draws.
    let distinct: BTreeSet<&String> = first.values().collect();
    assert!(distinct.len() * 10 > first.len() * 9, "{} of {}", distinct.len(), first.len());
}

#[test]
fn groups_of_one_are_refused_with_the_number_of_prompts_that_helps() {
    let words = Words::new("words");
    for (task, needed) in [("ioi", 40), ("anti_repeat", 32)] {
        for few in [2, 10, 20, needed - 1] {
            let (_, tokens) = resolve(task, few, Protocol::Standard, &words);
            tokens.require_means(Split::All, Reference::Abc).unwrap();
            let error = tokens.require_means(Split::All, Reference::Same).unwrap_err().to_string();
            assert!(
                error.contains(&format!("at least {needed} prompts instead of {few} (--prompts)")),
                "{error}"
            );
            assert!(error.contains("--reference abc") && !error.contains('\n'), "{error}");
        }
        let (_, tokens) = resolve(task, needed, Protocol::Standard, &words);
        tokens.require_means(Split::All, Reference::Same).unwrap();
    }
    let (_, tokens) = resolve("ioi", 1, Protocol::Published, &words);
    let error = tokens.require_means(Split::All, Reference::Same).unwrap_err().to_string();
    assert!(error.contains("at least 2 prompts instead of 1"), "{error}");
    // Three draws of one text are one prompt: without it there is nothing left.
    let (_, mut tokens) = resolve("ioi", 1, Protocol::Published, &words);
    tokens.prompts[0].weight = 3;
    assert!(tokens.require_means(Split::All, Reference::Same).is_err());
}

#[test]
fn names_of_a_length_of_their_own_have_no_reference_and_are_refused() {
    let splitting = Words::splitting("words", &["Lina"]);
    let (_, tokens) = resolve("ioi", 200, Protocol::Published, &splitting);
    for prompt in &tokens.prompts {
        assert_eq!(prompt.references.is_empty(), prompt.text.contains("Lina"), "{}", prompt.text);
    }
    for error in [
        tokens.require_means(Split::All, Reference::Abc).unwrap_err().to_string(),
        tokens.require_resample(Split::All, Reference::Abc).unwrap_err().to_string(),
    ] {
        assert!(error.contains("have no reference prompt") && error.contains("Lina"), "{error}");
        assert!(error.contains("--protocol standard") && !error.contains('\n'), "{error}");
    }
    // Where other names are as long, three of them fit.
    let (_, tokens) =
        resolve("ioi", 200, Protocol::Published, &Words::splitting("words", &["Lina", "Omar", "Chen"]));
    assert!(tokens.prompts.iter().any(|p| p.text.contains("Lina") && !p.references.is_empty()));
    assert!(
        tokens
            .prompts
            .iter()
            .flat_map(|p| p.references.iter().map(move |r| (p, r)))
            .all(|(p, r)| { p.token_ids.len() == r.token_ids.len() && p.text != r.text })
    );
}

/// With three different names nothing is repeated, so that a mean takes from each head just what it says of the task: Δ is that
/// of zeroing it, and exactly the planted heads are found. `previous` says the same whatever the names: its Δ is 0.
#[test]
fn planted_circuits_are_found_under_mean_and_resample_ablation() {
    let world = World::new();
    for circuit in [full_circuit, shared_circuit] {
        for seed in 0..5 {
            let model = Planted::new(&world, circuit(&world), seed);
            for ablation in [Ablation::Mean, Ablation::Resample] {
                let options = ScanOptions { ablation, ..ScanOptions::default() };
                let [ioi, anti] = [&world.ioi, &world.anti]
                    .map(|prompts| deltas(&scan_with(&model.decoder, prompts, options)));
                let (same, wrong): (Vec<_>, Vec<_>) = failures(&model, [&ioi, &anti], DEFAULT_TAU)
                    .into_iter()
                    .partition(|failure| failure.role == Some("previous"));
                let wrong: Vec<String> = wrong.iter().map(ToString::to_string).collect();
                assert!(wrong.is_empty(), "{ablation}, placement {seed}:\n{}", wrong.join("\n"));
                assert!(same.iter().all(|failure| failure.found.iter().all(|delta| delta.abs() < 0.01)));
            }
        }
    }
}

/// A scan says which reference prompts it used, and sets of one head agree with it, under every choice.
#[test]
fn scans_and_sets_take_the_same_references() {
    let world = World::new();
    let model = Planted::new(&world, full_circuit(&world), 1);
    let (layer, head) = model.head("ioi_mover");
    let sets = [vec![(layer as u32, head as u32)]];
    let index = layer * planted::N_HEADS + head;
    let mut found = Vec::new();
    for ablation in [Ablation::Zero, Ablation::Mean, Ablation::Resample] {
        for reference in [Reference::Abc, Reference::Same] {
            let options = ScanOptions { ablation, reference, ..ScanOptions::default() };
            let scan = scan_with(&model.decoder, &world.ioi, options);
            let named = (ablation != Ablation::Zero).then(|| reference.to_string());
            assert_eq!(scan.meta.reference, named);
            let observe = &mut |_| ControlFlow::Continue(());
            let outcomes =
                ablate_sets(&model.decoder, &world.ioi, (Split::HeldOut, None), &sets, options, observe)
                    .unwrap();
            let held_out = scan.prompts_of(Split::HeldOut);
            let of_scan: Vec<f32> = held_out.iter().map(|&p| scan.ablated_head(index)[p]).collect();
            assert_eq!(outcomes.sets[0].logit_diff, of_scan, "{ablation} {reference}");
            found.push(of_scan);
        }
    }
    assert_eq!(found[0], found[1], "nothing is taken from references under zero ablation");
    assert_ne!(found[2], found[3]);
    assert_ne!(found[4], found[5]);
}
