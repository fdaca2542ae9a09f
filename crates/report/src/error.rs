//! Errors of drawing or describing a study.

use cs_analysis::AnalysisError;

/// Shorthand for results of this crate.
pub type Result<T> = std::result::Result<T, ReportError>;

/// Everything this crate reports to its caller.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReportError {
    /// A file cannot be read or written, or is invalid.
    #[error(transparent)]
    Analysis(#[from] AnalysisError),
    /// Several figures would get the same title.
    #[error("a title applies to a single figure, but {n} are requested: choose one with --only")]
    OneTitle {
        /// How many.
        n: usize,
    },
    /// A colour is set for an unknown name.
    #[error("no category, task or family of the study is called `{name}`; known are {known}")]
    NoSuchColor {
        /// The given name.
        name: String,
        /// The names that have a colour.
        known: String,
    },
    /// A figure cannot be drawn, or turned into another format.
    #[error("figure {figure}: {problem}")]
    Figure {
        /// Stem of the figure's file name.
        figure: String,
        /// The drawing library's message.
        problem: String,
    },
}

impl ReportError {
    pub(crate) fn figure(figure: &str, problem: impl std::fmt::Display) -> Self {
        Self::Figure { figure: figure.to_owned(), problem: problem.to_string() }
    }
}
