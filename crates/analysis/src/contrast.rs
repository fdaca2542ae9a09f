//! A contrast: two tasks whose heads are compared with each other.
//!
//! Categories, correlations, hero heads, transfer, set ablation and dissociation all belong to a contrast. The published
//! study has one, IOI vs. anti-repeat, whose files keep the published names. Files of other contrasts are named after their
//! tasks, so that several contrasts can share a folder.

use std::fmt;

use crate::error::{AnalysisError, Result};
use crate::file_name::file_safe_name;

/// Task name of indirect object identification, in files and tables.
pub const IOI: &str = "ioi";
/// Task name of anti-repeat (copy suppression), in files and tables.
pub const ANTI_REPEAT: &str = "anti_repeat";

/// With up to this many tasks, every pair is a contrast by default.
pub const MOST_PAIRED_TASKS: usize = 4;

/// One of the two tasks of a contrast.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Side {
    /// The first.
    A,
    /// The second.
    B,
}

impl Side {
    /// Both, in order.
    pub const BOTH: [Self; 2] = [Self::A, Self::B];
}

/// The tasks that a head contributes to, by the size of its effects. [`Contrast::category`] gives the name in
/// tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Category {
    /// |Δ_b| ≥ τ only.
    OnlyB,
    /// |Δ_a| ≥ τ only.
    OnlyA,
    /// Both ≥ τ.
    Shared,
    /// Neither.
    Weak,
}

impl Category {
    /// All four, in the order of the tables.
    pub const ALL: [Self; 4] = [Self::OnlyB, Self::OnlyA, Self::Shared, Self::Weak];

    /// The task to which heads of this category are specific, if there is one.
    #[must_use]
    pub fn only(self) -> Option<Side> {
        match self {
            Self::OnlyA => Some(Side::A),
            Self::OnlyB => Some(Side::B),
            Self::Shared | Self::Weak => None,
        }
    }

    /// The category of a head with these effects.
    #[must_use]
    pub fn of(deltas: [f64; 2], tau: f64) -> Self {
        Self::at(deltas, [tau, tau])
    }

    /// The category with a threshold for each task.
    #[must_use]
    pub fn at([a, b]: [f64; 2], [tau_a, tau_b]: [f64; 2]) -> Self {
        match (a.abs() >= tau_a, b.abs() >= tau_b) {
            (true, true) => Self::Shared,
            (true, false) => Self::OnlyA,
            (false, true) => Self::OnlyB,
            (false, false) => Self::Weak,
        }
    }

    /// Whether heads of this category contribute to a task.
    #[must_use]
    pub fn works_on(self, side: Side) -> bool {
        self == Self::Shared || self.only() == Some(side)
    }
}

/// Two different tasks, in order.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Contrast {
    tasks: [String; 2],
}

impl Contrast {
    /// The contrast of two tasks, named as in result files. The published pair always has the same order.
    ///
    /// # Errors
    /// If both are the same task, or a name is empty.
    pub fn new(a: &str, b: &str) -> Result<Self> {
        let fault = |problem| Err(AnalysisError::Option { option: "--contrast", problem });
        if a == b {
            return fault(format!("`{a}` is contrasted with itself"));
        }
        if a.is_empty() || b.is_empty() {
            return fault(format!("`{a}:{b}` lacks a task: name two, such as {IOI}:{ANTI_REPEAT}"));
        }
        let tasks = if (a, b) == (ANTI_REPEAT, IOI) { [b, a] } else { [a, b] };
        Ok(Self { tasks: tasks.map(str::to_owned) })
    }

    /// That of the published study: IOI and anti-repeat.
    #[must_use]
    pub fn published() -> Self {
        Self { tasks: [IOI, ANTI_REPEAT].map(str::to_owned) }
    }

    /// Parses `A:B`; task names may use `-` for `_`, as on the command line.
    ///
    /// # Errors
    /// If the text has another form.
    pub fn parse(text: &str) -> Result<Self> {
        match text.split(':').collect::<Vec<_>>()[..] {
            [a, b] => {
                let name = |task: &str| task.trim().replace('-', "_");
                Self::new(&name(a), &name(b))
            }
            _ => Err(AnalysisError::Option {
                option: "--contrast",
                problem: format!("`{text}` is not A:B, two tasks such as {IOI}:{ANTI_REPEAT}"),
            }),
        }
    }

    /// The contrasts of a study's `tasks`: those in `asked`, else the published pair if the study has both of its tasks,
    /// else every pair of the first [`MOST_PAIRED_TASKS`].
    ///
    /// # Errors
    /// If a requested contrast is not `A:B`, is given twice, or has a task that the study lacks.
    pub fn choose<S: AsRef<str>>(asked: &[S], tasks: &[String]) -> Result<Vec<Self>> {
        let has = |task: &str| tasks.iter().any(|t| t == task);
        if asked.is_empty() {
            if has(IOI) && has(ANTI_REPEAT) {
                return Ok(vec![Self::published()]);
            }
            let first = &tasks[..tasks.len().min(MOST_PAIRED_TASKS)];
            let pairs =
                first.iter().enumerate().flat_map(|(at, a)| first[at + 1..].iter().map(move |b| (a, b)));
            return pairs.map(|(a, b)| Self::new(a, b)).collect();
        }
        let mut contrasts: Vec<Self> = Vec::with_capacity(asked.len());
        for text in asked {
            let contrast = Self::parse(text.as_ref())?;
            let fault = |problem| Err(AnalysisError::Option { option: "--contrast", problem });
            if let Some(missing) = contrast.tasks.iter().find(|task| !has(task)) {
                let known = tasks.join(", ");
                return fault(format!("`{contrast}`: the study has no task `{missing}`; it has {known}"));
            }
            if contrasts.iter().any(|known| known.tasks.iter().all(|task| contrast.tasks.contains(task))) {
                return fault(format!("the tasks of `{contrast}` are contrasted twice: name each pair once"));
            }
            contrasts.push(contrast);
        }
        Ok(contrasts)
    }

    /// Whether this is the contrast of the published study.
    #[must_use]
    pub fn is_published(&self) -> bool {
        self.tasks == [IOI, ANTI_REPEAT]
    }

    /// Name of one of the tasks, as in result files.
    #[must_use]
    pub fn task(&self, side: Side) -> &str {
        &self.tasks[side as usize]
    }

    /// Names of both tasks, in order.
    #[must_use]
    pub fn tasks(&self) -> [&str; 2] {
        self.tasks.each_ref().map(String::as_str)
    }

    /// Name of one of the tasks in the names of columns: the task's own, but `anti` for anti-repeat in the published pair.
    #[must_use]
    pub fn key(&self, side: Side) -> &str {
        if self.is_published() { ["ioi", "anti"][side as usize] } else { self.task(side) }
    }

    /// Both [keys](Self::key), in order.
    #[must_use]
    pub fn keys(&self) -> [&str; 2] {
        Side::BOTH.map(|side| self.key(side))
    }

    /// The name of a category in tables: `<key>_only`, `shared`, `weak`.
    #[must_use]
    pub fn category(&self, category: Category) -> String {
        match category.only() {
            Some(side) => format!("{}_only", self.key(side)),
            None if category == Category::Shared => "shared".to_owned(),
            None => "weak".to_owned(),
        }
    }

    /// The category named `name` in tables.
    #[must_use]
    pub fn category_named(&self, name: &str) -> Option<Category> {
        Category::ALL.into_iter().find(|&category| self.category(category) == name)
    }

    /// Both tasks as part of a file name, unique to the contrast. Task names contain no `-`, so it separates them
    /// unambiguously where `_` would not.
    #[must_use]
    pub fn stem(&self) -> String {
        let [a, b] = self.tasks.each_ref().map(|task| file_safe_name(task));
        let between = if a.contains(['_', '-']) { '-' } else { '_' };
        format!("{a}{between}{b}")
    }

    /// The subfolder for files of this contrast whose names are the same for all contrasts; none for the published pair,
    /// whose files are at the top.
    #[must_use]
    pub fn folder(&self) -> Option<String> {
        (!self.is_published()).then(|| self.stem())
    }

    /// Name of a table of this contrast, without `.csv`, given the name of the published pair's table. For other
    /// contrasts it starts with the contrast's stem, so it is unique.
    #[must_use]
    pub fn table(&self, published: &str) -> String {
        if self.is_published() { published.to_owned() } else { format!("{}_{published}", self.stem()) }
    }

    /// Name of the joint table: `joint_<a>_<b>_all`.
    #[must_use]
    pub fn joint_table(&self) -> String {
        format!("joint_{}_all", self.stem())
    }

    /// Name of the table of categories: `joint_<a>_<b>_heads`.
    #[must_use]
    pub fn heads_table(&self) -> String {
        format!("joint_{}_heads", self.stem())
    }
}

impl fmt::Display for Contrast {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.tasks[0], self.tasks[1])
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn names(contrasts: &[Contrast]) -> Vec<String> {
        contrasts.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_published_pair_keeps_its_names() {
        let published = Contrast::published();
        assert_eq!(published.joint_table(), "joint_ioi_anti_repeat_all");
        assert_eq!(published.heads_table(), "joint_ioi_anti_repeat_heads");
        assert_eq!(published.table("audit"), "audit");
        assert_eq!(published.keys(), ["ioi", "anti"]);
        let categories = Category::ALL.map(|c| published.category(c));
        assert_eq!(categories, ["anti_only", "ioi_only", "shared", "weak"]);
        assert_eq!(Contrast::parse("anti-repeat:ioi").unwrap(), published);
    }

    #[test]
    fn contrasts_are_chosen_by_name_or_by_default() {
        let tasks = |n: usize| ["a", "b", "c", "d", "e"].map(String::from)[..n].to_vec();
        let choose = |asked: &[&str], tasks: &[String]| Contrast::choose(asked, tasks);
        assert!(choose(&[], &tasks(1)).unwrap().is_empty());
        assert_eq!(names(&choose(&[], &tasks(3)).unwrap()), ["a:b", "a:c", "b:c"]);
        assert_eq!(choose(&[], &tasks(5)).unwrap().len(), 6);
        let study: Vec<String> = ["x", "anti_repeat", "ioi"].map(String::from).to_vec();
        assert_eq!(names(&choose(&[], &study).unwrap()), ["ioi:anti_repeat"]);
        assert_eq!(names(&choose(&["x:ioi", "anti-repeat:x"], &study).unwrap()), ["x:ioi", "anti_repeat:x"]);
        for (bad, why) in [
            (&["a"][..], "not A:B"),
            (&["a:b:c"], "not A:B"),
            (&["a:a"], "itself"),
            (&["a:"], "lacks a task"),
            (&["a:z"], "no task `z`"),
            (&["a:b", "b:a"], "twice"),
        ] {
            let error = choose(bad, &tasks(3)).unwrap_err().to_string();
            assert!(error.contains("--contrast") && error.contains(why), "{error}");
        }
    }

    /// Tasks whose names share words, in every way that could be misread as another pair.
    #[test]
    fn no_two_contrasts_share_a_file() {
        let words = [
            "a",
            "b",
            "a_b",
            "b_a",
            "a_b_a",
            "ioi",
            "anti_repeat",
            "ioi_anti",
            "repeat",
            "all",
            "audit",
            "joint",
        ];
        let tables =
            ["audit", "tau_sweep", "transfer_tests", "scaling_laws", "dissociation", "dissociation_scaling"];
        let mut seen = HashSet::new();
        let mut n = 0;
        for a in words {
            for b in words.into_iter().filter(|b| *b != a && (a, *b) != (ANTI_REPEAT, IOI)) {
                let contrast = Contrast::new(a, b).unwrap();
                let names = tables.iter().map(|table| contrast.table(table));
                for name in names.chain([contrast.joint_table(), contrast.heads_table()]) {
                    n += 1;
                    assert!(seen.insert(name.clone()), "{contrast}: {name}");
                }
            }
        }
        assert_eq!(seen.len(), n);
    }
}
