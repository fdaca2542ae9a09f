//! Tables as columns, and their files.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::error::{AnalysisError, Result};
use crate::files::write_bytes;
use crate::parquet_file::{PARQUET, write_parquet};

/// The cells of one column; `None` is an empty cell.
#[derive(Debug, Clone, PartialEq)]
pub enum Values {
    /// Text.
    Text(Vec<Option<String>>),
    /// Whole numbers.
    Integer(Vec<Option<i64>>),
    /// Other numbers, never NaN or infinite.
    Float(Vec<Option<f64>>),
    /// `true` or `false`.
    Boolean(Vec<Option<bool>>),
}

impl Values {
    /// Cells of a CSV as the type that fits all of them; empty ones are missing.
    fn of_text(cells: Vec<String>) -> Self {
        fn all<T>(cells: &[String], parse: impl Fn(&str) -> Option<T>) -> Option<Vec<Option<T>>> {
            let cell = |c: &String| if c.is_empty() { Some(None) } else { parse(c).map(Some) };
            cells.iter().map(cell).collect()
        }
        // A number with leading zeros is text.
        let integer = |c: &str| c.parse().ok().filter(|n: &i64| n.to_string() == c);
        let float = |c: &str| c.parse().ok().filter(|x: &f64| x.is_finite() && !c.starts_with("00"));
        all(&cells, integer)
            .map(Self::Integer)
            .or_else(|| all(&cells, float).map(Self::Float))
            .or_else(|| all(&cells, |c| c.parse().ok()).map(Self::Boolean))
            .unwrap_or_else(|| Self::Text(cells.into_iter().map(|c| (!c.is_empty()).then_some(c)).collect()))
    }

    /// Number of cells.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Text(cells) => cells.len(),
            Self::Integer(cells) => cells.len(),
            Self::Float(cells) => cells.len(),
            Self::Boolean(cells) => cells.len(),
        }
    }

    /// Whether there are no cells.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether a cell is empty.
    #[must_use]
    pub fn is_missing(&self, row: usize) -> bool {
        match self {
            Self::Text(cells) => cells[row].is_none(),
            Self::Integer(cells) => cells[row].is_none(),
            Self::Float(cells) => cells[row].is_none(),
            Self::Boolean(cells) => cells[row].is_none(),
        }
    }

    /// One cell as in a CSV; missing cells are empty.
    fn cell(&self, row: usize) -> String {
        match self {
            Self::Text(cells) => cells[row].clone().unwrap_or_default(),
            Self::Integer(cells) => cells[row].map(|x| x.to_string()).unwrap_or_default(),
            Self::Float(cells) => cells[row].map(format_float).unwrap_or_default(),
            Self::Boolean(cells) => cells[row].map(|x| x.to_string()).unwrap_or_default(),
        }
    }
}

/// A value that can be a cell of a column of `T`.
pub trait Cell<T> {
    /// The cell, `None` if it is empty.
    fn cell(self) -> Option<T>;
}

impl<T, C: Cell<T>> Cell<T> for Option<C> {
    fn cell(self) -> Option<T> {
        self.and_then(Cell::cell)
    }
}

impl Cell<String> for String {
    fn cell(self) -> Option<String> {
        Some(self)
    }
}

impl Cell<String> for &str {
    fn cell(self) -> Option<String> {
        Some(self.to_owned())
    }
}

impl Cell<i64> for u32 {
    fn cell(self) -> Option<i64> {
        Some(i64::from(self))
    }
}

impl Cell<i64> for usize {
    fn cell(self) -> Option<i64> {
        i64::try_from(self).ok()
    }
}

impl Cell<f64> for f64 {
    fn cell(self) -> Option<f64> {
        Some(self).filter(|x| x.is_finite())
    }
}

impl Cell<bool> for bool {
    fn cell(self) -> Option<bool> {
        Some(self)
    }
}

/// A named column.
#[derive(Debug, Clone, PartialEq)]
pub struct Column {
    /// The name in the header.
    pub name: String,
    /// The cells.
    pub values: Values,
}

/// A table of the study: columns of equal length, and the stem of its file name.
///
/// Built column by column, in the order in which they are written:
///
/// ```
/// use cs_analysis::table::Table;
/// let heads = [(0u32, 0.5), (1, f64::NAN)];
/// let table = Table::new("example")
///     .integer("head", heads.iter().map(|h| h.0))
///     .float("delta", heads.iter().map(|h| h.1));
/// assert_eq!(table.to_csv(), "head,delta\n0,0.5\n1,\n");
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    /// Stem of the file name.
    pub name: String,
    /// The columns, in order.
    pub columns: Vec<Column>,
}

impl Table {
    /// A table without columns.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), columns: Vec::new() }
    }

    /// Adds a column of text.
    #[must_use]
    pub fn text(self, name: impl Into<String>, cells: impl IntoIterator<Item = impl Cell<String>>) -> Self {
        self.with(name, Values::Text(cells.into_iter().map(Cell::cell).collect()))
    }

    /// Adds a column of whole numbers.
    #[must_use]
    pub fn integer(self, name: impl Into<String>, cells: impl IntoIterator<Item = impl Cell<i64>>) -> Self {
        self.with(name, Values::Integer(cells.into_iter().map(Cell::cell).collect()))
    }

    /// Adds a column of numbers. NaN and infinities become empty cells: a table never shows them as numbers.
    #[must_use]
    pub fn float(self, name: impl Into<String>, cells: impl IntoIterator<Item = impl Cell<f64>>) -> Self {
        self.with(name, Values::Float(cells.into_iter().map(Cell::cell).collect()))
    }

    /// Adds a column of booleans.
    #[must_use]
    pub fn boolean(self, name: impl Into<String>, cells: impl IntoIterator<Item = impl Cell<bool>>) -> Self {
        self.with(name, Values::Boolean(cells.into_iter().map(Cell::cell).collect()))
    }

    fn with(mut self, name: impl Into<String>, values: Values) -> Self {
        let name = name.into();
        debug_assert!(self.columns.first().is_none_or(|c| c.values.len() == values.len()), "{name}: length");
        debug_assert!(self.columns.iter().all(|c| c.name != name), "{name}: twice");
        self.columns.push(Column { name, values });
        self
    }

    /// Number of rows.
    #[must_use]
    pub fn n_rows(&self) -> usize {
        self.columns.first().map_or(0, |c| c.values.len())
    }

    /// The column of this name.
    #[must_use]
    pub fn column(&self, name: &str) -> Option<&Values> {
        self.columns.iter().find(|c| c.name == name).map(|c| &c.values)
    }

    /// The table as CSV: a header, `\n` line ends, quotes only where needed, floats in full precision.
    #[must_use]
    pub fn to_csv(&self) -> String {
        let mut csv = String::new();
        let mut line = |cells: &mut dyn Iterator<Item = String>| {
            for (index, cell) in cells.enumerate() {
                if index > 0 {
                    csv.push(',');
                }
                csv.push_str(&quoted(cell));
            }
            csv.push('\n');
        };
        line(&mut self.columns.iter().map(|c| c.name.clone()));
        for row in 0..self.n_rows() {
            line(&mut self.columns.iter().map(|c| c.values.cell(row)));
        }
        csv
    }

    /// Reads a CSV with a header; the table is named after the file.
    ///
    /// # Errors
    /// When the file cannot be read, or a row has more or fewer cells than the header.
    pub fn read_csv(path: &Path) -> Result<Self> {
        let fault = |e: csv::Error| {
            let line = e.position().map_or(1, csv::Position::line);
            let fix = "move it out of the study's tables, or make it again";
            AnalysisError::format(path, format!("line {line}"), e.to_string(), fix)
        };
        let mut reader = csv::Reader::from_path(path).map_err(fault)?;
        let names: Vec<String> = reader.headers().map_err(fault)?.iter().map(str::to_owned).collect();
        let mut columns = vec![Vec::new(); names.len()];
        for record in reader.records() {
            let record = record.map_err(fault)?;
            columns.iter_mut().zip(&record).for_each(|(column, cell)| column.push(cell.to_owned()));
        }
        let columns = names.into_iter().zip(columns);
        Ok(Self {
            name: path.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
            columns: columns.map(|(name, cells)| Column { name, values: Values::of_text(cells) }).collect(),
        })
    }

    /// Writes `<folder>/<name>.csv` and, with typed columns, `<folder>/parquet/<name>.parquet`, atomically; returns the paths.
    ///
    /// # Errors
    /// [`crate::AnalysisError::Io`] when one cannot be written.
    pub fn write(&self, folder: &Path) -> Result<[PathBuf; 2]> {
        let csv = folder.join(format!("{}.csv", self.name));
        write_bytes(&csv, self.to_csv().as_bytes())?;
        let parquet = folder.join(PARQUET).join(format!("{}.parquet", self.name));
        write_parquet(&parquet, self)?;
        Ok([csv, parquet])
    }
}

/// Writes several tables ([`Table::write`]); returns the paths.
///
/// # Errors
/// See [`Table::write`].
pub fn write_all<'a>(tables: impl IntoIterator<Item = &'a Table>, folder: &Path) -> Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for table in tables {
        paths.extend(table.write(folder)?);
    }
    Ok(paths)
}

/// The shortest decimal number that reads back as exactly `x`; with an exponent only for very large and very
/// small numbers.
#[must_use]
pub fn format_float(x: f64) -> String {
    let size = x.abs();
    if size != 0.0 && !(1e-5..1e16).contains(&size) {
        format!("{x:e}")
    } else {
        // Adding 0.0 turns −0 into 0.
        format!("{}", x + 0.0)
    }
}

/// A CSV cell according to RFC 4180.
fn quoted(cell: String) -> String {
    if cell.contains([',', '"', '\n', '\r']) { format!("\"{}\"", cell.replace('"', "\"\"")) } else { cell }
}

/// A row of a CSV by the names of its columns.
pub(crate) struct NamedRow(HashMap<String, String>);

impl NamedRow {
    /// A cell as text.
    pub(crate) fn text(&self, name: &str) -> std::result::Result<&str, String> {
        self.0.get(name).map(String::as_str).ok_or_else(|| format!("no column `{name}`"))
    }

    /// A cell as a value; an empty one is missing.
    pub(crate) fn parsed<T: FromStr>(&self, name: &str) -> std::result::Result<Option<T>, String> {
        match self.text(name)? {
            "" => Ok(None),
            text => text.parse().map(Some).map_err(|_| format!("column `{name}`: `{text}` cannot be read")),
        }
    }

    /// A cell that must hold a value.
    pub(crate) fn needed<T: FromStr>(&self, name: &str) -> std::result::Result<T, String> {
        self.parsed(name)?.ok_or_else(|| format!("column `{name}`: empty"))
    }
}

/// Reads rows back from the CSV of a table; columns that `row` does not request are ignored. `fix` says what to do about an
/// invalid file.
pub(crate) fn read_named_rows<T>(
    path: &Path,
    fix: &str,
    row: impl Fn(&NamedRow) -> std::result::Result<T, String>,
) -> Result<Vec<T>> {
    let text = std::fs::read(path).map_err(AnalysisError::io("read", path))?;
    let fault = |e: csv::Error| {
        let place = e.position().map_or("table".into(), |p| format!("line {}", p.line()));
        AnalysisError::format(path, place, e.to_string(), fix)
    };
    let mut reader = csv::Reader::from_reader(&text[..]);
    let read = |(at, cells): (usize, csv::Result<HashMap<String, String>>)| {
        let cells = NamedRow(cells.map_err(fault)?);
        // The header is line 1.
        row(&cells).map_err(|problem| AnalysisError::format(path, format!("line {}", at + 2), problem, fix))
    };
    reader.deserialize().enumerate().map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn floats_read_back_exactly(bits in any::<u64>()) {
            let x = f64::from_bits(bits);
            prop_assume!(x.is_finite());
            prop_assert_eq!(format_float(x).parse::<f64>().unwrap(), x);
        }
    }

    #[test]
    fn floats_look_plain() {
        let shown: Vec<String> = [124.0, 0.05, -0.0, 1e-7, 0.1 + 0.2, 1e300, -2.5].map(format_float).to_vec();
        assert_eq!(shown, ["124", "0.05", "0", "1e-7", "0.30000000000000004", "1e300", "-2.5"]);
    }

    #[test]
    fn a_table_reads_back_as_it_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let table = Table::new("t")
            .text("hash", ["007", "say \"x\", y"])
            .text("none", [None::<&str>, None])
            .integer("k", [Some(1u32), None])
            .float("x", [f64::NAN, 1.5e-9])
            .boolean("is", [true, false]);
        table.write(dir.path()).unwrap();
        let read = Table::read_csv(&dir.path().join("t.csv")).unwrap();
        assert_eq!((read.to_csv(), read.name.as_str()), (table.to_csv(), "t"));
        assert!(matches!(read.column("x"), Some(Values::Float(_))), "{read:?}");
        assert!(matches!(read.column("hash"), Some(Values::Text(_))), "{read:?}");
        std::fs::write(dir.path().join("t.csv"), "a,b\n1\n").unwrap();
        let error = Table::read_csv(&dir.path().join("t.csv")).unwrap_err().to_string();
        assert!(error.contains("t.csv") && error.contains("line 2"), "{error}");
    }

    #[test]
    fn a_parquet_file_has_the_columns_and_their_types() {
        use parquet::file::reader::{FileReader, SerializedFileReader};
        use parquet::record::RowAccessor;

        let dir = tempfile::tempdir().unwrap();
        let table = Table::new("t")
            .text("model", [Some("é"), None])
            .integer("layer", [Some(3u32), None])
            .float("delta", [f64::NAN, 1.0])
            .boolean("is", [true, false]);
        let [_, path] = table.write(dir.path()).unwrap();
        let file = SerializedFileReader::new(std::fs::File::open(path).unwrap()).unwrap();
        let schema = file.metadata().file_metadata().schema_descr();
        let types: Vec<String> =
            schema.columns().iter().map(|c| format!("{} {}", c.name(), c.physical_type())).collect();
        assert_eq!(types, ["model BYTE_ARRAY", "layer INT64", "delta DOUBLE", "is BOOLEAN"]);
        let rows: Vec<_> = file.get_row_iter(None).unwrap().map(|row| row.unwrap()).collect();
        assert_eq!((rows[0].get_string(0).unwrap().as_str(), rows[0].get_long(1).unwrap()), ("é", 3));
        assert!(rows[1].get_long(1).is_err() && rows[0].get_double(2).is_err(), "empty cells are null");
        assert_eq!((rows[1].get_double(2).unwrap(), rows[1].get_bool(3).unwrap()), (1.0, false));
    }

    #[test]
    fn cells_with_commas_and_quotes_are_quoted() {
        let table = Table::new("t").text("model", ["a,b", "say \"x\""]).float("x", [f64::NAN, 1.5]);
        assert_eq!(table.to_csv(), "model,x\n\"a,b\",\n\"say \"\"x\"\"\",1.5\n");
    }
}
