//! `ablate`: ablation of sets of hero heads, compared with random sets.

use std::fmt::Write;
use std::time::Instant;

use cs_analysis::ablation::{
    ALL_HEADS, AblationFile, AblationPlan, AblationSettings, Evidence, HeadSet, ModelAblation, Outcome,
    SetKind, TaskOutcomes, area_table, evaluate, plan, raw_table, run_random_sets, summary_table, test_table,
};
use cs_analysis::categories::DEFAULT_TOP_K;
use cs_analysis::contrast::{Category, Contrast, Side};
use cs_analysis::dissociation::{
    Dissociation, dissociation, dissociation_scaling_table, dissociation_table, scaling,
};
use cs_analysis::files::write_bytes;
use cs_analysis::layout::Layout;
use cs_analysis::ranged::Ranged;
use cs_analysis::scan_file::ACCURACY;
use cs_analysis::table::write_all;
use cs_analysis::words::counted;
use cs_circuits::ablate::{ablate_sets, recalled, subsample};
use cs_circuits::prompts::Reference;
use cs_circuits::scan::{Ablation, ScanOptions, ValueBias, require_references};
use serde_json::json;

use super::experiment::{OpenStudy, StudyHeads, TestedModel};
use crate::args::AblateArgs;
use crate::digest::Digest256;
use crate::error::CliError;
use crate::handle::{LazyDecoder, ModelHandle};
use crate::measured::{Measured, Sets};
use crate::partial::Partial;
use crate::progress::Display;
use crate::study_folder::StudyFolder;

/// How sets are ablated and compared.
#[derive(Clone, Copy)]
pub struct AblateOptions {
    /// What replaces `z`; `None` for what the scan used.
    pub ablation: Option<Ablation>,
    /// Treatment of value biases; `None` for what the scan used.
    pub value_bias: Option<ValueBias>,
    /// Reference prompts; `None` for what the scan used, or the default if it used none.
    pub reference: Option<Reference>,
    /// Maximum number of random sets of each kind and size.
    pub random_sets: usize,
    /// Maximum number of held-out prompts per task on which random sets are run.
    pub random_prompts: usize,
    /// Bootstrap resamples of the prompts.
    pub resamples: u32,
    /// Bytes for activations.
    pub memory: usize,
}

/// Ablates sets of heads in a study's models and writes the results.
pub fn ablate(args: &AblateArgs, display: Display) -> Result<String, CliError> {
    let study = OpenStudy::open(&args.experiment, DEFAULT_TOP_K, display)?;
    let contrasts = study.contrasted(&args.experiment.study.out)?;
    let options = AblateOptions {
        ablation: args.ablation,
        value_bias: args.value_bias,
        reference: args.reference,
        random_sets: args.sets.random_sets(args.effort.effort),
        random_prompts: args.sets.random_prompts(args.effort.effort),
        resamples: args.effort.resampling().n_resamples,
        memory: args.experiment.memory,
    };
    let mut folder = StudyFolder::open(&args.experiment.study.out)?;
    let mut text = String::new();
    for heads in contrasts {
        text +=
            &heads.titled(contrasts, &ablate_models(&mut folder, heads, &study.handles, options, display)?);
    }
    Ok(text)
}

/// Ablates a contrast's sets of heads in these models, unless the folder already has the results, and writes the tables of
/// all models of the study with ablated sets; returns a summary.
///
/// # Errors
/// A model that was not scanned or cannot be run, or files that cannot be written.
pub fn ablate_models(
    folder: &mut StudyFolder,
    heads: &StudyHeads,
    handles: &[ModelHandle],
    options: AblateOptions,
    display: Display,
) -> Result<String, CliError> {
    let layout = folder.layout.clone();
    let contrast = heads.contrast();
    let mut own = Vec::new();
    for handle in handles.iter().filter(|handle| heads.of_model(&handle.name).is_some()) {
        own.push(ablate_model(folder, &layout, heads, handle, options, display)?);
    }
    // Sets that were ablated with other options, or of other heads, do not belong in the same tables.
    let method = |file: &AblationFile| {
        let settings = &file.ablation.settings;
        let AblationSettings { ablation, value_bias, reference, tau, .. } = settings.clone();
        (ablation, value_bias, reference, tau)
    };
    let now = own.first().map(method);
    let mut files = Vec::new();
    for model in &heads.classified.models {
        let name = &model.info.model;
        let path = layout.model_ablation(contrast, name);
        if let Some(at) = own.iter().position(|file| file.ablation.origin.model == *name) {
            files.push(own.swap_remove(at));
        } else if path.exists() {
            let file = AblationFile::read(&path, contrast)?;
            if now.as_ref().is_none_or(|now| method(&file) == *now) {
                files.push(file);
            } else {
                let (ablation, value_bias, _, tau) = method(&file);
                display.note(&format!(
                    "left out: {name}, whose sets were ablated with --ablation {ablation} --value-bias {value_bias} --tau {tau}"
                ));
            }
        }
    }
    write_tables(folder, contrast, files, display)
}

/// Ablates one model's sets and stores the results in its own file; if that file exists and was made from the same
/// inputs, it is read instead.
fn ablate_model(
    folder: &mut StudyFolder,
    layout: &Layout,
    heads: &StudyHeads,
    handle: &ModelHandle,
    options: AblateOptions,
    display: Display,
) -> Result<AblationFile, CliError> {
    let (tested, model) = TestedModel::in_contrast(layout, heads, handle)?;
    let (contrast, tested) = (heads.contrast(), &tested);
    let name = &handle.name;
    let unknown = |why| CliError::ScanOption { model: name.clone(), why };
    let meta = &tested.scans[0].meta;
    let ablation = options.ablation.map_or_else(|| meta.ablation.parse().map_err(unknown), Ok)?;
    let value_bias = options.value_bias.map_or_else(|| meta.value_bias.parse().map_err(unknown), Ok)?;
    let of_scan = || meta.reference.as_deref().map_or_else(|| Ok(Reference::default()), str::parse);
    let reference = options.reference.map_or_else(|| of_scan().map_err(unknown), Ok)?;
    let scan = ScanOptions {
        ablation,
        value_bias,
        reference,
        engine: cs_engine::Options { memory: options.memory },
    };
    let settings = AblationSettings {
        ablation: ablation.to_string(),
        value_bias: value_bias.to_string(),
        reference: scan.reference_name(),
        n_random_sets: options.random_sets,
        n_random_prompts: options.random_prompts,
        tau: heads.classified.tau,
        n_resamples: options.resamples,
    };
    let origin = tested.origin(heads.classified.tau, []);
    let plan = plan(contrast, model, options.random_sets, meta.seed);
    let inputs = Digest256::of(&json!({ "model": tested.inputs(&origin), "settings": settings }));
    let step = ablate_step(contrast, name);
    let path = tested.layout.model_ablation(contrast, name);
    if folder.is_done(&step, &inputs) {
        display.detail(&format!("{name:16} sets of heads: done"));
        return Ok(AblationFile::read(&path, contrast)?);
    }
    for prompts in &tested.prompts {
        require_references(prompts, tested.split, scan)
            .map_err(|source| CliError::Scan { model: name.clone(), source: source.into() })?;
    }
    let decoder = tested.handle.lazy();
    let work = tested.work(&origin);
    let work = Digest256::of(&json!({ "model": work, "settings": settings }));
    let mut partial = folder.partial_ablation(contrast, name, &work, &handle.compute.kind());
    partial.notes().for_each(|note| display.warn(&format!("{name:16} sets of heads: {note}")));
    let known = std::mem::take(&mut partial.known);
    let measured = &folder.measured;
    let mut runs = Runs { tested, decoder, measured, scan, display, partial, known, at: 0 };
    let outcomes = runs.all(&plan, &settings)?;
    let partial = runs.partial;
    let evidence = Evidence {
        contrast,
        model,
        scans: [&tested.scans[0], &tested.scans[1]],
        plan: &plan,
        outcomes: [&outcomes[0], &outcomes[1]],
    };
    let file = AblationFile {
        ablation: evaluate(&origin, &settings, evidence)?,
        dissociation: dissociation(&origin, &settings, evidence)?,
    };
    file.write(&path)?;
    folder.done(&step, inputs, &[path])?;
    partial.finish();
    Ok(file)
}

/// The name of a model's ablation in the folder's record.
pub fn ablate_step(contrast: &Contrast, model: &str) -> String {
    if contrast.is_published() { format!("ablate {model}") } else { format!("ablate {contrast} {model}") }
}

/// The runs of one model's sets. Results are saved in order as they arrive, so that after a kill the next run reads the
/// first ones and continues with the rest: the order of runs depends only on their results.
struct Runs<'a> {
    tested: &'a TestedModel<'a>,
    decoder: LazyDecoder<'a>,
    /// The results of the study's parts, if it was divided into parts.
    measured: &'a Measured,
    scan: ScanOptions,
    display: Display,
    partial: Partial,
    /// Results of all runs so far; see [`Runs::keep`].
    known: Vec<f32>,
    /// The start of the next run's numbers in `known`.
    at: usize,
}

impl Runs<'_> {
    /// Hero sets and lesions on all held-out prompts, then random sets on some of them until the tests are decided.
    fn all(
        &mut self,
        plan: &AblationPlan,
        settings: &AblationSettings,
    ) -> Result<[TaskOutcomes; 2], CliError> {
        let start = Instant::now();
        let mut outcomes = [self.run(0, None, &plan.sets)?, self.run(1, None, &plan.sets)?];
        for (task, of_task) in outcomes.iter_mut().enumerate() {
            let prompts = &self.tested.prompts[task];
            of_task.subsample = subsample(prompts, self.tested.split, settings.n_random_prompts, self.scan);
        }
        let places = outcomes.each_ref().map(|o| o.subsample.clone());
        run_random_sets(plan, settings, &mut outcomes, &mut |task, sets| {
            Ok::<_, CliError>(self.run(task, Some(&places[task]), sets)?.sets)
        })?;
        let n_random = outcomes.each_ref().map(|o| o.random.iter().map(Vec::len).sum::<usize>());
        self.display.note(&format!(
            "{:16} {} and as many random ones as each test needs, {} on {} and {} on {}, in {:.1} s",
            self.tested.handle.name,
            counted(plan.sets.len(), "set of heads", "sets of heads"),
            n_random[0],
            outcomes[0].task,
            n_random[1],
            outcomes[1].task,
            start.elapsed().as_secs_f64()
        ));
        Ok(outcomes)
    }

    /// Runs sets on the held-out prompts of a task, or on some of them.
    fn run(
        &mut self,
        task: usize,
        places: Option<&[usize]>,
        sets: &[HeadSet],
    ) -> Result<TaskOutcomes, CliError> {
        let (tested, name) = (self.tested, &self.tested.handle.name);
        let prompts = &tested.prompts[task];
        if let Some(found) = self.measured.sets(name, &prompts.task, places.is_some()) {
            return self.complete(found, task, places, sets);
        }
        let n_prompts = places.map_or(prompts.of_split(tested.split).count(), <[usize]>::len);
        // The baseline, with which everything is compared, is run again, since it costs little.
        let todo = if self.is_known(sets.len(), n_prompts) { &[][..] } else { sets };
        let mut outcomes = self.ablate(task, places, todo)?;
        if todo.len() < sets.len() {
            outcomes.sets = self.recall(sets.len(), n_prompts);
        } else {
            self.keep(&outcomes.sets);
        }
        Ok(outcomes)
    }

    /// Ablates sets.
    fn ablate(
        &self,
        task: usize,
        places: Option<&[usize]>,
        sets: &[HeadSet],
    ) -> Result<TaskOutcomes, CliError> {
        let (tested, name) = (self.tested, &self.tested.handle.name);
        let prompts = &tested.prompts[task];
        let decoder = self.decoder.get()?;
        let bar = self.display.bar("ablate", name, &prompts.task, sets.len() as u64, "sets");
        let mut observe = |progress: cs_engine::Progress| bar.advance(progress.done, progress.total);
        let outcomes = ablate_sets(decoder, prompts, (tested.split, places), sets, self.scan, &mut observe)
            .map_err(|source| CliError::Ablate { model: name.clone(), source })?;
        bar.finish();
        Ok(outcomes)
    }

    /// The outcomes of sets, most of which parts of the study have run: the random sets needed are predicted from the scans, and
    /// those that were not predicted are run here.
    fn complete(
        &self,
        found: &Sets,
        task: usize,
        places: Option<&[usize]>,
        sets: &[HeadSet],
    ) -> Result<TaskOutcomes, CliError> {
        let missing: Vec<HeadSet> =
            sets.iter().filter(|&set| !found.outcomes.contains_key(set)).cloned().collect();
        let mut others = match missing.is_empty() {
            true => vec![],
            false => {
                self.measured.check_device(&self.tested.handle.compute)?;
                self.ablate(task, places, &missing)?.sets
            }
        }
        .into_iter();
        let outcome = |set| found.outcomes.get(set).cloned().or_else(|| others.next()).unwrap_or_default();
        let sets = sets.iter().map(outcome).collect();
        let prompts = &self.tested.prompts[task];
        Ok(recalled(prompts, (self.tested.split, places), found.base.clone(), sets))
    }

    /// Whether the results of the next run, of this many sets, are known.
    fn is_known(&self, n_sets: usize, n_prompts: usize) -> bool {
        self.at + 3 * n_sets * n_prompts <= self.known.len()
    }

    /// The known outcomes of the next run.
    fn recall(&mut self, n_sets: usize, n_prompts: usize) -> Vec<Outcome> {
        let numbers = &self.known[self.at..];
        self.at += 3 * n_sets * n_prompts;
        numbers.chunks_exact(3 * n_prompts).take(n_sets).map(Outcome::from_numbers).collect()
    }

    /// Adds a run's outcomes to the known results: of each set, the mean differences, logit differences, and 1 or 0 for
    /// correct.
    fn keep(&mut self, outcomes: &[Outcome]) {
        self.known.truncate(self.at);
        self.known.extend(outcomes.iter().flat_map(Outcome::numbers));
        self.at = self.known.len();
        self.partial.keep(&self.known);
    }
}

/// Writes the tables of all models, and returns a summary.
fn write_tables(
    folder: &mut StudyFolder,
    contrast: &Contrast,
    files: Vec<AblationFile>,
    display: Display,
) -> Result<String, CliError> {
    let (models, dissociations): (Vec<ModelAblation>, Vec<Dissociation>) =
        files.into_iter().map(|file| (file.ablation, file.dissociation)).unzip();
    let tables = [
        summary_table(contrast, &models),
        test_table(contrast, &models),
        area_table(contrast, &models),
        dissociation_table(contrast, &dissociations),
        dissociation_scaling_table(contrast, &scaling(&dissociations)),
    ];
    folder.add("ablate", display, |layout| {
        let raw = layout.ablated_sets(contrast);
        write_bytes(&raw, raw_table(contrast, &models).to_csv().as_bytes())?;
        Ok([vec![raw], write_all(&tables, &layout.tables())?].concat())
    })?;

    let layout = &folder.layout;
    let mut text = String::new();
    for (model, dissociation) in models.iter().zip(&dissociations) {
        describe(&mut text, model);
        describe_dissociation(&mut text, dissociation);
        for note in &model.notes {
            let _ = writeln!(text, "  {note}");
        }
        text.push('\n');
    }
    let _ = writeln!(text, "{ACCURACY}");
    let _ = writeln!(
        text,
        "Sets are in {}, tables in {}",
        layout.ablated_sets(contrast).display(),
        layout.tables().display()
    );
    Ok(text)
}

/// Hero sets of all heads against random sets, k by k.
fn describe(text: &mut String, model: &ModelAblation) {
    let settings = &model.settings;
    let _ = writeln!(
        text,
        "{} ({} ablation{}, value bias {}, {} prompts, up to {} random sets of each size on up to {} of them)",
        model.origin.model,
        settings.ablation,
        settings.reference.as_ref().map_or_else(String::new, |r| format!(" over {r} reference prompts")),
        settings.value_bias,
        model.origin.split.as_str(),
        settings.n_random_sets,
        settings.n_random_prompts
    );
    let [a, b] = model.contrast.keys().map(|key| format!("{key}: accuracy hero, random, p"));
    let _ = writeln!(text, "  {:>4}  {a:>38}  {b:>38}", "k");
    for test in &model.tests {
        let shown = test.selection == ALL_HEADS && test.against == SetKind::Random && test.measure == "acc";
        if !shown {
            continue;
        }
        let cell = |value: Option<f64>, scale: f64, unit: &str| {
            value.map_or("–".to_owned(), |v| format!("{:.1}{unit}", scale * v))
        };
        let p = test.p_value.map_or("–".to_owned(), |p| format!("{p:.3}"));
        let cells = format!("{}, {}, {p}", cell(test.hero, 100.0, "%"), cell(test.random_mean, 100.0, "%"));
        let _ = if test.task == model.contrast.key(Side::A) {
            write!(text, "  {:4}  {cells:>38}", test.k)
        } else {
            writeln!(text, "  {cells:>38}")
        };
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
    let contrast = &dissociation.contrast;
    let [a, b] = contrast.keys();
    let [only_a, only_b] = [Category::OnlyA, Category::OnlyB].map(|c| contrast.category(c));
    let _ = if dissociation.k == 0 {
        writeln!(text, "  no lesions of either category: {}", dissociation.lesion_status)
    } else {
        writeln!(
            text,
            "  damage by {}: {a} {}, {b} {}; by as many {only_b}: {a} {}, {b} {}; interaction {}",
            counted(dissociation.k, &format!("{only_a} head"), &format!("{only_a} heads")),
            ranged(d[0][0]),
            ranged(d[0][1]),
            ranged(d[1][0]),
            ranged(d[1][1]),
            ranged(dissociation.interaction)
        )
    };
}
