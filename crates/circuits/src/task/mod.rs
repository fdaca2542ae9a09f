//! Tasks as data. A task asks a model which of two answers comes next, and takes one of three forms:
//!
//! - [`NameTask`]: templates that name two people and then one of them again, in TOML;
//! - [`WordTask`]: templates of words, each with its corrupted version and its answers, in TOML;
//! - [`RowTask`]: a file of prompts, CSV or JSON Lines.
//!
//! The formats are described in `crates/circuits/tasks/README.md`; [`EXAMPLES`] holds one of each. The built-in tasks are
//! written in them and compiled in.

mod columns;
mod error;
mod names;
mod read;
mod rows;
mod template;
mod validate;
mod words;

use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::toml_error;

pub use error::TaskError;
pub use names::{CorrectRule, DEFAULT_MIN_USABLE, NameTask, Names, Order, Orders, Published, Template};
pub use rows::{ONE_GROUP, Row, RowTask};
pub use template::{Mention, Pattern, PatternError, Piece, Rendered, Role};
pub(crate) use validate::{has_whole_word, whole_words};
pub use words::{Candidates, Drawn, Place, WordList, WordTask, WordTemplate, WordText};

/// The built-in tasks: name, file, contents.
const BUILT_IN: [(&str, &str, &str); 7] = [
    ("ioi", "tasks/ioi.toml", include_str!("../../tasks/ioi.toml")),
    ("anti_repeat", "tasks/anti_repeat.toml", include_str!("../../tasks/anti_repeat.toml")),
    ("induction", "tasks/induction.toml", include_str!("../../tasks/induction.toml")),
    ("coloured_objects", "tasks/coloured_objects.toml", include_str!("../../tasks/coloured_objects.toml")),
    ("agreement", "tasks/agreement.toml", include_str!("../../tasks/agreement.toml")),
    ("gender", "tasks/gender.toml", include_str!("../../tasks/gender.toml")),
    ("greater_than", "tasks/greater_than.toml", include_str!("../../tasks/greater_than.toml")),
];

/// A complete, commented file of each form: name, file name, contents.
pub const EXAMPLES: [(&str, &str, &str); 3] = [
    ("names", "recall.toml", include_str!("../../tasks/examples/recall.toml")),
    ("template", "capitals.toml", include_str!("../../tasks/examples/capitals.toml")),
    ("csv", "prompts.csv", include_str!("../../tasks/examples/prompts.csv")),
];

/// Maximum length of a task name: file names built from it stay far below any file system's limit.
pub(crate) const MAX_NAME_LEN: usize = 40;

/// A task: what its prompts say, and which answer is correct.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "no task: neither templates nor a file of prompts")]
pub enum Task {
    /// Templates of names.
    Names(NameTask),
    /// Templates of words.
    Words(WordTask),
    /// A file of prompts.
    Rows(RowTask),
}

impl From<NameTask> for Task {
    fn from(task: NameTask) -> Self {
        Self::Names(task)
    }
}

impl Task {
    /// The task that a user asks for: a built-in one (`ioi`, `anti-repeat` or `anti_repeat`, …), or a path ending in `.toml`,
    /// `.csv` or `.jsonl`.
    ///
    /// # Errors
    /// [`TaskError`] for a name that is neither, and for a file without a valid task.
    pub fn load(name_or_path: &str) -> Result<Self, TaskError> {
        let path = Path::new(name_or_path);
        let extension = path.extension().map(|extension| extension.to_string_lossy().to_lowercase());
        let file = || path.display().to_string();
        match extension.as_deref() {
            Some("toml") => {
                let text = std::fs::read_to_string(path)
                    .map_err(|source| TaskError::Read { file: file(), source })?;
                Self::from_toml(&text, &file())
            }
            Some("csv" | "jsonl") => {
                let bytes = std::fs::read(path).map_err(|source| TaskError::Read { file: file(), source })?;
                RowTask::from_bytes(&bytes, &file()).map(Self::Rows)
            }
            _ => {
                let wanted = name_or_path.replace('-', "_");
                match Self::built_in_text(&wanted) {
                    Some((file, text)) => Self::from_toml(text, file),
                    None => Err(TaskError::Unknown {
                        name: name_or_path.to_owned(),
                        known: Self::built_in().join(", "),
                    }),
                }
            }
        }
    }

    /// Names of the built-in tasks.
    pub fn built_in() -> Vec<&'static str> {
        BUILT_IN.iter().map(|(name, ..)| *name).collect()
    }

    /// The file name and contents of a built-in task.
    pub fn built_in_text(name: &str) -> Option<(&'static str, &'static str)> {
        BUILT_IN.iter().find(|(known, ..)| *known == name).map(|&(_, file, text)| (file, text))
    }

    /// Parses a task from TOML; `file` is its name in errors.
    ///
    /// # Errors
    /// [`TaskError::Syntax`] and [`TaskError::Invalid`].
    pub fn from_toml(text: &str, file: &str) -> Result<Self, TaskError> {
        let syntax = |error: toml::de::Error| {
            let (line, message) = toml_error::describe(text, &error);
            TaskError::Syntax { file: file.to_owned(), line, message }
        };
        let table: toml::Table = toml::from_str(text).map_err(syntax)?;
        let task = if table.contains_key("words") {
            Self::Words(toml::from_str(text).map_err(syntax)?)
        } else {
            Self::Names(toml::from_str(text).map_err(syntax)?)
        };
        task.validate(file)?;
        Ok(task)
    }

    /// Short name; used in file names, so only lower-case letters, digits and underscores.
    pub fn name(&self) -> &str {
        match self {
            Self::Names(task) => &task.name,
            Self::Words(task) => &task.name,
            Self::Rows(task) => &task.name,
        }
    }

    /// Name for tables and figures.
    pub fn title(&self) -> &str {
        match self {
            Self::Names(task) => &task.title,
            Self::Words(task) => &task.title,
            Self::Rows(task) => &task.title,
        }
    }

    /// The task as one of names.
    pub fn names(&self) -> Option<&NameTask> {
        if let Self::Names(task) = self { Some(task) } else { None }
    }

    /// Checks everything that the types do not: placeholders, lists, names. `file` is the task's name in errors.
    ///
    /// # Errors
    /// [`TaskError::Invalid`], naming the first field that is wrong.
    pub fn validate(&self, file: &str) -> Result<(), TaskError> {
        validate::name(self, file)?;
        match self {
            Self::Names(task) => validate::task(task, file),
            Self::Words(task) => task.validate(file),
            Self::Rows(_) => Ok(()),
        }
    }

    /// SHA-256 of the task's contents, in hex: of its fields or rows, ignoring comments and layout.
    pub fn hash(&self) -> String {
        hex_hash(serde_json::json!(self).to_string().as_bytes())
    }
}

/// SHA-256 in hex.
fn hex_hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
