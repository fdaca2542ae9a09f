//! `report.html`: the whole study on one page that needs no network.
//!
//! The page carries its data as JSON, the tables as compressed CSV, and the plotting library. Its own code lies in
//! `assets/`.

mod data;
mod roles;

use std::io::Read;
use std::path::Path;

use cs_analysis::files::write_bytes;
use cs_analysis::study::Study;
use flate2::read::GzDecoder;

use crate::error::{ReportError, Result};
use crate::extras::Extras;

/// Name of the page in a study's folder.
pub const FILE_NAME: &str = "report.html";
/// The plotting library of the page, and its licence.
pub const PLOTTING_LIBRARY: &str = "plotly.js 4.1.1 (cartesian bundle), MIT licence";

const TEMPLATE: &str = include_str!("../../assets/page.html");
const STYLE: &str = include_str!("../../assets/page.css");
const ROLES: &str = include_str!("../../assets/roles.js");
const SCRIPT: &str = include_str!("../../assets/page.js");
const PLOTLY: &[u8] = include_bytes!("../../assets/plotly-cartesian.min.js.gz");

/// The page of a study.
///
/// # Errors
/// When the data cannot be packed.
pub fn page(study: &Study, extras: &Extras) -> Result<String> {
    let fail = |problem: std::io::Error| ReportError::figure(FILE_NAME, problem);
    let mut plotly = String::new();
    GzDecoder::new(PLOTLY).read_to_string(&mut plotly).map_err(fail)?;
    // In a script element, `<` could begin a tag that ends it; JSON may write it as an escape instead.
    let data = data::data(study, extras).map_err(fail)?.to_string().replace('<', "\\u003c");
    let mut page = String::with_capacity(
        TEMPLATE.len() + plotly.len() + data.len() + ROLES.len() + SCRIPT.len() + STYLE.len(),
    );
    let mut rest = TEMPLATE;
    for (mark, content) in [
        ("/*STYLE*/", STYLE),
        ("/*DATA*/", data.as_str()),
        ("/*PLOTLY*/", plotly.as_str()),
        ("/*ROLES*/", ROLES),
        ("/*SCRIPT*/", SCRIPT),
    ] {
        let (before, after) = rest
            .split_once(mark)
            .ok_or_else(|| ReportError::figure(FILE_NAME, format!("the page's template lacks {mark}")))?;
        page.push_str(before);
        page.push_str(content);
        rest = after;
    }
    page.push_str(rest);
    Ok(page)
}

/// Writes the page.
///
/// # Errors
/// When the data cannot be packed or the file not be written.
pub fn write(study: &Study, extras: &Extras, path: &Path) -> Result<()> {
    Ok(write_bytes(path, page(study, extras)?.as_bytes())?)
}
