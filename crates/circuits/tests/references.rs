//! Reference prompts of mean and resample ablation: their contents and number, and what is rejected without
//! them.

#[path = "planted/mod.rs"]
mod planted;
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use cs_analysis::categories::DEFAULT_TAU;
use cs_circuits::ablate::ablate_sets;
use cs_circuits::prompts::{
    PromptOptions, PromptSet, Protocol, REFERENCES_PER_TEMPLATE, Reference, Split, Tokenize, TokenizedPrompts,
};
use cs_circuits::references::check_references;
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
                // Only the names differ, each in its place.
                let words = prompt.text.split_whitespace().zip(reference.text.split_whitespace());
                let differing: Vec<&str> = words.filter(|(a, b)| a != b).map(|(_, b)| b).collect();
                assert_eq!(differing.len(), 3, "{} {}", prompt.text, reference.text);
                assert!(differing.iter().zip(names).all(|(word, name)| word.starts_with(name.as_str())));
                assert_eq!(tokenized.token_ids.len(), tokenized_reference.token_ids.len());
                // No pair of the other split occurs.
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
            // More prompts do not change the existing ones.
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

fn refusal(
    task: &str,
    n: usize,
    protocol: Protocol,
    tokenizers: &[&dyn Tokenize],
    scan: ScanOptions,
) -> String {
    let options = PromptOptions { n_prompts: Some(n), protocol, ..PromptOptions::default() };
    let error = check_references(&Task::load(task).unwrap(), &options, tokenizers, scan).unwrap_err();
    assert!(!error.to_string().contains('\n'), "{error}");
    error.to_string()
}

fn means(reference: Reference) -> ScanOptions {
    ScanOptions { ablation: Ablation::Mean, reference, ..ScanOptions::default() }
}

#[test]
fn groups_of_one_are_refused_with_the_number_of_prompts_that_helps() {
    let words = Words::new("words");
    for (task, needed) in [("ioi", 40), ("anti_repeat", 32)] {
        for few in [2, 10, 20, needed - 1] {
            let (_, tokens) = resolve(task, few, Protocol::Standard, &words);
            tokens.require_means(Split::All, Reference::Abc).unwrap();
            tokens.require_means(Split::All, Reference::Same).unwrap_err();
            let error = refusal(task, few, Protocol::Standard, &[&words], means(Reference::Same));
            let fix = format!(
                "ask for {needed} prompts instead of {few} (--prompts), or use --reference abc, or use --ablation zero"
            );
            assert!(error.ends_with(&fix), "{error}");
        }
        let (_, tokens) = resolve(task, needed, Protocol::Standard, &words);
        tokens.require_means(Split::All, Reference::Same).unwrap();
    }
    let error = refusal("ioi", 1, Protocol::Published, &[&words], means(Reference::Same));
    assert!(error.contains("ask for 2 prompts instead of 1"), "{error}");
    // Three draws of one text are one prompt: without it there is nothing left.
    let (_, mut tokens) = resolve("ioi", 1, Protocol::Published, &words);
    tokens.prompts[0].weight = 3;
    assert!(tokens.require_means(Split::All, Reference::Same).is_err());
}

/// For names of any length: the number of prompts that an error suggests is enough, each option that it names helps, and if
/// it says that no number helps, none does.
#[test]
fn what_an_error_asks_for_helps() {
    let published = |task: &str| Task::load(task).unwrap().names().unwrap().published.clone().unwrap();
    let mut said = BTreeSet::new();
    for (at, task) in ["ioi", "anti_repeat"].into_iter().cycle().take(24).enumerate() {
        // Some names are two tokens, of which the last is the answer: a single letter, different for each.
        let all = published(task).names;
        let mut names: Vec<&str> = Vec::new();
        for (i, name) in all.iter().enumerate().filter(|(i, _)| (at * 37 + i * 11) % 7 < at % 4) {
            if (i % 5 > 0 || at % 2 == 0)
                && names.iter().all(|other| other.chars().last() != name.chars().last())
            {
                names.push(name);
            }
        }
        let tokenizer = Words { joins_spaces: at % 3 == 0, ..Words::splitting("words", &names) };
        for (n, ablation, reference) in [
            (3, Ablation::Mean, Reference::Same),
            (40, Ablation::Mean, Reference::Same),
            (200, Ablation::Mean, Reference::Abc),
            (200, Ablation::Resample, Reference::Same),
        ] {
            let task = Task::load(task).unwrap();
            let with = |n| PromptOptions {
                n_prompts: Some(n),
                protocol: Protocol::Published,
                ..PromptOptions::default()
            };
            let scan = ScanOptions { ablation, reference, ..ScanOptions::default() };
            let check = |n, scan| {
                check_references(&task, &with(n), &[&tokenizer], scan).map_err(|error| error.to_string())
            };
            let Err(error) = check(n, scan) else { continue };
            if let Some((_, rest)) = error.split_once("ask for ") {
                let asked: usize = rest.split(' ').next().unwrap().parse().unwrap();
                assert!(asked > n, "{error}");
                check(asked, scan).unwrap_or_else(|wrong| panic!("{error}, and then: {wrong}"));
                said.insert("number");
            }
            for other in [Reference::Abc, Reference::Same] {
                if error.contains(&format!("--reference {other}, or")) {
                    check(n, ScanOptions { reference: other, ..scan })
                        .unwrap_or_else(|e| panic!("{error}: {e}"));
                    said.insert("other");
                }
            }
            if error.contains("no number of prompts helps") {
                for more in [777, 5000, 20_000] {
                    check(more, scan).unwrap_err();
                }
                said.insert("none");
            }
            assert!(error.ends_with("use --ablation zero"), "{error}");
        }
    }
    // Cases in which no number helps occur with real tokenizers (`tokenization`).
    assert!(said.contains("number") && said.contains("other"), "{said:?}");
}

#[test]
fn names_of_a_length_of_their_own_have_no_reference_and_are_refused() {
    let splitting = Words::splitting("words", &["Lina"]);
    let (_, tokens) = resolve("ioi", 200, Protocol::Published, &splitting);
    for prompt in &tokens.prompts {
        assert_eq!(prompt.references.is_empty(), prompt.text.contains("Lina"), "{}", prompt.text);
        assert_eq!(prompt.resample_token_ids.is_none(), prompt.text.contains("Lina"), "{}", prompt.text);
    }
    for ablation in [Ablation::Mean, Ablation::Resample] {
        let scan = ScanOptions { ablation, ..ScanOptions::default() };
        let error = refusal("ioi", 200, Protocol::Published, &[&splitting], scan);
        assert!(error.contains("have no reference prompt") && error.contains("Lina"), "{error}");
        assert_eq!(error.contains("--reference same"), ablation == Ablation::Mean, "{error}");
        assert!(error.ends_with("use --protocol standard, or use --ablation zero"), "{error}");
    }
}

/// If the form has too few names of a length, others are used; each has as many tokens as the name it replaces.
#[test]
fn names_of_the_same_length_stand_in() {
    let two_tokens = ["Lina", "Nadia", "Farah", "Ravi", "Priya"];
    let (set, tokens) = resolve("ioi", 200, Protocol::Published, &Words::splitting("words", &two_tokens));
    tokens.require_means(Split::All, Reference::Abc).unwrap();
    tokens.require_resample(Split::All, Reference::Abc).unwrap();
    tokens.require_resample(Split::All, Reference::Same).unwrap();
    let is_long = |name: &str| two_tokens.contains(&name);
    let own = Task::load("ioi").unwrap().names().unwrap().published.clone().unwrap().names;
    for (prompt, tokenized) in set.prompts.iter().zip(&tokens.prompts) {
        assert_eq!(prompt.references.len(), tokenized.references.len());
        for r in &prompt.references {
            let (repeated, _) = prompt.order.unwrap().repeated_and_other(&prompt.first, &prompt.second);
            for (name, in_place) in
                [(&r.first, prompt.first.as_str()), (&r.second, &prompt.second), (&r.third, repeated)]
            {
                assert_eq!(is_long(name), is_long(in_place), "{} for {}", r.text, prompt.text);
                // The form's own names if there are enough.
                assert!(is_long(name) || own.contains(name), "{}", r.text);
            }
            assert!(r.first != r.second && r.third != r.first && r.third != r.second, "{}", r.text);
        }
        let twin = prompt.resample.as_ref().unwrap();
        assert_eq!(
            (is_long(&twin.first), is_long(&twin.second)),
            (is_long(&prompt.first), is_long(&prompt.second))
        );
    }
    // Candidates for the answer are only the form's names.
    assert_eq!(tokens.candidates.len(), own.len());
}

/// With three different names nothing is repeated, so that mean ablation removes exactly a head's information about the task: Δ
/// equals that of zero ablation, and exactly the planted heads are found. `previous` does not depend on the names: its Δ is 0.
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

/// A scan records its reference prompts, and sets of one head agree with it, for every choice.
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
