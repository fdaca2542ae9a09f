//! The page's data for every head, packed: columns of numbers as integer multiples of a small unit, in compressed JSON.

use std::io::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flate2::{Compression, GzBuilder};
use serde_json::{Map, Value, json};

/// Number of decimals of effects on the page.
const SHOWN: u32 = 3;
/// Minimum number of decimals that are kept.
const KEPT: i32 = 5;

/// Compressed bytes, as text for a script element.
///
/// # Errors
/// If they cannot be compressed.
pub(super) fn compressed(bytes: &[u8]) -> std::io::Result<String> {
    let mut gz = GzBuilder::new().write(Vec::new(), Compression::best());
    gz.write_all(bytes)?;
    Ok(STANDARD.encode(gz.finish()?))
}

/// Columns by name; empty columns are left out.
#[derive(Default)]
pub(super) struct Columns(Map<String, Value>);

impl Columns {
    /// Adds a column of integers.
    pub(super) fn whole(&mut self, name: &str, column: impl Iterator<Item = Option<usize>>) {
        self.put(name, 1.0, column.map(|n| n.map(|n| n as i64)).collect());
    }

    /// Adds a column of numbers with at least five decimals; columns of small numbers have more.
    pub(super) fn numbers(&mut self, name: &str, column: impl Iterator<Item = Option<f64>>) {
        let column: Vec<Option<f64>> = column.map(|v| v.filter(|v| v.is_finite())).collect();
        let largest = column.iter().flatten().fold(0.0, |m: f64, v| m.max(v.abs()));
        // Five significant digits for the largest.
        let digits = if largest > 0.0 { 4 - largest.log10().floor() as i32 } else { KEPT };
        let per_unit = 10f64.powi(digits.clamp(KEPT, 12));
        self.put(name, per_unit, column.into_iter().map(|v| v.map(|v| whole(v, per_unit))).collect());
    }

    fn put(&mut self, name: &str, per_unit: f64, column: Vec<Option<i64>>) {
        if column.iter().any(Option::is_some) {
            self.0.insert(name.to_owned(), json!([per_unit, column]));
        }
    }

    pub(super) fn into_value(self) -> Value {
        Value::Object(self.0)
    }
}

/// A number as an integer multiple of `1 / per_unit`. A number next to a midpoint of the page's rounding stays on its side, so that
/// the page, which rounds once more, shows the same as for the original number.
fn whole(value: f64, per_unit: f64) -> i64 {
    let rounded = (value * per_unit).round();
    let step = per_unit / 10f64.powi(SHOWN as i32);
    let in_the_middle = (rounded / step).fract().abs() == 0.5;
    let off = value - rounded / per_unit;
    (if in_the_middle && off != 0.0 { rounded + off.signum() } else { rounded }) as i64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::scale::decimal;

    #[test]
    fn the_page_shows_what_it_would_show_of_the_numbers_themselves() {
        let values =
            [0.0905, -0.0905, 0.0905 + 1e-9, 0.0905 - 1e-9, -0.0905 - 1e-9, 12.3455, 1e-7, 0.0, 2.0005];
        for value in values {
            let packed = whole(value, 1e5) as f64 / 1e5;
            assert_eq!(decimal(packed, SHOWN as usize), decimal(value, SHOWN as usize), "{value}");
            assert!((packed - value).abs() <= 1.5e-5, "{value}");
        }
    }

    #[test]
    fn small_numbers_keep_their_digits() {
        let mut columns = Columns::default();
        columns.numbers("x", [Some(2.5e-7), None, Some(f64::NAN)].into_iter());
        columns.numbers("none", [None].into_iter());
        assert_eq!(columns.into_value(), json!({ "x": [1e11, [25000, null, null]] }));
    }
}
