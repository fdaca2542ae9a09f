//! `slurm`: job scripts for a study in parts.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use cs_analysis::files::write_bytes;
use cs_engine::{Device, DeviceChoice};

use super::super::checked::CheckedRun;
use super::cutting::cut_study;
use super::error::PartsError;
use super::plan::{Plan, Wave, WaveKind, folder};
use crate::args::SlurmArgs;
use crate::error::CliError;
use crate::progress::Display;
use crate::stop::REQUEUE;

/// Expected times are for an idle machine like the one that planned.
const TIME_MARGIN: f64 = 2.0;
/// Additional seconds: start-up, hashing of weights, a busy file system.
const TIME_BESIDE: f64 = 600.0;
/// Peak memory of loading, as a multiple of the float32 weights.
const WEIGHTS_MARGIN: f64 = 1.15;
/// Bytes in addition to weights and activations.
const MEMORY_BESIDE: usize = 1 << 30;
/// How often a killed task is requeued automatically.
const RESTARTS: u32 = 3;

/// The path of the parts' script.
pub fn part_script(out: &Path) -> PathBuf {
    folder(out).join("part.sbatch")
}

fn gather_script(out: &Path) -> PathBuf {
    folder(out).join("gather.sbatch")
}

/// Divides a study, writes its job scripts and submits them, or prints the scripts and the commands that
/// would submit them.
pub fn slurm(
    args: &SlurmArgs,
    is_given: impl Fn(&str) -> bool,
    display: Display,
) -> Result<String, CliError> {
    if let Some(text) = args.sbatch.iter().find(|text| text.contains('\n') || !text.trim().starts_with('-')) {
        return Err(PartsError::SbatchOption { text: text.clone() }.into());
    }
    let run_args = CheckedRun::filled(&args.run, is_given)?;
    let out = run_args.args.tables.study.out.clone();
    let stages = run_args.stages.clone();
    let plan = cut_study(run_args, args.parts, display)?;
    let wave = plan.wave(&out)?;
    let absolute = std::path::absolute(&out).map_err(|source| CliError::Out { path: out.clone(), source })?;
    let program = std::env::current_exe().map_err(|source| CliError::Out { path: out.clone(), source })?;
    let job = Job { plan: &plan, wave, args, out: &absolute, program: &program };
    let logs = folder(&out).join("logs");
    std::fs::create_dir_all(&logs).map_err(|source| CliError::Out { path: logs, source })?;
    let scripts = [(part_script(&out), job.part()), (gather_script(&out), job.gather())];
    for (path, script) in &scripts {
        write_bytes(path, script.as_bytes())?;
    }
    if wave.longest().is_none() {
        display.warn(
            "this machine does not have the device that parts run on, so their time is unknown and the script sets no time limit: \
             give one with --sbatch \"--time=…\"",
        );
    }
    let has_second = wave.kind == WaveKind::Scans && stages.iter().any(|s| s.runs_experiments());
    let steps = steps(&out, has_second);
    let mut text = String::new();
    if args.dry_run {
        for (path, script) in &scripts {
            let _ = writeln!(text, "# {}\n{script}", path.display());
        }
        for (index, step) in steps.iter().enumerate() {
            let before = if index == 0 { String::new() } else { format!("$job{index}") };
            let command = step.arguments(&before).iter().map(|a| word(a)).collect::<Vec<_>>().join(" ");
            let _ = writeln!(text, "job{}=$(sbatch {command})", index + 1);
        }
        return Ok(text);
    }
    let mut before = String::new();
    for step in &steps {
        before = submit(&step.arguments(&before), &out)?;
        let _ = writeln!(text, "job {before}: {}", step.what);
    }
    let _ = writeln!(text, "How far they are: circuit-scaling status --out {}", out.display());
    Ok(text)
}

/// A job and what it waits for.
struct Step {
    script: PathBuf,
    what: &'static str,
    /// How it depends on the previous job.
    after: Option<&'static str>,
}

impl Step {
    /// The arguments of `sbatch`.
    fn arguments(&self, before: &str) -> Vec<String> {
        let mut arguments = vec!["--parsable".to_owned()];
        if let Some(after) = self.after {
            arguments.push(format!("--dependency={after}:{before}"));
            arguments.push("--kill-on-invalid-dep=yes".to_owned());
        }
        arguments.push(self.script.display().to_string());
        arguments
    }
}

/// Parts and gathering of both waves: gathering waits until all parts have ended, and reports what is missing; the second wave
/// waits for the scans to be complete.
fn steps(out: &Path, has_second: bool) -> Vec<Step> {
    let step = |script: PathBuf, what, after| Step { script, what, after };
    let mut steps = vec![
        step(part_script(out), "the parts", None),
        step(gather_script(out), "gathers them", Some("afterany")),
    ];
    if has_second {
        steps.push(step(part_script(out), "the parts of the second wave", Some("afterok")));
        steps.push(step(gather_script(out), "gathers them and makes the report", Some("afterany")));
    }
    steps
}

fn submit(arguments: &[String], out: &Path) -> Result<String, PartsError> {
    let fail = |problem: String| PartsError::Sbatch { problem, folder: folder(out) };
    let output = Command::new("sbatch").args(arguments).output();
    let output = output.map_err(|error| fail(format!("cannot be started ({error})")))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(fail(said.trim().lines().collect::<Vec<_>>().join("; ")));
    }
    // With several clusters, the output is the job's number followed by the cluster's name.
    let said = String::from_utf8_lossy(&output.stdout);
    Ok(said.trim().split(';').next().unwrap_or_default().to_owned())
}

/// The scripts of a study.
struct Job<'a> {
    plan: &'a Plan,
    wave: &'a Wave,
    args: &'a SlurmArgs,
    out: &'a Path,
    program: &'a Path,
}

impl Job<'_> {
    /// The resources that both scripts request.
    fn head(&self, name: &str, log: &str, seconds: Option<f64>, cards: usize) -> String {
        let largest = self.plan.models.iter().map(|m| m.weight_bytes).max().unwrap_or(0);
        let bytes = (WEIGHTS_MARGIN * largest as f64) as usize + self.plan.memory + MEMORY_BESIDE;
        let log = folder(self.out).join("logs").join(log);
        let mut text = format!(
            "#!/bin/bash\n#SBATCH --job-name={name}\n#SBATCH --cpus-per-task={}\n#SBATCH --mem={}M\n{}\
             #SBATCH --requeue\n#SBATCH --open-mode=append\n#SBATCH --signal=B:TERM@60\n#SBATCH --output={}\n",
            self.args.cpus,
            bytes.div_ceil(1 << 20),
            seconds.map_or_else(String::new, |seconds| format!("#SBATCH --time={}\n", time(seconds))),
            option(&log)
        );
        if cards > 0 {
            let _ = writeln!(text, "#SBATCH --gres=gpu:{cards}");
        }
        for options in &self.args.sbatch {
            let _ = writeln!(text, "#SBATCH {}", options.trim());
        }
        text
    }

    /// The time of a part in seconds on the requested cores or GPU, with a margin; `None` if the plan has no estimate.
    fn seconds(&self) -> Option<f64> {
        let here = if self.cards() > 0 { 1.0 } else { self.wave.threads as f64 / f64::from(self.args.cpus) };
        Some(TIME_MARGIN * self.wave.longest()? * here + TIME_BESIDE)
    }

    /// Number of GPUs for a part, as requested by the study.
    fn cards(&self) -> usize {
        match self.plan.study.device.as_deref().map(str::parse) {
            Some(Ok(DeviceChoice::Only(Device::Cuda(cards)))) => cards.len(),
            _ => 0,
        }
    }

    fn part(&self) -> String {
        let head = self.head("circuit-scaling", "part-%A_%a.log", self.seconds(), self.cards());
        let array = format!("#SBATCH --array=1-{}\n", self.wave.parts.len());
        head + &array + "\n" + &self.body("part")
    }

    fn gather(&self) -> String {
        let seconds = self.seconds().unwrap_or(0.0).max(6.0 * TIME_BESIDE);
        self.head("circuit-scaling-gather", "gather-%j.log", Some(seconds), 0) + "\n" + &self.body("gather")
    }

    fn body(&self, command: &str) -> String {
        let out = word(&self.out.display().to_string());
        format!(
            "# The program saves its results when SLURM signals that the time limit is near, and exits with code {REQUEUE}: the \
             task\n\
             # is then requeued and resumes. A killed task is requeued {RESTARTS} times.\n\
             {} --threads \"$SLURM_CPUS_PER_TASK\" {command} --out {out} &\n\
             program=$!\n\
             trap 'kill -TERM \"$program\"' TERM\n\
             # A trap interrupts `wait`, so repeat it for as long as the program is running.\n\
             while :; do\n    \
                 wait \"$program\"\n    \
                 code=$?\n    \
                 kill -0 \"$program\" 2>/dev/null || break\n\
             done\n\
             if [ \"$code\" -eq {REQUEUE} ] || {{ [ \"$code\" -gt 128 ] && [ \"${{SLURM_RESTART_COUNT:-0}}\" -lt {RESTARTS} ]; }}; \
             then\n    \
                 scontrol requeue \"$SLURM_JOB_ID\"\n\
             fi\n\
             exit \"$code\"\n",
            word(&self.program.display().to_string())
        )
    }
}

/// Whole minutes in SLURM's format: days-hours:minutes:seconds.
fn time(seconds: f64) -> String {
    let minutes = (seconds / 60.0).ceil().max(1.0) as u64;
    let (days, hours, minutes) = (minutes / 1440, minutes / 60 % 24, minutes % 60);
    format!("{days}-{hours:02}:{minutes:02}:00")
}

/// A quoted word for a shell command.
fn word(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,@%+$".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// A path as an option's value in a script.
fn option(path: &Path) -> String {
    let text = path.display().to_string();
    if text.contains(char::is_whitespace) { format!("\"{text}\"") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_words_are_what_their_readers_take() {
        assert_eq!(time(59.0), "0-00:01:00");
        assert_eq!(time(3601.0), "0-01:01:00");
        assert_eq!(time(90_000.0), "1-01:00:00");
        assert_eq!(word("/a/b-c_1.2"), "/a/b-c_1.2");
        assert_eq!(word("it's here"), "'it'\\''s here'");
        assert_eq!(word("a;rm -rf b"), "'a;rm -rf b'");
    }
}
