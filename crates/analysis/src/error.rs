//! Errors, each a one-line message that names the file, the place in it, and the fix.

use std::path::{Path, PathBuf};

/// Shorthand for results of this crate.
pub type Result<T> = std::result::Result<T, AnalysisError>;

/// Everything this crate reports to its caller.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AnalysisError {
    /// The operating system refused to read or write a file.
    #[error("{}: cannot {action}: {source}", path.display())]
    Io {
        /// What was being done: `read`, `write`, …
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A file was read, but its contents are invalid.
    #[error("{}: {place}: {problem}; {fix}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// Line, column or field.
        place: String,
        /// What is wrong there.
        problem: String,
        /// What to do about it.
        fix: String,
    },
    /// Data in memory, or inputs that are individually valid, are inconsistent.
    #[error("{what}: {problem}; {fix}")]
    Inconsistent {
        /// Which data: a scan, a model, a pair of tables.
        what: String,
        /// What does not fit.
        problem: String,
        /// What to do about it.
        fix: String,
    },
    /// An option has an invalid value.
    #[error("option {option}: {problem}")]
    Option {
        /// The option, as named on the command line.
        option: &'static str,
        /// Why the value cannot be used, and which values can.
        problem: String,
    },
}

impl AnalysisError {
    /// Wraps an operating system error for `action` on `path`.
    pub fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Io { action, path: path.to_owned(), source }
    }

    pub(crate) fn format(
        path: &Path,
        place: impl Into<String>,
        problem: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self::Format { path: path.to_owned(), place: place.into(), problem: problem.into(), fix: fix.into() }
    }

    /// Wraps an error of invalid JSON, or JSON without the right fields.
    pub(crate) fn json(path: &Path, fix: &'static str) -> impl FnOnce(serde_json::Error) -> Self {
        move |error| {
            let text = error.to_string();
            // serde_json ends its message with the place.
            let (problem, place) = match text.rsplit_once(" at line ") {
                Some((problem, place)) => (problem, format!("line {}", place.replace(" column", ", column"))),
                None => (text.as_str(), format!("line {}, column {}", error.line(), error.column())),
            };
            Self::format(path, place, problem, fix)
        }
    }

    pub(crate) fn inconsistent(
        what: impl Into<String>,
        problem: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self::Inconsistent { what: what.into(), problem: problem.into(), fix: fix.into() }
    }
}
