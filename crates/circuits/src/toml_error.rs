//! Errors in TOML files, in words for users.

/// The line of the error, counted from 1, and what is wrong there, on one line.
pub fn describe(text: &str, error: &toml::de::Error) -> (usize, String) {
    let start = error.span().map_or(0, |span| span.start.min(text.len()));
    let line = text.as_bytes()[..start].iter().filter(|&&byte| byte == b'\n').count();
    let mut message = error.message().lines().collect::<Vec<_>>().join(", ");
    for (rust, english) in [
        ("usize", "a whole number from 0"),
        ("u64", "a whole number from 0"),
        ("f64", "a number"),
        ("a sequence", "a list"),
    ] {
        if let Some(before) = message.strip_suffix(&format!("expected {rust}")) {
            message = format!("{before}expected {english}");
        }
    }
    // The parser names unknown and missing fields, but not the one whose value is wrong.
    if message.starts_with("invalid ")
        && let Some(found) = text.lines().nth(line)
    {
        let shown: String = found.trim().chars().take(LONGEST).collect();
        message = format!("`{shown}`: {message}");
    }
    (line + 1, message)
}

/// Maximum number of characters of a line to show.
const LONGEST: usize = 60;

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize, Debug)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "read by the parser only")]
    struct Table {
        n: Option<usize>,
        share: Option<f64>,
        names: Option<Vec<String>>,
    }

    #[test]
    fn the_line_and_the_field_are_named() {
        let described = |text: &str| describe(text, &toml::from_str::<Table>(text).unwrap_err());
        let (line, message) = described("share = 0.5\nn = \"many\"\n");
        assert_eq!(line, 2);
        assert_eq!(message, "`n = \"many\"`: invalid type: string \"many\", expected a whole number from 0");
        assert!(described("share = \"half\"").1.ends_with("expected a number"));
        assert!(described("names = 3").1.ends_with("expected a list"));
        // An error at the start of its line.
        let (line, message) = described("n = 1\nm = 2");
        assert_eq!((line, message.starts_with("unknown field `m`")), (2, true), "{message}");
    }
}
