//! Properties of the drawn prompts, over random tasks.

mod support;

use std::collections::{BTreeMap, BTreeSet};

use cs_circuits::prompts::{PromptOptions, PromptSet, Split};
use cs_circuits::task::{CorrectRule, NameTask, Names, Orders, Pattern, Task, Template};
use proptest::prelude::*;
use support::Words;

/// A task of any size, with or without a second list of names.
fn any_task() -> impl Strategy<Value = NameTask> {
    let orders = prop_oneof![Just(Orders::Both), Just(Orders::First), Just(Orders::Second)];
    let correct = prop_oneof![Just(CorrectRule::Other), Just(CorrectRule::Repeated)];
    (2usize..12, prop_oneof![Just(0), 2usize..12], 1usize..6, 1usize..4, orders, correct).prop_map(
        |(pool, partners, templates, words, orders, correct)| {
            let pool = if partners == 0 { pool.max(4) } else { pool };
            let list = |from: usize, n: usize| (from..from + n).map(|i| format!("Name{i}")).collect();
            let text = |i| {
                format!("Story {i} has {{first}} at the {{place}} and {{second}}. Later {{repeated}} saw")
            };
            let task = NameTask {
                name: "any".to_owned(),
                title: "Any".to_owned(),
                orders,
                correct,
                names: Names {
                    pool: list(0, pool),
                    partner_pool: list(100, partners),
                    pair_step: 1,
                    min_usable: 4,
                },
                fillers: BTreeMap::from([(
                    "place".to_owned(),
                    (0..words).map(|i| format!("place{i}")).collect(),
                )]),
                templates: (0..templates)
                    .map(|i| Template { id: format!("t{i}"), text: Pattern::try_from(text(i)).unwrap() })
                    .collect(),
                published: None,
            };
            Task::from(task.clone()).validate("any").unwrap();
            task
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn drawn_prompts_keep_the_rules(task in any_task(), n in 2usize..300, seed in any::<u64>()) {
        let options = PromptOptions { n_prompts: Some(n), seed, ..PromptOptions::default() };
        let words = Words::new("words");
        let set = PromptSet::resolve(&task.clone().into(), &options, &[&words]).unwrap();

        // Weights count draws; splits are halves, and share no pair of names.
        let mut pairs = [BTreeSet::new(), BTreeSet::new()];
        for (split, pairs) in [Split::Discovery, Split::HeldOut].into_iter().zip(&mut pairs) {
            let own: Vec<_> = set.prompts.iter().filter(|prompt| prompt.split == split).collect();
            let drawn: u32 = own.iter().map(|prompt| prompt.weight).sum();
            prop_assert_eq!(drawn as usize, if split == Split::Discovery { n.div_ceil(2) } else { n / 2 });
            let mut cells = BTreeMap::new();
            for prompt in &own {
                *cells.entry((prompt.template.clone(), prompt.order)).or_insert(0) += prompt.weight;
                pairs.insert(BTreeSet::from([prompt.first.clone(), prompt.second.clone()]));
            }
            // Balanced over templates × orders to within one, empty cells included.
            let n_cells = task.templates.len() * task.orders.as_slice().len();
            let fewest = if cells.len() < n_cells { 0 } else { cells.values().copied().min().unwrap_or(0) };
            prop_assert!(cells.values().all(|&count| count - fewest <= 1), "{:?}", cells);
        }
        prop_assert!(pairs[0].is_disjoint(&pairs[1]));

        // Corrupted versions are as long as the prompt, and the resampled one shares no name with it.
        let tokens = set.tokenize(&words).unwrap();
        prop_assert_eq!(tokens.n_drawn(Split::All), n as u64);
        for (prompt, tokenized) in set.prompts.iter().zip(&tokens.prompts) {
            let twin = prompt.resample.as_ref().unwrap();
            let names = BTreeSet::from([&prompt.first, &prompt.second, &twin.first, &twin.second]);
            prop_assert_eq!(names.len(), 4);
            let len = tokenized.token_ids.len();
            prop_assert_eq!(tokenized.resample_token_ids.as_ref().map(Vec::len), Some(len));
            prop_assert_eq!(tokenized.corrupted_token_ids.as_ref().map(Vec::len), Some(len));
            prop_assert_eq!(tokenized.token_ids.iter().filter(|&&id| id == 0).count(), 1);
            // References do not repeat names, and have none of the prompt's if there are enough others.
            prop_assert_eq!(prompt.references.len(), tokenized.references.len());
            prop_assert!(!prompt.references.is_empty());
            for (reference, tokenized) in prompt.references.iter().zip(&tokenized.references) {
                let names = BTreeSet::from([&reference.first, &reference.second, &reference.third]);
                prop_assert_eq!(names.len(), 3);
                prop_assert!(![&prompt.first, &prompt.second].contains(&&reference.first));
                prop_assert!(![&prompt.first, &prompt.second].contains(&&reference.second));
                let enough = task.names.all().count() > 4;
                prop_assert!(!enough || ![&prompt.first, &prompt.second].contains(&&reference.third));
                prop_assert_eq!(tokenized.token_ids.len(), len);
            }
        }

        // The record holds all of it.
        let folder = tempfile::tempdir().unwrap();
        let path = set.save(folder.path()).unwrap();
        prop_assert_eq!(PromptSet::load(&path).unwrap(), set);
    }
}
