//! Reports what is left out of a task: nothing is skipped silently.

use std::collections::BTreeSet;

use cs_analysis::words::counted;
use cs_circuits::prompts::PromptSet;
use cs_circuits::task::Task;

/// Maximum number of rows or words listed by name.
const LISTED: usize = 8;

/// The words, or rows and columns of a file, that are left out, one line each.
pub fn left_out(task: &Task, prompts: &PromptSet) -> Vec<String> {
    let name = task.name();
    let mut lines = Vec::new();
    let names: BTreeSet<&str> = prompts.refused.iter().map(|refused| refused.name.as_str()).collect();
    if let Some(first) = prompts.refused.first().filter(|_| task.names().is_none()) {
        let (one, many) = if matches!(task, Task::Rows(_)) { ("row", "rows") } else { ("word", "words") };
        let listed: Vec<&str> = names.iter().copied().take(LISTED).collect();
        let more = names.len().saturating_sub(listed.len());
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        lines.push(format!(
            "{name}: {} left out, because an answer or word is not one token: {}{more}; {}, {}",
            counted(names.len(), one, many),
            listed.join(", "),
            first.models.join(", "),
            first.reason
        ));
    }
    let Task::Rows(file) = task else { return lines };
    if !file.unused_columns.is_empty() {
        lines.push(format!("{name}: unused columns: {}", file.unused_columns.join(", ")));
    }
    if let Some(limit) = prompts.limit {
        lines.push(format!(
            "{name}: {limit} of {} in the file used (--prompts)",
            counted(file.n_rows, "prompt", "prompts")
        ));
    }
    lines
}
