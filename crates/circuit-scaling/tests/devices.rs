//! `devices`, and scans with `--device cuda`, on a card that is the processor (`crates/cuda/fake_driver`).

mod common;

use std::path::Path;
use std::process::{Command, Output};

use common::command;
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
    // The card is what `auto` takes.
    let auto = scan(on_card(&[&SCAN[..], &["--out", "out"]].concat(), folders[2].path()));
    assert_eq!(auto["heads"], card["heads"]);
}

/// `auto` goes to the processor aloud.
#[test]
fn a_card_that_computes_something_else_is_not_used() {
    let folder = tempfile::tempdir().unwrap();
    let args = [&SCAN[..SCAN.len() - 1], &["--out", "out"]].concat();
    let mut command = on_card(&args, folder.path());
    let output = command.env("FAKE_CUDA_WRONG", "1").output().unwrap();
    let (_, noted) = text(&output);
    assert!(
        output.status.success() && noted.contains("cuda:0 is not used: what it computes differs"),
        "{noted}"
    );
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
    assert!(said(&[("FAKE_CUDA_VERSION", "11040")]).contains("not used: the NVIDIA driver is of CUDA 11.4"));
    assert!(said(&[("FAKE_CUDA_CAPABILITY", "70")]).contains("compute capability 7.0"));
    let hidden = said(&[("CIRCUIT_SCALING_CUDA_DRIVER", "/nowhere/libcuda.so.1")]);
    assert!(hidden.contains("no NVIDIA driver was found"), "{hidden}");
}

#[test]
fn what_goes_wrong_on_a_card_is_one_line_and_leaves_no_half_results() {
    let cases = [
        (vec![("CIRCUIT_SCALING_CUDA_DRIVER", "/nowhere/libcuda.so.1")], "no NVIDIA driver was found"),
        (vec![("FAKE_CUDA_VERSION", "11040")], "update the driver"),
        (vec![("FAKE_CUDA_DEVICES", "0")], "sees no card"),
        (vec![("FAKE_CUDA_MEMORY", "100000")], "the card's memory is full"),
        // In the card's trial, and in the scan after it.
        (vec![("FAKE_CUDA_LOST_AFTER", "50")], "was lost in the middle of the work"),
        (vec![("FAKE_CUDA_LOST_AFTER", "230")], "was lost in the middle of the work"),
        (vec![("FAKE_CUDA_WRONG", "1")], "differs from the processor's by"),
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
