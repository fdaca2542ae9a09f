//! What experiments on a study's hero heads have in common: its scans, its models, and the prompts they were asked.

use cs_analysis::categories::{Category, Classified, ClassifiedModel, HeroHead, classify};
use cs_analysis::joint::JointTable;
use cs_analysis::known_models::split_revision;
use cs_analysis::layout::{ANTI_REPEAT, IOI, Layout};
use cs_analysis::origin::Origin;
use cs_analysis::per_prompt::PerPromptScan;
use cs_analysis::scan_file::{Provenance, ScanFile};
use cs_circuits::prompts::{PromptSet, Split, Tokenize, TokenizedPrompts};
use serde_json::{Map, Value, json};

use super::scan::prompts_folder;
use super::tables::read_joint;
use crate::args::ExperimentArgs;
use crate::downloads;
use crate::error::CliError;
use crate::progress::Display;
use crate::scan_meta::COMMIT;
use crate::study_folder::Digest256;
use crate::subject::Subject;

/// A study's heads by category, as its scans have them.
pub struct StudyHeads {
    /// Every head's category.
    pub classified: Classified,
    /// The strongest heads of each model and category.
    pub heroes: Vec<HeroHead>,
}

impl StudyHeads {
    /// Classes the heads of a joint table.
    ///
    /// # Errors
    /// A threshold that is none.
    pub fn new(joint: &JointTable, tau: f64, top_k: usize) -> Result<Self, CliError> {
        let classified = classify(joint, tau)?;
        let heroes = classified.heroes(joint, top_k);
        Ok(Self { classified, heroes })
    }

    /// Those of a study's folder, and the models to experiment on: the ones named, else all that were scanned, in the
    /// study's order. Models of the Hub are downloaded if need be.
    ///
    /// # Errors
    /// A folder without scans; a model that was not scanned, is no longer where it was, or cannot be had.
    pub fn open(
        args: &ExperimentArgs,
        top_k: usize,
        display: Display,
    ) -> Result<(Self, Vec<Subject>), CliError> {
        let layout = Layout::new(&args.study.out);
        let heads = Self::new(&read_joint(&layout, args.tau, display)?, args.tau, top_k)?;
        let models = &heads.classified.models;
        if args.models.is_empty() {
            let subjects =
                models.iter().map(|m| reopen(&layout, &m.info.model, display)).collect::<Result<_, _>>()?;
            return Ok((heads, subjects));
        }
        downloads::fetch(&args.models, display)?;
        let mut subjects = Subject::open_all(&args.models, display)?;
        let place = |name: &str| models.iter().position(|m| m.info.model == name);
        if let Some(unknown) = subjects.iter().find(|s| place(&s.name).is_none()) {
            let folder = layout.root().to_owned();
            return Err(CliError::NotScanned { model: unknown.name.clone(), folder });
        }
        subjects.sort_by_key(|s| place(&s.name));
        Ok((heads, subjects))
    }
}

/// The model that a scan was made of, from where it lay then (a model of the Hub: at that commit), else by its name.
fn reopen(layout: &Layout, model: &str, display: Display) -> Result<Subject, CliError> {
    let scan = ScanFile::read(&layout.scan(IOI, model))?;
    let from = scan.meta.hf_name;
    if let Some(commit) = scan.meta.provenance.options.get(COMMIT).and_then(Value::as_str) {
        let then = format!("{from}@{commit}");
        downloads::fetch(std::slice::from_ref(&then), display)?;
        let mut subject = Subject::open(&then, display)?;
        // Its name has the commit; the study's has what the user called it.
        if split_revision(&subject.name).0 == split_revision(model).0 {
            subject.name = model.to_owned();
            return Ok(subject);
        }
    }
    for name in [from.strip_prefix(Subject::BUILT_IN).unwrap_or(&from), model] {
        match Subject::open(name, display) {
            Ok(subject) if subject.name == model => return Ok(subject),
            Ok(_) | Err(CliError::UnknownModel { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Err(CliError::ModelMoved { model: model.to_owned(), from })
}

/// A model with its scans, its heads' categories, and the prompts that it was asked.
pub struct TestedModel<'a> {
    /// The study's folder.
    pub layout: Layout,
    /// The model.
    pub subject: &'a Subject,
    /// Its heads.
    pub heads: &'a ClassifiedModel,
    /// Threshold of the categories.
    pub tau: f64,
    /// Logit differences per prompt, IOI first.
    pub scans: [PerPromptScan; 2],
    /// Prompts, IOI first.
    pub prompts: [TokenizedPrompts; 2],
    /// The same as the study recorded them.
    pub sets: [PromptSet; 2],
    /// The split that heads are judged on.
    pub split: Split,
    /// Hashes that results carry.
    provenance: Map<String, Value>,
}

impl<'a> TestedModel<'a> {
    /// Reads a scanned model's side files and prompts.
    ///
    /// # Errors
    /// A model that was not scanned, or with other weights or another tokenizer than now; files that cannot be read.
    pub fn new(layout: &Layout, classified: &'a Classified, subject: &'a Subject) -> Result<Self, CliError> {
        let name = &subject.name;
        let not_scanned = || CliError::NotScanned { model: name.clone(), folder: layout.root().to_owned() };
        let heads = classified.models.iter().find(|m| m.info.model == *name).ok_or_else(not_scanned)?;
        let scan = |task| PerPromptScan::read(&layout.per_prompt(task, name));
        let scans = [scan(IOI)?, scan(ANTI_REPEAT)?];
        if scans.iter().any(|s| s.meta.provenance.weight_hash != subject.info.checkpoint.weight_hash()) {
            return Err(CliError::OtherWeights { model: name.clone() });
        }
        let mut provenance = Map::new();
        provenance.insert("tokenizer_hash".into(), subject.hash().into());
        let ioi = RecordedPrompts::load(layout, IOI, subject)?;
        let anti = RecordedPrompts::load(layout, ANTI_REPEAT, subject)?;
        for of_task in [&ioi, &anti] {
            let task = &of_task.tokenized.task;
            provenance.insert(format!("prompts_{task}"), of_task.set.n_prompts.into());
            provenance.insert(format!("task_hash_{task}"), of_task.set.task.hash().into());
        }
        let split = ioi.tokenized.protocol.held_out_split();
        let (prompts, sets) = ([ioi.tokenized, anti.tokenized], [ioi.set, anti.set]);
        let layout = layout.clone();
        Ok(Self { layout, subject, heads, tau: classified.tau, scans, prompts, sets, split, provenance })
    }

    /// Where an experiment's results come from; `options` are the experiment's own.
    pub fn origin(&self, options: impl IntoIterator<Item = (&'static str, Value)>) -> Origin {
        let mut origin = self.origin_without_heads();
        let all = &mut origin.provenance.options;
        all.insert("tau".into(), self.tau.into());
        all.extend(options.into_iter().map(|(name, value)| (name.to_owned(), value)));
        origin
    }

    /// The same for what does not depend on which heads are heroes.
    pub fn origin_without_heads(&self) -> Origin {
        let provenance = Provenance {
            program_version: env!("CARGO_PKG_VERSION").to_owned(),
            weight_hash: self.subject.info.checkpoint.weight_hash().to_owned(),
            options: self.provenance.clone(),
        };
        Origin::new(self.heads, &self.scans[0], provenance)
    }

    /// All that an experiment's results depend on, beside the experiment's own options.
    pub fn inputs(&self, origin: &Origin) -> Value {
        let scans = [IOI, ANTI_REPEAT]
            .map(|task| Digest256::of_file(&self.layout.per_prompt(task, &self.subject.name)));
        json!({ "origin": origin, "scans": scans })
    }

    /// What to say of categories without heads.
    pub fn empty_categories(&self) -> Vec<String> {
        let is_empty = |category: &Category| self.heads.heads.iter().all(|h| h.category != *category);
        let working = [Category::Shared, Category::IoiOnly, Category::AntiOnly];
        working.iter().filter(|c| is_empty(c)).map(|category| format!("no head is {category}")).collect()
    }
}

/// The prompts of one task as the study recorded them.
struct RecordedPrompts {
    tokenized: TokenizedPrompts,
    set: PromptSet,
}

impl RecordedPrompts {
    fn load(layout: &Layout, task: &str, subject: &Subject) -> Result<Self, CliError> {
        let folder = prompts_folder(layout);
        let recorded = PromptSet::load(&PromptSet::path(&folder, task))?;
        let options = recorded.options();
        // Checks that the tokenizer is still the one that the prompts were resolved for.
        let set = PromptSet::load_or_resolve(&folder, &recorded.task, &options, &[subject as &dyn Tokenize])?;
        Ok(Self { tokenized: set.tokenize(subject)?, set })
    }
}
