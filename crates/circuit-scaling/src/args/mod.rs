//! The command line's grammar: the program and its subcommands here, the options of each group of subcommands in its own
//! file.

mod device;
mod experiments;
mod measure;
mod parsers;
mod parts;
mod tables;
mod tools;

use clap::{Parser, Subcommand};

pub use device::DeviceArgs;
pub use experiments::{AblateArgs, AttendArgs, ExperimentArgs, TraceArgs};
pub use measure::{MeasureArgs, PlanArgs, RunArgs, ScanArgs, Stage};
pub use parsers::{at_least_one, memory, threshold};
pub use parts::{GatherArgs, PartArgs, PartsArgs, SlurmArgs, StatusArgs};
pub use tables::{AnalyzeArgs, CompareArgs, ContrastArgs, PlotArgs, StudyArgs, TableArgs};
pub use tools::{CompletionsArgs, Example, ManArgs, ModelArgs, PredictArgs, TablesArgs, TaskArgs};

/// Default folder of a study.
pub const DEFAULT_OUT: &str = "circuit-scaling-study";

/// Measures what every attention head of a transformer does on a task, whether two tasks use the same heads, and how that
/// changes across model families and sizes.
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
    #[arg(long, global = true, value_name = "N", value_parser = at_least_one)]
    pub threads: Option<usize>,
    /// Print results only, no progress
    #[arg(long, short, global = true)]
    pub quiet: bool,
    /// Print progress as JSON to standard error, one object per line
    #[arg(long, global = true, conflicts_with = "quiet")]
    pub json_progress: bool,
    /// Print more about each step
    #[arg(long, short, global = true, conflicts_with = "quiet")]
    pub verbose: bool,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the whole study: scans of every head, tables, attention, causal tracing, set ablation, figures, notes,
    /// report.html
    ///
    /// An interrupted run resumes where it was when started again, and steps whose inputs have not changed are not
    /// repeated.
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
    /// Classify every head of the joint table: specific to one task, shared, or weak
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
    /// Patch hero heads from clean into corrupted runs: how much of the answer each restores
    #[command(
        after_help = "Examples:\n  circuit-scaling trace\n  circuit-scaling trace --all-heads --stream z --out my-study"
    )]
    Trace(TraceArgs),
    /// Show where every head attends at the last token, from which the answer is read
    #[command(
        after_help = "Examples:\n  circuit-scaling attend\n  circuit-scaling attend --models mini-gpt2-l --top-k 5 --out my-study"
    )]
    Attend(AttendArgs),
    /// Ablate sets of hero heads and compare them with random sets; test whether the tasks dissociate
    #[command(
        after_help = "Examples:\n  circuit-scaling ablate\n  circuit-scaling ablate --ablation mean --random-sets 1000"
    )]
    Ablate(AblateArgs),
    /// Correlate the effects on both tasks over each model's heads
    #[command(
        after_help = "Examples:\n  circuit-scaling correlate\n  circuit-scaling correlate --out my-study"
    )]
    Correlate(TableArgs),
    /// Look up each model's strongest heads in other models
    #[command(
        after_help = "Examples:\n  circuit-scaling transfer\n  circuit-scaling transfer --pairs all --out my-study\n  circuit-scaling transfer --pairs mini-gpt2-m:mini-gpt2-l,mini-gpt2-l:mini-opt-l"
    )]
    Transfer(TableArgs),
    /// Make every table from a joint table alone, from this program or the published study, and audit it
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
    #[command(
        after_help = "Examples:\n  circuit-scaling plot\n  circuit-scaling plot --out my-study --pdf\n  circuit-scaling plot --only phase_space_all_heads --width 120mm --no-caption --out my-study"
    )]
    Plot(PlotArgs),
    /// Write the findings in words: an outline of a paper's results, the main findings, a card per hero head
    #[command(
        after_help = "Examples:\n  circuit-scaling notes\n  circuit-scaling notes --tau 0.1 --out my-study"
    )]
    Notes(TableArgs),
    /// Make report.html: the whole study on one self-contained page
    #[command(after_help = "Examples:\n  circuit-scaling report\n  circuit-scaling report --out my-study")]
    Report(TableArgs),
    /// Describe a model: spec, heads, parameters, hash, memory
    #[command(
        after_help = "Examples:\n  circuit-scaling inspect mini-gpt2-l\n  circuit-scaling inspect ./my-gpt2"
    )]
    Inspect(ModelArgs),
    /// Show a model's most likely next tokens
    #[command(
        after_help = "Examples:\n  circuit-scaling predict mini-gpt2-l \"When John and Mary went to the store, John gave a gift to\"\n  circuit-scaling predict ./my-gpt2 \"Alice met Bob. Alice talked to\" --top 3"
    )]
    Predict(PredictArgs),
    /// Estimate the cost of a run, stage by stage: operations, memory, and time from a short calibration
    #[command(
        after_help = "Examples:\n  circuit-scaling plan\n  circuit-scaling plan --models ./my-gpt2 --effort thorough\n  circuit-scaling plan --models ./my-gpt2 --prompts 1000 --stages scan"
    )]
    Plan(PlanArgs),
    /// Divide a study into parts of equal cost, for many machines: draws the prompts once and writes parts/plan.json
    #[command(
        after_help = "Examples:\n  circuit-scaling parts --models gpt2,pythia-160m --parts 16 --out my-study\n  circuit-scaling parts --study study.toml --parts 64 --out my-study\n  circuit-scaling parts --models gpt2,pythia-160m --parts 16 --dry-run"
    )]
    Parts(PartsArgs),
    /// Run a part of a study that was divided with `parts`, on any machine that has its folder
    ///
    /// An interrupted part resumes where it was when started again. On SIGTERM it saves its results so far and exits with code 99.
    #[command(
        after_help = "Examples:\n  circuit-scaling part 3 --out my-study\n  circuit-scaling part 5-9,12 --out my-study       # one after the other\n  circuit-scaling part --out my-study              # in an array job of SLURM, PBS, Grid Engine or Kubernetes"
    )]
    Part(PartArgs),
    /// Join the parts of a study: after the first wave plan the second, after the second run every later stage
    #[command(after_help = "Example:\n  circuit-scaling gather --out my-study")]
    Gather(GatherArgs),
    /// Write SLURM job scripts for a study in parts, and submit them
    #[command(
        after_help = "Examples:\n  circuit-scaling slurm --models gpt2,pythia-160m --parts 16 --out my-study --dry-run\n  circuit-scaling slurm --study study.toml --parts 64 --cpus 32 --sbatch \"--partition=long --account=me\" --out my-study"
    )]
    Slurm(SlurmArgs),
    /// Show the state of a study's parts: done, running, failed, time left
    #[command(after_help = "Example:\n  circuit-scaling status --out my-study")]
    Status(StatusArgs),
    /// List the devices of this machine that can run models, and why a GPU is not used
    #[command(after_help = "Example:\n  circuit-scaling devices")]
    Devices,
    /// List the models that have a short name
    #[command(after_help = "Example:\n  circuit-scaling models")]
    Models,
    /// Print a shell completion script for this program's commands and options
    #[command(
        after_help = "Examples:\n  circuit-scaling completions bash > ~/.local/share/bash-completion/completions/circuit-scaling\n  circuit-scaling completions fish > ~/.config/fish/completions/circuit-scaling.fish\n  circuit-scaling completions zsh > ~/.zfunc/_circuit-scaling    # a folder in $fpath"
    )]
    Completions(CompletionsArgs),
    /// List the built-in tasks, print one, or print example files
    #[command(
        after_help = "Examples:\n  circuit-scaling task\n  circuit-scaling task ioi > my-task.toml\n  circuit-scaling task --example csv > prompts.csv\n  circuit-scaling scan --task prompts.csv --models ./my-gpt2"
    )]
    Task(TaskArgs),
    /// Explain the tables of a study and their columns
    #[command(after_help = "Examples:\n  circuit-scaling tables\n  circuit-scaling tables head_effects")]
    Tables(TablesArgs),
    /// Print the manual page, or write one for each subcommand
    #[command(
        after_help = "Examples:\n  circuit-scaling man | man -l -\n  circuit-scaling man --out ~/.local/share/man/man1"
    )]
    Man(ManArgs),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn grammar_is_sound() {
        Cli::command().debug_assert();
    }
}
