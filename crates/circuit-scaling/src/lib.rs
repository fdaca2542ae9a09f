//! Circuit-Scaling: what every attention head of a transformer does for a task.
//!
//! There are two entry points. [`main`] is the program: arguments, progress, and the study's folder (`circuit-scaling
//! --help`). [`prelude`] is for your own programs: a model, its logits with edited heads, its activations, and scans, set
//! ablation and tracing on a task.
//!
//! Below them are these crates, each of which depends on those above it only. The whole decoder in plain loops, [`cs_engine::reference`],
//! is the file to read first.
//!
//! | crate | what it is |
//! |---|---|
//! | [`cs_kernels`](../cs_kernels/index.html) | vectorised float32 kernels: packed matrix product, attention over a tree, norms, activations |
//! | [`cs_cuda`](../cs_cuda/index.html) | NVIDIA cards: the driver, memory, kernels compiled ahead |
//! | [`cs_hub`] | a model's files from the Hugging Face Hub |
//! | [`cs_model`] | `config.json`, checkpoints and tokenizers |
//! | [`cs_engine`] | the exact forward pass with edited heads: prefix forest, branches, and the machines that run them |
//! | [`cs_analysis`] | numbers without models: effects, statistics, contrasts of two tasks, tables |
//! | [`cs_circuits`] | the science that needs a model: tasks, prompts, scans, direct effects, attention, tracing, ablated sets |
//! | [`cs_report`] | figures, notes and `report.html` |

#![forbid(unsafe_code)]

pub mod activations;
pub mod args;
mod commands;
mod complete;
mod digest;
mod downloads;
pub mod edit;
pub mod effort;
pub mod error;
pub mod experiment;
mod handle;
mod left_out;
mod measured;
mod miniatures;
pub mod model;
mod partial;
pub mod prelude;
mod progress;
mod scan_meta;
mod stop;
pub mod study_file;
mod study_folder;

use std::ffi::OsString;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{ArgMatches, CommandFactory, FromArgMatches};

use args::{Cli, Command, TableArgs};
use error::CliError;
use progress::{Display, Mode};
use study_file::StudyFile;

/// The whole program, from the arguments of the process to its exit code.
pub fn main() -> ExitCode {
    run_with(std::env::args_os()).into()
}

/// Runs the whole program with these arguments (the first is its name), and returns its exit code, 0 on success.
/// Help, and arguments that do not parse, exit the process.
pub fn run_with(args: impl IntoIterator<Item = OsString>) -> u8 {
    let args: Vec<OsString> = args.into_iter().collect();
    complete::answer(&args);
    let command = Cli::command();
    let matches = command.try_get_matches_from(args).unwrap_or_else(|error| with_tip(error).exit());
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    stop::watch();
    match dispatch(cli, &matches) {
        Ok(text) => {
            // A closed pipe (`| head`) is not an error.
            let _ = std::io::stdout().write_all(text.as_bytes());
            0
        }
        Err(_) if let Some(code) = stop::asked() => {
            eprintln!("circuit-scaling: {}", stop::MESSAGE);
            code
        }
        Err(error) => {
            eprintln!("circuit-scaling: {}", error::one_line(&error));
            1
        }
    }
}

/// Adds a tip to an error of the command line if a folder was given without its option.
fn with_tip(mut error: clap::Error) -> clap::Error {
    let stray = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(text)) if error.kind() == ErrorKind::UnknownArgument => text.clone(),
        _ => return error,
    };
    if Path::new(&stray).is_dir() {
        let tip = format!("a study's folder is named with --out: --out {stray}");
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
    }
    error
}

fn dispatch(cli: Cli, matches: &ArgMatches) -> Result<String, CliError> {
    if let Some(threads) = cli.threads {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
        pool.build_global().map_err(|source| CliError::Threads { threads, source })?;
    }
    let mode = match (cli.quiet, cli.json_progress) {
        (true, _) => Mode::Quiet,
        (_, true) => Mode::Json,
        _ => Mode::Bars,
    };
    let display = Display { mode, verbose: cli.verbose, whole: None, share: None };
    let options = matches.subcommand().map(|(_, options)| options);
    let is_given = |id: &str| options.is_some_and(|m| m.value_source(id) == Some(ValueSource::CommandLine));
    let tables = |args: &TableArgs| StudyFile::of_tables(args, is_given);
    match &cli.command {
        Command::Run(args) => commands::run::run(args, is_given, display),
        Command::Scan(args) => commands::scan::scan(args, display),
        Command::Joint(args) => commands::tables::joint(&tables(args)?, display),
        Command::Classify(args) => commands::tables::classify(&tables(args)?, display),
        Command::Summarize(args) => commands::tables::summarize(&tables(args)?, display),
        Command::Heroes(args) => commands::tables::heroes(&tables(args)?, display),
        Command::Correlate(args) => commands::tables::correlate(&tables(args)?, display),
        Command::Transfer(args) => commands::tables::transfer(&tables(args)?, display),
        Command::Analyze(args) => commands::tables::analyze(args, display),
        Command::Compare(args) => commands::compare::compare(args, display),
        Command::Trace(args) => commands::trace::trace(args, display),
        Command::Ablate(args) => commands::ablate::ablate(args, display),
        Command::Attend(args) => commands::attend::attend(args, display),
        Command::Plot(args) => commands::presentation::plot(args, &tables(&args.tables)?, display),
        Command::Notes(args) => commands::presentation::notes(&tables(args)?, display),
        Command::Report(args) => commands::presentation::report(&tables(args)?, display),
        Command::Inspect(args) => commands::inspect::inspect(args, display),
        Command::Predict(args) => commands::predict::predict(args, display),
        Command::Plan(args) => commands::plan::plan(args, is_given, display),
        Command::Parts(args) => commands::parts::parts(args, is_given, display),
        Command::Part(args) => commands::parts::part(args, display),
        Command::Gather(args) => commands::parts::gather(args, display),
        Command::Slurm(args) => commands::parts::slurm(args, is_given, display),
        Command::Status(args) => commands::parts::status(args),
        Command::Devices => Ok(commands::devices::devices()),
        Command::Models => Ok(commands::models::models()),
        Command::Task(args) => commands::task::task(args),
        Command::Tables(args) => commands::shell::tables(args),
        Command::Completions(args) => Ok(commands::shell::completions(args)),
        Command::Man(args) => commands::shell::man(args),
    }
}
