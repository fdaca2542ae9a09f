//! `run`: the whole study, from models to tables.

use std::fmt::Write;

use analysis::joint::{from_scans, study_pair};
use analysis::study::analyse;
use circuits::task::Task;

use super::scan::{resolve, scan_model, writable_layout};
use super::tables::summary_text;
use crate::args::RunArgs;
use crate::error::CliError;
use crate::progress::Display;
use crate::subject::Subject;

/// Scans every model on both tasks and makes all tables.
pub fn run(args: &RunArgs, display: Display) -> Result<String, CliError> {
    let options = args.tables.options()?;
    let subjects = Subject::open_all(&args.measure.models)?;
    let layout = writable_layout(&args.tables.study.out)?;
    let [ioi, anti] = [Task::load("ioi")?, Task::load("anti-repeat")?];
    let ioi = resolve(&layout, &ioi, &args.measure, &subjects)?;
    let anti = resolve(&layout, &anti, &args.measure, &subjects)?;
    let mut pairs = Vec::new();
    for subject in &subjects {
        let decoder = subject.load()?;
        let scan = |prompts| scan_model(&layout, subject, &decoder, prompts, &args.measure, display);
        scan(&ioi)?;
        scan(&anti)?;
        pairs.push(study_pair(&layout, &subject.name, args.tables.tau)?);
    }
    let study = analyse(from_scans(&pairs)?, &options)?;
    study.write(&layout)?;

    let mut text = summary_text(&study, Some(&pairs));
    let _ = writeln!(
        text,
        "\nTables are in {}, scans in {}",
        layout.tables().display(),
        layout.results().display()
    );
    Ok(text)
}
