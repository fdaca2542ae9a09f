//! Results in a study's folder that a run did not ask for. A run adds to the study in its folder: tables, figures, notes and page
//! cover everything that was scanned there.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use cs_analysis::contrast::Contrast;
use cs_analysis::layout::Layout;
use cs_analysis::scan_file::{ScanFile, ScanMeta};
use cs_analysis::study_scans::{scan_paths, task_order};
use cs_circuits::task::Task;

use crate::args::MeasureArgs;
use crate::error::CliError;
use crate::handle::ModelHandle;
use crate::progress::Display;
use crate::study_file::StudyFile;

/// The rest of a study, which a run does not change.
#[derive(Default)]
pub struct Rest {
    /// Tasks and their scanned models that the run does not scan itself.
    pub scanned: Vec<(String, Vec<String>)>,
    /// Contrasts that have tables.
    pub contrasts: Vec<Contrast>,
    /// Where the models came from, by name.
    origins: Vec<(String, String)>,
}

/// The scope of a run.
pub struct Asked<'a> {
    /// Its tasks.
    pub tasks: &'a [String],
    /// Its contrasts.
    pub contrasts: &'a [Contrast],
    /// Its models.
    pub models: &'a [String],
    /// How it scans; `None` if it does not.
    pub measure: Option<&'a MeasureArgs>,
}

impl Rest {
    /// Reads what is in a folder apart from the scope of the run. Scans of only some heads are left out, with a
    /// message.
    ///
    /// # Errors
    /// Scans that cannot be read; scans of other models that were made with other options than this run's, which do not
    /// belong in the same tables.
    pub fn read(layout: &Layout, asked: &Asked<'_>, display: Display) -> Result<Self, CliError> {
        let mut rest = Self::default();
        if !layout.results().is_dir() {
            return Ok(rest);
        }
        let of_task =
            |task: &String| asked.models.iter().map(|model| layout.scan(task, model)).collect::<Vec<_>>();
        let own: BTreeSet<PathBuf> = asked.tasks.iter().flat_map(of_task).collect();
        let mut models: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for path in scan_paths(layout)?.into_iter().filter(|path| !own.contains(path)) {
            let meta = ScanFile::read(&path)?.meta;
            let (task, model) = (&meta.task, &meta.model_name);
            if meta.only_heads.is_some() {
                display.note(&format!("left out: {model}, of which only some heads were scanned on {task}"));
                continue;
            }
            if let Some(measure) = asked.measure {
                same_method(layout.root(), &meta, measure)?;
            }
            models.entry(task.clone()).or_default().push(model.clone());
            rest.origins.push((meta.model_name, meta.hf_name));
        }
        let further = models.keys().filter(|task| !asked.tasks.contains(task)).cloned().collect();
        let tasks = asked.tasks.iter().cloned().chain(task_order(further));
        let mut with_models = |task: String| {
            let models = models.remove(&task).unwrap_or_default();
            (task, models)
        };
        rest.scanned = tasks.map(&mut with_models).collect();
        rest.contrasts = earlier_contrasts(layout, &rest.scanned, asked.contrasts);
        Ok(rest)
    }

    /// Whether the run is the whole study.
    pub fn is_empty(&self) -> bool {
        self.contrasts.is_empty() && self.origins.is_empty()
    }

    /// A run's settings combined with those of the rest of the study, as far as `study.toml` in `folder` or the scans
    /// give them.
    pub fn added_to(&self, mut file: StudyFile, folder: &Path, asked: &Asked<'_>) -> StudyFile {
        if self.is_empty() {
            return file;
        }
        let before = StudyFile::read(&folder.join("study.toml")).unwrap_or_default();
        let given = before.models.unwrap_or_default();
        let given_as = |model: &str, from: &str| {
            let is_it = |given: &&String| {
                ModelHandle::names(&[(*given).clone()]).is_ok_and(|names| names[0] == model)
            };
            given.iter().find(is_it).cloned().unwrap_or_else(|| {
                match from.strip_prefix(ModelHandle::BUILT_IN) {
                    Some(name) => name.to_owned(),
                    None => from.to_owned(),
                }
            })
        };
        let mut seen: BTreeSet<&str> = asked.models.iter().map(String::as_str).collect();
        for (model, from) in &self.origins {
            if seen.insert(model) {
                file.models.get_or_insert_default().push(given_as(model, from));
            }
        }
        let tasks = before.tasks.unwrap_or_default();
        for (task, _) in self.scanned.iter().filter(|(task, _)| !asked.tasks.contains(task)) {
            let is_it = |given: &&String| Task::load(given).is_ok_and(|loaded| loaded.name() == task);
            let given = tasks.iter().find(is_it).cloned();
            file.tasks.get_or_insert_default().push(given.unwrap_or_else(|| task.replace('_', "-")));
        }
        let all = asked.contrasts.iter().chain(&self.contrasts);
        file.contrast = Some(all.map(ToString::to_string).collect());
        file
    }
}

/// Contrasts for which the folder has tables, and the scans to make them again.
fn earlier_contrasts(
    layout: &Layout,
    scanned: &[(String, Vec<String>)],
    known: &[Contrast],
) -> Vec<Contrast> {
    let tasks: Vec<&String> = scanned.iter().map(|(task, _)| task).collect();
    let pairs = tasks.iter().flat_map(|a| tasks.iter().map(move |b| (a, b)));
    let mut found: Vec<Contrast> = Vec::new();
    for contrast in pairs.filter_map(|(a, b)| Contrast::new(a, b).ok()) {
        let is_new =
            !known.iter().chain(&found).any(|c| c.tasks().iter().all(|t| contrast.tasks().contains(t)));
        if is_new && layout.table(&contrast.joint_table()).exists() {
            found.push(contrast);
        }
    }
    found
}

/// Checks that a scan was made with the same options as this run's.
fn same_method(folder: &Path, meta: &ScanMeta, measure: &MeasureArgs) -> Result<(), CliError> {
    let options = measure.scan_options();
    let none = || "none".to_owned();
    for (option, was, is) in [
        ("ablation", meta.ablation.clone(), options.ablation.to_string()),
        ("value-bias", meta.value_bias.clone(), options.value_bias.to_string()),
        (
            "reference",
            meta.reference.clone().unwrap_or_else(none),
            options.reference_name().unwrap_or_else(none),
        ),
    ] {
        if was != is {
            return Err(CliError::OtherMethod {
                folder: folder.to_owned(),
                model: meta.model_name.as_str().into(),
                task: meta.task.as_str().into(),
                option,
                was: was.into(),
                is: is.into(),
            });
        }
    }
    Ok(())
}
