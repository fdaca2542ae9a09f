//! `run`: the whole study, from models to tables.

use std::fmt::Write;

use analysis::joint::from_scans;
use analysis::study::{Study, StudyOptions, analyse};
use circuits::task::Task;

use super::scan::{resolve, scan_model, writable_layout};
use super::tables::{pair, summary_text};
use crate::args::RunArgs;
use crate::error::CliError;
use crate::progress::Display;
use crate::subject::Subject;

/// Scans every model on both tasks and makes all tables.
pub fn run(args: &RunArgs, display: Display) -> Result<String, CliError> {
    let subjects = Subject::open_all(&args.measure.models)?;
    let layout = writable_layout(&args.tables.study.out)?;
    let [ioi, anti] = [Task::load("ioi")?, Task::load("anti-repeat")?];
    let ioi = resolve(&layout, &ioi, &args.measure, &subjects)?;
    let anti = resolve(&layout, &anti, &args.measure, &subjects)?;
    let mut pairs = Vec::new();
    for subject in &subjects {
        let decoder = subject.load()?;
        let scan = |prompts| scan_model(&layout, subject, &decoder, prompts, &args.measure, display);
        pairs.push(pair(&layout, scan(&ioi)?, scan(&anti)?)?);
    }
    let options = StudyOptions { tau: args.tables.tau, top_k: args.tables.top_k, ..StudyOptions::default() };
    let study: Study = analyse(from_scans(&pairs)?, &options)?;
    study.write(&layout)?;

    let mut text = summary_text(&study, Some(&pairs), args.tables.tau);
    let _ = writeln!(
        text,
        "\nTables are in {}, scans in {}",
        layout.tables().display(),
        layout.results().display()
    );
    Ok(text)
}
