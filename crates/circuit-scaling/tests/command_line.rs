//! The program as a user runs it: the main task, and messages about errors.

mod common;

use std::fs;
use std::path::Path;

use common::{GREETING, MODEL, checkpoint, fails, files, program};
use serde_json::Value;

/// The output of a run that must succeed.
fn succeeds(args: &[&str], folder: &Path) -> String {
    common::succeeds(args, folder).0
}

#[test]
fn run_does_the_main_job_from_any_folder() {
    let folder = tempfile::tempdir().unwrap();
    let shown = succeeds(&["run", "--models", MODEL, "--prompts", "60", "--out", "a"], folder.path());
    assert!(shown.contains(MODEL) && shown.contains("ioi_only"), "{shown}");

    let scan =
        fs::read(folder.path().join(format!("a/results/copy_suppression_logitdiff_scan_{MODEL}.json")))
            .unwrap();
    let scan: Value = serde_json::from_slice(&scan).unwrap();
    let heads = scan["heads"].as_array().unwrap();
    assert_eq!(heads.len() as u64, scan["n_layers"].as_u64().unwrap() * scan["n_heads"].as_u64().unwrap());
    for key in ["top_suppressor_candidates", "top_anti_suppressors"] {
        let list = scan[key].as_array().unwrap();
        assert!(
            !list.is_empty() && list.iter().all(|head| heads.contains(head)),
            "{key} holds the same objects"
        );
    }
    let joint =
        fs::read_to_string(folder.path().join("a/paper/tables/joint_ioi_anti_repeat_all.csv")).unwrap();
    assert!(joint.starts_with("family,model,layer,head,delta_ioi,delta_anti"), "{joint}");
    assert_eq!(joint.lines().count(), heads.len() + 1);
    let prompts =
        fs::read_to_string(folder.path().join(format!("a/results/prompts/ioi_{MODEL}.jsonl"))).unwrap();
    let weights =
        prompts.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["weight"].as_u64().unwrap());
    assert_eq!(weights.sum::<u64>(), 60);
}

#[test]
fn a_run_is_counted_before_it_is_started() {
    let folder = tempfile::tempdir().unwrap();
    let plan = |more: &[&str]| {
        succeeds(&[&["plan", "--models", "mini-pythia-l", "--out", "a"], more].concat(), folder.path())
    };
    let tflop = |said: &str, stage: &str| -> f64 {
        let rows = || said.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let row = rows().find(|row| row.first() == Some(&"mini-pythia-l") && row.get(1) == Some(&stage));
        row.unwrap_or_else(|| panic!("no {stage} in {said}"))[3].parse().unwrap()
    };
    let standard = plan(&[]);
    for stage in ["scan", "attend", "trace", "ablate"] {
        assert!(tflop(&standard, stage) > 0.0, "{standard}");
    }
    assert!(tflop(&standard, "all") > tflop(&standard, "scan"), "{standard}");
    let (quick, thorough) = (plan(&["--effort", "quick"]), plan(&["--effort", "thorough"]));
    for stage in ["scan", "attend", "ablate"] {
        assert!(tflop(&quick, stage) < 0.6 * tflop(&standard, stage), "{stage}: {quick}");
        assert!(tflop(&thorough, stage) > 1.5 * tflop(&standard, stage), "{stage}: {thorough}");
    }
    let alone = plan(&["--effort", "quick", "--prompts", "480", "--stages", "scan"]);
    assert_eq!(tflop(&alone, "scan"), tflop(&standard, "scan"));
    assert!(!alone.contains("ablate") && !folder.path().join("a").exists(), "{alone}");
    fails(&["plan", "--effort", "huge"], folder.path(), &["huge", "thorough"]);

    // What a run reports, and what it records.
    let run = [
        "run",
        "--models",
        MODEL,
        "--effort",
        "quick",
        "--random-sets",
        "30",
        "--stages",
        "scan",
        "--out",
        "a",
    ];
    let (_, noted) = common::succeeds(&run, folder.path());
    assert!(noted.contains("for what runs a model: scan "), "{noted}");
    let written = fs::read_to_string(folder.path().join("a/study.toml")).unwrap();
    for line in
        ["effort = \"quick\"", "prompts = 160", "random_sets = 30", "random_prompts = 20", "resamples = 2000"]
    {
        assert!(written.contains(line), "{line} in {written}");
    }
    // An effort on the command line replaces the values derived from the file's effort.
    let again =
        ["run", "-q", "--study", "a/study.toml", "--effort", "standard", "--prompts", "40", "--out", "b"];
    succeeds(&again, folder.path());
    let written = fs::read_to_string(folder.path().join("b/study.toml")).unwrap();
    for line in ["effort = \"standard\"", "prompts = 40", "random_sets = 200", "resamples = 10000"] {
        assert!(written.contains(line), "{line} in {written}");
    }
}

#[test]
fn a_joint_table_alone_gives_the_tables_of_the_run() {
    let folder = tempfile::tempdir().unwrap();
    succeeds(
        &["run", "-q", "--models", MODEL, "--prompts", "60", "--tau", "0.2", "--out", "a"],
        folder.path(),
    );
    let tables = |study: &str| folder.path().join(study).join("paper/tables");
    let joint = tables("a").join("joint_ioi_anti_repeat_all.csv");
    // The order of rows does not matter.
    let text = fs::read_to_string(&joint).unwrap();
    let (header, rows) = text.split_once('\n').unwrap();
    let reversed: Vec<&str> = rows.lines().rev().collect();
    fs::write(folder.path().join("joint.csv"), format!("{header}\n{}\n", reversed.join("\n"))).unwrap();
    let shown = succeeds(&["analyze", "joint.csv", "--tau", "0.2", "--out", "b"], folder.path());
    assert!(shown.contains("no zeros were filled in"), "{shown}");
    let mut n_files = 0;
    // Results that need the models as well as the scans are only in the run's folder.
    for file in fs::read_dir(tables("b")).unwrap() {
        let name = file.unwrap().file_name();
        // Tables with more than a joint table can give.
        if ["head_effects.csv", "self_repair.csv", "parquet"].iter().any(|of_scans| name == *of_scans) {
            continue;
        }
        assert!(
            fs::read(tables("a").join(&name)).unwrap() == fs::read(tables("b").join(&name)).unwrap(),
            "{name:?}"
        );
        n_files += 1;
    }
    assert!(n_files > 12, "{n_files}");
    // A threshold outside the sweep has its probabilities.
    let heads = fs::read_to_string(tables("a").join("joint_ioi_anti_repeat_heads.csv")).unwrap();
    assert!(heads.lines().next().unwrap().contains("stable"), "{heads}");
    assert!(heads.lines().skip(1).all(|line| !line.contains(",,")), "{heads}");

    // Each table has its own command, which writes the same bytes.
    for (command, table) in [
        ("joint", "audit"),
        ("classify", "tau_sweep"),
        ("summarize", "head_category_summary"),
        ("heroes", "hero_heads_for_paper"),
        ("correlate", "corr_vs_scale_cross_family"),
        ("transfer", "transfer_tests"),
    ] {
        let path = tables("a").join(format!("{table}.csv"));
        let before = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        succeeds(&[command, "--tau", "0.2", "--out", "a"], folder.path());
        assert!(fs::read(&path).unwrap() == before, "{command}");
    }
    fails(&["transfer", "--pairs", "x:y", "--out", "a"], folder.path(), &["--pairs", "`x`"]);
    fails(&["correlate", "--out", "nowhere"], folder.path(), &["nowhere", "run"]);
}

#[test]
fn compare_finds_what_differs() {
    let folder = tempfile::tempdir().unwrap();
    let header = "family,model,layer,head,delta_ioi,delta_anti\n";
    let write = |name: &str, rows: &str| {
        fs::write(folder.path().join(name), format!("{header}{rows}")).unwrap();
    };
    write("a.csv", "x,m,0,0,0.5,0.1\nx,m,0,1,-0.2,0.0\nx,m,1,0,0.01,0.3\n");
    write("b.csv", "x,m,0,0,0.5,0.1\nx,m,0,1,0.2,0.0\nx,m,1,0,0.01,0.3\n");
    write("c.csv", "x,other,0,0,0.5,0.1\n");
    let same = succeeds(&["compare", "a.csv", "a.csv"], folder.path());
    assert!(same.contains("100.0%") && same.contains("max |diff|") && !same.contains("66.7%"), "{same}");
    let shown = succeeds(&["compare", "a.csv", "b.csv", "--out", "c"], folder.path());
    assert!(shown.contains("66.7%") && shown.contains("L0H1 (-0.200 and +0.200)"), "{shown}");
    assert!(folder.path().join("c/paper/tables/compare_heads.csv").exists());
    assert!(folder.path().join("c/paper/figs/comparison.png").exists());
    let figure = fs::read_to_string(folder.path().join("c/paper/figs/comparison.svg")).unwrap();
    assert!(figure.contains("<text") && figure.contains("n = 3 heads of 1 model"), "{figure}");
    // The folder that `analyze` made from a table can be given instead of the table.
    succeeds(&["analyze", "b.csv", "--out", "d"], folder.path());
    assert_eq!(shown, succeeds(&["compare", "a.csv", "d", "--out", "c"], folder.path()));
    fails(&["compare", "a.csv", "c.csv"], folder.path(), &["no model in common", "m against other"]);
    fails(&["compare", "a.csv", "gone.csv"], folder.path(), &["gone.csv"]);
}

#[test]
fn bad_tables_are_refused_in_a_line() {
    let folder = tempfile::tempdir().unwrap();
    let header = "family,model,layer,head,delta_ioi,delta_anti\n";
    let cases: [(&str, &str, &[&str]); 7] = [
        ("no-column.csv", "family,model,layer,delta_ioi,delta_anti\nx,m,0,1,1\n", &["line 1", "`head`"]),
        ("text.csv", "x,m,0,0,big,1\n", &["line 2", "`delta_ioi`", "`big`"]),
        ("negative.csv", "x,m,-1,0,1,1\n", &["line 2", "`layer`", "negative"]),
        ("families.csv", "x,m,0,0,1,1\ny,m,0,1,1,1\n", &["line 3", "`family`", "`y`"]),
        ("empty.csv", "", &["empty"]),
        ("no-rows.csv", "\n", &["no rows"]),
        ("long.csv", &"x,m,0,0,1,1\n".repeat(2_001), &["--max-rows", "2000"]),
    ];
    for (name, text, words) in cases {
        let text = if name == "no-column.csv" || name == "empty.csv" {
            text.to_owned()
        } else {
            format!("{header}{text}")
        };
        fs::write(folder.path().join(name), text).unwrap();
        fails(
            &["analyze", name, "--max-rows", "2000", "--out", "out"],
            folder.path(),
            &[&[name], words].concat(),
        );
        assert!(!folder.path().join("out").exists(), "{name} left something");
    }
    // Tables that cannot be analysed can still be audited.
    fs::write(folder.path().join("twice.csv"), format!("{header}x,m,0,0,1,1\nx,m,0,0,1,2\n")).unwrap();
    let output = program(&["analyze", "twice.csv"], folder.path());
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("m: 2 rows") && said.contains("lines 2 and 3") && said.contains("L0H0"), "{said}");
}

#[test]
fn threads_and_memory_change_no_byte() {
    let folder = tempfile::tempdir().unwrap();
    let run = |out: &str, threads: &str, memory: &str| {
        let args = [
            "run",
            "-q",
            "--models",
            MODEL,
            "--prompts",
            "60",
            "--out",
            out,
            "--threads",
            threads,
            "--memory",
            memory,
        ];
        succeeds(&args, folder.path());
    };
    run("a", "1", "1G");
    run("b", "2", "8M");
    let [a, b] = ["a", "b"].map(|study| files(&folder.path().join(study)));
    assert!(a.len() >= 10 && a.keys().eq(b.keys()), "{:?}", a.keys());
    for (path, bytes) in &a {
        assert!(b[path] == *bytes, "{path:?} differs");
    }
}

#[test]
fn tables_can_be_made_again_from_the_scans() {
    let folder = tempfile::tempdir().unwrap();
    succeeds(&["run", "-q", "--models", MODEL, "--prompts", "60"], folder.path());
    let table = folder.path().join("circuit-scaling-study/paper/tables/joint_ioi_anti_repeat_all.csv");
    let before = fs::read(&table).unwrap();
    fs::remove_file(&table).unwrap();
    succeeds(&["joint"], folder.path());
    assert!(before == fs::read(&table).unwrap());
    assert!(succeeds(&["heroes", "--top-k", "1"], folder.path()).contains(MODEL));
    succeeds(&["classify", "--tau", "0.1"], folder.path());
    succeeds(&["summarize"], folder.path());
}

#[test]
fn every_ablation_and_protocol_runs() {
    let folder = tempfile::tempdir().unwrap();
    for (i, options) in
        [&["--ablation", "mean"][..], &["--ablation", "resample"], &["--value-bias", "in-head"]]
            .into_iter()
            .enumerate()
    {
        let out = i.to_string();
        let args = ["scan", "-q", "--models", MODEL, "--task", "ioi", "--prompts", "40", "--out", &out];
        assert!(succeeds(&[&args[..], options].concat(), folder.path()).contains("logit difference"));
    }
    for command in
        [&["inspect", MODEL][..], &["models"], &["predict", MODEL, "When John and Mary went to the store,"]]
    {
        assert!(!succeeds(command, folder.path()).is_empty());
    }
}

#[test]
fn a_scan_of_some_heads_holds_these_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let scan = |out: &str, task: &str, more: &[&str]| {
        let args = ["scan", "-q", "--models", MODEL, "--prompts", "40", "--task", task, "--out", out];
        succeeds(&[&args[..], more].concat(), here)
    };
    let read = |out: &str| -> Value {
        let path = here.join(format!("{out}/results/copy_suppression_logitdiff_scan_{MODEL}.json"));
        serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
    };
    scan("all", "ioi", &[]);
    let shown = scan("some", "ioi", &["--heads", "L1H2,L0H1,L1H2"]);
    assert!(shown.contains(", 2 of "), "{shown}");
    scan("some", "anti-repeat", &["--heads", "L1H2,L0H1"]);
    let (all, some) = (read("all"), read("some"));
    assert!(all.get("only_heads").is_none());
    assert_eq!(some["only_heads"], serde_json::json!(["L0H1", "L1H2"]));
    let heads = some["heads"].as_array().unwrap();
    assert_eq!(heads.len(), 2);
    for head in heads {
        let of_all = all["heads"].as_array().unwrap();
        let same = of_all.iter().find(|h| (&h["layer"], &h["head"]) == (&head["layer"], &head["head"]));
        // The q-value is over the scanned heads; the rest is bit-identical.
        for key in ["delta", "delta_ci_low", "delta_ci_high", "p_value", "held_out_delta"] {
            assert_eq!(head[key], same.unwrap()[key], "{key}");
        }
    }
    // No table treats unmeasured heads as zero.
    for command in ["joint", "classify", "trace", "report"] {
        fails(&[command, "--out", "some"], here, &["2 of", "heads", "without --heads"]);
    }
    let more = ["--models", MODEL, "--prompts", "40", "--task", "ioi"];
    let fails = |args: &[&str], words: &[&str]| fails(&[&["scan"], &more[..], args].concat(), here, words);
    fails(&["--heads", "L0H0", "--out", "all"], &["every head", "another folder"]);
    fails(&["--heads", "L0H0,L99H0", "--out", "few"], &["no head L99H0", "counted from 0"]);
    fails(&["--heads", "9.6", "--out", "few"], &["L9H6"]);
}

#[test]
fn wrong_arguments() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    fails(&["inspect", "no-such-model"], here, &["no-such-model", "folder"]);
    fails(&["inspect", "gpt2-xl"], here, &["openai-community/gpt2-xl", "HF_HUB_OFFLINE"]);
    fails(&["scan", "--models", MODEL, "--task", "no-task"], here, &["no-task", "ioi"]);
    fails(&["scan", "--models", MODEL, "--task", "gone.toml"], here, &["gone.toml"]);
    fails(&["run", "--models", MODEL, "--prompts", "0"], here, &["0"]);
    fails(&["run", "--models", &format!("{MODEL},{MODEL}")], here, &["two of the models", MODEL]);
    fails(&["run", "--ablation", "knockout"], here, &["knockout", "resample"]);
    fails(&["run", "--protocol", "mine"], here, &["mine", "published"]);
    fails(&["run", "--memory", "lots"], here, &["lots", "512M"]);
    fails(&["run", "--models", MODEL, "--memory", "1K"], here, &["memory"]);
    fails(&["joint", "--out", "nowhere"], here, &["nowhere", "circuit-scaling run"]);
    fails(&["classify", "--tau", "much"], here, &["much"]);
    fs::write(here.join("file"), "").unwrap();
    fails(&["run", "--models", MODEL, "--out", "file/study"], here, &["file/study", "--out"]);
}

#[test]
fn an_unbroken_copy_gives_the_shipped_model() {
    let folder = tempfile::tempdir().unwrap();
    checkpoint(folder.path());
    let hash = |shown: String| shown.lines().find(|l| l.starts_with("weights (sha-256)")).unwrap().to_owned();
    let copy = hash(succeeds(&["inspect", "model"], folder.path()));
    assert_eq!(copy, hash(succeeds(&["inspect", MODEL], folder.path())));
}

#[test]
fn a_task_without_code() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("greeting.toml"), GREETING).unwrap();
    let args = ["scan", "-q", "--models", MODEL, "--task", "greeting.toml", "--prompts", "20", "--out", "s"];
    assert!(succeeds(&args, folder.path()).contains("greeting"));
    assert!(folder.path().join(format!("s/results/greeting_logitdiff_scan_{MODEL}.json")).exists());
}

/// Names of all subcommands, from the help.
fn subcommands(folder: &Path) -> Vec<String> {
    let help = succeeds(&["--help"], folder);
    let listed = help.split("Commands:").nth(1).unwrap().split("Options:").next().unwrap();
    let names = listed.lines().filter(|l| l.starts_with("  ") && !l.starts_with("   "));
    let names: Vec<String> = names.map(|l| l.split_whitespace().next().unwrap().to_owned()).collect();
    assert!(names.len() > 20, "{names:?}");
    names.into_iter().filter(|name| name != "help").collect()
}

#[test]
fn every_subcommand_has_an_example_a_manual_page_and_completions() {
    let dir = tempfile::tempdir().unwrap();
    let names = subcommands(dir.path());
    let said = succeeds(&["man", "--out", "man"], dir.path());
    assert!(said.starts_with(&format!("{} manual pages", names.len() + 1)), "{said}");
    let main = fs::read_to_string(dir.path().join("man/circuit-scaling.1")).unwrap();
    assert_eq!(main, succeeds(&["man"], dir.path()));
    let help = succeeds(&["--help"], dir.path());
    assert!(help.split("Examples:").nth(1).is_some_and(|e| e.contains("\n  circuit-scaling run ")), "{help}");
    let scripts: Vec<(&str, String)> = ["bash", "zsh", "fish", "elvish", "powershell"]
        .map(|shell| (shell, succeeds(&["completions", shell], dir.path())))
        .to_vec();
    for name in &names {
        let help = succeeds(&[name, "--help"], dir.path());
        let example = help.split("Example").nth(1).unwrap_or_else(|| panic!("{name}: no example: {help}"));
        assert!(example.contains(&format!("  circuit-scaling {name}")), "{name}: {example}");
        let page = fs::read_to_string(dir.path().join(format!("man/circuit-scaling-{name}.1"))).unwrap();
        assert!(page.contains(".TH") && page.contains("Example"), "{name}: {page}");
        assert!(main.contains(&format!("circuit\\-scaling\\-{name}(1)")), "{name}: {main}");
    }
    // Installed shells accept their scripts.
    for (shell, script) in &scripts {
        let path = dir.path().join(shell);
        fs::write(&path, script).unwrap();
        match std::process::Command::new(shell).arg("-n").arg(&path).output() {
            Ok(output) => assert!(output.status.success(), "{shell}: {output:?}"),
            Err(_) => eprintln!("skipped: no {shell} to check its script"),
        }
    }
    fails(&["completions", "tcsh"], dir.path(), &["tcsh", "bash", "zsh", "fish"]);
    fs::write(dir.path().join("file"), "").unwrap();
    fails(&["man", "--out", "file/man"], dir.path(), &["file/man"]);
}
