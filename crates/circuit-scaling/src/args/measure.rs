//! Options of `run`, `plan` and `scan`: what is measured, and how.

use std::path::PathBuf;

use clap::Args;
use cs_analysis::head_id::HeadId;
use cs_circuits::prompts::{HoldOut, PromptOptions, Protocol, Reference};
use cs_circuits::scan::{Ablation, ScanOptions, ValueBias};

use super::device::DeviceArgs;
use super::parsers::{MAX_SEED, at_least_one, memory, one_of};
use super::tables::{StudyArgs, TableArgs};
use crate::complete;
use crate::downloads;
use crate::effort::{EffortArgs, SetArgs};
use crate::error::CliError;
use crate::handle::ModelHandle;

/// What is measured, and how.
#[derive(Debug, Args, Clone)]
pub struct MeasureArgs {
    /// Models, separated by commas: names of bundled miniatures, checkpoint folders, names of published models or Hugging
    /// Face ids
    #[arg(long, value_name = "M", value_delimiter = ',', add = complete::models())]
    pub models: Vec<String>,
    /// Branch, tag or commit of the models from the Hugging Face Hub; for a single model, write NAME@REV
    #[arg(long, value_name = "REV")]
    pub revision: Option<String>,
    /// Prompts, random sets and resamples
    #[command(flatten)]
    pub effort: EffortArgs,
    /// Prompts per task, over both splits; by default set by effort and protocol, or all prompts of a smaller file
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub prompts: Option<usize>,
    /// Seed of every random draw
    #[arg(long, value_name = "S", default_value_t = 0, value_parser = clap::value_parser!(u64).range(..=MAX_SEED), allow_negative_numbers = true)]
    pub seed: u64,
    /// `standard`: many templates, two splits, one-token names; `published`: the published study's prompts
    #[arg(long, default_value = "standard", value_parser = one_of::<Protocol>(["standard", "published"]))]
    pub protocol: Protocol,
    /// What is unique to held-out prompts: pairs of names, or templates as well, so that heads are evaluated on other
    /// wordings
    #[arg(long, value_name = "WHAT", default_value = "pairs", value_parser = one_of::<HoldOut>(["pairs", "templates"]))]
    pub hold_out: HoldOut,
    /// What replaces an ablated head's output: zero, mean or resample
    #[arg(long, default_value = "zero", value_parser = one_of::<Ablation>(["zero", "mean", "resample"]))]
    pub ablation: Ablation,
    /// Whether zeroing a head keeps the constant part of its value (folded: as in a HookedTransformer, or a TransformerLens 4
    /// bridge after enable_compatibility_mode()) or removes it too (in-head: as with a hook on a Hugging Face module, or a
    /// bridge by default)
    #[arg(long, default_value = "folded", value_parser = one_of::<ValueBias>(["folded", "in-head"]))]
    pub value_bias: ValueBias,
    /// Source of values for mean and resample ablation: `abc`, prompts of the same template with three different names, or
    /// `same`, other prompts of the task
    #[arg(long, value_name = "R", default_value = "abc", value_parser = one_of::<Reference>(["abc", "same"]))]
    pub reference: Reference,
    /// Working memory in addition to the weights, such as 512M or 2G
    #[arg(long, value_name = "SIZE", default_value = "1G", value_parser = memory)]
    pub memory: usize,
    /// What models run on
    #[command(flatten)]
    pub device: DeviceArgs,
}

impl MeasureArgs {
    /// The models' names in tables, before anything is downloaded; afterwards each name includes its revision.
    ///
    /// # Errors
    /// An unknown name, a folder without a model, or two models with the same name.
    pub fn name_models(&mut self) -> Result<Vec<String>, CliError> {
        self.models = downloads::with_revision(&self.models, self.revision.as_deref());
        ModelHandle::names(&self.models)
    }

    /// How heads are ablated.
    pub fn scan_options(&self) -> ScanOptions {
        ScanOptions {
            ablation: self.ablation,
            value_bias: self.value_bias,
            reference: self.reference,
            engine: cs_engine::Options { memory: self.memory },
        }
    }

    /// The options for drawing prompts.
    pub fn prompt_options(&self) -> PromptOptions {
        PromptOptions {
            protocol: self.protocol,
            seed: self.seed,
            n_prompts: self.prompts.or_else(|| self.effort.prompts(self.protocol)),
            hold_out: self.hold_out,
            min_names: None,
        }
    }
}

/// Options of `scan`.
#[derive(Debug, Args)]
pub struct ScanArgs {
    /// The study's folder
    #[command(flatten)]
    pub study: StudyArgs,
    /// What is measured
    #[command(flatten)]
    pub measure: MeasureArgs,
    /// Task: a built-in one (see `circuit-scaling task`), a TOML file of templates, or a CSV or JSONL file of prompts
    #[arg(long, value_name = "TASK", add = complete::tasks())]
    pub task: String,
    /// Scan only these heads, such as L9H6,L9H9; tables, which need every head, reject such a scan
    #[arg(long, value_name = "HEADS", value_delimiter = ',')]
    pub heads: Vec<HeadId>,
}

/// Options of `plan`.
#[derive(Debug, Args)]
pub struct PlanArgs {
    /// The run to plan
    #[command(flatten)]
    pub run: RunArgs,
}

/// Options of `run`.
#[derive(Debug, Args, Clone)]
pub struct RunArgs {
    /// The settings of a study: models, tasks, prompts, seed, tau, stages. Options on the command line take precedence;
    /// each run writes such a file into its folder
    #[arg(long, value_name = "study.toml")]
    pub study: Option<PathBuf>,
    /// The folder for the results, and how tables are made
    #[command(flatten)]
    pub tables: TableArgs,
    /// What is measured
    #[command(flatten)]
    pub measure: MeasureArgs,
    /// Tasks: built-in ones (see `circuit-scaling task`), TOML files of templates, CSV or JSONL files of prompts, separated by
    /// commas
    #[arg(long, value_name = "TASKS", value_delimiter = ',', add = complete::tasks(), default_values_t = ["ioi".to_owned(), "anti-repeat".to_owned()])]
    pub tasks: Vec<String>,
    /// Random sets for comparison with hero sets
    #[command(flatten)]
    pub sets: SetArgs,
    /// Stages to run, separated by commas; by default all
    #[arg(long, value_name = "STAGES", value_delimiter = ',', value_enum)]
    pub stages: Vec<Stage>,
}

impl RunArgs {
    /// The stages to run, in order.
    pub fn stages(&self) -> Vec<Stage> {
        let is_chosen = |stage: &Stage| self.stages.is_empty() || self.stages.contains(stage);
        Stage::ALL.into_iter().filter(is_chosen).collect()
    }
}

/// A stage of `run`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Stage {
    /// Ablate every head of every model on every task
    Scan,
    /// Join the scans and make all tables
    Tables,
    /// Measure where every head attends at the last token
    Attend,
    /// Patch hero heads from clean into corrupted runs
    Trace,
    /// Ablate sets of hero heads and random sets
    Ablate,
    /// Draw the figures
    Figures,
    /// Write the notes
    Notes,
    /// Write the page that shows everything
    Report,
}

impl Stage {
    /// Whether it runs models on the heads found by the scans.
    pub fn runs_experiments(self) -> bool {
        matches!(self, Self::Attend | Self::Trace | Self::Ablate)
    }

    /// All stages, in order.
    pub const ALL: [Self; 8] = [
        Self::Scan,
        Self::Tables,
        Self::Attend,
        Self::Trace,
        Self::Ablate,
        Self::Figures,
        Self::Notes,
        Self::Report,
    ];

    /// Name on the command line and in `study.toml`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Scan => "scan",
            Self::Tables => "tables",
            Self::Attend => "attend",
            Self::Trace => "trace",
            Self::Ablate => "ablate",
            Self::Figures => "figures",
            Self::Notes => "notes",
            Self::Report => "report",
        }
    }
}
