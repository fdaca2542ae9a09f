//! `plot`, `notes` and `report`: what people look at, from the numbers in a study's folder.

use cs_analysis::joint::MAX_ROWS;
use cs_analysis::layout::Layout;
use cs_analysis::study::{Study, analyse_csv};
use cs_report::Extras;
use cs_report::figures::{Format, draw_all};

use super::drawn::drawn_text;
use super::tables::{from_folder, joint_table_in};
use crate::args::{PlotArgs, TableArgs};
use crate::error::CliError;
use crate::progress::Display;

/// Draws every figure.
pub fn plot(args: &PlotArgs, display: Display) -> Result<String, CliError> {
    let (layout, study, extras) = open_study(&args.tables, display)?;
    let formats: &[Format] =
        if args.pdf { &[Format::Png, Format::Svg, Format::Pdf] } else { &[Format::Png, Format::Svg] };
    Ok(drawn_text(&layout, &draw_all(&study, &extras, &layout.figures(), formats)?))
}

/// Writes the notes.
pub fn notes(args: &TableArgs, display: Display) -> Result<String, CliError> {
    let (layout, study, extras) = open_study(args, display)?;
    let files = cs_report::notes::write_all(&study, &extras, &layout.notes())?;
    Ok(format!("{} notes are in {}\n", files.len(), layout.notes().display()))
}

/// Writes the page.
pub fn report(args: &TableArgs, display: Display) -> Result<String, CliError> {
    let (layout, study, extras) = open_study(args, display)?;
    let path = layout.root().join(cs_report::html::FILE_NAME);
    cs_report::html::write(&study, &extras, &path)?;
    Ok(format!("Open {} in a browser\n", path.display()))
}

/// The study in a folder: from its scans, or from its joint table where there are none.
fn open_study(args: &TableArgs, display: Display) -> Result<(Layout, Study, Extras), CliError> {
    let layout = Layout::new(&args.study.out);
    let study = match (from_folder(args, display), joint_table_in(&layout)) {
        (Err(CliError::NoScans { .. }), Some(table)) => analyse_csv(&table, MAX_ROWS, &args.options()?)?,
        (from_scans, _) => from_scans?.1,
    };
    let extras = Extras::read(&layout, &study)?;
    Ok((layout, study, extras))
}
