//! Validation of tasks beyond their types.

use cs_analysis::words::counted;
use std::collections::BTreeSet;

use super::template::is_word;
use super::{MAX_NAME_LEN, NameTask, Pattern, Piece, Role, Task, TaskError};

/// Minimum number of names that leaves two others for resampling every prompt: two in each list, or four in the
/// only one.
const MIN_PER_LIST: usize = 2;
const MIN_IN_ALL: usize = 4;

/// Maximum number of names in total: memory is quadratic, since pairs of names are listed.
const MAX_NAMES: usize = 1000;

/// Maximum number of words in all lists of fillers, each of which is compared with every name.
const MAX_FILLERS: usize = 10_000;

/// Checks any task's name and title.
pub(super) fn name(task: &Task, file: &str) -> Result<(), TaskError> {
    let name = task.name();
    let (field, problem, fix) = if !is_word(name) || name.len() > MAX_NAME_LEN {
        let fix =
            format!("use at most {MAX_NAME_LEN} lower-case letters, digits and underscores, a letter first");
        ("name", format!("{name:?} cannot be part of a file name"), fix)
    } else if name == "copy_suppression" || name.ends_with("_pairs") {
        // These names would clash with the files of another task or another kind of file.
        ("name", format!("{name:?} is the name of other result files"), "choose another name".to_owned())
    } else if task.title().trim().is_empty() {
        ("title", "is empty".to_owned(), "write what tables and figures should call the task".to_owned())
    } else {
        return Ok(());
    };
    Err(TaskError::Invalid { file: file.to_owned(), field: field.to_owned(), problem, fix })
}

struct Checker<'a> {
    task: &'a NameTask,
    file: &'a str,
}

/// Every check, in the order of the file.
pub(super) fn task(task: &NameTask, file: &str) -> Result<(), TaskError> {
    let checker = Checker { task, file };
    checker.names()?;
    checker.fillers()?;
    checker.templates()?;
    checker.published()
}

impl Checker<'_> {
    fn fail<T>(
        &self,
        field: impl Into<String>,
        problem: impl Into<String>,
        fix: impl Into<String>,
    ) -> Result<T, TaskError> {
        Err(TaskError::Invalid {
            file: self.file.to_owned(),
            field: field.into(),
            problem: problem.into(),
            fix: fix.into(),
        })
    }

    fn too_many(&self, field: &str, n: usize, most: usize) -> Result<(), TaskError> {
        self.fail(field, format!("has {n} entries"), format!("at most {most} are allowed: leave some out"))
    }

    fn names(&self) -> Result<(), TaskError> {
        let names = &self.task.names;
        self.words("names.pool", &names.pool)?;
        let n_names = names.pool.len() + names.partner_pool.len();
        if n_names > MAX_NAMES {
            return self.too_many("names", n_names, MAX_NAMES);
        }
        let one_list = names.partner_pool.is_empty();
        let fewest = if one_list { MIN_IN_ALL } else { MIN_PER_LIST };
        for (field, list) in [("names.pool", &names.pool), ("names.partner_pool", &names.partner_pool)] {
            if list.len() < fewest && !(one_list && field == "names.partner_pool") {
                return self.fail(
                    field,
                    format!("has {}, and at least {fewest} are needed", counted(list.len(), "name", "names")),
                    "add names: a prompt takes two, and resampling replaces them by two others",
                );
            }
        }
        if !one_list {
            self.words("names.partner_pool", &names.partner_pool)?;
        }
        if let Some(both) = names.partner_pool.iter().find(|name| names.pool.contains(name)) {
            return self.fail(
                "names.partner_pool",
                format!("{both:?} is in names.pool too"),
                "a prompt takes one name from each list: keep it in one of them",
            );
        }
        if names.pair_step == 0 || names.pair_step > names.pool.len() {
            return self.fail(
                "names.pair_step",
                format!("{} is not between 1 and {}", names.pair_step, names.pool.len()),
                "use 1 to allow every pair of names, or a small number to allow one pair in so many",
            );
        }
        if names.min_usable < MIN_IN_ALL {
            return self.fail(
                "names.min_usable",
                format!("{} is below {MIN_IN_ALL}", names.min_usable),
                "a prompt takes two names, and resampling replaces them by two others",
            );
        }
        Ok(())
    }

    fn fillers(&self) -> Result<(), TaskError> {
        let n_fillers = self.task.fillers.values().map(Vec::len).sum();
        if n_fillers > MAX_FILLERS {
            return self.too_many("fillers", n_fillers, MAX_FILLERS);
        }
        for (filler, list) in &self.task.fillers {
            let field = format!("fillers.{filler}");
            if Role::ALL.iter().any(|role| role.as_str() == filler) {
                return self.fail(field, "is the placeholder of a name", "give the list another name");
            }
            if !is_word(filler) {
                return self.fail(
                    field,
                    "is not a placeholder's name",
                    "use lower-case letters, digits and underscores, a letter first",
                );
            }
            if list.is_empty() {
                return self.fail(field, "is empty", "give at least one word, or remove the list");
            }
            self.words(&field, list)?;
            if !self.task.templates.iter().any(|template| template.text.fillers().contains(&filler.as_str()))
            {
                return self.fail(
                    field,
                    format!("no template has {{{filler}}}"),
                    "use it in a template, or remove the list",
                );
            }
            for word in list {
                self.no_name_in(&field, word, self.task.names.all())?;
            }
        }
        Ok(())
    }

    fn templates(&self) -> Result<(), TaskError> {
        if self.task.templates.is_empty() {
            return self.fail("templates", "is empty", "write at least one [[templates]]");
        }
        let mut ids = BTreeSet::new();
        let mut texts = BTreeSet::new();
        for (i, template) in self.task.templates.iter().enumerate() {
            if !is_word(&template.id) {
                return self.fail(
                    format!("templates[{i}].id"),
                    format!("{:?} is not a short name", template.id),
                    "use lower-case letters, digits and underscores, a letter first",
                );
            }
            if !ids.insert(&template.id) {
                return self.fail(
                    format!("templates[{i}].id"),
                    format!("{:?} is the id of an earlier template", template.id),
                    "give each template its own id",
                );
            }
            let field = format!("templates[{i}].text (id {:?})", template.id);
            if !texts.insert(template.text.as_str()) {
                return self.fail(field, "is the text of an earlier template", "remove one of the two");
            }
            self.pattern(&field, &template.text)?;
            for filler in template.text.fillers() {
                if !self.task.fillers.contains_key(filler) {
                    let known = ["first", "second", "repeated"]
                        .into_iter()
                        .chain(self.task.fillers.keys().map(String::as_str))
                        .collect::<Vec<_>>();
                    return self.fail(
                        field,
                        format!("unknown placeholder {{{filler}}}"),
                        format!("known are {}; or add a list `{filler}` under [fillers]", known.join(", ")),
                    );
                }
            }
            self.no_name_in_pattern(&field, &template.text, self.task.names.all())?;
        }
        Ok(())
    }

    fn published(&self) -> Result<(), TaskError> {
        let Some(published) = &self.task.published else { return Ok(()) };
        self.pattern("published.text", &published.text)?;
        if let Some(filler) = published.text.fillers().first() {
            return self.fail(
                "published.text",
                format!("has the filler {{{filler}}}"),
                "the published form has names only: write the word itself",
            );
        }
        if published.n_prompts == 0 {
            return self.fail("published.n_prompts", "is 0", "write how many prompts the study drew");
        }
        if published.names.len() > MAX_NAMES {
            return self.too_many("published.names", published.names.len(), MAX_NAMES);
        }
        self.words("published.names", &published.names)?;
        if published.names.len() < MIN_PER_LIST {
            return self.fail(
                "published.names",
                format!(
                    "has {}, and at least {MIN_PER_LIST} are needed",
                    counted(published.names.len(), "name", "names")
                ),
                "add names",
            );
        }
        self.no_name_in_pattern("published.text", &published.text, published.names.iter().map(String::as_str))
    }

    /// Checks that each name is where it must be, and that the text ends where the answer begins.
    fn pattern(&self, field: &str, pattern: &Pattern) -> Result<(), TaskError> {
        let places: Vec<Role> = pattern
            .pieces()
            .iter()
            .filter_map(|piece| if let Piece::Name(role) = piece { Some(*role) } else { None })
            .collect();
        for role in Role::ALL {
            let count = places.iter().filter(|place| **place == role).count();
            if count == 0 {
                let fix =
                    "a prompt names two people, {first} and {second}, and then one of them again, {repeated}";
                return self.fail(field, format!("{{{}}} is missing", role.as_str()), fix);
            }
            if count > 1 && role != Role::Repeated {
                let fix = "write {repeated} where one of the two is mentioned again";
                return self.fail(field, format!("{{{}}} occurs {count} times", role.as_str()), fix);
            }
        }
        if !places.is_sorted() {
            return self.fail(
                field,
                "names are out of order",
                "{first} comes before {second}, {repeated} after both",
            );
        }
        let mut before = "";
        for piece in pattern.pieces() {
            if let Piece::Name(role) = piece
                && !before.ends_with(' ')
            {
                return self.fail(
                    field,
                    format!("there is no space before {{{}}}", role.as_str()),
                    "a name must be the same token as in the answer, which follows a space: \
                     start the text with a word, or with a space",
                );
            }
            before = if let Piece::Text(text) = piece { text } else { "" };
        }
        if pattern.as_str().ends_with(char::is_whitespace) {
            return self.fail(
                field,
                "ends in white space",
                "end it right after its last word: the answer brings its own space",
            );
        }
        if pattern.as_str().contains(char::is_control) {
            return self.fail(
                field,
                "has a line break, a tab or a control character",
                "write it on one line",
            );
        }
        Ok(())
    }

    fn words(&self, field: &str, list: &[String]) -> Result<(), TaskError> {
        words(list).or_else(|(problem, fix)| self.fail(field, problem, fix))
    }

    fn no_name_in_pattern<'n>(
        &self,
        field: &str,
        pattern: &Pattern,
        names: impl Iterator<Item = &'n str> + Clone,
    ) -> Result<(), TaskError> {
        pattern.pieces().iter().try_for_each(|piece| match piece {
            Piece::Text(text) => self.no_name_in(field, text, names.clone()),
            _ => Ok(()),
        })
    }

    /// A name in the surrounding text would be an unknown mention.
    fn no_name_in<'n>(
        &self,
        field: &str,
        text: &str,
        mut names: impl Iterator<Item = &'n str>,
    ) -> Result<(), TaskError> {
        match names.find(|name| has_whole_word(text, name)) {
            Some(name) => self.fail(
                field,
                format!("{name:?} is one of the names, and occurs in {text:?}"),
                "choose another word, or remove the name",
            ),
            None => Ok(()),
        }
    }
}

/// Checks that no word of a list is empty, padded, duplicate or has braces; otherwise returns the problem and
/// the fix.
pub(super) fn words(list: &[String]) -> Result<(), (String, &'static str)> {
    let mut seen = BTreeSet::new();
    for word in list {
        if word.is_empty()
            || word.trim() != word
            || word.contains(['{', '}'])
            || word.contains(char::is_control)
        {
            let problem = format!("{word:?} is empty, or has space around it, braces or control characters");
            return Err((problem, "write the bare word"));
        }
        if !seen.insert(word) {
            return Err((format!("{word:?} occurs twice"), "remove one of them"));
        }
    }
    Ok(())
}

/// Where `word` occurs in `text` with no letter or digit on either side, as byte offsets.
pub(crate) fn whole_words(text: &str, word: &str) -> impl Iterator<Item = usize> {
    text.match_indices(word).map(|(start, _)| start).filter(move |&start| {
        let before = text[..start].chars().next_back();
        let after = text[start + word.len()..].chars().next();
        !before.is_some_and(char::is_alphanumeric) && !after.is_some_and(char::is_alphanumeric)
    })
}

/// Whether `word` occurs in `text` with no letter or digit on either side.
pub(crate) fn has_whole_word(text: &str, word: &str) -> bool {
    whole_words(text, word).next().is_some()
}

#[cfg(test)]
mod tests {
    use super::has_whole_word;

    #[test]
    fn whole_words_only() {
        assert!(has_whole_word("in May.", "May"));
        assert!(has_whole_word("May", "May"));
        assert!(!has_whole_word("Mayor and Maybe", "May"));
        assert!(!has_whole_word("the market", "Mark"));
    }
}
