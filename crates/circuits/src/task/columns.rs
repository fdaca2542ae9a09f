//! The columns of a file of prompts, with their names here and in other tools.

/// The content of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    /// The prompt.
    Clean,
    /// The corrupted prompt.
    Corrupted,
    /// The correct answer.
    Correct,
    /// The answer with which it is compared.
    Distractor,
    /// Stratum and cluster.
    Group,
    /// `discovery` or `held_out`.
    Split,
    /// How many times the prompt counts.
    Weight,
    /// Whether there is a space between prompt and answer.
    Space,
}

impl Field {
    /// All fields, in the order of their values.
    pub(super) const ALL: [Self; 8] = [
        Self::Clean,
        Self::Corrupted,
        Self::Correct,
        Self::Distractor,
        Self::Group,
        Self::Split,
        Self::Weight,
        Self::Space,
    ];

    /// The fields that every file has.
    pub(super) const NEEDED: [Self; 3] = [Self::Clean, Self::Correct, Self::Distractor];

    /// The column's names: its own first, then those of other tools.
    pub(super) fn names(self) -> &'static [&'static str] {
        match self {
            Self::Clean => &["clean", "prompt", "clean_prompt", "clean_text", "text", "input"],
            Self::Corrupted => &[
                "corrupted",
                "corrupt",
                "corrupted_prompt",
                "corrupt_prompt",
                "corrupted_text",
                "counterfactual",
                "counterfactual_prompt",
            ],
            Self::Correct => {
                &["correct", "answer", "answers", "label", "target", "correct_answer", "clean_answer"]
            }
            Self::Distractor => &[
                "distractor",
                "incorrect",
                "wrong",
                "wrong_answer",
                "wrong_answers",
                "incorrect_answer",
                "corrupted_answer",
                "counterfactual_answer",
                "foil",
            ],
            Self::Group => &["group", "template", "template_id"],
            Self::Split => &["split"],
            Self::Weight => &["weight"],
            Self::Space => &["space"],
        }
    }

    /// The column's own name.
    pub(super) fn name(self) -> &'static str {
        self.names()[0]
    }

    /// The field with this column title, ignoring case, spaces and hyphens.
    pub(super) fn of(title: &str) -> Option<Self> {
        let title = title.trim().to_lowercase().replace([' ', '-'], "_");
        Self::ALL.into_iter().find(|field| field.names().contains(&title.as_str()))
    }
}

/// Why a file with these columns cannot be used: the problem and the fix.
pub(super) fn check(titles: &[&str]) -> Result<(), (String, String)> {
    for field in Field::ALL {
        let mut of_field = titles.iter().filter(|title| Field::of(title) == Some(field));
        if let (Some(first), Some(second)) = (of_field.next(), of_field.next()) {
            let problem = format!("the columns `{first}` and `{second}` both mean `{}`", field.name());
            return Err((problem, "keep one of them".to_owned()));
        }
    }
    let missing: Vec<&str> = Field::NEEDED
        .into_iter()
        .filter(|f| !titles.iter().any(|t| Field::of(t) == Some(*f)))
        .map(Field::name)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let is_ids = |title: &&&str| title.trim().ends_with("_idx") || title.trim().ends_with("_id");
    if let Some(ids) = titles.iter().find(|title| is_ids(title) && Field::of(title).is_none()) {
        let problem = format!("no column `{}`; `{ids}` holds numbers of one tokenizer", missing[0]);
        return Err((problem, "write the answers as text in columns `correct` and `distractor`".to_owned()));
    }
    let all = Field::ALL.map(Field::name).join(", ");
    let shown: Vec<String> = titles.iter().take(8).map(|title| format!("`{title}`")).collect();
    let problem = format!("no column `{}` (its columns are {})", missing.join("`, `"), shown.join(", "));
    Err((
        problem,
        format!(
            "the first line names the columns {all}, separated by commas; the first, third and fourth are required"
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::Field;

    #[test]
    fn no_name_means_two_fields() {
        let names: Vec<&str> = Field::ALL.iter().flat_map(|field| field.names()).copied().collect();
        let different: std::collections::BTreeSet<&str> = names.iter().copied().collect();
        assert_eq!(names.len(), different.len());
        assert_eq!(Field::of(" Clean Prompt"), Some(Field::Clean));
        assert_eq!(Field::of("correct_idx"), None);
    }
}
