//! The command line's grammar.

use std::path::PathBuf;
use std::str::FromStr;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand};
use cs_analysis::AnalysisError;
use cs_analysis::head_id::HeadId;
use cs_analysis::study::StudyOptions;
use cs_analysis::transfer::Pairs;
use cs_circuits::prompts::{HoldOut, PromptOptions, Protocol, Reference};
use cs_circuits::scan::{Ablation, ScanOptions, ValueBias};
use cs_engine::intervention::Stream;

use crate::complete;
use crate::downloads;
use crate::effort::{EffortArgs, SetArgs};
use crate::error::CliError;
use crate::progress::Display;

/// Default folder of a study.
pub const DEFAULT_OUT: &str = "circuit-scaling-study";

/// What every attention head of a transformer does on a task, whether two tasks use the same heads, and how that changes across
/// model families and sizes.
#[derive(Debug, Parser)]
#[command(
    version,
    arg_required_else_help = true,
    propagate_version = true,
    after_help = "Examples:\n  circuit-scaling run                                   # the whole study of the shipped models\n  circuit-scaling run --models ./my-gpt2 --out my-study\n  circuit-scaling analyze joint.csv --out audit         # what needs no model, from somebody's table\n  circuit-scaling run --help                            # options and examples of a subcommand"
)]
pub struct Cli {
    /// What to do
    #[command(subcommand)]
    pub command: Command,
    /// Threads to use; by default one per core
    #[arg(long, global = true, value_name = "N")]
    pub threads: Option<usize>,
    /// Print results only, no progress
    #[arg(long, short, global = true)]
    pub quiet: bool,
    /// Print progress as JSON, one object a line, on standard error
    #[arg(long, global = true, conflicts_with = "quiet")]
    pub json_progress: bool,
    /// Say more about each step
    #[arg(long, short, global = true, conflicts_with = "quiet")]
    pub verbose: bool,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// The whole study: scans of every head, tables, attention, causal tracing, ablated sets, figures, notes, report.html
    ///
    /// A run that was stopped, however it was stopped, goes on where it was when it is started again, and nothing is done
    /// again whose inputs have not changed.
    #[command(
        after_help = "Examples:\n  circuit-scaling run\n  circuit-scaling run --models mini-gpt2-s,./my-gpt2 --prompts 200\n  circuit-scaling run --study my-study/study.toml --out repeated"
    )]
    Run(RunArgs),
    /// Ablate every head of some models on one task
    #[command(
        after_help = "Examples:\n  circuit-scaling scan --models mini-opt-m --task ioi\n  circuit-scaling scan --models ./my-gpt2 --task my-task.toml --ablation resample\n  circuit-scaling scan --models ./my-gpt2 --task ioi --heads L9H6,L9H9 --out few"
    )]
    Scan(ScanArgs),
    /// Join the scans of two tasks into one table
    #[command(after_help = "Examples:\n  circuit-scaling joint\n  circuit-scaling joint --out my-study")]
    Joint(TableArgs),
    /// Class every head of the joint table as working on one of two tasks only, shared or weak
    #[command(
        after_help = "Examples:\n  circuit-scaling classify\n  circuit-scaling classify --tau 0.1 --out my-study"
    )]
    Classify(TableArgs),
    /// Count heads per category and model
    #[command(
        after_help = "Examples:\n  circuit-scaling summarize\n  circuit-scaling summarize --tau 0.1 --out my-study"
    )]
    Summarize(TableArgs),
    /// List the strongest heads of each model and category
    #[command(
        after_help = "Examples:\n  circuit-scaling heroes\n  circuit-scaling heroes --top-k 10 --out my-study"
    )]
    Heroes(TableArgs),
    /// Patch hero heads from clean into corrupted prompts: how much of the answer each brings back
    #[command(
        after_help = "Examples:\n  circuit-scaling trace\n  circuit-scaling trace --all-heads --stream z --out my-study"
    )]
    Trace(TraceArgs),
    /// Say where every head attends at the last token, from which the answer is read
    #[command(
        after_help = "Examples:\n  circuit-scaling attend\n  circuit-scaling attend --models mini-gpt2-l --top-k 5 --out my-study"
    )]
    Attend(AttendArgs),
    /// Ablate sets of hero heads together, against random sets; test whether the tasks dissociate
    #[command(
        after_help = "Examples:\n  circuit-scaling ablate\n  circuit-scaling ablate --ablation mean --random-sets 1000"
    )]
    Ablate(AblateArgs),
    /// Correlate the effects on both tasks over each model's heads
    #[command(
        after_help = "Examples:\n  circuit-scaling correlate\n  circuit-scaling correlate --out my-study"
    )]
    Correlate(TableArgs),
    /// Follow each model's strongest heads into other models
    #[command(
        after_help = "Examples:\n  circuit-scaling transfer\n  circuit-scaling transfer --pairs all --out my-study\n  circuit-scaling transfer --pairs mini-gpt2-m:mini-gpt2-l,mini-gpt2-l:mini-opt-l"
    )]
    Transfer(TableArgs),
    /// Make every table from a joint table alone, of this program or of the published study, and audit it
    #[command(
        after_help = "Examples:\n  circuit-scaling analyze joint_ioi_anti_repeat_all.csv --out audit\n  circuit-scaling analyze joint.csv --pairs gpt2:gpt2-medium,gpt2:opt-125m"
    )]
    Analyze(AnalyzeArgs),
    /// Compare two joint tables of the same models: another seed, protocol, precision, machine or program
    #[command(
        after_help = "Example:\n  circuit-scaling compare study-a study-b/paper/tables/joint_ioi_anti_repeat_all.csv"
    )]
    Compare(CompareArgs),
    /// Draw every figure of the study
    #[command(after_help = "Examples:\n  circuit-scaling plot\n  circuit-scaling plot --out my-study --pdf")]
    Plot(PlotArgs),
    /// Write what the numbers say, in words: an outline of a paper's results, the main findings, a card per hero head
    #[command(
        after_help = "Examples:\n  circuit-scaling notes\n  circuit-scaling notes --tau 0.1 --out my-study"
    )]
    Notes(TableArgs),
    /// Make report.html: the whole study on one page to look at, which needs no network
    #[command(after_help = "Examples:\n  circuit-scaling report\n  circuit-scaling report --out my-study")]
    Report(TableArgs),
    /// Show what a model is: spec, heads, parameters, hash, memory
    #[command(
        after_help = "Examples:\n  circuit-scaling inspect mini-gpt2-l\n  circuit-scaling inspect ./my-gpt2"
    )]
    Inspect(ModelArgs),
    /// Show a model's most likely next tokens
    #[command(
        after_help = "Examples:\n  circuit-scaling predict mini-gpt2-l \"When John and Mary went to the store, John gave a gift to\"\n  circuit-scaling predict ./my-gpt2 \"Alice met Bob. Alice talked to\" --top 3"
    )]
    Predict(PredictArgs),
    /// Say what a run will cost, stage by stage: operations, memory, and time from a short calibration
    #[command(
        after_help = "Examples:\n  circuit-scaling plan\n  circuit-scaling plan --models ./my-gpt2 --effort thorough\n  circuit-scaling plan --models ./my-gpt2 --prompts 1000 --stages scan"
    )]
    Plan(PlanArgs),
    /// Cut a study into parts of equal cost, for many machines: its prompts are drawn once, and parts/plan.json says who does what
    #[command(
        after_help = "Examples:\n  circuit-scaling parts --models gpt2,pythia-160m --parts 16 --out my-study\n  circuit-scaling parts --study study.toml --parts 64 --out my-study\n  circuit-scaling parts --models gpt2,pythia-160m --parts 16 --dry-run"
    )]
    Parts(PartsArgs),
    /// Do a part of a study that was cut with `parts`, on any machine that has its folder
    ///
    /// A part that was stopped, however it was stopped, goes on where it was when it is started again. On SIGTERM it keeps what it
    /// found and ends with exit code 99.
    #[command(
        after_help = "Examples:\n  circuit-scaling part 3 --out my-study\n  circuit-scaling part 5-9,12 --out my-study       # one after the other\n  circuit-scaling part --out my-study              # in an array job of SLURM, PBS, Grid Engine or Kubernetes"
    )]
    Part(PartArgs),
    /// Join the parts of a study: after the first wave cut the second, after the second go on with every later stage
    #[command(after_help = "Example:\n  circuit-scaling gather --out my-study")]
    Gather(GatherArgs),
    /// Write SLURM job scripts for a study in parts, and submit them
    #[command(
        after_help = "Examples:\n  circuit-scaling slurm --models gpt2,pythia-160m --parts 16 --out my-study --dry-run\n  circuit-scaling slurm --study study.toml --parts 64 --cpus 32 --sbatch \"--partition=long --account=me\" --out my-study"
    )]
    Slurm(SlurmArgs),
    /// Say how far the parts of a study are: done, running, failed, time left
    #[command(after_help = "Example:\n  circuit-scaling status --out my-study")]
    Status(StatusArgs),
    /// List the models that can be named
    #[command(after_help = "Example:\n  circuit-scaling models")]
    Models,
    /// Print a script with which a shell completes this program's commands and options
    #[command(
        after_help = "Examples:\n  circuit-scaling completions bash > ~/.local/share/bash-completion/completions/circuit-scaling\n  circuit-scaling completions fish > ~/.config/fish/completions/circuit-scaling.fish\n  circuit-scaling completions zsh > ~/.zfunc/_circuit-scaling    # a folder in $fpath"
    )]
    Completions(CompletionsArgs),
    /// List the built-in tasks, print one, or print example files to begin with
    #[command(
        after_help = "Examples:\n  circuit-scaling task\n  circuit-scaling task ioi > my-task.toml\n  circuit-scaling task --example csv > prompts.csv\n  circuit-scaling scan --task prompts.csv --models ./my-gpt2"
    )]
    Task(TaskArgs),
    /// Print the manual page, or write one for each subcommand
    #[command(
        after_help = "Examples:\n  circuit-scaling man | man -l -\n  circuit-scaling man --out ~/.local/share/man/man1"
    )]
    Man(ManArgs),
}

/// Options of `completions`.
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_parser = PossibleValuesParser::new(complete::shells()))]
    pub shell: String,
}

/// Options of `man`.
#[derive(Debug, Args)]
pub struct ManArgs {
    /// Write the pages of the program and of each subcommand into this folder
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

/// Options of `task`.
#[derive(Debug, Args)]
pub struct TaskArgs {
    /// Print the file of this built-in task
    #[arg(value_name = "TASK", conflicts_with = "example")]
    pub name: Option<String>,
    /// Print an example file: `names` (templates of two people), `template` (templates of any words), `csv` (prompts), or all of
    /// them
    #[arg(long, value_name = "KIND", num_args = 0..=1, default_missing_value = "all")]
    pub example: Option<Example>,
}

/// An example file of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Example {
    /// Templates that name two people and one of them again
    Names,
    /// Templates of any words
    Template,
    /// Prompts
    Csv,
    /// One of each
    All,
}

/// A model by name.
#[derive(Debug, Args)]
pub struct ModelArgs {
    /// A shipped miniature's name, a folder with a checkpoint, a published model's name, or a Hugging Face id
    pub model: String,
    /// Branch, tag or commit on the Hugging Face Hub; by default main
    #[arg(long, value_name = "REV")]
    pub revision: Option<String>,
}

/// Options of `predict`.
#[derive(Debug, Args)]
pub struct PredictArgs {
    /// A shipped miniature's name, a folder with a checkpoint, a published model's name, or a Hugging Face id
    pub model: String,
    /// The text to continue
    pub prompt: String,
    /// Branch, tag or commit on the Hugging Face Hub; by default main
    #[arg(long, value_name = "REV")]
    pub revision: Option<String>,
    /// How many tokens to show
    #[arg(long, short = 'k', default_value_t = 10)]
    pub top: usize,
}

/// The folder of a study.
#[derive(Debug, Args, Clone)]
pub struct StudyArgs {
    /// Folder of the study
    #[arg(long, value_name = "DIR", default_value = DEFAULT_OUT)]
    pub out: PathBuf,
}

/// Which tasks of a study are compared with each other.
#[derive(Debug, Args, Clone, Default)]
pub struct ContrastArgs {
    /// Pairs of tasks to compare, separated by commas; by default ioi:anti-repeat where the study has both, else every pair of
    /// up to four tasks
    #[arg(long, value_name = "A:B", value_delimiter = ',')]
    pub contrast: Vec<String>,
}

/// Options of the tables that need no model.
#[derive(Debug, Args, Clone)]
pub struct TableArgs {
    /// Where the study lies
    #[command(flatten)]
    pub study: StudyArgs,
    /// Tasks to compare
    #[command(flatten)]
    pub contrasts: ContrastArgs,
    /// Threshold of the categories, in logits: a head counts for a task if |Δ| is at least this
    #[arg(long, default_value_t = cs_analysis::categories::DEFAULT_TAU, value_parser = threshold)]
    pub tau: f64,
    /// Hero heads per model and category
    #[arg(long, value_name = "K", default_value_t = cs_analysis::categories::DEFAULT_TOP_K)]
    pub top_k: usize,
    /// Models to follow heads between: `all`, or BASE:TARGET pairs separated by commas; by default each model to the next
    /// size of its family, and each two families at their nearest sizes
    #[arg(long, value_name = "PAIRS", value_delimiter = ',')]
    pub pairs: Vec<String>,
}

impl TableArgs {
    /// The choices that tables depend on.
    ///
    /// # Errors
    /// Pairs that are none.
    pub fn options(&self) -> Result<StudyOptions, AnalysisError> {
        let pairs = Pairs::parse(&self.pairs)?;
        Ok(StudyOptions { tau: self.tau, top_k: self.top_k, pairs, ..StudyOptions::default() })
    }
}

/// Options of `analyze`.
#[derive(Debug, Args)]
pub struct AnalyzeArgs {
    /// A joint table: family,model,layer,head,delta_ioi,delta_anti (or delta_ of two other tasks) and any further columns, rows in
    /// any order
    #[arg(value_name = "JOINT.csv")]
    pub joint: PathBuf,
    /// Where tables go, and how they are made
    #[command(flatten)]
    pub tables: TableArgs,
    /// Refuse a table of more rows
    #[arg(long, value_name = "N", default_value_t = cs_analysis::joint::MAX_ROWS)]
    pub max_rows: usize,
}

/// Options of `compare`.
#[derive(Debug, Args)]
pub struct CompareArgs {
    /// A joint table, or the folder of a study or of `analyze`
    pub a: PathBuf,
    /// Another one of the same models
    pub b: PathBuf,
    /// Tasks to compare the studies on
    #[command(flatten)]
    pub contrasts: ContrastArgs,
    /// Threshold of the categories, in logits
    #[arg(long, default_value_t = cs_analysis::categories::DEFAULT_TAU, value_parser = threshold)]
    pub tau: f64,
    /// Where tables go
    #[arg(long, value_name = "DIR", default_value = "circuit-scaling-comparison")]
    pub out: PathBuf,
}

/// Options of `plot`.
#[derive(Debug, Args)]
pub struct PlotArgs {
    /// Where the study lies, and how its heads are classed
    #[command(flatten)]
    pub tables: TableArgs,
    /// Write each figure as PDF too, for LaTeX
    #[arg(long)]
    pub pdf: bool,
}

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
    /// How much is spent on certainty
    #[command(flatten)]
    pub effort: EffortArgs,
    /// Prompts per task, both splits together; by default what effort and protocol say, and all of a file of prompts that has
    /// fewer
    #[arg(long, value_name = "N")]
    pub prompts: Option<usize>,
    /// Seed of every random draw
    #[arg(long, value_name = "S", default_value_t = 0)]
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
}

impl MeasureArgs {
    /// The models, downloaded if need be; from now on each name says its revision itself.
    ///
    /// # Errors
    /// A model that cannot be had.
    pub fn fetch_models(&mut self, display: Display) -> Result<(), CliError> {
        self.models = downloads::with_revision(&self.models, self.revision.as_deref());
        downloads::fetch(&self.models, display)
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

/// Options of `parts`.
#[derive(Debug, Args)]
pub struct PartsArgs {
    /// The study
    #[command(flatten)]
    pub run: RunArgs,
    /// How many parts
    #[arg(long, value_name = "N", value_parser = n_parts)]
    pub parts: usize,
    /// Say what the parts would cost, and how many machines they are good for, and write nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// Options of `part`.
#[derive(Debug, Args)]
pub struct PartArgs {
    /// Which part, from 1, or which ones: 3, or 2-5,9; by default the index of the array job that this is
    #[arg(value_name = "PART")]
    pub part: Option<String>,
    /// Where the study lies
    #[command(flatten)]
    pub study: StudyArgs,
    /// Working memory beside the weights, such as 512M or 2G; by default as the plan says
    #[arg(long, value_name = "SIZE", value_parser = memory)]
    pub memory: Option<usize>,
}

/// Options of `gather`.
#[derive(Debug, Args)]
pub struct GatherArgs {
    /// Where the study lies
    #[command(flatten)]
    pub study: StudyArgs,
    /// Working memory beside the weights, such as 512M or 2G; by default as the plan says
    #[arg(long, value_name = "SIZE", value_parser = memory)]
    pub memory: Option<usize>,
}

/// Options of `slurm`.
#[derive(Debug, Args)]
pub struct SlurmArgs {
    /// The study
    #[command(flatten)]
    pub run: RunArgs,
    /// How many parts: tasks of the job array
    #[arg(long, value_name = "N", value_parser = n_parts)]
    pub parts: usize,
    /// Cores of each task
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..))]
    pub cpus: u32,
    /// Further options for sbatch, such as "--partition=long --account=me"; may be given again
    #[arg(long, value_name = "OPTIONS", allow_hyphen_values = true)]
    pub sbatch: Vec<String>,
    /// Write the scripts and print them and how they would be submitted, but submit nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// Options of `status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Where the study lies
    #[command(flatten)]
    pub study: StudyArgs,
}

/// Options of `run`.
#[derive(Debug, Args, Clone)]
pub struct RunArgs {
    /// A study's choices: models, tasks, prompts, seed, tau, stages. What the command line states itself wins; each run
    /// writes such a file into its folder
    #[arg(long, value_name = "study.toml")]
    pub study: Option<PathBuf>,
    /// Where results go, and how tables are made
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

/// A study whose scanned models are experimented on.
#[derive(Debug, Args, Clone)]
pub struct ExperimentArgs {
    /// Where the study lies
    #[command(flatten)]
    pub study: StudyArgs,
    /// Tasks to compare
    #[command(flatten)]
    pub contrasts: ContrastArgs,
    /// Threshold of the categories, in logits: a head counts for a task if |Δ| is at least this
    #[arg(long, default_value_t = cs_analysis::categories::DEFAULT_TAU, value_parser = threshold)]
    pub tau: f64,
    /// Models, by default all that the study scanned where they lay then
    #[arg(long, value_name = "M", value_delimiter = ',', add = complete::models())]
    pub models: Vec<String>,
    /// Working memory beside the weights, such as 512M or 2G
    #[arg(long, value_name = "SIZE", default_value = "1G", value_parser = memory)]
    pub memory: usize,
}

/// Options of `trace`.
#[derive(Debug, Args)]
pub struct TraceArgs {
    /// Which study
    #[command(flatten)]
    pub experiment: ExperimentArgs,
    /// Hero heads per model and category
    #[arg(long, value_name = "K", default_value_t = cs_analysis::categories::DEFAULT_TOP_K)]
    pub top_k: usize,
    /// What is patched: v, z, q, k or pattern
    #[arg(long, value_name = "STREAM", default_value = "v", value_parser = one_of::<Stream>(["v", "z", "q", "k", "pattern"]))]
    pub stream: Stream,
    /// Trace every head, not only the hero heads
    #[arg(long)]
    pub all_heads: bool,
    /// Resamples
    #[command(flatten)]
    pub effort: EffortArgs,
}

/// Options of `attend`.
#[derive(Debug, Args)]
pub struct AttendArgs {
    /// Which study
    #[command(flatten)]
    pub experiment: ExperimentArgs,
    /// Hero heads per model and category that are printed; every head is written
    #[arg(long, value_name = "K", default_value_t = cs_analysis::categories::DEFAULT_TOP_K)]
    pub top_k: usize,
}

/// Options of `ablate`.
#[derive(Debug, Args)]
pub struct AblateArgs {
    /// Which study
    #[command(flatten)]
    pub experiment: ExperimentArgs,
    /// What replaces an ablated head's output: zero, mean or resample; by default as in the study's scans
    #[arg(long, value_name = "A")]
    pub ablation: Option<Ablation>,
    /// Whether the constant part of a head's value stays (folded) or goes (in-head); by default as in the scans
    #[arg(long, value_name = "V")]
    pub value_bias: Option<ValueBias>,
    /// Where mean and resample ablation take values from: abc or same; by default as in the scans, or abc where they ablated
    /// to zero
    #[arg(long, value_name = "R")]
    pub reference: Option<Reference>,
    /// Resamples
    #[command(flatten)]
    pub effort: EffortArgs,
    /// Random sets
    #[command(flatten)]
    pub sets: SetArgs,
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

/// One of these words, which help and shells list too.
fn one_of<T>(words: impl Into<PossibleValuesParser>) -> impl TypedValueParser<Value = T>
where
    T: FromStr<Err: std::fmt::Display> + Clone + Send + Sync + 'static,
{
    let parse = |word: String| word.parse::<T>().map_err(|error| error.to_string());
    words.into().try_map(parse)
}

/// A threshold in logits.
pub fn threshold(text: &str) -> Result<f64, String> {
    let tau: f64 = text.parse().map_err(|_| format!("`{text}` is not a number"))?;
    if tau.is_finite() && tau >= 0.0 {
        Ok(tau)
    } else {
        Err("give a number of logits that is not negative".into())
    }
}

/// A number of parts that schedulers take.
fn n_parts(text: &str) -> Result<usize, String> {
    text.parse()
        .ok()
        .filter(|n| (1..=100_000).contains(n))
        .ok_or_else(|| "give a whole number from 1 to 100000".into())
}

/// Bytes from a number with an optional K, M or G (powers of 1,024).
pub fn memory(text: &str) -> Result<usize, String> {
    let unsupported =
        || format!("`{text}` is no amount of memory: write a number with K, M or G, such as 512M");
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(split);
    let factor = match unit.trim_end_matches(['b', 'B', 'i']).to_ascii_uppercase().as_str() {
        "" => 1,
        "K" => 1 << 10,
        "M" => 1 << 20,
        "G" => 1usize << 30,
        _ => return Err(unsupported()),
    };
    digits
        .parse::<usize>()
        .ok()
        .and_then(|n| n.checked_mul(factor))
        .filter(|&n| n > 0)
        .ok_or_else(unsupported)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn grammar_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn memory_sizes() {
        assert_eq!(memory("512M"), Ok(512 << 20));
        assert_eq!(memory("2GiB"), Ok(2 << 30));
        assert_eq!(memory("77"), Ok(77));
        for bad in ["", "G", "1.5G", "-1M", "3X", "0", "99999999999999999999"] {
            assert!(memory(bad).is_err(), "{bad}");
        }
    }
}
