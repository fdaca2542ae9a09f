//! Optimal assignment of rows to columns.

use pathfinding::kuhn_munkres::kuhn_munkres_min;
use pathfinding::matrix::Matrix;

/// Costs are rounded to multiples of this: the solver needs integers to be sure to terminate.
const STEP: f64 = 1e-9;

/// Assigns a different column to each row such that the total cost is minimal (the Hungarian method).
///
/// `costs` `[n_rows, n_columns]`, finite, at most 10⁹ in size, with no more rows than columns; else `None`.
#[must_use]
pub fn assign(costs: &[f64], n_columns: usize) -> Option<Vec<usize>> {
    if costs.is_empty() {
        return Some(Vec::new());
    }
    let n_rows = costs.len().checked_div(n_columns)?;
    if n_rows > n_columns || costs.iter().any(|c| c.is_nan() || c.abs() > 1e9) {
        return None;
    }
    let weights: Vec<i64> = costs.iter().map(|c| (c / STEP).round() as i64).collect();
    let matrix = Matrix::from_vec(n_rows, n_columns, weights).ok()?;
    Some(kuhn_munkres_min(&matrix).1)
}
