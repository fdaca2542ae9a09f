//! `ablate`: sets of hero heads ablated together, against random sets.

use std::fmt::Write;
use std::ops::ControlFlow;

use analysis::ablation::{
    AblationFile, AblationSettings, ModelAblation, Selection, SetKind, TaskOutcomes, area_table, evaluate,
    plan, raw_table, summary_table, test_table,
};
use analysis::categories::DEFAULT_TOP_K;
use analysis::dissociation::{
    Dissociation, Evidence, Ranged, dissociation, dissociation_scaling_table, dissociation_table, scaling,
};
use analysis::files::write_bytes;
use analysis::layout::Layout;
use analysis::scan_summary::SummaryOptions;
use circuits::ablate::ablate_sets;
use circuits::scan::{Ablation, ScanOptions, ValueBias};
use cs_engine;
use serde_json::json;

use super::experiment::{StudyHeads, TestedModel};
use crate::args::AblateArgs;
use crate::error::CliError;
use crate::progress::Display;
use crate::study_folder::{Digest256, StudyFolder};
use crate::subject::Subject;

/// How sets are ablated and compared.
#[derive(Clone, Copy)]
pub struct AblateOptions {
    /// What replaces `z`; `None` for what the scan used.
    pub ablation: Option<Ablation>,
    /// Where value biases count; `None` for what the scan used.
    pub value_bias: Option<ValueBias>,
    /// Random sets of each kind.
    pub random_sets: usize,
    /// Bytes for activations.
    pub memory: usize,
}

/// Ablates sets of heads in a study's models and writes the results.
pub fn ablate(args: &AblateArgs, display: Display) -> Result<String, CliError> {
    let (heads, subjects) = StudyHeads::open(&args.experiment, DEFAULT_TOP_K, display)?;
    let options = AblateOptions {
        ablation: args.ablation,
        value_bias: args.value_bias,
        random_sets: args.random_sets,
        memory: args.experiment.memory,
    };
    let mut folder = StudyFolder::open(&args.experiment.study.out)?;
    ablate_models(&mut folder, &heads, &subjects, options, display)
}

/// Ablates sets of heads in these models, but for those that the folder has already, and writes all tables; returns what
/// they show.
///
/// # Errors
/// A model that was not scanned or cannot be run, or files that cannot be written.
pub fn ablate_models(
    folder: &mut StudyFolder,
    heads: &StudyHeads,
    subjects: &[Subject],
    options: AblateOptions,
    display: Display,
) -> Result<String, CliError> {
    let layout = folder.layout.clone();
    let mut files = Vec::new();
    for subject in subjects {
        let tested = TestedModel::new(&layout, &heads.classified, subject)?;
        files.push(ablate_model(folder, &tested, options, display)?);
    }
    write_tables(&layout, files)
}

/// Ablates one model's sets and keeps the results in its own file; where that file is there already and was made from the
/// same inputs, it is read instead.
fn ablate_model(
    folder: &mut StudyFolder,
    tested: &TestedModel,
    options: AblateOptions,
    display: Display,
) -> Result<AblationFile, CliError> {
    let name = &tested.subject.name;
    let unknown = |why| CliError::ScanOption { model: name.clone(), why };
    let meta = &tested.scans[0].meta;
    let ablation = options.ablation.map_or_else(|| meta.ablation.parse().map_err(unknown), Ok)?;
    let value_bias = options.value_bias.map_or_else(|| meta.value_bias.parse().map_err(unknown), Ok)?;
    let settings = AblationSettings {
        ablation: ablation.to_string(),
        value_bias: value_bias.to_string(),
        n_random_sets: options.random_sets,
        tau: tested.tau,
        n_resamples: SummaryOptions::default().resampling.n_resamples,
    };
    let origin = tested.origin([]);
    let plan = plan(tested.heads, options.random_sets, meta.seed);
    let inputs = Digest256::of(&json!({ "model": tested.inputs(&origin), "settings": settings }));
    let step = format!("ablate {name}");
    let path = tested.layout.model_ablation(name);
    if folder.is_done(&step, &inputs) {
        display.detail(&format!("{name:16} {} sets of heads: done", plan.sets.len()));
        return Ok(AblationFile::read(&path)?);
    }
    let decoder = tested.subject.load()?;
    let run = |task: usize| -> Result<TaskOutcomes, CliError> {
        let prompts = &tested.prompts[task];
        let bar = display.bar("ablate", name, &prompts.task, plan.sets.len() as u64, "sets");
        let mut observe = |progress: cs_engine::Progress| {
            bar.advance(progress.done, progress.total);
            ControlFlow::Continue(())
        };
        let scan =
            ScanOptions { ablation, value_bias, engine: cs_engine::Options { memory: options.memory } };
        let outcomes = ablate_sets(&decoder, prompts, tested.split, &plan.sets, scan, &mut observe)
            .map_err(|source| CliError::Ablate { model: name.clone(), source })?;
        let seconds = bar.finish();
        let n_sets = plan.sets.len();
        display.note(&format!("{name:16} {:12} {n_sets} sets of heads in {seconds:.1} s", prompts.task));
        Ok(outcomes)
    };
    let [ioi, anti] = [run(0)?, run(1)?];
    let evidence = Evidence {
        model: tested.heads,
        scans: [&tested.scans[0], &tested.scans[1]],
        plan: &plan,
        outcomes: [&ioi, &anti],
    };
    let file = AblationFile {
        ablation: evaluate(&origin, &settings, &plan, &ioi, &anti)?,
        dissociation: dissociation(&origin, &settings, evidence)?,
    };
    file.write(&path)?;
    folder.done(&step, inputs, &[path])?;
    Ok(file)
}

/// Writes the tables of all models, and says what they show.
fn write_tables(layout: &Layout, files: Vec<AblationFile>) -> Result<String, CliError> {
    let (models, dissociations): (Vec<ModelAblation>, Vec<Dissociation>) =
        files.into_iter().map(|file| (file.ablation, file.dissociation)).unzip();
    write_bytes(&layout.ablated_sets(), raw_table(&models).to_csv().as_bytes())?;
    let tables = [
        summary_table(&models),
        test_table(&models),
        area_table(&models),
        dissociation_table(&dissociations),
        dissociation_scaling_table(&scaling(&dissociations)),
    ];
    tables.iter().try_for_each(|table| table.write_csv(&layout.tables()))?;

    let mut text = String::new();
    for (model, dissociation) in models.iter().zip(&dissociations) {
        describe(&mut text, model);
        describe_dissociation(&mut text, dissociation);
        for note in &model.notes {
            let _ = writeln!(text, "  {note}");
        }
        text.push('\n');
    }
    let _ = writeln!(
        text,
        "Sets are in {}, tables in {}",
        layout.ablated_sets().display(),
        layout.tables().display()
    );
    Ok(text)
}

/// Hero sets of all heads against random sets, k by k.
fn describe(text: &mut String, model: &ModelAblation) {
    let settings = &model.settings;
    let _ = writeln!(
        text,
        "{} ({} ablation, value bias {}, {} prompts, {} random sets each)",
        model.origin.model,
        settings.ablation,
        settings.value_bias,
        model.origin.split.as_str(),
        settings.n_random_sets
    );
    let _ = writeln!(
        text,
        "  {:>4}  {:>38}  {:>38}",
        "k", "ioi: accuracy hero, random, p", "anti: accuracy hero, random, p"
    );
    for test in &model.tests {
        let shown =
            test.selection == Selection::All && test.against == SetKind::Random && test.measure == "acc";
        if !shown {
            continue;
        }
        let cell = |value: Option<f64>, scale: f64, unit: &str| {
            value.map_or("–".to_owned(), |v| format!("{:.1}{unit}", scale * v))
        };
        let p = test.p_value.map_or("–".to_owned(), |p| format!("{p:.3}"));
        let cells = format!("{}, {}, {p}", cell(test.hero, 100.0, "%"), cell(test.random_mean, 100.0, "%"));
        match test.task.as_str() {
            "ioi" => {
                let _ = write!(text, "  {:4}  {cells:>38}", test.k);
            }
            _ => {
                let _ = writeln!(text, "  {cells:>38}");
            }
        }
    }
}

fn describe_dissociation(text: &mut String, dissociation: &Dissociation) {
    let ranged = |r: Ranged| match (r.value, r.low, r.high) {
        (Some(value), Some(low), Some(high)) => format!("{value:.3} [{low:.3}, {high:.3}]"),
        (Some(value), ..) => format!("{value:.3}"),
        _ => "–".to_owned(),
    };
    let _ = match dissociation.index.value {
        Some(_) => writeln!(text, "  dissociation index {}", ranged(dissociation.index)),
        None => writeln!(text, "  no dissociation index: {}", dissociation.index_status),
    };
    let d = &dissociation.damage;
    let _ = if dissociation.k == 0 {
        writeln!(text, "  no lesions of either category: {}", dissociation.lesion_status)
    } else {
        writeln!(
            text,
            "  damage by {} ioi_only heads: ioi {}, anti {}; by as many anti_only: ioi {}, anti {}; interaction {}",
            dissociation.k,
            ranged(d[0][0]),
            ranged(d[0][1]),
            ranged(d[1][0]),
            ranged(d[1][1]),
            ranged(dissociation.interaction)
        )
    };
}
