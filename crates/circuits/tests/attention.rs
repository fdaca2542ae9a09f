//! Attention profiles: planted heads attend where their wiring says, and averages are those of single prompts.

#[path = "planted/mod.rs"]
mod planted;
mod support;

use std::collections::{BTreeMap, BTreeSet};

use cs_analysis::attention::{N_EXAMPLES, TOP_TEXTS, TaskAttention, TokenRole};
use cs_circuits::attention::{AttentionError, attend};
use cs_circuits::prompts::{PromptOptions, PromptSet, Protocol, Tokenize, TokenizedPrompts};
use cs_circuits::task::Task;
use cs_engine::forest::Forest;
use cs_engine::{Cache, EngineError, Options};
use planted::{N_HEADS, N_LAYERS, Planted, World, full_circuit};
use support::Words;

fn attention(world: &World, model: &Planted, task: usize, memory: usize) -> TaskAttention {
    let prompts = [&world.ioi, &world.anti][task];
    let (set, tokenizer) = (&world.sets[task], world.tokenizer());
    attend(&model.decoder, set, prompts, &tokenizer, Options { memory }, &mut |_, _| {}).expect("attention")
}

/// Where each head of the full circuit attends from the last token, on IOI and on anti-repeat, by its wiring; an
/// idle head attends to BOS.
fn planted_to(role: &str) -> Option<[TokenRole; 2]> {
    use TokenRole::{Bos, Correct, Previous, Repeated};
    Some(match role {
        "duplicate" => [Bos, Bos],
        "previous" => [Previous, Previous],
        "s_inhibition" | "repeater" => [Repeated, Repeated],
        "ioi_mover" | "ioi_negative_mover" => [Correct, Bos],
        "ioi_suppressor" => [Repeated, Bos],
        "anti_mover" => [Bos, Correct],
        "anti_suppressor" => [Bos, Repeated],
        "two_faced" => [Repeated, Correct],
        _ => return None,
    })
}

#[test]
fn planted_heads_attend_where_they_were_planted_to() {
    let world = World::new();
    for seed in 0..10 {
        let model = Planted::new(&world, full_circuit(&world), seed);
        for task in 0..2 {
            let found = attention(&world, &model, task, 1 << 30);
            assert_eq!(found.heads.len(), N_LAYERS * N_HEADS);
            let mut n_planted = 0;
            for head in &found.heads {
                let role = model.role(head.layer as usize, head.head as usize).map(|role| role.name);
                let (top, weight) = head.by_weight()[0];
                let place = format!("placement {seed}, task {task}, {}", role.unwrap_or("noise"));
                match role.and_then(planted_to) {
                    Some(expected) => {
                        assert!(top == expected[task] && weight > 0.95, "{place}: {} {weight}", top.name());
                        n_planted += 1;
                    }
                    None => assert!(weight < 0.95, "{place}: {} {weight}", top.name()),
                }
            }
            assert_eq!(n_planted, 10);
        }
    }
}

#[test]
fn examples_are_single_prompts_token_by_token() {
    let world = World::new();
    let model = Planted::new(&world, full_circuit(&world), 3);
    for (task, prompts) in [&world.ioi, &world.anti].into_iter().enumerate() {
        let found = attention(&world, &model, task, 1 << 30);
        assert_eq!(found.examples.len(), N_EXAMPLES);
        let mut templates: Vec<&str> = Vec::new();
        for example in &found.examples {
            let text = example.tokens[1..].concat();
            let prompt = prompts.prompts.iter().find(|p| p.text.trim() == text.trim());
            let prompt = prompt.unwrap_or_else(|| panic!("{text:?} is none of the prompts"));
            templates.push(&prompt.template);
            assert_eq!((&example.correct, &example.distractor), (&prompt.correct, &prompt.distractor));
            assert_eq!(example.thousandths.len(), N_LAYERS * N_HEADS);
            let forest = Forest::new(std::slice::from_ref(&prompt.token_ids)).unwrap();
            let cache = Cache::new(&model.decoder, &forest).unwrap();
            for (index, shares) in example.thousandths.iter().enumerate() {
                let pattern = cache.pattern(index / N_HEADS, index % N_HEADS, forest.end(0));
                assert_eq!(shares.len(), pattern.len());
                for (share, weight) in shares.iter().zip(pattern) {
                    assert!((f64::from(*share) / 1000.0 - f64::from(weight)).abs() < 6e-4, "{text}: {index}");
                }
            }
        }
        let n_templates = prompts.prompts.iter().map(|p| &p.template).collect::<BTreeSet<_>>().len();
        templates.sort_unstable();
        templates.dedup();
        assert_eq!(templates.len(), n_templates.min(N_EXAMPLES), "as many templates as there are");
    }
}

/// The same averages by hand: each prompt run separately, each token's role found by its id and position.
fn by_hand(model: &Planted, prompts: &TokenizedPrompts, texts: &dyn Fn(u32) -> String) -> TaskAttention {
    let mut found = TaskAttention {
        task: prompts.task.clone(),
        n_prompts: prompts.prompts.iter().map(|p| u64::from(p.weight)).sum(),
        n_distinct_prompts: prompts.prompts.len() as u64,
        heads: vec![],
        examples: vec![],
    };
    for index in 0..N_LAYERS * N_HEADS {
        let mut shares: Vec<(f64, [f64; 10])> = Vec::new();
        let mut by_text: BTreeMap<String, f64> = BTreeMap::new();
        for prompt in &prompts.prompts {
            let ids = &prompt.token_ids;
            let forest = Forest::new(std::slice::from_ref(ids)).unwrap();
            let cache = Cache::new(&model.decoder, &forest).unwrap();
            let pattern = cache.pattern(index / N_HEADS, index % N_HEADS, forest.end(0));
            let places =
                |id: u32| ids.iter().enumerate().filter(move |(_, other)| **other == id).map(|p| p.0);
            let correct: Vec<usize> = places(prompt.correct_id).collect();
            let distractor: Vec<usize> = places(prompt.distractor_id).collect();
            assert_eq!((correct.len(), distractor.len()), (1, 2), "{}", prompt.text);
            let mut share = [0.0; 10];
            for (at, &weight) in pattern.iter().enumerate() {
                let role = if at == 0 {
                    0
                } else if at == correct[0] {
                    1
                } else if at == distractor[0] {
                    2
                } else if at == distractor[1] {
                    3
                } else if at == ids.len() - 1 {
                    4
                } else if at == ids.len() - 2 {
                    5
                } else if at == correct[0] + 1 {
                    6
                } else if at == distractor[0] + 1 {
                    7
                } else if at == distractor[1] + 1 {
                    8
                } else {
                    9
                };
                share[role] += f64::from(weight);
                if at > 0 && !(1..=3).contains(&role) {
                    *by_text.entry(texts(ids[at])).or_default() +=
                        f64::from(weight) * f64::from(prompt.weight) / found.n_prompts as f64;
                }
            }
            shares.push((f64::from(prompt.weight) / found.n_prompts as f64, share));
        }
        let mean: [f64; 10] =
            std::array::from_fn(|role| shares.iter().map(|(weight, share)| weight * share[role]).sum());
        let sd = |role: usize| {
            let squares = shares.iter().map(|(weight, share)| weight * (share[role] - mean[role]).powi(2));
            squares.sum::<f64>().sqrt() as f32
        };
        let mut texts: Vec<_> = by_text.into_iter().map(|(text, mean)| (text, mean as f32)).collect();
        texts.sort_by(|a, b| b.1.total_cmp(&a.1));
        found.heads.push(cs_analysis::attention::HeadAttention {
            layer: (index / N_HEADS) as u32,
            head: (index % N_HEADS) as u32,
            mean: mean.map(|m| m as f32),
            sd: std::array::from_fn(sd),
            texts: texts
                .into_iter()
                .take(TOP_TEXTS)
                .map(|(text, mean)| cs_analysis::attention::TextAttention { text, mean })
                .collect(),
        });
    }
    found
}

#[test]
fn averages_are_those_of_single_prompts() {
    let mut world = World::new();
    for prompts in [&mut world.ioi, &mut world.anti] {
        for (at, prompt) in prompts.prompts.iter_mut().enumerate() {
            prompt.weight = 1 + at as u32 % 3;
        }
    }
    let model = Planted::new(&world, full_circuit(&world), 3);
    for (task, prompts) in [&world.ioi, &world.anti].into_iter().enumerate() {
        let found = attention(&world, &model, task, 1 << 30);
        let tokenizer = world.tokenizer();
        let expected = by_hand(&model, prompts, &|id| tokenizer.decode(&[id]).unwrap());
        assert_eq!(
            (found.n_prompts, found.n_distinct_prompts),
            (expected.n_prompts, expected.n_distinct_prompts)
        );
        for (found, expected) in found.heads.iter().zip(&expected.heads) {
            let place = format!("L{}H{}", found.layer, found.head);
            assert_eq!((found.layer, found.head), (expected.layer, expected.head));
            for role in 0..10 {
                assert!(
                    (found.mean[role] - expected.mean[role]).abs() < 1e-5,
                    "{place}: {found:?} {expected:?}"
                );
                assert!((found.sd[role] - expected.sd[role]).abs() < 1e-4, "{place}: {found:?} {expected:?}");
            }
            assert!((found.mean.iter().sum::<f32>() - 1.0).abs() < 1e-5, "{place}: {found:?}");
            assert_eq!(found.texts.len(), expected.texts.len());
            for (found, expected) in found.texts.iter().zip(&expected.texts) {
                assert!((found.mean - expected.mean).abs() < 1e-5, "{place}: {found:?} {expected:?}");
            }
            assert_eq!(found.texts[0].text, expected.texts[0].text, "{place}");
        }
        // With as little memory as one prompt needs: bit-identical.
        let least = |memory: usize| {
            let (set, tokenizer) = (&world.sets[task], world.tokenizer());
            attend(&model.decoder, set, prompts, &tokenizer, Options { memory }, &mut |_, _| {})
        };
        let small = (10..).find_map(|bits| match least(1 << bits) {
            Err(AttentionError::Engine(EngineError::Memory { .. })) => None,
            result => Some(result.unwrap()),
        });
        assert_eq!(small, Some(found));
    }
}

#[test]
fn names_of_several_tokens_have_one_role() {
    use TokenRole::{AfterCorrect, AfterDistractor, Bos, Correct, Distractor, Last, Previous, Repeated};
    let mut tokenizer = Words::splitting("split", &["Alice", "Bob", "Carol"]);
    tokenizer.joins_spaces = true;
    let task = Task::load("anti-repeat").unwrap();
    let options = PromptOptions { protocol: Protocol::Published, ..PromptOptions::default() };
    let set = PromptSet::resolve(&task, &options, &[&tokenizer]).unwrap();
    let tokenized = set.tokenize(&tokenizer).unwrap();
    let all = set.token_roles(&tokenizer, &tokenized).unwrap();
    let split = |name: &str| ["Alice", "Bob", "Carol"].contains(&name);
    let mut n_split = 0;
    for (prompt, roles) in tokenized.prompts.iter().zip(&all) {
        // " A met B.  A talked to": two spaces are one token before the second A.
        let (first, second) = (&prompt.distractor, &prompt.correct);
        let name = |name: &str, role| vec![role; 1 + usize::from(split(name))];
        let expected = [
            vec![Bos],
            name(first, Distractor),
            vec![AfterDistractor],
            name(second, Correct),
            vec![AfterCorrect, TokenRole::Other],
            name(first, Repeated),
            vec![Previous, Last],
        ]
        .concat();
        assert_eq!(*roles, expected, "{:?} {:?}", prompt.text, prompt.token_ids);
        n_split += usize::from(split(first) && split(second));
    }
    assert!(n_split > 0);
    // A subset of the prompts has the same roles; prompts of another task are rejected.
    let some = TokenizedPrompts { prompts: tokenized.prompts[5..].to_vec(), ..tokenized.clone() };
    assert_eq!(set.token_roles(&tokenizer, &some).unwrap(), all[5..]);
    let ioi = PromptSet::resolve(&Task::load("ioi").unwrap(), &options, &[&tokenizer]).unwrap();
    assert!(ioi.token_roles(&tokenizer, &tokenized).is_err());
}
