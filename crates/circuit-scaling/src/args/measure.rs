//! What is measured, and how: options of `run`, `plan` and `scan`.

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
    /// Models: shipped miniatures' names, folders with checkpoints, published models' names or Hugging Face ids, separated by
    /// commas
    #[arg(long, value_name = "M", value_delimiter = ',', add = complete::models())]
    pub models: Vec<String>,
    /// Branch, tag or commit of the models that come from the Hugging Face Hub; one model's own is NAME@REV
    #[arg(long, value_name = "REV")]
    pub revision: Option<String>,
    /// Prompts, random sets and resamples
    #[command(flatten)]
    pub effort: EffortArgs,
    /// Prompts per task, both splits together; by default what effort and protocol say, and all of a file of prompts that has
    /// fewer
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub prompts: Option<usize>,
    /// Seed of every random draw
    #[arg(long, value_name = "S", default_value_t = 0, value_parser = clap::value_parser!(u64).range(..=MAX_SEED), allow_negative_numbers = true)]
    pub seed: u64,
    /// `standard`: many templates, two splits, one-token names; `published`: the published study's prompts
    #[arg(long, default_value = "standard", value_parser = one_of::<Protocol>(["standard", "published"]))]
    pub protocol: Protocol,
    /// What only held-out prompts have: pairs of names, or whole templates too, so that heads are judged on other wordings
    #[arg(long, value_name = "WHAT", default_value = "pairs", value_parser = one_of::<HoldOut>(["pairs", "templates"]))]
    pub hold_out: HoldOut,
    /// What replaces an ablated head's output: zero, mean or resample
    #[arg(long, default_value = "zero", value_parser = one_of::<Ablation>(["zero", "mean", "resample"]))]
    pub ablation: Ablation,
    /// Whether the constant part of a head's value stays when it is zeroed (folded: a HookedTransformer, or a TransformerLens 4
    /// bridge after enable_compatibility_mode()) or goes with it (in-head: a hook on a Hugging Face module, or a bridge as it
    /// comes)
    #[arg(long, default_value = "folded", value_parser = one_of::<ValueBias>(["folded", "in-head"]))]
    pub value_bias: ValueBias,
    /// Where mean and resample ablation take values from: `abc`, prompts of the same template with three different names, or
    /// `same`, other prompts of the task
    #[arg(long, value_name = "R", default_value = "abc", value_parser = one_of::<Reference>(["abc", "same"]))]
    pub reference: Reference,
    /// Working memory beside the weights, such as 512M or 2G
    #[arg(long, value_name = "SIZE", default_value = "1G", value_parser = memory)]
    pub memory: usize,
    /// What models run on
    #[command(flatten)]
    pub device: DeviceArgs,
}

impl MeasureArgs {
    /// The models' names in tables, before anything is downloaded; from now on each name says its revision itself.
    ///
    /// # Errors
    /// A name that means nothing, a folder without a model, or two models of one name.
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

    /// What decides which prompts are drawn.
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
    /// Where results go
    #[command(flatten)]
    pub study: StudyArgs,
    /// What is measured
    #[command(flatten)]
    pub measure: MeasureArgs,
    /// Task: a built-in one (see `circuit-scaling task`), a TOML file of templates, or a CSV or JSONL file of prompts
    #[arg(long, value_name = "TASK", add = complete::tasks())]
    pub task: String,
    /// Scan these heads only, such as L9H6,L9H9; the scan file says so, and tables, which need every head, refuse it
    #[arg(long, value_name = "HEADS", value_delimiter = ',')]
    pub heads: Vec<HeadId>,
}

/// Options of `plan`.
#[derive(Debug, Args)]
pub struct PlanArgs {
    /// What would be run
    #[command(flatten)]
    pub run: RunArgs,
}

/// Options of `run`.
#[derive(Debug, Args, Clone)]
pub struct RunArgs {
    /// A study's choices: models, tasks, prompts, seed, tau, stages. What the command line states itself wins; each run
    /// writes such a file into its folder
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
    /// Random sets that sets of hero heads are compared with
    #[command(flatten)]
    pub sets: SetArgs,
    /// Stages to do, separated by commas; by default all
    #[arg(long, value_name = "STAGES", value_delimiter = ',', value_enum)]
    pub stages: Vec<Stage>,
}

impl RunArgs {
    /// The stages to do, in order.
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
    /// Read where every head attends at the last token
    Attend,
    /// Patch hero heads from clean into corrupted prompts
    Trace,
    /// Ablate sets of hero heads against random sets
    Ablate,
    /// Draw the figures
    Figures,
    /// Write the notes
    Notes,
    /// Write the page with everything on it
    Report,
}

impl Stage {
    /// Whether it runs models on what the scans found.
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
