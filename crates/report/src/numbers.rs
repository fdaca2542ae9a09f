//! Columns of a study's tables, for figures and notes alike.

use cs_analysis::study::Study;
use cs_analysis::table::Values;

/// A test counts as significant up to this q-value.
pub(crate) const SIGNIFICANT: f64 = 0.05;

/// A column of numbers of one of the study's tables.
pub(crate) fn numbers<'a>(study: &'a Study, table: &str, column: &str) -> &'a [Option<f64>] {
    match study.table(table).and_then(|t| t.column(column)) {
        Some(Values::Float(cells)) => cells,
        _ => &[],
    }
}
