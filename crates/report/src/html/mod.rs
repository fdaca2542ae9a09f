//! `report.html`: the whole study on one page that needs no network.
//!
//! The answer is in the page as text. The rest is drawn by scripts from embedded data: JSON for whole models, compressed JSON for
//! single heads, tables as compressed CSV. The plotting library is embedded too. The page's own code is in `assets/`.

mod data;
mod heads;
mod packed;
mod roles;

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cs_analysis::files::write_bytes;
use cs_analysis::study::Study;
use serde_json::Value;

use crate::error::{ReportError, Result};
use crate::extras::Extras;
use crate::notes::{self, Answer};

/// Name of the page in a study's folder.
pub const FILE_NAME: &str = "report.html";
/// The plotting library of the page, and its licence.
pub const PLOTTING_LIBRARY: &str = "plotly.js 4.1.1 (cartesian bundle), MIT licence";

const TEMPLATE: &str = include_str!("../../assets/page.html");
const STYLE: &str = include_str!("../../assets/page.css");
const PLOTLY: &[u8] = include_bytes!("../../assets/plotly-cartesian.min.js.gz");
/// The page's scripts, in order of execution; together they form one function.
const SCRIPTS: [&str; 12] = [
    include_str!("../../assets/js/base.js"),
    include_str!("../../assets/js/plots.js"),
    include_str!("../../assets/js/answer.js"),
    include_str!("../../assets/js/models.js"),
    include_str!("../../assets/js/phase.js"),
    include_str!("../../assets/js/card.js"),
    include_str!("../../assets/js/map.js"),
    include_str!("../../assets/js/roles.js"),
    include_str!("../../assets/js/curves.js"),
    include_str!("../../assets/js/tables.js"),
    include_str!("../../assets/js/address.js"),
    include_str!("../../assets/js/start.js"),
];
/// Maximum size of the page in bytes, so that it can be sent by mail; tables take the remaining space.
const ROOM: usize = 5_800_000;

/// The page of a study.
///
/// # Errors
/// If the data cannot be compressed.
pub fn page(study: &Study, extras: &Extras) -> Result<String> {
    let fail = |problem: std::io::Error| ReportError::figure(FILE_NAME, problem);
    // In a script element, `<` could start a tag that ends it; JSON can escape it instead.
    let json = |value: Value| value.to_string().replace('<', "\\u003c");
    let answer = answer(&notes::answer(study, extras));
    let data = json(data::data(study, extras));
    let heads = packed::compressed(heads::heads(study, extras).to_string().as_bytes()).map_err(fail)?;
    let plotly = STANDARD.encode(PLOTLY);
    let scripts = SCRIPTS.concat();
    let parts = [&*answer, &*data, &*heads, &*plotly, &*scripts, STYLE, TEMPLATE];
    let taken: usize = parts.iter().map(|part| part.len()).sum();
    let tables = json(data::tables(study, extras, ROOM.saturating_sub(taken)).map_err(fail)?);
    let mut page = String::with_capacity(taken + tables.len());
    let mut rest = TEMPLATE;
    for (mark, content) in [
        ("/*STYLE*/", STYLE),
        ("<!--ANSWER-->", &answer),
        ("/*DATA*/", &data),
        ("/*TABLES*/", &tables),
        ("/*HEADS*/", &heads),
        ("/*PLOTLY*/", &plotly),
        ("/*SCRIPTS*/", &scripts),
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

/// The answer as static text in the page.
fn answer(answer: &Answer) -> String {
    let escape = |text: &str| text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    // A number stays on one line with its name and its interval.
    let unbroken = |text: &str| {
        let text = text.replace(" = ", "\u{a0}=\u{a0}").replace("Δ ", "Δ\u{a0}").replace("≥ ", "≥\u{a0}");
        let mut inside = false;
        let keep = |sign: char| {
            inside = (inside || sign == '[') && sign != ']';
            if inside && sign == ' ' { '\u{a0}' } else { sign }
        };
        text.chars().map(keep).collect::<String>()
    };
    let mut html = format!(
        "<h1 id=\"title\">{}</h1>\n<p id=\"subtitle\">{}</p>\n",
        escape(&answer.question),
        escape(&answer.measured)
    );
    html += "<div id=\"answer\">\n";
    for point in &answer.points {
        // The page's scripts show a contrast when its sentence is clicked.
        let contrast = point.contrast.as_ref().map_or(String::new(), ToString::to_string);
        html += &format!(
            "<p class=\"verdict\" data-contrast=\"{}\"><strong>{}</strong> {}</p>\n",
            escape(&contrast).replace('"', "&quot;"),
            escape(&point.verdict),
            escape(&unbroken(&point.numbers))
        );
    }
    if let Some(caution) = &answer.caution {
        html += &format!("<p class=\"note\">{}</p>\n", escape(caution));
    }
    html + "</div>"
}

/// Writes the page.
///
/// # Errors
/// If the data cannot be compressed or the file cannot be written.
pub fn write(study: &Study, extras: &Extras, path: &Path) -> Result<()> {
    Ok(write_bytes(path, page(study, extras)?.as_bytes())?)
}
