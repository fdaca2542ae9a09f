//! A table as a Parquet file, for pandas, polars and DuckDB: the columns of its CSV with types, so that integers are integers
//! and empty cells null.

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
use crate::table::{Table, Values};

/// The folder inside `paper/tables` for Parquet files.
pub const PARQUET: &str = "parquet";

/// Writes a table as a Parquet file, atomically. The same table gives the same bytes.
///
/// # Errors
/// [`AnalysisError::Io`] when it cannot be written.
pub fn write_parquet(path: &Path, table: &Table) -> Result<()> {
    let bytes = encode(table).map_err(|e| AnalysisError::Io {
        action: "write",
        path: path.to_owned(),
        source: std::io::Error::other(e.to_string()),
    })?;
    write_bytes(path, &bytes)
}

fn encode(table: &Table) -> std::result::Result<Vec<u8>, ParquetError> {
    let fields = table.columns.iter().map(|column| field(&column.name, &column.values).map(Arc::new));
    let fields = fields.collect::<std::result::Result<_, _>>()?;
    let schema = Arc::new(Type::group_type_builder(&table.name).with_fields(fields).build()?);
    let properties = WriterProperties::builder()
        .set_created_by(format!("circuit-scaling {}", env!("CARGO_PKG_VERSION")))
        .build();
    let mut bytes = Vec::new();
    let mut file = SerializedFileWriter::new(&mut bytes, schema, Arc::new(properties))?;
    if table.n_rows() > 0 {
        let mut group = file.next_row_group()?;
        for column in &table.columns {
            let Some(mut writer) = group.next_column()? else { break };
            write_column(writer.untyped(), &column.values)?;
            writer.close()?;
        }
        group.close()?;
    }
    file.close()?;
    Ok(bytes)
}

fn field(name: &str, values: &Values) -> std::result::Result<Type, ParquetError> {
    let physical = match values {
        Values::Text(_) => PhysicalType::BYTE_ARRAY,
        Values::Integer(_) => PhysicalType::INT64,
        Values::Float(_) => PhysicalType::DOUBLE,
        Values::Boolean(_) => PhysicalType::BOOLEAN,
    };
    Type::primitive_type_builder(name, physical)
        .with_repetition(Repetition::OPTIONAL)
        .with_logical_type(matches!(values, Values::Text(_)).then_some(LogicalType::String))
        .build()
}

fn write_column(writer: &mut ColumnWriter<'_>, values: &Values) -> std::result::Result<(), ParquetError> {
    // Parquet's definition levels: 1 for a value, 0 for null.
    let levels: Vec<i16> = (0..values.len()).map(|row| i16::from(!values.is_missing(row))).collect();
    let levels = Some(&levels[..]);
    match (writer, values) {
        (ColumnWriter::Int64ColumnWriter(writer), Values::Integer(cells)) => {
            writer.write_batch(&present(cells), levels, None)
        }
        (ColumnWriter::DoubleColumnWriter(writer), Values::Float(cells)) => {
            writer.write_batch(&present(cells), levels, None)
        }
        (ColumnWriter::BoolColumnWriter(writer), Values::Boolean(cells)) => {
            writer.write_batch(&present(cells), levels, None)
        }
        (ColumnWriter::ByteArrayColumnWriter(writer), Values::Text(cells)) => {
            let cells: Vec<ByteArray> =
                present(cells).into_iter().map(|text| ByteArray::from(text.into_bytes())).collect();
            writer.write_batch(&cells, levels, None)
        }
        _ => return Err(ParquetError::General("column type does not fit the schema".into())),
    }?;
    Ok(())
}

/// The cells that are not missing.
fn present<T: Clone>(cells: &[Option<T>]) -> Vec<T> {
    cells.iter().flatten().cloned().collect()
}
