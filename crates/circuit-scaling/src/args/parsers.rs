//! Parsers of option values, on the command line and in `study.toml`.

use std::str::FromStr;

use clap::builder::{PossibleValuesParser, TypedValueParser};

/// The largest seed: the maximum of TOML's integers, and so of `study.toml`.
pub const MAX_SEED: u64 = i64::MAX as u64;

/// One of these words; help and shell completion list them.
pub fn one_of<T>(words: impl Into<PossibleValuesParser>) -> impl TypedValueParser<Value = T>
where
    T: FromStr<Err: std::fmt::Display> + Clone + Send + Sync + 'static,
{
    let parse = |word: String| word.parse::<T>().map_err(|error| error.to_string());
    words.into().try_map(parse)
}

/// A threshold in logits.
pub fn threshold(text: &str) -> Result<f64, String> {
    let tau: f64 = text.parse().map_err(|_| format!("`{text}` is not a number"))?;
    if tau.is_finite() && tau > 0.0 { Ok(tau) } else { Err("give a number of logits above 0".into()) }
}

/// A count of at least 1.
pub fn at_least_one(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|&n| n > 0).ok_or_else(|| "give a whole number of at least 1".into())
}

/// A number of parts that schedulers accept.
pub fn n_parts(text: &str) -> Result<usize, String> {
    text.parse()
        .ok()
        .filter(|n| (1..=100_000).contains(n))
        .ok_or_else(|| "give a whole number from 1 to 100000".into())
}

/// Bytes from a number with an optional K, M or G (powers of 1,024).
pub fn memory(text: &str) -> Result<usize, String> {
    let unsupported =
        || format!("`{text}` is not an amount of memory: write a number with K, M or G, such as 512M");
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(split);
    let factor = match unit.trim_end_matches(['b', 'B', 'i']).to_ascii_uppercase().as_str() {
        "" => 1,
        "K" => 1 << 10,
        "M" => 1 << 20,
        "G" => 1usize << 30,
        _ => return Err(unsupported()),
    };
    digits
        .parse::<usize>()
        .ok()
        .and_then(|n| n.checked_mul(factor))
        .filter(|&n| n > 0)
        .ok_or_else(unsupported)
}

/// A figure's width, in millimetres.
pub fn figure_width(text: &str) -> Result<f64, String> {
    const NARROWEST: f64 = 60.0;
    const WIDEST: f64 = 250.0;
    let units = [("mm", 1.0), ("cm", 10.0), ("in", 25.4)];
    let parsed = units.iter().find_map(|(unit, mm)| {
        let number: f64 = text.trim().strip_suffix(unit)?.trim().parse().ok()?;
        Some(number * mm)
    });
    let width = parsed.ok_or_else(|| format!("`{text}` is not a width: write 85mm, 17cm or 3.3in"))?;
    if (NARROWEST..=WIDEST).contains(&width) {
        Ok(width)
    } else {
        Err(format!(
            "a figure may be {NARROWEST} to {WIDEST} mm wide, so that its smallest text stays legible"
        ))
    }
}

/// A name and its colour.
pub fn named_color(text: &str) -> Result<(String, [u8; 3]), String> {
    let wrong = || format!("`{text}` is not a name and its colour, such as shared=#888888");
    let (name, color) = text.split_once('=').ok_or_else(wrong)?;
    let digits = color
        .trim()
        .strip_prefix('#')
        .filter(|digits| digits.len() == 6 && !digits.starts_with('+'))
        .ok_or_else(wrong)?;
    let value = u32::from_str_radix(digits, 16).map_err(|_| wrong())?;
    let [_, red, green, blue] = value.to_be_bytes();
    Ok((name.trim().to_owned(), [red, green, blue]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_sizes() {
        assert_eq!(memory("512M"), Ok(512 << 20));
        assert_eq!(memory("2GiB"), Ok(2 << 30));
        assert_eq!(memory("77"), Ok(77));
        for bad in ["", "G", "1.5G", "-1M", "3X", "0", "99999999999999999999"] {
            assert!(memory(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn thresholds_are_above_0() {
        assert_eq!(threshold("0.05"), Ok(0.05));
        for bad in ["0", "-0.1", "nan", "inf", "x", ""] {
            assert!(threshold(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn widths_and_colors_are_read_or_refused() {
        assert_eq!(figure_width("85mm"), Ok(85.0));
        assert_eq!(figure_width(" 8.5 cm"), Ok(85.0));
        assert_eq!(figure_width("4in"), Ok(101.6));
        for wrong in ["85", "mm", "wide", "10mm", "3in0", "-85mm", "nanmm", "infmm", "251mm"] {
            assert!(figure_width(wrong).is_err(), "{wrong}");
        }
        assert_eq!(named_color("shared=#0080fF"), Ok(("shared".into(), [0, 128, 255])));
        for wrong in [
            "shared",
            "shared=red",
            "shared=#12345",
            "shared=#+12345",
            "shared=#1234567",
            "#123456",
            "é=#ééé",
        ] {
            assert!(named_color(wrong).is_err(), "{wrong}");
        }
    }
}
