//! Tables of the roles of heads.

use crate::origin::Origin;
use crate::ranged::Ranged;
use crate::roles::{HeadRole, PatternScores, REPEATED_TOKENS, RoleScore, RolesFile, TaskScores};
use crate::table::Table;

/// Stem of the table of every head's scores.
pub const HEAD_ROLES: &str = "head_roles";
/// Stem of the table of the best heads of each role.
pub const BEST_HEADS: &str = "best_heads_per_role";
/// Stem of the table of how many heads play each role.
pub const ROLE_COUNTS: &str = "head_role_counts";
/// Heads listed for each role.
pub const BEST: usize = 5;

/// How many heads of a model play a role.
#[derive(Debug, Clone, PartialEq)]
pub struct RoleCount<'a> {
    /// The model.
    pub origin: &'a Origin,
    /// The task, or [`REPEATED_TOKENS`].
    pub task: &'a str,
    /// The role.
    pub role: HeadRole,
    /// Heads that play it.
    pub n: usize,
    /// Heads that have a score for it.
    pub n_scored: usize,
}

/// The tasks on which a role is scored in a file.
fn tasks_of(file: &RolesFile, role: HeadRole) -> Vec<&str> {
    match role.is_of_repeated_tokens() {
        true if file.heads.is_empty() => vec![],
        true => vec![REPEATED_TOKENS],
        false => file.tasks.iter().map(|t| t.task.as_str()).collect(),
    }
}

/// Each role of each model, on each of its tasks, with every head's score.
fn all_scores(files: &[RolesFile]) -> Vec<(&RolesFile, &str, HeadRole, Vec<RoleScore>)> {
    let mut all = Vec::new();
    for file in files {
        for role in HeadRole::ALL {
            for task in tasks_of(file, role) {
                all.push((file, task, role, file.scores(role, task)));
            }
        }
    }
    all
}

/// How many heads play each role, for roles with at least one score.
#[must_use]
pub fn role_counts(files: &[RolesFile], tau: f64) -> Vec<RoleCount<'_>> {
    let mut counts = Vec::new();
    for (file, task, role, scores) in all_scores(files) {
        let n_scored = scores.iter().filter(|s| s.score.value.is_some()).count();
        let n = scores.iter().filter(|s| s.plays(role, tau)).count();
        if n_scored > 0 {
            counts.push(RoleCount { origin: &file.origin, task, role, n, n_scored });
        }
    }
    counts
}

/// All role tables of these models, at a threshold `tau` for effects.
#[must_use]
pub fn role_tables(files: &[RolesFile], tau: f64) -> [Table; 3] {
    [head_roles_table(files, tau), best_heads_table(files, tau), counts_table(files, tau)]
}

/// A row per model, task and head.
fn head_roles_table(files: &[RolesFile], tau: f64) -> Table {
    struct Row<'a> {
        origin: &'a Origin,
        task: &'a str,
        n_prompts: u64,
        pattern: Option<&'a PatternScores>,
        scores: &'a TaskScores,
        roles: String,
    }
    let mut rows: Vec<Row> = Vec::new();
    for file in files {
        for task in &file.tasks {
            let scores = HeadRole::ALL.map(|role| (role, file.scores(role, &task.task)));
            for (at, head) in task.heads.iter().enumerate() {
                let plays = |(role, scores): &(HeadRole, Vec<RoleScore>)| {
                    scores.get(at).filter(|s| s.plays(*role, tau)).map(|_| role.name())
                };
                rows.push(Row {
                    origin: &file.origin,
                    task: &task.task,
                    n_prompts: task.n_prompts,
                    pattern: file.heads.get(at),
                    scores: head,
                    roles: scores.iter().filter_map(plays).collect::<Vec<_>>().join(" "),
                });
            }
        }
    }
    let rows = || rows.iter();
    let mut table = Table::new(HEAD_ROLES)
        .text("family", rows().map(|r| r.origin.family.as_str()))
        .text("model", rows().map(|r| r.origin.model.as_str()))
        .text("task", rows().map(|r| r.task))
        .integer("layer", rows().map(|r| r.scores.layer))
        .integer("head", rows().map(|r| r.scores.head));
    type Of = fn(&Row) -> Ranged;
    let scores: [(&str, Of); 7] = [
        ("previous_token", |r| r.pattern.map_or_else(Ranged::default, |p| p.previous_token)),
        ("duplicate_token", |r| r.pattern.map_or_else(Ranged::default, |p| p.duplicate_token)),
        ("induction", |r| r.pattern.map_or_else(Ranged::default, |p| p.induction)),
        ("name_mover", |r| r.scores.name_mover),
        ("s_inhibition", |r| r.scores.s_inhibition),
        ("copy_suppression", |r| r.scores.copy_suppression),
        ("indirect", |r| r.scores.indirect),
    ];
    for (name, of) in scores {
        table = table
            .float(name, rows().map(|r| of(r).value))
            .float(format!("{name}_low"), rows().map(|r| of(r).low))
            .float(format!("{name}_high"), rows().map(|r| of(r).high));
    }
    table = table
        .float("attention_to_answer", rows().map(|r| r.scores.attention[0]))
        .float("attention_to_distractor", rows().map(|r| r.scores.attention[1]))
        .text("roles", rows().map(|r| Some(r.roles.as_str()).filter(|roles| !roles.is_empty())))
        .float("tau", rows().map(|_| tau))
        .integer("n_prompts", rows().map(|r| r.n_prompts as usize));
    Origin::columns(table, rows().map(|r| r.origin))
}

/// The [`BEST`] heads of each role, best first.
fn best_heads_table(files: &[RolesFile], tau: f64) -> Table {
    let mut rows: Vec<(&Origin, &str, HeadRole, usize, RoleScore)> = Vec::new();
    for (file, task, role, scores) in all_scores(files) {
        let mut best: Vec<RoleScore> = scores.into_iter().filter(|s| s.score.value.is_some()).collect();
        let value = |s: &RoleScore| s.score.value.unwrap_or(f64::NEG_INFINITY);
        // Ties keep their order.
        best.sort_by(|a, b| b.plays(role, tau).cmp(&a.plays(role, tau)).then(value(b).total_cmp(&value(a))));
        rows.extend(
            best.into_iter().take(BEST).enumerate().map(|(at, s)| (&file.origin, task, role, at + 1, s)),
        );
    }
    let rows = || rows.iter();
    let table = Table::new(BEST_HEADS)
        .text("family", rows().map(|r| r.0.family.as_str()))
        .text("model", rows().map(|r| r.0.model.as_str()))
        .text("task", rows().map(|r| r.1))
        .text("role", rows().map(|r| r.2.name()))
        .integer("rank", rows().map(|r| r.3))
        .integer("layer", rows().map(|r| r.4.head.0))
        .integer("head", rows().map(|r| r.4.head.1))
        .float("score", rows().map(|r| r.4.score.value))
        .float("score_low", rows().map(|r| r.4.score.low))
        .float("score_high", rows().map(|r| r.4.score.high))
        .boolean("plays_role", rows().map(|r| r.4.plays(r.2, tau)))
        .float("threshold", rows().map(|r| r.2.threshold(tau)));
    Origin::columns(table, rows().map(|r| r.0))
}

/// A row per model, task and role.
fn counts_table(files: &[RolesFile], tau: f64) -> Table {
    let counts = role_counts(files, tau);
    let rows = || counts.iter();
    let table = Table::new(ROLE_COUNTS)
        .text("family", rows().map(|c| c.origin.family.as_str()))
        .text("model", rows().map(|c| c.origin.model.as_str()))
        .float("params_m", rows().map(|c| c.origin.params_m))
        .text("task", rows().map(|c| c.task))
        .text("role", rows().map(|c| c.role.name()))
        .integer("n", rows().map(|c| c.n))
        .integer("n_heads", rows().map(|c| c.n_scored))
        .float("frac", rows().map(|c| c.n as f64 / c.n_scored as f64))
        .float("threshold", rows().map(|c| c.role.threshold(tau)));
    Origin::columns(table, rows().map(|c| c.origin))
}
