//! `gather`: joins the parts of a study.

use std::collections::{BTreeMap, BTreeSet};

use cs_analysis::layout::Layout;
use cs_analysis::per_prompt::PerPromptScan;
use cs_analysis::words::counted;
use cs_circuits::prompts::PromptSet;
use cs_engine::Compute;

use super::super::ablate::ablate_step;
use super::super::checked::CheckedRun;
use super::super::costs::Model;
use super::super::run::Run;
use super::super::scan::{ModelScan, prompts_folder};
use super::super::trace::trace_step;
use super::cutting::{all_parts, experiments};
use super::error::PartsError;
use super::experiments::{Bench, Experiments, Gathered, tokenize};
use super::part::{check_weights, problem, result, run_args};
use super::plan::{Part, Plan, Unit, UnitKind, Wave, WaveKind, part_folder};
use super::slurm;
use super::state::{Made, ranges};
use crate::args::{GatherArgs, Stage};
use crate::error::CliError;
use crate::handle::ModelHandle;
use crate::measured::Measured;
use crate::progress::Display;

/// Joins the results of the current wave, then plans the next one, or runs every later
/// stage.
pub fn gather(args: &GatherArgs, display: Display) -> Result<String, CliError> {
    let out = &args.study.out;
    let mut plan = Plan::read(out)?;
    let run_args = run_args(&plan, out, args.memory.unwrap_or(plan.memory))?;
    let compute = run_args.measure.device.planned()?;
    let mut run = Run::open(CheckedRun::new(run_args)?, &compute, display, false)?;
    run.handles.iter().try_for_each(|handle| check_weights(&plan, handle))?;
    let folder = prompts_folder(&run.folder.layout);
    plan.check_files(out, |task| PromptSet::path(&folder, task))?;
    let prompts = run.tasks.iter().map(|task| run.resolve(task)).collect::<Result<Vec<_>, _>>()?;
    run.write_study()?;

    let wave = plan.wave(out)?.clone();
    let mut gathering = Gathering::new(&plan, &wave, &run);
    if let Some(kind) = &gathering.device {
        ModelHandle::run_on(&mut run.handles, &Compute::of_kind(kind, &compute), display);
    }
    match wave.kind {
        WaveKind::Scans => gathering.scans(&mut run, &prompts, display)?,
        WaveKind::Experiments => gathering.experiments(&mut run, &prompts)?,
    }
    gathering.check(&run)?;
    let device = gathering.device.clone();
    if wave.kind == WaveKind::Scans {
        plan.device = device;
        if let Some(next) = experiments(&run, &prompts, wave.parts.len())? {
            let n = next.parts.len();
            plan.waves.push(next);
            plan.write(out)?;
            let out = out.display();
            return Ok(format!(
                "All scans are gathered. The experiments on them (attention, tracing, set ablation) are divided into {}: run {} again,\n  circuit-scaling part 1 --out {out}\nthen gather again:\n  circuit-scaling gather --out {out}\n",
                counted(n, "part", "parts"),
                all_parts(n)
            ));
        }
        plan.write(out)?;
    }
    run.all_stages()
}

/// The state of gathering a wave's parts.
struct Gathering<'a> {
    plan: &'a Plan,
    wave: &'a Wave,
    /// The device of the parts, or of most of them if they differ.
    device: Option<String>,
    /// Problems of parts that are needed.
    problems: BTreeMap<usize, String>,
}

impl<'a> Gathering<'a> {
    fn new(plan: &'a Plan, wave: &'a Wave, run: &Run) -> Self {
        let out = run.folder.layout.root();
        let mut devices: BTreeMap<String, usize> = BTreeMap::new();
        for part in &wave.parts {
            let folder = part_folder(out, wave.kind, part.part);
            if problem(plan, wave, part, &folder).is_none() {
                let made = Made::read(&folder);
                made.into_iter().for_each(|made| *devices.entry(made.device).or_default() += 1);
            }
        }
        let most = devices.into_iter().max_by_key(|(_, n)| *n).map(|(device, _)| device);
        Self { plan, wave, device: plan.device.clone().or(most), problems: BTreeMap::new() }
    }

    /// Whether a part's results can be used; if not, records why.
    fn is_usable(&mut self, run: &Run, part: &Part) -> bool {
        let folder = part_folder(run.folder.layout.root(), self.wave.kind, part.part);
        let of_device = || {
            let made = Made::read(&folder)?.device;
            let other = self.device.as_ref().filter(|device| **device != made)?;
            Some(format!("computed on {made}, and the others on {other}"))
        };
        match problem(self.plan, self.wave, part, &folder).or_else(of_device) {
            None => true,
            Some(why) => {
                self.problems.insert(part.part, why);
                false
            }
        }
    }

    fn unreadable(&mut self, part: &Part) {
        let why = "its results cannot be read, or are for other inputs: remove its folder".to_owned();
        self.problems.insert(part.part, why);
    }

    /// The pieces of one line of work, in order.
    fn pieces(&self, is_of: impl Fn(&Unit) -> bool) -> Vec<(&'a Part, &'a Unit)> {
        let of_part = |part: &'a Part| part.units.iter().map(move |unit| (part, unit));
        let mut pieces: Vec<_> =
            self.wave.parts.iter().flat_map(of_part).filter(|(_, unit)| is_of(unit)).collect();
        pieces.sort_by_key(|(_, unit)| unit.from);
        pieces
    }

    /// Joins the scans that are not in the study yet.
    fn scans(&mut self, run: &mut Run, prompts: &[PromptSet], display: Display) -> Result<(), CliError> {
        for index in 0..run.handles.len() {
            for set in prompts {
                self.scan(run, index, set, display)?;
            }
        }
        Ok(())
    }

    fn scan(
        &mut self,
        run: &mut Run,
        index: usize,
        set: &PromptSet,
        display: Display,
    ) -> Result<(), CliError> {
        let handle = &run.handles[index];
        let scan = ModelScan::new(&run.folder.layout, handle, set, &run.args.measure, None)?;
        if scan.is_done(&run.folder) {
            return Ok(());
        }
        let (model, task) = (&handle.name, set.task.name());
        let pieces =
            self.pieces(|unit| unit.kind == UnitKind::Scan && unit.model == *model && unit.task == task);
        let mut scans = Vec::new();
        for &(part, unit) in &pieces {
            if !self.is_usable(run, part) {
                continue;
            }
            let folder = part_folder(run.folder.layout.root(), self.wave.kind, part.part);
            let read = PerPromptScan::read(&Layout::new(folder).per_prompt(task, model)).ok();
            let heads = unit.heads(handle.spec().n_heads);
            match read.filter(|s| s.meta.only_heads.as_ref() == Some(&heads) && scan.is_of(&s.meta)) {
                Some(piece) => scans.push(piece),
                None => self.unreadable(part),
            }
        }
        if scans.len() < pieces.len() {
            return Ok(());
        }
        let Some(whole) = PerPromptScan::join(&scans) else {
            pieces.iter().for_each(|(part, _)| self.unreadable(part));
            return Ok(());
        };
        display.note(&format!("{model:16} {task:12} {} joined", counted(scans.len(), "part", "parts")));
        scan.keep(&mut run.folder, &whole).map(drop)
    }

    /// Passes the parts' results to the stages, unless these are done.
    fn experiments(&mut self, run: &mut Run, prompts: &[PromptSet]) -> Result<(), CliError> {
        let has_done = |step: &str| run.folder.has_done(step);
        let is_done = |stage: Stage, model: &str| match stage {
            Stage::Trace => run.contrasts.iter().all(|c| has_done(&trace_step(c, "v", model))),
            Stage::Ablate => run.contrasts.iter().all(|c| has_done(&ablate_step(c, model))),
            _ => has_done(&format!("attend {model}")) && has_done(&format!("roles {model}")),
        };
        let stages: Vec<Stage> = run.stages().iter().copied().filter(|s| s.runs_experiments()).collect();
        if run.handles.iter().all(|s| stages.iter().all(|&stage| is_done(stage, &s.name))) {
            return Ok(());
        }
        let mut measured = Measured::on(self.plan.device.clone());
        let out = run.folder.layout.root().to_owned();
        let gathered = Gathered::read(&run.args, &run.names(), &run.task_names())?;
        for handle in &run.handles {
            let tokenized = tokenize(prompts, handle)?;
            let tested = gathered.tested(&run.folder.layout, handle)?;
            let layout = &run.folder.layout;
            let options = handle.scan_options(run.args.measure.scan_options());
            let model = Model { args: &run.args, handle, tokenized: &tokenized, layout, options };
            let experiments = Experiments::of(&model, &gathered.contrasts);
            let bench = Bench { tested: &tested, experiments: &experiments, args: &run.args };
            for (part, unit) in self.pieces(|unit| unit.model == handle.name) {
                if !self.is_usable(run, part) {
                    continue;
                }
                let digest = self.plan.digest(self.wave, part);
                let path = result(&part_folder(&out, self.wave.kind, part.part), part, unit);
                if !bench.collect(unit, (&digest, &path), &mut measured) {
                    self.unreadable(part);
                }
            }
        }
        run.folder.measured = measured;
        Ok(())
    }

    /// Reports which parts are missing, why, and how to run them.
    fn check(&self, run: &Run) -> Result<(), PartsError> {
        if self.problems.is_empty() {
            return Ok(());
        }
        let whys: BTreeSet<&String> = self.problems.values().collect();
        let of_why = |why: &String| {
            let parts: Vec<usize> =
                self.problems.iter().filter(|(_, w)| *w == why).map(|(part, _)| *part).collect();
            let noun = if parts.len() == 1 { "part" } else { "parts" };
            format!("{noun} {} {why}", ranges(&parts))
        };
        let n = self.problems.len();
        let list = whys.into_iter().map(of_why).collect::<Vec<_>>().join("; ");
        let verb = if n == 1 { "is" } else { "are" };
        let parts = ranges(&self.problems.keys().copied().collect::<Vec<_>>());
        let out = run.folder.layout.root();
        Err(PartsError::Missing {
            problems: format!(
                "{n} of {} {verb} missing: {list}",
                counted(self.wave.parts.len(), "part", "parts")
            ),
            which: if n == 1 { "it" } else { "them" },
            redo: match slurm::part_script(out) {
                script if script.exists() => {
                    format!(
                        "circuit-scaling part {parts} --out {}` or `sbatch --array={parts} {}",
                        out.display(),
                        script.display()
                    )
                }
                _ => format!("circuit-scaling part {parts} --out {}", out.display()),
            },
        })
    }
}
