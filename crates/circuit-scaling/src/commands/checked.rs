//! A run's options, checked before anything is downloaded, written or loaded.

use cs_analysis::contrast::Contrast;
use cs_analysis::layout::Layout;
use cs_analysis::study_scans::{scanned_models, scanned_tasks};
use cs_circuits::task::Task;

use crate::args::{RunArgs, Stage};
use crate::error::CliError;
use crate::study_file::StudyFile;
use crate::study_folder::StudyFolder;

/// Consistent options of `run`, with what they refer to.
pub struct CheckedRun {
    /// The options; model names include their revisions.
    pub args: RunArgs,
    /// The stages to run, in order.
    pub stages: Vec<Stage>,
    /// The tasks.
    pub tasks: Vec<Task>,
    /// The pairs of tasks to compare.
    pub contrasts: Vec<Contrast>,
}

impl CheckedRun {
    /// Checks the options of a run.
    ///
    /// # Errors
    /// Inconsistent options, tasks that cannot be read, unknown model names, or a path that cannot be a folder.
    pub fn new(mut args: RunArgs) -> Result<Self, CliError> {
        let stages = args.stages();
        let options = args.tables.options()?;
        let tasks: Vec<Task> = args.tasks.iter().map(|task| Task::load(task)).collect::<Result<_, _>>()?;
        let names: Vec<String> = tasks.iter().map(|task| task.name().to_owned()).collect();
        if let Some(at) = (0..names.len()).find(|&at| names[..at].contains(&names[at])) {
            return Err(CliError::SameTask { task: names[at].clone() });
        }
        if stages.contains(&Stage::Trace) {
            require_corrupted(&tasks)?;
        }
        let contrasts = Contrast::choose(&args.tables.contrasts.contrast, &names)?;
        let out = &args.tables.study.out;
        StudyFolder::check(out)?;
        let mut models = args.measure.name_models()?;
        // `--pairs` may name models that are already in the folder.
        models.extend(models_in(&Layout::new(out)));
        options.pairs.check(&models)?;
        Ok(Self { args, stages, tasks, contrasts })
    }

    /// The same for options that `study.toml` may set; `is_given` says which are given on the command line.
    ///
    /// # Errors
    /// As [`Self::new`]; an invalid value in a study's file.
    pub fn filled(args: &RunArgs, is_given: impl Fn(&str) -> bool) -> Result<Self, CliError> {
        let mut args = args.clone();
        if let Some(path) = args.study.clone() {
            StudyFile::read(&path)?.fill(&path, &mut args, is_given)?;
        }
        Self::new(args)
    }
}

/// The scanned models in a folder, as far as it can be read.
fn models_in(layout: &Layout) -> Vec<String> {
    let tasks = scanned_tasks(layout).unwrap_or_default();
    tasks.iter().flat_map(|task| scanned_models(layout, task).unwrap_or_default()).collect()
}

/// Rejects files of prompts that cannot be traced.
fn require_corrupted(tasks: &[Task]) -> Result<(), CliError> {
    let has_none = |task: &&Task| match task {
        Task::Rows(file) => file.rows.iter().all(|row| row.corrupted.is_empty()),
        Task::Names(_) | Task::Words(_) => false,
    };
    let Some(task) = tasks.iter().find(has_none) else { return Ok(()) };
    let others: Vec<&str> =
        Stage::ALL.iter().filter(|stage| **stage != Stage::Trace).map(|stage| stage.name()).collect();
    Err(CliError::NoCorrupted { task: task.name().to_owned(), stages: others.join(",") })
}
