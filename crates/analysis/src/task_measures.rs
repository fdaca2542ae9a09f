//! One line per model and task: how well the task is done, and how concentrated it is in few heads. It needs no second
//! task.

use crate::effects::{HeadEffects, TaskHeads};
use crate::joint::ModelInfo;
use crate::model_measures::concentration;
use crate::table::Table;

/// Name of the table's file, without `.csv`.
pub const TASK_MEASURES: &str = "task_measures";

/// A model on a task.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskMeasures {
    /// The model.
    pub info: ModelInfo,
    /// The task.
    pub task: String,
    /// Heads measured.
    pub n_heads: usize,
    /// Of these, heads with |Δ| ≥ τ.
    pub n_strong: usize,
    /// Shares of Σ|Δ| held by the strongest 1% and 5% of the heads, participation ratio, and the ratio as a share of the
    /// heads.
    pub concentration: [Option<f64>; 4],
}

/// The measures of every model on every task that it was scanned on.
#[must_use]
pub fn task_measures(effects: &HeadEffects, tau: f64) -> Vec<TaskMeasures> {
    let of = |info: &ModelInfo, task: &TaskHeads| {
        let deltas = task.deltas();
        TaskMeasures {
            info: info.clone(),
            task: task.task.clone(),
            n_heads: deltas.len(),
            n_strong: deltas.iter().filter(|delta| delta.abs() >= tau).count(),
            concentration: concentration(&deltas),
        }
    };
    effects.models.iter().flat_map(|m| m.tasks.iter().map(move |task| of(&m.info, task))).collect()
}

/// The table [`TASK_MEASURES`].
#[must_use]
pub fn task_measures_table(effects: &HeadEffects, measures: &[TaskMeasures], tau: f64) -> Table {
    let rows = || measures.iter();
    let performance = || effects.models.iter().flat_map(|m| m.tasks.iter().map(|t| t.performance));
    Table::new(TASK_MEASURES)
        .text("family", rows().map(|m| m.info.family.as_str()))
        .text("model", rows().map(|m| m.info.model.as_str()))
        .float("params_m", rows().map(|m| m.info.params_m))
        .text("task", rows().map(|m| m.task.as_str()))
        .float("base_logit_diff", performance().map(|p| p.logit_diff))
        .float("base_logit_diff_low", performance().map(|p| p.logit_diff_low))
        .float("base_logit_diff_high", performance().map(|p| p.logit_diff_high))
        .float("accuracy", performance().map(|p| p.accuracy))
        .boolean("does_task", performance().map(|p| p.does_task()))
        .integer("n_heads", rows().map(|m| m.n_heads))
        .integer("n_strong", rows().map(|m| m.n_strong))
        .float("frac_strong", rows().map(|m| m.n_strong as f64 / m.n_heads as f64))
        .float("top_1pct_share", rows().map(|m| m.concentration[0]))
        .float("top_5pct_share", rows().map(|m| m.concentration[1]))
        .float("participation_ratio", rows().map(|m| m.concentration[2]))
        .float("participation_fraction", rows().map(|m| m.concentration[3]))
        .float("tau", rows().map(|_| tau))
}
