//! `study.toml`: a study's settings in a file, to repeat or change it.
//!
//! Every field is optional and defaults to the command line's default; options on the command line take
//! precedence. Threads and memory are not included, since they change no result.

use std::fmt::Display;
use std::fs;
use std::path::Path;
use std::str::FromStr;

use clap::{Args, FromArgMatches, ValueEnum};
use cs_analysis::files::write_bytes;
use cs_circuits::task::Task;
use cs_circuits::toml_error;
use serde::{Deserialize, Serialize};

use crate::args::{RunArgs, Stage, TableArgs, at_least_one, threshold};
use crate::effort::{Effort, random_prompts, random_sets, resamples};
use crate::error::CliError;
use crate::handle::ModelHandle;

/// The fields of `study.toml`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StudyFile {
    /// Models by name, id or folder.
    pub models: Option<Vec<String>>,
    /// Tasks by name or file.
    pub tasks: Option<Vec<String>>,
    /// `quick`, `standard` or `thorough`.
    pub effort: Option<String>,
    /// Prompts per task.
    pub prompts: Option<usize>,
    /// Seed of every draw.
    pub seed: Option<u64>,
    /// `standard` or `published`.
    pub protocol: Option<String>,
    /// `pairs` or `templates`.
    pub hold_out: Option<String>,
    /// `zero`, `mean` or `resample`.
    pub ablation: Option<String>,
    /// `folded` or `in-head`.
    pub value_bias: Option<String>,
    /// `abc` or `same`.
    pub reference: Option<String>,
    /// Threshold of the categories, in logits.
    pub tau: Option<f64>,
    /// Hero heads per model and category.
    pub top_k: Option<usize>,
    /// Pairs of tasks to compare, `A:B`; omitted if they are the defaults.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub contrast: Option<Vec<String>>,
    /// `all`, or `BASE:TARGET` pairs.
    pub pairs: Option<Vec<String>>,
    /// Maximum number of random sets of each kind and size.
    pub random_sets: Option<usize>,
    /// Maximum number of prompts per task on which random sets are run.
    pub random_prompts: Option<u32>,
    /// Bootstrap resamples of the prompts.
    pub resamples: Option<u32>,
    /// What models run on: `cpu`, `cuda`, …; omitted if the program may choose.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// `f32`, `split` or `half`; omitted if it is the device's default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub precision: Option<String>,
    /// Stages, in any order.
    pub stages: Option<Vec<String>>,
}

/// The error for a field with an invalid value.
fn bad_field(path: &Path, field: &str, problem: String) -> CliError {
    CliError::StudyFile { path: path.to_owned(), place: format!("`{field}`"), problem }
}

impl StudyFile {
    /// Sorts tasks in the order of the study folder's `study.toml`, followed by tasks that it does not name; without such a file
    /// the order is unchanged.
    pub fn order_tasks(folder: &Path, tasks: &mut [String]) {
        let stated = Self::read(&folder.join("study.toml")).unwrap_or_default().tasks.unwrap_or_default();
        // A task's file may have moved; most are named like their task.
        let stem = |given: &str| Path::new(given).file_stem().map(|stem| stem.to_string_lossy().into_owned());
        let name = |given: &String| match Task::load(given) {
            Ok(task) => task.name().to_owned(),
            Err(_) => stem(given).unwrap_or_default(),
        };
        let stated: Vec<String> = stated.iter().map(name).collect();
        tasks.sort_by_key(|task| stated.iter().position(|name| name == task).unwrap_or(stated.len()));
    }

    /// Reads a file.
    ///
    /// # Errors
    /// A file that cannot be read, is not TOML, or has a field that is not one of these.
    pub fn read(path: &Path) -> Result<Self, CliError> {
        let text = fs::read_to_string(path)
            .map_err(|source| CliError::ReadStudy { path: path.to_owned(), source })?;
        toml::from_str(&text).map_err(|error| {
            let (line, problem) = toml_error::describe(&text, &error);
            CliError::StudyFile { path: path.to_owned(), place: format!("line {line}"), problem }
        })
    }

    /// Sets the file's options in `args`, except those for which `is_given` is true on the command line (by field
    /// name).
    ///
    /// # Errors
    /// A value that the option of that name would reject.
    pub fn fill(
        self,
        path: &Path,
        args: &mut RunArgs,
        is_given: impl Fn(&str) -> bool,
    ) -> Result<(), CliError> {
        let bad = |field: &str, problem: String| bad_field(path, field, problem);
        self.fill_tables(path, &mut args.tables, &is_given)?;
        fn parsed<T: FromStr<Err: Display>>(text: &str) -> Result<T, String> {
            text.parse().map_err(|error: T::Err| error.to_string())
        }
        /// Overwrites `to` with the file's value, if there is one.
        fn put<T>(to: &mut T, value: Option<T>) {
            if let Some(value) = value {
                *to = value;
            }
        }
        let measure = &mut args.measure;
        let unless_given = |field: &str| !is_given(field);
        // An effort on the command line overrides the numbers from the file's effort.
        let unless_effort = |field: &str| !is_given(field) && !is_given("effort");
        put(&mut measure.models, self.models.filter(|_| unless_given("models")));
        put(&mut args.tasks, self.tasks.filter(|_| unless_given("tasks")));
        let sets = &mut args.sets;
        put(&mut measure.seed, self.seed.filter(|_| unless_given("seed")));
        // Numbers are parsed like the options of the same names.
        if let Some(n) = self.prompts.filter(|_| unless_effort("prompts")) {
            measure.prompts = Some(at_least_one(&n.to_string()).map_err(|e| bad("prompts", e))?);
        }
        if let Some(n) = self.random_sets.filter(|_| unless_effort("random_sets")) {
            sets.random_sets = Some(random_sets(&n.to_string()).map_err(|e| bad("random_sets", e))?);
        }
        if let Some(n) = self.random_prompts.filter(|_| unless_effort("random_prompts")) {
            sets.random_prompts = Some(random_prompts(&n.to_string()).map_err(|e| bad("random_prompts", e))?);
        }
        if let Some(n) = self.resamples.filter(|_| unless_effort("resamples")) {
            measure.effort.resamples = Some(resamples(&n.to_string()).map_err(|e| bad("resamples", e))?);
        }
        if let Some(text) = self.effort.filter(|_| unless_given("effort")) {
            measure.effort.effort = Effort::from_str(&text, true)
                .map_err(|_| bad("effort", format!("`{text}` is not quick, standard or thorough")))?;
        }
        if let Some(text) = self.protocol.filter(|_| unless_given("protocol")) {
            measure.protocol = parsed(&text).map_err(|e| bad("protocol", e))?;
        }
        if let Some(text) = self.hold_out.filter(|_| unless_given("hold_out")) {
            measure.hold_out = parsed(&text).map_err(|e| bad("hold_out", e))?;
        }
        if let Some(text) = self.ablation.filter(|_| unless_given("ablation")) {
            measure.ablation = parsed(&text).map_err(|e| bad("ablation", e))?;
        }
        if let Some(text) = self.value_bias.filter(|_| unless_given("value_bias")) {
            measure.value_bias = parsed(&text).map_err(|e| bad("value_bias", e))?;
        }
        if let Some(text) = self.reference.filter(|_| unless_given("reference")) {
            measure.reference = parsed(&text).map_err(|e| bad("reference", e))?;
        }
        if let Some(text) = self.device.filter(|_| unless_given("device")) {
            measure.device.device = parsed(&text).map_err(|e| bad("device", e))?;
        }
        if let Some(text) = self.precision.filter(|_| unless_given("precision")) {
            measure.device.precision = Some(parsed(&text).map_err(|e| bad("precision", e))?);
        }
        if let Some(stages) = self.stages.filter(|_| unless_given("stages")) {
            let stage = |name: &String| Stage::from_str(name, true);
            args.stages = stages.iter().map(stage).collect::<Result<_, _>>().map_err(|_| {
                let known: Vec<&str> = Stage::ALL.iter().map(|stage| stage.name()).collect();
                bad("stages", format!("{stages:?} is not a list of {}", known.join(", ")))
            })?;
        }
        Ok(())
    }

    /// Applies the file's table options to `tables`, except those that are given on the command line.
    fn fill_tables(
        &self,
        path: &Path,
        tables: &mut TableArgs,
        is_given: impl Fn(&str) -> bool,
    ) -> Result<(), CliError> {
        if let Some(tau) = self.tau.filter(|_| !is_given("tau")) {
            tables.tau = threshold(&tau.to_string()).map_err(|e| bad_field(path, "tau", e))?;
        }
        if let Some(k) = self.top_k.filter(|_| !is_given("top_k")) {
            tables.top_k = at_least_one(&k.to_string()).map_err(|e| bad_field(path, "top_k", e))?;
        }
        if let Some(contrast) = self.contrast.as_ref().filter(|_| !is_given("contrast")) {
            tables.contrasts.contrast.clone_from(contrast);
        }
        if let Some(pairs) = self.pairs.as_ref().filter(|_| !is_given("pairs")) {
            tables.pairs.clone_from(pairs);
        }
        Ok(())
    }

    /// The table options of the study in the folder, except those that are given on the command line.
    ///
    /// # Errors
    /// A `study.toml` that cannot be read, or has an invalid value.
    pub fn of_tables(tables: &TableArgs, is_given: impl Fn(&str) -> bool) -> Result<TableArgs, CliError> {
        let path = tables.study.out.join("study.toml");
        let mut tables = tables.clone();
        if path.is_file() {
            Self::read(&path)?.fill_tables(&path, &mut tables, is_given)?;
        }
        Ok(tables)
    }

    /// All settings of a run, made explicit.
    pub fn of(args: &RunArgs, models: Vec<String>) -> Self {
        let RunArgs { tables, measure, tasks, sets, .. } = args;
        let effort = measure.effort.effort;
        let (device, precision) = measure.device.stated();
        Self {
            models: Some(models),
            tasks: Some(tasks.clone()),
            effort: Some(effort.name().to_owned()),
            prompts: measure.prompt_options().n_prompts,
            seed: Some(measure.seed),
            protocol: Some(measure.protocol.to_string()),
            hold_out: Some(measure.hold_out.to_string()),
            ablation: Some(measure.ablation.to_string()),
            value_bias: Some(measure.value_bias.to_string()),
            reference: Some(measure.reference.to_string()),
            tau: Some(tables.tau),
            top_k: Some(tables.top_k),
            contrast: Some(tables.contrasts.contrast.clone()).filter(|asked| !asked.is_empty()),
            pairs: Some(tables.pairs.clone()),
            random_sets: Some(sets.random_sets(effort)),
            random_prompts: Some(sets.random_prompts(effort) as u32),
            resamples: Some(measure.effort.resampling().n_resamples),
            device,
            precision,
            stages: Some(args.stages().iter().map(|stage| stage.name().to_owned()).collect()),
        }
    }

    /// The same settings, made explicit.
    ///
    /// # Errors
    /// As [`Self::fill`]; unknown model names.
    pub fn stated(self, path: &Path) -> Result<Self, CliError> {
        let bare = RunArgs::augment_args(clap::Command::new("run")).get_matches_from(["run"]);
        let mut args = RunArgs::from_arg_matches(&bare).unwrap_or_else(|error| error.exit());
        self.fill(path, &mut args, |_| false)?;
        let models = match args.measure.models.is_empty() {
            true => ModelHandle::names(&[])?,
            false => args.measure.models.clone(),
        };
        Ok(Self::of(&args, models))
    }

    /// Writes the file.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), CliError> {
        let heading = format!(
            "# A study by circuit-scaling {}. Repeat it: circuit-scaling run --study study.toml --out DIR\n",
            env!("CARGO_PKG_VERSION")
        );
        let fields = toml::to_string(self).map_err(|error| CliError::StudyFile {
            path: path.to_owned(),
            place: "study".into(),
            problem: error.to_string(),
        })?;
        Ok(write_bytes(path, (heading + &fields).as_bytes())?)
    }
}
