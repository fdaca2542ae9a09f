//! What experiments on a study's hero heads have in common: its scans, its models, and the prompts they were asked.

use std::path::Path;

use analysis::categories::{Category, Classified, ClassifiedModel, HeroHead, classify};
use analysis::joint::{JointTable, ScanPair, from_scans, scanned_models};
use analysis::layout::{ANTI_REPEAT, IOI, Layout};
use analysis::origin::Origin;
use analysis::per_prompt::PerPromptScan;
use analysis::scan_file::{Provenance, ScanFile};
use circuits::prompts::{PromptOptions, PromptSet, Split, Tokenize, TokenizedPrompts};
use serde_json::{Map, Value};
use transformer::decoder::Decoder;

use crate::args::ExperimentArgs;
use crate::error::CliError;
use crate::subject::Subject;

/// A study's folder with its heads classed.
pub struct Study {
    /// The folder.
    pub layout: Layout,
    /// Every head's category.
    pub classified: Classified,
    /// The strongest heads of each model and category.
    pub heroes: Vec<HeroHead>,
    /// What was left out, and why.
    pub notes: Vec<String>,
}

impl Study {
    /// Reads the scans of a study and classes the heads.
    pub fn open(args: &ExperimentArgs) -> Result<Self, CliError> {
        let layout = Layout::new(&args.tables.study.out);
        let no_scans = || CliError::NoScans { folder: layout.root().to_owned() };
        if !layout.results().is_dir() {
            return Err(no_scans());
        }
        let mut notes = Vec::new();
        let mut pairs = Vec::new();
        for model in scanned_models(&layout)? {
            let [ioi, anti] = [IOI, ANTI_REPEAT].map(|task| layout.scan(task, &model));
            if anti.exists() {
                pairs.push(ScanPair::new(ScanFile::read(&ioi)?, ScanFile::read(&anti)?));
            } else {
                notes.push(format!("left out: {model}, which was not scanned on anti-repeat"));
            }
        }
        if pairs.is_empty() {
            return Err(no_scans());
        }
        let joint: JointTable = from_scans(&pairs)?;
        let classified = classify(&joint, args.tables.tau)?;
        let heroes = classified.heroes(&joint, args.tables.top_k);
        Ok(Self { layout, classified, heroes, notes })
    }

    /// The models to experiment on: those named, else all that were scanned, in the study's order.
    pub fn subjects(&self, named: &[String]) -> Result<Vec<Subject>, CliError> {
        if named.is_empty() {
            return self.classified.models.iter().map(|m| self.reopen(&m.info.model)).collect();
        }
        let mut subjects = Subject::open_all(named)?;
        let place = |name: &str| self.classified.models.iter().position(|m| m.info.model == name);
        if let Some(unknown) = subjects.iter().find(|s| place(&s.name).is_none()) {
            let folder = self.layout.root().to_owned();
            return Err(CliError::NotScanned { model: unknown.name.clone(), folder });
        }
        subjects.sort_by_key(|s| place(&s.name));
        Ok(subjects)
    }

    /// The model that a scan was made of, from where it lay then.
    fn reopen(&self, model: &str) -> Result<Subject, CliError> {
        let path = self.layout.scan(IOI, model);
        let hf_name = ScanFile::read(&path)?.hf_name;
        let name = hf_name.strip_prefix(Subject::BUILT_IN).unwrap_or(&hf_name);
        let moved = || CliError::ModelMoved { model: model.to_owned(), from: hf_name.clone() };
        if name == hf_name && !Path::new(name).is_dir() {
            return Err(moved());
        }
        let subject = Subject::open(name)?;
        if subject.name == model { Ok(subject) } else { Err(moved()) }
    }

    /// One model of the study, ready for experiments.
    pub fn tested<'a>(
        &'a self,
        subject: &'a Subject,
        decoder: &'a Decoder,
    ) -> Result<TestedModel<'a>, CliError> {
        TestedModel::new(&self.layout, &self.classified, subject, decoder)
    }
}

/// A model with its scans, its heads' categories, and the prompts that it was asked.
pub struct TestedModel<'a> {
    /// The study's folder.
    pub layout: &'a Layout,
    /// The model.
    pub subject: &'a Subject,
    /// Its weights.
    pub decoder: &'a Decoder,
    /// Its heads.
    pub heads: &'a ClassifiedModel,
    /// Threshold of the categories.
    pub tau: f64,
    /// Logit differences per prompt, IOI first.
    pub scans: [PerPromptScan; 2],
    /// Prompts, IOI first.
    pub prompts: [TokenizedPrompts; 2],
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
    pub fn new(
        layout: &'a Layout,
        classified: &'a Classified,
        subject: &'a Subject,
        decoder: &'a Decoder,
    ) -> Result<Self, CliError> {
        let name = &subject.name;
        let not_scanned = || CliError::NotScanned { model: name.clone(), folder: layout.root().to_owned() };
        let heads = classified.models.iter().find(|m| m.info.model == *name).ok_or_else(not_scanned)?;
        let scan = |task| PerPromptScan::read(&layout.per_prompt(task, name));
        let scans = [scan(IOI)?, scan(ANTI_REPEAT)?];
        if scans.iter().any(|s| s.meta.provenance.weight_hash != subject.info.checkpoint.weight_hash()) {
            return Err(CliError::OtherWeights { model: name.clone() });
        }
        let mut provenance = Map::new();
        provenance.insert("tau".into(), classified.tau.into());
        provenance.insert("tokenizer_hash".into(), subject.hash().into());
        let ioi = RecordedPrompts::load(layout, IOI, subject)?;
        let anti = RecordedPrompts::load(layout, ANTI_REPEAT, subject)?;
        for of_task in [&ioi, &anti] {
            let task = &of_task.tokenized.task;
            provenance.insert(format!("prompts_{task}"), of_task.n_prompts.into());
            provenance.insert(format!("task_hash_{task}"), of_task.task_hash.clone().into());
        }
        let split = ioi.tokenized.protocol.held_out_split();
        let prompts = [ioi.tokenized, anti.tokenized];
        Ok(Self { layout, subject, decoder, heads, tau: classified.tau, scans, prompts, split, provenance })
    }

    /// Where an experiment's results come from; `options` are the experiment's own.
    pub fn origin(&self, options: impl IntoIterator<Item = (&'static str, Value)>) -> Origin {
        let mut all = self.provenance.clone();
        all.extend(options.into_iter().map(|(name, value)| (name.to_owned(), value)));
        let provenance = Provenance {
            program_version: env!("CARGO_PKG_VERSION").to_owned(),
            weight_hash: self.subject.info.checkpoint.weight_hash().to_owned(),
            options: all,
        };
        Origin::new(self.heads, &self.scans[0], provenance)
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
    n_prompts: usize,
    task_hash: String,
}

impl RecordedPrompts {
    fn load(layout: &Layout, task: &str, subject: &Subject) -> Result<Self, CliError> {
        let folder = layout.results().join("prompts");
        let recorded = PromptSet::load(&PromptSet::path(&folder, task))?;
        let options = PromptOptions {
            protocol: recorded.protocol,
            seed: recorded.seed,
            n_prompts: Some(recorded.n_prompts),
            min_names: None,
        };
        // Checks that the tokenizer is still the one that the prompts were resolved for.
        let set = PromptSet::load_or_resolve(&folder, &recorded.task, &options, &[subject as &dyn Tokenize])?;
        Ok(Self { tokenized: set.tokenize(subject)?, n_prompts: set.n_prompts, task_hash: set.task.hash() })
    }
}
