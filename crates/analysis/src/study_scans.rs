//! The scans in a study folder.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::contrast::{ANTI_REPEAT, Contrast, IOI};
use crate::effects::HeadEffects;
use crate::error::{AnalysisError, Result};
use crate::joint::{JointTable, ScanPair, from_scans, model_info};
use crate::layout::{Layout, SCAN_FILE, scan_file_begin};
use crate::overlap::{Overlap, OverlapInput, overlap};
use crate::per_prompt::PerPromptScan;
use crate::scan_file::ScanFile;
use crate::scan_summary::{SummaryOptions, summarise_scan};
use crate::self_repair::{ModelRepair, self_repair};

/// The scan files of a study's folder, in order of file name.
///
/// # Errors
/// When the folder cannot be read.
pub fn scan_paths(layout: &Layout) -> Result<Vec<PathBuf>> {
    let folder = layout.results();
    let mut paths = Vec::new();
    for entry in fs::read_dir(&folder).map_err(AnalysisError::io("read the folder", &folder))? {
        let path = entry.map_err(AnalysisError::io("read the folder", &folder))?.path();
        let name = file_name(&path);
        if name.contains(SCAN_FILE) && name.ends_with(".json") {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

fn file_name(path: &Path) -> Cow<'_, str> {
    path.file_name().unwrap_or_default().to_string_lossy()
}

/// Names of the models with a scan on `task` in a study folder, in order of file name.
///
/// # Errors
/// When the folder or a scan cannot be read.
pub fn scanned_models(layout: &Layout, task: &str) -> Result<Vec<String>> {
    let begin = scan_file_begin(task);
    let paths = scan_paths(layout)?.into_iter().filter(|path| file_name(path).starts_with(&begin));
    paths.map(|path| Ok(ScanFile::read(&path)?.meta.model_name)).collect()
}

/// The tasks of the scans in a study folder, in [`task_order`].
///
/// # Errors
/// When the folder or a scan cannot be read.
pub fn scanned_tasks(layout: &Layout) -> Result<Vec<String>> {
    let mut tasks = BTreeSet::new();
    for path in scan_paths(layout)? {
        // All scan files of a task share a prefix, so reading one of them is enough.
        let known = |task: &String| file_name(&path).starts_with(&scan_file_begin(task));
        if !tasks.iter().any(known) {
            tasks.insert(ScanFile::read(&path)?.meta.task);
        }
    }
    Ok(task_order(tasks))
}

/// The default order of tasks: the published pair first, then the others by name.
#[must_use]
pub fn task_order(tasks: BTreeSet<String>) -> Vec<String> {
    let mut tasks: Vec<String> = tasks.into_iter().collect();
    let place = |task: &String| [IOI, ANTI_REPEAT].iter().position(|t| t == task).unwrap_or(2);
    tasks.sort_by_key(place);
    tasks
}

/// A scan with the logit differences behind it, if available.
struct StudyScan {
    scan: ScanFile,
    side: Option<PerPromptScan>,
}

/// The scans of a study's models on its tasks, read once for all tables.
pub struct StudyScans {
    tasks: Vec<String>,
    scans: Vec<StudyScan>,
}

impl StudyScans {
    /// Reads the scans of these models on each task.
    ///
    /// # Errors
    /// If a model lacks a scan on a task, or a file cannot be read.
    pub fn read(layout: &Layout, models_of_tasks: &[(String, Vec<String>)]) -> Result<Self> {
        let mut scans = Vec::new();
        for (task, models) in models_of_tasks {
            for model in models {
                scans.push(study_scan(layout, task, model)?);
            }
        }
        Ok(Self { tasks: models_of_tasks.iter().map(|(task, _)| task.clone()).collect(), scans })
    }

    /// The same for models that were all scanned on all tasks.
    ///
    /// # Errors
    /// See [`StudyScans::read`].
    pub fn read_all(layout: &Layout, tasks: &[String], models: &[String]) -> Result<Self> {
        let of_task = |task: &String| (task.clone(), models.to_vec());
        Self::read(layout, &tasks.iter().map(of_task).collect::<Vec<_>>())
    }

    /// The tasks, in order.
    #[must_use]
    pub fn tasks(&self) -> &[String] {
        &self.tasks
    }

    /// The models that were scanned on a task, in order of file name.
    pub fn models(&self, task: &str) -> impl Iterator<Item = &str> {
        self.scans.iter().filter(move |s| s.scan.meta.task == task).map(|s| s.scan.meta.model_name.as_str())
    }

    /// Every effect that was measured.
    ///
    /// # Errors
    /// [`HeadEffects::from_scans`]
    pub fn effects(&self) -> Result<HeadEffects> {
        HeadEffects::from_scans(&self.tasks, self.scans.iter().map(|s| &s.scan))
    }

    fn on(&self, task: &str, model: &str) -> Option<&StudyScan> {
        self.scans.iter().find(|s| s.scan.meta.task == task && s.scan.meta.model_name == model)
    }

    /// The two scans of every model that was scanned on both tasks of a contrast. With their per-prompt files, a pair has the
    /// prompts' contribution to the uncertainty of the correlations (otherwise the intervals cover only heads, and say so),
    /// and thresholds that the scan files lack, such as `tau`, can be evaluated.
    fn pairs<'a>(&'a self, contrast: &Contrast, tau: f64) -> Result<Vec<OverlapInput<'a>>> {
        let [a, b] = contrast.tasks();
        let both = self.models(a).filter_map(|model| Some([self.on(a, model)?, self.on(b, model)?]));
        let pair = |[a, b]: [&'a StudyScan; 2]| {
            let mut pair = ScanPair::new(a.scan.clone(), b.scan.clone());
            let sides = a.side.as_ref().zip(b.side.as_ref()).map(<[&PerPromptScan; 2]>::from);
            if let Some([a, b]) = sides {
                pair = pair.with_prompts(a, b)?;
            }
            for (scan, side) in pair.scans.iter_mut().zip(sides.into_iter().flatten()) {
                if tau > 0.0 && !scan.taus.contains(&tau) {
                    *scan = summarise_scan(side, &options_of(scan, tau))?;
                }
            }
            Ok(OverlapInput { pair, sides })
        };
        // Not in parallel: the resampling of a pair already is.
        both.map(pair).collect()
    }

    /// The joint table of a contrast, of the models that were scanned on both of its tasks; with probabilities of reaching
    /// `tau` whether or not the scan files have them.
    ///
    /// # Errors
    /// If there is no such model, or [`from_scans`] finds the scans inconsistent.
    pub fn joint(&self, contrast: &Contrast, tau: f64) -> Result<JointTable> {
        let pairs: Vec<ScanPair> = self.pairs(contrast, tau)?.into_iter().map(|p| p.pair).collect();
        if pairs.is_empty() {
            let [a, b] = contrast.tasks();
            return Err(AnalysisError::inconsistent(
                format!("contrast {contrast}"),
                "no model was scanned on both tasks",
                format!("scan a model on {a} and on {b}, or choose other tasks with --contrast"),
            ));
        }
        from_scans(contrast, &pairs)
    }

    /// Self-repair of each model on each task, in the study's order, for scans with helping heads whose direct effects are
    /// comparable with Δ.
    #[must_use]
    pub fn repairs(&self, tau: f64) -> Vec<ModelRepair> {
        let repair = |s: &StudyScan| {
            let (info, task) = (model_info(&s.scan.meta), s.scan.meta.task.clone());
            Some(ModelRepair { info, task, repair: self_repair(s.side.as_ref()?, tau)? })
        };
        let mut repairs: Vec<ModelRepair> = self.scans.iter().filter_map(repair).collect();
        // The tasks of each model keep their order.
        repairs.sort_by(|a, b| a.info.order(&b.info));
        repairs
    }

    /// The overlap of every pair of tasks, model by model; none with fewer than [`crate::overlap::FEWEST_TASKS`]
    /// tasks.
    ///
    /// # Errors
    /// If scans of one model are inconsistent.
    pub fn overlaps(&self, tau: f64) -> Result<Vec<Overlap>> {
        if self.tasks.len() < crate::overlap::FEWEST_TASKS {
            return Ok(Vec::new());
        }
        let mut overlaps = Vec::new();
        for (at, a) in self.tasks.iter().enumerate() {
            for b in &self.tasks[at + 1..] {
                let contrast = Contrast::new(a, b)?;
                overlaps.extend(overlap(&contrast, &self.pairs(&contrast, tau)?, tau)?);
            }
        }
        // Model by model, in the study's order; the pairs of each keep theirs.
        overlaps.sort_by(|a, b| a.info.order(&b.info));
        Ok(overlaps)
    }
}

/// A model's scan on a task, with its per-prompt file if available.
fn study_scan(layout: &Layout, task: &str, model: &str) -> Result<StudyScan> {
    let path = layout.scan(task, model);
    if !path.exists() {
        return Err(AnalysisError::inconsistent(
            format!("model {model}"),
            format!("no scan on {task} ({} is missing)", path.display()),
            format!("scan it: circuit-scaling scan --models {model} --task {}", task.replace('_', "-")),
        ));
    }
    let side = layout.per_prompt(task, model);
    let side = if side.exists() { Some(PerPromptScan::read(&side)?) } else { None };
    Ok(StudyScan { scan: ScanFile::read(&path)?, side })
}

/// The options of a scan file, with one more threshold.
fn options_of(scan: &ScanFile, tau: f64) -> SummaryOptions {
    let mut options = SummaryOptions { taus: scan.taus.clone(), ..SummaryOptions::default() };
    if let Some(resampling) = &scan.resampling {
        options.resampling = resampling.clone();
    }
    options.taus.push(tau);
    options
}
