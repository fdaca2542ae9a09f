//! A real language model, SmolLM2-135M-Instruct, against Hugging Face Transformers: tokens, logits of both tasks, heads
//! zeroed and patched, and the likeliest next tokens.
//!
//! The folder is given by `CIRCUIT_SCALING_REAL_MODEL`; `tools/real_model/make` makes it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use cs_engine::decoder::Decoder;
use cs_engine::forest::Forest;
use cs_engine::intervention::{Branch, Replacement, Stream};
use cs_engine::model::Model;
use cs_engine::{Cache, Options, Prompt, Readings};
use cs_model::ModelFiles;
use serde::Deserialize;

/// Tolerance of a logit difference: float32 rounding in Transformers is up to 3e-5.
const TOLERANCE: f64 = 1e-4;

#[derive(Deserialize)]
struct Golden {
    names: BTreeMap<String, u32>,
    heads: Vec<(usize, usize)>,
    tasks: BTreeMap<String, Task>,
    top: Vec<Top>,
}

#[derive(Deserialize)]
struct Task {
    prompts: Vec<Asked>,
    mean_logit_diff: f64,
    n_right: usize,
    n_best_of_names: usize,
    diff: Vec<f64>,         // [n_prompts]
    zero: Vec<Vec<f64>>,    // [n_heads][n_prompts]
    patch_z: Vec<Vec<f64>>, // [n_heads][n_prompts]
}

#[derive(Deserialize)]
struct Asked {
    text: String,
    token_ids: Vec<u32>,
    partner_token_ids: Vec<u32>,
    correct: u32,
    distractor: u32,
}

#[derive(Deserialize)]
struct Top {
    text: String,
    token_ids: Vec<u32>,
    top_ids: Vec<u32>,
    top_logits: Vec<f64>,
}

fn real_model() -> Option<(Model, Golden)> {
    let Some(folder) = std::env::var_os("CIRCUIT_SCALING_REAL_MODEL").map(PathBuf::from) else {
        println!("skipped: CIRCUIT_SCALING_REAL_MODEL names no folder (see tools/real_model)");
        return None;
    };
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/smollm2.json");
    let golden = serde_json::from_slice(&std::fs::read(golden).unwrap()).unwrap();
    Some((Model::load(&ModelFiles::folder(folder).unwrap()).unwrap(), golden))
}

/// Logit differences of the plain run, `[n_prompts]`, and with every head's `z` replaced, `[n_heads][n_prompts]`.
fn differences(
    decoder: &Decoder,
    prompts: &[Prompt],
    heads: &[(usize, usize)],
    replacement: Replacement,
) -> (Vec<f64>, Vec<Vec<f64>>) {
    let branches: Vec<Branch> =
        heads.iter().map(|&head| Branch::patch([head], Stream::Z, replacement)).collect();
    let readings = Readings::collect(decoder, prompts, &branches, Options::default()).unwrap();
    let difference = |logits: &[f64]| logits[0] - logits[1];
    let plain = (0..prompts.len()).map(|p| difference(readings.plain(p))).collect();
    let edited = (0..branches.len())
        .map(|b| (0..prompts.len()).map(|p| difference(readings.branch(b, p))).collect())
        .collect();
    (plain, edited)
}

fn agree(what: &str, found: &[f64], expected: &[f64]) {
    assert_eq!(found.len(), expected.len());
    for (i, (a, b)) in found.iter().zip(expected).enumerate() {
        assert!((a - b).abs() <= TOLERANCE, "{what}, prompt {i}: {a} instead of {b}");
    }
}

#[test]
fn both_tasks_agree_with_transformers() {
    let Some((model, golden)) = real_model() else { return };
    let (decoder, tokenizer) = (model.decoder(), model.tokenizer().unwrap());
    assert_eq!(golden.heads.len(), 24);
    for (name, task) in &golden.tasks {
        let prompts: Vec<Prompt> = task
            .prompts
            .iter()
            .map(|asked| {
                assert_eq!(
                    tokenizer.encode_with_bos(&asked.text).unwrap(),
                    asked.token_ids,
                    "{:?}",
                    asked.text
                );
                let others =
                    golden.names.values().filter(|&&id| id != asked.correct && id != asked.distractor);
                Prompt {
                    tokens: asked.token_ids.clone(),
                    source: Some(asked.partner_token_ids.clone()),
                    weight: 1.0,
                    read: [asked.correct, asked.distractor].into_iter().chain(others.copied()).collect(),
                    ..Prompt::default()
                }
            })
            .collect();
        let (plain, zeroed) = differences(decoder, &prompts, &golden.heads, Replacement::Zero);
        agree(name, &plain, &task.diff);
        let mean = plain.iter().sum::<f64>() / plain.len() as f64;
        assert!((mean - task.mean_logit_diff).abs() <= TOLERANCE, "{name}: mean {mean}");
        assert_eq!(plain.iter().filter(|&&d| d > 0.0).count(), task.n_right, "{name}");
        let readings = Readings::collect(decoder, &prompts, &[], Options::default()).unwrap();
        let is_best = |&p: &usize| readings.plain(p)[1..].iter().all(|&other| readings.plain(p)[0] > other);
        assert_eq!((0..prompts.len()).filter(is_best).count(), task.n_best_of_names, "{name}");

        let (_, patched) = differences(decoder, &prompts, &golden.heads, Replacement::Source);
        for (h, (layer, head)) in golden.heads.iter().enumerate() {
            agree(&format!("{name}, L{layer}H{head} zeroed"), &zeroed[h], &task.zero[h]);
            agree(&format!("{name}, L{layer}H{head} patched"), &patched[h], &task.patch_z[h]);
        }
    }
}

#[test]
fn the_likeliest_next_tokens_are_those_of_transformers() {
    let Some((model, golden)) = real_model() else { return };
    for Top { text, token_ids, top_ids, top_logits } in &golden.top {
        assert_eq!(model.tokenizer().unwrap().encode_with_bos(text).unwrap(), *token_ids, "{text:?}");
        let forest = Forest::new(std::slice::from_ref(token_ids)).unwrap();
        let logits = Cache::new(model.decoder(), &forest).unwrap().logits(forest.end(0));
        let mut ids: Vec<u32> = (0..logits.len() as u32).collect();
        ids.sort_by(|&a, &b| logits[b as usize].total_cmp(&logits[a as usize]));
        assert_eq!(ids[..top_ids.len()], *top_ids, "{text:?}");
        for (&id, logit) in top_ids.iter().zip(top_logits) {
            assert!(
                (logits[id as usize] - logit).abs() <= TOLERANCE,
                "{text:?}: {} for {logit}",
                logits[id as usize]
            );
        }
    }
}
