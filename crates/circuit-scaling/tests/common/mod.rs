//! The program run as a user runs it, and files to break.
#![allow(dead_code, reason = "each test file uses its own part")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The model that [`checkpoint`] copies.
pub const MODEL: &str = "mini-gpt2-m";

/// The program in a folder, without network and without this machine's downloads.
pub fn command(args: &[&str], folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_circuit-scaling"));
    command.env("HF_HUB_OFFLINE", "1").env("HF_HOME", "home");
    command.env_remove("HF_HUB_CACHE").env_remove("HUGGINGFACE_HUB_CACHE");
    command.args(args).current_dir(folder);
    command
}

pub fn program(args: &[&str], folder: &Path) -> Output {
    command(args, folder).output().unwrap()
}

/// Standard output and standard error of a run that must succeed.
pub fn succeeds(args: &[&str], folder: &Path) -> (String, String) {
    let output = program(args, folder);
    let [said, noted] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    assert!(output.status.success(), "{args:?}: {noted}");
    (said, noted)
}

/// Runs a command that must fail: one line on standard error that contains all of `words`, exit code 1
/// or 2, no panic.
pub fn fails(args: &[&str], folder: &Path, words: &[&str]) {
    let output = program(&[args, &["--quiet"]].concat(), folder);
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(matches!(output.status.code(), Some(1 | 2)), "{args:?}: {:?}\n{error}", output.status);
    assert!(!error.contains("panicked"), "{args:?}: {error}");
    if output.status.code() == Some(1) {
        assert_eq!(error.trim_end().lines().count(), 1, "{args:?}: {error}");
    }
    for word in words {
        assert!(error.contains(word), "{args:?} should say {word:?}: {error}");
    }
}

/// Every file below a folder, by relative path.
pub fn files(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let (mut found, mut pending) = (BTreeMap::new(), vec![root.to_owned()]);
    while let Some(folder) = pending.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                pending.push(path);
            } else {
                found.insert(path.strip_prefix(root).unwrap().to_owned(), fs::read(&path).unwrap());
            }
        }
    }
    found
}

/// A copy of a bundled model, `model` in `folder`, that a test may break.
pub fn checkpoint(folder: &Path) -> PathBuf {
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models").join(MODEL);
    let copy = folder.join("model");
    fs::create_dir(&copy).unwrap();
    for file in fs::read_dir(shipped).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), copy.join(file.file_name())).unwrap();
    }
    copy
}

/// A small name task.
pub const GREETING: &str = r#"name = "greeting"
title = "Who is greeted"
orders = "both"
[names]
pool = ["John", "Mary", "Paul", "Anna", "Mark", "Kate", "Jack", "Jane", "Peter", "Simon"]
partner_pool = ["Tom", "Bob", "Luke", "Fred", "Ben", "Tim", "Jim", "Amy", "Lucy", "Adam"]
[[templates]]
id = "saw"
text = "In the morning {first} saw {second} and {repeated} greeted"
"#;
