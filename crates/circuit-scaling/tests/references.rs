//! Reference prompts of mean and resample ablation, from the command line.

mod common;

use std::fs;
use std::path::Path;

use common::{MODEL, fails, succeeds};
use serde_json::Value;

/// Scans `MODEL` on IOI into `out` and returns the scan file.
fn scan(folder: &Path, out: &str, options: &[&str]) -> Value {
    let base = ["scan", "-q", "--models", MODEL, "--task", "ioi", "--out", out];
    succeeds(&[&base[..], options].concat(), folder);
    let path = folder.join(out).join(format!("results/copy_suppression_logitdiff_scan_{MODEL}.json"));
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// Each head's Δ with its interval.
fn deltas(scan: &Value) -> Vec<[f64; 3]> {
    let heads = scan["heads"].as_array().unwrap();
    let number = |head: &Value, key: &str| head[key].as_f64().unwrap();
    heads.iter().map(|h| ["delta", "delta_ci_low", "delta_ci_high"].map(|key| number(h, key))).collect()
}

/// For any number of prompts, Δ under mean ablation estimates the same quantity: intervals overlap, and few prompts do not
/// shrink it towards 0, as they would if means included the prompt itself.
#[test]
fn means_over_20_80_and_480_prompts_agree() {
    let folder = tempfile::tempdir().unwrap();
    let found = ["20", "80", "480"].map(|n| {
        let scan = scan(folder.path(), n, &["--ablation", "mean", "--prompts", n]);
        assert_eq!(scan["reference"], "abc");
        deltas(&scan)
    });
    let [few, some, many] = &found;
    for (a, b) in [(few, some), (some, many), (few, many)] {
        for (at, (a, b)) in a.iter().zip(b).enumerate() {
            // Smaller values are noise.
            let slack = 0.02;
            assert!(a[1] <= b[2] + slack && b[1] <= a[2] + slack, "head {at}: {a:?} and {b:?}");
        }
    }
    let strongest = (0..many.len()).max_by(|&a, &b| many[a][0].abs().total_cmp(&many[b][0].abs())).unwrap();
    for some in [few, some] {
        let ratio = some[strongest][0] / many[strongest][0];
        assert!((0.8..1.25).contains(&ratio), "head {strongest}: {ratio:.3} of its Δ at 480 prompts");
    }
}

/// The prompts' references are recorded next to them, in every model's file.
#[test]
fn references_are_recorded_and_the_scan_says_which_it_used() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let zero = scan(here, "s", &["--prompts", "40"]);
    assert!(zero.get("reference").is_none(), "zero ablation takes nothing from other prompts");
    let prompts = fs::read_to_string(here.join(format!("s/results/prompts/ioi_{MODEL}.jsonl"))).unwrap();
    for line in prompts.lines() {
        let prompt: Value = serde_json::from_str(line).unwrap();
        let length = |ids: &Value| ids.as_array().unwrap().len();
        let references = prompt["references"].as_array().unwrap();
        assert!(!references.is_empty());
        for reference in references {
            assert_eq!(length(&reference["token_ids"]), length(&prompt["token_ids"]));
            assert_ne!(reference["text"], prompt["text"]);
        }
    }
    // Each choice is a separate scan, and none is reused for another.
    let choices = [["mean", "abc"], ["mean", "same"], ["resample", "abc"], ["resample", "same"]];
    let found = choices.map(|[ablation, reference]| {
        let scan = scan(here, "s", &["--prompts", "40", "--ablation", ablation, "--reference", reference]);
        assert_eq!(
            (scan["ablation"].as_str(), scan["reference"].as_str()),
            (Some(ablation), Some(reference))
        );
        deltas(&scan)
    });
    for (i, a) in found.iter().enumerate() {
        assert!(found[..i].iter().all(|b| a != b), "{:?}", choices[i]);
    }
}

#[test]
fn a_group_of_one_is_refused_with_the_number_of_prompts_that_helps() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let scan = ["scan", "--models", MODEL, "--task", "ioi", "--ablation", "mean", "--reference", "same"];
    let with = |options: &[&'static str]| [&scan[..], options].concat();
    fails(
        &with(&["--prompts", "20"]),
        here,
        &["nothing to average", "ask for 40 prompts instead of 20", "--reference abc"],
    );
    // Nothing was recorded, so the suggested fix works without cleaning up.
    succeeds(&with(&["--prompts", "40"]), here);
    let published = ["--protocol", "published"];
    let one = [&published[..], &["--prompts", "1", "--out", "c"]].concat();
    fails(&with(&one), here, &["nothing to average", "ask for 2 prompts instead of 1"]);
    // `plan` does not estimate the cost of an impossible run.
    let plan = ["plan", "--models", MODEL, "--ablation", "mean", "--reference", "same", "--prompts", "20"];
    fails(&plan, here, &["nothing to average", "ask for 40"]);
    fails(&["run", "--reference", "abd"], here, &["abd", "abc, same"]);
}

/// A study keeps its choice, its ablated sets follow it, and another choice is another study.
#[test]
fn a_study_keeps_its_reference_prompts() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let run =
        ["run", "--models", MODEL, "--prompts", "60", "--random-sets", "2", "--stages", "scan,tables,ablate"];
    let of = |options: &[&'static str]| [&run[..], options].concat();
    succeeds(&of(&["--ablation", "mean", "--reference", "same", "--out", "s"]), here);
    let read = |path: &str| fs::read_to_string(here.join(path)).unwrap();
    assert!(read("s/study.toml").contains("reference = \"same\""));
    let column = |table: &str| {
        let text = read(table);
        let at = text.lines().next().unwrap().split(',').position(|name| name == "reference").unwrap();
        let cells = text.lines().skip(1).map(|line| line.split(',').nth(at).unwrap().to_owned());
        cells.collect::<std::collections::BTreeSet<_>>().into_iter().collect::<Vec<_>>()
    };
    assert_eq!(column("s/paper/tables/joint_ioi_anti_repeat_all.csv"), ["same"]);
    assert_eq!(column("s/paper/tables/hero_vs_random_ablation_summary.csv"), ["same"]);
    // Repeated from its file it is byte-identical; with another choice it is scanned again.
    let joint = read("s/paper/tables/joint_ioi_anti_repeat_all.csv");
    succeeds(&["run", "--study", "s/study.toml", "--out", "t"], here);
    assert_eq!(joint, read("t/paper/tables/joint_ioi_anti_repeat_all.csv"));
    succeeds(&["run", "--study", "s/study.toml", "--reference", "abc", "--out", "t"], here);
    assert_eq!(column("t/paper/tables/joint_ioi_anti_repeat_all.csv"), ["abc"]);
    assert_eq!(column("t/paper/tables/hero_vs_random_ablation_summary.csv"), ["abc"]);
    let (said, _) = succeeds(
        &["ablate", "--out", "t", "--random-sets", "2", "--ablation", "resample", "--reference", "same"],
        here,
    );
    assert!(said.contains("resample ablation over same reference prompts"), "{said}");
}
