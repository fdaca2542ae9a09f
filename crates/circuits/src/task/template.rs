//! Templates: a prompt's text with placeholders for two names and any number of fillers.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use serde::{Deserialize, Serialize};

/// A placeholder in a template, or the text between two of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Text that every prompt of the template has.
    Text(String),
    /// One of the two names.
    Name(Role),
    /// A word from the list of this name.
    Filler(String),
}

/// The role of a mention of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// `{first}`: the first mention.
    First,
    /// `{second}`: the second mention, of the other person.
    Second,
    /// `{repeated}`: one of the two again.
    Repeated,
}

impl Role {
    /// The three roles in the order in which a prompt has them.
    pub const ALL: [Role; 3] = [Role::First, Role::Second, Role::Repeated];

    /// The placeholder's word, without braces.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::First => "first",
            Role::Second => "second",
            Role::Repeated => "repeated",
        }
    }
}

/// A template's text, cut at its placeholders.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pattern {
    source: String,
    pieces: Vec<Piece>,
}

/// An unmatched brace, or an invalid placeholder.
#[derive(Debug, thiserror::Error)]
#[error("{0} in the text {1:?}; a placeholder is a lower-case word in braces, such as {{place}}")]
pub struct PatternError(String, String);

impl TryFrom<String> for Pattern {
    type Error = PatternError;

    fn try_from(source: String) -> Result<Self, PatternError> {
        let pieces = cut(&source, is_word)?
            .into_iter()
            .map(|(text, is_place)| match Role::ALL.into_iter().find(|role| role.as_str() == text) {
                Some(role) if is_place => Piece::Name(role),
                _ if is_place => Piece::Filler(text.to_owned()),
                _ => Piece::Text(text.to_owned()),
            })
            .collect();
        Ok(Self { source, pieces })
    }
}

/// A text divided at its placeholders: each piece, and whether it was in braces, in which case it must be
/// `allowed`.
pub(super) fn cut(source: &str, allowed: impl Fn(&str) -> bool) -> Result<Vec<(&str, bool)>, PatternError> {
    let fail = |what: &str| PatternError(what.to_owned(), source.to_owned());
    let mut pieces = Vec::new();
    let mut rest = source;
    while !rest.is_empty() {
        let text_end = rest.find(['{', '}']).unwrap_or(rest.len());
        if text_end > 0 {
            pieces.push((&rest[..text_end], false));
            rest = &rest[text_end..];
            continue;
        }
        let inner = rest.strip_prefix('{').ok_or_else(|| fail("unmatched '}'"))?;
        let end = inner.find('}').ok_or_else(|| fail("'{' is never closed"))?;
        let word = &inner[..end];
        if !allowed(word) {
            return Err(fail(&format!("bad placeholder {{{word}}}")));
        }
        pieces.push((word, true));
        rest = &inner[end + 1..];
    }
    Ok(pieces)
}

/// Lower-case ASCII letters, digits and underscores, starting with a letter.
pub(super) fn is_word(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_lowercase())
        && word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

impl From<Pattern> for String {
    fn from(pattern: Pattern) -> String {
        pattern.source
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)
    }
}

/// The position of a name in a rendered text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mention {
    /// The role of the mention.
    pub role: Role,
    /// Byte range of `" NAME"`, including the space before the name.
    pub span: Range<usize>,
}

/// A template with every placeholder filled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendered {
    /// The prompt, without BOS and without its answer.
    pub text: String,
    /// Every mention of a name, in order.
    pub mentions: Vec<Mention>,
}

impl Pattern {
    /// The text as written in the task's file.
    pub fn as_str(&self) -> &str {
        &self.source
    }

    /// Text and placeholders in order.
    pub fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    /// The distinct fillers that the text needs, in order of appearance.
    pub fn fillers(&self) -> Vec<&str> {
        let mut found: Vec<&str> = Vec::new();
        for piece in &self.pieces {
            if let Piece::Filler(word) = piece
                && !found.contains(&word.as_str())
            {
                found.push(word);
            }
        }
        found
    }

    /// Fills every placeholder; `None` if `fillers` lacks a word that the text needs.
    pub fn render(
        &self,
        first: &str,
        second: &str,
        repeated: &str,
        fillers: &BTreeMap<String, String>,
    ) -> Option<Rendered> {
        let mut text = String::new();
        let mut mentions = Vec::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(literal) => text.push_str(literal),
                Piece::Filler(word) => text.push_str(fillers.get(word)?),
                Piece::Name(role) => {
                    let start = text.len() - usize::from(text.ends_with(' '));
                    text.push_str(match role {
                        Role::First => first,
                        Role::Second => second,
                        Role::Repeated => repeated,
                    });
                    mentions.push(Mention { role: *role, span: start..text.len() });
                }
            }
        }
        Some(Rendered { text, mentions })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> Result<Pattern, PatternError> {
        Pattern::try_from(text.to_owned())
    }

    #[test]
    fn rendering_fills_every_place_and_finds_the_mentions() {
        let pattern =
            pattern(" {first} met {second} at the {place}. {repeated} left the {place} with").unwrap();
        assert_eq!(pattern.fillers(), ["place"]);
        let fillers = BTreeMap::from([("place".to_owned(), "park".to_owned())]);
        let rendered = pattern.render("Ann", "Bob", "Ann", &fillers).unwrap();
        assert_eq!(rendered.text, " Ann met Bob at the park. Ann left the park with");
        let found: Vec<_> =
            rendered.mentions.iter().map(|m| (m.role, &rendered.text[m.span.clone()])).collect();
        assert_eq!(found, [(Role::First, " Ann"), (Role::Second, " Bob"), (Role::Repeated, " Ann")]);
        assert!(pattern.render("Ann", "Bob", "Ann", &BTreeMap::new()).is_none());
    }

    #[test]
    fn stray_braces_are_refused() {
        for text in ["{first", "first}", "{}", "{First}", "{a b}", "{{first}}", "{1st}"] {
            assert!(pattern(text).is_err(), "{text}");
        }
    }
}
