//! A study in parts under a scheduler: killed, started twice, on full disks, on other machines. Results are byte-identical to one
//! machine's run, or a one-line message says what is missing.
#![cfg(unix)]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use common::{command, files, program, succeeds};

/// A small study with all stages.
const STUDY: [&str; 11] = [
    "--models",
    "mini-gpt2-s,mini-opt-s",
    "--prompts",
    "48",
    "--random-sets",
    "20",
    "--resamples",
    "200",
    "--memory",
    "4M",
    "--quiet",
];
const N_PARTS: usize = 3;
/// A smaller one without figures and page.
const SMALLER: [&str; 4] = ["--models", "mini-gpt2-s", "--stages", "scan,tables,attend,trace,ablate"];

/// Everything in a study's folder except its parts.
fn study(root: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    files(root).into_iter().filter(|(path, _)| !path.starts_with("parts")).collect()
}

fn assert_same(whole: &Path, cut: &Path, what: &str) {
    let (whole, cut) = (study(whole), study(cut));
    assert_eq!(whole.keys().collect::<Vec<_>>(), cut.keys().collect::<Vec<_>>(), "{what}");
    for (path, bytes) in whole {
        assert!(cut[&path] == bytes, "{what}: {path:?} differs");
    }
}

fn with<'a>(command: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&[command], &STUDY[..], more].concat()
}

/// One line on standard error that contains all of `words`, and exit code 1.
fn refuses(output: Output, words: &[&str]) {
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert_eq!(said.trim_end().lines().count(), 1, "{said}");
    for word in words {
        assert!(said.contains(word), "{word:?} in {said}");
    }
}

fn part(dir: &Path, number: usize) -> Command {
    let mut command = command(&["--quiet", "part", &number.to_string(), "--out", "cut"], dir);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Numbers that differ between schedules: Weyl's sequence of the golden ratio.
struct Draws(f64);

impl Draws {
    fn next(&mut self) -> f64 {
        self.0 = (self.0 + 0.618_034).fract();
        self.0
    }
}

/// Starts a part and ends it after a share of `duration` in one of the ways in which jobs end; returns whether it was still
/// running.
fn cut_short(mut child: Child, duration: Duration, share: f64, gently: bool) -> bool {
    std::thread::sleep(duration.mul_f64(share));
    if child.try_wait().unwrap().is_some() {
        return false;
    }
    if gently {
        Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
        let status = child.wait().unwrap();
        // It may have finished at that moment.
        assert!(matches!(status.code(), Some(0 | 99)), "{status}");
        status.code() == Some(99)
    } else {
        child.kill().unwrap();
        !child.wait().unwrap().success()
    }
}

#[test]
fn killed_and_requeued_parts_end_with_the_bytes_of_one_machine() {
    kill_and_requeue(2);
}

#[test]
#[ignore = "nightly: kills parts on twenty schedules"]
fn killed_and_requeued_in_any_order_parts_end_with_the_bytes_of_one_machine() {
    kill_and_requeue(20);
}

fn kill_and_requeue(n_schedules: usize) {
    let dir = tempfile::tempdir().unwrap();
    let smaller = |command, more: &[&'static str]| [&[command], &SMALLER[..], &STUDY[2..], more].concat();
    succeeds(&smaller("run", &["--out", "whole"]), dir.path());
    succeeds(&smaller("parts", &["--parts", "3", "--out", "planned"]), dir.path());
    let planned = files(&dir.path().join("planned"));
    let mut duration = Duration::from_millis(400);
    let mut draws = Draws(0.0);
    let mut n_hit = 0;
    for schedule in 0..n_schedules {
        let _ = fs::remove_dir_all(dir.path().join("cut"));
        for (path, bytes) in &planned {
            let path = dir.path().join("cut").join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        for _wave in 0..2 {
            let mut order: Vec<usize> = (1..=N_PARTS).collect();
            order.sort_by_cached_key(|_| (1e6 * draws.next()) as u64);
            for &number in &order {
                if draws.next() < 0.5 {
                    let child = part(dir.path(), number).spawn().unwrap();
                    n_hit += usize::from(cut_short(child, duration, draws.next(), draws.next() < 0.5));
                }
            }
            // Two at a time, as two machines would.
            let children = |numbers: &[usize]| -> Vec<(Instant, Child)> {
                numbers.iter().map(|&n| (Instant::now(), part(dir.path(), n).spawn().unwrap())).collect()
            };
            for numbers in order.chunks(2) {
                for (start, child) in children(numbers) {
                    let output = child.wait_with_output().unwrap();
                    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
                    duration = duration.mul_f64(0.9) + start.elapsed().mul_f64(0.1);
                }
            }
            succeeds(&["--quiet", "gather", "--out", "cut"], dir.path());
        }
        assert_same(&dir.path().join("whole"), &dir.path().join("cut"), &format!("schedule {schedule}"));
    }
    assert!(n_hit >= n_schedules / 2, "only {n_hit} parts were hit in the middle");
}

#[test]
fn what_is_wrong_with_parts_is_one_line_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let cut = dir.path().join("cut");
    let gather = || program(&["--quiet", "gather", "--out", "cut"], dir.path());
    refuses(gather(), &["cut has no plan of parts", "circuit-scaling parts"]);
    succeeds(&with("run", &["--out", "whole"]), dir.path());
    succeeds(&with("parts", &["--parts", "3", "--out", "cut"]), dir.path());
    // Repeating the command changes nothing; another number of parts is fine as long as no part has started.
    let plan = fs::read(cut.join("parts/plan.json")).unwrap();
    succeeds(&with("parts", &["--parts", "3", "--out", "cut"]), dir.path());
    assert_eq!(fs::read(cut.join("parts/plan.json")).unwrap(), plan);

    // Which part?
    let asked = |text: &str| program(&["--quiet", "part", text, "--out", "cut"], dir.path());
    refuses(asked("4"), &["no part 4", "the last one is 3"]);
    refuses(asked("0"), &["from 1"]);
    let by_index = |name: &str, value: &str| {
        let mut command = command(&["--quiet", "part", "--out", "cut"], dir.path());
        for name in ["SLURM_ARRAY_TASK_ID", "PBS_ARRAY_INDEX", "SGE_TASK_ID", "JOB_COMPLETION_INDEX"] {
            command.env_remove(name);
        }
        command.env(name, value).output().unwrap()
    };
    refuses(by_index("HOME", "x"), &["give a part", "SLURM_ARRAY_TASK_ID"]);
    let said = by_index("JOB_COMPLETION_INDEX", "0");
    assert!(String::from_utf8_lossy(&said.stdout).contains("part 1 of 3"), "{said:?}");

    // Missing parts, with their numbers and the command that runs them; a folder that was copied back incompletely.
    refuses(
        gather(),
        &["2 of 3 parts are missing", "parts 2-3 not started", "`circuit-scaling part 2-3 --out cut`"],
    );
    succeeds(&["--quiet", "part", "2,3", "--out", "cut"], dir.path());
    let parts = cut.join("parts/scans");
    fs::rename(parts.join("00002"), dir.path().join("kept")).unwrap();
    refuses(gather(), &["1 of 3 parts is missing: part 2 not started", "`circuit-scaling part 2 --out cut`"]);
    fs::rename(dir.path().join("kept"), parts.join("00002")).unwrap();

    // Made by another version, on another device, from other weights.
    let made = parts.join("00002/made.json");
    let text = fs::read_to_string(&made).unwrap();
    let device = text.split("\"device\":\"").nth(1).unwrap().split('"').next().unwrap();
    for (from, to, words) in [
        (format!("\"{}\"", env!("CARGO_PKG_VERSION")), "\"0.0.9\"".to_owned(), "version 0.0.9"),
        (device.to_owned(), "cuda-sm90".to_owned(), "computed on cuda-sm90"),
        ("\"plan\":\"".to_owned(), "\"plan\":\"0".to_owned(), "other weights"),
    ] {
        fs::write(&made, text.replace(&from, &to)).unwrap();
        refuses(gather(), &["part 2", words, "circuit-scaling part 2 --out cut"]);
        // The part is then run again from the start, with the same results.
        let output = program(&["part", "2", "--out", "cut"], dir.path());
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() && said.contains("run again from the start"), "{said}");
        assert_eq!(fs::read_to_string(&made).unwrap(), text);
    }
    // A file that is broken.
    let side = parts.join("00002/results/per_prompt");
    let file = fs::read_dir(&side).unwrap().next().unwrap().unwrap().path();
    let whole = fs::read(&file).unwrap();
    fs::write(&file, &whole[..whole.len() / 2]).unwrap();
    refuses(gather(), &["part 2", "cannot be read"]);
    fs::write(&file, whole).unwrap();

    // Other prompts, or another plan, than the parts were made from.
    let record = cut.join("results/prompts/ioi_study.json");
    let prompts = fs::read_to_string(&record).unwrap();
    fs::write(&record, prompts.replacen("\"weight\": 1", "\"weight\": 2", 1)).unwrap();
    fs::remove_file(parts.join("00003/done.json")).unwrap();
    refuses(asked("3"), &["ioi_study.json", "copy the study's folder again"]);
    fs::write(&record, prompts).unwrap();
    succeeds(&["--quiet", "part", "3", "--out", "cut"], dir.path());
    refuses(
        program(&with("parts", &["--parts", "5", "--out", "cut"]), dir.path()),
        &["plan of another study", "--out"],
    );
    let plan = cut.join("parts/plan.json");
    let text = fs::read_to_string(&plan).unwrap();
    let version = format!("\"program_version\": \"{}\"", env!("CARGO_PKG_VERSION"));
    fs::write(&plan, text.replacen(&version, "\"program_version\": \"0.0.9\"", 1)).unwrap();
    refuses(gather(), &["version 0.0.9", "one version"]);
    fs::write(&plan, text).unwrap();

    // Nothing was lost.
    succeeds(&["--quiet", "gather", "--out", "cut"], dir.path());
    succeeds(&["--quiet", "part", "1-3", "--out", "cut"], dir.path());
    let (said, _) = succeeds(&["status", "--out", "cut"], dir.path());
    assert!(said.contains("wave 2 (experiments): 3 parts") && said.contains("gather --out cut"), "{said}");
    succeeds(&["--quiet", "gather", "--out", "cut"], dir.path());
    assert_same(&dir.path().join("whole"), &cut, "after all");
    // After gathering, the parts are no longer needed.
    fs::remove_dir_all(cut.join("parts/scans")).unwrap();
    fs::remove_dir_all(cut.join("parts/experiments")).unwrap();
    succeeds(&["--quiet", "gather", "--out", "cut"], dir.path());
}

#[test]
fn a_model_with_other_weights_does_no_part() {
    let dir = tempfile::tempdir().unwrap();
    common::checkpoint(dir.path());
    let study = ["--models", "./model", "--prompts", "24", "--memory", "4M", "--quiet"];
    succeeds(&[&["parts"], &study[..], &["--parts", "2", "--out", "cut"]].concat(), dir.path());
    let weights = dir.path().join("model/model.safetensors");
    let mut bytes = fs::read(&weights).unwrap();
    let last = bytes.len() - 2;
    bytes[last] ^= 1;
    fs::write(&weights, bytes).unwrap();
    for asked in [&["part", "1"][..], &["gather"]] {
        refuses(
            program(&[&["--quiet"], asked, &["--out", "cut"]].concat(), dir.path()),
            &["weights of model", "plan"],
        );
    }
}

#[test]
fn a_part_is_done_by_one_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    succeeds(&with("parts", &["--parts", "1", "--out", "cut"]), dir.path());
    let lock = dir.path().join("cut/parts/scans/00001/.circuit-scaling/lock");
    fs::create_dir_all(lock.parent().unwrap()).unwrap();
    let lock = fs::File::create(lock).unwrap();
    lock.lock().unwrap();
    refuses(part(dir.path(), 1).output().unwrap(), &["part 1 is already running"]);
    drop(lock);
    // Started twice at once: one runs it, the other reports that or finds it done.
    let children = [1, 1].map(|n| part(dir.path(), n).spawn().unwrap());
    let outputs = children.map(|child| child.wait_with_output().unwrap());
    assert!(outputs.iter().any(|output| output.status.success()));
    for output in outputs.into_iter().filter(|output| !output.status.success()) {
        refuses(output, &["part 1 is already running"]);
    }
}

/// A disk with space for the plan and little more: only a privileged user can mount one.
#[test]
#[cfg(target_os = "linux")]
fn a_part_on_a_full_disk_reports_it_and_resumes_with_space() {
    let dir = tempfile::tempdir().unwrap();
    let disk = dir.path().join("cut");
    fs::create_dir(&disk).unwrap();
    let mount = |options: &str| {
        Command::new("mount").args(["-t", "tmpfs", "-o", options, "none"]).arg(&disk).output()
    };
    if !mount("size=16m").is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: this user cannot mount a small disk");
        return;
    }
    let checks = std::panic::catch_unwind(|| {
        succeeds(&with("parts", &["--parts", "2", "--stages", "scan", "--out", "cut"]), dir.path());
        let used: u64 = files(&disk).values().map(|bytes| bytes.len().div_ceil(4096) as u64 * 4).sum();
        let remount = |kib: u64| {
            let option = format!("remount,size={kib}k");
            assert!(Command::new("mount").args(["-o", &option]).arg(&disk).status().unwrap().success());
        };
        remount(used + 24);
        refuses(part(dir.path(), 1).output().unwrap(), &["cut/parts/scans/00001", "No space left"]);
        remount(16 << 10);
        for number in [1, 2] {
            assert!(part(dir.path(), number).output().unwrap().status.success());
        }
        succeeds(&["--quiet", "gather", "--out", "cut"], dir.path());
        succeeds(&with("run", &["--stages", "scan", "--out", "whole"]), dir.path());
        assert_same(&dir.path().join("whole"), &disk, "after the disk was full");
    });
    Command::new("umount").arg(&disk).status().unwrap();
    checks.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
}

#[test]
fn ctrl_c_and_sigterm_keep_results_and_say_how_to_resume() {
    let dir = tempfile::tempdir().unwrap();
    let args = [
        "run",
        "--models",
        "mini-gpt2-l",
        "--prompts",
        "200",
        "--memory",
        "4M",
        "--stages",
        "scan",
        "--out",
        "a",
    ];
    let partial = dir.path().join("a/.circuit-scaling");
    // When the scan's partial results were last written.
    let written = || {
        let files = fs::read_dir(&partial).into_iter().flatten().map(|entry| entry.unwrap().path());
        let mut partial = files.filter(|path| path.extension().is_some_and(|e| e == "partial"));
        partial.next().and_then(|path| fs::metadata(path).ok()?.modified().ok())
    };
    for (signal, code) in [("-INT", 130), ("-TERM", 99)] {
        let before = written();
        let mut child = command(&args, dir.path());
        let child = child.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let start = Instant::now();
        while written() == before && start.elapsed() < Duration::from_secs(60) {
            std::thread::sleep(Duration::from_millis(10));
        }
        Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap();
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{said}");
        assert!(
            said.trim_end().lines().last().unwrap().contains("run the same command again to resume"),
            "{said}"
        );
    }
    let (_, noted) = succeeds(&args, dir.path());
    assert!(noted.contains("resuming:"), "{noted}");
}

#[test]
fn job_scripts_are_readable_and_whole() {
    let dir = tempfile::tempdir().unwrap();
    let slurm = |more: &[&str]| {
        let args = ["--parts", "3", "--cpus", "4", "--dry-run", "--out", "cut dir"];
        program(&[&with("slurm", &args), more].concat(), dir.path())
    };
    let output = slurm(&["--sbatch", "--partition=long --account=me"]);
    let said = String::from_utf8(output.stdout).unwrap();
    for line in [
        "#SBATCH --array=1-3",
        "#SBATCH --cpus-per-task=4",
        "#SBATCH --requeue",
        "#SBATCH --signal=B:TERM@60",
        "#SBATCH --partition=long --account=me",
        "--dependency=afterany:$job1",
        "--dependency=afterok:$job2",
        "--dependency=afterany:$job3",
    ] {
        assert!(said.contains(line), "{line} in {said}");
    }
    for script in ["part.sbatch", "gather.sbatch"] {
        let path = dir.path().join("cut dir/parts").join(script);
        assert!(said.contains(&fs::read_to_string(&path).unwrap()));
        assert!(Command::new("bash").arg("-n").arg(&path).status().unwrap().success(), "{script}");
    }
    refuses(slurm(&["--sbatch", "partition"]), &["--sbatch", "--partition=long"]);
    refuses(slurm(&["--sbatch", "--a\nrm -rf b"]), &["--sbatch"]);
    // Without SLURM, the scripts are written nevertheless.
    let mut command = command(&with("slurm", &["--parts", "3", "--out", "b"]), dir.path());
    refuses(command.env("PATH", "/nowhere").output().unwrap(), &["sbatch", "b/parts"]);
    assert!(dir.path().join("b/parts/part.sbatch").exists());
}
