//! Published findings about real models, checked on those models.
//!
//! Ignored by default: these tests download GPT-2 small (0.5 GB) from the Hugging Face Hub, or find it in its cache.
//! Run them with `cargo test --release -- --ignored online`. The numbers are from Wang et al. 2022, "Interpretability in
//! the Wild: a Circuit for Indirect Object Identification in GPT-2 small". A wrong BOS moves the mean logit difference, a
//! wrong convention for value biases the signs, a wrong order of heads every name.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use cs_engine::Cache;
use cs_engine::forest::Forest;
use cs_engine::model::Model;
use cs_model::ModelFiles;
use serde_json::Value;

/// The classic templates, both orders of names, with names that are one token of GPT-2.
const CLASSIC: &str = r#"
name = "ioi_classic"
title = "IOI, classic templates"
orders = "both"
[names]
min_usable = 12
pool = ["Michael", "Christopher", "Jessica", "Matthew", "Ashley", "Jennifer", "Joshua", "Amanda", "Daniel", "David", "James",
    "Robert", "John", "Joseph", "Andrew", "Ryan", "Brandon", "Jason", "Justin", "Sarah", "William", "Jonathan", "Brian", "Anthony"]
[fillers]
place = ["store", "garden", "restaurant", "school", "hospital", "office", "house", "station"]
object = ["ring", "kiss", "bone", "basketball", "computer", "necklace", "drink", "snack"]
[[templates]]
id = "went"
text = "Then, {first} and {second} went to the {place}. {repeated} gave a {object} to"
[[templates]]
id = "fun"
text = "Then, {first} and {second} had a lot of fun at the {place}. {repeated} gave a {object} to"
[[templates]]
id = "working"
text = "Then, {first} and {second} were working at the {place}. {repeated} decided to give a {object} to"
[[templates]]
id = "thinking"
text = "Then, {first} and {second} were thinking about going to the {place}. {repeated} wanted to give a {object} to"
[[templates]]
id = "argument"
text = "Then, {first} and {second} had a long argument, and afterwards {repeated} said to"
[[templates]]
id = "after"
text = "After {first} and {second} went to the {place}, {repeated} gave a {object} to"
[[templates]]
id = "when"
text = "When {first} and {second} got a {object} at the {place}, {repeated} decided to give it to"
[[templates]]
id = "while"
text = "While {first} and {second} were commuting to the {place}, {repeated} gave a {object} to"
"#;

/// Runs the program, which must succeed.
fn program(folder: &Path, args: &[&str]) -> String {
    let output =
        Command::new(env!("CARGO_BIN_EXE_circuit-scaling")).args(args).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

type Head = (u64, u64);

/// A scan of GPT-2 small on the classic templates: mean logit difference, and Δ of every head.
fn scan(folder: &Path) -> (f64, HashMap<Head, f64>) {
    fs::write(folder.join("classic.toml"), CLASSIC).unwrap();
    let args = ["scan", "--models", "gpt2", "--task", "classic.toml", "--prompts", "400", "--out", "study"];
    program(folder, &args);
    let file = folder.join("study/results/ioi_classic_logitdiff_scan_gpt2.json");
    let scan: Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
    let delta = |h: &Value| {
        let head = (h["layer"].as_u64().unwrap(), h["head"].as_u64().unwrap());
        (head, h["delta"].as_f64().unwrap())
    };
    let heads = scan["heads"].as_array().unwrap().iter().map(delta).collect();
    (scan["base_logit_diff_mean"].as_f64().unwrap(), heads)
}

/// The first `n` heads by `score`, largest first.
fn strongest(scores: &HashMap<Head, f64>, n: usize) -> Vec<Head> {
    let mut heads: Vec<Head> = scores.keys().copied().collect();
    heads.sort_by(|a, b| scores[b].total_cmp(&scores[a]).then(a.cmp(b)));
    heads.truncate(n);
    heads
}

#[test]
#[ignore = "downloads GPT-2 small"]
fn online_gpt2_does_ioi_with_the_heads_of_the_paper() {
    let folder = tempfile::tempdir().unwrap();
    let (difference, deltas) = scan(folder.path());
    assert!((2.5..4.5).contains(&difference), "the paper reports 3.56: {difference}");

    // Zeroing an S-inhibition head hurts; zeroing a negative name mover helps. The effect of ablating name
    // movers is masked by their backups, so it is not tested here.
    let helpful = strongest(&deltas.iter().map(|(&head, delta)| (head, -delta)).collect(), 20);
    for head in [(7, 3), (7, 9), (8, 6), (8, 10)] {
        assert!(helpful.contains(&head), "L{}H{} is no S-inhibition head: {helpful:?}", head.0, head.1);
    }
    let harmful = strongest(&deltas, 4);
    for head in [(10, 7), (11, 10)] {
        assert!(harmful.contains(&head), "L{}H{} is not a negative name mover: {harmful:?}", head.0, head.1);
    }
}

#[test]
#[ignore = "downloads GPT-2 small"]
fn online_gpt2_name_movers_write_the_name() {
    let folder = tempfile::tempdir().unwrap();
    scan(folder.path());
    let (model, prompts) = (gpt2(), prompts(folder.path()));
    let (spec, weights) = (model.spec(), model.decoder().weights());
    let tokens: Vec<&[u32]> = prompts.iter().map(|p| p.tokens.as_slice()).collect();
    let forest = Forest::new(&tokens).unwrap();
    let cache = Cache::new(model.decoder(), &forest).unwrap();

    // The direct effect: a head's output through the final norm (with fixed scale), projected onto the difference of
    // the two names' unembeddings.
    let gain = weights.ln_final.weight.as_ref().unwrap();
    let mut effects: HashMap<Head, f64> = HashMap::new();
    for (i, prompt) in prompts.iter().enumerate() {
        let node = forest.end(i) as usize;
        let row = |id: u32| weights.unembed().row(id as usize, spec.d_model);
        let last = &cache.layer(spec.n_layers - 1).resid_post[node * spec.d_model..][..spec.d_model];
        let mean = last.iter().map(|&x| f64::from(x)).sum::<f64>() / spec.d_model as f64;
        let variance = last.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / spec.d_model as f64;
        let scale = (variance + spec.norm_eps as f64).sqrt();
        let direction: Vec<f64> = (0..spec.d_model)
            .map(|j| {
                f64::from(gain[j]) * f64::from(row(prompt.correct)[j] - row(prompt.distractor)[j]) / scale
            })
            .collect();
        // The norm subtracts the mean of a head's output.
        let centre = direction.iter().sum::<f64>() / spec.d_model as f64;
        for layer in 0..spec.n_layers {
            let z = &cache.layer(layer).z[node * spec.d_attn()..][..spec.d_attn()];
            for head in 0..spec.n_heads {
                let rows = head * spec.d_head..(head + 1) * spec.d_head;
                let effect: f64 = rows
                    .map(|r| {
                        let w_o = &weights.layers[layer].w_o.weight;
                        let onto =
                            (0..spec.d_model).map(|j| f64::from(w_o.get(r, j)) * (direction[j] - centre));
                        f64::from(z[r]) * onto.sum::<f64>()
                    })
                    .sum();
                *effects.entry((layer as u64, head as u64)).or_default() += effect / prompts.len() as f64;
            }
        }
    }
    let movers = strongest(&effects, 4);
    for head in [(9, 9), (9, 6), (10, 0)] {
        assert!(movers.contains(&head), "L{}H{} is not a name mover: {movers:?}", head.0, head.1);
    }
    let negative = strongest(&effects.iter().map(|(&head, effect)| (head, -effect)).collect(), 2);
    for head in [(10, 7), (11, 10)] {
        assert!(
            negative.contains(&head),
            "L{}H{} is not a negative name mover: {negative:?}",
            head.0,
            head.1
        );
    }
}

/// Compares GPT-2's heads under the published protocol with a published joint table, whose path is in `PUBLISHED_JOINT`.
#[test]
#[ignore = "downloads GPT-2 small and needs a published table"]
fn online_the_published_table_is_found_again() {
    let published =
        std::env::var("PUBLISHED_JOINT").expect("set PUBLISHED_JOINT to the path of a joint table");
    let folder = tempfile::tempdir().unwrap();
    let args =
        ["run", "--models", "gpt2", "--protocol", "published", "--value-bias", "in-head", "--out", "study"];
    program(folder.path(), &args);
    let shown = program(folder.path(), &["compare", "study", &published]);
    println!("{shown}");
    assert!(shown.contains("gpt2"));
}

/// The model's files, which the scan downloaded to the cache.
fn gpt2() -> Model {
    let settings = cs_hub::Settings::from_env();
    let snapshot = cs_hub::Hub::new(settings).model("openai-community/gpt2", "main", &mut |_| ()).unwrap();
    Model::load(&ModelFiles::folder(snapshot.folder).unwrap()).unwrap()
}

struct Prompt {
    tokens: Vec<u32>,
    correct: u32,
    distractor: u32,
}

/// Some of the prompts as the scan ran them.
fn prompts(folder: &Path) -> Vec<Prompt> {
    let lines = fs::read_to_string(folder.join("study/results/prompts/ioi_classic_gpt2.jsonl")).unwrap();
    let id = |value: &Value| u32::try_from(value.as_u64().unwrap()).unwrap();
    let prompt = |line: &str| {
        let line: Value = serde_json::from_str(line).unwrap();
        Prompt {
            tokens: line["token_ids"].as_array().unwrap().iter().map(id).collect(),
            correct: id(&line["correct_id"]),
            distractor: id(&line["distractor_id"]),
        }
    };
    lines.lines().take(60).map(prompt).collect()
}
