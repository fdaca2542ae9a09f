//! Files of prompts: each row is a prompt with its two answers, and optionally its corrupted version.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use cs_analysis::scan_file::Split;
use serde::{Deserialize, Serialize};

use super::template::is_word;
use super::{MAX_NAME_LEN, Task, TaskError, hex_hash, read};

/// The group of all rows in a file without groups.
pub const ONE_GROUP: &str = "all";

/// A file of prompts. Its record has the hash of all rows, but only the rows that were used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RowTask {
    /// Short name, made from the file's.
    pub name: String,
    /// Name for tables and figures: the file's, without its extension.
    pub title: String,
    /// SHA-256 of the rows, in hex.
    pub rows_hash: String,
    /// Distinct prompts in the file.
    pub n_rows: usize,
    /// The rows, without duplicates; empty in a task read from a study's record.
    #[serde(skip)]
    pub rows: Vec<Row>,
    /// Unknown columns of the file.
    #[serde(skip)]
    pub unused_columns: Vec<String>,
}

/// A prompt of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    /// Line of the file, from 1.
    #[serde(skip)]
    pub line: usize,
    /// The prompt, without BOS and without its answer.
    pub clean: String,
    /// The distinct corrupted prompts; the first one is traced. Empty if the file has none.
    pub corrupted: Vec<String>,
    /// The correct answer, without the space before it.
    pub correct: String,
    /// The other answer.
    pub distractor: String,
    /// Whether the answers follow the prompt without a space.
    pub glued: bool,
    /// The group of the prompt, which acts as stratum and cluster like a template; [`ONE_GROUP`] if the file has no
    /// groups.
    pub group: String,
    /// The split, if the file has one.
    pub split: Option<Split>,
    /// How many times the prompt counts.
    pub weight: u32,
}

impl RowTask {
    /// Reads a file of prompts: JSON Lines if `file` ends in `.jsonl`, else CSV.
    ///
    /// # Errors
    /// [`TaskError::Rows`] and [`TaskError::Row`], which name the line.
    pub fn from_bytes(bytes: &[u8], file: &str) -> Result<Self, TaskError> {
        let stem = Path::new(file).file_stem().map(|stem| stem.to_string_lossy().into_owned());
        let title = stem.unwrap_or_default();
        let name = short_name(&title, file)?;
        let (rows, unused_columns) = read::rows(bytes, file)?;
        let rows = merged(rows, file)?;
        let hash = serde_json::to_vec(&rows).map(|bytes| hex_hash(&bytes));
        let rows_hash = hash.map_err(|error| TaskError::rows(file, error.to_string(), "report this"))?;
        Ok(Self { name, title, rows_hash, n_rows: rows.len(), rows, unused_columns })
    }

    /// Whether the file has groups.
    pub fn has_groups(&self) -> bool {
        self.rows.iter().any(|row| row.group != ONE_GROUP)
    }
}

/// The task's name: the file's in lower case, with other characters replaced by `_`.
fn short_name(stem: &str, file: &str) -> Result<String, TaskError> {
    let name: String =
        stem.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' }).collect();
    let fail =
        |problem: String| Err(TaskError::rows(file, problem, "rename the file: the task is named after it"));
    if !is_word(&name) || name.len() > MAX_NAME_LEN {
        return fail(format!(
            "{stem:?} does not start with a letter from a to z, or has more than {MAX_NAME_LEN} characters"
        ));
    }
    if Task::built_in().contains(&name.as_str()) || name == "copy_suppression" || name.ends_with("_pairs") {
        return fail(format!("results under the name {name:?} belong to something else"));
    }
    Ok(name)
}

/// Merges rows with the same prompt, adding their weights and collecting their corrupted prompts.
fn merged(rows: Vec<Row>, file: &str) -> Result<Vec<Row>, TaskError> {
    let mut places: HashMap<String, usize> = HashMap::with_capacity(rows.len());
    let mut distinct: Vec<Row> = Vec::with_capacity(rows.len());
    // Corrupted prompts of a row after its first.
    let mut further: HashSet<(usize, String)> = HashSet::new();
    for row in rows {
        let Some(&place) = places.get(&row.clean) else {
            places.insert(row.clean.clone(), distinct.len());
            distinct.push(row);
            continue;
        };
        let first = &mut distinct[place];
        let differs = [
            (
                "with other answers",
                (&first.correct, &first.distractor, first.glued)
                    != (&row.correct, &row.distractor, row.glued),
            ),
            ("of another group", first.group != row.group),
            ("in another split", first.split != row.split),
        ];
        if let Some((how, _)) = differs.iter().find(|(_, differs)| *differs) {
            let problem = format!("has the prompt of line {} {how}", first.line);
            let fix = "a prompt has one correct answer, one distractor, one group and one split: keep one of the rows";
            return Err(TaskError::row(file, row.line, problem, fix));
        }
        let Some(weight) = first.weight.checked_add(row.weight) else {
            let problem = "brings the weight of its prompt above 4,294,967,295".to_owned();
            return Err(TaskError::row(file, row.line, problem, "use smaller weights"));
        };
        first.weight = weight;
        for corrupted in row.corrupted {
            if first.corrupted.first() != Some(&corrupted) && further.insert((place, corrupted.clone())) {
                first.corrupted.push(corrupted);
            }
        }
    }
    Ok(distinct)
}
