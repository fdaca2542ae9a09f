//! Replays the fuzz targets' seeds, and mutations of them, like the fuzz targets. `FUZZ_RUNS=1000000` tries more mutations
//! of each seed.

mod mutation;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use cs_intake::Kind;
use mutation::mutants;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Contents of a folder's files, in order of name.
fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap_or_else(|e| panic!("{}: {e}", folder.display()))
        .map(|entry| {
            let entry = entry.unwrap();
            (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())
        })
        .collect();
    files.sort();
    files
}

/// Memory is counted for the whole process, so one test runs at a time.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Number of mutations of each seed: `FUZZ_RUNS`, else `default`.
fn runs(default: u64) -> u64 {
    std::env::var("FUZZ_RUNS").ok().and_then(|n| n.parse().ok()).unwrap_or(default)
}

/// Tries all seeds of a kind and mutations of each; `taken` are the seeds that must be accepted, all others must be
/// rejected.
fn replay(kind: Kind, taken: &[&str]) {
    let _alone = alone();
    let mut seeds = files(&repository().join("fuzz/seeds").join(kind.name()));
    if kind == Kind::Torch {
        seeds.extend(files(&repository().join("crates/engine/tests/torch/opt-tied")));
    }
    for (name, seed) in &seeds {
        let result = kind.check(seed);
        assert_eq!(result.is_ok(), taken.contains(&name.as_str()), "{} {name}: {result:?}", kind.name());
    }
    for name in taken {
        assert!(seeds.iter().any(|(seed, _)| seed == name), "{} has no seed {name}", kind.name());
    }
    let mut n_refused = 0;
    for (_, seed) in &seeds {
        n_refused += mutants(seed, runs(300)).filter(|bytes| kind.check(bytes).is_err()).count();
    }
    // Both outcomes must occur, or the mutations are not near the edge.
    assert!(n_refused > 0, "no mutant of {} was refused", kind.name());
}

#[test]
fn every_kind_has_a_target_and_seeds() {
    let seeds: Vec<String> = fs::read_dir(repository().join("fuzz/seeds"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(seeds.len(), Kind::ALL.len(), "{seeds:?}");
    for kind in Kind::ALL {
        let target = repository().join("fuzz/targets").join(kind.name()).with_extension("rs");
        let target = fs::read_to_string(&target).unwrap();
        assert!(target.contains(&format!("Kind::{kind:?}.check(bytes)")), "{target}");
        assert!(seeds.iter().any(|name| name == kind.name()), "no seeds for {}", kind.name());
    }
}

#[test]
fn safetensors() {
    replay(Kind::Safetensors, &["header.json"]);
}

#[test]
fn shard_index() {
    replay(Kind::ShardIndex, &["safetensors.json", "torch.json"]);
}

#[test]
fn torch() {
    replay(Kind::Torch, &["pytorch_model.bin"]);
}

#[test]
fn config() {
    let taken = ["gpt2-default", "gpt2-old-hub", "neo-alternating", "neox-parallel", "opt-projected-f16"];
    replay(Kind::Config, &taken.map(|name| format!("{name}.json")).each_ref().map(String::as_str));
}

#[test]
fn tokenizer() {
    replay(Kind::Tokenizer, &["c", "m", "s", "t", "v"]);
}

#[test]
fn task_toml() {
    replay(Kind::TaskToml, &["anti_repeat.toml", "capitals.toml", "ioi.toml"]);
}

#[test]
fn prompt_rows() {
    replay(Kind::PromptRows, &["csv", "jsonl"]);
}

#[test]
fn study_toml() {
    replay(Kind::StudyToml, &["several-tasks.toml", "study.toml"]);
}

#[test]
fn scan_json() {
    replay(Kind::ScanJson, &["all-heads.json", "two-heads.json"]);
}

#[test]
fn per_prompt() {
    replay(Kind::PerPrompt, &["scan.safetensors"]);
}

#[test]
fn roles() {
    replay(Kind::Roles, &["roles.json"]);
}

#[test]
fn joint_csv() {
    replay(Kind::JointCsv, &["joint.csv"]);
}

#[test]
fn prompts() {
    replay(Kind::Prompts, &["anti_repeat_study.json", "induction_study.json", "rows_study.json"]);
}

#[test]
#[should_panic(expected = "held")]
fn memory_beyond_the_bound_is_seen() {
    // A bound that cannot fail would prove nothing.
    let _alone = alone();
    cs_intake::within_bound(1 << 20, || drop(std::hint::black_box(vec![1u8; 2 << 20])));
}
