//! The shared setup of experiments on a study's hero heads: its scans, models and prompts.

use std::path::Path;

use cs_analysis::categories::{Category, Classified, ClassifiedModel, HeroHead, classify};
use cs_analysis::contrast::Contrast;
use cs_analysis::effects::{HeadEffects, ModelEffects};
use cs_analysis::joint::{JointTable, ModelInfo};
use cs_analysis::known_models::split_revision;
use cs_analysis::layout::Layout;
use cs_analysis::origin::Origin;
use cs_analysis::per_prompt::PerPromptScan;
use cs_analysis::scan_file::{Provenance, ScanFile};
use cs_circuits::prompts::{PromptSet, Split, Tokenize, TokenizedPrompts};
use serde_json::{Map, Value, json};

use super::scan::prompts_folder;
use super::tables::read_scans;
use crate::args::ExperimentArgs;
use crate::digest::Digest256;
use crate::downloads;
use crate::error::CliError;
use crate::handle::ModelHandle;
use crate::progress::Display;
use crate::scan_meta::COMMIT;

/// The heads of a study's models in one contrast, from its scans.
pub struct StudyHeads {
    /// Every head's category.
    pub classified: Classified,
    /// The strongest heads of each model and category.
    pub heroes: Vec<HeroHead>,
}

impl StudyHeads {
    /// Classifies the heads of a joint table.
    ///
    /// # Errors
    /// A threshold of 0 or less.
    pub fn new(joint: &JointTable, tau: f64, top_k: usize) -> Result<Self, CliError> {
        let classified = classify(joint, tau)?;
        let heroes = classified.heroes(joint, top_k);
        Ok(Self { classified, heroes })
    }

    /// The two tasks.
    pub fn contrast(&self) -> &Contrast {
        &self.classified.contrast
    }

    /// A text about the contrast, with its name as title if it is one of several.
    pub fn titled(&self, all: &[Self], text: &str) -> String {
        if all.len() > 1 { format!("{}\n{text}", self.contrast()) } else { text.to_owned() }
    }

    /// The heads of a model, if it is included.
    pub fn of_model(&self, model: &str) -> Option<&ClassifiedModel> {
        self.classified.models.iter().find(|m| m.info.model == model)
    }
}

/// A study to experiment on.
pub struct OpenStudy {
    /// The effects in its scans.
    pub effects: HeadEffects,
    /// Its heads in each contrast.
    pub contrasts: Vec<StudyHeads>,
    /// The models to experiment on, in the study's order.
    pub handles: Vec<ModelHandle>,
}

impl OpenStudy {
    /// The study in a folder, and the models to experiment on: the named ones, else all that were scanned. Hub models are
    /// downloaded if necessary.
    ///
    /// # Errors
    /// A folder without scans; a model that was not scanned, has moved, or cannot be loaded.
    pub fn open(args: &ExperimentArgs, top_k: usize, display: Display) -> Result<Self, CliError> {
        let compute = args.device.choose(display)?;
        let layout = Layout::new(&args.study.out);
        let (scans, contrasts) = read_scans(&layout, &args.contrasts, display)?;
        let heads = |contrast: &Contrast| StudyHeads::new(&scans.joint(contrast, args.tau)?, args.tau, top_k);
        let contrasts = contrasts.iter().map(heads).collect::<Result<Vec<_>, CliError>>()?;
        let mut effects = scans.effects()?;
        // In a study with contrasts, only the models that are in one.
        let is_contrasted = |model: &str| contrasts.iter().any(|heads| heads.of_model(model).is_some());
        effects.models.retain(|m| contrasts.is_empty() || is_contrasted(&m.info.model));
        let models = &effects.models;
        if args.models.is_empty() {
            let reopened = models.iter().map(|m| reopen(&layout, m, display));
            let mut handles = reopened.collect::<Result<Vec<ModelHandle>, _>>()?;
            ModelHandle::run_on(&mut handles, &compute, display);
            return Ok(Self { effects, contrasts, handles });
        }
        let place = |name: &str| models.iter().position(|m| m.info.model == name);
        let names = ModelHandle::names(&args.models)?;
        if let Some(unknown) = names.iter().find(|name| place(name).is_none()) {
            let tasks: Vec<&str> = match contrasts.first() {
                Some(heads) => heads.contrast().tasks().to_vec(),
                None => effects.tasks.iter().map(String::as_str).collect(),
            };
            return Err(CliError::not_scanned(unknown, &tasks, layout.root()));
        }
        let mut handles = ModelHandle::fetch_all(&args.models, display)?;
        ModelHandle::run_on(&mut handles, &compute, display);
        handles.sort_by_key(|s| place(&s.name));
        Ok(Self { effects, contrasts, handles })
    }

    /// The contrasts, of which there must be at least one.
    ///
    /// # Errors
    /// A study of one task.
    pub fn contrasted(&self, folder: &Path) -> Result<&[StudyHeads], CliError> {
        if self.contrasts.is_empty() {
            let task = self.effects.tasks.join(", ");
            return Err(CliError::OneTask { folder: folder.to_owned(), task });
        }
        Ok(&self.contrasts)
    }
}

/// The model of a scan, from its original location (for a Hub model, at the same commit), else by its name.
fn reopen(layout: &Layout, scanned: &ModelEffects, display: Display) -> Result<ModelHandle, CliError> {
    let model = scanned.info.model.as_str();
    let moved = |from: &str| CliError::ModelMoved { model: model.to_owned(), from: from.to_owned() };
    let task = scanned.tasks.first().ok_or_else(|| moved(""))?;
    let scan = ScanFile::read(&layout.scan(&task.task, model))?;
    let from = scan.meta.hf_name;
    if let Some(commit) = scan.meta.provenance.options.get(COMMIT).and_then(Value::as_str) {
        let then = format!("{from}@{commit}");
        downloads::fetch(std::slice::from_ref(&then), display)?;
        let mut handle = ModelHandle::open(&then, display)?;
        // Its name includes the commit; the study uses the name given by the user.
        if split_revision(&handle.name).0 == split_revision(model).0 {
            handle.name = model.to_owned();
            return Ok(handle);
        }
    }
    for name in [from.strip_prefix(ModelHandle::BUILT_IN).unwrap_or(&from), model] {
        match ModelHandle::open(name, display) {
            Ok(handle) if handle.name == model => return Ok(handle),
            Ok(_) | Err(CliError::UnknownModel { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Err(moved(&from))
}

/// The results of `measure` for the given models, on all tasks on which they were scanned, and of `read` for the study's other
/// models, in the study's order.
///
/// # Errors
/// A model that was not scanned, and the errors of `measure` and `read`.
pub fn of_each_model<T>(
    (layout, effects, handles): (&Layout, &HeadEffects, &[ModelHandle]),
    mut measure: impl FnMut(&TestedModel<'_>) -> Result<T, CliError>,
    read: impl Fn(&str) -> Result<Option<T>, CliError>,
) -> Result<Vec<T>, CliError> {
    let mut found = Vec::new();
    for model in &effects.models {
        let name = &model.info.model;
        if let Some(handle) = handles.iter().find(|s| s.name == *name) {
            let tasks: Vec<&str> = model.tasks.iter().map(|t| t.task.as_str()).collect();
            found.push(measure(&TestedModel::new(layout, &model.info, &tasks, handle)?)?);
        } else {
            found.extend(read(name)?);
        }
    }
    Ok(found)
}

/// A model with its scans on some tasks, and their prompts.
pub struct TestedModel<'a> {
    /// The study's folder.
    pub layout: Layout,
    /// The model.
    pub handle: &'a ModelHandle,
    /// The study's information about it.
    info: &'a ModelInfo,
    /// Logit differences per prompt on each task.
    pub scans: Vec<PerPromptScan>,
    /// Prompts of each task.
    pub prompts: Vec<TokenizedPrompts>,
    /// The same as recorded by the study.
    pub sets: Vec<PromptSet>,
    /// The split used to evaluate heads.
    pub split: Split,
    /// Hashes to store in results.
    provenance: Map<String, Value>,
}

impl<'a> TestedModel<'a> {
    /// Reads a scanned model's per-prompt files and prompts on these tasks, of which there must be at least
    /// one.
    ///
    /// # Errors
    /// A model that was not scanned, or with other weights or another tokenizer than now; files that cannot be read.
    pub fn new(
        layout: &Layout,
        info: &'a ModelInfo,
        tasks: &[&str],
        handle: &'a ModelHandle,
    ) -> Result<Self, CliError> {
        let name = &handle.name;
        let scan = |task: &&str| PerPromptScan::read(&layout.per_prompt(task, name));
        let scans = tasks.iter().map(scan).collect::<Result<Vec<_>, _>>()?;
        if scans.iter().any(|s| s.meta.provenance.weight_hash != handle.info.checkpoint.weight_hash()) {
            return Err(CliError::OtherWeights { model: name.clone() });
        }
        let mut provenance = Map::new();
        provenance.insert("tokenizer_hash".into(), handle.hash().into());
        let recorded =
            [(DEVICE, handle.compute.recorded_device()), (PRECISION, handle.compute.recorded_precision())];
        for (name, value) in recorded {
            value.into_iter().for_each(|value| drop(provenance.insert(name.into(), value.into())));
        }
        let (mut prompts, mut sets) = (Vec::new(), Vec::new());
        for task in tasks {
            let of_task = RecordedPrompts::load(layout, task, handle)?;
            let task = &of_task.tokenized.task;
            provenance.insert(format!("prompts_{task}"), of_task.set.n_prompts.into());
            provenance.insert(format!("task_hash_{task}"), of_task.set.task.hash().into());
            prompts.push(of_task.tokenized);
            sets.push(of_task.set);
        }
        let first =
            prompts.first().ok_or_else(|| CliError::not_scanned(name, &["any task"], layout.root()))?;
        let split = first.protocol.held_out_split();
        let layout = layout.clone();
        Ok(Self { layout, handle, info, scans, prompts, sets, split, provenance })
    }

    /// The same for the tasks of a contrast, with the model's heads in it.
    ///
    /// # Errors
    /// See [`TestedModel::new`].
    pub fn in_contrast(
        layout: &Layout,
        heads: &'a StudyHeads,
        handle: &'a ModelHandle,
    ) -> Result<(Self, &'a ClassifiedModel), CliError> {
        let tasks = heads.contrast().tasks();
        let model = heads
            .of_model(&handle.name)
            .ok_or_else(|| CliError::not_scanned(&handle.name, &tasks, layout.root()))?;
        Ok((Self::new(layout, &model.info, &tasks, handle)?, model))
    }

    /// The origin of an experiment's results on heads classified at `tau`; `options` are the experiment's own.
    pub fn origin(&self, tau: f64, options: impl IntoIterator<Item = (&'static str, Value)>) -> Origin {
        let mut origin = self.origin_without_heads();
        let all = &mut origin.provenance.options;
        all.insert("tau".into(), tau.into());
        all.extend(options.into_iter().map(|(name, value)| (name.to_owned(), value)));
        origin
    }

    /// The same for results that do not depend on hero heads.
    pub fn origin_without_heads(&self) -> Origin {
        let provenance = Provenance {
            program_version: env!("CARGO_PKG_VERSION").to_owned(),
            weight_hash: self.handle.info.checkpoint.weight_hash().to_owned(),
            options: self.provenance.clone(),
        };
        Origin::new(self.info, &self.scans[0], provenance)
    }

    /// The inputs without the device, which identify the work on any device.
    pub fn work(&self, origin: &Origin) -> Value {
        let mut origin = origin.clone();
        [DEVICE, PRECISION].iter().for_each(|name| drop(origin.provenance.options.remove(*name)));
        self.inputs(&origin)
    }

    /// Everything that an experiment's results depend on, except the experiment's own options.
    pub fn inputs(&self, origin: &Origin) -> Value {
        let digest = |prompts: &TokenizedPrompts| {
            Digest256::of_file(&self.layout.per_prompt(&prompts.task, &self.handle.name))
        };
        json!({ "origin": origin, "scans": self.prompts.iter().map(digest).collect::<Vec<_>>() })
    }
}

/// The options under which results record their device.
const DEVICE: &str = "device";
const PRECISION: &str = "precision";

/// Remarks about categories without heads.
pub fn empty_categories(contrast: &Contrast, model: &ClassifiedModel) -> Vec<String> {
    let is_empty = |category: &Category| model.heads.iter().all(|h| h.category != *category);
    let working = [Category::Shared, Category::OnlyA, Category::OnlyB];
    let empty = working.into_iter().filter(is_empty);
    empty.map(|category| format!("no head is {}", contrast.category(category))).collect()
}

/// The prompts of one task as the study recorded them.
struct RecordedPrompts {
    tokenized: TokenizedPrompts,
    set: PromptSet,
}

impl RecordedPrompts {
    fn load(layout: &Layout, task: &str, handle: &ModelHandle) -> Result<Self, CliError> {
        let folder = prompts_folder(layout);
        let recorded = PromptSet::load(&PromptSet::path(&folder, task))?;
        let options = recorded.options();
        // Checks that the tokenizer is still the one for which the prompts were resolved.
        let set = PromptSet::load_or_resolve(&folder, &recorded.task, &options, &[handle as &dyn Tokenize])?;
        Ok(Self { tokenized: set.tokenize(handle)?, set })
    }
}
