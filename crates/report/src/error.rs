//! What can go wrong when a study is drawn or described.

use cs_analysis::AnalysisError;

/// Shorthand for results of this crate.
pub type Result<T> = std::result::Result<T, ReportError>;

/// Everything this crate reports to its caller.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReportError {
    /// A file cannot be read or written, or does not say what it should.
    #[error(transparent)]
    Analysis(#[from] AnalysisError),
    /// Several figures would get one title.
    #[error("a title is for one figure, and {n} are asked for: name one alone with --only")]
    OneTitle {
        /// How many.
        n: usize,
    },
    /// A colour is asked for what has none.
    #[error("no category, task or family of the study is called `{name}`; there are {known}")]
    NoSuchColor {
        /// What was asked for.
        name: String,
        /// What has a colour.
        known: String,
    },
    /// A figure cannot be drawn, or turned into another format.
    #[error("figure {figure}: {problem}")]
    Figure {
        /// Stem of the figure's file name.
        figure: String,
        /// What the drawing library says.
        problem: String,
    },
}

impl ReportError {
    pub(crate) fn figure(figure: &str, problem: impl std::fmt::Display) -> Self {
        Self::Figure { figure: figure.to_owned(), problem: problem.to_string() }
    }
}
