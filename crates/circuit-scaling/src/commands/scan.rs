//! `scan`: scans every head of some models on one task.

use std::fmt::Write;
use std::path::PathBuf;

use cs_analysis::contrast::IOI;
use cs_analysis::head_id::HeadId;
use cs_analysis::layout::Layout;
use cs_analysis::per_prompt::PerPromptScan;
use cs_analysis::scan_file::{ACCURACY, ScanFile, ScanMeta};
use cs_analysis::scan_summary::{SummaryOptions, summarise_scan};
use cs_analysis::stats::interval::FEWEST_PROMPTS;
use cs_analysis::words::counted;
use cs_circuits::prompts::{PromptSet, Split, Tokenize, TokenizedPrompts};
use cs_circuits::references;
use cs_circuits::scan::{Ablation, ScanOptions, Underway, check_heads, cost_of_heads, require_references};
use cs_circuits::task::Task;
use cs_engine::decoder::Decoder;
use serde_json::json;

use crate::args::{MeasureArgs, ScanArgs};
use crate::digest::Digest256;
use crate::error::CliError;
use crate::handle::ModelHandle;
use crate::left_out::left_out;
use crate::partial::{self, Partial};
use crate::progress::Display;
use crate::scan_meta::{COMMIT, scan_meta};
use crate::study_folder::StudyFolder;

/// Scans models and lists their strongest heads.
pub fn scan(args: &ScanArgs, display: Display) -> Result<String, CliError> {
    let task = Task::load(&args.task)?;
    let mut measure = args.measure.clone();
    StudyFolder::check(&args.study.out)?;
    measure.name_models()?;
    let compute = measure.device.choose(display)?;
    let mut handles = ModelHandle::fetch_all(&measure.models, display)?;
    ModelHandle::run_on(&mut handles, &compute, display);
    for handle in &handles {
        check_heads(handle.spec(), &args.heads)
            .map_err(|source| CliError::Scan { model: handle.name.clone(), source })?;
    }
    let mut folder = StudyFolder::open(&args.study.out)?;
    check_memory(&folder, &handles, std::slice::from_ref(&task))?;
    let prompts = resolve(&folder.layout, &task, &measure, &handles)?;
    note_left_out(&task, &prompts, display);
    let only = (!args.heads.is_empty()).then_some(&args.heads[..]);
    let scan = |handle| ModelScan::new(&folder.layout, handle, &prompts, &measure, only);
    let scans = handles.iter().map(scan).collect::<Result<Vec<_>, _>>()?;
    scans.iter().try_for_each(ModelScan::check_working_memory)?;
    let mut text = String::new();
    for (handle, scan) in handles.iter().zip(scans) {
        if scan.is_done(&folder) {
            display.note(&format!("{:16} {:12} is done", handle.name, task.name()));
        } else {
            scan.run(&mut folder, &handle.load()?, display)?;
        }
        describe(
            &mut text,
            &ScanFile::read(&folder.layout.scan(task.name(), &handle.name))?,
            matches!(task, Task::Rows(_)),
        );
    }
    let _ = writeln!(text, "{ACCURACY}");
    let _ = writeln!(text, "Scans are in {}", folder.layout.results().display());
    if task.name() == IOI {
        let _ = writeln!(text, "{NAME_OF_IOI_SCANS}");
    }
    Ok(text)
}

/// Why scans of IOI have another task's name.
pub const NAME_OF_IOI_SCANS: &str = "Scans of IOI are called copy_suppression_logitdiff_scan_MODEL.json, as in the published \
    study; copy suppression is what \
     anti-repeat measures.";

/// The folder of the prompts as run, and of the study's record of them.
pub fn prompts_folder(layout: &Layout) -> PathBuf {
    layout.results().join("prompts")
}

/// The prompts of a task for these models: those recorded in the study's folder, else drawn and recorded.
pub fn resolve(
    layout: &Layout,
    task: &Task,
    measure: &MeasureArgs,
    handles: &[ModelHandle],
) -> Result<PromptSet, CliError> {
    let tokenizers: Vec<&dyn Tokenize> = handles.iter().map(|s| s as &dyn Tokenize).collect();
    let (folder, options) = (prompts_folder(layout), measure.prompt_options());
    if !PromptSet::path(&folder, task.name()).exists() {
        check_references(task, measure, &tokenizers)?;
        if let Task::Rows(_) = task {
            let set = PromptSet::resolve(task, &options, &tokenizers)?;
            for handle in handles {
                set.tokenize(handle)?.require_fit(handle.spec().n_ctx)?;
            }
        }
    }
    Ok(PromptSet::load_or_resolve(&folder, task, &options, &tokenizers)?)
}

/// Reports what is left out of a task.
pub fn note_left_out(task: &Task, prompts: &PromptSet, display: Display) {
    left_out(task, prompts).iter().for_each(|line| display.note(line));
}

/// Rejects prompts that cannot be ablated as requested before they are recorded, so that others can be drawn in the same folder.
///
/// # Errors
/// Those of [`references::check_references`].
pub fn check_references(
    task: &Task,
    measure: &MeasureArgs,
    tokenizers: &[&dyn Tokenize],
) -> Result<(), CliError> {
    if measure.ablation == Ablation::Zero {
        return Ok(());
    }
    Ok(references::check_references(task, &measure.prompt_options(), tokenizers, measure.scan_options())?)
}

/// Rejects models that are larger than the available memory before any model is read, hashed or scanned; a model with scans on all
/// tasks may not have to be loaded at all.
///
/// # Errors
/// [`cs_model::error::LoadError::Memory`]
pub fn check_memory(folder: &StudyFolder, handles: &[ModelHandle], tasks: &[Task]) -> Result<(), CliError> {
    for handle in handles {
        if tasks.iter().any(|task| !folder.has_done(&step(task.name(), &handle.name))) {
            handle.check_memory()?;
        }
    }
    Ok(())
}

/// The name of a scan in the folder's record.
pub fn step(task: &str, model: &str) -> String {
    format!("scan {task} {model}")
}

/// The scan of one model on one task: its inputs, before it is run.
pub struct ModelScan<'a> {
    handle: &'a ModelHandle,
    tokenized: TokenizedPrompts,
    meta: ScanMeta,
    options: ScanOptions,
    summary: SummaryOptions,
    inputs: Digest256,
    /// The same without the device.
    work: Digest256,
    /// An existing scan of other weights, or from another device, under the same name.
    other: Option<ScanMeta>,
}

impl<'a> ModelScan<'a> {
    /// Prepares a scan of `only_heads`, or of all heads, and writes its prompts as they will be run.
    ///
    /// # Errors
    /// Prompts that the model cannot read, or that cannot be written; a complete scan that would be replaced by one of
    /// some heads.
    pub fn new(
        layout: &Layout,
        handle: &'a ModelHandle,
        prompts: &PromptSet,
        measure: &MeasureArgs,
        only_heads: Option<&[HeadId]>,
    ) -> Result<Self, CliError> {
        let path = layout.scan(prompts.task.name(), &handle.name);
        let before = ScanFile::read(&path).ok().map(|scan| scan.meta);
        // A complete scan, which tables need, is not overwritten by a partial one.
        if only_heads.is_some() && before.as_ref().is_some_and(|meta| meta.only_heads.is_none()) {
            return Err(CliError::WholeScan { path });
        }
        let tokenized = prompts.tokenize(handle)?;
        tokenized.require_fit(handle.spec().n_ctx)?;
        require_references(&tokenized, Split::All, measure.scan_options())?;
        let written = tokenized.write(layout)?;
        let meta = scan_meta(handle, prompts, measure.scan_options(), only_heads);
        let prompts_hash = Digest256::of_file(&written);
        let summary = SummaryOptions { resampling: measure.effort.resampling(), ..SummaryOptions::default() };
        let digest = |meta: &ScanMeta| {
            Digest256::of(&json!({ "scan": meta, "prompts": prompts_hash, "resampling": summary.resampling }))
        };
        let inputs = digest(&meta);
        let work = digest(&ScanMeta { device: None, precision: None, ..meta.clone() });
        let of = |meta: &ScanMeta| {
            (meta.provenance.weight_hash.clone(), meta.device.clone(), meta.precision.clone())
        };
        let other = before.filter(|before| of(before) != of(&meta));
        let options = handle.scan_options(measure.scan_options());
        Ok(Self { handle, tokenized, meta, options, summary, inputs, work, other })
    }

    /// Rejects a memory limit that is too small for the scan.
    ///
    /// # Errors
    /// [`cs_engine::EngineError::Memory`]
    fn check_working_memory(&self) -> Result<(), CliError> {
        let heads = self.meta.scanned_heads();
        let cost = cost_of_heads(self.handle.spec(), &self.tokenized, &heads, self.options);
        cost.map(drop).map_err(|source| CliError::Scan { model: self.handle.name.clone(), source })
    }

    /// Whether the folder already has this scan.
    pub fn is_done(&self, folder: &StudyFolder) -> bool {
        folder.is_done(&self.step(), &self.inputs)
    }

    fn step(&self) -> String {
        step(&self.meta.task, &self.handle.name)
    }

    /// Scans, resuming an interrupted run, and writes the per-prompt file and the scan file.
    ///
    /// # Errors
    /// A scan that is impossible, or files that cannot be written.
    pub fn run(self, folder: &mut StudyFolder, decoder: &Decoder, display: Display) -> Result<(), CliError> {
        let (task, model) = (&self.meta.task, &self.handle.name);
        self.note_what_is_replaced(display);
        let n_heads = self.meta.scanned_heads().len();
        let (per_prompt, partial, seconds) = self.ablate(folder, decoder, display)?;
        let heads = counted(n_heads, "head", "heads");
        let note = format!("{model:16} {task:12} {heads} in {seconds:.1} s");
        let scan = self.keep(folder, &per_prompt)?;
        partial.finish();
        display.note(&note);
        display.detail(&format!(
            "{:16} {:12} {} ({} distinct), accuracy {:.1}%, logit difference {:+.3}",
            "",
            "",
            counted(scan.baseline.n_prompts as usize, "prompt", "prompts"),
            scan.baseline.n_distinct_prompts,
            100.0 * scan.baseline.base_accuracy,
            scan.baseline.base_logit_diff_mean
        ));
        Ok(())
    }

    /// Reports which scan of other weights, or from another device, this one will replace.
    fn note_what_is_replaced(&self, display: Display) {
        let Some(other) = &self.other else { return };
        let (task, model) = (&self.meta.task, &self.handle.name);
        if other.provenance.weight_hash != self.meta.provenance.weight_hash {
            return display.note(&format!(
                "{model:16} {task:12} replaces a scan of other weights under this name ({} of {})",
                other.provenance.weight_hash.get(..12).unwrap_or_default(),
                origin(other)
            ));
        }
        let kind = match (&other.device, &other.precision) {
            (Some(device), Some(precision)) => format!("{device}, {precision}"),
            _ => "a CPU".to_owned(),
        };
        display.warn(&format!(
            "{model:16} {task:12} will replace the scan that was made on {kind}, since this run computes on {}: to keep it, use {}",
            self.handle.compute.kind(),
            partial::options(&kind)
        ));
    }

    /// Scans some heads as a part of a study, resuming an interrupted run, and writes only the per-prompt file: scan files
    /// have all heads.
    ///
    /// # Errors
    /// See [`Self::run`].
    pub fn run_part(
        self,
        folder: &mut StudyFolder,
        decoder: &Decoder,
        display: Display,
    ) -> Result<(), CliError> {
        let (per_prompt, partial, _) = self.ablate(folder, decoder, display)?;
        let path = folder.layout.per_prompt(&self.meta.task, &self.handle.name);
        per_prompt.write(&path)?;
        folder.done(&self.step(), self.inputs, &[path])?;
        partial.finish();
        Ok(())
    }

    /// Whether a scan was made in this way, apart from its heads.
    pub fn is_of(&self, meta: &ScanMeta) -> bool {
        ScanMeta { only_heads: None, ..meta.clone() } == ScanMeta { only_heads: None, ..self.meta.clone() }
    }

    /// Writes a scan's per-prompt file and scan file.
    ///
    /// # Errors
    /// Inconsistent results, or files that cannot be written.
    pub fn keep(self, folder: &mut StudyFolder, per_prompt: &PerPromptScan) -> Result<ScanFile, CliError> {
        let (task, model) = (&self.meta.task, &self.handle.name);
        let scan = summarise_scan(per_prompt, &self.summary)?;
        let paths = [folder.layout.per_prompt(task, model), folder.layout.scan(task, model)];
        per_prompt.write(&paths[0])?;
        scan.write(&paths[1])?;
        folder.done(&self.step(), self.inputs, &paths)?;
        Ok(scan)
    }

    /// Ablates the heads; returns the results, the file of partial results, and the seconds it took.
    fn ablate(
        &self,
        folder: &StudyFolder,
        decoder: &Decoder,
        display: Display,
    ) -> Result<(PerPromptScan, Partial, f64), CliError> {
        let (task, model) = (&self.meta.task, &self.handle.name);
        let n_heads = self.meta.scanned_heads().len();
        let mut partial = folder.partial_scan(task, model, &self.work, &self.handle.compute.kind());
        partial.notes().for_each(|note| display.warn(&format!("{model:16} {task:12} {note}")));
        let known = std::mem::take(&mut partial.known);
        if !known.is_empty() {
            let n_known = known.iter().filter(|x| x.is_finite()).count();
            let share = 100.0 * n_known as f64 / known.len() as f64;
            display.note(&format!("{model:16} {task:12} resuming: {share:.0}% was done"));
        }
        let bar = display.bar("scan", model, task, n_heads as u64, "heads");
        let mut observe = |underway: Underway<'_>| {
            partial.keep(underway.ablated);
            bar.advance(underway.progress.done, underway.progress.total)
        };
        let meta = self.meta.clone();
        let per_prompt =
            cs_circuits::scan::resume(decoder, &self.tokenized, meta, self.options, known, &mut observe)
                .map_err(|source| CliError::Scan { model: model.clone(), source })?;
        let seconds = bar.finish();
        Ok((per_prompt, partial, seconds))
    }
}

/// The source of a scanned model's files.
fn origin(meta: &ScanMeta) -> String {
    match meta.provenance.options.get(COMMIT).and_then(serde_json::Value::as_str) {
        Some(commit) => format!("{} at {commit}", meta.hf_name),
        None => meta.hf_name.clone(),
    }
}

/// One model's baseline and its five strongest heads in each direction.
fn describe(text: &mut String, scan: &ScanFile, is_file: bool) {
    let head = |h: &cs_analysis::scan_file::HeadDelta| format!("L{}H{} {:+.3}", h.layer, h.head, h.delta);
    let list = |heads: &[cs_analysis::scan_file::HeadDelta]| {
        heads.iter().take(5).map(head).collect::<Vec<_>>().join(", ")
    };
    let base = &scan.baseline;
    let some = scan.meta.only_heads.as_ref().map_or_else(String::new, |only| {
        format!(", {} of {} heads", only.len(), u64::from(scan.meta.n_layers) * u64::from(scan.meta.n_heads))
    });
    let _ = writeln!(
        text,
        "{} on {} ({}, {}{some}): logit difference {:.3}, accuracy {:.1}%",
        scan.meta.model_name,
        scan.meta.task,
        scan.split,
        counted(base.n_prompts as usize, "prompt", "prompts"),
        base.base_logit_diff_mean,
        100.0 * base.base_accuracy
    );
    if base.base_logit_diff_ci_low.is_none() {
        let _ = writeln!(
            text,
            "  intervals over prompts: not estimable from {}; at least {FEWEST_PROMPTS} per split are needed ({})",
            counted(base.n_distinct_prompts as usize, "distinct prompt", "distinct prompts"),
            if is_file { "more rows" } else { "--prompts" }
        );
    }
    if base.performance().does_task() == Some(false) {
        let _ = writeln!(
            text,
            "  the model does not do this task (logit difference{}, accuracy {:.1}%), so these effects say little of how it \
             is done",
            cs_report::words::signed_range(base.base_logit_diff_ci_low, base.base_logit_diff_ci_high)
                .unwrap_or_default(),
            100.0 * base.base_accuracy
        );
    }
    let _ = writeln!(text, "  heads that help most (Δ):   {}", list(&scan.top_suppressor_candidates));
    let _ = writeln!(text, "  heads that hinder most (Δ): {}", list(&scan.top_anti_suppressors));
}
