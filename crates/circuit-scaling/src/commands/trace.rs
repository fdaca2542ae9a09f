//! `trace`: hero heads patched from clean into corrupted prompts.

use std::fmt::Write;
use std::ops::ControlFlow;

use analysis::categories::HeroHead;
use analysis::layout::{Layout, stream_name};
use analysis::scan_file::Resampling;
use analysis::scan_summary::SummaryOptions;
use analysis::tracing::{
    CausalResult, TaskTrace, TracedHead, correlation_table, correlations, summarise, summary_table,
    write_results,
};
use transformer::engine;
use transformer::intervention::Stream;

use super::experiment::{Study, TestedModel};
use crate::args::TraceArgs;
use crate::error::CliError;
use crate::progress::Display;

/// What to trace, and with how much memory.
#[derive(Clone, Copy)]
pub struct TraceOptions {
    /// What is patched.
    pub stream: Stream,
    /// Whether every head is traced.
    pub all_heads: bool,
    /// Bytes for activations.
    pub memory: usize,
}

/// One model's traced heads.
pub struct TracedModel {
    /// Its hero heads.
    pub heroes: Vec<CausalResult>,
    /// All its heads, where all were traced.
    pub all: Option<Vec<CausalResult>>,
}

/// Traces the heads of a study's models and writes the results.
pub fn trace(args: &TraceArgs, display: Display) -> Result<String, CliError> {
    let study = Study::open(&args.experiment)?;
    let options =
        TraceOptions { stream: args.stream, all_heads: args.all_heads, memory: args.experiment.memory };
    let mut traced = Vec::new();
    for subject in &study.subjects(&args.experiment.models)? {
        let decoder = subject.load()?;
        traced.push(trace_model(&study.tested(subject, &decoder)?, &study.heroes, options, display)?);
    }
    let mut text = write_traces(&study.layout, &traced, args.stream)?;
    for note in &study.notes {
        let _ = writeln!(text, "{note}");
    }
    Ok(text)
}

/// Traces one model's hero heads among `heroes`, and all its heads if asked to; writes its pairs.
///
/// # Errors
/// A model that cannot be traced, or files that cannot be written.
pub fn trace_model(
    tested: &TestedModel,
    heroes: &[HeroHead],
    options: TraceOptions,
    display: Display,
) -> Result<TracedModel, CliError> {
    let name = &tested.subject.name;
    let heroes: Vec<TracedHead> = heroes
        .iter()
        .filter(|hero| hero.model == *name)
        .map(|hero| TracedHead { head: hero.head.clone(), rank: Some(hero.rank) })
        .collect();
    let rank = |layer, head| heroes.iter().find(|h| (h.head.layer, h.head.head) == (layer, head))?.rank;
    let all: Vec<TracedHead> = match options.all_heads {
        true => tested
            .heads
            .heads
            .iter()
            .map(|h| TracedHead { head: h.clone(), rank: rank(h.layer, h.head) })
            .collect(),
        false => heroes.clone(),
    };
    let places: Vec<(u32, u32)> = all.iter().map(|h| (h.head.layer, h.head.head)).collect();
    let run = |task: usize| -> Result<TaskTrace, CliError> {
        let pairs = tested.prompts[task].tracing_pairs(tested.split);
        pairs.write(&tested.layout.results().join("prompts"))?;
        let bar = display.scan(&format!("{name} · {} pairs", pairs.task), places.len() as u64);
        let mut observe = |progress: engine::Progress| {
            bar.advance(progress.done, progress.total);
            ControlFlow::Continue(())
        };
        let memory = engine::Options { memory: options.memory };
        let trace =
            circuits::trace::trace(tested.decoder, &pairs, &places, options.stream, memory, &mut observe)
                .map_err(|source| CliError::Trace { model: name.clone(), source })?;
        let seconds = bar.finish();
        display.note(&format!("{name:16} {:12} {} heads traced in {seconds:.1} s", pairs.task, places.len()));
        Ok(trace)
    };
    let [ioi, anti] = [run(0)?, run(1)?];
    let origin = tested.origin([("stream", options.stream.as_str().into())]);
    let resampling: Resampling = SummaryOptions::default().resampling;
    let notes = tested.empty_categories();
    let results = |heads: &[TracedHead], ioi: &TaskTrace, anti: &TaskTrace| {
        summarise(&origin, options.stream.as_str(), heads, ioi, anti, &resampling, &notes)
    };
    if !options.all_heads {
        return Ok(TracedModel { heroes: results(&heroes, &ioi, &anti)?, all: None });
    }
    let of_heroes = |trace: &TaskTrace| {
        let place = |hero: &TracedHead| places.iter().position(|p| *p == (hero.head.layer, hero.head.head));
        let influences =
            heroes.iter().filter_map(place).map(|place| trace.influences[place].clone()).collect();
        TaskTrace { influences, ..trace.clone() }
    };
    Ok(TracedModel {
        heroes: results(&heroes, &of_heroes(&ioi), &of_heroes(&anti))?,
        all: Some(results(&all, &ioi, &anti)?),
    })
}

/// Writes results and tables of all traced models, and says what they show.
///
/// # Errors
/// Files that cannot be written.
pub fn write_traces(layout: &Layout, traced: &[TracedModel], stream: Stream) -> Result<String, CliError> {
    let stream = stream.as_str();
    let heroes: Vec<CausalResult> = traced.iter().flat_map(|t| t.heroes.clone()).collect();
    let all: Option<Vec<CausalResult>> =
        traced.iter().map(|t| t.all.clone()).collect::<Option<Vec<_>>>().map(|a| a.concat());
    let write = |path, tables: [&str; 2], heads, results: &[CausalResult]| -> Result<(), CliError> {
        write_results(path, results)?;
        summary_table(&stream_name(tables[0], stream), results).write_csv(&layout.tables())?;
        let correlations = correlations(results);
        Ok(correlation_table(&stream_name(tables[1], stream), heads, &correlations)
            .write_csv(&layout.tables())?)
    };
    let path = layout.causal_results(stream);
    write(&path, ["hero_head_causal_summary", "causal_correlation"], "hero", &heroes)?;
    if let Some(all) = &all {
        let tables = ["all_head_causal_summary", "causal_correlation_all_heads"];
        write(&layout.causal_results_of_all_heads(stream), tables, "all", all)?;
    }

    let mut text = format!(
        "{:16} {:10} {:7} {:>8} {:>8}  {:>27}  {:>27}\n",
        "model",
        "category",
        "head",
        "Δ ioi",
        "Δ anti",
        "influence ioi (normalised)",
        "influence anti (normalised)"
    );
    for result in &heroes {
        let influence = |mean: f64, normalised: Option<f64>| {
            let normalised = normalised.map_or("–".to_owned(), |n| format!("{n:+.3}"));
            format!("{mean:+.3} ({normalised})")
        };
        let _ = writeln!(
            text,
            "{:16} {:10} {:7} {:+8.3} {:+8.3}  {:>27}  {:>27}",
            result.model,
            result.category,
            format!("L{}H{}", result.layer, result.head),
            result.delta_ioi,
            result.delta_anti,
            influence(result.mean_ioi_influence, result.ioi.normalised),
            influence(result.mean_anti_influence, result.anti.normalised)
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
        path.display(),
        layout.tables().display()
    );
    Ok(text)
}
