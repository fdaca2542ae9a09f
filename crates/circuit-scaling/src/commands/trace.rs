//! `trace`: patches hero heads from clean into corrupted runs.

use std::fmt::Write;
use std::path::PathBuf;

use cs_analysis::categories::ClassifiedModel;
use cs_analysis::contrast::{Contrast, Side};
use cs_analysis::file_name::file_safe_name;
use cs_analysis::layout::{Layout, stream_name};
use cs_analysis::scan_file::Resampling;
use cs_analysis::tracing::{
    CausalResult, TaskTrace, TracedHead, correlation_table, correlations, read_results, summarise,
    summary_table, write_results,
};
use cs_analysis::words::counted;
use cs_engine::intervention::Stream;
use serde_json::json;

use super::experiment::{OpenStudy, StudyHeads, TestedModel, empty_categories};
use crate::args::TraceArgs;
use crate::digest::Digest256;
use crate::error::CliError;
use crate::handle::ModelHandle;
use crate::measured::Measured;
use crate::progress::Display;
use crate::study_folder::StudyFolder;

/// What to trace, and the memory limit.
#[derive(Clone)]
pub struct TraceOptions {
    /// What is patched.
    pub stream: Stream,
    /// Whether every head is traced.
    pub all_heads: bool,
    /// Bootstrap resamples and sign flips.
    pub resampling: Resampling,
    /// Bytes for activations.
    pub memory: usize,
}

/// One model's traced heads.
#[derive(Default)]
struct TracedModel {
    /// Its hero heads.
    heroes: Vec<CausalResult>,
    /// All its heads, if all were traced.
    all: Vec<CausalResult>,
}

/// Traces the heads of a study's models and writes the results.
pub fn trace(args: &TraceArgs, display: Display) -> Result<String, CliError> {
    let study = OpenStudy::open(&args.experiment, args.top_k, display)?;
    let contrasts = study.contrasted(&args.experiment.study.out)?;
    let options = TraceOptions {
        stream: args.stream,
        all_heads: args.all_heads,
        resampling: args.effort.resampling(),
        memory: args.experiment.memory,
    };
    let mut folder = StudyFolder::open(&args.experiment.study.out)?;
    let mut text = String::new();
    for heads in contrasts {
        let of_contrast = trace_models(&mut folder, heads, &study.handles, options.clone(), display)?;
        text += &heads.titled(contrasts, &of_contrast);
    }
    Ok(text)
}

/// Traces a contrast's heads in these models, unless the folder already has the results, and writes results and tables of all traced
/// models of the study; returns a summary.
///
/// # Errors
/// A model that was not scanned or cannot be run, or files that cannot be written.
pub fn trace_models(
    folder: &mut StudyFolder,
    heads: &StudyHeads,
    handles: &[ModelHandle],
    options: TraceOptions,
    display: Display,
) -> Result<String, CliError> {
    let layout = folder.layout.clone();
    let (contrast, stream) = (heads.contrast(), options.stream.as_str());
    let (mut heroes, mut all) = (Vec::new(), Vec::new());
    for model in &heads.classified.models {
        let name = &model.info.model;
        let traced = match handles.iter().find(|handle| handle.name == *name) {
            Some(handle) => {
                let (tested, model) = TestedModel::in_contrast(&layout, heads, handle)?;
                trace_model(folder, &tested, heads, model, &options, display)?
            }
            None => {
                let known = TracedModel::read(folder, heads, name, stream)?;
                if known.is_none() && folder.has_done(&trace_step(contrast, stream, name)) {
                    let tau = heads.classified.tau;
                    display.note(&format!(
                        "left out: {name}, which was traced with other hero heads than those at --tau {tau}: trace it again"
                    ));
                }
                known.unwrap_or_default()
            }
        };
        heroes.extend(traced.heroes);
        all.extend(traced.all);
    }
    let write = |layout: &Layout| {
        let path = layout.causal_results(contrast, stream);
        let tables = ["hero_head_causal_summary", "causal_correlation"].map(|stem| stream_name(stem, stream));
        let mut written = write((layout, contrast), path, tables, "hero", &heroes)?;
        if !all.is_empty() {
            let path = layout.causal_results_of_all_heads(contrast, stream);
            let tables = ["all_head_causal_summary", "causal_correlation_all_heads"];
            let tables = tables.map(|stem| stream_name(stem, stream));
            written.extend(write((layout, contrast), path, tables, "all", &all)?);
        }
        Ok(written)
    };
    folder.add("trace", display, write)?;
    Ok(describe(&layout, contrast, stream, &heroes))
}

/// The name of a model's tracing in the folder's record.
pub fn trace_step(contrast: &Contrast, stream: &str, model: &str) -> String {
    if contrast.is_published() {
        format!("trace {stream} {model}")
    } else {
        format!("trace {stream} {contrast} {model}")
    }
}

/// Writes results, with their summary and correlations; returns the paths.
fn write(
    (layout, contrast): (&Layout, &Contrast),
    path: PathBuf,
    [summary, correlation]: [String; 2],
    heads: &str,
    results: &[CausalResult],
) -> Result<Vec<PathBuf>, CliError> {
    write_results(&path, results)?;
    let tables = [
        summary_table(contrast, &summary, results),
        correlation_table(contrast, &correlation, heads, &correlations(results)),
    ];
    let mut paths = vec![path];
    for table in tables {
        paths.extend(table.write(&layout.tables())?);
    }
    Ok(paths)
}

impl TracedModel {
    /// The files of a model's results: for its hero heads, and for all its heads.
    fn paths(folder: &StudyFolder, contrast: &Contrast, model: &str, stream: &str) -> [PathBuf; 2] {
        let own = contrast.folder().map_or_else(String::new, |folder| format!("{folder}/"));
        ["heroes", "all"]
            .map(|heads| folder.own(&format!("{own}trace_{stream}_{}_{heads}.json", file_safe_name(model))))
    }

    /// A model's results in the folder, if they are for the current hero heads.
    fn read(
        folder: &StudyFolder,
        heads: &StudyHeads,
        model: &str,
        stream: &str,
    ) -> Result<Option<Self>, CliError> {
        let contrast = heads.contrast();
        let [heroes, all] = Self::paths(folder, contrast, model, stream);
        let read = |path: PathBuf| match path.exists() {
            true => Ok::<_, CliError>(read_results(&path, contrast)?),
            false => Ok(Vec::new()),
        };
        let (heroes, all) = (read(heroes)?, read(all)?);
        let of_model = heads.heroes.iter().filter(|hero| hero.model == model);
        let now = of_model.map(|hero| (hero.head.category, hero.head.layer, hero.head.head));
        let is_now = now.eq(heroes.iter().map(|result| (result.category, result.layer, result.head)));
        Ok(is_now.then_some(Self { heroes, all }))
    }
}

/// Traces one model's hero heads in a contrast, and all its heads if requested; writes its pairs. If the folder already has the
/// results, they are read instead.
fn trace_model(
    folder: &mut StudyFolder,
    tested: &TestedModel,
    study: &StudyHeads,
    model: &ClassifiedModel,
    options: &TraceOptions,
    display: Display,
) -> Result<TracedModel, CliError> {
    let name = &tested.handle.name;
    let stream = options.stream.as_str();
    let contrast = study.contrast();
    let origin = tested.origin(study.classified.tau, [("stream", stream.into())]);
    let of_model = study.heroes.iter().filter(|hero| hero.model == *name);
    let ids: Vec<_> = of_model.map(|hero| (hero.head.layer, hero.head.head)).collect();
    let inputs = Digest256::of(&json!({
        "model": tested.inputs(&origin), "heroes": ids, "all_heads": options.all_heads, "resampling": options.resampling,
    }));
    let step = trace_step(contrast, stream, name);
    if folder.is_done(&step, &inputs)
        && let Some(known) = TracedModel::read(folder, study, name, stream)?
    {
        display.detail(&format!("{name:16} tracing: done"));
        return Ok(known);
    }
    let traced = run_model(tested, study, model, options, (&folder.measured, display))?;
    let paths = TracedModel::paths(folder, contrast, name, stream);
    let n_written = 1 + usize::from(options.all_heads);
    let written = &paths[..n_written];
    for (path, results) in written.iter().zip([&traced.heroes, &traced.all]) {
        write_results(path, results)?;
    }
    if !options.all_heads {
        // An earlier trace of all heads had other inputs. It may not exist.
        let _ = std::fs::remove_file(&paths[1]);
    }
    folder.done(&step, inputs, written)?;
    Ok(traced)
}

/// Runs one model on clean and corrupted prompts.
fn run_model(
    tested: &TestedModel,
    study: &StudyHeads,
    model: &ClassifiedModel,
    options: &TraceOptions,
    (measured, display): (&Measured, Display),
) -> Result<TracedModel, CliError> {
    let name = &tested.handle.name;
    let heroes: Vec<TracedHead> = study
        .heroes
        .iter()
        .filter(|hero| hero.model == *name)
        .map(|hero| TracedHead { head: hero.head.clone(), rank: Some(hero.rank) })
        .collect();
    let rank = |layer, head| heroes.iter().find(|h| (h.head.layer, h.head.head) == (layer, head))?.rank;
    let all: Vec<TracedHead> = match options.all_heads {
        true => {
            model.heads.iter().map(|h| TracedHead { head: h.clone(), rank: rank(h.layer, h.head) }).collect()
        }
        false => heroes.clone(),
    };
    let places: Vec<(u32, u32)> = all.iter().map(|h| (h.head.layer, h.head.head)).collect();
    let decoder = tested.handle.lazy();
    let run = |task: usize| -> Result<TaskTrace, CliError> {
        let pairs = tested.prompts[task].tracing_pairs(tested.split);
        pairs.write(&tested.layout)?;
        if let Some(known) = measured.trace(name, &pairs, &places) {
            return Ok(known);
        }
        let decoder = decoder.get()?;
        let bar = display.bar("trace", name, &pairs.task, places.len() as u64, "heads");
        let mut observe = |progress: cs_engine::Progress| bar.advance(progress.done, progress.total);
        let memory = cs_engine::Options { memory: options.memory };
        let trace = cs_circuits::trace::trace(decoder, &pairs, &places, options.stream, memory, &mut observe)
            .map_err(|source| CliError::Trace { model: name.clone(), source })?;
        let seconds = bar.finish();
        display.note(&format!(
            "{name:16} {:12} {} traced in {seconds:.1} s",
            pairs.task,
            counted(places.len(), "head", "heads")
        ));
        Ok(trace)
    };
    let traces = [run(0)?, run(1)?];
    let contrast = study.contrast();
    let stream = options.stream.as_str();
    let origin = tested.origin(study.classified.tau, [("stream", stream.into())]);
    let notes = empty_categories(contrast, model);
    let results = |heads: &[TracedHead], traces: &[TaskTrace; 2]| {
        summarise(contrast, &origin, stream, heads, traces.each_ref(), &options.resampling, &notes)
    };
    if !options.all_heads {
        return Ok(TracedModel { heroes: results(&heroes, &traces)?, all: Vec::new() });
    }
    let of_heroes = |trace: &TaskTrace| {
        let place = |hero: &TracedHead| places.iter().position(|p| *p == (hero.head.layer, hero.head.head));
        let influences =
            heroes.iter().filter_map(place).map(|place| trace.influences[place].clone()).collect();
        TaskTrace { influences, ..trace.clone() }
    };
    Ok(TracedModel {
        heroes: results(&heroes, &traces.each_ref().map(of_heroes))?,
        all: results(&all, &traces)?,
    })
}

/// A line per hero head.
fn describe(layout: &Layout, contrast: &Contrast, stream: &str, heroes: &[CausalResult]) -> String {
    let titled = |before: &str, after: &str| contrast.keys().map(|key| format!("{before} {key}{after}"));
    let [deltas, influences] = [titled("Δ", ""), titled("influence", " (normalised)")];
    let mut text = format!(
        "{:16} {:10} {:7} {:>8} {:>8}  {:>27}  {:>27}\n",
        "model", "category", "head", deltas[0], deltas[1], influences[0], influences[1]
    );
    for result in heroes {
        let influence = |side: Side| {
            let on = result.on(side);
            let normalised = on.figures.normalised.map_or("–".to_owned(), |n| format!("{n:+.3}"));
            format!("{:+.3} ({normalised})", on.mean)
        };
        let _ = writeln!(
            text,
            "{:16} {:10} {:7} {:+8.3} {:+8.3}  {:>27}  {:>27}",
            result.model,
            contrast.category(result.category),
            format!("L{}H{}", result.layer, result.head),
            result.on(Side::A).delta,
            result.on(Side::B).delta,
            influence(Side::A),
            influence(Side::B)
        );
    }
    for of_model in heroes.chunk_by(|a, b| a.model == b.model) {
        if !of_model[0].note.is_empty() {
            let _ = writeln!(text, "{}: {}", of_model[0].model, of_model[0].note);
        }
    }
    let _ = writeln!(
        text,
        "Influence: logit difference with `{stream}` patched from the clean run, minus the corrupted run's; normalised: 0 is the corrupted run, 1 the clean run.\nResults are in {}, tables in {}",
        layout.causal_results(contrast, stream).display(),
        layout.tables().display()
    );
    text
}
