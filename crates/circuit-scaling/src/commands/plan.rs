//! `plan`: estimates the cost of a run.

use std::fmt::Write;

use cs_circuits::prompts::{PromptSet, Tokenize};
use cs_engine::{Cost, Device};

use super::checked::CheckedRun;
use super::costs::{CALIBRATION, StageCost, costs, time};
use super::scan::check_references;
use crate::args::{PlanArgs, Stage};
use crate::error::CliError;
use crate::handle::ModelHandle;
use crate::progress::Display;

/// Prints operations, memory and expected time of each model and stage, and of all together. `is_given` says which options
/// are given on the command line.
pub fn plan(args: &PlanArgs, is_given: impl Fn(&str) -> bool, display: Display) -> Result<String, CliError> {
    let CheckedRun { args, tasks, .. } = CheckedRun::filled(&args.run, is_given)?;
    let compute = args.measure.device.planned()?;
    let mut handles = ModelHandle::fetch_all(&args.measure.models, display)?;
    ModelHandle::run_on(&mut handles, &compute, display);
    let tokenizers: Vec<&dyn Tokenize> = handles.iter().map(|s| s as &dyn Tokenize).collect();
    let prompts = tasks
        .iter()
        .map(|task| {
            check_references(task, &args.measure, &tokenizers)?;
            Ok(PromptSet::resolve(task, &args.measure.prompt_options(), &tokenizers)?)
        })
        .collect::<Result<Vec<_>, CliError>>()?;
    let mut costs = costs(&args, &handles, &prompts)?;
    time(&mut costs, &handles, CALIBRATION)?;

    let mut text = format!(
        "{:16} {:8} {:>8} {:>10} {:>10} {:>10} {:>9}\n",
        "model", "stage", "branches", "TFLOP", "weights", "working", "time"
    );
    for handle in &handles {
        let own: Vec<&StageCost> = costs.iter().filter(|c| c.model == handle.name).collect();
        let bytes = (handle.weight_bytes(), !handle.compute.is_card());
        for cost in &own {
            line(&mut text, &handle.name, cost.stage.name(), std::slice::from_ref(cost), bytes);
        }
        if own.len() > 1 {
            line(&mut text, &handle.name, "all", &own, bytes);
        }
    }
    if handles.len() > 1 {
        let largest = handles.iter().map(ModelHandle::weight_bytes).max().unwrap_or(0);
        let bytes = (largest, handles.iter().all(|s| !s.compute.is_card()));
        for stage in args.stages() {
            let of_stage: Vec<&StageCost> = costs.iter().filter(|c| c.stage == stage).collect();
            if !of_stage.is_empty() {
                line(&mut text, "all", stage.name(), &of_stage, bytes);
            }
        }
        line(&mut text, "all", "all", &costs.iter().collect::<Vec<_>>(), bytes);
    }
    text += "One model in memory at a time; branches: heads or sets of heads, over all tasks; ";
    text += &match (compute.device(), compute.is_here()) {
        (Device::Cpu, _) => "time from a calibration of this machine in its present state.".to_owned(),
        (device, true) => {
            format!("time from a calibration of {device} ({}) in its present state.", compute.name())
        }
        (device, false) => format!("times are unknown, since this machine has no {device}."),
    };
    if compute.is_card() {
        text += " Working memory is the GPU memory that the weights leave free.";
    }
    if args.stages().iter().any(|stage| matches!(stage, Stage::Trace | Stage::Ablate)) {
        text += " Which heads are traced and ablated together is known once there are scans: until then \
                 3 × --top-k heads a model are counted, and sets that all go further than random ones; --out with the folder of \
                 the scans counts those that there are.";
    }
    text.push('\n');
    Ok(text)
}

/// Some stages, one after the other. Working memory is only shown if it is host memory.
fn line(
    text: &mut String,
    model: &str,
    stage: &str,
    costs: &[&StageCost],
    (weights, shows_working): (usize, bool),
) {
    let mib = |bytes: usize| format!("{:.0} MiB", bytes as f64 / f64::from(1 << 20));
    let cost = costs.iter().fold(Cost::default(), |sum, c| sum.and(c.cost));
    let n_branches: usize = costs.iter().map(|c| c.n_branches).sum();
    let seconds: Option<f64> = costs.iter().map(|c| c.seconds()).sum();
    let unknown = || "–".to_owned();
    let _ = writeln!(
        text,
        "{model:16} {stage:8} {n_branches:8} {:10.3} {:>10} {:>10} {:>9}",
        (cost.dense + cost.attention) / 1e12,
        mib(weights),
        if shows_working { mib(cost.memory) } else { unknown() },
        seconds.map_or_else(unknown, duration)
    );
}

/// Seconds, minutes or hours.
pub fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 120.0 => format!("{s:.1} s"),
        s if s < 7200.0 => format!("{:.1} min", s / 60.0),
        s => format!("{:.1} h", s / 3600.0),
    }
}
