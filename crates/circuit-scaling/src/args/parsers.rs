//! What values of options may be, refused where they stand on the command line or in `study.toml`.

use std::str::FromStr;

use clap::builder::{PossibleValuesParser, TypedValueParser};

/// The largest seed: what TOML's integers, and so `study.toml`, can hold.
pub const MAX_SEED: u64 = i64::MAX as u64;

/// One of these words, which help and shells list too.
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

/// How many of something that there must be one of.
pub fn at_least_one(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|&n| n > 0).ok_or_else(|| "give a whole number of at least 1".into())
}

/// A number of parts that schedulers take.
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
}
