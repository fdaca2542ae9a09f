//! `roles_and_self_repair.md`: the roles of heads, and self-repair by later layers.

use cs_analysis::role_tables::{BEST, BEST_HEADS, ROLE_COUNTS, RoleCount, role_counts};
use cs_analysis::roles::{ATTENDS, REPEATED_TOKENS, RoleScore, RolesFile};
use cs_analysis::self_repair::{ModelRepair, SELF_REPAIR};
use cs_analysis::study::Study;

use super::heading;
use crate::extras::Extras;
use crate::figures::palette::task_label;
use crate::words;

/// The note; none if neither was measured.
pub(super) fn roles_and_self_repair(study: &Study, extras: &Extras) -> Option<String> {
    if study.repairs.is_empty() && extras.roles.is_empty() {
        return None;
    }
    let mut text = heading("Roles and self-repair", study);
    text += "## Self-repair\n\n";
    match study.repairs.is_empty() {
        true => {
            text += "No head of these models has an output that helps by τ and a direct effect that is comparable with Δ.\n"
        }
        false => {
            text += &format!(
                "How much later layers make up for when heads whose own output helps by τ = {} logits are ablated: the slope of Δ \
                 − direct effect on minus the direct effect (`{SELF_REPAIR}.csv`). 100% means all of it, 0% none of it, and below \
                 0% that they make the loss worse.\n\n",
                study.options.tau
            );
            study.repairs.iter().for_each(|repair| text += &repaired(repair));
        }
    }
    if !extras.roles.is_empty() {
        text += &format!(
            "\n## Roles\n\nHeads that put {ATTENDS} or more of their attention on the token that defines the role, or whose score \
             is τ or more, if the interval of the score excludes 0. Name movers attend more to the answer than to the distractor, \
             copy suppressors more to the distractor; S-inhibition heads also help by τ through later layers (`{BEST_HEADS}.csv`, \
             `{ROLE_COUNTS}.csv`).\n"
        );
        extras.roles.iter().for_each(|file| text += &of_model(file, study.options.tau));
    }
    Some(text)
}

fn repaired(of: &ModelRepair) -> String {
    let percent = |x: f64| format!("{:.0}%", 100.0 * x).replace('-', "−");
    let (model, task) = (&of.info.model, task_label(&of.task));
    let heads = words::counted(of.repair.n_heads, "head", "heads");
    let repaired = of.repair.repaired;
    let Some(share) = repaired.value.map(percent) else {
        return format!(
            "- {model} on {task}: the selected {heads} do not help on {}.\n",
            words::prompts_of(of.repair.split)
        );
    };
    let interval = repaired.ends().map(|(low, high)| format!(" [{}, {}]", percent(low), percent(high)));
    let interval = interval.unwrap_or_default();
    let say = if of.repair.n_heads == 1 { "that contributes" } else { "that together contribute" };
    format!("- {model} on {task}: {share}{interval}, over {heads} {say} {:.2} logits.\n", of.repair.said)
}

fn of_model(file: &RolesFile, tau: f64) -> String {
    let counts = role_counts(std::slice::from_ref(file), tau);
    let row = |count: &RoleCount| {
        let mut scores = file.scores(count.role, count.task);
        scores.retain(|s| s.plays(count.role, tau));
        let value = |s: &RoleScore| s.score.value.unwrap_or(f64::NEG_INFINITY);
        scores.sort_by(|a, b| value(b).total_cmp(&value(a)));
        let best =
            scores.iter().take(BEST).map(|s| format!("{} {:.2}", words::head(s.head.0, s.head.1), value(s)));
        let read_on = if count.task == REPEATED_TOKENS {
            "repeated random tokens".to_owned()
        } else {
            task_label(count.task)
        };
        let best: Vec<String> = best.collect();
        let best = if best.is_empty() { "–".to_owned() } else { best.join(", ") };
        format!("| {} | {read_on} | {} of {} | {best} |\n", count.role.label(), count.n, count.n_scored)
    };
    let rows: String = counts.iter().map(row).collect();
    format!("\n### {}\n\n| role | measured on | heads | best |\n|---|---|---|---|\n{rows}", file.origin.model)
}
