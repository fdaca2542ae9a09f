//! Tasks of words: a template defines its clean prompt, its corrupted prompt and both answers with words drawn from lists.

use cs_analysis::words::counted;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use super::TaskError;
use super::template::{PatternError, cut, is_word};
use super::validate;

/// Maximum number of words in all lists together.
const MAX_WORDS: usize = 10_000;

/// Maximum number of words that a template draws from one list.
const MAX_DRAWN: usize = 100;

/// A task of words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WordTask {
    /// Short name.
    pub name: String,
    /// Name for tables and figures.
    pub title: String,
    /// Which answers a prompt's correct one must beat to count as answered correctly.
    #[serde(default)]
    pub candidates: Candidates,
    /// Minimum number of words of each list that must pass the one-token rule.
    #[serde(default = "default_min_usable")]
    pub min_usable: usize,
    /// Lists whose words a prompt uses in list order: `{year.1}` comes before `{year.2}` in it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ordered: Vec<String>,
    /// The lists.
    pub words: BTreeMap<String, WordList>,
    /// The forms of a prompt.
    pub templates: Vec<WordTemplate>,
}

fn default_min_usable() -> usize {
    8
}

/// The answers among which accuracy is counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Candidates {
    /// All answers of the task.
    #[default]
    All,
    /// Only the prompt's own two, for tasks in which other answers may be correct too.
    Pair,
}

/// Words to draw from: one list, or columns of equal length whose words belong together row by row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "a list of words, or a table of such lists")]
pub enum WordList {
    /// `{colour}`
    One(Vec<String>),
    /// `{noun.singular}` and `{noun.plural}`
    Columns(BTreeMap<String, Vec<String>>),
}

impl WordList {
    /// The lists of words, with the column name if there are several.
    pub fn columns(&self) -> Vec<(Option<&str>, &[String])> {
        match self {
            Self::One(words) => vec![(None, words)],
            Self::Columns(columns) => {
                columns.iter().map(|(name, words)| (Some(name.as_str()), &words[..])).collect()
            }
        }
    }

    /// Rows: how many words each column has.
    pub fn len(&self) -> usize {
        self.columns().first().map_or(0, |(_, words)| words.len())
    }

    /// Whether there is no word.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The words of row `row`, one of each column.
    pub fn row(&self, row: usize) -> Vec<&str> {
        self.columns().iter().filter_map(|(_, words)| words.get(row).map(String::as_str)).collect()
    }

    /// The list with only the rows in `keep`, in that order.
    #[must_use]
    pub fn with_rows(&self, keep: &[usize]) -> Self {
        let chosen = |words: &[String]| keep.iter().filter_map(|&row| words.get(row).cloned()).collect();
        match self {
            Self::One(words) => Self::One(chosen(words)),
            Self::Columns(columns) => {
                Self::Columns(columns.iter().map(|(name, words)| (name.clone(), chosen(words))).collect())
            }
        }
    }
}

/// One form of a prompt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WordTemplate {
    /// Short name that prompts and mean-ablation groups refer to.
    pub id: String,
    /// The prompt up to its answer.
    pub text: WordText,
    /// The prompt for which the distractor is correct, or at least no longer wrong; with as many words as
    /// `text`.
    pub corrupted: WordText,
    /// A neutral prompt, from which neither answer follows. The corrupted text if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<WordText>,
    /// The answer.
    pub correct: WordText,
    /// The answer with which it is compared.
    pub distractor: WordText,
    /// Whether every second prompt is the corrupted text, with the answers swapped.
    #[serde(default)]
    pub swap: bool,
}

/// Text with placeholders for words: `{LIST}`, `{LIST.COLUMN}`, either followed by `.2`, `.3`, … for further words of
/// the list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct WordText {
    source: String,
    pieces: Vec<WordPiece>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum WordPiece {
    Text(String),
    Place(Place),
}

/// A placeholder for a word.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The list.
    pub list: String,
    /// Its column, if the list has several.
    pub column: Option<String>,
    /// The number of the word drawn from the list, from 1; equal numbers refer to the same row.
    pub number: usize,
}

impl Place {
    fn parse(text: &str) -> Option<Self> {
        let mut parts: Vec<&str> = text.split('.').collect();
        let number = match parts.last()?.parse::<usize>() {
            Ok(number) if (1..=MAX_DRAWN).contains(&number) && parts.len() > 1 => {
                parts.pop();
                number
            }
            Ok(_) => return None,
            Err(_) => 1,
        };
        let (list, column) = match parts[..] {
            [list] => (list, None),
            [list, column] if is_word(column) => (list, Some(column.to_owned())),
            _ => return None,
        };
        is_word(list).then(|| Self { list: list.to_owned(), column, number })
    }
}

impl TryFrom<String> for WordText {
    type Error = PatternError;

    fn try_from(source: String) -> Result<Self, PatternError> {
        let pieces = cut(&source, |place| Place::parse(place).is_some())?
            .into_iter()
            .map(|(text, is_place)| match Place::parse(text) {
                Some(place) if is_place => WordPiece::Place(place),
                _ => WordPiece::Text(text.to_owned()),
            })
            .collect();
        Ok(Self { source, pieces })
    }
}

impl From<WordText> for String {
    fn from(text: WordText) -> String {
        text.source
    }
}

impl fmt::Display for WordText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)
    }
}

/// Rows drawn from each list for one prompt.
pub type Drawn<'a> = BTreeMap<&'a str, Vec<usize>>;

impl WordText {
    /// The text as written in the task's file.
    pub fn as_str(&self) -> &str {
        &self.source
    }

    /// Its placeholders, in order.
    pub fn places(&self) -> impl Iterator<Item = &Place> {
        self.pieces
            .iter()
            .filter_map(|piece| if let WordPiece::Place(place) = piece { Some(place) } else { None })
    }

    /// Fills every placeholder with the words of the rows `drawn`; `None` if there is no such row.
    pub fn render(&self, words: &BTreeMap<String, WordList>, drawn: &Drawn<'_>) -> Option<String> {
        let mut text = String::new();
        for piece in &self.pieces {
            match piece {
                WordPiece::Text(literal) => text.push_str(literal),
                WordPiece::Place(place) => {
                    let &row = drawn.get(place.list.as_str())?.get(place.number - 1)?;
                    let columns = words.get(&place.list)?.columns();
                    let (_, words) = columns.iter().find(|(name, _)| *name == place.column.as_deref())?;
                    text.push_str(words.get(row)?);
                }
            }
        }
        Some(text)
    }
}

impl WordTemplate {
    /// All its texts, with the names of their fields.
    pub fn texts(&self) -> impl Iterator<Item = (&'static str, &WordText)> {
        [("text", &self.text), ("corrupted", &self.corrupted)]
            .into_iter()
            .chain(self.reference.iter().map(|text| ("reference", text)))
            .chain([("correct", &self.correct), ("distractor", &self.distractor)])
    }

    /// Number of words of each list that one prompt and its reference use.
    pub fn n_drawn(&self) -> BTreeMap<&str, usize> {
        let mut n_drawn: BTreeMap<&str, usize> = BTreeMap::new();
        for place in self.texts().flat_map(|(_, text)| text.places()) {
            let n = n_drawn.entry(&place.list).or_default();
            *n = place.number.max(*n);
        }
        n_drawn
    }
}

impl WordTask {
    /// Maximum number of words of a list that a template uses.
    pub fn most_drawn(&self, list: &str) -> usize {
        self.templates.iter().filter_map(|template| template.n_drawn().get(list).copied()).max().unwrap_or(0)
    }

    /// Validates the task beyond its types.
    pub(super) fn validate(&self, file: &str) -> Result<(), TaskError> {
        self.check_words().and_then(|()| self.check_templates()).map_err(|(field, problem, fix)| {
            TaskError::Invalid { file: file.to_owned(), field, problem, fix }
        })
    }

    fn check_words(&self) -> Result<(), (String, String, String)> {
        let fail = |field: &str, problem: String, fix: &str| Err((field.to_owned(), problem, fix.to_owned()));
        let n_words: usize = self.words.values().map(|list| list.len() * list.columns().len()).sum();
        if n_words > MAX_WORDS {
            let fix = format!("at most {MAX_WORDS} are allowed: leave some out");
            return fail("words", format!("has {n_words} words"), &fix);
        }
        for (name, list) in &self.words {
            let field = format!("words.{name}");
            let bad_name = |name: &str| !is_word(name);
            let columns = list.columns();
            if bad_name(name) || columns.iter().any(|(column, _)| column.is_some_and(bad_name)) {
                let fix = "use lower-case letters, digits and underscores, a letter first";
                return fail(&field, "is not a placeholder's name".to_owned(), fix);
            }
            if list.is_empty() {
                return fail(&field, "is empty".to_owned(), "give at least one word, or remove the list");
            }
            if let Some((column, words)) = columns.iter().find(|(_, words)| words.len() != list.len()) {
                let column = column.unwrap_or_default();
                let problem = format!(
                    "column `{column}` has {}, others {}",
                    counted(words.len(), "word", "words"),
                    list.len()
                );
                return fail(&field, problem, "give every row a word in every column");
            }
            for (_, words) in &columns {
                validate::words(words).or_else(|(problem, fix)| fail(&field, problem, fix))?;
            }
            let n_drawn = self.most_drawn(name);
            if n_drawn == 0 {
                let fix = "use it in a template, or remove the list";
                return fail(&field, format!("no template has {{{name}}}"), fix);
            }
            if list.len() < 2 * n_drawn {
                let problem = format!(
                    "has {}, and at least {} are needed",
                    counted(list.len(), "word", "words"),
                    2 * n_drawn
                );
                let fix = format!("a prompt uses {n_drawn}, and its reference prompts others: add words");
                return fail(&field, problem, &fix);
            }
        }
        match self.ordered.iter().find(|list| !self.words.contains_key(*list)) {
            Some(list) => {
                fail("ordered", format!("{list:?} is not a list under [words]"), "name one of them")
            }
            None => Ok(()),
        }
    }

    fn check_templates(&self) -> Result<(), (String, String, String)> {
        if self.templates.is_empty() {
            return Err(("templates".into(), "is empty".into(), "write at least one [[templates]]".into()));
        }
        let mut ids = BTreeSet::new();
        for (i, template) in self.templates.iter().enumerate() {
            let field = |name: &str| format!("templates[{i}].{name}");
            if !is_word(&template.id) || !ids.insert(&template.id) {
                let problem = format!("{:?} is not a valid, unique short name", template.id);
                let fix = "use lower-case letters, digits and underscores, a letter first, and each id once";
                return Err((field("id"), problem, fix.to_owned()));
            }
            for (name, text) in template.texts() {
                self.check_text(name, text).map_err(|(problem, fix)| {
                    (format!("{} (id {:?})", field(name), template.id), problem, fix)
                })?;
            }
            if template.text == template.corrupted {
                let fix = "write the prompt for which the distractor would be correct";
                return Err((field("corrupted"), "is the text itself".to_owned(), fix.to_owned()));
            }
            if template.correct == template.distractor {
                let fix = "write an answer that is wrong";
                return Err((field("distractor"), "is the correct answer".to_owned(), fix.to_owned()));
            }
        }
        Ok(())
    }

    fn check_text(&self, name: &str, text: &WordText) -> Result<(), (String, String)> {
        let fail = |problem: String, fix: &str| Err((problem, fix.to_owned()));
        for place in text.places() {
            let Some(list) = self.words.get(&place.list) else {
                let known: Vec<&str> = self.words.keys().map(String::as_str).collect();
                let fix = format!("known are {}; or add the list under [words]", known.join(", "));
                return fail(format!("unknown placeholder {{{}}}", place.list), &fix);
            };
            if !list.columns().iter().any(|(column, _)| *column == place.column.as_deref()) {
                let known: Vec<String> =
                    list.columns().iter().filter_map(|(c, _)| c.map(str::to_owned)).collect();
                let fix = match known.is_empty() {
                    true => format!("write {{{}}}, or {{{}.2}} for a second word", place.list, place.list),
                    false => format!("name one of its columns: {}", known.join(", ")),
                };
                return fail(format!("the list `{}` has no such column", place.list), &fix);
            }
        }
        let is_answer = name == "correct" || name == "distractor";
        if is_answer {
            if text.as_str().is_empty() || text.as_str().contains(char::is_whitespace) {
                return fail(
                    format!("{:?} is not one word", text.as_str()),
                    "write one word, or one placeholder",
                );
            }
            return Ok(());
        }
        if text.as_str().is_empty() || text.as_str().ends_with(char::is_whitespace) {
            let fix = "end it right after its last word or mark: the answer brings its own space";
            return fail("is empty or ends in white space".to_owned(), fix);
        }
        if text.as_str().contains(char::is_control) {
            return fail("has a line break, a tab or a control character".to_owned(), "write it on one line");
        }
        let mut before = "";
        for piece in &text.pieces {
            match piece {
                WordPiece::Place(place) if !before.ends_with(' ') => {
                    let fix =
                        "words are single tokens after a space: put one before it, and a word before that";
                    return fail(format!("there is no space before {{{}}}", place.list), fix);
                }
                WordPiece::Place(_) => before = "",
                WordPiece::Text(literal) => before = literal,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(text: &str) -> Option<(String, Option<String>, usize)> {
        Place::parse(text).map(|place| (place.list, place.column, place.number))
    }

    #[test]
    fn a_place_names_list_column_and_number() {
        let column = |name: &str| Some(name.to_owned());
        assert_eq!(place("colour"), Some(("colour".to_owned(), None, 1)));
        assert_eq!(place("colour.3"), Some(("colour".to_owned(), None, 3)));
        assert_eq!(place("noun.plural"), Some(("noun".to_owned(), column("plural"), 1)));
        assert_eq!(place("noun.plural.2"), Some(("noun".to_owned(), column("plural"), 2)));
        for bad in ["", "3", "Colour", "colour.", "colour.0", "colour.101", "a.b.c", "a.1.2", "a.b.1.2"] {
            assert_eq!(place(bad), None, "{bad}");
        }
    }

    #[test]
    fn rendering_takes_rows_of_lists() {
        let list = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
        let nouns = BTreeMap::from([
            ("one".to_owned(), list(&["key", "cat"])),
            ("many".to_owned(), list(&["keys", "cats"])),
        ]);
        let words = BTreeMap::from([
            ("noun".to_owned(), WordList::Columns(nouns)),
            ("place".to_owned(), WordList::One(list(&["park", "sea"]))),
        ]);
        let text = WordText::try_from("The {noun.many.2} and {noun.one} by the {place}".to_owned()).unwrap();
        let drawn = Drawn::from([("noun", vec![1, 0]), ("place", vec![1])]);
        assert_eq!(text.render(&words, &drawn).unwrap(), "The keys and cat by the sea");
        assert_eq!(text.render(&words, &Drawn::from([("noun", vec![1]), ("place", vec![1])])), None);
    }
}
