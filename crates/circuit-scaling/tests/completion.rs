//! Completion in real shells: each shell's script is loaded, and an incomplete line is completed.

mod common;

use std::path::Path;
use std::process::Command;

use common::succeeds;

/// The candidates that a shell shows at the end of `line`, or `None` if the shell is not installed.
fn candidates(shell: &str, line: &str, folder: &Path) -> Option<Vec<String>> {
    let script = folder.join(format!("completion.{shell}"));
    std::fs::write(&script, succeeds(&["completions", shell], folder).0).unwrap();
    let script = script.display();
    let program = match shell {
        "bash" => format!(
            "source '{script}'; read -ra COMP_WORDS <<< '{line}'; [[ '{line}' == *' ' ]] && COMP_WORDS+=(''); \
             COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); COMP_LINE='{line}'; COMP_POINT=${{#COMP_LINE}}; COMP_TYPE=9; \
             complete -p circuit-scaling > /dev/null || exit 3; \
             call=$(complete -p circuit-scaling | sed 's/.*-F \\([^ ]*\\).*/\\1/'); \
             $call circuit-scaling \"${{COMP_WORDS[COMP_CWORD]}}\" 2> /dev/null; printf '%s\\n' \"${{COMPREPLY[@]}}\""
        ),
        "fish" => format!("source '{script}'; complete -C '{line}'"),
        // Without a terminal zsh does not complete: query the program the same way as its script does.
        "zsh" => format!(
            "source '{script}' 2> /dev/null; words=(${{(Q)${{(z)${{:-'{line}'}}}}}}); [[ '{line}' == *' ' ]] && words+=(''); \
             _CLAP_IFS=$'\\n' _CLAP_COMPLETE_INDEX=$((${{#words}} - 1)) CIRCUIT_SCALING_COMPLETE=zsh \
             circuit-scaling -- \"${{words[@]}}\""
        ),
        other => panic!("no way to ask {other}"),
    };
    let binaries = Path::new(env!("CARGO_BIN_EXE_circuit-scaling")).parent().unwrap().to_owned();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths(std::iter::once(binaries).chain(std::env::split_paths(&path))).unwrap();
    let output =
        match Command::new(shell).args(["-c", &program]).env("PATH", path).current_dir(folder).output() {
            Ok(output) => output,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                eprintln!("skipped: no {shell} to complete with");
                return None;
            }
            Err(error) => panic!("{shell}: {error}"),
        };
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.status.success() || !said.is_empty(),
        "{shell}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    // Fish and zsh show a candidate's description after a tab or a colon.
    Some(said.lines().map(|line| line.split(['\t', ':']).next().unwrap().trim().to_owned()).collect())
}

#[test]
fn shells_complete_subcommands_options_values_models_and_tasks() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("my-checkpoint")).unwrap();
    std::fs::write(dir.path().join("my-task.toml"), "").unwrap();
    let cases: [(&str, &[&str], &[&str]); 12] = [
        ("circuit-scaling sc", &["scan"], &["run"]),
        ("circuit-scaling scan --abl", &["--ablation"], &["--task"]),
        ("circuit-scaling scan --ablation ", &["zero", "mean", "resample"], &["abc"]),
        ("circuit-scaling run --effort q", &["quick"], &["standard"]),
        ("circuit-scaling run --models mini-gpt2-", &["mini-gpt2-s", "mini-gpt2-l"], &["mini-opt-s"]),
        (
            "circuit-scaling run --models mini-gpt2-s,pythia-1",
            &["mini-gpt2-s,pythia-160m"],
            &["mini-gpt2-s,gpt2"],
        ),
        ("circuit-scaling run --models my", &["my-checkpoint/"], &["my-task.toml"]),
        ("circuit-scaling scan --task ", &["ioi", "anti-repeat", "my-task.toml"], &["mini-gpt2-s"]),
        ("circuit-scaling trace --stream p", &["pattern"], &["v"]),
        ("circuit-scaling inspect mini-opt-", &["mini-opt-s"], &["mini-gpt2-s"]),
        ("circuit-scaling task g", &["gender", "greater_than"], &["ioi"]),
        ("circuit-scaling tables head_", &["head_effects", "head_roles"], &["task_measures"]),
    ];
    for shell in ["bash", "fish", "zsh"] {
        for (line, wanted, unwanted) in cases {
            let Some(found) = candidates(shell, line, dir.path()) else { break };
            for word in wanted {
                assert!(
                    found.iter().any(|candidate| candidate == word),
                    "{shell}: `{line}`: no {word} in {found:?}"
                );
            }
            for word in unwanted {
                assert!(
                    found.iter().all(|candidate| candidate != word),
                    "{shell}: `{line}`: {word} in {found:?}"
                );
            }
        }
    }
}
