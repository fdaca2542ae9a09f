//! What can be wrong with a task, each in one line that names the file, the field and the mend.

use thiserror::Error;

/// A task that cannot be used.
#[derive(Debug, Error)]
pub enum TaskError {
    /// Neither a built-in task nor a path to a `.toml` file.
    #[error(
        "unknown task `{name}`: the built-in tasks are {known}; a task of your own is a file ending in .toml"
    )]
    Unknown {
        /// What was asked for.
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
    /// Not TOML, or not the fields that a task has.
    #[error("{file}: line {line}: {message}; compare with the format in crates/circuits/tasks/README.md")]
    Syntax {
        /// Path, or the built-in task's file name.
        file: String,
        /// Line of the mistake, counted from 1.
        line: usize,
        /// What the parser found there, on one line.
        message: String,
    },
    /// Well-formed, but it does not say what a prompt is.
    #[error("{file}: `{field}`: {problem}; {mend}")]
    Invalid {
        /// Path, or the built-in task's file name.
        file: String,
        /// The field as written in the file, such as `templates[2].text`.
        field: String,
        /// What is wrong with it.
        problem: String,
        /// What to do about it.
        mend: String,
    },
}
