//! The cells of a joint table in CSV.

use std::path::Path;

use crate::error::{AnalysisError, Result};

/// One line of the file, for reading cells with errors that name it.
pub(super) struct Row<'a> {
    pub(super) path: &'a Path,
    pub(super) line: u64,
    pub(super) record: &'a csv::StringRecord,
}

impl Row<'_> {
    pub(super) fn cell(&self, column: usize) -> &str {
        self.record.get(column).unwrap_or("")
    }

    pub(super) fn error(&self, column: &str, problem: String, fix: &str) -> AnalysisError {
        AnalysisError::format(self.path, format!("line {}, column `{column}`", self.line), problem, fix)
    }

    pub(super) fn name(&self, column: usize, name: &str) -> Result<&str> {
        match self.cell(column) {
            "" => Err(self.error(name, "empty".into(), "every row needs one")),
            text => Ok(text),
        }
    }

    /// An index from 0. Spreadsheets and outer joins turn `3` into `3.0`, which is accepted.
    pub(super) fn index(&self, column: usize, name: &str) -> Result<u32> {
        const FIX: &str = "write a whole number from 0";
        let text = self.cell(column);
        let value: f64 = match text.parse() {
            Ok(value) => value,
            Err(_) if text.is_empty() => return Err(self.error(name, "empty".into(), FIX)),
            Err(_) => return Err(self.error(name, format!("`{text}` is not a number"), FIX)),
        };
        if value < 0.0 {
            return Err(self.error(name, format!("{text} is negative"), FIX));
        }
        if value.fract() != 0.0 || value.is_nan() {
            return Err(self.error(name, format!("`{text}` is not a whole number"), FIX));
        }
        if value > 1e6 {
            return Err(self.error(name, format!("{text} is more than any model has"), FIX));
        }
        Ok(value as u32)
    }

    /// A number, or nothing for an empty cell. The flag is set for a `NaN` cell.
    pub(super) fn number(&self, column: usize, name: &str) -> Result<(Option<f64>, bool)> {
        const FIX: &str = "write a decimal number, or leave the cell empty where nothing was measured";
        let text = self.cell(column);
        if text.is_empty() {
            return Ok((None, false));
        }
        let is_missing = ["na", "n/a", "null", "none"].iter().any(|word| text.eq_ignore_ascii_case(word));
        if is_missing {
            return Ok((None, true));
        }
        match text.parse::<f64>() {
            Ok(value) if value.is_nan() => Ok((None, true)),
            Ok(value) if value.is_infinite() => Err(self.error(name, format!("{text} is infinite"), FIX)),
            Ok(value) => Ok((Some(value), false)),
            Err(_) => Err(self.error(name, format!("`{text}` is not a number"), FIX)),
        }
    }
}
