//! Notes on a study, generated from its numbers.
//!
//! Every sentence is true for any numbers: it counts, compares with an interval, or says that something was not
//! measured. Every claim cites its table.

mod answer;
mod findings;
mod heroes;
mod outline;
mod roles;

use std::path::{Path, PathBuf};

use cs_analysis::contrast::{Contrast, Side};
use cs_analysis::files::write_bytes;
use cs_analysis::study::Study;

pub use answer::{Answer, Point, answer, best_model};
pub use findings::{Finding, findings, limits, task_findings, task_limits};

use crate::error::Result;
use crate::extras::Extras;
use crate::figures::palette::side_label;
use crate::figures::shows_tasks;

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
/// If a figure named in a note cannot be drawn.
pub fn notes(study: &Study, extras: &Extras) -> Result<Vec<Note>> {
    let mut notes = vec![
        Note { name: "results_outline", text: outline::outline(study, extras)? },
        Note { name: "high_level_findings", text: high_level(study, extras) },
        Note { name: "hero_heads", text: heroes::hero_heads(study, extras) },
    ];
    let of_roles = roles::roles_and_self_repair(study, extras);
    notes.extend(of_roles.map(|text| Note { name: "roles_and_self_repair", text }));
    Ok(notes)
}

/// Writes all notes into `folder`.
///
/// # Errors
/// If one cannot be generated or written.
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

/// `high_level_findings.md`: for one contrast, or for all tasks and then for each contrast.
fn high_level(study: &Study, extras: &Extras) -> String {
    let mut text = heading("High-level findings", study);
    let answer = answer(study, extras);
    text += &format!("## {}\n\n", answer.question);
    for point in &answer.points {
        text += &format!("**{}** {}\n\n", point.verdict, point.numbers);
    }
    text += "## Details\n\n";
    if shows_tasks(study) {
        text += &bullets(&task_findings(study, extras));
    }
    for contrast in &study.contrasts {
        if shows_tasks(study) {
            text += &format!("\n## {}\n\n", contrast_title(contrast.contrast()));
        }
        text += &bullets(&findings(contrast, &extras.of(contrast.contrast())));
    }
    text += "\n## Limits\n\n";
    for limit in all_limits(study, extras) {
        text += &format!("- {limit}\n");
    }
    text
}

/// The limits of a study, without duplicates.
#[must_use]
pub fn all_limits(study: &Study, extras: &Extras) -> Vec<String> {
    let of_tasks = if shows_tasks(study) { task_limits(study, extras) } else { Vec::new() };
    let of_contrasts = study.contrasts.iter().flat_map(|c| limits(c, &extras.of(c.contrast())));
    let mut all: Vec<String> = Vec::new();
    for limit in of_tasks.into_iter().chain(of_contrasts) {
        if !all.contains(&limit) {
            all.push(limit);
        }
    }
    all
}

fn bullets(findings: &[Finding]) -> String {
    findings.iter().map(|f| format!("- **{}.** {} {}\n", f.title, f.text, f.cited())).collect()
}

/// The name of a contrast in headings.
fn contrast_title(contrast: &Contrast) -> String {
    Side::BOTH.map(|side| side_label(contrast, side)).join(" and ")
}

/// The title of a note, and its sources.
fn heading(title: &str, study: &Study) -> String {
    let models: Vec<&str> = study.models().map(|m| m.model.as_str()).collect();
    format!(
        "# {title}\n\nWritten by circuit-scaling {} from the tables of this run (`paper/tables`, named in brackets), for {}. Δ is \
         the \
         mean logit difference with a head ablated minus without, in logits: a negative Δ means that the head helps the task. \
         Intervals are 95% intervals, over prompts unless stated otherwise.\n\n",
        env!("CARGO_PKG_VERSION"),
        models.join(", "),
    )
}
