//! The command line of Circuit-Scaling: arguments, progress, and the study's folder. See `circuit-scaling --help`.

#![forbid(unsafe_code)]

mod args;
mod commands;
mod error;
mod miniatures;
mod progress;
mod subject;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;

use args::{Cli, Command};
use error::CliError;
use progress::Display;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match dispatch(cli) {
        Ok(text) => {
            // A closed pipe (`| head`) is no failure of ours.
            let _ = std::io::stdout().write_all(text.as_bytes());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("circuit-scaling: {error}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(cli: Cli) -> Result<String, CliError> {
    if let Some(threads) = cli.threads {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
        pool.build_global().map_err(|source| CliError::Threads { threads, source })?;
    }
    let display = Display { quiet: cli.quiet };
    match &cli.command {
        Command::Run(args) => commands::run::run(args, display),
        Command::Scan(args) => commands::scan::scan(args, display),
        Command::Joint(args) => commands::tables::joint(args),
        Command::Classify(args) => commands::tables::classify(args),
        Command::Summarize(args) => commands::tables::summarize(args),
        Command::Heroes(args) => commands::tables::heroes(args),
        Command::Plot(args) => commands::presentation::plot(args),
        Command::Inspect(args) => commands::inspect::inspect(args),
        Command::Predict(args) => commands::predict::predict(args),
        Command::Models => Ok(commands::models::models()),
    }
}
