//! The dictionary of all tables and columns, `tables.txt`: the source of `docs/tables.md` and of explanations on the page.
//!
//! `tables.txt` has a section per table: `## name`, one line about the table, then its columns in order, each with its meaning
//! after a colon. Columns that many tables share are listed by name only and explained in the section `shared`. `{low,high}`
//! stands for either word. In names, `<task>` stands for each task of a contrast (`ioi` and `anti` in the published pair),
//! `<category>` for each category, `<contrast>` for the two tasks, `<tau>` for a threshold. `= table` includes another table's
//! columns.

use std::fmt::Write;

const TEXT: &str = include_str!("tables.txt");

/// A table's entry in the dictionary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableMeaning {
    /// Its name, with placeholders; for a table of a contrast, the published pair's name.
    pub name: &'static str,
    /// Its contents, and what a row is.
    pub what: &'static str,
    /// Columns and their meanings, in order.
    pub columns: Vec<(&'static str, &'static str)>,
}

/// All tables, in reading order.
#[must_use]
pub fn tables() -> Vec<TableMeaning> {
    let mut sections = TEXT.split("\n## ").skip(1);
    let lines = |section: &'static str| section.lines().filter(|line| !line.is_empty());
    let shared: Vec<(&str, &str)> =
        sections.next().map(lines).into_iter().flatten().filter_map(|line| line.split_once(": ")).collect();
    let meaning = |name: &str| shared.iter().find(|(known, _)| *known == name).map_or("", |(_, text)| *text);
    let mut tables: Vec<TableMeaning> = Vec::new();
    for section in sections {
        let mut lines = lines(section);
        let (name, what) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
        let mut columns = Vec::new();
        for line in lines {
            if let Some(other) = line.strip_prefix("= ") {
                let known = |column: &&(&str, &str)| columns.iter().all(|(name, _)| *name != column.0);
                let other = tables.iter().find(|table| table.name == other);
                let more: Vec<_> = other.iter().flat_map(|t| &t.columns).filter(known).copied().collect();
                columns.extend(more);
            } else if let Some(column) = line.split_once(": ") {
                columns.push(column);
            } else {
                columns.extend(line.split(' ').map(|name| (name, meaning(name))));
            }
        }
        tables.push(TableMeaning { name, what, columns });
    }
    tables
}

/// The entry of the table with this file stem, for any contrast and stream.
#[must_use]
pub fn find(stem: &str) -> Option<TableMeaning> {
    let streams = ["", "_z", "_q", "_k", "_pattern"];
    let is_it = |table: &TableMeaning| {
        streams.iter().filter_map(|stream| stem.strip_suffix(stream)).any(|stem| table.is_called(stem))
    };
    // The longest match wins.
    tables().into_iter().filter(is_it).max_by_key(|table| table.name.len())
}

/// One line about the table with this file stem.
#[must_use]
pub fn describe(stem: &str) -> Option<&'static str> {
    find(stem).map(|table| table.what)
}

impl TableMeaning {
    /// Whether a file with this stem has the table, of the published contrast or, with a prefix, of another one.
    fn is_called(&self, stem: &str) -> bool {
        match self.name.split_once('<') {
            Some((before, after)) => {
                let after = after.split_once('>').map_or("", |(_, after)| after);
                stem.starts_with(before) && stem.ends_with(after) && stem.len() > before.len() + after.len()
            }
            None => stem == self.name || stem.strip_suffix(self.name).is_some_and(|rest| rest.ends_with('_')),
        }
    }

    /// The meaning of the column `name` in a table whose tasks have the keys `keys` and whose categories are `categories`.
    #[must_use]
    pub fn column(&self, name: &str, keys: [&str; 2], categories: &[String]) -> Option<&'static str> {
        let alternatives = |placeholder: &str| -> Vec<String> {
            match placeholder {
                "task" => keys.map(str::to_owned).to_vec(),
                "category" => categories.to_vec(),
                _ => Vec::new(),
            }
        };
        let is_it = |(pattern, _): &&(&str, &str)| matches(pattern, name, &alternatives);
        self.columns.iter().find(is_it).map(|(_, text)| *text)
    }

    /// The table's section of the dictionary, in Markdown.
    #[must_use]
    pub fn to_markdown(&self) -> String {
        let mut text =
            format!("## {}\n\n{}\n\n| column | meaning |\n|---|---|\n", code(self.name), self.what);
        for (name, meaning) in &self.columns {
            let meaning = meaning.replace('|', "\\|");
            let _ = writeln!(text, "| {} | {meaning} |", code(name));
        }
        text
    }
}

fn code(name: &str) -> String {
    format!("`{name}`")
}

/// Whether a name matches a pattern with placeholders and alternatives.
fn matches(pattern: &str, name: &str, alternatives: &dyn Fn(&str) -> Vec<String>) -> bool {
    let Some(open) = pattern.find(['<', '{']) else { return pattern == name };
    let Some(name) = name.strip_prefix(&pattern[..open]) else { return false };
    let (close, is_words) = if pattern[open..].starts_with('{') { ('}', true) } else { ('>', false) };
    let Some((inside, rest)) = pattern[open + 1..].split_once(close) else { return false };
    let words: Vec<String> = match (is_words, inside) {
        (true, words) => words.split(',').map(str::to_owned).collect(),
        // A threshold is any number.
        (false, "tau") => return rest.is_empty() && name.parse::<f64>().is_ok(),
        (false, placeholder) => alternatives(placeholder),
    };
    words.iter().any(|word| name.strip_prefix(word).is_some_and(|name| matches(rest, name, alternatives)))
}

/// The whole dictionary, in Markdown.
#[must_use]
pub fn to_markdown() -> String {
    let mut text = String::from(
        "# The tables of a study\n\n`paper/tables` has each table as CSV, and `paper/tables/parquet` as Parquet with typed columns. Empty cells are \
         missing values. `circuit-scaling tables` prints this page, and `circuit-scaling tables head_effects` a single table.\n\nIn names, `<task>` stands for \
         each of the two tasks of a contrast (`ioi` and `anti` for IOI and anti-repeat, else the task's name), `<category>` for `<task>_only` of \
         each, `shared` and `weak`, `<contrast>` for both tasks, `<tau>` for a threshold, and `{low,high}` for either word. Tables of \
         contrasts other than IOI and anti-repeat start with their tasks: `ioi_induction_dissociation`. Tables of tracing end in the patched \
         stream if it is not `v`: `hero_head_causal_summary_z`.\n\n",
    );
    for table in tables() {
        let anchor: String = table.name.chars().filter(|c| c.is_alphanumeric() || *c == '_').collect();
        let _ = writeln!(text, "- [{}](#{anchor}): {}", code(table.name), table.what);
    }
    for table in tables() {
        text.push('\n');
        text += &table.to_markdown();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_has_a_name_and_a_meaning() {
        let tables = tables();
        assert!(tables.len() > 25, "{}", tables.len());
        for table in &tables {
            assert!(table.what.ends_with('.') && table.columns.len() > 3, "{table:?}");
            for (at, (name, meaning)) in table.columns.iter().enumerate() {
                assert!(!name.is_empty() && !meaning.is_empty(), "{} {name:?} {meaning:?}", table.name);
                assert!(table.columns[..at].iter().all(|(other, _)| other != name), "{} {name}", table.name);
            }
        }
    }

    #[test]
    fn tables_are_found_whatever_their_contrast() {
        let name = |stem| find(stem).map(|table| table.name);
        assert_eq!(name("head_effects"), Some("head_effects"));
        assert_eq!(name("joint_a-b_c_all"), Some("joint_<contrast>_all"));
        assert_eq!(name("ioi_induction_scaling_laws"), Some("scaling_laws"));
        assert_eq!(name("dissociation_scaling"), Some("dissociation_scaling"));
        assert_eq!(name("ioi_induction_induction_transfer_matched"), Some("<task>_transfer_matched"));
        assert_eq!(name("hero_head_causal_summary_pattern"), Some("hero_head_causal_summary"));
        assert_eq!(name("my_own_notes"), None);
    }

    #[test]
    fn columns_are_found_whatever_their_tasks() {
        let table = find("joint_x_y_all").unwrap();
        let categories = ["y_only", "x_only", "shared", "weak"].map(str::to_owned);
        let of = |name| table.column(name, ["x", "y"], &categories);
        assert!(of("held_out_delta_x_ci_low").is_some_and(|text| text.contains("interval")));
        assert!(of("prob_abs_delta_y_ge_0.05").is_some_and(|text| text.contains("threshold")));
        assert!(
            of("delta_z").is_none() && of("prob_abs_delta_y_ge_").is_none() && of("delta_x_ci_mid").is_none()
        );
    }
}
