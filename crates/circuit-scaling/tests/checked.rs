//! Errors on the command line are reported before anything is loaded or written.

mod common;

use std::fs;
use std::path::Path;
use std::time::Instant;

use common::{checkpoint, fails, program, succeeds};

/// Command lines that must be rejected, with words of the message.
const REFUSED: &[(&str, &str)] = &[
    ("run --threads 0", "--threads"),
    ("run --models nobody", "nobody"),
    ("run --models mini-gpt2-s,mini-gpt2-s", "each model once"),
    ("run --models gpt2,mini-gpt2-s,MINI-GPT2-S", "each model once"),
    ("run --models a-file", "is a file"),
    ("run --models empty", "config.json"),
    ("run --models gpt2,empty", "config.json"),
    ("run --tasks ioi,nothing", "nothing"),
    ("run --tasks ioi,ioi", "ioi twice"),
    ("run --tasks bad-task.toml", "bad-task.toml"),
    ("run --tasks no-corrupted.csv,ioi", "corrupted"),
    ("run --tau 0", "--tau"),
    ("run --tau -0.1", "--tau"),
    ("run --tau nan", "--tau"),
    ("run --top-k 0", "--top-k"),
    ("run --pairs mini-gpt2-s", "BASE:TARGET"),
    ("run --pairs mini-gpt2-s:nobody", "nobody"),
    ("run --models mini-gpt2-s,mini-gpt2-m --pairs mini-gpt2-s:mini-opt-s", "mini-opt-s"),
    ("run --pairs mini-gpt2-s:mini-gpt2-s", "itself"),
    ("run --contrast ioi", "A:B"),
    ("run --contrast ioi:induction", "induction"),
    ("run --contrast ioi:ioi", "itself"),
    ("run --contrast ioi:anti-repeat,anti-repeat:ioi", "twice"),
    ("run --stages scam", "scan"),
    ("run --prompts 0", "--prompts"),
    ("run --seed -1", "--seed"),
    ("run --seed 9223372036854775808", "--seed"),
    ("run --protocol classic", "published"),
    ("run --hold-out words", "templates"),
    ("run --ablation knockout", "resample"),
    ("run --value-bias none", "in-head"),
    ("run --reference xyz", "same"),
    ("run --memory 0", "--memory"),
    ("run --memory much", "--memory"),
    ("run --resamples 5", "--resamples"),
    ("run --random-sets 1", "--random-sets"),
    ("run --random-prompts 1", "--random-prompts"),
    ("run --effort huge", "thorough"),
    ("run --study no.toml", "no.toml"),
    ("run --study bad-number.toml", "`random_sets`"),
    ("run --out a-file", "a-file"),
    ("run --out a-file/inside", "a-file"),
    ("plan --tau 0", "--tau"),
    ("plan --tasks nothing --models gpt2", "nothing"),
    ("plan --pairs mini-gpt2-s:nobody", "nobody"),
    ("plan --contrast ioi:induction", "induction"),
    ("plan --tasks no-corrupted.csv,ioi", "corrupted"),
    ("parts --parts 0", "--parts"),
    ("parts --parts 4 --pairs mini-gpt2-s:nobody", "nobody"),
    ("parts --parts 4 --dry-run --contrast ioi:induction", "induction"),
    ("slurm --parts 4 --cpus 0", "--cpus"),
    ("slurm --parts 4 --sbatch long", "long"),
    ("slurm --parts 4 --top-k 0", "--top-k"),
    ("part 1", "circuit-scaling parts"),
    ("part 0", "part"),
    ("gather", "circuit-scaling parts"),
    ("status", "circuit-scaling parts"),
    ("scan --task ioi --models nobody", "nobody"),
    ("scan --task nothing", "nothing"),
    ("scan --task ioi --heads L9", "L9H6"),
    ("scan --task ioi --models mini-gpt2-s --heads L99H0", "L99H0"),
    ("scan --task ioi --prompts 0", "--prompts"),
    ("scan --task ioi --out a-file", "a-file"),
    ("joint --tau 0", "--tau"),
    ("classify --tau 0", "--tau"),
    ("heroes --top-k 0", "--top-k"),
    ("transfer --pairs x", "BASE:TARGET"),
    ("summarize", "no model"),
    ("correlate", "no model"),
    ("plot --tau 0", "--tau"),
    ("notes", "no model"),
    ("report --top-k 0", "--top-k"),
    ("trace --tau 0", "--tau"),
    ("trace --top-k 0", "--top-k"),
    ("trace --stream w", "pattern"),
    ("trace", "no model"),
    ("attend --top-k 0", "--top-k"),
    ("ablate --ablation none", "resample"),
    ("ablate --random-sets 0", "--random-sets"),
    ("ablate --tau inf", "--tau"),
    ("analyze no.csv", "no.csv"),
    ("analyze a-file", "a-file"),
    ("analyze a-file --tau 0", "--tau"),
    ("analyze a-file --pairs x", "BASE:TARGET"),
    ("compare no.csv a-file", "no.csv"),
    ("compare a-file a-file --out a-file", "a-file"),
    ("compare a-file a-file --tau 0", "--tau"),
    ("inspect nobody", "nobody"),
    ("predict mini-gpt2-s hello --top 0", "--top"),
    ("task nothing", "nothing"),
    ("completions tcsh", "fish"),
];

fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
    write("a-file", "not a table\n");
    write("bad-task.toml", "name = 3\n");
    write("bad-number.toml", "random_sets = 1\n");
    write("no-corrupted.csv", "clean,correct,distractor\nOne two, a, b\n");
    fs::create_dir(dir.path().join("empty")).unwrap();
    dir
}

fn listed(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = entries.collect();
    names.sort();
    names
}

#[test]
fn invalid_options_are_rejected_at_once_and_write_nothing() {
    let dir = folder();
    let before = listed(dir.path());
    let problem = |(line, word): &(&str, &str)| {
        let start = Instant::now();
        let output = program(&[&line.split(' ').collect::<Vec<_>>()[..], &["--quiet"]].concat(), dir.path());
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let is_refused = matches!(output.status.code(), Some(1 | 2)) && said.contains(word);
        // A second on an idle machine; a scan of the bundled models takes much longer.
        let is_fast = start.elapsed().as_secs() < 8;
        let is_clean = listed(dir.path()) == before && !said.contains("panicked");
        (!is_refused || !is_fast || !is_clean)
            .then(|| format!("{line} ({word}): {:?} {said}", start.elapsed()))
    };
    let problems: Vec<String> = REFUSED.iter().filter_map(problem).collect();
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

/// A folder given without its option.
#[test]
fn a_stray_folder_names_its_option() {
    let dir = folder();
    for command in ["plot", "run", "notes"] {
        fails(&[command, "empty"], dir.path(), &["--out empty"]);
        let said = program(&[command, "nothing-there"], dir.path()).stderr;
        assert!(!String::from_utf8_lossy(&said).contains("--out nothing-there"));
    }
}

/// A memory limit that is too small for some model is rejected before any model is scanned.
#[test]
fn memory_that_is_too_little_is_refused_before_the_first_scan() {
    let dir = folder();
    for args in [&["run", "--memory", "1K"][..], &["scan", "--task", "ioi", "--memory", "1K"]] {
        let args = [args, &["--models", "mini-gpt2-s,mini-opt-s", "--out", "out"]].concat();
        fails(&args, dir.path(), &["working memory"]);
        let results = dir.path().join("out/results");
        assert!(!results.is_dir() || listed(&results).iter().all(|name| name == "prompts"), "{args:?}");
    }
}

/// Experiments check names before they access the Hub, and references before they run a model.
#[test]
fn experiments_are_checked_as_well() {
    let dir = folder();
    checkpoint(dir.path());
    let scan = ["scan", "-q", "--prompts", "24", "--models", "mini-gpt2-s", "--task"];
    for task in ["ioi", "anti-repeat"] {
        succeeds(&[&scan[..], &[task]].concat(), dir.path());
    }
    let study = dir.path().join("circuit-scaling-study");
    let before = common::files(&study);
    for (line, word) in [
        ("trace --models nobody", "nobody"),
        ("trace --models model", "was not scanned"),
        ("ablate --models gpt2", "was not scanned"),
        ("attend --models mini-gpt2-s,mini-gpt2-s", "each model once"),
        ("trace --contrast ioi:induction", "induction"),
        ("transfer --pairs mini-gpt2-s:gpt2", "gpt2"),
        ("run --models mini-opt-s --ablation mean", "--ablation zero"),
    ] {
        fails(&line.split(' ').collect::<Vec<_>>(), dir.path(), &[word]);
        assert!(common::files(&study) == before, "{line}");
    }
}
