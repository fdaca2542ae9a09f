//! `--device` and `--precision` from the command line to the files. The delta form on the CPU (`--device delta`) stands in
//! for a GPU, so that everything is tested on machines without one.

mod common;

use std::fs;
use std::path::Path;

use common::{fails, files, succeeds};
use cs_analysis::scan_file::{HeadDelta, ScanFile};

const SCAN: &[&str] = &["scan", "--models", "mini-gpt2-s", "--task", "ioi", "--prompts", "24"];

fn scan_file(study: &Path) -> ScanFile {
    ScanFile::read(&study.join("results/copy_suppression_logitdiff_scan_mini-gpt2-s.json")).unwrap()
}

#[test]
fn unavailable_devices_are_rejected_before_anything_is_written() {
    let dir = tempfile::tempdir().unwrap();
    for (options, words) in [
        (&["--device", "gpu"][..], &["--device", "gpu", "cuda:0"][..]),
        (&["--device", "cuda:0,cuda:0"], &["twice"]),
        (&["--device", "cuda:4096"], &["--device cuda:4096", "--device cpu"]),
        (&["--device", "cpu", "--precision", "half"], &["float32", "--precision half"]),
        (&["--precision", "f64"], &["--precision", "split"]),
    ] {
        fails(&[SCAN, options].concat(), dir.path(), words);
        fails(&[&["run", "--models", "mini-gpt2-s"], options].concat(), dir.path(), words);
    }
    assert!(files(dir.path()).is_empty(), "{:?}", files(dir.path()).keys());
}

#[test]
fn scans_record_their_device_and_agree() {
    let dir = tempfile::tempdir().unwrap();
    succeeds(&[SCAN, &["--device", "cpu", "--out", "cpu"]].concat(), dir.path());
    succeeds(&[SCAN, &["--device", "delta", "--out", "delta"]].concat(), dir.path());
    let [cpu, delta] = ["cpu", "delta"].map(|study| scan_file(&dir.path().join(study)));
    assert_eq!((&cpu.meta.device, &cpu.meta.precision), (&None, &None));
    assert!(delta.meta.device.as_ref().unwrap().starts_with("delta-cpu-"), "{:?}", delta.meta.device);
    assert_eq!(delta.meta.precision.as_deref(), Some("split"));
    let largest = cpu.heads.iter().map(|head| head.delta.abs()).fold(0.0, f64::max);
    let pairs = || cpu.heads.iter().zip(&delta.heads);
    assert!(pairs().all(|(a, b)| (a.delta - b.delta).abs() < 2e-5 * largest));
    assert!(pairs().any(|(a, b)| a.delta != b.delta), "they were computed differently");
    let direct = |(a, b): (&HeadDelta, &HeadDelta)| {
        (a.direct.as_ref().unwrap().direct - b.direct.as_ref().unwrap().direct).abs() < 2e-5
    };
    assert!(pairs().all(direct));
}

/// A study records the requested device, and a scan from one device or precision is not reused for another.
#[test]
fn a_study_keeps_its_device_and_never_mixes() {
    let dir = tempfile::tempdir().unwrap();
    let run = |options: &[&str]| {
        let study =
            ["run", "--models", "mini-gpt2-s", "--prompts", "24", "--stages", "scan", "--out", "study"];
        succeeds(&[&study[..], options].concat(), dir.path()).1
    };
    let study = dir.path().join("study");
    run(&["--device", "delta", "--precision", "half"]);
    let stated = fs::read_to_string(study.join("study.toml")).unwrap();
    assert!(stated.contains("device = \"delta\"") && stated.contains("precision = \"half\""), "{stated}");
    assert_eq!(scan_file(&study).meta.precision.as_deref(), Some("half"));
    let before = files(&study.join("results"));

    let file = study.join("study.toml");
    fs::copy(&file, dir.path().join("repeat.toml")).unwrap();
    let noted = run(&["--study", "repeat.toml", "--verbose"]);
    assert!(noted.contains("is done"), "{noted}");
    assert_eq!(files(&study.join("results")), before, "the same study again changes nothing");

    let noted = run(&["--study", "repeat.toml", "--precision", "split"]);
    assert!(noted.contains("heads in"), "another precision is another scan: {noted}");
    assert_eq!(scan_file(&study).meta.precision.as_deref(), Some("split"));
    let noted = run(&["--device", "cpu"]);
    assert!(noted.contains("heads in"), "another device is another scan: {noted}");
    assert_eq!(scan_file(&study).meta.device, None);
    let stated = fs::read_to_string(file).unwrap();
    assert!(!stated.contains("precision"), "{stated}");
}

#[test]
fn job_scripts_ask_for_the_cards_that_the_study_asks_for() {
    let dir = tempfile::tempdir().unwrap();
    let script = |device: &str, out: &str| {
        let study = ["slurm", "--models", "mini-gpt2-s", "--prompts", "24", "--parts", "2", "--dry-run"];
        let options = ["--device", device, "--out", out, "--sbatch", "--gres=gpu:h100:4"];
        succeeds(&[&study[..], &options].concat(), dir.path());
        fs::read_to_string(dir.path().join(out).join("parts/part.sbatch")).unwrap()
    };
    // Planned on a machine without a GPU.
    let two = script("cuda:0,cuda:1", "two");
    let (ours, theirs) = (two.find("--gres=gpu:2"), two.find("--gres=gpu:h100:4"));
    assert!(ours.is_some() && ours < theirs, "what a user adds comes last: {two}");
    assert!(!script("cpu", "none").contains("--gres=gpu:1"));
}

#[test]
fn parts_of_a_study_run_on_its_device() {
    let dir = tempfile::tempdir().unwrap();
    let options = ["--models", "mini-gpt2-s", "--tasks", "ioi", "--prompts", "24", "--stages", "scan"];
    let study = [&options[..], &["--device", "delta"]].concat();
    succeeds(&[&["parts", "--parts", "2", "--out", "cut"], &study[..]].concat(), dir.path());
    for part in ["1", "2"] {
        succeeds(&["part", part, "--out", "cut"], dir.path());
    }
    succeeds(&["gather", "--out", "cut"], dir.path());
    succeeds(&[&["run", "--out", "whole"], &study[..]].concat(), dir.path());
    let [cut, whole] = ["cut", "whole"].map(|study| files(&dir.path().join(study).join("results")));
    assert_eq!(cut, whole);
    assert!(scan_file(&dir.path().join("cut")).meta.device.is_some());
}

#[test]
fn devices_says_what_there_is_without_any_driver() {
    let dir = tempfile::tempdir().unwrap();
    let (said, _) = succeeds(&["devices"], dir.path());
    let mut lines = said.lines();
    let cpu = lines.next().unwrap();
    assert!(cpu.starts_with("cpu ") && cpu.contains("can be used"), "{said}");
    // A usable GPU, or the reason why there is none.
    assert!(lines.all(|line| line.starts_with("cuda")) && said.lines().count() > 1, "{said}");
}
