//! What the program says of figures.

use std::fmt::Write;

use cs_analysis::layout::Layout;
use cs_analysis::words::counted;
use cs_report::figures::Drawn;

/// Where the figures are, and why some are not.
pub fn drawn_text(layout: &Layout, drawn: &Drawn) -> String {
    let mut text =
        format!("{}: {}\n", counted(drawn.names.len(), "figure", "figures"), layout.figures().display());
    for missing in &drawn.not_drawn {
        let _ = writeln!(text, "not drawn: {}: {}", missing.name, missing.why);
    }
    text
}
