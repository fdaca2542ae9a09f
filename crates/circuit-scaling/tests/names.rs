//! Models under real-world names and places: caches made by Python, folders with any name, revisions of one model,
//! files changed by hand.

#[path = "../../hub/tests/server/mod.rs"]
mod server;

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use common::{MODEL, checkpoint, succeeds};
use serde_json::Value;
use server::{Reply, Server};

/// Made by `tools/files`.
fn files() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../engine/tests/files")
}

fn shipped(model: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models").join(model)
}

/// The cache made by one version of Python's `huggingface_hub`, and the requested ids.
fn cache_of_python(version: &str, cache: &Path) -> Vec<String> {
    let json = fs::read(files().join(format!("hub-cache-{version}.json"))).unwrap();
    let made: Value = serde_json::from_slice(&json).unwrap();
    for (path, entry) in made["tree"].as_object().unwrap() {
        let path = cache.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        if let Some(target) = entry["link"].as_str() {
            std::os::unix::fs::symlink(target, path).unwrap();
        } else if let Some(file) = entry["file"].as_str() {
            fs::copy(files().join("folders/plain").join(file), path).unwrap();
        } else {
            fs::write(path, entry["text"].as_str().unwrap()).unwrap();
        }
    }
    made["ids"].as_array().unwrap().iter().map(|id| id.as_str().unwrap().to_owned()).collect()
}

/// The program in a folder, whose `home/hub` is the cache.
fn command(folder: &Path, args: &[&str]) -> Command {
    let mut command = common::command(args, folder);
    command.env("HF_HOME", "$WHERE_MODELS_ARE/home").env("WHERE_MODELS_ARE", folder);
    command
}

#[track_caller]
fn said(output: Output) -> (String, String) {
    let [out, err] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    assert!(output.status.success(), "{err}");
    (out, err)
}

fn line<'a>(shown: &'a str, key: &str) -> &'a str {
    shown.lines().find(|line| line.starts_with(key)).unwrap_or_else(|| panic!("no {key}: {shown}"))
}

#[test]
fn every_cache_of_python_is_read_under_the_id_that_python_was_given() {
    let plain = files().join("folders/plain");
    let (expected, _) = succeeds(&["inspect", plain.to_str().unwrap()], &std::env::temp_dir());
    for version in ["0.36.2", "2.4.0"] {
        let folder = tempfile::tempdir().unwrap();
        let ids = cache_of_python(version, &folder.path().join("home/hub"));
        assert_eq!(ids, ["gpt2", "EleutherAI/gpt-neo-125M", "distilgpt2", "org/tiny"]);
        let today = ["openai-community/gpt2", "gpt-neo-125m"].map(str::to_owned);
        for id in ids.iter().chain(&today) {
            let (shown, _) = said(command(folder.path(), &["inspect", id]).output().unwrap());
            assert_eq!(line(&shown, "weights (sha-256)"), line(&expected, "weights (sha-256)"), "{id}");
        }
    }
}

/// A cache filled at different times has a model under both its former and its current id.
#[test]
fn the_given_id_comes_before_the_current_one() {
    let folder = tempfile::tempdir().unwrap();
    let hub = folder.path().join("home/hub");
    cache_of_python("0.36.2", &hub);
    cached_as("models--openai-community--gpt2", &hub, MODEL, "main", '1');
    for (id, model) in [("gpt2", files().join("folders/plain")), ("openai-community/gpt2", shipped(MODEL))] {
        let (expected, _) = succeeds(&["inspect", model.to_str().unwrap()], &std::env::temp_dir());
        let (shown, _) = said(command(folder.path(), &["inspect", id]).output().unwrap());
        assert_eq!(line(&shown, "weights (sha-256)"), line(&expected, "weights (sha-256)"), "{id}");
    }
}

#[test]
fn links_of_a_cache_lead_nowhere_else() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let hub = here.join("home/hub");
    cache_of_python("2.4.0", &hub);
    let outside = here.join("model.safetensors");
    fs::copy(files().join("folders/plain/model.safetensors"), &outside).unwrap();
    let snapshot =
        fs::read_dir(hub.join("models--org--tiny/snapshots")).unwrap().next().unwrap().unwrap().path();
    fs::remove_file(snapshot.join("model.safetensors")).unwrap();
    std::os::unix::fs::symlink(&outside, snapshot.join("model.safetensors")).unwrap();
    let output = command(here, &["inspect", "org/tiny"]).output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && error.contains("outside the model's folder"), "{error}");

    // A user's folder may have links to shared contents of a cache, as long as the cache lists them.
    let own = here.join("own");
    fs::create_dir(&own).unwrap();
    let blob = fs::canonicalize(hub.join("models--gpt2/snapshots"));
    let blob = blob.unwrap().join(snapshot.file_name().unwrap()).join("model.safetensors");
    std::os::unix::fs::symlink(fs::canonicalize(blob).unwrap(), own.join("model.safetensors")).unwrap();
    for file in ["config.json", "tokenizer.json"] {
        fs::copy(files().join("folders/plain").join(file), own.join(file)).unwrap();
    }
    said(command(here, &["inspect", "own"]).output().unwrap());
    fs::remove_file(hub.join("blobs/.huggingface-shared-blobs")).unwrap();
    let output = command(here, &["inspect", "own"]).output().unwrap();
    assert!(String::from_utf8(output.stderr).unwrap().contains("outside the model's folder"));
}

#[test]
fn what_is_cached_under_a_former_id_is_asked_for_under_it() {
    let folder = tempfile::tempdir().unwrap();
    cache_of_python("2.4.0", &folder.path().join("home/hub"));
    let listing = r#"{"sha": "0123456789abcdef0123456789abcdef01234567", "siblings": [
        {"rfilename": "config.json"}, {"rfilename": "tokenizer.json"}, {"rfilename": "model.safetensors"}]}"#;
    // One server that knows the former id, as the Hub does, and one that knows none.
    let knows = Server::start(move |request| match request.path.starts_with("/api/models/gpt2/") {
        true => Reply::new(200, listing),
        false => Reply::new(404, "").with("X-Error-Code", "RepoNotFound"),
    });
    let nothing = Server::start(|_| Reply::new(404, "").with("X-Error-Code", "RepoNotFound"));
    for (server, noted) in [(&knows, false), (&nothing, true)] {
        let mut command = command(folder.path(), &["inspect", "gpt2"]);
        for proxy in ["http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
            command.env_remove(proxy);
        }
        command.env_remove("HF_HUB_OFFLINE").env("HF_ENDPOINT", server.endpoint());
        let (shown, err) = said(command.output().unwrap());
        assert!(line(&shown, "source").contains("openai-community/gpt2 at 0123456789abcdef"), "{shown}");
        assert_eq!(err.contains("using the earlier download"), noted, "{err}");
        let paths = server.paths();
        assert!(paths.iter().all(|path| path.starts_with("/api/models/gpt2/")), "{paths:?}");
    }
}

#[test]
fn a_folder_may_be_called_anything() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let model = checkpoint(here);
    let names = [
        "with space",
        "a@b",
        "lr=1e-3+wd",
        "модель",
        "模型 (1)",
        "it's \"quoted\"",
        "x".repeat(200).as_str(),
    ]
    .map(str::to_owned);
    for name in &names {
        let moved = here.join(name);
        fs::rename(&model, &moved).unwrap();
        for task in ["ioi", "anti-repeat"] {
            let args =
                ["scan", "--models", name, "--task", task, "--prompts", "40", "--out", "study", "--quiet"];
            let (shown, _) = succeeds(&args, here);
            assert!(shown.contains(name.as_str()), "{shown}");
        }
        fs::rename(&moved, &model).unwrap();
    }
    let (shown, _) = succeeds(&["joint", "--out", "study"], here);
    assert!(shown.contains(&format!("heads of {} models:", names.len())), "{shown}");
    let table = fs::read_to_string(here.join("study/paper/tables/joint_ioi_anti_repeat_all.csv")).unwrap();
    for name in ["with space", "a@b", "модель"] {
        assert!(table.contains(&format!(",{name},")), "{name}");
    }
    // Nothing was written outside the study.
    let mut found: Vec<_> = fs::read_dir(here).unwrap().map(|e| e.unwrap().file_name()).collect();
    found.sort();
    assert_eq!(found, ["model", "study"]);
}

/// Puts a bundled model into the cache as a revision of Pythia 70M.
fn cached_revision(hub: &Path, model: &str, revision: &str, commit_digit: char) {
    cached_as("models--EleutherAI--pythia-70m-deduped", hub, model, revision, commit_digit);
}

/// The same for any id.
fn cached_as(repo: &str, hub: &Path, model: &str, revision: &str, commit_digit: char) {
    let repo = hub.join(repo);
    let commit: String = std::iter::repeat_n(commit_digit, 40).collect();
    let snapshot = repo.join("snapshots").join(&commit);
    fs::create_dir_all(&snapshot).unwrap();
    for file in fs::read_dir(shipped(model)).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), snapshot.join(file.file_name())).unwrap();
    }
    fs::create_dir_all(repo.join("refs")).unwrap();
    fs::write(repo.join("refs").join(revision), commit).unwrap();
}

#[test]
fn two_revisions_of_one_model_are_two_models_of_a_study() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let hub = here.join("home/hub");
    cached_revision(&hub, "mini-gpt2-s", "step1000", '1');
    cached_revision(&hub, MODEL, "step143000", '2');
    cached_revision(&hub, MODEL, "main", '2');
    let run = |args: &[&str]| said(command(here, args).output().unwrap());
    let both = "pythia-70m@step1000,EleutherAI/pythia-70m-deduped@step143000";
    for task in ["ioi", "anti-repeat"] {
        run(&["scan", "--models", both, "--task", task, "--prompts", "40", "--out", "study"]);
    }
    // The default branch has the name without a revision, and `--revision` is the same as `@`.
    run(&["scan", "--models", "pythia-70m", "--task", "ioi", "--prompts", "40", "--out", "study"]);
    let args =
        ["scan", "--models", "pythia-70m", "--revision", "step1000", "--task", "ioi", "--prompts", "40"];
    let (_, noted) = run(&[&args[..], &["--out", "study"]].concat());
    assert!(noted.contains("pythia-70m@step1000") && noted.contains("is done"), "{noted}");
    for model in ["pythia-70m@step1000", "pythia-70m@step143000", "pythia-70m"] {
        assert!(
            here.join(format!("study/results/copy_suppression_logitdiff_scan_{model}.json")).is_file(),
            "{model}"
        );
    }
    // Experiments find each revision again at its commit, wherever the branch points by then.
    fs::write(hub.join("models--EleutherAI--pythia-70m-deduped/refs/step1000"), "2".repeat(40)).unwrap();
    let (shown, _) = run(&["attend", "--out", "study"]);
    for model in ["pythia-70m@step1000", "pythia-70m@step143000"] {
        assert!(shown.contains(model), "{shown}");
        assert!(here.join(format!("study/results/attention/attention_{model}.json")).is_file());
    }
    let table = fs::read_to_string(here.join("study/paper/tables/attention_at_last_token.csv")).unwrap();
    assert!(table.contains(",pythia-70m@step1000,") && table.contains(",pythia-70m@step143000,"));
    // Both are of the published model's nominal size.
    run(&["joint", "--out", "study"]);
    let joint = fs::read_to_string(here.join("study/paper/tables/joint_ioi_anti_repeat_all.csv")).unwrap();
    let header: Vec<&str> = joint.lines().next().unwrap().split(',').collect();
    let size = header.iter().position(|column| *column == "params_m").unwrap();
    assert!(joint.lines().skip(1).all(|row| row.split(',').nth(size) == Some("70")), "{joint}");
}

#[test]
fn other_weights_under_a_name_do_not_replace_the_first_in_silence() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let hub = here.join("home/hub");
    let scan = |out: &str| {
        let mut noted = String::new();
        for task in ["ioi", "anti-repeat"] {
            let args = ["scan", "--models", "pythia-70m", "--task", task, "--prompts", "40", "--out", out];
            noted += &said(command(here, &args).output().unwrap()).1;
        }
        noted
    };
    cached_revision(&hub, "mini-gpt2-s", "main", '1');
    assert!(!scan("a").contains("replaces"));
    assert!(!scan("a").contains("replaces"));
    fs::remove_dir_all(hub.join("models--EleutherAI--pythia-70m-deduped")).unwrap();
    cached_revision(&hub, MODEL, "main", '2');
    scan("b");
    let (shown, _) = succeeds(&["compare", "a", "b", "--out", "compared"], here);
    assert!(shown.contains("the two tables have different weights"), "{shown}");
    let table = fs::read_to_string(here.join("compared/paper/tables/compare_models.csv")).unwrap();
    assert!(table.lines().next().unwrap().ends_with(",same_weights"), "{table}");
    assert!(table.lines().skip(1).all(|row| row.ends_with(",no")), "{table}");
    let (shown, _) = succeeds(&["compare", "b", "b", "--out", "compared"], here);
    assert!(!shown.contains("different weights"), "{shown}");

    let noted = scan("a");
    let commit = "1".repeat(40);
    let words = "replaces a scan of other weights under this name";
    assert_eq!(noted.matches(words).count(), 2, "{noted}");
    assert!(noted.contains(&format!("EleutherAI/pythia-70m-deduped at {commit}")), "{noted}");
}

#[test]
fn a_tokenizer_that_puts_a_space_first_does_every_task() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let model = checkpoint(here);
    let config = model.join("tokenizer_config.json");
    let mut settings: Value = serde_json::from_slice(&fs::read(&config).unwrap()).unwrap();
    settings["add_prefix_space"] = true.into();
    fs::write(&config, settings.to_string()).unwrap();
    let both = format!("model,{MODEL}");
    for task in ["ioi", "anti-repeat"] {
        let args = ["scan", "--models", &both, "--task", task, "--prompts", "40", "--out", "study"];
        succeeds(&args, here);
        let name = task.replace('-', "_");
        let study = fs::read(here.join(format!("study/results/prompts/{name}_study.json"))).unwrap();
        let study: Value = serde_json::from_slice(&study).unwrap();
        assert!(study["refused"].as_array().unwrap().is_empty(), "{}", study["refused"]);
    }
    succeeds(&["attend", "--out", "study"], here);
}

#[test]
fn a_table_that_counts_from_1_is_said_to() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let table = |model: &str, layers: std::ops::RangeInclusive<u32>, heads: std::ops::RangeInclusive<u32>| {
        let mut csv = String::from("family,model,layer,head,delta_ioi,delta_anti\n");
        for layer in layers {
            for head in heads.clone() {
                let x = f64::from(layer * 31 + head * 17 % 13) / 50.0 - 0.3;
                csv += &format!("gpt2,{model},{layer},{head},{x},{}\n", x * 0.7 + 0.011 * f64::from(head));
            }
        }
        fs::write(here.join("joint.csv"), csv).unwrap();
        succeeds(&["analyze", "joint.csv", "--out", "out"], here).0
    };
    let words = ["start at 1", "subtract 1"];
    for (model, layers, heads, columns) in [
        ("gpt2", 1..=12, 1..=12, Some("columns `layer` and `head`")),
        ("gpt2", 1..=12, 0..=11, Some("column `layer`")),
        ("my-model", 1..=4, 1..=4, Some("columns `layer` and `head`")),
        ("my-model", 0..=3, 1..=4, Some("column `head`")),
        ("gpt2", 0..=11, 0..=11, None),
        ("gpt2", 1..=11, 0..=11, None),
        ("my-model", 0..=3, 0..=3, None),
    ] {
        let said = table(model, layers.clone(), heads.clone());
        let case = format!("{model} {layers:?} {heads:?}: {said}");
        assert!(words.iter().all(|word| said.contains(word) == columns.is_some()), "{case}");
        assert!(columns.is_none_or(|columns| said.contains(columns)), "{case}");
    }
}
