//! Messages about figures.

use std::fmt::Write;

use cs_analysis::layout::Layout;
use cs_report::figures::Drawn;
use cs_report::words::counted;

/// Where the figures are, and why some are not.
pub fn drawn_text(layout: &Layout, drawn: &Drawn) -> String {
    let mut text = format!(
        "{} in {}\n",
        counted(drawn.names.len(), "figure is", "figures are"),
        layout.figures().display()
    );
    for missing in &drawn.not_drawn {
        let _ = writeln!(text, "not drawn: {}: {}", missing.name, missing.why);
    }
    text
}
