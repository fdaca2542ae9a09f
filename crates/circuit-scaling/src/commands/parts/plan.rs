//! `parts/plan.json`: which part does what.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use cs_analysis::files::{read_json, write_atomic};
use cs_analysis::head_id::HeadId;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::error::PartsError;
use crate::digest::Digest256;
use crate::error::CliError;
use crate::study_file::StudyFile;

/// This program's version; all parts of a study use the same one.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The plan of a study in parts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// The version of the program that runs all parts.
    pub program_version: String,
    /// All settings of the study, made explicit.
    pub study: StudyFile,
    /// Bytes for activations, unless overridden on a machine.
    pub memory: usize,
    /// The models as found where the plan was made.
    pub models: Vec<PlannedModel>,
    /// The tasks, in the study's order.
    pub tasks: Vec<PlannedTask>,
    /// The device of the first wave, once it is gathered; the second wave must use the same.
    pub device: Option<String>,
    /// The waves so far.
    pub waves: Vec<Wave>,
}

/// A model of the plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlannedModel {
    /// Its name in tables.
    pub name: String,
    /// Hash of its weights.
    pub weight_hash: String,
    /// Bytes of its float32 weights.
    pub weight_bytes: usize,
}

/// A task of the plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlannedTask {
    /// Its name.
    pub task: String,
    /// The record of its prompts.
    pub prompts: Digest256,
}

/// What a wave of parts does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WaveKind {
    /// Scans of all heads.
    Scans,
    /// Attention, tracing and set ablation, on the heads found by the scans.
    Experiments,
}

impl WaveKind {
    /// Name of its folder.
    pub fn name(self) -> &'static str {
        match self {
            Self::Scans => "scans",
            Self::Experiments => "experiments",
        }
    }
}

/// Parts that depend only on the previous wave.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Wave {
    /// What it does.
    pub kind: WaveKind,
    /// Threads of the machine for which times were estimated.
    pub threads: usize,
    /// The gathered scans on which it is based, with paths in the study's folder.
    pub scans: BTreeMap<PathBuf, Digest256>,
    /// The parts, from part 1.
    pub parts: Vec<Part>,
}

impl Wave {
    /// The time of the longest part in seconds, if known.
    pub fn longest(&self) -> Option<f64> {
        self.parts.iter().try_fold(0.0, |longest, part| Some(f64::max(longest, part.seconds?)))
    }
}

/// One part.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Part {
    /// Its number, from 1.
    pub part: usize,
    /// Operations in 10¹², with loading of weights counted as in [`super::lines::LOADING`].
    pub tflop: f64,
    /// The estimated time in seconds on a machine like the one where it was planned, if that machine has the device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
    /// What it does, in order.
    pub units: Vec<Unit>,
}

/// What is measured of a model and task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnitKind {
    /// Heads ablated one at a time. Items: the model's heads, in order.
    Scan,
    /// Attention at the last token. One item.
    Attend,
    /// Roles of a model's heads, on all tasks together. One item.
    Roles,
    /// Heads patched from clean into corrupted runs. Items: the hero heads of all contrasts of the task.
    Trace,
    /// Ablation of hero sets. Items: the sets of all contrasts of the task.
    HeroSets,
    /// Random sets, on a subsample of the prompts. Items: the sets, in order of their heads.
    RandomSets,
}

/// Consecutive items of one kind of measurement of a model on a task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Unit {
    /// What is measured.
    pub kind: UnitKind,
    /// Of which model.
    pub model: String,
    /// On which task; empty for all of them.
    pub task: String,
    /// The first item, from 0.
    pub from: usize,
    /// The item after the last.
    pub to: usize,
    /// In words.
    pub items: String,
    /// Operations without the loading of the model, in 10¹².
    pub tflop: f64,
}

impl Unit {
    /// The heads of a scan.
    pub fn heads(&self, n_heads: usize) -> Vec<HeadId> {
        (self.from..self.to).map(|at| head_at(at, n_heads)).collect()
    }

    /// The name of its results file.
    pub fn file_name(&self, index: usize) -> String {
        format!("{:03}_{}", index + 1, format!("{:?}", self.kind).to_lowercase())
    }
}

/// The head with this index among all heads of a model with `n_heads` per layer.
pub fn head_at(place: usize, n_heads: usize) -> HeadId {
    HeadId { layer: (place / n_heads) as u32, head: (place % n_heads) as u32 }
}

/// The folder of a study's plan and parts.
pub fn folder(out: &Path) -> PathBuf {
    out.join("parts")
}

/// The path of a study's plan.
pub fn path(out: &Path) -> PathBuf {
    folder(out).join("plan.json")
}

/// The folder of a part.
pub fn part_folder(out: &Path, kind: WaveKind, part: usize) -> PathBuf {
    folder(out).join(kind.name()).join(format!("{part:05}"))
}

impl Plan {
    /// The plan of a study, made by this version of the program.
    ///
    /// # Errors
    /// No plan, one that cannot be read, or another version's.
    pub fn read(out: &Path) -> Result<Self, CliError> {
        let path = path(out);
        if !path.exists() {
            return Err(PartsError::NoPlan { folder: out.to_owned() }.into());
        }
        let fix = "remove its folder and run `circuit-scaling parts` again";
        // Checks the version first: a plan of another version may have other fields.
        #[derive(Deserialize)]
        struct Version {
            program_version: String,
        }
        let made = read_json::<Version>(&path, fix)?.program_version;
        if made != VERSION {
            return Err(PartsError::Version { plan: path, made, here: VERSION }.into());
        }
        Ok(read_json(&path, fix)?)
    }

    /// Writes the plan.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&self, out: &Path) -> Result<(), CliError> {
        Ok(write_atomic(&path(out), |file| {
            serde_json::to_writer_pretty(&mut *file, self)?;
            file.write_all(b"\n")
        })?)
    }

    /// The current wave.
    ///
    /// # Errors
    /// A plan without waves.
    pub fn wave(&self, out: &Path) -> Result<&Wave, PartsError> {
        self.waves.last().ok_or_else(|| PartsError::NoPlan { folder: out.to_owned() })
    }

    /// Everything that a part's results depend on, except the device.
    pub fn digest(&self, wave: &Wave, part: &Part) -> Digest256 {
        let models: Vec<_> = self.models.iter().map(|m| (&m.name, &m.weight_hash)).collect();
        Digest256::of(&json!({
            "version": self.program_version, "study": self.study, "models": models, "tasks": self.tasks,
            "scans": wave.scans, "units": part.units,
        }))
    }

    /// Checks that the files from which the plan was made exist unchanged.
    ///
    /// # Errors
    /// [`PartsError::Changed`]
    pub fn check_files(&self, out: &Path, record: impl Fn(&str) -> PathBuf) -> Result<(), PartsError> {
        let prompts = self.tasks.iter().map(|planned| (record(&planned.task), &planned.prompts));
        let scans = self.waves.iter().flat_map(|w| &w.scans).map(|(path, digest)| (out.join(path), digest));
        for (file, digest) in prompts.chain(scans) {
            if Digest256::of_file(&file).as_ref() != Some(digest) {
                return Err(PartsError::Changed { file });
            }
        }
        Ok(())
    }
}

/// Whether a folder holds results of parts.
pub fn has_results(out: &Path) -> bool {
    [WaveKind::Scans, WaveKind::Experiments]
        .iter()
        .any(|kind| fs::read_dir(folder(out).join(kind.name())).is_ok())
}
