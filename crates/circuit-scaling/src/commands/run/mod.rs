//! `run`: the whole study, from models to the page, stage by stage.

mod tables;

use std::time::Duration;

use cs_analysis::contrast::Contrast;
use cs_analysis::layout::Layout;
use cs_analysis::study::Study;
use cs_circuits::prompts::{PromptError, PromptSet, Tokenize};
use cs_circuits::task::Task;
use cs_engine::Compute;
use cs_engine::intervention::Stream;
use serde_json::json;

use super::ablate::{AblateOptions, ablate_models, ablate_step};
use super::attend::attend_models;
use super::checked::CheckedRun;
use super::costs::{StageCost, costs, time};
use super::experiment::StudyHeads;
use super::places::where_to_look;
use super::plan::duration;
use super::rest::{Asked, Rest};
use super::roles::score_models;
use super::scan::{ModelScan, check_memory, check_references, note_left_out, prompts_folder, resolve, step};
use super::trace::{TraceOptions, trace_models, trace_step};
use crate::args::{RunArgs, Stage};
use crate::digest::Digest256;
use crate::error::CliError;
use crate::handle::ModelHandle;
use crate::progress::{Display, Step, Whole};
use crate::study_file::StudyFile;
use crate::study_folder::StudyFolder;

/// Calibration time at the start of a run.
const CALIBRATION: Duration = Duration::from_millis(300);
/// Operations below which a GPU is not timed: the run would be over before anyone had read the estimate.
const WORTH_TIMING: f64 = 3e14;
/// The study's settings, in its folder.
const STUDY_FILE: &str = "study.toml";

/// Runs every requested stage that is not done yet. `is_given` says which options are given on the command line.
pub fn run(args: &RunArgs, is_given: impl Fn(&str) -> bool, display: Display) -> Result<String, CliError> {
    let checked = CheckedRun::filled(args, is_given)?;
    let compute = checked.args.measure.device.choose(display)?;
    let mut run = Run::open(checked, &compute, display, true)?;
    if run.stages.contains(&Stage::Scan) {
        check_memory(&run.folder, &run.handles, &run.tasks)?;
    }
    run.write_study()?;
    run.report_cost()?;
    run.all_stages()
}

/// A run in progress.
pub(super) struct Run {
    pub args: RunArgs,
    stages: Vec<Stage>,
    pub tasks: Vec<Task>,
    /// The pairs of tasks to compare.
    pub contrasts: Vec<Contrast>,
    pub handles: Vec<ModelHandle>,
    pub folder: StudyFolder,
    /// What the folder has apart from this.
    rest: Rest,
    display: Display,
    /// The tables, once a stage has needed them.
    study: Option<Study>,
}

impl Run {
    /// Opens a run with checked options in its folder, with models on `compute`. `may_download` says whether models may be downloaded
    /// from the Hub.
    ///
    /// # Errors
    /// Models that cannot be read, a folder in use by another run, or existing scans that do not belong with this run's.
    pub fn open(
        checked: CheckedRun,
        compute: &Compute,
        display: Display,
        may_download: bool,
    ) -> Result<Self, CliError> {
        let CheckedRun { args, stages, tasks, contrasts } = checked;
        let models = &args.measure.models;
        let mut handles = match may_download {
            true => ModelHandle::fetch_all(models, display)?,
            false => ModelHandle::open_all(models, display)?,
        };
        ModelHandle::run_on(&mut handles, compute, display);
        let folder = StudyFolder::open(&args.tables.study.out)?;
        let mut run = Self {
            args,
            stages,
            tasks,
            contrasts,
            handles,
            folder,
            rest: Rest::default(),
            display,
            study: None,
        };
        let (tasks, models) = (run.task_names(), run.names());
        run.rest = Rest::read(&run.folder.layout, &run.asked(&tasks, &models), display)?;
        Ok(run)
    }

    /// The scope of this run, as opposed to what is in its folder.
    fn asked<'a>(&'a self, tasks: &'a [String], models: &'a [String]) -> Asked<'a> {
        let scans = self.stages.contains(&Stage::Scan);
        let measure = scans.then_some(&self.args.measure);
        Asked { tasks, models, contrasts: &self.contrasts, measure }
    }

    /// The stages to run, in order.
    pub fn stages(&self) -> &[Stage] {
        &self.stages
    }

    /// The models' names.
    pub fn names(&self) -> Vec<String> {
        self.handles.iter().map(|s| s.name.clone()).collect()
    }

    /// The tasks' names.
    pub fn task_names(&self) -> Vec<String> {
        self.tasks.iter().map(|task| task.name().to_owned()).collect()
    }

    /// All settings of the study, made explicit.
    pub fn study_file(&self) -> StudyFile {
        let models = if self.args.measure.models.is_empty() {
            self.handles.iter().map(|s| s.name.clone()).collect()
        } else {
            self.args.measure.models.clone()
        };
        StudyFile::of(&self.args, models)
    }

    /// Writes `study.toml`: the settings of this run combined with those already in the folder. An equivalent existing file is left
    /// unchanged.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_study(&mut self) -> Result<(), CliError> {
        let (tasks, models) = (self.task_names(), self.names());
        let root = self.folder.layout.root().to_owned();
        let file = self.rest.added_to(self.study_file(), &root, &self.asked(&tasks, &models));
        let path = root.join(STUDY_FILE);
        let stated = StudyFile::read(&path).and_then(|before| before.stated(&path));
        if stated.is_ok_and(|before| before == file) {
            return Ok(());
        }
        let inputs = Digest256::of(&json!(file));
        let write = |layout: &Layout| {
            let path = layout.root().join(STUDY_FILE);
            file.write(&path)?;
            Ok(vec![path])
        };
        self.folder.put("study", inputs, self.display, write).map(drop)
    }

    /// Runs every stage that is not done yet; returns a summary of the study.
    ///
    /// # Errors
    /// Any error of a stage.
    pub fn all_stages(&mut self) -> Result<String, CliError> {
        let mut text = String::new();
        let stages = self.stages.clone();
        for (index, stage) in stages.iter().enumerate() {
            self.display.stage(stage.name(), index + 1, stages.len());
            match stage {
                Stage::Scan => self.scan()?,
                Stage::Tables => text += &self.tables()?,
                Stage::Attend => self.attend()?,
                Stage::Trace => self.trace()?,
                Stage::Ablate => self.ablate()?,
                Stage::Figures => self.figures()?,
                Stage::Notes => self.notes()?,
                Stage::Report => self.report()?,
            }
        }
        Ok(text + &where_to_look(&self.folder.layout, &stages, &self.tasks))
    }

    /// Estimates and reports the time of the stages that are not done yet, and shows the remaining time from then on. Prompts
    /// that cannot be resolved are not counted: the stage that needs them reports the error.
    ///
    /// # Errors
    /// A stage that is impossible with these options.
    fn report_cost(&mut self) -> Result<(), CliError> {
        let prompts = |task| match self.stages.contains(&Stage::Scan) {
            true => self.resolve(task).ok(),
            false => {
                PromptSet::load(&PromptSet::path(&prompts_folder(&self.folder.layout), task.name())).ok()
            }
        };
        let Some(prompts) = self.tasks.iter().map(prompts).collect::<Option<Vec<_>>>() else {
            return Ok(());
        };
        let mut costs = costs(&self.args, &self.handles, &prompts)?;
        let is_done = |cost: &StageCost| match cost.stage {
            Stage::Scan => {
                self.tasks.iter().all(|task| self.folder.has_done(&step(task.name(), &cost.model)))
            }
            Stage::Trace => {
                self.contrasts.iter().all(|c| self.folder.has_done(&trace_step(c, "v", &cost.model)))
            }
            Stage::Ablate => {
                self.contrasts.iter().all(|c| self.folder.has_done(&ablate_step(c, &cost.model)))
            }
            stage => self.folder.has_done(&format!("{} {}", stage.name(), cost.model)),
        };
        costs.retain(|cost| !is_done(cost));
        let work: f64 = costs.iter().map(|cost| cost.cost.dense + cost.cost.attention).sum();
        if self.handles.iter().any(|handle| handle.compute.is_card()) && work < WORTH_TIMING {
            return Ok(());
        }
        time(&mut costs, &self.handles, CALIBRATION)?;
        let step = |cost: &StageCost| {
            let seconds = cost.seconds()?;
            Some(Step { stage: cost.stage.name(), model: cost.model.clone(), seconds })
        };
        let steps: Vec<Step> = costs.iter().filter_map(step).collect();
        let seconds = |of: &str| -> f64 {
            steps.iter().filter(|s| of.is_empty() || s.stage == of).map(|s| s.seconds).sum()
        };
        let parts: Vec<String> = Stage::ALL
            .iter()
            .filter(|stage| steps.iter().any(|s| s.stage == stage.name()))
            .map(|stage| format!("{} {}", stage.name(), duration(seconds(stage.name()))))
            .collect();
        if !parts.is_empty() {
            let all = duration(seconds(""));
            self.display.note(&format!("about {all} for what runs a model: {}", parts.join(", ")));
            self.display.whole = Some(Box::leak(Box::new(Whole::new(steps))));
        }
        Ok(())
    }

    /// Scans every model on every task, one model in memory at a time.
    fn scan(&mut self) -> Result<(), CliError> {
        let measure = &self.args.measure;
        let prompts = self.tasks.iter().map(|task| self.resolve(task)).collect::<Result<Vec<_>, _>>()?;
        for (task, prompts) in self.tasks.iter().zip(&prompts) {
            note_left_out(task, prompts, self.display);
        }
        for handle in &self.handles {
            let mut todo = Vec::new();
            for prompts in &prompts {
                let scan = ModelScan::new(&self.folder.layout, handle, prompts, measure, None)?;
                if scan.is_done(&self.folder) {
                    self.display.detail(&format!("{:16} {:12} is done", handle.name, prompts.task.name()));
                } else {
                    todo.push(scan);
                }
            }
            if todo.is_empty() {
                continue;
            }
            let decoder = handle.load()?;
            for scan in todo {
                scan.run(&mut self.folder, &decoder, self.display)?;
            }
        }
        Ok(())
    }

    /// The prompts of a task. If the folder's prompts were drawn with other options, and only for models of this run,
    /// they are drawn again, and all scans redone; otherwise models outside the run would be left with other prompts.
    pub fn resolve(&self, task: &Task) -> Result<PromptSet, CliError> {
        let (layout, measure) = (&self.folder.layout, &self.args.measure);
        let result = resolve(layout, task, measure, &self.handles);
        let Err(CliError::Prompts(error)) = &result else { return result };
        let PromptError::Mismatch { field, recorded, asked, .. } = &**error else { return result };
        let record = PromptSet::path(&prompts_folder(layout), task.name());
        let is_ours = |model: &str| self.handles.iter().any(|handle| handle.name == model);
        if !PromptSet::load(&record)?.tokenizers.iter().all(|t| is_ours(&t.model)) {
            return result;
        }
        let tokenizers: Vec<&dyn Tokenize> = self.handles.iter().map(|s| s as &dyn Tokenize).collect();
        check_references(task, measure, &tokenizers)?;
        self.display.note(&format!(
            "{}: {field} was {recorded} and is now {asked}: prompts are drawn again",
            task.name()
        ));
        std::fs::remove_file(&record).map_err(|source| CliError::Out { path: record, source })?;
        resolve(layout, task, measure, &self.handles)
    }

    /// Measures where every head attends at the last token, and head roles.
    fn attend(&mut self) -> Result<(), CliError> {
        let effects = self.study()?.effects.clone();
        let memory = self.args.measure.memory;
        attend_models(&mut self.folder, &effects, &self.handles, memory, self.display)?;
        let at = (memory, self.args.tables.tau);
        score_models(&mut self.folder, &effects, &self.handles, at, self.display).map(drop)
    }

    /// Patches the hero heads' values from clean into corrupted prompts.
    fn trace(&mut self) -> Result<(), CliError> {
        let contrasts = self.hero_heads()?;
        let measure = &self.args.measure;
        let options = TraceOptions {
            stream: Stream::V,
            all_heads: false,
            resampling: measure.effort.resampling(),
            memory: measure.memory,
        };
        for heads in &contrasts {
            trace_models(&mut self.folder, heads, &self.handles, options.clone(), self.display)?;
        }
        Ok(())
    }

    /// Ablates sets of hero heads and random sets.
    fn ablate(&mut self) -> Result<(), CliError> {
        let contrasts = self.hero_heads()?;
        let effort = &self.args.measure.effort;
        let options = AblateOptions {
            ablation: None,
            value_bias: None,
            reference: None,
            random_sets: self.args.sets.random_sets(effort.effort),
            random_prompts: self.args.sets.random_prompts(effort.effort),
            resamples: effort.resampling().n_resamples,
            memory: self.args.measure.memory,
        };
        for heads in &contrasts {
            ablate_models(&mut self.folder, heads, &self.handles, options, self.display)?;
        }
        Ok(())
    }

    /// The heads of each contrast.
    fn hero_heads(&mut self) -> Result<Vec<StudyHeads>, CliError> {
        let (tau, top_k) = (self.args.tables.tau, self.args.tables.top_k);
        self.study()?.contrasts.iter().map(|c| StudyHeads::new(&c.joint, tau, top_k)).collect()
    }
}
