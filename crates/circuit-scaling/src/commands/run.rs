//! `run`: the whole study, from models to tables, stage by stage.

use std::fmt::Write;

use analysis::joint::{ScanPair, from_scans, study_pair};
use analysis::layout::{ANTI_REPEAT, IOI};
use analysis::study::{Study, analyse};
use circuits::prompts::{PromptError, PromptSet};
use circuits::task::Task;
use serde_json::json;

use super::scan::{ModelScan, prompts_folder, resolve};
use super::tables::summary_text;
use crate::args::{RunArgs, Stage};
use crate::error::CliError;
use crate::progress::Display;
use crate::study_file::StudyFile;
use crate::study_folder::{Digest256, StudyFolder};
use crate::subject::Subject;

/// Does every stage that was asked for and is not done yet. `is_given` tells which options stand on the command line.
pub fn run(args: &RunArgs, is_given: impl Fn(&str) -> bool, display: Display) -> Result<String, CliError> {
    let mut args = args.clone();
    if let Some(path) = args.study.clone() {
        StudyFile::read(&path)?.fill(&path, &mut args, is_given)?;
    }
    args.tables.options()?;
    let tasks: Vec<Task> = args.tasks.iter().map(|task| Task::load(task)).collect::<Result<_, _>>()?;
    let stages = args.stages();
    if stages != [Stage::Scan] {
        for task in [IOI, ANTI_REPEAT] {
            if !tasks.iter().any(|t| t.name == task) {
                return Err(CliError::TaskNeeded { task });
            }
        }
    }
    args.measure.fetch_models(display)?;
    let subjects = Subject::open_all(&args.measure.models)?;
    let folder = StudyFolder::open(&args.tables.study.out)?;
    let models = if args.measure.models.is_empty() {
        subjects.iter().map(|s| s.name.clone()).collect()
    } else {
        args.measure.models.clone()
    };
    StudyFile::of(&args, models).write(&folder.layout.root().join("study.toml"))?;
    let mut run = Run { args: &args, tasks, subjects, folder, display };
    let mut text = String::new();
    for (index, stage) in stages.iter().enumerate() {
        display.stage(stage.name(), index + 1, stages.len());
        match stage {
            Stage::Scan => run.scan()?,
            Stage::Tables => text += &run.tables()?,
        }
    }
    let layout = &run.folder.layout;
    if stages.contains(&Stage::Tables) {
        let _ = writeln!(text, "\nTables are in {}", layout.tables().display());
    }
    let _ = writeln!(text, "Scans are in {}", layout.results().display());
    Ok(text)
}

/// A run under way.
struct Run<'a> {
    args: &'a RunArgs,
    tasks: Vec<Task>,
    subjects: Vec<Subject>,
    folder: StudyFolder,
    display: Display,
}

impl Run<'_> {
    /// Scans every model on every task, one model in memory at a time.
    fn scan(&mut self) -> Result<(), CliError> {
        let measure = &self.args.measure;
        let prompts = self.tasks.iter().map(|task| self.resolve(task)).collect::<Result<Vec<_>, _>>()?;
        for subject in &self.subjects {
            let mut todo = Vec::new();
            for prompts in &prompts {
                let scan = ModelScan::new(&self.folder.layout, subject, prompts, measure)?;
                if scan.is_done(&self.folder) {
                    self.display.detail(&format!("{:16} {:12} is done", subject.name, prompts.task.name));
                } else {
                    todo.push(scan);
                }
            }
            if todo.is_empty() {
                continue;
            }
            let decoder = subject.load()?;
            for scan in todo {
                scan.run(&mut self.folder, &decoder, self.display)?;
            }
        }
        Ok(())
    }

    /// The prompts of a task. Where the folder's were drawn with other options, and only for models of this run, they are
    /// drawn again, and all scans with them; models that are not part of the run would be left with other questions.
    fn resolve(&self, task: &Task) -> Result<PromptSet, CliError> {
        let (layout, measure) = (&self.folder.layout, &self.args.measure);
        let result = resolve(layout, task, measure, &self.subjects);
        let Err(CliError::Prompts(error)) = &result else { return result };
        let PromptError::Mismatch { field, recorded, asked, .. } = &**error else { return result };
        let record = PromptSet::path(&prompts_folder(layout), &task.name);
        let is_ours = |model: &str| self.subjects.iter().any(|subject| subject.name == model);
        if !PromptSet::load(&record)?.tokenizers.iter().all(|t| is_ours(&t.model)) {
            return result;
        }
        self.display.note(&format!(
            "{}: {field} was {recorded} and is {asked} now: prompts are drawn again",
            task.name
        ));
        std::fs::remove_file(&record).map_err(|source| CliError::Out { path: record, source })?;
        resolve(layout, task, measure, &self.subjects)
    }

    /// Makes all tables and returns the summary.
    fn tables(&mut self) -> Result<String, CliError> {
        let layout = self.folder.layout.clone();
        let scans: Vec<_> = self
            .subjects
            .iter()
            .flat_map(|subject| [IOI, ANTI_REPEAT].map(|task| (task, &subject.name)))
            .flat_map(|(task, model)| [layout.scan(task, model), layout.per_prompt(task, model)])
            .map(|path| Digest256::of_file(&path))
            .collect();
        let inputs = Digest256::of(&json!({
            "version": env!("CARGO_PKG_VERSION"), "scans": scans,
            "tau": self.args.tables.tau, "top_k": self.args.tables.top_k, "pairs": self.args.tables.pairs,
        }));
        let summary = self.folder.own("summary.txt");
        if self.folder.is_done("tables", &inputs) {
            return std::fs::read_to_string(&summary)
                .map_err(|source| CliError::Out { path: summary, source });
        }
        let (study, pairs) = self.study()?;
        let mut outputs = study.write(&layout)?;
        let text = summary_text(&study, Some(&pairs));
        analysis::files::write_bytes(&summary, text.as_bytes())?;
        outputs.push(summary);
        self.folder.done("tables", inputs, &outputs)?;
        Ok(text)
    }

    /// The scans of this run's models, joined and analysed.
    fn study(&self) -> Result<(Study, Vec<ScanPair>), CliError> {
        let pair = |s: &Subject| study_pair(&self.folder.layout, &s.name, self.args.tables.tau);
        let pairs: Vec<ScanPair> = self.subjects.iter().map(pair).collect::<Result<_, _>>()?;
        Ok((analyse(from_scans(&pairs)?, &self.args.tables.options()?)?, pairs))
    }
}
