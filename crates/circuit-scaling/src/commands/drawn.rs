//! Messages about figures.

use std::fmt::Write;
use std::path::Path;

use cs_report::figures::Drawn;
use cs_report::words::counted;

/// How many figures are in a folder, and why some are not.
pub fn drawn_text(folder: &Path, drawn: &Drawn) -> String {
    let mut text =
        format!("{} in {}\n", counted(drawn.names.len(), "figure is", "figures are"), folder.display());
    for missing in &drawn.not_drawn {
        let _ = writeln!(text, "not drawn: {}: {}", missing.name, missing.why);
    }
    text
}
