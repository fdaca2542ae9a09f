//! The prompts of a study: balance, splits, the one-token rule, corrupted versions, records.

mod support;

use std::collections::{BTreeMap, BTreeSet};

use cs_circuits::prompts::{
    DEFAULT_PROMPTS, HoldOut, Prompt, PromptError, PromptOptions, PromptSet, Protocol, Reference, Split,
    Token, Tokenize, TokenizedPrompts,
};
use cs_circuits::task::{NameTask, Order, Task};
use support::Words;

fn task(name: &str) -> NameTask {
    support::name_task(name)
}

fn options(n_prompts: usize, seed: u64) -> PromptOptions {
    PromptOptions { seed, n_prompts: Some(n_prompts), ..PromptOptions::default() }
}

fn published() -> PromptOptions {
    PromptOptions { protocol: Protocol::Published, ..PromptOptions::default() }
}

fn resolve(task: &NameTask, options: &PromptOptions) -> PromptSet {
    PromptSet::resolve(&task.clone().into(), options, &[&Words::new("words")]).unwrap()
}

fn refusal(task: &NameTask, options: &PromptOptions, tokenizers: &[&dyn Tokenize]) -> String {
    let error = PromptSet::resolve(&task.clone().into(), options, tokenizers).unwrap_err().to_string();
    assert!(!error.contains('\n'), "{error}");
    error
}

/// A task with two templates, one filler of two words, and four names in all.
fn tiny() -> NameTask {
    let text = r#"
        name = "tiny"
        title = "Tiny"
        names = { pool = ["Ann", "Bob"], partner_pool = ["Cid", "Dan"], min_usable = 4 }
        fillers = { place = ["park", "shop"] }
        [[templates]]
        id = "met"
        text = "At the {place} {first} met {second}. {repeated} saw"
        [[templates]]
        id = "went"
        text = "Then {first} and {second} went, and {repeated} left"
    "#;
    Task::from_toml(text, "tiny.toml").unwrap().names().unwrap().clone()
}

fn of(set: &PromptSet, split: Split) -> impl Iterator<Item = &Prompt> {
    set.prompts.iter().filter(move |prompt| prompt.split == split)
}

#[test]
fn the_default_is_balanced_exactly_over_templates_and_orders() {
    for name in ["ioi", "anti_repeat"] {
        let set = resolve(&task(name), &PromptOptions::default());
        assert_eq!(set.n_prompts, DEFAULT_PROMPTS);
        for split in [Split::Discovery, Split::HeldOut] {
            let mut cells: BTreeMap<(&str, Option<Order>), u32> = BTreeMap::new();
            for prompt in of(&set, split) {
                *cells.entry((&prompt.template, prompt.order)).or_default() += prompt.weight;
            }
            assert_eq!(cells.len(), set.task.names().unwrap().templates.len() * 2);
            assert_eq!(cells.values().sum::<u32>(), 240);
            assert_eq!(cells.values().min(), cells.values().max(), "{name} {split}: {cells:?}");
        }
    }
}

#[test]
fn any_number_is_balanced_to_within_one_and_splits_differ_by_one_at_most() {
    let task = task("ioi");
    for n in [2, 3, 7, 41, 399] {
        let set = resolve(&task, &options(n, 3));
        let drawn = |split| of(&set, split).map(|prompt| prompt.weight as usize).sum::<usize>();
        assert_eq!((drawn(Split::Discovery), drawn(Split::HeldOut)), (n.div_ceil(2), n / 2));
        for split in [Split::Discovery, Split::HeldOut] {
            let mut cells = vec![0; 20];
            let mut orders = [0u32; 2];
            for prompt in of(&set, split) {
                let template = task.templates.iter().position(|t| t.id == prompt.template).unwrap();
                let order = usize::from(prompt.order == Some(Order::Second));
                cells[template * 2 + order] += prompt.weight;
                orders[order] += prompt.weight;
            }
            assert!(cells.iter().max().unwrap() - cells.iter().min().unwrap() <= 1, "{n} {split} {cells:?}");
            assert!(orders[0].abs_diff(orders[1]) <= 1, "{n} {split} {orders:?}");
        }
    }
}

#[test]
fn held_out_templates_are_those_of_one_split_alone() {
    for name in ["ioi", "anti_repeat"] {
        let task = task(name);
        let held_out = PromptOptions { hold_out: HoldOut::Templates, ..options(480, 7) };
        let set = resolve(&task, &held_out);
        let mut all = BTreeSet::new();
        for split in [Split::Discovery, Split::HeldOut] {
            let mut cells: BTreeMap<(&str, Option<Order>), u32> = BTreeMap::new();
            for prompt in of(&set, split) {
                *cells.entry((&prompt.template, prompt.order)).or_default() += prompt.weight;
            }
            let templates: BTreeSet<&str> = cells.keys().map(|cell| cell.0).collect();
            assert_eq!(templates.len(), task.templates.len() / 2, "{name} {split}");
            assert_eq!(cells.values().sum::<u32>(), 240);
            assert!(cells.values().max().unwrap() - cells.values().min().unwrap() <= 1, "{cells:?}");
            assert!(
                templates.iter().all(|&template| all.insert(template.to_owned())),
                "{name}: {templates:?}"
            );
        }
        assert_ne!(set.prompts, resolve(&task, &PromptOptions { seed: 8, ..held_out }).prompts);
    }
    let published = PromptOptions { hold_out: HoldOut::Templates, ..published() };
    let refused = refusal(&task("ioi"), &published, &[&Words::new("words")]);
    assert!(refused.contains("--hold-out templates needs --protocol standard"), "{refused}");
    let mut one = tiny();
    one.templates.truncate(1);
    let refused = refusal(
        &one,
        &PromptOptions { hold_out: HoldOut::Templates, ..options(8, 0) },
        &[&Words::new("words")],
    );
    assert!(refused.contains("at least 2 templates"), "{refused}");
}

#[test]
fn a_seed_fixes_the_prompts_and_more_prompts_only_add_to_them() {
    let task = task("anti_repeat");
    let base = resolve(&task, &options(100, 5));
    assert_eq!(base, resolve(&task, &options(100, 5)));
    assert_ne!(base.prompts, resolve(&task, &options(100, 6)).prompts);
    let more = resolve(&task, &options(300, 5));
    for prompt in &base.prompts {
        // Fewer prompts have more references each.
        let same = |other: &&Prompt| {
            let references = prompt.references[..other.references.len()].to_vec();
            **other == Prompt { references, ..prompt.clone() }
        };
        assert!(more.prompts.iter().any(|other| same(&other)), "{}", prompt.text);
    }
}

#[test]
fn the_first_prompts_of_seed_0_stay_what_they_are() {
    // A change here changes every study: it needs a new version of the drawing (`VERSION` in draw.rs).
    let set = resolve(&task("ioi"), &options(4, 0));
    let texts: Vec<&str> = set.prompts.iter().map(|prompt| prompt.text.as_str()).collect();
    assert_eq!(texts, FIRST_IOI_TEXTS);
}

const FIRST_IOI_TEXTS: [&str; 4] = [
    "When Carl and Nancy went to the station, Carl gave a ring to",
    "Then, George and Jim were at the library, and Jim handed a coat to",
    "When Scott and Arthur went to the beach, Scott gave a ticket to",
    "Then, Nancy and Joseph were at the station, and Joseph handed a ticket to",
];

#[test]
fn only_every_pair_step_th_pair_is_drawn() {
    for name in ["ioi", "anti_repeat"] {
        let task = task(name);
        let place = |name: &String| {
            let at = |list: &[String]| list.iter().position(|other| other == name);
            at(&task.names.pool).or_else(|| at(&task.names.partner_pool)).unwrap()
        };
        let set = resolve(&task, &options(600, 3));
        assert!(set.prompts.iter().all(|p| (place(&p.first) + place(&p.second)).is_multiple_of(4)));
        let twins = set.prompts.iter().filter_map(|p| p.resample.as_ref());
        assert!(twins.clone().count() > 0);
        assert!(twins.clone().all(|t| (place(&t.first) + place(&t.second)).is_multiple_of(4)));
    }
}

#[test]
fn splits_share_no_pair_of_names() {
    for seed in 0..5 {
        for (task, n) in [(task("ioi"), 480), (task("anti_repeat"), 3000), (tiny(), 400)] {
            let set = resolve(&task, &options(n, seed));
            let pairs = |split| -> BTreeSet<[&str; 2]> {
                of(&set, split)
                    .map(|prompt| {
                        let mut pair = [prompt.first.as_str(), prompt.second.as_str()];
                        pair.sort_unstable();
                        pair
                    })
                    .collect()
            };
            assert!(pairs(Split::Discovery).is_disjoint(&pairs(Split::HeldOut)));
            let texts: BTreeSet<&str> = set.prompts.iter().map(|prompt| prompt.text.as_str()).collect();
            assert_eq!(texts.len(), set.prompts.len());
        }
    }
}

#[test]
fn a_prompt_takes_one_name_from_each_list_and_either_comes_first() {
    let task = task("ioi");
    let set = resolve(&task, &options(400, 1));
    let pool_first = set.prompts.iter().filter(|p| task.names.pool.contains(&p.first)).count();
    for prompt in &set.prompts {
        assert_ne!(task.names.pool.contains(&prompt.first), task.names.pool.contains(&prompt.second));
    }
    assert!((150..250).contains(&pool_first), "{pool_first}");
    let one_list = NameTask { names: one_list(&task), ..task.clone() };
    let set = resolve(&one_list, &options(400, 1));
    assert!(set.prompts.iter().all(|prompt| prompt.first != prompt.second));
}

fn one_list(task: &NameTask) -> cs_circuits::task::Names {
    cs_circuits::task::Names { partner_pool: Vec::new(), ..task.names.clone() }
}

#[test]
fn a_small_task_repeats_its_prompts_as_weights() {
    let set = resolve(&tiny(), &options(400, 0));
    assert_eq!(set.prompts.iter().map(|prompt| prompt.weight).sum::<u32>(), 400);
    // A split has 2 of the 4 pairs; times 2 orders of names, 2 repeated mentions and 3 texts: 24.
    for split in [Split::Discovery, Split::HeldOut] {
        assert!(of(&set, split).count() <= 24);
        assert!(of(&set, split).any(|prompt| prompt.weight > 1));
    }
}

#[test]
fn answers_follow_the_rule_of_the_task() {
    let other = resolve(&tiny(), &options(40, 0));
    let repeated = NameTask { correct: cs_circuits::task::CorrectRule::Repeated, ..tiny() };
    let repeated = resolve(&repeated, &options(40, 0));
    for (a, b) in other.prompts.iter().zip(&repeated.prompts) {
        let last = if a.order == Some(Order::First) { &a.first } else { &a.second };
        assert_eq!(&a.distractor, last);
        assert_eq!((&a.correct, &a.distractor, &a.text), (&b.distractor, &b.correct, &b.text));
        assert_eq!(a.text.matches(last.as_str()).count(), 2);
        assert_eq!(a.text.matches(a.correct.as_str()).count(), 1);
    }
}

/// Requirements of every tokenized set, whatever its protocol.
fn check_tokens(set: &PromptSet, tokenizer: &dyn Tokenize) -> TokenizedPrompts {
    let tokens = set.tokenize(tokenizer).unwrap();
    assert_eq!(tokens.prompts.len(), set.prompts.len());
    assert_eq!(tokens.n_drawn(Split::All), set.n_prompts as u64);
    let candidates = tokens.candidate_ids();
    for (tokenized, prompt) in tokens.prompts.iter().zip(&set.prompts) {
        let bos = tokenizer.bos_id().unwrap();
        let all = [Some(&tokenized.token_ids), tokenized.resample_token_ids.as_ref()]
            .into_iter()
            .chain([tokenized.corrupted_token_ids.as_ref()]);
        for ids in all.flatten() {
            assert_eq!(ids[0], bos);
            assert_eq!(ids.iter().filter(|&&id| id == bos).count(), 1);
            assert_eq!(ids.len(), tokenized.token_ids.len());
        }
        assert_eq!(tokenizer.decode(&tokenized.token_ids[1..]).unwrap(), prompt.text);
        assert!(candidates.contains(&tokenized.correct_id) && candidates.contains(&tokenized.distractor_id));
        assert_ne!(tokenized.correct_id, tokenized.distractor_id);
        assert_eq!(tokenized.resample_text.is_some(), tokenized.resample_token_ids.is_some());
        if let Some(ids) = &tokenized.resample_token_ids {
            assert_eq!(Some(tokenizer.decode(&ids[1..]).unwrap()), tokenized.resample_text);
        }
        if let Some(twin) = &prompt.resample {
            let names = BTreeSet::from([&prompt.first, &prompt.second, &twin.first, &twin.second]);
            assert_eq!(names.len(), 4);
        }
        if let Some(ids) = &tokenized.corrupted_token_ids {
            assert_eq!(Some(tokenizer.decode(&ids[1..]).unwrap()), tokenized.corrupted_text);
            assert_ne!(ids, &tokenized.token_ids);
        }
    }
    tokens
}

#[test]
fn every_standard_prompt_has_both_twins_and_single_token_names() {
    for task in [task("ioi"), task("anti_repeat"), tiny()] {
        let tokenizer = Words::new("words");
        let set = PromptSet::resolve(&task.clone().into(), &options(400, 2), &[&tokenizer]).unwrap();
        let tokens = check_tokens(&set, &tokenizer);
        tokens.require_resample(Split::All, Reference::Same).unwrap();
        assert_eq!(tokens.candidates.len(), task.names.all().count());
        for prompt in &tokens.prompts {
            // Twice the repeated name, once the other; swapped in the corrupted prompt.
            let count = |ids: &[u32], id| ids.iter().filter(|&&other| other == id).count();
            let corrupted = prompt.corrupted_token_ids.as_ref().unwrap();
            assert_eq!(count(&prompt.token_ids, prompt.distractor_id), 2);
            assert_eq!(count(&prompt.token_ids, prompt.correct_id), 1);
            assert_eq!(count(corrupted, prompt.distractor_id), 1);
            assert_eq!(count(corrupted, prompt.correct_id), 2);
            let differing = prompt.token_ids.iter().zip(corrupted).filter(|(a, b)| a != b).count();
            assert_eq!(differing, 1);
        }
        let pairs = tokens.tracing_pairs(Split::HeldOut);
        assert!(pairs.left_out.is_empty());
        assert_eq!(pairs.pairs.len(), tokens.of_split(Split::HeldOut).count());
    }
}

#[test]
fn the_default_has_the_200_tracing_pairs_that_are_asked_for() {
    for name in ["ioi", "anti_repeat"] {
        let tokenizer = Words::new("words");
        let set = PromptSet::resolve(&task(name).into(), &PromptOptions::default(), &[&tokenizer]).unwrap();
        assert!(set.tokenize(&tokenizer).unwrap().tracing_pairs(Split::HeldOut).pairs.len() >= 200);
    }
}

#[test]
fn resampled_names_come_from_the_pairs_of_the_same_split() {
    let set = resolve(&task("ioi"), &options(2000, 0));
    let discovery: BTreeSet<&str> = of(&set, Split::Discovery).map(|prompt| prompt.text.as_str()).collect();
    for prompt in of(&set, Split::HeldOut) {
        assert!(!discovery.contains(prompt.resample.as_ref().unwrap().text.as_str()));
    }
}

#[test]
fn mean_groups_part_the_prompts_by_split_template_and_length() {
    let tokenizer = Words::splitting("words", &["park"]);
    let set = PromptSet::resolve(&tiny().into(), &options(200, 0), &[&tokenizer]).unwrap();
    let tokens = set.tokenize(&tokenizer).unwrap();
    let groups = tokens.mean_groups(Split::Discovery);
    // "met" with "park" is a token longer than with "shop".
    assert_eq!(groups.len(), 3);
    assert_eq!(groups.iter().map(Vec::len).sum::<usize>(), tokens.of_split(Split::Discovery).count());
    for group in groups {
        let keys: BTreeSet<_> = group.iter().map(|&i| tokens.prompts[i].mean_group()).collect();
        assert_eq!(keys.len(), 1);
    }
    assert_eq!(tokens.mean_groups(Split::All).len(), 6);
}

#[test]
fn names_are_chosen_over_all_tokenizers_and_refusals_recorded() {
    let task = task("ioi");
    let (a, b) = (Words::splitting("a", &["Kate", "Tom"]), Words::splitting("b", &["Luke"]));
    let twin = Words { hash: a.hash.clone(), ..Words::splitting("a-large", &["Kate", "Tom"]) };
    let set = PromptSet::resolve(&task.clone().into(), &options(40, 0), &[&b, &a, &twin]).unwrap();
    assert_eq!(set.names.all().count(), task.names.all().count() - 3);
    let refused: BTreeSet<(&str, &str)> =
        set.refused.iter().map(|r| (r.name.as_str(), r.models[0].as_str())).collect();
    assert_eq!(refused, BTreeSet::from([("Kate", "a"), ("Tom", "a"), ("Luke", "b")]));
    let kate = set.refused.iter().find(|refused| refused.name == "Kate").unwrap();
    assert_eq!(
        (kate.models.as_slice(), kate.reason.as_str()),
        (&["a".to_owned(), "a-large".to_owned()][..], "' Kate' is split into ' Kat', 'e'")
    );
    // The order in which models are given changes nothing, and all get the same texts.
    assert_eq!(set, PromptSet::resolve(&task.clone().into(), &options(40, 0), &[&twin, &a, &b]).unwrap());
    for tokenizer in [&a, &b, &twin] {
        check_tokens(&set, tokenizer);
    }
}

#[test]
fn too_few_names_is_an_error_that_says_who_refuses_them() {
    let all: Vec<String> = task("ioi").names.all().map(str::to_owned).collect();
    let refs: Vec<&str> = all.iter().map(String::as_str).collect();
    let strict = Words::splitting("strict", &refs[5..35]);
    let stricter = Words::splitting("stricter", &refs[..35]);
    let half = PromptSet::resolve(&task("ioi").into(), &options(40, 0), &[&strict]).unwrap();
    assert_eq!(half.names.all().count(), 50);
    let error = refusal(&task("ioi"), &PromptOptions { min_names: Some(60), ..options(40, 0) }, &[&strict]);
    assert!(error.contains("50 of the 80 names in `names` are usable and 60 are needed"), "{error}");
    // One list of the two may be the short one.
    let pool = Words::splitting("pool", &refs[1..40]);
    let error = refusal(&task("ioi"), &options(40, 0), &[&strict, &pool, &stricter]);
    assert!(
        error.contains("1 of the 40 names in `names.pool` are usable") || error.contains("0 of the 40"),
        "{error}"
    );
    let (most, fewer) = (error.find("pool refuses 39").unwrap(), error.find("stricter refuses 35").unwrap());
    assert!(most < fewer, "{error}");
    let error = refusal(&task_of_twelve(), &options(40, 0), &[&Words::new("words")]);
    assert!(error.contains("12 of the 12 names") && error.contains("names.min_usable"), "{error}");
}

/// The published anti-repeat form as a task's template.
fn task_of_twelve() -> NameTask {
    let anti = task("anti_repeat");
    let published = anti.published.clone().unwrap();
    let mut task = tiny();
    task.names = cs_circuits::task::Names {
        pool: published.names,
        partner_pool: Vec::new(),
        pair_step: 1,
        min_usable: 20,
    };
    task.fillers.clear();
    task.templates = vec![cs_circuits::task::Template { id: "met_talked".to_owned(), text: published.text }];
    Task::from(task.clone()).validate("task").unwrap();
    task
}

#[test]
fn a_tokenizer_that_joins_two_spaces_refuses_the_published_form_under_the_rule() {
    let tokenizer = Words { joins_spaces: true, ..Words::new("joins") };
    let task = task_of_twelve();
    let error = refusal(&task, &options(40, 0), &[&tokenizer]);
    assert!(
        error.contains("joins refuses 12, as ' Alice' at {repeated} is split into '  ', 'Alice'"),
        "{error}"
    );
    assert!(error.contains("met_talked"), "{error}");
    let set = PromptSet::resolve(&self::task("anti_repeat").into(), &published(), &[&tokenizer]).unwrap();
    assert_eq!(set.n_prompts, 400);
}

#[test]
fn a_filler_that_breaks_the_rule_is_found_in_the_prompt() {
    // The rule is checked with the first word of each filler; the second one has two spaces before a name.
    let mut task = tiny();
    task.fillers.insert("place".to_owned(), vec!["park".to_owned(), "old ".to_owned()]);
    let tokenizer = Words { joins_spaces: true, ..Words::new("joins") };
    let error = refusal(&task, &options(40, 0), &[&tokenizer]);
    assert!(error.contains("breaks the one-token rule"), "{error}");
}

#[test]
fn an_unknown_word_token_is_no_name() {
    struct Unknown;
    impl Tokenize for Unknown {
        fn model(&self) -> &str {
            "unknown"
        }
        fn hash(&self) -> &str {
            "0"
        }
        fn bos_id(&self) -> Option<u32> {
            Some(0)
        }
        fn encode(&self, text: &str) -> Result<Vec<Token>, cs_circuits::prompts::TokenizeError> {
            let ends = text.match_indices(' ').map(|(end, _)| end).chain([text.len()]);
            Ok(ends.map(|end| Token { id: 1, span: end.saturating_sub(1)..end }).collect())
        }
        fn decode(&self, ids: &[u32]) -> Result<String, cs_circuits::prompts::TokenizeError> {
            Ok("<unk>".repeat(ids.len()))
        }
    }
    let error = refusal(&task("ioi"), &options(40, 0), &[&Unknown]);
    assert!(error.contains("unknown refuses 80, as ' James' is the same token as ' "), "{error}");
}

#[test]
fn numbers_and_models_that_make_no_prompts() {
    let words = Words::new("words");
    for (n, protocol) in [(0, Protocol::Standard), (1, Protocol::Standard), (0, Protocol::Published)] {
        let error = refusal(&task("ioi"), &PromptOptions { protocol, ..options(n, 0) }, &[&words]);
        assert!(error.contains(&format!("too few prompts ({n})")), "{error}");
    }
    let error = refusal(&task("ioi"), &options(usize::MAX, 0), &[&words]);
    assert!(error.contains("too many"), "{error}");
    assert!(refusal(&task("ioi"), &options(10, 0), &[]).contains("no model was given"));
    let error = refusal(&tiny(), &published(), &[&words]);
    assert!(error.contains("no published form") && error.contains("--protocol standard"), "{error}");
}

#[test]
fn bos_inside_a_text_is_refused() {
    let words = Words { bos: "Then".to_owned(), ..Words::new("words") };
    let error = PromptSet::resolve(&tiny().into(), &options(10, 0), &[&words]).unwrap_err();
    assert!(matches!(error, PromptError::BosInText { .. }), "{error}");
}

#[test]
fn published_prompts_are_drawn_with_replacement_and_their_last_token_answers() {
    // " Lina" is two tokens; its last one answers.
    let tokenizer = Words::splitting("words", &["Lina"]);
    let set = PromptSet::resolve(&task("ioi").into(), &published(), &[&tokenizer]).unwrap();
    assert_eq!((set.n_prompts, set.names.all().count()), (200, 15));
    assert!(set.prompts.len() < 200, "{} distinct", set.prompts.len());
    let tokens = check_tokens(&set, &tokenizer);
    assert_eq!(tokens.candidates.len(), 15);
    for (prompt, tokenized) in set.prompts.iter().zip(&tokens.prompts) {
        assert_eq!(prompt.split, Split::All);
        assert_eq!(
            prompt.text,
            format!("When {0} and {1} went to the store, {0} gave a gift to", prompt.first, prompt.second)
        );
        assert_eq!((&prompt.distractor, &prompt.correct), (&prompt.first, &prompt.second));
        if prompt.correct == "Lina" {
            assert_eq!(tokenizer.decode(&[tokenized.correct_id]).unwrap(), "a");
        }
        // No other name has two tokens, so there is no replacement for Lina.
        let has_lina = prompt.first == "Lina" || prompt.second == "Lina";
        assert_eq!(tokenized.resample_token_ids.is_none(), has_lina, "{}", prompt.text);
        assert_eq!(tokenized.corrupted_token_ids.is_none(), has_lina, "{}", prompt.text);
    }
    let error = tokens.require_resample(Split::All, Reference::Same).unwrap_err().to_string();
    assert!(error.contains("have no reference prompt") && error.contains("Lina"), "{error}");
    let pairs = tokens.tracing_pairs(Split::All);
    assert_eq!(pairs.pairs.len() + pairs.left_out.len(), set.prompts.len());
    assert!(pairs.left_out.iter().all(|text| text.contains("Lina")) && !pairs.left_out.is_empty());
}

#[test]
fn published_answers_with_one_token_are_refused() {
    // "Lina" and "Mia" both end in "a".
    let tokenizer = Words::splitting("words", &["Lina", "Mia"]);
    let many = PromptOptions { n_prompts: Some(2000), ..published() };
    let error = refusal(&task("ioi"), &many, &[&tokenizer]);
    assert!(error.contains("end in the same token") && error.contains("words"), "{error}");
}
