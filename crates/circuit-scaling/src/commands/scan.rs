//! `scan`: every head of some models on one task.

use std::fmt::Write;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use analysis::layout::Layout;
use analysis::scan_file::{Provenance, ScanFile, ScanMeta};
use analysis::scan_summary::{SummaryOptions, summarise_scan};
use circuits::prompts::{PromptOptions, PromptSet, Tokenize};
use circuits::scan::ScanOptions;
use circuits::task::Task;
use transformer::decoder::Decoder;
use transformer::engine;

use crate::args::{MeasureArgs, ScanArgs};
use crate::error::CliError;
use crate::progress::Display;
use crate::subject::Subject;

/// Scans and lists each model's strongest heads.
pub fn scan(args: &ScanArgs, display: Display) -> Result<String, CliError> {
    let task = Task::load(&args.task)?;
    let subjects = Subject::open_all(&args.measure.models)?;
    let layout = writable_layout(&args.study.out)?;
    let prompts = resolve(&layout, &task, &args.measure, &subjects)?;
    let mut text = String::new();
    for subject in &subjects {
        let decoder = subject.load()?;
        let scan = scan_model(&layout, subject, &decoder, &prompts, &args.measure, display)?;
        describe(&mut text, &scan);
    }
    let _ = writeln!(text, "Scans are in {}", layout.results().display());
    Ok(text)
}

/// The study's folder, made if need be, with proof that it can be written.
pub fn writable_layout(out: &Path) -> Result<Layout, CliError> {
    let fail = |source| CliError::Out { path: out.to_owned(), source };
    let layout = Layout::new(out);
    std::fs::create_dir_all(layout.results()).map_err(fail)?;
    let probe = layout.results().join(format!(".writable-{}", std::process::id()));
    std::fs::write(&probe, []).and_then(|()| std::fs::remove_file(&probe)).map_err(fail)?;
    Ok(layout)
}

/// Where prompts as they were run, and the study's record of them, lie.
fn prompts_folder(layout: &Layout) -> PathBuf {
    layout.results().join("prompts")
}

/// The prompts of a task for these models: those recorded in the study's folder, else drawn and recorded.
pub fn resolve(
    layout: &Layout,
    task: &Task,
    measure: &MeasureArgs,
    subjects: &[Subject],
) -> Result<PromptSet, CliError> {
    let options = PromptOptions {
        protocol: measure.protocol,
        seed: measure.seed,
        n_prompts: measure.prompts,
        min_names: None,
    };
    let tokenizers: Vec<&dyn Tokenize> = subjects.iter().map(|s| s as &dyn Tokenize).collect();
    Ok(PromptSet::load_or_resolve(&prompts_folder(layout), task, &options, &tokenizers)?)
}

/// Scans one model on one task and writes its prompts, per-prompt results and scan file.
pub fn scan_model(
    layout: &Layout,
    subject: &Subject,
    decoder: &Decoder,
    prompts: &PromptSet,
    measure: &MeasureArgs,
    display: Display,
) -> Result<ScanFile, CliError> {
    let tokenized = prompts.tokenize(subject)?;
    tokenized.write(&prompts_folder(layout))?;
    let task = &prompts.task.name;
    let spec = decoder.spec();
    let mut options = serde_json::Map::new();
    options.insert("prompts".into(), prompts.n_prompts.into());
    options.insert("task_hash".into(), prompts.task.hash().into());
    options.insert("tokenizer_hash".into(), subject.hash().into());
    let meta = ScanMeta {
        model_name: subject.name.clone(),
        hf_name: subject.hf_name.clone(),
        family: subject.family.clone(),
        task: task.clone(),
        protocol: prompts.protocol.to_string(),
        seed: prompts.seed,
        value_bias: measure.value_bias.to_string(),
        ablation: measure.ablation.to_string(),
        n_layers: spec.n_layers as u32,
        n_heads: spec.n_heads as u32,
        n_params: Some(subject.info.checkpoint.n_params() as u64),
        note: String::new(),
        provenance: Provenance {
            program_version: env!("CARGO_PKG_VERSION").to_owned(),
            weight_hash: subject.info.checkpoint.weight_hash().to_owned(),
            options,
        },
    };
    let scan_options = ScanOptions {
        ablation: measure.ablation,
        value_bias: measure.value_bias,
        engine: engine::Options { memory: measure.memory },
    };
    let bar = display.scan(&format!("{} · {task}", subject.name), spec.n_heads_total() as u64);
    let mut observe = |progress: engine::Progress| {
        bar.advance(progress.done, progress.total);
        ControlFlow::Continue(())
    };
    let per_prompt = circuits::scan::scan(decoder, &tokenized, meta, scan_options, &mut observe)
        .map_err(|source| CliError::Scan { model: subject.name.clone(), source })?;
    let seconds = bar.finish();
    let scan = summarise_scan(&per_prompt, &SummaryOptions::default())?;
    per_prompt.write(&layout.per_prompt(task, &subject.name))?;
    scan.write(&layout.scan(task, &subject.name))?;
    display.note(&format!("{:16} {task:12} {} heads in {seconds:.1} s", subject.name, spec.n_heads_total()));
    Ok(scan)
}

/// One model's baseline and its five strongest heads either way.
fn describe(text: &mut String, scan: &ScanFile) {
    let head = |h: &analysis::scan_file::HeadDelta| format!("L{}H{} {:+.3}", h.layer, h.head, h.delta);
    let list = |heads: &[analysis::scan_file::HeadDelta]| {
        heads.iter().take(5).map(head).collect::<Vec<_>>().join(", ")
    };
    let base = &scan.baseline;
    let _ = writeln!(
        text,
        "{} on {} ({}, {} prompts): logit difference {:.3}, accuracy {:.1}%",
        scan.model_name,
        scan.task,
        scan.split.name(),
        base.n_prompts,
        base.base_logit_diff_mean,
        100.0 * base.base_accuracy
    );
    let _ = writeln!(text, "  heads that help most (Δ):   {}", list(&scan.top_suppressor_candidates));
    let _ = writeln!(text, "  heads that hinder most (Δ): {}", list(&scan.top_anti_suppressors));
}
