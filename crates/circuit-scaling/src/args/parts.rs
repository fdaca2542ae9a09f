//! Studies in parts: options of `parts`, `part`, `gather`, `slurm` and `status`.

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
    /// How many parts
    #[arg(long, value_name = "N", value_parser = n_parts)]
    pub parts: usize,
    /// Say what the parts would cost and how many machines they can keep busy, and write nothing
    #[arg(long)]
    pub dry_run: bool,
}

/// Options of `part`.
#[derive(Debug, Args)]
pub struct PartArgs {
    /// Which part, from 1, or which ones: 3, or 2-5,9; by default the index of the array job that this is
    #[arg(value_name = "PART")]
    pub part: Option<String>,
    /// The study's folder
    #[command(flatten)]
    pub study: StudyArgs,
    /// Working memory beside the weights, such as 512M or 2G; by default as the plan says
    #[arg(long, value_name = "SIZE", value_parser = memory)]
    pub memory: Option<usize>,
}

/// Options of `gather`.
#[derive(Debug, Args)]
pub struct GatherArgs {
    /// The study's folder
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
    /// The study's folder
    #[command(flatten)]
    pub study: StudyArgs,
}
