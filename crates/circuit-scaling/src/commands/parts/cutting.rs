//! `parts`: divides a study into parts, or shows what that would give.

use std::fmt::Write;
use std::time::Duration;

use cs_analysis::layout::Layout;
use cs_analysis::words::counted;
use cs_circuits::parts::{Piece, cost, cut, makespan};
use cs_circuits::prompts::{PromptSet, Tokenize};
use cs_circuits::task::Task;

use super::super::checked::CheckedRun;
use super::super::costs::{Model, Planned, rates};
use super::super::plan::duration;
use super::super::run::Run;
use super::super::scan::{ModelScan, prompts_folder};
use super::error::PartsError;
use super::experiments::{Experiments, Gathered, tokenize};
use super::lines::{self, Lines};
use super::plan::{self, Part, Plan, PlannedModel, PlannedTask, VERSION, Wave, WaveKind};
use crate::args::{PartsArgs, RunArgs};
use crate::digest::Digest256;
use crate::error::CliError;
use crate::handle::ModelHandle;
use crate::progress::Display;

/// Calibration time, for all models together.
const CALIBRATION: Duration = Duration::from_secs(1);
/// Numbers of machines in a dry run.
const MACHINES: [usize; 9] = [1, 2, 4, 8, 16, 32, 64, 128, 256];

/// Divides a study and writes the plan, or shows what that would give. `is_given` says which options are given on the
/// command line.
pub fn parts(
    args: &PartsArgs,
    is_given: impl Fn(&str) -> bool,
    display: Display,
) -> Result<String, CliError> {
    let run_args = CheckedRun::filled(&args.run, is_given)?;
    let out = run_args.args.tables.study.out.clone();
    if args.dry_run {
        return dry_run(run_args, args.parts, display);
    }
    let plan = cut_study(run_args, args.parts, display)?;
    let wave = plan.wave(&out)?;
    let mut text =
        describe(wave.kind, wave.parts.iter().map(|part| part.tflop).collect::<Vec<_>>().as_slice());
    let (n, out) = (args.parts, out.display());
    let _ = match wave.longest() {
        Some(seconds) => {
            writeln!(text, "A part takes up to about {} on a machine like this.", duration(seconds))
        }
        None => writeln!(
            text,
            "The time of a part is unknown: this machine does not have the device that parts run on ({}).",
            plan.study.device.as_deref().unwrap_or("auto")
        ),
    };
    let _ = writeln!(
        text,
        "The plan is in {out}/parts/plan.json. Do {}, on any machines that have the folder:\n  circuit-scaling part 1 --out {out}\n\
         then gather:\n  circuit-scaling gather --out {out}",
        all_parts(n)
    );
    Ok(text)
}

/// Resolves and records a study's prompts, and writes the plan of its first wave; keeps an existing plan of the same study.
///
/// # Errors
/// A study that cannot be run, or the plan of another one in its folder.
pub fn cut_study(checked: CheckedRun, n_parts: usize, display: Display) -> Result<Plan, CliError> {
    let out = checked.args.tables.study.out.clone();
    let before = match Plan::read(&out) {
        Err(CliError::Parts(PartsError::NoPlan { .. })) => None,
        other => Some(other?),
    };
    let compute = checked.args.measure.device.planned()?;
    let mut run = Run::open(checked, &compute, display, true)?;
    let prompts = run.tasks.iter().map(|task| run.resolve(task)).collect::<Result<Vec<_>, _>>()?;
    run.write_study()?;
    let record = |task: &str| PromptSet::path(&prompts_folder(&run.folder.layout), task);
    let task = |set: &PromptSet| {
        let task = set.task.name().to_owned();
        Digest256::of_file(&record(&task)).map(|prompts| PlannedTask { task, prompts })
    };
    let mut plan = Plan {
        program_version: VERSION.to_owned(),
        study: run.study_file(),
        memory: run.args.measure.memory,
        models: run.handles.iter().map(planned).collect(),
        tasks: prompts.iter().filter_map(task).collect(),
        device: None,
        waves: vec![],
    };
    if let Some(before) = before {
        let n_before = before.waves.first().map_or(0, |wave| wave.parts.len());
        let is_same =
            (&before.study, &before.models, &before.tasks) == (&plan.study, &plan.models, &plan.tasks);
        if is_same && n_before == n_parts {
            return Ok(before);
        }
        if plan::has_results(&out) {
            return Err(PartsError::OtherPlan { plan: plan::path(&out) }.into());
        }
    }
    let is_done = |handle: &ModelHandle, set: &PromptSet| {
        let scan = ModelScan::new(&run.folder.layout, handle, set, &run.args.measure, None)?;
        Ok(scan.is_done(&run.folder))
    };
    let scans = lines::scans((&run.args, &run.handles), &prompts, is_done)?;
    let wave = match scans.lines.is_empty() {
        false => Some(wave(&run.handles, WaveKind::Scans, &scans, n_parts)?),
        true => experiments(&run, &prompts, n_parts)?,
    };
    plan.waves.push(wave.ok_or(PartsError::Nothing)?);
    plan.write(&out)?;
    Ok(plan)
}

fn planned(handle: &ModelHandle) -> PlannedModel {
    let checkpoint = &handle.info.checkpoint;
    PlannedModel {
        name: handle.name.clone(),
        weight_hash: checkpoint.weight_hash().to_owned(),
        weight_bytes: checkpoint.weight_bytes(),
    }
}

/// The wave of experiments after the scans are gathered; `None` if the study has none.
///
/// # Errors
/// Scans that are missing.
pub fn experiments(run: &Run, prompts: &[PromptSet], n_parts: usize) -> Result<Option<Wave>, CliError> {
    if !run.stages().iter().any(|stage| stage.runs_experiments()) {
        return Ok(None);
    }
    let gathered = Gathered::read(&run.args, &run.names(), &run.task_names())?;
    let lines = experiment_lines((&run.args, &run.handles), prompts, &gathered.contrasts)?;
    let mut wave = wave(&run.handles, WaveKind::Experiments, &lines, n_parts)?;
    let layout = &run.folder.layout;
    for handle in &run.handles {
        for set in prompts {
            let path = layout.per_prompt(set.task.name(), &handle.name);
            if let Some(digest) = Digest256::of_file(&path) {
                wave.scans.insert(path.strip_prefix(layout.root()).unwrap_or(&path).to_owned(), digest);
            }
        }
    }
    Ok((!lines.lines.is_empty()).then_some(wave))
}

fn experiment_lines(
    (args, handles): (&RunArgs, &[ModelHandle]),
    prompts: &[PromptSet],
    contrasts: &[Planned],
) -> Result<Lines, CliError> {
    let tokenized = handles.iter().map(|s| tokenize(prompts, s)).collect::<Result<Vec<_>, _>>()?;
    let layout = Layout::new(&args.tables.study.out);
    let mut models = Vec::new();
    for (handle, tokenized) in handles.iter().zip(&tokenized) {
        let options = handle.scan_options(args.measure.scan_options());
        let model = Model { args, handle, tokenized, layout: &layout, options };
        let experiments = Experiments::of(&model, contrasts);
        models.push((model, experiments));
    }
    lines::experiments((args, handles), &models)
}

/// Lines divided into parts, with the estimated time of each.
fn wave(handles: &[ModelHandle], kind: WaveKind, lines: &Lines, n_parts: usize) -> Result<Wave, CliError> {
    let loading = lines::loading(handles);
    let rates = rates(handles, CALIBRATION)?;
    let part = |(index, pieces): (usize, &Vec<Piece>)| {
        let of_model = |pieces: &[Piece]| cost(pieces, &lines.lines, &loading);
        let by_model = pieces.chunk_by(|a, b| lines.lines[a.line].model == lines.lines[b.line].model);
        let of_rate = |of: &[Piece]| Some(of_model(of) / rates[lines.lines[of[0].line].model]?.dense);
        let seconds = by_model.map(of_rate).sum();
        let units = pieces.iter().map(|piece| lines.unit(piece)).collect();
        Part { part: index + 1, tflop: of_model(pieces) / 1e12, seconds, units }
    };
    let parts = cut(&lines.lines, &loading, n_parts).iter().enumerate().map(part).collect();
    Ok(Wave { kind, threads: rayon::current_num_threads(), scans: Default::default(), parts })
}

/// How balanced the parts are.
fn describe(kind: WaveKind, tflop: &[f64]) -> String {
    let done: Vec<f64> = tflop.iter().copied().filter(|&cost| cost > 0.0).collect();
    let (low, high) = done.iter().fold((f64::MAX, 0.0f64), |(l, h), &c| (l.min(c), h.max(c)));
    let empty = match tflop.len() - done.len() {
        0 => String::new(),
        n => format!("; {n} more have nothing to do"),
    };
    format!(
        "{}: {} of {} to {} TFLOP{empty}\n",
        kind.name(),
        counted(done.len(), "part", "parts"),
        significant(low),
        significant(high)
    )
}

/// All parts, as a command to do them.
pub fn all_parts(n: usize) -> String {
    if n == 1 { "part 1".to_owned() } else { format!("parts 1 to {n}") }
}

/// A number with about four digits.
fn significant(x: f64) -> String {
    match x {
        x if x >= 100.0 => format!("{x:.1}"),
        x if x >= 1.0 => format!("{x:.3}"),
        x => format!("{x:.6}"),
    }
}

/// What parts would cost, and the speed-up from more machines. Writes nothing and reads no weights.
fn dry_run(checked: CheckedRun, n_parts: usize, display: Display) -> Result<String, CliError> {
    let CheckedRun { args, tasks, contrasts, .. } = checked;
    let handles = ModelHandle::fetch_all(&args.measure.models, display)?;
    let tokenizers: Vec<&dyn Tokenize> = handles.iter().map(|s| s as &dyn Tokenize).collect();
    let options = args.measure.prompt_options();
    let resolve = |task: &Task| Ok(PromptSet::resolve(task, &options, &tokenizers)?);
    let prompts = tasks.iter().map(resolve).collect::<Result<Vec<_>, CliError>>()?;
    let loading = lines::loading(&handles);
    let of = (&args, &handles[..]);
    let contrasts: Vec<Planned> =
        contrasts.into_iter().map(|contrast| Planned { contrast, heads: None }).collect();
    let waves = [
        (WaveKind::Scans, lines::scans(of, &prompts, |_, _| Ok(false))?),
        (WaveKind::Experiments, experiment_lines(of, &prompts, &contrasts)?),
    ];
    let mut text = String::new();
    let (mut one, mut costs) = (0.0, Vec::new());
    for (kind, lines) in waves.iter().filter(|(_, lines)| !lines.lines.is_empty()) {
        let parts = cut(&lines.lines, &loading, n_parts);
        let of_part = |part: &Vec<Piece>| cost(part, &lines.lines, &loading);
        let of_wave: Vec<f64> = parts.iter().map(of_part).collect();
        text += &describe(*kind, &of_wave.iter().map(|cost| cost / 1e12).collect::<Vec<_>>());
        let (low, high) = of_wave.iter().fold((f64::MAX, 0.0f64), |(l, h), &c| (l.min(c), h.max(c)));
        let total = lines.total(&loading);
        let again = of_wave.iter().sum::<f64>() / total - 1.0;
        let _ = writeln!(
            text,
            "  the most expensive part costs {:.1}% more than the cheapest; repeated work adds {:.1}% to one machine's {} TFLOP",
            100.0 * (high / low - 1.0),
            100.0 * again,
            significant(total / 1e12)
        );
        one += total;
        costs.push(of_wave);
    }
    if costs.is_empty() {
        return Err(PartsError::Nothing.into());
    }
    let _ = writeln!(text, "\n{:>8} {:>9} {:>9}", "machines", "speed-up", "of ideal");
    for n in MACHINES {
        let time: f64 = costs.iter().map(|of_wave| makespan(of_wave, n)).sum();
        let _ = writeln!(text, "{n:8} {:8.1}x {:8.0}%", one / time, 100.0 * one / time / n as f64);
    }
    let _ = writeln!(
        text,
        "Equal machines, one part each at a time; experiments are counted with all random sets. Gathering is not counted."
    );
    Ok(text)
}
