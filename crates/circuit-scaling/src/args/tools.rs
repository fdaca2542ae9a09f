//! Options of commands that need no study: `inspect`, `predict`, `task`, `completions`, `tables` and `man`.

use std::path::PathBuf;

use clap::Args;
use clap::builder::PossibleValuesParser;

use super::device::DeviceArgs;
use super::parsers::at_least_one;
use crate::complete;

/// Options of `completions`.
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_parser = PossibleValuesParser::new(complete::shells()))]
    pub shell: String,
}

/// Options of `tables`.
#[derive(Debug, Args)]
pub struct TablesArgs {
    /// Only this table, by its file name without `.csv`; by default all
    #[arg(value_name = "TABLE", add = complete::tables())]
    pub name: Option<String>,
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
    #[arg(value_name = "TASK", conflicts_with = "example", add = complete::built_in_tasks())]
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
    /// The name of a bundled miniature, a checkpoint folder, a published model's name, or a Hugging Face id
    #[arg(add = complete::models())]
    pub model: String,
    /// Branch, tag or commit on the Hugging Face Hub; by default main
    #[arg(long, value_name = "REV")]
    pub revision: Option<String>,
}

/// Options of `predict`.
#[derive(Debug, Args)]
pub struct PredictArgs {
    /// The name of a bundled miniature, a checkpoint folder, a published model's name, or a Hugging Face id
    #[arg(add = complete::models())]
    pub model: String,
    /// The text to continue
    pub prompt: String,
    /// Branch, tag or commit on the Hugging Face Hub; by default main
    #[arg(long, value_name = "REV")]
    pub revision: Option<String>,
    /// How many tokens to show
    #[arg(long, short = 'k', value_parser = at_least_one, default_value_t = 10)]
    pub top: usize,
    /// What the model runs on
    #[command(flatten)]
    pub device: DeviceArgs,
}
