//! `trace`: hero heads patched from clean into corrupted prompts.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use cs_analysis::categories::ClassifiedModel;
use cs_analysis::contrast::{Contrast, Side};
use cs_analysis::layout::{Layout, stream_name};
use cs_analysis::origin::Origin;
use cs_analysis::scan_file::Resampling;
use cs_analysis::tracing::{
    CausalResult, TaskTrace, TracedHead, correlation_table, correlations, read_results, summarise,
    summary_table, write_results,
};
use cs_engine::intervention::Stream;
use serde_json::json;

use super::experiment::{OpenStudy, StudyHeads, TestedModel, empty_categories};
use crate::args::TraceArgs;
use crate::error::CliError;
use crate::measured::Measured;
use crate::progress::Display;
use crate::study_folder::{Digest256, StudyFolder};
use crate::subject::Subject;

/// What to trace, and with how much memory.
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
struct TracedModel {
    /// Its hero heads.
    heroes: Vec<CausalResult>,
    /// All its heads, where all were traced.
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
        let of_contrast = trace_models(&mut folder, heads, &study.subjects, options.clone(), display)?;
        text += &heads.titled(contrasts, &of_contrast);
    }
    Ok(text)
}

/// Traces a contrast's heads of those of these models that have them and writes pairs, results and tables, unless the folder has them already; returns what
/// they show.
///
/// # Errors
/// A model that was not scanned or cannot be run, or files that cannot be written.
pub fn trace_models(
    folder: &mut StudyFolder,
    heads: &StudyHeads,
    subjects: &[Subject],
    options: TraceOptions,
    display: Display,
) -> Result<String, CliError> {
    let layout = folder.layout.clone();
    let stream = options.stream.as_str();
    let (contrast, tau) = (heads.contrast(), heads.classified.tau);
    let tested: Vec<(TestedModel, &ClassifiedModel)> = heads
        .among(subjects)
        .map(|subject| TestedModel::in_contrast(&layout, heads, subject))
        .collect::<Result<_, _>>()?;
    let n_heroes: Vec<_> = heads.heroes.iter().map(|h| (&h.model, h.head.layer, h.head.head)).collect();
    let models: Vec<_> = tested.iter().map(|(t, _)| t.inputs(&origin(t, tau, options.stream))).collect();
    let inputs = Digest256::of(&json!({
        "models": models, "heroes": n_heroes, "all_heads": options.all_heads, "resampling": options.resampling,
    }));
    let step = trace_step(contrast, stream);
    let path = layout.causal_results(contrast, stream);
    if folder.is_done(&step, &inputs) {
        display.detail("tracing is done");
        return Ok(describe(&layout, contrast, stream, &read_results(&path, contrast)?));
    }
    let (mut heroes, mut all) = (Vec::new(), Vec::new());
    for (tested, model) in &tested {
        let traced = trace_model(tested, heads, model, &options, (&folder.measured, display))?;
        heroes.extend(traced.heroes);
        all.extend(traced.all);
    }
    let mut outputs = write(
        (&layout, contrast),
        &path,
        [&stream_name("hero_head_causal_summary", stream), &stream_name("causal_correlation", stream)],
        "hero",
        &heroes,
    )?;
    if options.all_heads {
        outputs.extend(write(
            (&layout, contrast),
            &layout.causal_results_of_all_heads(contrast, stream),
            [
                &stream_name("all_head_causal_summary", stream),
                &stream_name("causal_correlation_all_heads", stream),
            ],
            "all",
            &all,
        )?);
    }
    folder.done(&step, inputs, &outputs)?;
    Ok(describe(&layout, contrast, stream, &heroes))
}

/// The name of a contrast's tracing in the folder's record.
pub fn trace_step(contrast: &Contrast, stream: &str) -> String {
    if contrast.is_published() { format!("trace {stream}") } else { format!("trace {stream} {contrast}") }
}

/// Writes results, and the summary and correlations made of them; returns the paths.
fn write(
    (layout, contrast): (&Layout, &Contrast),
    path: &Path,
    tables: [&str; 2],
    heads: &str,
    results: &[CausalResult],
) -> Result<Vec<PathBuf>, CliError> {
    write_results(path, results)?;
    let made = [
        summary_table(contrast, tables[0], results),
        correlation_table(contrast, tables[1], heads, &correlations(results)),
    ];
    made.iter().try_for_each(|table| table.write_csv(&layout.tables()))?;
    Ok(std::iter::once(path.to_owned()).chain(made.iter().map(|table| layout.table(&table.name))).collect())
}

fn origin(tested: &TestedModel, tau: f64, stream: Stream) -> Origin {
    tested.origin(tau, [("stream", stream.as_str().into())])
}

/// Traces one model's hero heads in a contrast, and all its heads if asked to; writes its pairs.
fn trace_model(
    tested: &TestedModel,
    study: &StudyHeads,
    model: &ClassifiedModel,
    options: &TraceOptions,
    (measured, display): (&Measured, Display),
) -> Result<TracedModel, CliError> {
    let name = &tested.subject.name;
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
    let decoder = tested.subject.lazy();
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
        display.note(&format!("{name:16} {:12} {} heads traced in {seconds:.1} s", pairs.task, places.len()));
        Ok(trace)
    };
    let traces = [run(0)?, run(1)?];
    let contrast = study.contrast();
    let origin = origin(tested, study.classified.tau, options.stream);
    let notes = empty_categories(contrast, model);
    let results = |heads: &[TracedHead], traces: &[TaskTrace; 2]| {
        let stream = options.stream.as_str();
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
        "Influence: logit difference with `{stream}` patched from the clean run, minus the corrupted run's; normalised: 0 \
         as corrupted, 1 as clean.\nResults are in {}, tables in {}",
        layout.causal_results(contrast, stream).display(),
        layout.tables().display()
    );
    text
}
