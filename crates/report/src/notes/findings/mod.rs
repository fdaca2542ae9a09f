//! The findings of a study, one claim at a time, by topic.

mod categories;
mod correlation;
mod heroes;
mod limits;
mod sets;
mod setup;
mod size;
mod tasks;

use cs_analysis::study::ContrastStudy;

use crate::extras::ContrastExtras;
use crate::words;

pub(super) use correlation::correlation_sentences;
pub use limits::limits;
pub(super) use size::law_sentence;
pub use tasks::{task_findings, task_limits};

/// A claim and its sources.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Its topic.
    pub title: &'static str,
    /// Whole sentences.
    pub text: String,
    /// The tables and files it is based on.
    pub sources: Vec<String>,
}

impl Finding {
    fn new(title: &'static str, text: String, sources: impl Into<Vec<String>>) -> Self {
        Self { title, text, sources: sources.into() }
    }

    /// The sources in brackets, as Markdown.
    #[must_use]
    pub fn cited(&self) -> String {
        let files: Vec<String> = self.sources.iter().map(|s| format!("`{s}`")).collect();
        format!("[{}]", files.join(", "))
    }
}

/// The findings of a contrast, in the order of a paper.
#[must_use]
pub fn findings(study: &ContrastStudy, extras: &ContrastExtras) -> Vec<Finding> {
    let mut findings = vec![setup::measured(study)];
    findings.extend(setup::baselines(study, extras));
    findings.extend([
        correlation::correlations(study),
        categories::categories(study),
        categories::strongest(study),
    ]);
    findings.extend([size::scaling(study), size::concentration(study), categories::depth(study)]);
    findings.extend(heroes::winners_curse(study));
    findings.extend(heroes::attention(study, extras));
    findings.extend(heroes::influence(study, extras));
    findings.extend(sets::hero_sets(extras));
    findings.extend(sets::interaction(extras));
    findings.extend(sets::dissociation(extras));
    findings.push(heroes::transfer(study));
    findings.push(setup::audit(study));
    findings
}

/// Name of a table's file.
fn csv(table: &str) -> String {
    format!("{table}.csv")
}

fn models(n: usize) -> String {
    words::counted(n, "model", "models")
}

fn heads(n: usize) -> String {
    words::counted(n, "head", "heads")
}
