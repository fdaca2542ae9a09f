//! Reads the rows of a file of prompts, CSV or JSON Lines.

use std::borrow::Cow;

use cs_analysis::scan_file::Split;
use serde_json::{Map, Value};

use super::columns::{self, Field};
use super::{ONE_GROUP, Row, TaskError};

/// Maximum number of rows of a file.
const MAX_ROWS: usize = 1_000_000;

const SEE_EXAMPLE: &str = "`circuit-scaling task --example csv` prints such a file";

/// The values of a row, by field; `None` if there is no such column, or nothing in it.
type Values<'a> = [Option<Cow<'a, str>>; Field::ALL.len()];

/// The rows of a file, and the unknown columns.
///
/// # Errors
/// [`TaskError::Rows`] for an invalid file, [`TaskError::Row`] for the first invalid row.
pub(super) fn rows(bytes: &[u8], file: &str) -> Result<(Vec<Row>, Vec<String>), TaskError> {
    let bytes = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes);
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let line = line_of(bytes, error.valid_up_to());
        TaskError::row(file, line, "is not UTF-8", "save the file as UTF-8")
    })?;
    if let Some(at) = bytes.iter().position(|&byte| byte == 0) {
        return Err(TaskError::row(
            file,
            line_of(bytes, at),
            "has a NUL byte",
            "save the file as UTF-8 text",
        ));
    }
    if text.trim().is_empty() {
        return Err(TaskError::rows(file, "the file is empty", SEE_EXAMPLE));
    }
    let is_json_lines = file.to_lowercase().ends_with(".jsonl");
    let mut reader = Reader { file, rows: Vec::new(), has_group: false };
    let unused = if is_json_lines { reader.json_lines(text)? } else { reader.csv(text)? };
    if reader.rows.is_empty() {
        return Err(TaskError::rows(file, "has columns and no row", SEE_EXAMPLE));
    }
    Ok((reader.rows, unused))
}

fn line_of(bytes: &[u8], at: usize) -> usize {
    1 + bytes[..at].iter().filter(|&&byte| byte == b'\n').count()
}

/// The line where a record begins. The parser's position is before any empty lines that it skips.
fn line_of_record(text: &str, position: &csv::Position) -> usize {
    let before = text.as_bytes().get(position.byte() as usize..).unwrap_or_default();
    let empty = before.iter().take_while(|byte| matches!(byte, b'\r' | b'\n'));
    position.line() as usize + empty.filter(|&&byte| byte == b'\n').count()
}

struct Reader<'a> {
    file: &'a str,
    rows: Vec<Row>,
    /// Whether rows name a group.
    has_group: bool,
}

impl Reader<'_> {
    fn fail<T>(
        &self,
        line: usize,
        problem: impl Into<String>,
        fix: impl Into<String>,
    ) -> Result<T, TaskError> {
        Err(TaskError::row(self.file, line, problem, fix))
    }

    fn check_columns(&self, titles: &[&str]) -> Result<(), TaskError> {
        columns::check(titles).map_err(|(problem, fix)| TaskError::rows(self.file, problem, fix))
    }

    fn csv(&mut self, text: &str) -> Result<Vec<String>, TaskError> {
        let broken = |error: csv::Error| {
            let line = error.position().map_or(1, |position| line_of_record(text, position));
            let (problem, fix) = match error.kind() {
                csv::ErrorKind::UnequalLengths { expected_len, len, .. } => (
                    format!("has {len} values, and the file {expected_len} columns"),
                    "put texts that contain a comma or a quotation mark in quotation marks",
                ),
                _ => (error.to_string(), SEE_EXAMPLE),
            };
            TaskError::row(self.file, line, problem, fix)
        };
        let mut csv = csv::Reader::from_reader(text.as_bytes());
        let titles = csv.headers().map_err(broken)?.clone();
        let titles: Vec<&str> = titles.iter().collect();
        if let [only] = titles[..]
            && let Some(mark) = [';', '\t'].into_iter().find(|mark| only.contains(*mark))
        {
            let mark = if mark == ';' { "semicolons" } else { "tabs" };
            return Err(TaskError::rows(
                self.file,
                format!("its columns are separated by {mark}"),
                "separate them by commas",
            ));
        }
        self.check_columns(&titles)?;
        let fields: Vec<Option<Field>> = titles.iter().map(|title| Field::of(title)).collect();
        self.has_group = fields.contains(&Some(Field::Group));
        let mut record = csv::StringRecord::new();
        while csv.read_record(&mut record).map_err(broken)? {
            let line = record.position().map_or(1, |position| line_of_record(text, position));
            let mut values = Values::default();
            for (field, value) in fields.iter().zip(&record) {
                if let (Some(field), false) = (field, value.is_empty()) {
                    values[*field as usize] = Some(Cow::Borrowed(value));
                }
            }
            self.row(line, values)?;
        }
        Ok(titles
            .iter()
            .filter(|title| Field::of(title).is_none())
            .map(|title| (*title).to_owned())
            .collect())
    }

    fn json_lines(&mut self, text: &str) -> Result<Vec<String>, TaskError> {
        let mut unused: Vec<String> = Vec::new();
        let lines = || text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
        for (i, line) in lines() {
            let object: Map<String, Value> = match serde_json::from_str(line) {
                Ok(object) => object,
                Err(error) => {
                    let problem = format!("is not a JSON object: {error}");
                    return self.fail(
                        i + 1,
                        problem,
                        "write one object per line, with the columns as its keys",
                    );
                }
            };
            if self.rows.is_empty() {
                self.check_columns(&object.keys().map(String::as_str).collect::<Vec<_>>())?;
                self.has_group = object.keys().any(|key| Field::of(key) == Some(Field::Group));
            }
            let mut values = Values::default();
            for (key, value) in object {
                match Field::of(&key) {
                    Some(field) => {
                        values[field as usize] = self.json_value(i + 1, &key, value)?.map(Cow::Owned)
                    }
                    None if unused.contains(&key) => (),
                    None => unused.push(key),
                }
            }
            self.row(i + 1, values)?;
        }
        Ok(unused)
    }

    /// A value as text: strings and numbers, and lists of a single one.
    fn json_value(&self, line: usize, key: &str, value: Value) -> Result<Option<String>, TaskError> {
        match value {
            Value::Null => Ok(None),
            Value::String(text) => Ok(Some(text).filter(|text| !text.is_empty())),
            Value::Number(number) => Ok(Some(number.to_string())),
            Value::Bool(flag) => Ok(Some(flag.to_string())),
            Value::Array(mut list) if list.len() == 1 => self.json_value(line, key, list.remove(0)),
            Value::Array(list) => {
                let problem = format!("`{key}` is a list of {} values", list.len());
                self.fail(
                    line,
                    problem,
                    "a prompt has one correct answer and one distractor: keep one of each",
                )
            }
            Value::Object(_) => self.fail(line, format!("`{key}` is an object"), "write a text"),
        }
    }

    fn row(&mut self, line: usize, values: Values<'_>) -> Result<(), TaskError> {
        if self.rows.len() == MAX_ROWS {
            let fix = format!("at most {MAX_ROWS} rows are allowed: leave some out");
            return self.fail(line, "is one row too many", fix);
        }
        let [clean, corrupted, correct, distractor, group, split, weight, space] = values;
        let needed = |field: Field, value: Option<Cow<'_, str>>| match value {
            Some(value) => Ok(value.into_owned()),
            None => self.fail(line, format!("has no `{}`", field.name()), "fill it in, or remove the row"),
        };
        let clean = needed(Field::Clean, clean)?;
        let correct = needed(Field::Correct, correct)?;
        let distractor = needed(Field::Distractor, distractor)?;
        let group = match (group, self.has_group) {
            (Some(group), _) => group.trim().to_owned(),
            (None, false) => ONE_GROUP.to_owned(),
            (None, true) => return self.fail(line, "has no `group`", "name one in every row, or in none"),
        };
        if clean.trim().is_empty() {
            return self.fail(line, "its prompt is blank", "fill it in, or remove the row");
        }
        if [Some(&*clean), corrupted.as_deref()].into_iter().flatten().any(|text| text.contains('\0')) {
            return self.fail(line, "has a NUL character", "remove it");
        }
        let (answers, glued) = self.answers(line, &clean, [correct, distractor], space.as_deref())?;
        let [correct, distractor] = answers;
        if correct == distractor {
            let problem = format!("`correct` and `distractor` are both {correct:?}");
            return self.fail(line, problem, "write an answer that is wrong");
        }
        let split = match split.as_deref().map(str::trim) {
            None => None,
            Some("discovery" | "train") => Some(Split::Discovery),
            Some("held_out" | "held-out" | "test") => Some(Split::HeldOut),
            Some(other) => {
                return self.fail(
                    line,
                    format!("unknown split {other:?}"),
                    "write discovery or held_out, or nothing",
                );
            }
        };
        let weight = match weight.as_deref().map(|weight| weight.trim().parse::<u32>()) {
            None => 1,
            Some(Ok(weight)) if weight > 0 => weight,
            Some(_) => {
                return self.fail(
                    line,
                    "`weight` is not a whole number from 1",
                    "write how often the prompt counts",
                );
            }
        };
        let corrupted: Vec<String> = corrupted.map(Cow::into_owned).into_iter().collect();
        if corrupted.contains(&clean) {
            let fix = "write the prompt for which the distractor would be correct, or leave it empty";
            return self.fail(line, "`corrupted` is the prompt itself", fix);
        }
        self.rows.push(Row { line, clean, corrupted, correct, distractor, glued, group, split, weight });
        Ok(())
    }

    /// Both answers without their leading space, and whether they follow the prompt without one.
    ///
    /// A prompt that ends in white space is followed by the answer exactly as written. After any other prompt there is a
    /// space before the answer, written or not, unless the column `space` says no.
    fn answers(
        &self,
        line: usize,
        clean: &str,
        answers: [String; 2],
        space: Option<&str>,
    ) -> Result<([String; 2], bool), TaskError> {
        for answer in &answers {
            let bare = answer.trim();
            if bare.is_empty() || answer.ends_with(char::is_whitespace) || answer.contains(char::is_control) {
                let fix = "write one word, with or without a space before it";
                return self.fail(
                    line,
                    format!("the answer {answer:?} is empty, ends in space or has a line break"),
                    fix,
                );
            }
        }
        let glued = match space.map(|space| space.trim().to_lowercase()).as_deref() {
            None => clean.ends_with(char::is_whitespace),
            Some("true" | "yes" | "1") => false,
            Some("false" | "no" | "0") => true,
            Some(other) => {
                return self.fail(line, format!("`space` is {other:?}"), "write true, false or nothing");
            }
        };
        if glued && space.is_none() {
            return Ok((answers, true));
        }
        if glued && let Some(answer) = answers.iter().find(|answer| answer.starts_with(' ')) {
            let fix = "remove the space before the answer, or write true";
            return self.fail(line, format!("`space` says that there is none before {answer:?}"), fix);
        }
        Ok((answers.map(|answer| answer.strip_prefix(' ').map_or(answer.clone(), str::to_owned)), glued))
    }
}
