//! Findings about the tasks, individually and compared with each other.

use cs_analysis::contrast::Contrast;
use cs_analysis::effects::HEAD_EFFECTS;
use cs_analysis::overlap::{Overlap, TASK_OVERLAP};
use cs_analysis::scan_file::Baseline;
use cs_analysis::study::Study;
use cs_analysis::task_measures::TASK_MEASURES;

use super::setup::baseline_sentence;
use super::{Finding, csv, heads, models};
use crate::extras::Extras;
use crate::figures::palette::task_label;
use crate::words;

/// The findings about a study's tasks apart from its contrasts.
#[must_use]
pub fn task_findings(study: &Study, extras: &Extras) -> Vec<Finding> {
    let mut findings = vec![measured(study)];
    findings.extend(baselines(study, extras));
    findings.extend([strongest(study), concentration(study)]);
    findings.extend(held_out(study));
    findings.extend(overlap(study));
    findings
}

/// The smallest and largest of some values; `None` without values.
fn ends(values: impl Iterator<Item = f64>) -> Option<(f64, f64, usize)> {
    values.fold(None, |ends, v| {
        let (low, high, n) = ends.unwrap_or((v, v, 0));
        Some((f64::min(low, v), f64::max(high, v), n + 1))
    })
}

fn measured(study: &Study) -> Finding {
    let mut families: Vec<String> = study.models().map(|m| m.family.clone()).collect();
    families.dedup();
    let tasks: Vec<String> = study.effects.tasks.iter().map(|task| task_label(task)).collect();
    let all = study.effects.models.len();
    let n_heads: usize = study
        .effects
        .models
        .iter()
        .map(|m| m.tasks.iter().map(|t| t.deltas().len()).max().unwrap_or(0))
        .sum();
    let mut text = format!(
        "{} of {} in {} ({}) {} measured on {}: {}.",
        heads(n_heads),
        models(all),
        words::counted(families.len(), "family", "families"),
        words::list(&families),
        if n_heads == 1 { "was" } else { "were" },
        words::counted(tasks.len(), "task", "tasks"),
        words::list(&tasks),
    );
    for task in &study.effects.tasks {
        let lacking = study.effects.models.iter().filter(|m| m.on(task).is_none());
        let names: Vec<String> = lacking.map(|m| m.info.model.clone()).collect();
        if !names.is_empty() {
            text += &format!(" Not scanned on {}: {}.", task_label(task), words::list(&names));
        }
    }
    let mut methods: Vec<String> = study.models().filter_map(words::method).collect();
    methods.dedup();
    match methods.as_slice() {
        [] => text += " The table does not say how the effects were measured.",
        [method] => text += &format!(" Method: {method}."),
        several => text += &format!(" Methods differ between models: {}.", several.join("; ")),
    }
    Finding::new("What was measured", text, [csv(HEAD_EFFECTS)])
}

fn baselines(study: &Study, extras: &Extras) -> Option<Finding> {
    if extras.baselines.is_empty() {
        return None;
    }
    let sentence = |task: &String| {
        let all: Vec<&Baseline> =
            extras.baselines.iter().filter(|b| b.task == *task).map(|b| &b.main).collect();
        baseline_sentence(&task_label(task), &all)
    };
    let mut text = study.effects.tasks.iter().map(sentence).collect::<Vec<_>>().join(" ")
        + " If a model does not do a task, the effects of its heads say little about how the task is done.";
    if let Some(not_done) = not_done(study) {
        text += &format!(" {not_done}");
    }
    Some(Finding::new("Do the models do the tasks", text, [csv(TASK_MEASURES)]))
}

/// Which models do not do which tasks, if any.
pub(in crate::notes) fn not_done(study: &Study) -> Option<String> {
    words::tasks_not_done(study.effects.tasks.iter().map(|task| {
        let lacking = study
            .effects
            .models
            .iter()
            .filter(|m| m.on(task).is_some_and(|of_task| of_task.performance.does_task() == Some(false)));
        (task_label(task), lacking.map(|m| m.info.model.clone()).collect())
    }))
}

/// Number of heads named for each task.
const NAMED: usize = 3;

fn strongest(study: &Study) -> Finding {
    let sentence = |task: &String| {
        let mut all: Vec<_> = study
            .effects
            .models
            .iter()
            .filter_map(|m| {
                let heads = m.on(task)?.heads.iter().filter_map(|h| Some((h, h.effect.delta?)));
                let (head, delta) = heads.max_by(|a, b| a.1.abs().total_cmp(&b.1.abs()))?;
                Some((m.info.model.as_str(), head, delta))
            })
            .collect();
        all.sort_by(|a, b| b.2.abs().total_cmp(&a.2.abs()));
        all.truncate(NAMED);
        let named: Vec<String> = all
            .iter()
            .map(|(model, head, delta)| {
                let detail = head.effect.detail.as_deref();
                let interval = detail.and_then(|d| words::signed_range(d.ci_low, d.ci_high));
                let place = words::head(head.layer, head.head);
                format!("{model} {place} ({}{})", words::signed(*delta), interval.unwrap_or_default())
            })
            .collect();
        match named.len() {
            0 => format!("On {}, no effect was measured.", task_label(task)),
            _ => format!("On {}: {}.", task_label(task), named.join("; ")),
        }
    };
    let text = format!(
        "The strongest head of each model by |Δ|, at most {NAMED} per task. {}",
        study.effects.tasks.iter().map(sentence).collect::<Vec<_>>().join(" ")
    );
    Finding::new("Strongest heads", text, [csv(HEAD_EFFECTS)])
}

fn concentration(study: &Study) -> Finding {
    let sentence = |task: &String| {
        let of_task = || study.task_measures.iter().filter(|m| m.task == *task && m.n_heads > 0);
        let strong = ends(of_task().map(|m| 100.0 * m.n_strong as f64 / m.n_heads as f64));
        let top = ends(of_task().filter_map(|m| m.concentration[1].map(|share| 100.0 * share)));
        match strong.zip(top) {
            Some(((low, high, n), (top_low, top_high, _))) => format!(
                "On {}, {} of a model's heads reach τ, and its strongest 5% (interpolated between whole heads) hold {} of Σ|Δ|, in \
                 {}.",
                task_label(task),
                words::from_to(low, high, 1, "%"),
                words::from_to(top_low, top_high, 1, "%"),
                models(n)
            ),
            None => format!("On {}, no effect was measured.", task_label(task)),
        }
    };
    let text = study.effects.tasks.iter().map(sentence).collect::<Vec<_>>().join(" ");
    Finding::new("Concentration", text, [csv(TASK_MEASURES)])
}

fn held_out(study: &Study) -> Option<Finding> {
    let sentence = |task: &String| {
        let (mut same, mut strong) = (0, 0);
        for of_task in study.effects.models.iter().filter_map(|m| m.on(task)) {
            for head in &of_task.heads {
                let Some((delta, held_out)) = head.effect.delta.zip(head.effect.held_out_delta()) else {
                    continue;
                };
                if delta.abs() >= study.options.tau {
                    strong += 1;
                    same += usize::from(delta * held_out > 0.0);
                }
            }
        }
        (strong > 0)
            .then(|| format!("on {}, {} of {}", task_label(task), words::none_or(same), words::count(strong)))
    };
    let parts: Vec<String> = study.effects.tasks.iter().filter_map(sentence).collect();
    (!parts.is_empty()).then(|| {
        let text = format!(
            "Number of heads with |Δ| ≥ τ that keep the sign of Δ on held-out prompts: {}.",
            parts.join("; ")
        );
        Finding::new("Held-out prompts", text, [csv(HEAD_EFFECTS)])
    })
}

fn overlap(study: &Study) -> Option<Finding> {
    if study.overlaps.is_empty() {
        return None;
    }
    let mut pairs: Vec<&Contrast> = Vec::new();
    for overlap in &study.overlaps {
        if !pairs.contains(&&overlap.contrast) {
            pairs.push(&overlap.contrast);
        }
    }
    let sentence = |pair: &&Contrast| {
        let own: Vec<&Overlap> = study.overlaps.iter().filter(|o| o.contrast == **pair).collect();
        let [a, b] = pair.tasks().map(task_label);
        let r = ends(own.iter().filter_map(|o| o.pearson.estimate));
        let above = own.iter().filter(|o| o.pearson.prompts.is_some_and(|i| i.low > 0.0)).count();
        let shared = ends(own.iter().filter_map(|o| o.jaccard.value));
        let r = r.map_or("r is not defined".to_owned(), |(low, high, n)| {
            let range = words::from_to(low, high, 2, "");
            format!("r is {range} in {}, and its interval is above 0 in {}", models(n), words::none_or(above))
        });
        let shared = shared.map_or("no head is strong on either task".to_owned(), |(low, high, _)| {
            let range = words::from_to(100.0 * low, 100.0 * high, 0, "%");
            format!("they have {range} of their strong heads in common")
        });
        format!("{a} and {b}: {r}; {shared}.")
    };
    // With many tasks, only the pairs that stand out; the table has all.
    let mean = |pair: &Contrast| {
        let own = study.overlaps.iter().filter(|o| o.contrast == *pair);
        let r: Vec<f64> = own.filter_map(|o| o.pearson.estimate).collect();
        (!r.is_empty()).then(|| r.iter().sum::<f64>() / r.len() as f64)
    };
    let n_pairs = pairs.len();
    let mut named = String::new();
    if n_pairs > NAMED_PAIRS {
        pairs.retain(|pair| mean(pair).is_some());
        pairs.sort_by(|a, b| mean(b).unwrap_or(0.0).total_cmp(&mean(a).unwrap_or(0.0)));
        let last = pairs.pop();
        pairs.truncate(NAMED_PAIRS - 1);
        pairs.extend(last);
        named = format!(
            " Of {n_pairs} pairs of tasks, those with the highest mean r over the models, and the one with the lowest:"
        );
    }
    let text = format!(
        "Pearson's correlation r of Δ over a model's heads, and the heads with |Δ| ≥ τ on both tasks as a share of those on \
         either.{named} {}",
        pairs.iter().map(sentence).collect::<Vec<_>>().join(" ")
    );
    Some(Finding::new("Do the same heads do several tasks", text, [csv(TASK_OVERLAP)]))
}

/// Maximum number of pairs of tasks named in the finding on overlap.
const NAMED_PAIRS: usize = 3;

/// The limits of the findings about individual tasks.
#[must_use]
pub fn task_limits(study: &Study, extras: &Extras) -> Vec<String> {
    let mut limits = Vec::new();
    // The limits of a contrast cover these in more detail.
    let is_alone = study.contrasts.is_empty();
    if is_alone {
        limits.push(format!(
            "Counts of strong heads depend on τ = {} logits, an absolute threshold: models with larger logit differences have more \
             of them.",
            study.options.tau
        ));
    }
    if !study.overlaps.is_empty() {
        limits.push(
            "The shared strong heads of two tasks depend on how many each has: two tasks to which most heads contribute share many \
             heads even if they are unrelated."
                .into(),
        );
    }
    if is_alone {
        limits.push(
            "Intervals over prompts cover other prompts from the same templates and names, but not other wordings of a task."
                .into(),
        );
    }
    limits.push("Ablating one head at a time misses heads that back each other up.".into());
    limits.extend(extras.missing().into_iter().map(|m| format!("Not measured in this run: {m}.")));
    limits
}
