//! What was measured, how well the models do the tasks, and the audit of the joint table.

use cs_analysis::contrast::Side;
use cs_analysis::scan_file::Baseline;
use cs_analysis::study::ContrastStudy;

use super::{Finding, csv, heads, models};
use crate::extras::ContrastExtras;
use crate::figures::palette::side_label;
use crate::words;

pub(super) fn measured(study: &ContrastStudy) -> Finding {
    let table = &study.joint;
    let mut families: Vec<String> = table.models.iter().map(|m| m.info.family.clone()).collect();
    families.dedup();
    let both = study.classified.models.iter().map(|m| m.heads.len()).sum::<usize>();
    let mut text = format!(
        "{} of {} in {} ({}) {} measured on both tasks.",
        heads(both),
        models(table.models.len()),
        words::counted(families.len(), "family", "families"),
        words::list(&families),
        if both == 1 { "was" } else { "were" },
    );
    let mut methods: Vec<String> = table.models.iter().filter_map(|m| words::method(&m.info)).collect();
    methods.dedup();
    match methods.as_slice() {
        [] => text += " The table does not say how the effects were measured.",
        [method] => text += &format!(" Method: {method}."),
        several => text += &format!(" Methods differ between models: {}.", several.join("; ")),
    }
    let left = table.n_rows() - both;
    if left > 0 {
        text += &format!(" {} more lack a value on at least one task and have no category.", heads(left));
    }
    Finding::new("What was measured", text, [csv(&study.contrast().joint_table())])
}

pub(super) fn baselines(study: &ContrastStudy, extras: &ContrastExtras) -> Option<Finding> {
    let contrast = study.contrast();
    if Side::BOTH.iter().all(|task| extras.baselines(*task).next().is_none()) {
        return None;
    }
    let sentence = |task: Side| {
        let all: Vec<&Baseline> = extras.baselines(task).collect();
        baseline_sentence(&side_label(contrast, task), &all)
    };
    let mut text = Side::BOTH.map(sentence).join(" ")
        + " If a model does not do a task, the effects of its heads say little about how the task is done.";
    if let Some(not_done) = words::not_done(contrast, study.joint.models.iter().map(|m| &m.info)) {
        text += &format!(" {not_done}");
    }
    Some(Finding::new("Do the models do the tasks", text, ["results/*_logitdiff_scan_*.json".to_owned()]))
}

/// How many models do a task, in words.
pub(super) fn baseline_sentence(task: &str, all: &[&Baseline]) -> String {
    let prefer = all.iter().filter(|b| b.base_logit_diff_mean > 0.0).count();
    let right = all.iter().filter(|b| b.base_accuracy > 0.5).count();
    let accuracy = all.iter().map(|b| 100.0 * b.base_accuracy);
    let (low, high) = accuracy.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), a| (l.min(a), h.max(a)));
    format!(
        "On {}, the correct answer is preferred to the distractor on average in {} of {}, and has the highest logit of all \
         candidates on more than half of the prompts in {} (accuracy {}).",
        task,
        words::none_or(prefer),
        models(all.len()),
        words::none_or(right),
        words::from_to(low, high, 1, "%"),
    )
}

pub(super) fn audit(study: &ContrastStudy) -> Finding {
    let zero: usize = study.audits.iter().map(|a| a.n_zero_rows).sum();
    let missing: usize = study.audits.iter().map(|a| a.n_missing.iter().sum::<usize>()).sum();
    if zero + missing == 0 {
        let text =
            "No effect in the joint table is empty or exactly 0, which a measured effect almost never is.";
        return Finding::new(
            "Audit of the joint table",
            text.into(),
            [csv(&study.contrast().table("audit"))],
        );
    }
    let text = format!(
        "{} in the joint table {} empty, and {} an exact 0 on some task, which a measured effect almost never is.",
        words::counted(missing, "effect", "effects"),
        if missing == 1 { "is" } else { "are" },
        words::counted(zero, "row holds", "rows hold"),
    );
    Finding::new("Audit of the joint table", text, [csv(&study.contrast().table("audit"))])
}
