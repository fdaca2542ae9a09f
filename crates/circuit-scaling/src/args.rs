//! The command line's grammar.

use std::path::PathBuf;

use circuits::prompts::Protocol;
use circuits::scan::{Ablation, ValueBias};
use clap::{Args, Parser, Subcommand};

/// Default folder of a study.
pub const DEFAULT_OUT: &str = "circuit-scaling-study";

/// What every attention head of a transformer does on IOI and anti-repeat, across model families and sizes.
#[derive(Debug, Parser)]
#[command(version, arg_required_else_help = true, propagate_version = true)]
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
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// The whole study: scan every head of every model on both tasks, join the scans, class the heads
    #[command(
        after_help = "Examples:\n  circuit-scaling run\n  circuit-scaling run --models mini-gpt2-s,./my-gpt2 --prompts 200"
    )]
    Run(RunArgs),
    /// Ablate every head of some models on one task
    #[command(
        after_help = "Examples:\n  circuit-scaling scan --models mini-opt-m --task ioi\n  circuit-scaling scan --models ./my-gpt2 --task my-task.toml --ablation resample"
    )]
    Scan(ScanArgs),
    /// Join the scans of both tasks into one table
    Joint(StudyArgs),
    /// Class every head of the joint table as IOI-only, anti-only, shared or weak
    Classify(TableArgs),
    /// Count heads per category and model
    Summarize(TableArgs),
    /// List the strongest heads of each model and category
    Heroes(TableArgs),
    /// Draw every figure of the study
    #[command(after_help = "Examples:\n  circuit-scaling plot\n  circuit-scaling plot --out my-study --pdf")]
    Plot(PlotArgs),
    /// Show what a model is: spec, heads, parameters, hash, memory
    Inspect(ModelArgs),
    /// Show a model's most likely next tokens
    Predict(PredictArgs),
    /// List the models that can be named
    Models,
}

/// A model by name.
#[derive(Debug, Args)]
pub struct ModelArgs {
    /// A shipped miniature's name, or a folder with a checkpoint
    pub model: String,
}

/// Options of `predict`.
#[derive(Debug, Args)]
pub struct PredictArgs {
    /// A shipped miniature's name, or a folder with a checkpoint
    pub model: String,
    /// The text to continue
    pub prompt: String,
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

/// Options of the tables that need no model.
#[derive(Debug, Args, Clone)]
pub struct TableArgs {
    /// Where the study lies
    #[command(flatten)]
    pub study: StudyArgs,
    /// Threshold of the categories, in logits: a head counts for a task if |Δ| is at least this
    #[arg(long, default_value_t = analysis::categories::DEFAULT_TAU, value_parser = threshold)]
    pub tau: f64,
    /// Hero heads per model and category
    #[arg(long, value_name = "K", default_value_t = analysis::categories::DEFAULT_TOP_K)]
    pub top_k: usize,
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
    /// Models: shipped miniatures' names or folders with checkpoints, separated by commas
    #[arg(long, value_name = "M", value_delimiter = ',')]
    pub models: Vec<String>,
    /// Prompts per task, both splits together; by default what the protocol says
    #[arg(long, value_name = "N")]
    pub prompts: Option<usize>,
    /// Seed of every random draw
    #[arg(long, value_name = "S", default_value_t = 0)]
    pub seed: u64,
    /// `standard`: many templates, two splits, one-token names; `published`: the published study's prompts
    #[arg(long, default_value = "standard")]
    pub protocol: Protocol,
    /// What replaces an ablated head's output: zero, mean or resample
    #[arg(long, default_value = "zero")]
    pub ablation: Ablation,
    /// Whether the constant part of a head's value stays when it is zeroed (folded) or goes with it (in-head)
    #[arg(long, default_value = "folded")]
    pub value_bias: ValueBias,
    /// Working memory beside the weights, such as 512M or 2G
    #[arg(long, value_name = "SIZE", default_value = "1G", value_parser = memory)]
    pub memory: usize,
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
    /// Task: ioi, anti-repeat, or a task's TOML file
    #[arg(long, value_name = "TASK")]
    pub task: String,
}

/// Options of `run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Where results go, and how tables are made
    #[command(flatten)]
    pub tables: TableArgs,
    /// What is measured
    #[command(flatten)]
    pub measure: MeasureArgs,
}

fn threshold(text: &str) -> Result<f64, String> {
    let tau: f64 = text.parse().map_err(|_| format!("`{text}` is not a number"))?;
    if tau.is_finite() && tau >= 0.0 {
        Ok(tau)
    } else {
        Err("give a number of logits that is not negative".into())
    }
}

/// Bytes from a number with an optional K, M or G (powers of 1,024).
fn memory(text: &str) -> Result<usize, String> {
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
