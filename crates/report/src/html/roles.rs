//! Roles of heads and self-repair as data of the page.

use cs_analysis::effects::ModelEffects;
use cs_analysis::role_tables::{BEST, RoleCount, role_counts};
use cs_analysis::roles::{HeadRole, RoleScore, RolesFile};
use cs_analysis::study::Study;
use serde_json::{Value, json};

use super::data::number;
use crate::extras::Extras;

/// The names of the roles, in order, and which of their scores are shares of attention.
pub(super) fn roles() -> Value {
    json!(HeadRole::ALL.map(|role| json!({ "label": role.label(), "is_share": role.is_share() })))
}

/// The roles of a model: the number of heads and the best heads for each role and task. Null if roles were not measured. Roles
/// scored on random tokens have no task.
pub(super) fn of_model(study: &Study, extras: &Extras, model: &ModelEffects) -> Value {
    let Some(file) = roles_file(extras, model) else { return Value::Null };
    let tau = study.options.tau;
    let of_role = |count: RoleCount| {
        let mut scores = known_scores(file, &count);
        let value = |s: &RoleScore| s.score.value.unwrap_or(f64::NEG_INFINITY);
        scores.sort_by(|a, b| value(b).total_cmp(&value(a)));
        let best = scores.iter().take(BEST).map(|s| {
            let score = [s.score.value, s.score.low, s.score.high].map(number);
            json!([s.head.0, s.head.1, score, s.plays(count.role, tau)])
        });
        json!({
            "role": count.role as usize, "task": task_place(study, count.task), "n": count.n, "n_heads": count.n_scored,
            "best": best.collect::<Vec<_>>(),
        })
    };
    role_counts(std::slice::from_ref(file), tau).into_iter().map(of_role).collect()
}

/// The roles of each head of `rows`, as indices of role and task with the score in thousandths. Null if roles were not measured.
pub(super) fn of_heads(study: &Study, extras: &Extras, model: &ModelEffects, rows: &[(u32, u32)]) -> Value {
    let Some(file) = roles_file(extras, model) else { return Value::Null };
    let tau = study.options.tau;
    let mut of_heads: Vec<Vec<Value>> = vec![vec![]; rows.len()];
    for count in role_counts(std::slice::from_ref(file), tau) {
        for score in known_scores(file, &count).iter().filter(|s| s.plays(count.role, tau)) {
            if let Ok(row) = rows.binary_search(&score.head) {
                let thousandths = score.score.value.map(|v| (1000.0 * v).round());
                of_heads[row].push(json!([count.role as usize, task_place(study, count.task), thousandths]));
            }
        }
    }
    json!(of_heads)
}

fn roles_file<'a>(extras: &'a Extras, model: &ModelEffects) -> Option<&'a RolesFile> {
    extras.roles.iter().find(|f| f.origin.model == model.info.model)
}

fn task_place(study: &Study, task: &str) -> Option<usize> {
    study.effects.tasks.iter().position(|t| t == task)
}

fn known_scores(file: &RolesFile, count: &RoleCount) -> Vec<RoleScore> {
    let mut scores = file.scores(count.role, count.task);
    scores.retain(|s| s.score.value.is_some());
    scores
}

/// Self-repair in a model: for each task its share with bounds, and the number of heads; null if unknown.
pub(super) fn repair(study: &Study, model: &ModelEffects) -> Vec<Value> {
    let of_task = |task: &String| {
        let own = study.repairs.iter().find(|r| r.info.model == model.info.model && r.task == *task);
        own.map_or(Value::Null, |r| {
            let repaired = r.repair.repaired;
            json!([number(repaired.value), number(repaired.low), number(repaired.high), r.repair.n_heads])
        })
    };
    study.effects.tasks.iter().map(of_task).collect()
}
