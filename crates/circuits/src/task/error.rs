//! Errors about a task, each a one-line message that names the file, the field and the fix.

use thiserror::Error;

/// A task that cannot be used.
#[derive(Debug, Error)]
pub enum TaskError {
    /// Neither a built-in task nor a path to a `.toml`, `.csv` or `.jsonl` file.
    #[error(
        "unknown task `{name}`: the built-in tasks are {known}; your own task is a file ending in .toml (templates), .csv or \
         .jsonl (prompts): `circuit-scaling task --example` prints one of each"
    )]
    Unknown {
        /// The requested task.
        name: String,
        /// The built-in tasks, separated by commas.
        known: String,
    },
    /// The file is missing, unreadable or not UTF-8.
    #[error("{file}: cannot read the task: {source}")]
    Read {
        /// Path as the user gave it.
        file: String,
        /// The operating system's reason.
        source: std::io::Error,
    },
    /// Not TOML, or without a task's fields.
    #[error("{file}: line {line}: {message}; `circuit-scaling task --example` prints such files")]
    Syntax {
        /// Path, or the built-in task's file name.
        file: String,
        /// Line of the error, counted from 1.
        line: usize,
        /// What the parser found there, on one line.
        message: String,
    },
    /// Well-formed, but not a valid task.
    #[error("{file}: `{field}`: {problem}; {fix}")]
    Invalid {
        /// Path, or the built-in task's file name.
        file: String,
        /// The field as written in the file, such as `templates[2].text`.
        field: String,
        /// What is wrong with it.
        problem: String,
        /// What to do about it.
        fix: String,
    },
    /// Not a file of prompts.
    #[error("{file}: {problem}; {fix}")]
    Rows {
        /// Path.
        file: String,
        /// What is wrong with it.
        problem: String,
        /// What to do about it.
        fix: String,
    },
    /// A row of a file of prompts.
    #[error("{file}: line {line}: {problem}; {fix}")]
    Row {
        /// Path.
        file: String,
        /// The line where the row begins, from 1.
        line: usize,
        /// What is wrong with it.
        problem: String,
        /// What to do about it.
        fix: String,
    },
}

impl TaskError {
    pub(super) fn rows(file: &str, problem: impl Into<String>, fix: impl Into<String>) -> Self {
        Self::Rows { file: file.to_owned(), problem: problem.into(), fix: fix.into() }
    }

    pub(super) fn row(file: &str, line: usize, problem: impl Into<String>, fix: impl Into<String>) -> Self {
        Self::Row { file: file.to_owned(), line, problem: problem.into(), fix: fix.into() }
    }
}
