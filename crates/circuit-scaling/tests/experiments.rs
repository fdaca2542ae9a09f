//! `trace` and `ablate` as a user runs them.

mod common;

use std::fs;
use std::path::Path;

use common::{fails, files, succeeds};
use serde_json::Value;

const MODELS: &str = "mini-gpt2-m,mini-opt-m";

fn read(root: &Path, path: &str) -> String {
    fs::read_to_string(root.join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

#[test]
fn hero_heads_are_traced_and_ablated() {
    let dir = tempfile::tempdir().unwrap();
    let here = dir.path();
    succeeds(&["run", "-q", "--models", MODELS, "--prompts", "60", "--stages", "scan", "--out", "s"], here);
    let root = here.join("s");

    let (said, _) = succeeds(&["trace", "--out", "s", "--all-heads"], here);
    assert!(said.contains("only 30 pairs on ioi"), "few pairs are said: {said}");
    let results: Value =
        serde_json::from_str(&read(&root, "results/causal_tracing/hero_head_causal_results.json")).unwrap();
    let first = results[0].as_object().unwrap();
    let keys: Vec<&str> = first.keys().map(String::as_str).collect();
    let promised = [
        "family",
        "model",
        "hf_name",
        "category",
        "layer",
        "head",
        "mean_ioi_influence",
        "mean_anti_influence",
        "ioi_influences",
        "anti_influences",
    ];
    assert!(promised.iter().all(|key| keys.contains(key)), "{keys:?}");
    assert_eq!(first["stream"], "v");
    assert_eq!(first["origin"]["split"], "held_out");
    assert!(first["origin"]["provenance"]["weight_hash"].as_str().unwrap().len() == 64);
    let influences = first["ioi_influences"].as_array().unwrap();
    let weights = first["ioi"]["weights"].as_array().unwrap();
    let mean =
        influences.iter().zip(weights).map(|(x, w)| x.as_f64().unwrap() * w.as_f64().unwrap()).sum::<f64>()
            / weights.iter().map(|w| w.as_f64().unwrap()).sum::<f64>();
    assert!((mean - first["mean_ioi_influence"].as_f64().unwrap()).abs() < 1e-5);
    let summary = read(&root, "paper/tables/hero_head_causal_summary.csv");
    let columns = "family,model,category,layer,head,delta_ioi,delta_anti,strength,hf_name,mean_ioi_influence,\
                   mean_anti_influence,";
    assert!(summary.starts_with(columns), "{summary}");
    assert_eq!(summary.lines().count(), 1 + results.as_array().unwrap().len());
    let all = read(&root, "paper/tables/all_head_causal_summary.csv");
    assert_eq!(all.lines().count(), 1 + 12 + 12, "every head of both models");
    let pairs = read(&root, "results/prompts/anti_repeat_pairs_mini-opt-m.jsonl");
    let pair: Value = serde_json::from_str(pairs.lines().next().unwrap()).unwrap();
    for key in
        ["clean_text", "corrupted_text", "clean_token_ids", "corrupted_token_ids", "correct", "distractor"]
    {
        assert!(pair.get(key).is_some(), "{key}");
    }
    assert_ne!(pair["clean_text"], pair["corrupted_text"]);
    assert_eq!(
        pair["clean_token_ids"].as_array().unwrap().len(),
        pair["corrupted_token_ids"].as_array().unwrap().len()
    );
    // Another stream does not change these.
    succeeds(&["trace", "-q", "--out", "s", "--stream", "pattern"], here);
    assert_eq!(summary, read(&root, "paper/tables/hero_head_causal_summary.csv"));
    assert!(root.join("results/causal_tracing/hero_head_causal_results_pattern.json").exists());

    let (said, _) = succeeds(&["ablate", "--out", "s", "--random-sets", "20"], here);
    assert!(said.contains("zero ablation, value bias folded, held_out prompts"), "{said}");
    assert!(said.contains("dissociation index"), "{said}");
    let raw = read(&root, "results/ablation/hero_vs_random_ablation.csv");
    assert!(
        raw.starts_with("family,model,k,set_type,acc_ioi,mean_diff_ioi,acc_anti,mean_diff_anti,"),
        "{raw}"
    );
    let summary = read(&root, "paper/tables/hero_vs_random_ablation_summary.csv");
    for set_type in ["baseline", "hero", "random", "random_matched", "hero_shared", "random_anti_only"] {
        assert!(summary.lines().any(|l| l.split(',').nth(3) == Some(set_type)), "{set_type}: {summary}");
    }
    for table in ["hero_vs_random_tests", "hero_vs_random_area", "dissociation", "dissociation_scaling"] {
        assert!(read(&root, &format!("paper/tables/{table}.csv")).lines().count() > 1, "{table}");
    }

    succeeds(&["report", "-q", "--out", "s"], here);
    let page = read(&root, "report.html");
    for path in [
        "results/ablation/hero_vs_random_ablation.csv",
        "results/causal_tracing/hero_head_causal_results.json",
    ] {
        let bytes = fs::metadata(root.join(path)).unwrap().len();
        assert!(page.contains(&format!("{{\"bytes\":{bytes},\"path\":\"{path}\"")), "{path}, {bytes} bytes");
    }

    let (attended, _) = succeeds(&["attend", "--out", "s"], here);
    assert!(attended.contains("over the held_out prompts"), "{attended}");
    check_attention(&root);

    // Run again: nothing is computed, nothing changes. With other threads and less memory: everything is computed, nothing changes.
    let before = files(&root);
    let (again, noted) = succeeds(&["ablate", "-v", "--out", "s", "--random-sets", "20"], here);
    assert!(again == said && noted.matches("done").count() == 2, "{noted}");
    // The choice of hero heads changes what is printed, but not what is measured.
    let (_, noted) = succeeds(&["attend", "-v", "--out", "s", "--tau", "0.5"], here);
    assert!(noted.matches("attention: done").count() == 2 && !noted.contains("heads read"), "{noted}");
    // Running only one model keeps the other's rows in the table.
    let (_, noted) = succeeds(&["attend", "-v", "--out", "s", "--models", "mini-opt-m"], here);
    assert_eq!(noted.matches("attention: done").count(), 1, "{noted}");
    fs::remove_dir_all(root.join("results/attention")).unwrap();
    fs::remove_dir_all(root.join("results/ablation")).unwrap();
    fs::remove_dir_all(root.join("results/causal_tracing")).unwrap();
    let slow = ["-q", "--out", "s", "--threads", "1", "--memory", "4M"];
    succeeds(&[&["ablate", "--random-sets", "20"][..], &slow].concat(), here);
    succeeds(&[&["attend"][..], &slow].concat(), here);
    succeeds(&[&["trace", "--all-heads"][..], &slow].concat(), here);
    succeeds(&[&["trace", "--stream", "pattern"][..], &slow].concat(), here);
    let after = files(&root);
    for (path, bytes) in &before {
        assert!(after.get(path) == Some(bytes), "{path:?} differs");
    }

    // Another method gives another result, and is recorded.
    let (said, _) = succeeds(
        &["ablate", "--out", "s", "--models", "mini-gpt2-m", "--random-sets", "3", "--ablation", "mean"],
        here,
    );
    assert!(said.contains("mean ablation") && !said.contains("mini-opt-m"), "{said}");
    let summary = read(&root, "paper/tables/hero_vs_random_ablation_summary.csv");
    assert!(summary.lines().skip(1).all(|line| line.contains(",mean,folded,")), "{summary}");
    succeeds(
        &[
            "ablate",
            "-q",
            "--out",
            "s",
            "--models",
            "mini-opt-m",
            "--random-sets",
            "3",
            "--ablation",
            "resample",
        ],
        here,
    );

    // At a high threshold every head is weak, which is reported.
    let (said, _) = succeeds(&["trace", "--out", "s", "--tau", "100", "--models", "mini-gpt2-m"], here);
    assert!(said.contains("no head is shared; no head is ioi_only; no head is anti_only"), "{said}");
    let (said, _) = succeeds(
        &["ablate", "--out", "s", "--tau", "100", "--models", "mini-gpt2-m", "--random-sets", "3"],
        here,
    );
    assert!(
        said.contains("no head is shared: no set of 1 or more") && said.contains("every head is weak"),
        "{said}"
    );

    wrong_arguments(here);
}

/// Every head of both models on both tasks; shares add up to 1; the table agrees with the files.
fn check_attention(root: &Path) {
    let table = read(root, "paper/tables/attention_at_last_token.csv");
    let mut rows = table.lines();
    let header: Vec<&str> = rows.next().unwrap().split(',').collect();
    assert!(
        table.starts_with("family,model,task,layer,head,bos,correct,distractor,repeated,last,"),
        "{table}"
    );
    for model in ["mini-gpt2-m", "mini-opt-m"] {
        let file: Value =
            serde_json::from_str(&read(root, &format!("results/attention/attention_{model}.json"))).unwrap();
        assert_eq!(file["origin"]["split"], "held_out");
        assert_eq!(file["origin"]["provenance"]["weight_hash"].as_str().unwrap().len(), 64);
        assert!(file["note"].as_str().unwrap().contains("held_out prompts"));
        for (task, name) in ["ioi", "anti_repeat"].into_iter().enumerate() {
            let of_task = &file["tasks"][task];
            assert_eq!((&of_task["task"], &of_task["n_prompts"]), (&Value::from(name), &Value::from(30)));
            let heads = of_task["heads"].as_array().unwrap();
            assert_eq!(heads.len(), 12);
            for head in heads {
                let mean: Vec<f64> =
                    head["mean"].as_array().unwrap().iter().map(|m| m.as_f64().unwrap()).collect();
                assert!((mean.iter().sum::<f64>() - 1.0).abs() < 1e-4, "{head}");
                let row: Vec<&str> = rows.next().unwrap().split(',').collect();
                assert_eq!(row[1..5], [model, name, &head["layer"].to_string(), &head["head"].to_string()]);
                for (at, role) in file["roles"].as_array().unwrap().iter().enumerate() {
                    assert_eq!(header[5 + at], role.as_str().unwrap());
                    assert!((row[5 + at].parse::<f64>().unwrap() - mean[at]).abs() < 1e-5, "{head}");
                }
            }
        }
    }
    assert_eq!(rows.next(), None);
}

fn wrong_arguments(here: &Path) {
    fails(&["attend", "--out", "nowhere"], here, &["nowhere", "circuit-scaling run"]);
    fails(
        &["attend", "--out", "s", "--models", "mini-pythia-m"],
        here,
        &["mini-pythia-m", "was not scanned"],
    );
    fs::remove_file(here.join("s/results/attention/attention_mini-opt-m.json")).unwrap();
    fails(&["attend", "--out", "s", "--memory", "1K"], here, &["mini-opt-m", "raise the memory limit"]);
    fails(&["trace", "--out", "nowhere"], here, &["nowhere", "circuit-scaling run"]);
    fails(&["ablate", "--out", "nowhere"], here, &["nowhere", "circuit-scaling run"]);
    assert!(!here.join("nowhere").exists(), "a study that is not there is not made");
    fails(&["trace", "--out", "s", "--stream", "x"], here, &["x", "pattern"]);
    fails(&["ablate", "--out", "s", "--random-sets", "1"], here, &["200"]);
    fails(&["ablate", "--out", "s", "--ablation", "knockout"], here, &["knockout", "resample"]);
    fails(
        &["trace", "--out", "s", "--models", "mini-pythia-m"],
        here,
        &["mini-pythia-m", "was not scanned", "scan"],
    );
    fails(&["trace", "--out", "s", "--models", "no-such-model"], here, &["no-such-model"]);
    fails(&["trace", "--out", "s", "--memory", "1K", "--stream", "k"], here, &["memory"]);
    fails(&["ablate", "--out", "s", "--tau", "0"], here, &["--tau"]);

    // Other weights than the scanned ones.
    let scan = here.join("s/results/per_prompt/ioi_mini-opt-m.safetensors");
    let other = here.join("s/results/per_prompt/ioi_mini-gpt2-m.safetensors");
    let kept = fs::read(&scan).unwrap();
    fs::copy(&other, &scan).unwrap();
    fails(&["trace", "--out", "s", "--models", "mini-opt-m"], here, &["mini-opt-m"]);
    fs::write(&scan, kept).unwrap();
    // A model that moved.
    let path = here.join("s/results/copy_suppression_logitdiff_scan_mini-opt-m.json");
    let text = fs::read_to_string(&path).unwrap();
    let moved = here.join("s/results/copy_suppression_logitdiff_scan_gone.json");
    fs::write(&moved, text.replace("mini-opt-m", "gone")).unwrap();
    fs::copy(
        here.join("s/results/anti_repeat_logitdiff_scan_mini-opt-m.json"),
        here.join("s/results/anti_repeat_logitdiff_scan_gone.json"),
    )
    .unwrap();
    let anti = here.join("s/results/anti_repeat_logitdiff_scan_gone.json");
    let text = fs::read_to_string(&anti).unwrap();
    fs::write(&anti, text.replace("mini-opt-m", "gone")).unwrap();
    fails(&["trace", "--out", "s"], here, &["gone", "--models"]);
}
