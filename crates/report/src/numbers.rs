//! Columns of a contrast's tables, for figures and notes alike.

use cs_analysis::study::ContrastStudy;
use cs_analysis::table::Values;

/// A test counts as significant up to this q-value.
pub(crate) const SIGNIFICANT: f64 = 0.05;

/// A numeric column of one of a contrast's tables, given the name of the published pair's table.
pub(crate) fn numbers<'a>(study: &'a ContrastStudy, table: &str, column: &str) -> &'a [Option<f64>] {
    match study.table(table).and_then(|t| t.column(column)) {
        Some(Values::Float(cells)) => cells,
        _ => &[],
    }
}
