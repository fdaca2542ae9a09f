//! Runs that are killed, rejected, or started again: finished work is never lost, and results are always byte-identical.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use common::files;

/// Small stacks, so that a scan can be killed at many points.
const ARGS: [&str; 7] = ["run", "--models", "mini-gpt2-m,mini-opt-m", "--prompts", "60", "--memory", "8M"];

fn program(folder: &Path, args: &[&str]) -> Command {
    let mut command = common::command(args, folder);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// The messages of a run that must succeed.
fn succeeds(folder: &Path, args: &[&str]) -> String {
    common::succeeds(args, folder).1
}

/// The number of scans that a run reports.
fn n_scans(said: &str) -> usize {
    said.lines()
        .filter(|line| line.contains(" heads in ") && !line.contains("sets of") && !line.contains("roles of"))
        .count()
}

/// The number of attention measurements that a run reports.
fn n_attended(said: &str) -> usize {
    said.lines().filter(|line| line.contains(" attention of ") && line.contains("heads read")).count()
}

fn assert_same(a: &BTreeMap<PathBuf, Vec<u8>>, b: &BTreeMap<PathBuf, Vec<u8>>, what: &str) {
    let names = |of: &BTreeMap<PathBuf, Vec<u8>>| of.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(a), names(b), "{what}");
    for (path, bytes) in a {
        assert!(b[path] == *bytes, "{what}: {path:?} differs");
    }
}

#[test]
fn killed_and_resumed_it_ends_with_the_same_bytes() {
    kill_and_resume(4);
}

#[test]
#[ignore = "nightly: kills fifty runs"]
fn killed_at_any_moment_and_resumed_it_ends_with_the_same_bytes() {
    kill_and_resume(50);
}

/// Kills a whole run at `n_kills` moments, each in its own folder, and resumes it.
fn kill_and_resume(n_kills: u32) {
    let dir = tempfile::tempdir().unwrap();
    let args = |out: &'static str| [&ARGS[..], &["--out", out]].concat();
    let start = std::time::Instant::now();
    succeeds(dir.path(), &args("whole"));
    let whole = files(&dir.path().join("whole"));
    let duration = start.elapsed();
    kill_often(
        n_kills,
        duration,
        || {
            let _ = fs::remove_dir_all(dir.path().join("cut"));
            program(dir.path(), &args("cut"))
        },
        |share| {
            succeeds(dir.path(), &args("cut"));
            assert_same(&whole, &files(&dir.path().join("cut")), &format!("killed at {share:.2} of the run"));
        },
    );
}

#[test]
fn ablated_sets_killed_and_resumed_end_with_the_same_bytes() {
    kill_among_sets(2);
}

#[test]
#[ignore = "nightly: kills twelve runs"]
fn ablated_sets_killed_in_any_round_end_with_the_same_bytes() {
    kill_among_sets(12);
}

/// Random sets are drawn in rounds, and each round depends on the results of earlier ones: a run killed in any round and resumed
/// with other threads and another memory limit runs the same sets and gives the same bytes.
fn kill_among_sets(n_kills: u32) {
    let dir = tempfile::tempdir().unwrap();
    let scan = ["run", "-q", "--models", "mini-pythia-l", "--prompts", "60", "--stages", "scan"];
    let ablate = |out: &'static str, more: &[&'static str]| {
        [&["ablate", "--random-sets", "800", "--random-prompts", "6", "--out", out], more].concat()
    };
    succeeds(dir.path(), &[&scan[..], &["--out", "whole"]].concat());
    let scanned = files(&dir.path().join("whole"));
    let start = std::time::Instant::now();
    succeeds(dir.path(), &ablate("whole", &[]));
    let duration = start.elapsed();
    let whole = files(&dir.path().join("whole"));
    let tests =
        String::from_utf8_lossy(&whole[Path::new("paper/tables/hero_vs_random_tests.csv")]).into_owned();
    let column = tests.lines().next().unwrap().split(',').position(|name| name == "n_random").unwrap();
    let n_random: BTreeSet<&str> =
        tests.lines().skip(1).filter_map(|line| line.split(',').nth(column)).collect();
    assert!(n_random.len() > 2, "comparisons end after different numbers of sets: {n_random:?}");

    kill_often(
        n_kills,
        duration,
        || {
            let _ = fs::remove_dir_all(dir.path().join("cut"));
            for (path, bytes) in &scanned {
                let path = dir.path().join("cut").join(path);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, bytes).unwrap();
            }
            program(dir.path(), &ablate("cut", &["--threads", "1"]))
        },
        |_| {
            succeeds(dir.path(), &ablate("cut", &["--memory", "3M"]));
            assert_same(&whole, &files(&dir.path().join("cut")), "killed among ablated sets");
        },
    );
}

/// Starts a command that takes `duration` and kills it, `n_kills` times at different moments; calls `resume` after each, with the
/// share of the duration.
fn kill_often(n_kills: u32, mut duration: Duration, command: impl Fn() -> Command, resume: impl Fn(f64)) {
    let mut n_killed = 0;
    // Moments spread over the run like multiples of the golden ratio: never repeated, without gaps.
    for i in 0..5 * n_kills {
        let mut child = command().spawn().unwrap();
        let share = (f64::from(i) * 0.618_034).fract();
        std::thread::sleep(duration.mul_f64(share));
        let was_running = child.try_wait().unwrap().is_none();
        child.kill().unwrap();
        child.wait().unwrap();
        if !was_running {
            // The machine is faster now than when the whole run was timed.
            duration = duration.mul_f64(0.9);
            continue;
        }
        n_killed += 1;
        resume(share);
        if n_killed == n_kills {
            return;
        }
    }
    panic!("only {n_killed} of {n_kills} runs were killed");
}

#[test]
fn nothing_is_done_twice_and_what_changed_is_done_again() {
    let dir = tempfile::tempdir().unwrap();
    let args = |more: &[&'static str]| [&ARGS[..], &["--out", "a", "-v"], more].concat();
    let said = succeeds(dir.path(), &args(&[]));
    assert_eq!(n_scans(&said), 4, "{said}");
    let first = files(&dir.path().join("a"));

    let said = succeeds(dir.path(), &args(&[]));
    assert_eq!((n_scans(&said), said.matches("is done").count()), (0, 4), "{said}");
    assert_same(&first, &files(&dir.path().join("a")), "run again");

    // Only a file that was lost or changed is made again.
    let scan = dir.path().join("a/results/anti_repeat_logitdiff_scan_mini-opt-m.json");
    fs::write(&scan, "{}").unwrap();
    let said = succeeds(dir.path(), &args(&[]));
    assert_eq!(n_scans(&said), 1, "{said}");
    assert_same(&first, &files(&dir.path().join("a")), "a scan was broken");

    // The threshold is not an input of the scans; the ablation is.
    let said = succeeds(dir.path(), &args(&["--tau", "0.5"]));
    assert_eq!((n_scans(&said), n_attended(&said)), (0, 0), "{said}");
    let said = succeeds(dir.path(), &args(&["--ablation", "mean"]));
    assert_eq!((n_scans(&said), n_attended(&said)), (4, 0), "{said}");
    // Other prompts: everything depends on them.
    let said = succeeds(dir.path(), &args(&["--seed", "5"]));
    assert!(said.contains("seed was 0 and is now 5"), "{said}");
    assert_eq!((n_scans(&said), n_attended(&said)), (4, 4), "{said}");
    let said = succeeds(dir.path(), &args(&[]));
    assert_eq!(n_scans(&said), 4, "{said}");
    assert_same(&first, &files(&dir.path().join("a")), "back to the first options");

    // Prompts that another model's scans use are not drawn again.
    let output = program(dir.path(), &["run", "--models", "mini-gpt2-m", "--seed", "5", "--out", "a"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && said.contains("another --out"), "{said}");
}

#[test]
fn a_study_file_repeats_a_run() {
    let dir = tempfile::tempdir().unwrap();
    let args = ["--tau", "0.07", "--seed", "2", "--ablation", "resample", "--out", "a"];
    succeeds(dir.path(), &[&ARGS[..], &args].concat());
    succeeds(dir.path(), &["run", "--study", "a/study.toml", "--out", "b"]);
    assert_same(&files(&dir.path().join("a")), &files(&dir.path().join("b")), "repeated");
    // The command line wins.
    succeeds(
        dir.path(),
        &["run", "--study", "a/study.toml", "--tau", "0.1", "--models", "mini-opt-m", "--out", "c"],
    );
    let written = fs::read_to_string(dir.path().join("c/study.toml")).unwrap();
    for line in ["tau = 0.1", "seed = 2", "models = [\"mini-opt-m\"]", "ablation = \"resample\""] {
        assert!(written.contains(line), "{line} in {written}");
    }
    for (text, words) in [
        ("modles = []", &["line 1", "modles"][..]),
        ("seed = 1\ntau = -1.0", &["`tau`", "above 0"]),
        ("stages = ['scna']", &["`stages`", "tables"]),
        ("ablation = 'knockout'", &["`ablation`", "resample"]),
        ("seed = ", &["line 1"]),
        ("tasks = ['ioi', 'ioi']", &["ioi twice", "--tasks"]),
    ] {
        fs::write(dir.path().join("bad.toml"), text).unwrap();
        let output = program(dir.path(), &["run", "--study", "bad.toml", "--out", "d"]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), said.lines().count()), (Some(1), 1), "{said}");
        assert!(words.iter().all(|word| said.contains(word)), "{text}: {said}");
    }
}

#[test]
fn a_second_run_in_the_same_folder_says_so() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("a/.circuit-scaling")).unwrap();
    let lock = fs::File::create(dir.path().join("a/.circuit-scaling/lock")).unwrap();
    lock.lock().unwrap();
    for args in [&[&ARGS[..], &["--out", "a"]].concat()[..], &["scan", "--task", "ioi", "--out", "a"]] {
        let output = program(dir.path(), args).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(1) && said.contains("another run is working in a"), "{said}");
    }
    drop(lock);
    succeeds(dir.path(), &[&ARGS[..], &["--out", "a"]].concat());
}

/// A small separate file system, unmounted when dropped. Only a privileged user can mount one.
#[cfg(target_os = "linux")]
struct SmallDisk(PathBuf);

#[cfg(target_os = "linux")]
impl SmallDisk {
    fn mount(at: PathBuf, options: &str) -> Option<Self> {
        fs::create_dir_all(&at).unwrap();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", options, "none"]).arg(&at).output();
        mounted.is_ok_and(|output| output.status.success()).then_some(Self(at))
    }

    fn remount(&self, options: &str) {
        let done = Command::new("mount").args(["-o", &format!("remount,{options}")]).arg(&self.0).status();
        assert!(done.unwrap().success());
    }
}

#[cfg(target_os = "linux")]
impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_full_or_read_only_disk_is_reported_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    succeeds(dir.path(), &[&ARGS[..], &["--out", "b"]].concat());
    let whole = files(&dir.path().join("b"));
    // Space for about half of it.
    let pages: usize = whole.values().map(|bytes| bytes.len().div_ceil(4096)).sum();
    let Some(disk) = SmallDisk::mount(dir.path().join("disk"), &format!("size={}k", 2 * pages)) else {
        eprintln!("skipped: this user cannot mount a small disk");
        return;
    };
    let args = [&ARGS[..], &["--out", "disk/a"]].concat();
    let fails = |word: &str| {
        let output = program(dir.path(), &args).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let last = said.lines().last().unwrap_or_default();
        assert!(output.status.code() == Some(1) && last.contains("disk/a") && last.contains(word), "{said}");
        assert!(!said.contains("panicked"), "{said}");
    };
    fails("No space left");
    let before = files(&disk.0.join("a"));
    assert!(before.keys().any(|path| path.to_string_lossy().contains("logitdiff_scan")), "nothing done");

    disk.remount("ro");
    fails("Read-only");
    assert_same(&before, &files(&disk.0.join("a")), "read-only");

    // With enough space it resumes, and finished work is not repeated.
    disk.remount("rw,size=16m");
    let said = succeeds(dir.path(), &args);
    assert!(n_scans(&said) < 4, "{said}");
    assert_same(&whole, &files(&disk.0.join("a")), "after the disk was full");
}
