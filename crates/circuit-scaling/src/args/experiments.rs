//! Options of `trace`, `attend` and `ablate`: experiments on a study's scanned models.

use clap::Args;
use cs_circuits::prompts::Reference;
use cs_circuits::scan::{Ablation, ValueBias};
use cs_engine::intervention::Stream;

use super::device::DeviceArgs;
use super::parsers::{at_least_one, memory, one_of, threshold};
use super::tables::{ContrastArgs, StudyArgs};
use crate::complete;
use crate::effort::{EffortArgs, SetArgs};

/// The study and models of an experiment.
#[derive(Debug, Args, Clone)]
pub struct ExperimentArgs {
    /// The study's folder
    #[command(flatten)]
    pub study: StudyArgs,
    /// Tasks to compare
    #[command(flatten)]
    pub contrasts: ContrastArgs,
    /// Threshold of the categories, in logits: a head counts for a task if |Δ| is at least this
    #[arg(long, default_value_t = cs_analysis::categories::DEFAULT_TAU, value_parser = threshold, allow_negative_numbers = true)]
    pub tau: f64,
    /// Models; by default all models that the study scanned, from their original location
    #[arg(long, value_name = "M", value_delimiter = ',', add = complete::models())]
    pub models: Vec<String>,
    /// Working memory in addition to the weights, such as 512M or 2G
    #[arg(long, value_name = "SIZE", default_value = "1G", value_parser = memory)]
    pub memory: usize,
    /// What models run on
    #[command(flatten)]
    pub device: DeviceArgs,
}

/// Options of `trace`.
#[derive(Debug, Args)]
pub struct TraceArgs {
    /// Which study
    #[command(flatten)]
    pub experiment: ExperimentArgs,
    /// Hero heads per model and category
    #[arg(long, value_name = "K", value_parser = at_least_one, default_value_t = cs_analysis::categories::DEFAULT_TOP_K)]
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
    /// Hero heads to print per model and category; results are written for every head
    #[arg(long, value_name = "K", value_parser = at_least_one, default_value_t = cs_analysis::categories::DEFAULT_TOP_K)]
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
    /// Whether the constant part of a head's value is kept (folded) or removed (in-head); by default as in the
    /// scans
    #[arg(long, value_name = "V")]
    pub value_bias: Option<ValueBias>,
    /// Source of values for mean and resample ablation: abc or same; by default as in the scans, or abc for scans with zero
    /// ablation
    #[arg(long, value_name = "R")]
    pub reference: Option<Reference>,
    /// Resamples
    #[command(flatten)]
    pub effort: EffortArgs,
    /// Random sets
    #[command(flatten)]
    pub sets: SetArgs,
}
