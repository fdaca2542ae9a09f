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

/// This program's version, which a study has one of.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The plan of a study in parts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// The program that does all parts.
    pub program_version: String,
    /// The study's choices, all of them stated.
    pub study: StudyFile,
    /// Bytes for activations, unless a machine says otherwise.
    pub memory: usize,
    /// The models as they lay where the plan was made.
    pub models: Vec<PlannedModel>,
    /// The tasks, in the study's order.
    pub tasks: Vec<PlannedTask>,
    /// What the first wave was computed on, once it is gathered: the second is too.
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
    /// Attention, tracing and ablated sets, which the scans say what to do with.
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

/// Parts that wait for nothing but the wave before.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Wave {
    /// What it does.
    pub kind: WaveKind,
    /// Threads of the machine that the expected times are of.
    pub threads: usize,
    /// The gathered scans that it was cut from, within the study's folder.
    pub scans: BTreeMap<PathBuf, Digest256>,
    /// The parts, from part 1.
    pub parts: Vec<Part>,
}

impl Wave {
    /// Seconds of the longest part, if they are known.
    pub fn longest(&self) -> Option<f64> {
        self.parts.iter().try_fold(0.0, |longest, part| Some(f64::max(longest, part.seconds?)))
    }
}

/// One part.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Part {
    /// Its number, from 1.
    pub part: usize,
    /// Operations, weights' loading counted as [`super::lines::LOADING`] says, in 10¹².
    pub tflop: f64,
    /// Seconds that this takes on a machine like the one where it was planned, if that has the device which parts run on.
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
    /// Sets of hero heads ablated together. Items: the sets of all contrasts of the task.
    HeroSets,
    /// Random sets, on a subsample of the prompts. Items: the sets, in order of their heads.
    RandomSets,
}

/// Neighbouring items of one kind of measurement of a model on a task.
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

    /// How its results' file is called.
    pub fn file_name(&self, index: usize) -> String {
        format!("{:03}_{}", index + 1, format!("{:?}", self.kind).to_lowercase())
    }
}

/// The head at a place among all heads of a model with so many a layer.
pub fn head_at(place: usize, n_heads: usize) -> HeadId {
    HeadId { layer: (place / n_heads) as u32, head: (place % n_heads) as u32 }
}

/// The folder of a study's plan and parts.
pub fn folder(out: &Path) -> PathBuf {
    out.join("parts")
}

/// Where the plan of a study lies.
pub fn path(out: &Path) -> PathBuf {
    folder(out).join("plan.json")
}

/// Where a part works.
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
        let fix = "remove the folder it lies in and run `circuit-scaling parts` again";
        // The version is looked at first: another one's plan may have other fields.
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
    /// When it cannot be written.
    pub fn write(&self, out: &Path) -> Result<(), CliError> {
        Ok(write_atomic(&path(out), |file| {
            serde_json::to_writer_pretty(&mut *file, self)?;
            file.write_all(b"\n")
        })?)
    }

    /// The wave that is under way.
    ///
    /// # Errors
    /// A plan without waves.
    pub fn wave(&self, out: &Path) -> Result<&Wave, PartsError> {
        self.waves.last().ok_or_else(|| PartsError::NoPlan { folder: out.to_owned() })
    }

    /// Everything that what a part finds depends on, beside the device.
    pub fn digest(&self, wave: &Wave, part: &Part) -> Digest256 {
        let models: Vec<_> = self.models.iter().map(|m| (&m.name, &m.weight_hash)).collect();
        Digest256::of(&json!({
            "version": self.program_version, "study": self.study, "models": models, "tasks": self.tasks,
            "scans": wave.scans, "units": part.units,
        }))
    }

    /// Checks that the files which the plan was made from are there, unchanged.
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
