//! Mutated tasks and records of prompts: whatever they hold, reading them ends in a task or in one line.
//! `FUZZ_RUNS=1000000` tries more.

#[path = "../../transformer/tests/mutation/mod.rs"]
mod mutation;

use circuits::task::Task;
use mutation::{mutants, runs};

#[test]
fn fuzz_task_toml() {
    for good in [include_str!("../tasks/ioi.toml"), include_str!("../tasks/anti_repeat.toml")] {
        for bytes in mutants(good.as_bytes(), runs(3000)) {
            let Ok(text) = std::str::from_utf8(&bytes) else { continue };
            if let Err(error) = Task::from_toml(text, "task.toml") {
                assert!(!error.to_string().contains('\n'), "{error}");
            }
        }
    }
}
