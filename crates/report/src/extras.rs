//! A study's measurements apart from its tables of effects: how well the models do the tasks, attention, roles, causal tracing, set ablation.

use std::path::{Path, PathBuf};

use cs_analysis::ablation::{self, SummaryRow};
use cs_analysis::attention::{AttentionFile, HeadAttention};
use cs_analysis::contrast::{Contrast, Side};
use cs_analysis::dissociation::{self, DissociationRow};
use cs_analysis::layout::Layout;
use cs_analysis::roles::RolesFile;
use cs_analysis::scan_file::{Baseline, ScanFile};
use cs_analysis::study::Study;
use cs_analysis::table::Table;
use cs_analysis::tracing::{self, CausalResult};

use crate::error::Result;
use crate::words;

/// How well a model does one task, without ablation.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskBaseline {
    /// The model.
    pub model: String,
    /// The task's name.
    pub task: String,
    /// On the prompts used to select heads, or on all.
    pub main: Baseline,
    /// On held-out prompts, if there are any.
    pub held_out: Option<Baseline>,
}

/// The measurements on the hero heads of a contrast. Each part may be empty.
#[derive(Debug, Clone, PartialEq)]
pub struct Experiments {
    /// The two tasks.
    pub contrast: Contrast,
    /// Influence of hero heads in causal tracing, of the value stream.
    pub traced: Vec<CausalResult>,
    /// Set ablation: hero heads and random heads.
    pub ablated: Vec<SummaryRow>,
    /// Whether the tasks dissociate.
    pub dissociation: Vec<DissociationRow>,
}

/// The measurements apart from the effects. Parts that are missing are reported as such.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Extras {
    /// Baselines of the models whose scan files are available.
    pub baselines: Vec<TaskBaseline>,
    /// Where each model's heads attend at the last token.
    pub attention: Vec<AttentionFile>,
    /// Which roles each model's heads play.
    pub roles: Vec<RolesFile>,
    /// What was measured on hero heads, contrast by contrast.
    pub experiments: Vec<Experiments>,
    /// The tables in the study's folder that are not in [`Study::tables`].
    pub tables: Vec<Table>,
    /// Files of the study's folder that are too large for the page.
    pub raw: Vec<RawFile>,
}

/// A file that the page names but does not include.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawFile {
    /// Its path in the study's folder.
    pub path: String,
    /// Its contents.
    pub what: &'static str,
    /// Its size.
    pub bytes: u64,
}

/// The stream whose influence is shown: what a head moves, as opposed to where it attends.
const STREAM: &str = "v";

/// The rows of a file, none if there is no file.
fn read_if_there<T>(
    path: &Path,
    contrast: &Contrast,
    read: fn(&Path, &Contrast) -> cs_analysis::Result<Vec<T>>,
) -> Result<Vec<T>> {
    if path.exists() { Ok(read(path, contrast)?) } else { Ok(Vec::new()) }
}

/// The tables in a folder that are not among `known`, by name.
fn further_tables(folder: &Path, known: &[Table]) -> Result<Vec<Table>> {
    // A missing folder has none.
    let entries = std::fs::read_dir(folder).into_iter().flatten();
    let mut paths: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.retain(|path| {
        let stem = path.file_stem().unwrap_or_default();
        path.extension().is_some_and(|e| e == "csv") && known.iter().all(|t| *stem != *t.name)
    });
    paths.sort();
    Ok(paths.iter().map(|path| Table::read_csv(path)).collect::<cs_analysis::Result<_>>()?)
}

/// The existing large files of individual measurements.
fn raw_files(layout: &Layout, study: &Study) -> Vec<RawFile> {
    let of_contrast = |contrast: &Contrast| {
        [
            (layout.ablated_sets(contrast), "every ablated set with its means"),
            (
                layout.causal_results(contrast, STREAM),
                "influence of every traced head on every pair of prompts",
            ),
        ]
    };
    let there = |(path, what): (PathBuf, &'static str)| {
        let bytes = path.metadata().ok()?.len();
        let path = path.strip_prefix(layout.root()).unwrap_or(&path);
        Some(RawFile { path: path.to_string_lossy().replace('\\', "/"), what, bytes })
    };
    study.contrasts.iter().flat_map(|c| of_contrast(c.contrast())).filter_map(there).collect()
}

impl Experiments {
    /// Nothing measured.
    #[must_use]
    pub fn none(contrast: Contrast) -> Self {
        Self { contrast, traced: Vec::new(), ablated: Vec::new(), dissociation: Vec::new() }
    }

    /// Reads the measurements in a study's folder for the models of `study`.
    fn read(layout: &Layout, study: &Study, contrast: &Contrast) -> Result<Self> {
        let is_ours = |model: &str| study.effects.model(model).is_some();
        let table = |name| layout.table(&contrast.table(name));
        let causal = layout.causal_results(contrast, STREAM);
        let mut read = Self {
            contrast: contrast.clone(),
            traced: read_if_there(&causal, contrast, tracing::read_results)?,
            ablated: read_if_there(&table(ablation::SUMMARY_TABLE), contrast, ablation::read_summary)?,
            dissociation: read_if_there(
                &table(dissociation::DISSOCIATION_TABLE),
                contrast,
                dissociation::read_dissociation,
            )?,
        };
        read.traced.retain(|r| is_ours(&r.model));
        read.ablated.retain(|r| is_ours(&r.model));
        read.dissociation.retain(|r| is_ours(&r.model));
        Ok(read)
    }
}

impl Extras {
    /// Reads the measurements in a study's folder for the models of `study`.
    ///
    /// # Errors
    /// If an existing file cannot be read.
    pub fn read(layout: &Layout, study: &Study) -> Result<Self> {
        let mut baselines = Vec::new();
        for model in study.models() {
            for task in &study.effects.tasks {
                let path = layout.scan(task, &model.model);
                if Path::exists(&path) {
                    let scan = ScanFile::read(&path)?;
                    baselines.push(TaskBaseline {
                        model: scan.meta.model_name,
                        task: scan.meta.task,
                        main: scan.baseline,
                        held_out: scan.held_out,
                    });
                }
            }
        }
        let experiments = study.contrasts.iter().map(|c| Experiments::read(layout, study, c.contrast()));
        let experiments = experiments.collect::<Result<_>>()?;
        let read = study.models().map(|model| layout.attention(&model.model));
        let read = read.filter(|path| path.exists()).map(|path| AttentionFile::read(&path));
        let attention = read.collect::<cs_analysis::Result<_>>()?;
        let roles = study.models().map(|model| layout.roles(&model.model));
        let roles = roles.filter(|path| path.exists()).map(|path| RolesFile::read(&path));
        let roles = roles.collect::<cs_analysis::Result<_>>()?;
        let tables = further_tables(&layout.tables(), &study.tables)?;
        Ok(Self { baselines, attention, roles, experiments, tables, raw: raw_files(layout, study) })
    }

    /// The part that belongs to a contrast.
    #[must_use]
    pub fn of<'a>(&'a self, contrast: &'a Contrast) -> ContrastExtras<'a> {
        let own = self.experiments.iter().find(|e| e.contrast == *contrast);
        ContrastExtras {
            contrast,
            all: self,
            traced: own.map_or(&[], |e| &e.traced),
            ablated: own.map_or(&[], |e| &e.ablated),
            dissociation: own.map_or(&[], |e| &e.dissociation),
        }
    }

    /// How well a model does a task, if its scan is available.
    #[must_use]
    pub fn baseline(&self, model: &str, task: &str) -> Option<&TaskBaseline> {
        self.baselines.iter().find(|b| b.model == model && b.task == task)
    }

    /// Where the heads of a model attend, if it was measured.
    #[must_use]
    pub fn attention_file(&self, model: &str) -> Option<&AttentionFile> {
        self.attention.iter().find(|file| file.origin.model == model)
    }

    /// What was not measured for individual tasks, and the command that measures it.
    #[must_use]
    pub fn missing(&self) -> Vec<&'static str> {
        let mut missing = Vec::new();
        if self.baselines.is_empty() {
            missing.push("how well the models do the tasks (`circuit-scaling scan`)");
        }
        if self.attention.is_empty() {
            missing.push("where heads attend at the last token (`circuit-scaling attend`)");
        }
        missing
    }
}

/// The measurements apart from the effects, for one contrast.
#[derive(Debug, Clone, Copy)]
pub struct ContrastExtras<'a> {
    /// The two tasks.
    pub contrast: &'a Contrast,
    /// Everything, for all tasks.
    pub all: &'a Extras,
    /// Influence of hero heads in causal tracing, of the value stream.
    pub traced: &'a [CausalResult],
    /// Set ablation: hero heads and random heads.
    pub ablated: &'a [SummaryRow],
    /// Whether the tasks dissociate.
    pub dissociation: &'a [DissociationRow],
}

impl<'a> ContrastExtras<'a> {
    /// A head's influence, if it was traced.
    #[must_use]
    pub fn influence(&self, model: &str, layer: u32, head: u32) -> Option<&'a CausalResult> {
        self.traced.iter().find(|r| r.model == model && (r.layer, r.head) == (layer, head))
    }

    /// The prompts used to evaluate sets of heads, in words.
    #[must_use]
    pub fn ablation_prompts(&self) -> &'static str {
        let split = self.ablated.iter().find_map(|row| row.split);
        split.map_or("unspecified prompts", words::prompts_of)
    }

    /// How well the models do a task, if their scans are available.
    pub fn baselines(&self, task: Side) -> impl Iterator<Item = &'a Baseline> {
        let name = self.contrast.task(task);
        self.all.baselines.iter().filter(move |b| b.task == name).map(|b| &b.main)
    }

    /// Where a head attends on a task, if it was measured.
    #[must_use]
    pub fn attention_of(&self, model: &str, layer: u32, head: u32, task: Side) -> Option<&'a HeadAttention> {
        self.all.attention_file(model)?.head(self.contrast.task(task), layer, head)
    }

    /// What was not measured, and the command that measures it.
    #[must_use]
    pub fn missing(&self) -> Vec<&'static str> {
        let mut missing = Vec::new();
        if Side::BOTH.iter().all(|task| self.baselines(*task).next().is_none()) {
            missing.push("how well the models do the tasks (`circuit-scaling scan`)");
        }
        if self.traced.is_empty() {
            missing.push("causal tracing of hero heads (`circuit-scaling trace`)");
        }
        if self.ablated.is_empty() {
            missing.push("hero heads vs. random heads, and dissociation (`circuit-scaling ablate`)");
        }
        if self.all.attention.is_empty() {
            missing.push("where heads attend at the last token (`circuit-scaling attend`)");
        }
        missing
    }
}
