//! `plot`: what people look at, from the numbers in a study's folder.

use std::fmt::Write;

use analysis::joint::{JOINT_TABLE, MAX_ROWS};
use analysis::layout::Layout;
use analysis::study::{Study, StudyOptions, analyse, analyse_csv};
use report::Extras;
use report::figures::{Drawn, Format, draw_all};

use super::tables::read_joint;
use crate::args::{PlotArgs, TableArgs};
use crate::error::CliError;

/// Draws every figure.
pub fn plot(args: &PlotArgs) -> Result<String, CliError> {
    let (layout, study, extras) = open_study(&args.tables)?;
    let formats: &[Format] =
        if args.pdf { &[Format::Png, Format::Svg, Format::Pdf] } else { &[Format::Png, Format::Svg] };
    let drawn = draw_all(&study, &extras, &layout.figures(), formats)?;
    Ok(drawn_text(&layout, &drawn))
}

/// The study in a folder: from its scans, or from its joint table where there are none.
pub fn open_study(args: &TableArgs) -> Result<(Layout, Study, Extras), CliError> {
    let layout = Layout::new(&args.study.out);
    let options = StudyOptions { tau: args.tau, top_k: args.top_k, ..StudyOptions::default() };
    let table = layout.table(JOINT_TABLE);
    let study = match read_joint(&layout) {
        Ok((joint, _)) => analyse(joint, &options)?,
        Err(CliError::NoScans { .. }) if table.exists() => analyse_csv(&table, MAX_ROWS, &options)?,
        Err(error) => return Err(error),
    };
    let extras = Extras::read(&layout, &study)?;
    Ok((layout, study, extras))
}

/// Where the figures are, and why some are not.
pub fn drawn_text(layout: &Layout, drawn: &Drawn) -> String {
    let mut text = format!("{} figures are in {}\n", drawn.names.len(), layout.figures().display());
    for missing in &drawn.not_drawn {
        let _ = writeln!(text, "not drawn: {}: {}", missing.name, missing.why);
    }
    text
}
