//! Options of `parts`, `part`, `gather`, `slurm` and `status`: studies in parts.

use clap::Args;

use super::measure::RunArgs;
use super::parsers::{memory, n_parts};
use super::tables::StudyArgs;

/// Options of `parts`.
#[derive(Debug, Args)]
pub struct PartsArgs {
    /// The study
    #[command(flatten)]
    pub run: RunArgs,
    /// Number of parts
    #[arg(long, value_name = "N", value_parser = n_parts)]
    pub parts: usize,
    /// Show what the parts would cost and how many machines they can keep busy, without writing anything
    #[arg(long)]
    pub dry_run: bool,
}

/// Options of `part`.
#[derive(Debug, Args)]
pub struct PartArgs {
    /// Which part or parts, from 1: 3, or 2-5,9; by default the index of this array job
    #[arg(value_name = "PART")]
    pub part: Option<String>,
    /// The study's folder
    #[command(flatten)]
    pub study: StudyArgs,
    /// Working memory in addition to the weights, such as 512M or 2G; by default as in the plan
    #[arg(long, value_name = "SIZE", value_parser = memory)]
    pub memory: Option<usize>,
}

/// Options of `gather`.
#[derive(Debug, Args)]
pub struct GatherArgs {
    /// The study's folder
    #[command(flatten)]
    pub study: StudyArgs,
    /// Working memory in addition to the weights, such as 512M or 2G; by default as in the plan
    #[arg(long, value_name = "SIZE", value_parser = memory)]
    pub memory: Option<usize>,
}

/// Options of `slurm`.
#[derive(Debug, Args)]
pub struct SlurmArgs {
    /// The study
    #[command(flatten)]
    pub run: RunArgs,
    /// Number of parts, which are the tasks of the job array
    #[arg(long, value_name = "N", value_parser = n_parts)]
    pub parts: usize,
    /// Cores per task
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..))]
    pub cpus: u32,
    /// Further options for sbatch, such as "--partition=long --account=me"; may be given several times
    #[arg(long, value_name = "OPTIONS", allow_hyphen_values = true)]
    pub sbatch: Vec<String>,
    /// Write and print the scripts and the commands that would submit them, without submitting
    #[arg(long)]
    pub dry_run: bool,
}

/// Options of `status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// The study's folder
    #[command(flatten)]
    pub study: StudyArgs,
}
