//! Notes on a study, written from its numbers.
//!
//! Every sentence is true whatever the numbers are: it counts, compares with an interval, or says that something was not
//! measured. Every claim names the table that it comes from.

mod findings;
mod heroes;
mod outline;

use std::path::{Path, PathBuf};

use cs_analysis::files::write_bytes;
use cs_analysis::study::Study;

pub use findings::{Finding, findings, limits};

use crate::error::Result;
use crate::extras::Extras;
use crate::figures::names_of_all_models;

/// A note: the stem of its file name, and its text in Markdown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// Stem of the file name.
    pub name: &'static str,
    /// The text.
    pub text: String,
}

/// All notes of a study.
///
/// # Errors
/// When a figure that a note would name cannot be drawn.
pub fn notes(study: &Study, extras: &Extras) -> Result<Vec<Note>> {
    let figures = names_of_all_models(study, extras)?;
    Ok(vec![
        Note { name: "results_outline", text: outline::outline(study, extras, &figures) },
        Note { name: "high_level_findings", text: high_level(study, extras) },
        Note { name: "hero_heads", text: heroes::hero_heads(study, extras) },
    ])
}

/// Writes all notes into `folder`.
///
/// # Errors
/// When one cannot be made or written.
pub fn write_all(study: &Study, extras: &Extras, folder: &Path) -> Result<Vec<PathBuf>> {
    notes(study, extras)?
        .into_iter()
        .map(|note| {
            let path = folder.join(format!("{}.md", note.name));
            write_bytes(&path, note.text.as_bytes())?;
            Ok(path)
        })
        .collect()
}

/// `high_level_findings.md`.
fn high_level(study: &Study, extras: &Extras) -> String {
    let mut text = heading("High-level findings", study);
    for finding in findings(study, extras) {
        text += &format!("- **{}.** {} {}\n", finding.title, finding.text, finding.cited());
    }
    text += "\n## Limits\n\n";
    for limit in limits(study, extras) {
        text += &format!("- {limit}\n");
    }
    text
}

/// Title of a note, and what it was written from.
fn heading(title: &str, study: &Study) -> String {
    let models: Vec<&str> = study.joint.models.iter().map(|m| m.info.model.as_str()).collect();
    format!(
        "# {title}\n\nWritten by circuit-scaling {} from the tables of this run (`paper/tables`, named in brackets), for {}. Δ is the \
         mean logit difference with a head ablated minus without, in logits: a negative Δ means that the head helps the task. \
         Intervals are 95% intervals, over prompts unless something else is said.\n\n",
        env!("CARGO_PKG_VERSION"),
        models.join(", "),
    )
}
