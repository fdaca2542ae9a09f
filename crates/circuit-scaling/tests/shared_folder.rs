//! Several runs in one folder, and files in it that were edited by hand: a run adds to the existing study, and no manual edit is
//! lost.

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use common::{fails, files, program, succeeds};

const FEW: [&str; 8] = ["--effort", "quick", "--prompts", "24", "--random-sets", "4", "--out", "study"];

fn run(folder: &Path, args: &[&str]) -> String {
    succeeds(&[&["run"], args, &FEW].concat(), folder).1
}

/// The models of a table's rows.
fn models(folder: &Path, table: &str) -> BTreeSet<String> {
    let text = fs::read_to_string(folder.join("study/paper/tables").join(table)).unwrap();
    let column = text.lines().next().unwrap().split(',').position(|name| name == "model").unwrap();
    text.lines().skip(1).map(|line| line.split(',').nth(column).unwrap().to_owned()).collect()
}

/// Models and tasks run one after the other give the same as all together.
#[test]
fn a_run_adds_to_the_study_in_its_folder() {
    let dir = tempfile::tempdir().unwrap();
    let both = ["mini-gpt2-s", "mini-opt-s"].map(str::to_owned).into();
    run(dir.path(), &["--models", "mini-gpt2-s"]);
    let first = files(&dir.path().join("study"));
    run(dir.path(), &["--models", "mini-opt-s"]);
    for table in [
        "head_effects.csv",
        "joint_ioi_anti_repeat_all.csv",
        "attention_at_last_token.csv",
        "hero_head_causal_summary.csv",
        "hero_vs_random_ablation_summary.csv",
        "dissociation.csv",
    ] {
        assert_eq!(models(dir.path(), table), both, "{table}");
    }
    let now = files(&dir.path().join("study"));
    let gone: Vec<_> = first.keys().filter(|path| !now.contains_key(*path)).collect();
    assert!(gone.is_empty(), "{gone:?}");
    let page = String::from_utf8(now[Path::new("report.html")].clone()).unwrap();
    assert!(page.contains("mini-gpt2-s") && page.contains("mini-opt-s"));
    // Its file has all options: repeated elsewhere, it gives the same.
    succeeds(&["run", "-q", "--study", "study/study.toml", "--out", "again"], dir.path());
    let again = files(&dir.path().join("again"));
    let of_study = |path: &&std::path::PathBuf| path.starts_with("paper") || path.ends_with("report.html");
    for path in now.keys().filter(of_study) {
        assert!(now.get(path) == again.get(path), "{}", path.display());
    }
    // Running again repeats nothing.
    let said = run(dir.path(), &["--models", "mini-gpt2-s,mini-opt-s", "-v"]);
    assert!(!said.contains(" heads in ") && !said.contains("traced in"), "{said}");

    // Another task: the first contrast and its figures stay.
    run(dir.path(), &["--models", "mini-gpt2-s", "--tasks", "induction"]);
    let after = files(&dir.path().join("study"));
    let gone: Vec<_> = now.keys().filter(|path| !after.contains_key(*path)).collect();
    assert!(gone.is_empty(), "{gone:?}");
    let text = fs::read_to_string(dir.path().join("study/study.toml")).unwrap();
    for word in ["induction", "anti-repeat", "mini-opt-s", "ioi:anti_repeat"] {
        assert!(text.contains(word), "{word}: {text}");
    }

    // Scans made with other options do not belong in the same tables.
    fails(
        &[&["run", "--models", "mini-pythia-s", "--ablation", "mean"], &FEW[..]].concat(),
        dir.path(),
        &["--ablation zero", "--out"],
    );
}

/// Every file that a user may have edited: its content is kept after the next run, whichever command rewrites it, and the command
/// says where.
#[test]
fn manual_edits_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let study = dir.path().join("study");
    run(dir.path(), &["--models", "mini-gpt2-s"]);
    let made = files(&study);
    let mine = |path: &Path| format!("mine: {}\n", path.display());
    let edited: Vec<_> = made
        .keys()
        .filter(|path| {
            path.starts_with("paper") || path.ends_with("report.html") || path.ends_with("study.toml")
        })
        .collect();
    assert!(edited.len() > 40, "{}", edited.len());
    edited.iter().for_each(|path| fs::write(study.join(path), mine(path)).unwrap());
    let said = run(dir.path(), &["--models", "mini-gpt2-s"]);
    let now = files(&study);
    for path in &edited {
        assert!(now[*path] == made[*path], "{} was made again", path.display());
        let kept = Path::new("edited").join(path);
        assert_eq!(fs::read_to_string(study.join(&kept)).unwrap(), mine(path));
        assert!(said.contains(&format!("kept as study/{}", kept.display())), "{}: {said}", path.display());
    }

    // The commands of single stages, too.
    for (command, path) in [
        ("notes", "paper/notes/high_level_findings.md"),
        ("plot", "paper/figs/phase_space_all_heads.svg"),
        ("report", "report.html"),
        ("heroes", "paper/tables/hero_heads_for_paper.csv"),
        ("joint", "paper/tables/joint_ioi_anti_repeat_all.csv"),
        ("attend", "paper/tables/attention_at_last_token.csv"),
        ("trace", "paper/tables/hero_head_causal_summary.csv"),
        ("ablate", "paper/tables/dissociation.csv"),
    ] {
        fs::write(study.join(path), "mine again\n").unwrap();
        let output = program(&[command, "--quiet", "--out", "study"], dir.path());
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() && said.contains("kept as study/edited/"), "{command}: {said}");
        let mut name = Path::new(path).file_stem().unwrap().to_owned();
        name.push("-2.");
        name.push(Path::new(path).extension().unwrap());
        let kept = study.join("edited").join(path).with_file_name(name);
        assert_eq!(fs::read_to_string(kept).unwrap(), "mine again\n", "{command}");
        assert_ne!(fs::read_to_string(study.join(path)).unwrap(), "mine again\n", "{command}");
    }
    // Files written by a command belong to the program.
    let n_kept = files(&study.join("edited")).len();
    let said = run(dir.path(), &["--models", "mini-gpt2-s"]);
    assert!(!said.contains("kept as"), "{said}");
    assert_eq!(files(&study.join("edited")).len(), n_kept);

    // A study file that is reworded without changing its meaning is kept.
    let path = study.join("study.toml");
    let in_other_words = format!("# My study\n{}", fs::read_to_string(&path).unwrap());
    fs::write(&path, &in_other_words).unwrap();
    succeeds(&["run", "-q", "--study", "study/study.toml", "--out", "study"], dir.path());
    assert_eq!(fs::read_to_string(&path).unwrap(), in_other_words);
}
