//! `part`: runs one part of a study, in its own folder.

use std::path::Path;
use std::time::Instant;

use clap::{Args, FromArgMatches};
use cs_analysis::layout::Layout;
use cs_circuits::prompts::PromptSet;

use super::super::costs::Model;
use super::super::plan::duration;
use super::super::scan::{ModelScan, prompts_folder};
use super::error::PartsError;
use super::experiments::{Bench, Experiments, Gathered, tokenize};
use super::heartbeat::{Heartbeat, Sign, claim};
use super::plan::{Part, Plan, Unit, VERSION, Wave, WaveKind, part_folder};
use super::state::{End, Made, State};
use crate::args::{PartArgs, RunArgs};
use crate::digest::Digest256;
use crate::error::{CliError, one_line};
use crate::handle::ModelHandle;
use crate::partial;
use crate::progress::{Display, Share};
use crate::stop;
use crate::study_folder::StudyFolder;

/// The variables in which schedulers put the index of an array task, and the offset from it to the part's
/// number.
pub const INDICES: [(&str, usize); 4] =
    [("SLURM_ARRAY_TASK_ID", 0), ("PBS_ARRAY_INDEX", 0), ("SGE_TASK_ID", 0), ("JOB_COMPLETION_INDEX", 1)];

/// Runs the requested parts, one after the other.
pub fn part(args: &PartArgs, display: Display) -> Result<String, CliError> {
    let out = &args.study.out;
    let plan = Plan::read(out)?;
    let wave = plan.wave(out)?;
    let numbers = match &args.part {
        Some(text) => numbers(text)?,
        None => vec![of_array(|name| std::env::var(name).ok()).ok_or(PartsError::NoIndex)?],
    };
    let n = wave.parts.len();
    let mut text = String::new();
    for number in numbers {
        let part = number.checked_sub(1).and_then(|at| wave.parts.get(at));
        let part = part.ok_or(PartsError::NoSuchPart { part: number, n })?;
        let job = Job { out, plan: &plan, wave, part, memory: args.memory.unwrap_or(plan.memory), display };
        text += &job.run()?;
    }
    Ok(text)
}

/// The part given by an array job's environment.
fn of_array(variable: impl Fn(&str) -> Option<String>) -> Option<usize> {
    let of = |(name, more): (&str, usize)| variable(name)?.trim().parse::<usize>().ok().map(|i| i + more);
    INDICES.into_iter().find_map(of)
}

/// Numbers of parts, such as `3` or `2-5,9`.
fn numbers(text: &str) -> Result<Vec<usize>, PartsError> {
    let bad = || PartsError::BadIndex { text: text.to_owned() };
    let number = |digits: &str| digits.trim().parse::<usize>().ok().filter(|n| (1..=100_000).contains(n));
    let mut all = Vec::new();
    for item in text.split(',') {
        let (first, last) = item.split_once('-').unwrap_or((item, item));
        let (first, last) = (number(first).ok_or_else(bad)?, number(last).ok_or_else(bad)?);
        if first > last {
            return Err(bad());
        }
        all.extend(first..=last);
    }
    Ok(all)
}

/// The options of a plan's run.
///
/// # Errors
/// An invalid value in the plan.
pub fn run_args(plan: &Plan, out: &Path, memory: usize) -> Result<RunArgs, CliError> {
    let bare = RunArgs::augment_args(clap::Command::new("run")).get_matches_from(["run"]);
    let mut args = RunArgs::from_arg_matches(&bare).unwrap_or_else(|error| error.exit());
    plan.study.clone().fill(&super::plan::path(out), &mut args, |_| false)?;
    args.tables.study.out = out.to_owned();
    args.measure.memory = memory;
    Ok(args)
}

/// Checks that a model's weights match the plan.
///
/// # Errors
/// [`PartsError::Weights`]
pub fn check_weights(plan: &Plan, handle: &ModelHandle) -> Result<(), PartsError> {
    let here = handle.info.checkpoint.weight_hash();
    match plan.models.iter().find(|model| model.name == handle.name) {
        Some(planned) if planned.weight_hash == here => Ok(()),
        planned => Err(PartsError::Weights {
            model: handle.name.clone(),
            here: here.get(..12).unwrap_or(here).to_owned(),
            plan: planned.map_or("none", |p| p.weight_hash.get(..12).unwrap_or_default()).to_owned(),
        }),
    }
}

/// A part to run on this machine.
struct Job<'a> {
    out: &'a Path,
    plan: &'a Plan,
    wave: &'a Wave,
    part: &'a Part,
    memory: usize,
    display: Display,
}

impl Job<'_> {
    fn run(mut self) -> Result<String, CliError> {
        let (number, n) = (self.part.part, self.wave.parts.len());
        let name = format!("part {number} of {n} ({})", self.wave.kind.name());
        if self.part.units.is_empty() {
            return Ok(format!("{name} has nothing to do\n"));
        }
        let path = part_folder(self.out, self.wave.kind, number);
        let compute = run_args(self.plan, self.out, self.memory)?.measure.device.choose(self.display)?;
        let device = compute.kind();
        let made = Made {
            plan: self.plan.digest(self.wave, self.part),
            program_version: VERSION.to_owned(),
            device: device.clone(),
        };
        if let Some(plan) = self.plan.device.clone().filter(|plan| *plan != device) {
            return Err(PartsError::Device { here: device, plan }.into());
        }
        let mut folder = self.open(&path)?;
        match Made::read(&path) {
            Some(before) if before == made => {
                if matches!(State::read(&path), State::Done(_)) {
                    return Ok(format!("{name} is done already\n"));
                }
            }
            Some(before) => {
                let why = match before.device == made.device {
                    true => "with another plan or version".to_owned(),
                    false => format!(
                        "on {}, but this machine computes on {device} (a plan made with {} only runs on such machines)",
                        before.device,
                        partial::options(&before.device)
                    ),
                };
                self.display
                    .warn(&format!("part {number} was started {why}: it is run again from the start"));
                folder.forget()?;
            }
            None => {}
        }
        made.write(&path)?;
        let share: &'static Share = Box::leak(Box::default());
        self.display.share = Some(share);
        let start = Instant::now();
        let result = {
            let _heartbeat = Heartbeat::start(&path, share);
            self.units(&mut folder, share)
        };
        let seconds = start.elapsed().as_secs_f64();
        match result {
            Ok(()) => {
                End { seconds, error: None }.write(&path)?;
                Ok(format!("{name} is done, in {}\n", duration(seconds)))
            }
            Err(error) => {
                if stop::asked().is_none() {
                    // On a full disk this fails, but the command still reports the error.
                    let _ = End { seconds, error: Some(one_line(&error)) }.write(&path);
                }
                Err(error)
            }
        }
    }

    /// The part's own folder.
    fn open(&self, path: &Path) -> Result<StudyFolder, CliError> {
        let part = self.part.part;
        let busy = |by| CliError::from(PartsError::Busy { part, by });
        match StudyFolder::open_or(path, |_| claim(path).map_err(busy)) {
            Err(CliError::InUse { .. }) => Err(busy(
                Sign::read(path)
                    .map_or_else(|| "since a moment ago".to_owned(), |(sign, age)| sign.describe(age)),
            )),
            other => other,
        }
    }

    /// Runs every unit that is not done yet, with one model in memory at a time.
    fn units(&self, folder: &mut StudyFolder, share: &Share) -> Result<(), CliError> {
        let args = run_args(self.plan, self.out, self.memory)?;
        let layout = Layout::new(self.out);
        let record = |task: &str| PromptSet::path(&prompts_folder(&layout), task);
        self.plan.check_files(self.out, record)?;
        let prompts = self
            .plan
            .tasks
            .iter()
            .map(|planned| Ok(PromptSet::load(&record(&planned.task))?))
            .collect::<Result<Vec<PromptSet>, CliError>>()?;
        let gathered = match self.wave.kind {
            WaveKind::Scans => None,
            WaveKind::Experiments => {
                let names: Vec<String> = self.plan.models.iter().map(|model| model.name.clone()).collect();
                let tasks: Vec<String> = self.plan.tasks.iter().map(|planned| planned.task.clone()).collect();
                Some(Gathered::read(&args, &names, &tasks)?)
            }
        };
        let digest = self.plan.digest(self.wave, self.part);
        let total: f64 = self.part.units.iter().map(|unit| unit.tflop).sum::<f64>().max(f64::MIN_POSITIVE);
        let mut done = 0.0;
        for units in self.part.units.chunk_by(|a, b| a.model == b.model) {
            let handle = self.handle(&args, &units[0].model)?;
            let decoder = handle.lazy();
            let tokenized = tokenize(&prompts, &handle)?;
            let experiments = gathered.as_ref().map(|gathered| {
                let options = handle.scan_options(args.measure.scan_options());
                let model =
                    Model { args: &args, handle: &handle, tokenized: &tokenized, layout: &layout, options };
                let tested = gathered.tested(&layout, &handle)?;
                Ok::<_, CliError>((tested, Experiments::of(&model, &gathered.contrasts)))
            });
            let experiments = experiments.transpose()?;
            for unit in units {
                share.begin(done / total, unit.tflop / total);
                match &experiments {
                    None => {
                        let heads = unit.heads(handle.spec().n_heads);
                        let set = prompts.iter().find(|set| set.task.name() == unit.task);
                        let set = set.ok_or_else(|| PartsError::Changed { file: record(&unit.task) })?;
                        let scan = ModelScan::new(&folder.layout, &handle, set, &args.measure, Some(&heads))?;
                        if !scan.is_done(folder) {
                            scan.run_part(folder, decoder.get()?, self.display)?;
                        }
                    }
                    Some((tested, experiments)) => {
                        let bench = Bench { tested, experiments, args: &args };
                        let path = result(folder.layout.root(), self.part, unit);
                        bench.measure(unit, (&digest, &path), &decoder, self.display)?;
                    }
                }
                done += unit.tflop;
            }
        }
        Ok(())
    }

    /// A model of the plan on this machine, without using the network.
    fn handle(&self, args: &RunArgs, name: &str) -> Result<ModelHandle, CliError> {
        let at = self.plan.models.iter().position(|model| model.name == name);
        let typed = at.and_then(|at| args.measure.models.get(at)).map_or(name, String::as_str);
        let mut handle = ModelHandle::open(typed, self.display)?;
        let compute = args.measure.device.choose(self.display)?;
        ModelHandle::run_on(std::slice::from_mut(&mut handle), &compute, self.display);
        check_weights(self.plan, &handle)?;
        handle.check_memory()?;
        Ok(handle)
    }
}

/// The path of the results of a unit of the second wave.
pub fn result(folder: &Path, part: &Part, unit: &Unit) -> std::path::PathBuf {
    let index = part.units.iter().position(|u| u == unit).unwrap_or(0);
    folder.join(unit.file_name(index))
}

/// Why the results in a part's folder cannot be used, if they cannot.
pub fn problem(plan: &Plan, wave: &Wave, part: &Part, folder: &Path) -> Option<String> {
    let state = State::read(folder);
    if !matches!(state, State::Done(_)) {
        return Some(state.describe());
    }
    let expected: Digest256 = plan.digest(wave, part);
    match Made::read(folder) {
        Some(made) if made.program_version != VERSION => {
            Some(format!("made by version {} of the program, and this is {VERSION}", made.program_version))
        }
        Some(made) if made.plan == expected => None,
        _ => Some("made from another plan, other prompts or other weights".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_by_number() {
        let of = |text| numbers(text).unwrap_or_default();
        assert_eq!(of("3"), [3]);
        assert_eq!(of("2-4,9"), [2, 3, 4, 9]);
        for bad in ["", "0", "-1", "a", "4-2", "1,,2", "1-99999999999", "1-200000"] {
            assert!(numbers(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn parts_by_array_index() {
        let of = |name: &'static str, value: &'static str| {
            of_array(move |asked| (asked == name).then(|| value.to_owned()))
        };
        assert_eq!(of("SLURM_ARRAY_TASK_ID", "7"), Some(7));
        assert_eq!(of("PBS_ARRAY_INDEX", "1"), Some(1));
        assert_eq!(of("SGE_TASK_ID", "2"), Some(2));
        // Outside of arrays Grid Engine sets `undefined`; Kubernetes counts from 0.
        assert_eq!(of("SGE_TASK_ID", "undefined"), None);
        assert_eq!(of("JOB_COMPLETION_INDEX", "0"), Some(1));
        assert_eq!(of("HOME", "3"), None);
    }
}
