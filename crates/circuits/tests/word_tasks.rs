//! Word tasks: the built-in ones, drawn prompts, and every kind of error.

mod support;

use std::collections::{BTreeMap, BTreeSet};

use cs_circuits::prompts::{HoldOut, PromptOptions, PromptSet, Protocol, Reference, Split, TokenizedPrompts};
use cs_circuits::task::{EXAMPLES, Task, WordTask};
use support::Words;

fn word_tasks() -> Vec<WordTask> {
    let word_task = |name| if let Task::Words(task) = Task::load(name).unwrap() { Some(task) } else { None };
    Task::built_in().into_iter().filter_map(word_task).collect()
}

fn resolve(task: &WordTask, options: &PromptOptions, tokenizer: &Words) -> Result<PromptSet, String> {
    let task = Task::Words(task.clone());
    PromptSet::resolve(&task, options, &[tokenizer]).map_err(|error| error.to_string())
}

fn example() -> WordTask {
    let Task::Words(task) = Task::from_toml(EXAMPLES[1].2, "capitals.toml").unwrap() else { panic!("words") };
    task
}

/// Positions at which two prompts of equal length differ.
fn differing(a: &[u32], b: &[u32]) -> usize {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).filter(|(a, b)| a != b).count()
}

#[test]
fn every_built_in_task_is_drawn_in_balance() {
    assert!(word_tasks().len() >= 5);
    for task in word_tasks() {
        let words = Words::new("words");
        let set = resolve(&task, &PromptOptions::default(), &words).unwrap();
        let tokens = set.tokenize(&words).unwrap();
        assert_eq!(set.n_prompts, 480, "{}", task.name);
        let mut cells: BTreeMap<(Split, &str), u32> = BTreeMap::new();
        let mut answers: BTreeMap<&str, u32> = BTreeMap::new();
        let mut texts = [BTreeSet::new(), BTreeSet::new()];
        for (prompt, run) in set.prompts.iter().zip(&tokens.prompts) {
            *cells.entry((prompt.split, &prompt.template)).or_default() += prompt.weight;
            *answers.entry(&prompt.correct).or_default() += prompt.weight;
            let of_split = &mut texts[usize::from(prompt.split == Split::HeldOut)];
            of_split.extend([Some(&prompt.text), prompt.corrupted_text.as_ref()].into_iter().flatten());
            let corrupted = run.corrupted_token_ids.as_ref().unwrap();
            assert!((1..=2).contains(&differing(&run.token_ids, corrupted)), "{}", prompt.text);
            for reference in &run.references {
                assert_eq!(reference.token_ids.len(), run.token_ids.len());
            }
            assert_ne!(prompt.resample.as_ref().unwrap().text, prompt.text);
        }
        assert!(cells.values().max().unwrap() - cells.values().min().unwrap() <= 1, "{cells:?}");
        assert!(texts[0].is_disjoint(&texts[1]), "{}", task.name);
        // Held-out prompts use separate words: no year, name or noun of the discovery split.
        let has_one = |texts: &BTreeSet<&String>, word: &str| {
            texts.iter().any(|text| text.split([' ', '.', ',', '?']).any(|other| other == word))
        };
        for (_, words) in task.words.values().flat_map(|list| list.columns()) {
            for word in words
                .iter()
                .filter(|word| !task.templates.iter().any(|t| t.text.as_str().contains(word.as_str())))
            {
                assert!(!(has_one(&texts[0], word) && has_one(&texts[1], word)), "{} {word}", task.name);
            }
        }
        if task.templates.iter().all(|t| t.swap) && answers.len() == 2 {
            assert_eq!(answers.values().max(), answers.values().min(), "{answers:?}");
        }
        tokens.require_means(Split::All, Reference::Abc).unwrap();
        tokens.require_resample(Split::All, Reference::Abc).unwrap();
        tokens.require_resample(Split::All, Reference::Same).unwrap();
        assert!(tokens.tracing_pairs(Split::All).left_out.is_empty());
        assert_eq!(set.token_roles(&words, &tokens).unwrap().len(), tokens.prompts.len());
    }
}

/// Words of a prompt, of its corrupted version and of its reference, and its two answers.
type Drawn = (Vec<String>, Vec<String>, Vec<String>, String, String);

/// The prompts of a built-in task as words.
fn drawn(name: &str) -> Vec<Drawn> {
    let Task::Words(task) = Task::load(name).unwrap() else { panic!("{name} is a task of words") };
    let set =
        resolve(&task, &PromptOptions { seed: 5, ..PromptOptions::default() }, &Words::new("words")).unwrap();
    let words = |text: &str| {
        text.split([' ', '.', ',', '?', ':']).filter(|w| !w.is_empty()).map(str::to_owned).collect()
    };
    let of = |p: &cs_circuits::prompts::Prompt| {
        let corrupted = p.corrupted_text.as_deref().unwrap();
        (
            words(&p.text),
            words(corrupted),
            words(&p.references[0].text),
            p.correct.clone(),
            p.distractor.clone(),
        )
    };
    set.prompts.iter().map(of).collect()
}

/// The word that followed the last word of a list at its earlier occurrence.
fn successor(list: &[String]) -> Option<&String> {
    let (last, before) = list.split_last()?;
    before.iter().position(|word| word == last).map(|at| &list[at + 1])
}

#[test]
fn induction_repeats_and_its_corrupted_prompts_do_not() {
    for (text, corrupted, reference, correct, distractor) in drawn("induction") {
        assert_eq!(successor(&text), Some(&correct), "{text:?}");
        assert_eq!(successor(&corrupted), Some(&distractor), "{corrupted:?}");
        let different: BTreeSet<&String> = reference.iter().collect();
        assert_eq!(different.len(), reference.len(), "{reference:?}");
        assert!(!reference.contains(&correct) && !reference.contains(&distractor));
    }
}

#[test]
fn coloured_objects_asks_for_an_object_of_the_scene() {
    // The colour before the first mention of the queried object: the last word before "is", "A".
    let asked = |text: &[String]| {
        let object = text.iter().rev().find(|word| !["A", "is"].contains(&word.as_str())).unwrap();
        let first = text.iter().position(|word| word == object).unwrap();
        (first + 3 < text.len()).then(|| text[first - 1].clone())
    };
    for (text, corrupted, reference, correct, distractor) in drawn("coloured_objects") {
        assert_eq!(asked(&text), Some(correct.clone()), "{text:?}");
        assert_eq!(asked(&corrupted), Some(distractor), "{corrupted:?}");
        assert_eq!(asked(&reference), None, "{reference:?}");
        assert!(!reference.contains(&correct));
    }
}

#[test]
fn greater_than_has_its_distractor_before_the_beginning() {
    let year = |text: &[String]| text.iter().find_map(|word| word.parse::<u32>().ok()).unwrap();
    for (text, corrupted, _, correct, distractor) in drawn("greater_than") {
        let (correct, distractor): (u32, u32) = (correct.parse().unwrap(), distractor.parse().unwrap());
        assert!(distractor < year(&text) && year(&text) < correct, "{text:?}");
        assert!(year(&corrupted) < distractor, "{corrupted:?}");
    }
    let words = Words::new("words");
    let Task::Words(task) = Task::load("greater_than").unwrap() else { panic!("words") };
    let tokens = resolve(&task, &PromptOptions::default(), &words).unwrap().tokenize(&words).unwrap();
    assert!(tokens.candidates.is_empty(), "many years are right");
}

#[test]
fn the_corrupted_twin_exchanges_the_answers() {
    for name in ["agreement", "gender"] {
        let all = drawn(name);
        let twins: BTreeMap<&[String], (&String, &String)> =
            all.iter().map(|(text, .., correct, distractor)| (&text[..], (correct, distractor))).collect();
        let pairs: Vec<_> = all.iter().filter_map(|p| twins.get(&p.1[..]).map(|twin| (p, twin))).collect();
        for ((.., correct, distractor), twin) in pairs {
            assert_eq!((distractor, correct), *twin);
        }
    }
}

#[test]
fn draws_follow_the_seed_and_the_words_that_are_left() {
    let task = example();
    let words = Words::new("words");
    let prompts = |task, options: PromptOptions| resolve(task, &options, &words).unwrap().prompts;
    let seeded = |seed| PromptOptions { seed, n_prompts: Some(60), ..PromptOptions::default() };
    assert_eq!(prompts(&task, seeded(1)), prompts(&task, seeded(1)));
    assert_ne!(prompts(&task, seeded(1)), prompts(&task, seeded(2)));
    let strict = Words::splitting("strict", &["Paris", "Italy"]);
    let set = resolve(&task, &seeded(1), &strict).unwrap();
    assert_eq!(set.refused.iter().map(|r| r.name.as_str()).collect::<Vec<_>>(), ["Paris", "Italy"]);
    assert!(set.prompts.iter().all(|p| !p.text.contains("France") && !p.text.contains("Italy")));
    let held_out = PromptOptions { hold_out: HoldOut::Templates, ..seeded(1) };
    let split_of = |template: &str| {
        prompts(&task, held_out.clone()).iter().find(|p| p.template == template).unwrap().split
    };
    assert_ne!(split_of("capital_of"), split_of("flew_to"));

    let few: Vec<&str> = task.words["country"].columns()[0].1.iter().map(String::as_str).take(8).collect();
    let error = resolve(&task, &seeded(1), &Words::splitting("strict", &few)).unwrap_err();
    assert!(
        error.contains("capitals: 7 of the 15 words in `words.country` are usable and 8 are needed"),
        "{error}"
    );
    assert!(
        error.contains("strict refuses 8") && error.contains("compare models that share a tokenizer"),
        "{error}"
    );
    // Ordered pairs of 4 countries in 2 forms: too few for two disjoint splits of 1,000.
    let mut small = task.clone();
    small.words = small.words.iter().map(|(k, list)| (k.clone(), list.with_rows(&[0, 1, 2, 3]))).collect();
    small.min_usable = 4;
    let error = resolve(&small, &PromptOptions { n_prompts: Some(2000), ..seeded(1) }, &words).unwrap_err();
    assert!(error.contains("no further prompt that is not in the other split"), "{error}");
    let published = PromptOptions { protocol: Protocol::Published, ..PromptOptions::default() };
    assert!(resolve(&task, &published, &words).unwrap_err().contains("no published form"));
}

#[test]
fn a_record_reads_back() {
    let folder = tempfile::tempdir().unwrap();
    let words = Words::new("words");
    for task in word_tasks() {
        let task = Task::Words(task);
        let options = PromptOptions { n_prompts: Some(40), ..PromptOptions::default() };
        let set = PromptSet::load_or_resolve(folder.path(), &task, &options, &[&words]).unwrap();
        let recorded = PromptSet::load(&PromptSet::path(folder.path(), task.name())).unwrap();
        assert_eq!(set, recorded);
        let tokens: TokenizedPrompts = recorded.tokenize(&words).unwrap();
        assert_eq!(tokens, set.tokenize(&words).unwrap());
        PromptSet::load_or_resolve(folder.path(), &task, &recorded.options(), &[&words]).unwrap();
    }
}

#[test]
fn what_is_wrong_with_a_task_of_words_is_named() {
    let refused = |old: &str, new: &str, parts: &[&str]| {
        let text = EXAMPLES[1].2;
        assert!(text.contains(old), "{old}");
        let error = Task::from_toml(&text.replacen(old, new, 1), "mine.toml").unwrap_err().to_string();
        assert!(error.starts_with("mine.toml") && !error.contains('\n'), "{error}");
        for part in parts {
            assert!(error.contains(part), "{error:?} lacks {part:?}");
        }
    };
    refused("title =", "heading =", &["unknown field `heading`", "circuit-scaling task --example"]);
    refused("\"capitals\"", "\"my capitals\"", &["`name`"]);
    refused(
        "of {country.name} is\"\ncorr",
        "of {country.nom} is\"\ncorr",
        &["templates[0].text", "no such column", "capital, name"],
    );
    refused(
        "of {country.name} is\"\ncorr",
        "of {land.name} is\"\ncorr",
        &["templates[0].text", "unknown placeholder {land}", "country"],
    );
    refused(
        "of {country.name} is\"\ncorr",
        "of {country.name.0} is\"\ncorr",
        &["bad placeholder {country.name.0}"],
    );
    refused(
        "of {country.name} is\"\ncorr",
        "of {country.name} is \"\ncorr",
        &["templates[0].text", "ends in white space"],
    );
    refused(
        "of {country.name} is\"\ncorr",
        "of '{country.name}' is\"\ncorr",
        &["there is no space before {country}"],
    );
    refused(
        "\"The capital of {country.name} is\"",
        "\"{country.name} is\"",
        &["there is no space before {country}"],
    );
    refused("name.2} is\"", "name} is\"", &["templates[0].corrupted", "is the text itself"]);
    refused(
        "\"{country.capital.2}\"",
        "\"{country.capital}\"",
        &["templates[0].distractor", "is the correct answer"],
    );
    refused("\"{country.capital}\"", "\"the {country.capital}\"", &["templates[0].correct", "not one word"]);
    refused("\"flew_to\"", "\"capital_of\"", &["templates[1].id"]);
    refused("\"France\", ", "", &["words.country", "has 14 words, others 15"]);
    refused("\"France\", ", "\"England\", ", &["words.country", "\"England\" occurs twice"]);
    refused("\n[words]", "\n[words]\nbird = [\"owl\"]", &["words.bird", "no template has {bird}"]);
    refused("\n[words]", "\n[words]\nbird = \"owl\"", &["a list of words"]);
    refused("title =", "ordered = [\"year\"]\ntitle =", &["ordered", "not a list under [words]"]);
    let long: String = (0..10_001).map(|i| format!("\"w{i}\", ")).collect();
    refused("\n[words]", &format!("\n[words]\nbird = [{long}]"), &["at most 10000"]);
}
