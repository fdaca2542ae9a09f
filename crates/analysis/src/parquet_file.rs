//! Tables of a study in one Parquet file, for pandas and polars: those of contrasts in `study.parquet`, those of all tasks in
//! `tasks.parquet`.
//!
//! A Parquet file has one list of columns, so its columns are those of all tables together, after a column `table` with
//! each row's table; cells of columns that a table does not have are null. Each table is a row group of its own, so
//! `pl.scan_parquet(…).filter(pl.col("table") == "scaling_laws")` reads no more than that table.

use std::path::Path;
use std::sync::Arc;

use parquet::basic::{LogicalType, Repetition, Type as PhysicalType};
use parquet::column::writer::ColumnWriter;
use parquet::data_type::ByteArray;
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::Type;

use crate::error::{AnalysisError, Result};
use crate::files::write_bytes;
use crate::table::{Table, Values, format_float};

/// Name of the file in `paper/tables` with the tables of contrasts.
pub const STUDY_PARQUET: &str = "study.parquet";
/// Name of the one with the tables of all tasks, [`crate::effects::HEAD_EFFECTS`] first.
pub const TASKS_PARQUET: &str = "tasks.parquet";

/// Writes the tables into one Parquet file, atomically. The same tables give the same bytes.
///
/// # Errors
/// [`AnalysisError::Io`] when it cannot be written.
pub fn write_parquet(path: &Path, tables: &[Table]) -> Result<()> {
    let bytes = encode(tables).map_err(|e| AnalysisError::Io {
        action: "write",
        path: path.to_owned(),
        source: std::io::Error::other(e.to_string()),
    })?;
    write_bytes(path, &bytes)
}

/// What a column holds in every table that has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Integer,
    Float,
    Boolean,
}

impl Kind {
    fn of(values: &Values) -> Self {
        match values {
            Values::Text(_) => Self::Text,
            Values::Integer(_) => Self::Integer,
            Values::Float(_) => Self::Float,
            Values::Boolean(_) => Self::Boolean,
        }
    }

    /// What holds both: a count in one table may be a measure, hence a float, in another.
    fn join(self, other: Self) -> Self {
        match (self, other) {
            (a, b) if a == b => a,
            (Self::Integer, Self::Float) | (Self::Float, Self::Integer) => Self::Float,
            _ => Self::Text,
        }
    }
}

fn encode(tables: &[Table]) -> std::result::Result<Vec<u8>, ParquetError> {
    let mut columns: Vec<(&str, Kind)> = vec![("table", Kind::Text)];
    for column in tables.iter().flat_map(|t| &t.columns) {
        let kind = Kind::of(&column.values);
        match columns.iter_mut().find(|(name, _)| *name == column.name) {
            Some((_, known)) => *known = known.join(kind),
            None => columns.push((&column.name, kind)),
        }
    }
    let fields = columns
        .iter()
        .map(|(name, kind)| field(name, *kind).map(Arc::new))
        .collect::<std::result::Result<_, _>>()?;
    let schema = Arc::new(Type::group_type_builder("study").with_fields(fields).build()?);
    let properties = WriterProperties::builder()
        .set_created_by(format!("circuit-scaling {}", env!("CARGO_PKG_VERSION")))
        .build();
    let mut bytes = Vec::new();
    let mut file = SerializedFileWriter::new(&mut bytes, schema, Arc::new(properties))?;
    for table in tables.iter().filter(|t| t.n_rows() > 0) {
        let mut group = file.next_row_group()?;
        for (name, kind) in &columns {
            let Some(mut writer) = group.next_column()? else { break };
            if *name == "table" {
                let names = Values::Text(vec![Some(table.name.clone()); table.n_rows()]);
                write_column(writer.untyped(), *kind, Some(&names), table.n_rows())?;
            } else {
                write_column(writer.untyped(), *kind, table.column(name), table.n_rows())?;
            }
            writer.close()?;
        }
        group.close()?;
    }
    file.close()?;
    Ok(bytes)
}

fn field(name: &str, kind: Kind) -> std::result::Result<Type, ParquetError> {
    let physical = match kind {
        Kind::Text => PhysicalType::BYTE_ARRAY,
        Kind::Integer => PhysicalType::INT64,
        Kind::Float => PhysicalType::DOUBLE,
        Kind::Boolean => PhysicalType::BOOLEAN,
    };
    Type::primitive_type_builder(name, physical)
        .with_repetition(Repetition::OPTIONAL)
        .with_logical_type((kind == Kind::Text).then_some(LogicalType::String))
        .build()
}

/// Writes one column of one table; `None` where the table does not have it.
fn write_column(
    writer: &mut ColumnWriter<'_>,
    kind: Kind,
    values: Option<&Values>,
    n_rows: usize,
) -> std::result::Result<(), ParquetError> {
    let missing;
    let values = match values {
        Some(values) => values,
        None => {
            missing = Values::Boolean(vec![None; n_rows]);
            &missing
        }
    };
    // Parquet's definition levels: 1 for a value, 0 for null.
    let levels: Vec<i16> = (0..n_rows).map(|row| i16::from(!values.is_missing(row))).collect();
    match (writer, kind) {
        (ColumnWriter::Int64ColumnWriter(writer), Kind::Integer) => {
            writer.write_batch(&present(values, integer), Some(&levels), None)
        }
        (ColumnWriter::DoubleColumnWriter(writer), Kind::Float) => {
            writer.write_batch(&present(values, float), Some(&levels), None)
        }
        (ColumnWriter::BoolColumnWriter(writer), Kind::Boolean) => {
            writer.write_batch(&present(values, boolean), Some(&levels), None)
        }
        (ColumnWriter::ByteArrayColumnWriter(writer), Kind::Text) => {
            writer.write_batch(&present(values, text), Some(&levels), None)
        }
        _ => return Err(ParquetError::General("column type does not fit the schema".into())),
    }?;
    Ok(())
}

/// The cells that are not missing.
fn present<T>(values: &Values, cell: fn(&Values, usize) -> Option<T>) -> Vec<T> {
    (0..values.len()).filter_map(|row| cell(values, row)).collect()
}

fn integer(values: &Values, row: usize) -> Option<i64> {
    if let Values::Integer(cells) = values { cells[row] } else { None }
}

fn float(values: &Values, row: usize) -> Option<f64> {
    match values {
        Values::Float(cells) => cells[row],
        Values::Integer(cells) => cells[row].map(|x| x as f64),
        _ => None,
    }
}

fn boolean(values: &Values, row: usize) -> Option<bool> {
    if let Values::Boolean(cells) = values { cells[row] } else { None }
}

fn text(values: &Values, row: usize) -> Option<ByteArray> {
    let text = match values {
        Values::Text(cells) => cells[row].clone(),
        Values::Integer(cells) => cells[row].map(|x| x.to_string()),
        Values::Float(cells) => cells[row].map(format_float),
        Values::Boolean(cells) => cells[row].map(|x| x.to_string()),
    };
    text.map(|t| ByteArray::from(t.into_bytes()))
}
