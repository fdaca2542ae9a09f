//! Studies of one task, of three, and of another pair than the published one, from the command line.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use common::{MODEL, fails, files, succeeds};

const RECALL: &str = r#"
name = "recall"
title = "Recall of a described person"
orders = "both"
correct = "repeated"

[names]
pool = [
    "James", "John", "Robert", "Michael", "David", "Thomas", "Daniel", "Mark", "Paul", "Kevin", "George", "Peter",
    "Mary", "Sarah", "Anna", "Maria", "Kate", "Jane", "Anne", "Alice", "Laura", "Emma", "Helen", "Lisa",
]
min_usable = 4

[fillers]
place = ["office", "market", "station", "library"]

[[templates]]
id = "won_prize"
text = "Only {first} and {second} came to the {place}, and {repeated} won the prize. The prize went to"

[[templates]]
id = "wore_coat"
text = "At the {place} stood {first} and {second}. {repeated} wore a coat. The name on the coat was"
"#;

/// A minimal meaningful run of these tasks on one model.
fn run<'a>(tasks: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let few =
        ["--prompts", "60", "--resamples", "200", "--random-sets", "20", "--random-prompts", "4", "--quiet"];
    [&["run", "--models", MODEL, "--tasks", tasks, "--out", "s"][..], &few, more].concat()
}

fn header(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    text.lines().next().unwrap().to_owned()
}

#[test]
fn a_study_of_one_task_has_everything_that_one_task_has() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    fs::write(here.join("recall.toml"), RECALL).unwrap();
    let (said, _) = succeeds(&run("recall.toml", &[]), here);
    assert!(said.contains("recall") && said.contains("strong"), "{said}");
    let there = files(&here.join("s"));
    let has = |path: &str| there.contains_key(Path::new(path));
    for path in [
        "paper/tables/head_effects.csv",
        "paper/tables/task_measures.csv",
        "paper/tables/attention_at_last_token.csv",
        "paper/figs/effects_mini-gpt2-m.svg",
        "paper/figs/task_scaling.png",
        "paper/notes/high_level_findings.md",
        "report.html",
    ] {
        assert!(has(path), "{path}: {:?}", there.keys().collect::<Vec<_>>());
    }
    assert!(there.keys().all(|path| !path.to_string_lossy().contains("joint_")));
    fails(&["joint", "--out", "s"], here, &["only on recall", "two tasks"]);
    fails(&["trace", "--out", "s"], here, &["only on recall"]);
    fails(&["run", "--models", MODEL, "--tasks", "ioi,ioi", "--out", "t"], here, &["--tasks", "ioi twice"]);
    let strange = run("ioi", &["--contrast", "ioi:recall"]);
    // `fails` is already quiet.
    let strange: Vec<&str> = strange.into_iter().filter(|word| *word != "--quiet").collect();
    fails(&strange, here, &["--contrast", "no task `recall`"]);
    // Each stage separately, and again: nothing changes.
    for command in ["plot", "notes", "report", "attend"] {
        succeeds(&[command, "--out", "s", "--quiet"], here);
    }
    succeeds(&run("recall.toml", &[]), here);
    // The record also says which command wrote what.
    let without_record = |mut files: BTreeMap<PathBuf, Vec<u8>>| {
        files.remove(Path::new(".circuit-scaling/steps.json"));
        files
    };
    assert!(without_record(there) == without_record(files(&here.join("s"))));
}

#[test]
fn single_commands_keep_the_tasks_order() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    // Its file name differs from its task's, and it comes before the built-in one.
    fs::write(here.join("mine.toml"), RECALL).unwrap();
    succeeds(&run("mine.toml,ioi", &[]), here);
    let there = files(&here.join("s"));
    assert!(there.contains_key(Path::new("paper/tables/joint_recall_ioi_all.csv")));
    for command in ["joint", "plot", "notes", "report"] {
        succeeds(&[command, "--out", "s", "--quiet"], here);
        let now = files(&here.join("s"));
        let is_own = |path: &Path| path.starts_with(".circuit-scaling");
        let new = now.iter().filter(|(path, bytes)| !is_own(path) && there.get(*path) != Some(bytes));
        let new: Vec<_> = new.collect();
        assert!(new.is_empty(), "{command}: {:?}", new.iter().map(|(path, _)| path).collect::<Vec<_>>());
    }
}

#[test]
fn several_contrasts_of_three_tasks_share_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    fs::write(here.join("recall.toml"), RECALL).unwrap();
    let tasks = "ioi,anti-repeat,recall.toml";
    let contrasts = ["--contrast", "ioi:anti-repeat,ioi:recall,anti-repeat:recall"];
    let (said, _) = succeeds(&run(tasks, &contrasts), here);
    assert!(said.contains("ioi:recall\n") && said.contains("anti_repeat:recall\n"), "{said}");
    let tables = here.join("s/paper/tables");
    for (name, columns) in [
        ("joint_ioi_anti_repeat_all", "family,model,layer,head,delta_ioi,delta_anti,"),
        ("joint_ioi_recall_all", "family,model,layer,head,delta_ioi,delta_recall,"),
        ("joint_anti_repeat-recall_all", "family,model,layer,head,delta_anti_repeat,delta_recall,"),
        ("ioi_recall_head_category_summary", "family,model,n_recall_only,n_ioi_only,n_shared,n_weak,"),
        (
            "ioi_recall_hero_vs_random_ablation_summary",
            "family,model,k,set_type,acc_ioi,mean_diff_ioi,acc_recall,mean_diff_recall,",
        ),
        (
            "ioi_recall_hero_head_causal_summary",
            "family,model,category,layer,head,delta_ioi,delta_recall,strength,",
        ),
        (
            "ioi_recall_ioi_transfer_generic",
            "base_family,base_model,tgt_family,tgt_model,layer,head,base_abs_delta_ioi,",
        ),
        ("task_overlap", "family,model,params_m,task_a,task_b,n_heads,pearson,"),
        ("head_effects", "family,model,layer,head,task,split,delta,"),
    ] {
        let found = header(&tables.join(format!("{name}.csv")));
        assert!(found.starts_with(columns), "{name}: {found}");
    }
    for path in [
        "paper/figs/scatter_mini-gpt2-m.png",
        "paper/figs/ioi_recall/scatter_mini-gpt2-m.png",
        "paper/figs/anti_repeat-recall/causal_recall.svg",
        "paper/figs/task_overlap_mini-gpt2-m.png",
        "results/ablation/ablation_mini-gpt2-m.json",
        "results/ablation/ioi_recall/ablation_mini-gpt2-m.json",
        "results/causal_tracing/anti_repeat-recall/hero_head_causal_results.json",
    ] {
        assert!(here.join("s").join(path).exists(), "{path}");
    }
    let note = fs::read_to_string(here.join("s/paper/notes/high_level_findings.md")).unwrap();
    for title in ["## IOI and anti-repeat\n", "## IOI and recall\n", "Do the same heads do several tasks"] {
        assert!(note.contains(title), "{title:?}: {note}");
    }

    // Results of the published pair are those of a study of that pair only.
    let pair = run("ioi,anti-repeat", &[]).into_iter().map(|word| if word == "s" { "pair" } else { word });
    succeeds(&pair.collect::<Vec<_>>(), here);
    let (alone, with_others) = (files(&here.join("pair")), files(&here.join("s")));
    let of_study = |path: &&Path| {
        let text = path.to_string_lossy();
        let of_all = [
            "report.html",
            "study.toml",
            ".circuit-scaling",
            "paper/notes",
            "results/attention",
            "attention_at_last_token",
            "head_effects",
            "task_measures",
            "direct_vs_total",
            "self_repair",
            "role",
            ".parquet",
            "provenance.json",
        ];
        !of_all.iter().any(|part| text.contains(part))
    };
    let mut n_same = 0;
    for path in alone.keys().map(|p| p.as_path()).filter(of_study) {
        assert!(alone[path] == with_others[path], "{}", path.display());
        n_same += 1;
    }
    assert!(n_same > 40, "{n_same}");

    // A repeated run repeats nothing, and single commands give the same.
    let before = files(&here.join("s"));
    succeeds(&run(tasks, &contrasts), here);
    assert!(before == files(&here.join("s")));
    let (said, _) = succeeds(&["heroes", "--out", "s", "--contrast", "ioi:recall"], here);
    assert!(said.contains("Δ recall"), "{said}");
    let (said, _) = succeeds(&["correlate", "--out", "s", "--contrast", "recall:ioi"], here);
    assert!(said.contains("recall_ioi_corr_vs_scale_cross_family.csv"), "{said}");
}
