//! `plot`, `notes` and `report`: figures, notes and the page, from the numbers in a study's folder.

use cs_analysis::joint::MAX_ROWS;
use cs_analysis::layout::Layout;
use cs_analysis::study::{Study, analyse_csv};
use cs_report::Extras;
use cs_report::figures::{Choice, Format, Style, chosen_colors, draw_chosen};

use super::drawn::drawn_text;
use super::tables::{from_folder, joint_table_in};
use crate::args::{PlotArgs, TableArgs};
use crate::error::CliError;
use crate::progress::Display;
use crate::study_folder::StudyFolder;

/// Subfolder of the figures' folder for figures that `plot` drew in a custom style.
pub const STYLED: &str = "styled";

/// Draws every figure, or the requested ones. Figures in a custom style go to a separate folder, which `run` does not change.
pub fn plot(args: &PlotArgs, tables: &TableArgs, display: Display) -> Result<String, CliError> {
    let (layout, study, extras) = open_study(tables, display)?;
    let style = Style {
        width_mm: args.width,
        title: args.title.clone(),
        caption: !args.no_caption,
        colors: chosen_colors(&study, &args.colours)?,
    };
    let is_styled = style != Style::default();
    let folder = |layout: &Layout| {
        if is_styled { layout.figures().join(STYLED) } else { layout.figures() }
    };
    let choice = Choice { only: args.only.clone(), style };
    let formats: &[Format] =
        if args.pdf { &[Format::Png, Format::Svg, Format::Pdf] } else { &[Format::Png, Format::Svg] };
    let mut text = String::new();
    StudyFolder::open(layout.root())?.add("plot", display, |desk| {
        let drawn = draw_chosen(&study, &extras, &folder(desk), formats, &choice)?;
        text = drawn_text(&folder(&layout), &drawn);
        Ok(drawn.files)
    })?;
    Ok(text)
}

/// Writes the notes.
pub fn notes(args: &TableArgs, display: Display) -> Result<String, CliError> {
    let (layout, study, extras) = open_study(args, display)?;
    let write = |desk: &Layout| Ok(cs_report::notes::write_all(&study, &extras, &desk.notes())?);
    let files = StudyFolder::open(layout.root())?.add("notes", display, write)?;
    Ok(format!("{} notes: {}\n", files.len(), layout.notes().display()))
}

/// Writes the page.
pub fn report(args: &TableArgs, display: Display) -> Result<String, CliError> {
    let (layout, study, extras) = open_study(args, display)?;
    StudyFolder::open(layout.root())?.add("report", display, |desk| {
        let path = desk.root().join(cs_report::html::FILE_NAME);
        cs_report::html::write(&study, &extras, &path)?;
        Ok(vec![path])
    })?;
    Ok(format!("Open {} in a browser\n", layout.root().join(cs_report::html::FILE_NAME).display()))
}

/// The study in a folder, from its scans, or from its joint table if there are none.
fn open_study(args: &TableArgs, display: Display) -> Result<(Layout, Study, Extras), CliError> {
    let layout = Layout::new(&args.study.out);
    let study = match (from_folder(args, display), joint_table_in(&layout)) {
        (Err(CliError::NoScans { .. }), Some(table)) => analyse_csv(&table, MAX_ROWS, &args.options()?)?,
        (from_scans, _) => from_scans?.1,
    };
    let extras = Extras::read(&layout, &study)?;
    Ok((layout, study, extras))
}
