//! `devices`, and scans with `--device cuda`, on a fake GPU (`crates/cuda/fake_driver`).

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use common::{command, files};
use serde_json::Value;

fn on_card(args: &[&str], folder: &Path) -> Command {
    let mut command = command(args, folder);
    command.env("CIRCUIT_SCALING_CUDA_DRIVER", cs_fake_cuda_driver::library());
    command
}

fn text(output: &Output) -> (String, String) {
    let of = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (of(&output.stdout), of(&output.stderr))
}

const SCAN: [&str; 8] = ["scan", "--models", "mini-gpt2-s", "--task", "ioi", "--prompts", "16", "--quiet"];

fn scan(mut command: Command) -> Value {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", text(&output).1);
    let folder = command.get_current_dir().unwrap().join("out/results");
    let file = std::fs::read(folder.join("copy_suppression_logitdiff_scan_mini-gpt2-s.json")).unwrap();
    serde_json::from_slice(&file).unwrap()
}

fn deltas(scan: &Value) -> Vec<f64> {
    scan["heads"].as_array().unwrap().iter().map(|head| head["delta"].as_f64().unwrap()).collect()
}

#[test]
fn a_scan_on_a_card_is_the_processors_up_to_rounding_and_says_so() {
    let folders = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let cpu = scan(command(&[&SCAN[..], &["--device", "cpu", "--out", "out"]].concat(), folders[0].path()));
    let card = scan(on_card(&[&SCAN[..], &["--device", "cuda", "--out", "out"]].concat(), folders[1].path()));
    let of_card = card["device"].as_str().unwrap();
    assert!(of_card.starts_with("cuda Fake card (driver for CUDA 12.8, kernels "), "{of_card}");
    assert_eq!(card["precision"], "split");
    let (expected, found) = (deltas(&cpu), deltas(&card));
    let largest = expected.iter().fold(0.0, |max: f64, x| max.max(x.abs()));
    assert!(largest > 0.0 && expected.len() == found.len());
    for (head, (expected, found)) in expected.iter().zip(&found).enumerate() {
        assert!((expected - found).abs() <= 2e-5 * largest, "head {head}: {expected} and {found}");
    }
    // `auto` uses the GPU.
    let auto = scan(on_card(&[&SCAN[..], &["--out", "out"]].concat(), folders[2].path()));
    assert_eq!(auto["heads"], card["heads"]);
}

/// `auto` falls back to the CPU with a message.
#[test]
fn a_card_that_computes_something_else_is_not_used() {
    let folder = tempfile::tempdir().unwrap();
    let args = [&SCAN[..SCAN.len() - 1], &["--out", "out"]].concat();
    let mut command = on_card(&args, folder.path());
    let output = command.env("FAKE_CUDA_WRONG", "1").output().unwrap();
    let (_, noted) = text(&output);
    assert!(output.status.success() && noted.contains("cuda:0 is not used: its results differ"), "{noted}");
    assert!(scan(command)["device"].is_null(), "a processor's scan");
}

#[test]
fn devices_says_what_there_is_and_why_not() {
    let folder = tempfile::tempdir().unwrap();
    let said = |settings: &[(&str, &str)]| {
        let output = on_card(&["devices"], folder.path()).envs(settings.iter().copied()).output().unwrap();
        assert!(output.status.success());
        text(&output).0
    };
    let two = said(&[("FAKE_CUDA_DEVICES", "2")]);
    assert!(two.contains("cuda:1") && two.matches("can be used").count() == 3, "{two}");
    assert!(
        said(&[("FAKE_CUDA_VERSION", "11040")]).contains("not used: the NVIDIA driver supports CUDA 11.4")
    );
    assert!(said(&[("FAKE_CUDA_CAPABILITY", "70")]).contains("compute capability 7.0"));
    let hidden = said(&[("CIRCUIT_SCALING_CUDA_DRIVER", "/nowhere/libcuda.so.1")]);
    assert!(hidden.contains("no NVIDIA driver was found"), "{hidden}");
}

#[test]
fn what_goes_wrong_on_a_card_is_one_line_and_leaves_no_half_results() {
    let cases = [
        (vec![("CIRCUIT_SCALING_CUDA_DRIVER", "/nowhere/libcuda.so.1")], "no NVIDIA driver was found"),
        (vec![("FAKE_CUDA_VERSION", "11040")], "update the driver"),
        (vec![("FAKE_CUDA_DEVICES", "0")], "finds no GPU"),
        (vec![("FAKE_CUDA_MEMORY", "100000")], "but only 0.1 MiB of GPU memory are available"),
        // In the GPU's trial, and in the scan after it.
        (vec![("FAKE_CUDA_LOST_AFTER", "50")], "was lost during the run"),
        (vec![("FAKE_CUDA_LOST_AFTER", "230")], "was lost during the run"),
        (vec![("FAKE_CUDA_WRONG", "1")], "differ from the CPU's by"),
    ];
    for (settings, words) in cases {
        let folder = tempfile::tempdir().unwrap();
        let args = [&SCAN[..], &["--device", "cuda", "--out", "out"]].concat();
        let output = on_card(&args, folder.path()).envs(settings).output().unwrap();
        let (_, error) = text(&output);
        assert_eq!(output.status.code(), Some(1), "{words}: {error}");
        assert!(error.contains(words) && error.trim_end().lines().count() == 1, "{words}: {error}");
        let results = folder.path().join("out/results");
        let scans = results.read_dir().map_or(0, |files| {
            files
                .filter(|file| file.as_ref().unwrap().path().extension().is_some_and(|e| e == "json"))
                .count()
        });
        assert_eq!(scans, 0, "{words}: no scan is written");
    }
}

/// A study on two GPUs has the same files as on one GPU.
#[test]
fn several_cards_make_one_cards_files_and_a_lost_one_leaves_none() {
    let run = |device: &str, settings: &[(&str, &str)]| {
        let folder = tempfile::tempdir().unwrap();
        let study = ["run", "--models", "mini-gpt2-s", "--tasks", "ioi,anti-repeat", "--prompts", "24"];
        let stages =
            ["--stages", "scan,tables,attend,trace,ablate", "--effort", "quick", "--random-sets", "4"];
        let args = [&study[..], &stages, &["--quiet", "--device", device, "--out", "out"]].concat();
        let mut command = on_card(&args, folder.path());
        let output = command.env("FAKE_CUDA_DEVICES", "2").envs(settings.iter().copied()).output().unwrap();
        (output.status.code(), text(&output).1, files(folder.path()))
    };
    let of_results = |all: &BTreeMap<PathBuf, Vec<u8>>| -> BTreeMap<PathBuf, Vec<u8>> {
        let is_result = |path: &PathBuf| path.starts_with("out/results") || path.starts_with("out/paper");
        all.iter().filter(|(path, _)| is_result(path)).map(|(p, f)| (p.clone(), f.clone())).collect()
    };
    let (code, error, one) = run("cuda:1", &[]);
    assert_eq!(code, Some(0), "{error}");
    let (code, error, two) = run("cuda:0,cuda:1", &[]);
    assert_eq!(code, Some(0), "{error}");
    let (one, two) = (of_results(&one), of_results(&two));
    assert!(one.len() > 10 && one.keys().eq(two.keys()), "{:?}", one.keys());
    for (path, bytes) in &one {
        assert_eq!(bytes, &two[path], "{}", path.display());
    }
    let lost = [("FAKE_CUDA_LOST_CARD", "1"), ("FAKE_CUDA_LOST_AFTER", "200")];
    let (code, error, left) = run("cuda:0,cuda:1", &lost);
    assert_eq!(code, Some(1), "{error}");
    assert!(
        error.contains("cuda:1 (Fake card): the GPU was lost") && error.trim_end().lines().count() == 1,
        "{error}"
    );
    // Existing results are complete.
    for (path, bytes) in of_results(&left) {
        assert_eq!(Some(&bytes), two.get(&path), "{}", path.display());
    }
}

/// Two GPUs of different models would give results of neither.
#[test]
fn cards_of_different_models_are_refused_together() {
    let folder = tempfile::tempdir().unwrap();
    let args = [&SCAN[..], &["--device", "cuda:0,cuda:1", "--out", "out"]].concat();
    let mut command = on_card(&args, folder.path());
    let output = command.env("FAKE_CUDA_DEVICES", "2").env("FAKE_CUDA_MIXED", "1").output().unwrap();
    let (_, error) = text(&output);
    assert!(
        output.status.code() == Some(1) && error.contains("a run needs GPUs of the same model"),
        "{error}"
    );
}

#[test]
fn predictions_are_the_cards() {
    let folder = tempfile::tempdir().unwrap();
    let predict = |device: &[&str]| {
        let args = [&["predict", "mini-gpt2-s", "When John and Mary went to the store,"], device].concat();
        let output = on_card(&args, folder.path()).output().unwrap();
        assert!(output.status.success(), "{}", text(&output).1);
        text(&output)
    };
    let ((cpu, _), (card, noted)) = (predict(&["--device", "cpu"]), predict(&[]));
    assert!(noted.contains("models run on cuda:0"), "{noted}");
    let tokens = |said: &str| -> Vec<String> {
        said.lines().skip(2).map(|line| line.split("  ").last().unwrap().to_owned()).collect()
    };
    assert_eq!(tokens(&cpu), tokens(&card));
    // Kernels of the trial's three models and of this one.
    let tables = |args: &[&str]| {
        let output = on_card(args, folder.path()).env("CIRCUIT_SCALING_CUDA_TIMES", "1").output().unwrap();
        text(&output).1.matches("all kernels").count()
    };
    let of_trial = tables(&["devices"]);
    assert_eq!(tables(&["predict", "mini-gpt2-s", "When", "--device", "cuda"]), of_trial + 1);
}

/// Times are those of the GPU, and unknown on machines without it.
#[test]
fn plans_are_timed_on_the_card_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let plan = ["plan", "--models", "mini-gpt2-s", "--prompts", "24", "--device", "cuda", "--stages", "scan"];
    let on = |mut command: Command| {
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", text(&output).1);
        text(&output).0
    };
    let here = on(on_card(&plan, folder.path()));
    assert!(here.contains("a calibration of cuda:0 (cuda Fake card") && here.contains(" s\n"), "{here}");
    let mut hidden = on_card(&plan, folder.path());
    hidden.env("CIRCUIT_SCALING_CUDA_DRIVER", "/nowhere/libcuda.so.1");
    let elsewhere = on(hidden);
    assert!(elsewhere.contains("times are unknown, since this machine has no cuda:0"), "{elsewhere}");
    let rows = elsewhere.lines().filter(|line| line.starts_with("mini-gpt2-s"));
    assert!(rows.clone().count() == 1 && rows.clone().all(|row| row.ends_with('–')), "{elsewhere}");
}

/// A scan started on a GPU and continued elsewhere reports it, keeps the GPU's results, and mixes nothing.
#[test]
fn unfinished_results_of_another_device_are_reported_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    let run = |device: &[&str], settings: &[(&str, &str)]| {
        let args = [&SCAN[..SCAN.len() - 1], device, &["--out", "out"]].concat();
        let output = on_card(&args, folder.path()).envs(settings.iter().copied()).output().unwrap();
        (output.status.code(), text(&output).1)
    };
    // The files of an interrupted scan on the GPU.
    let (code, error) =
        run(&["--device", "cuda"], &[("FAKE_CUDA_SLEEP", "60"), ("FAKE_CUDA_LOST_AFTER", "235")]);
    assert_eq!(code, Some(1), "{error}");
    let unfinished = || -> Vec<PathBuf> {
        let own = files(&folder.path().join("out/.circuit-scaling"));
        own.into_keys().filter(|path| path.extension().is_some_and(|e| e == "partial")).collect()
    };
    assert_eq!(unfinished().len(), 1, "{:?}", unfinished());
    let (code, noted) = run(&["--device", "cpu"], &[]);
    assert!(code == Some(0) && noted.contains("% was done on cuda Fake card"), "{noted}");
    assert!(noted.contains("use --device cuda --precision split"), "{noted}");
    assert!(unfinished().is_empty(), "the scan is done");
    let (code, noted) = run(&[], &[]);
    assert!(code == Some(0) && noted.contains("will replace the scan that was made on a CPU"), "{noted}");
}
