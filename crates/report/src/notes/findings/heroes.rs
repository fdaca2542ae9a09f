//! Hero heads: their effects on held-out prompts, where they attend, what they restore, and whether other models have them.

use cs_analysis::attention::{ATTENTION_TABLE, TokenRole};
use cs_analysis::categories::Category;
use cs_analysis::contrast::Side;
use cs_analysis::scan_file::TOP_HEADS;
use cs_analysis::study::ContrastStudy;
use cs_analysis::tracing::CausalResult;
use cs_analysis::transfer::TRANSFER_TESTS;

use super::{Finding, csv, heads};
use crate::extras::ContrastExtras;
use crate::figures::palette::side_label;
use crate::figures::scale::decimal;
use crate::numbers::{SIGNIFICANT, numbers};
use crate::words;

pub(super) fn winners_curse(study: &ContrastStudy) -> Option<Finding> {
    let rows = &study.winners_curse;
    if rows.is_empty() {
        return None;
    }
    // The mean effect on held-out prompts, with the sign from selection, per logit of effect at selection.
    let mut left: Vec<f64> =
        rows.iter().map(|r| r.mean_held_out / r.mean_abs_delta).filter(|s| s.is_finite()).collect();
    left.sort_by(f64::total_cmp);
    let (lower, upper) = (left.get((left.len().max(1) - 1) / 2)?, left.get(left.len() / 2)?);
    let median = (lower + upper) / 2.0;
    let (same, of) = rows.iter().fold((0, 0), |(s, n), r| (s + r.n_same_sign, n + r.n_heads));
    let text = format!(
        "A model's strongest heads on a task (at most {TOP_HEADS}) were evaluated on held-out prompts: per logit of mean |Δ| on \
         the prompts used to select them, their mean held-out Δ in the same direction is {} (median {} over {}); {} of {} keep \
         their sign.",
        words::from_to(*left.first()?, *left.last()?, 2, ""),
        decimal(median, 2),
        words::counted(left.len(), "pair of model and task", "pairs of model and task"),
        words::count(same),
        heads(of),
    );
    Some(Finding::new("Held-out prompts", text, [csv(&study.contrast().table("winners_curse"))]))
}

/// Which kind of token gets the most attention from hero heads.
pub(super) fn attention(study: &ContrastStudy, extras: &ContrastExtras) -> Option<Finding> {
    let file = extras.all.attention.first()?;
    let contrast = study.contrast();
    let sentence = |task: Side| {
        let heroes = study.heroes.iter().filter(|h| h.head.category != Category::Weak);
        let mut counts = [0; TokenRole::ALL.len()];
        heroes
            .filter_map(|h| extras.attention_of(&h.model, h.head.layer, h.head.head, task))
            .for_each(|head| counts[head.by_weight()[0].0 as usize] += 1);
        let n = counts.iter().sum::<usize>();
        if n == 0 {
            return format!("On {}, all hero heads are weak.", side_label(contrast, task));
        }
        let mut roles: Vec<(usize, TokenRole)> = counts.into_iter().zip(TokenRole::ALL).collect();
        roles.retain(|(count, _)| *count > 0);
        roles.sort_by_key(|(count, _)| std::cmp::Reverse(*count));
        let roles: Vec<String> = roles
            .iter()
            .map(|(count, role)| format!("{} in {}", role.label(), words::count(*count)))
            .collect();
        let heads = if n == 1 { "non-weak hero head" } else { "non-weak hero heads" };
        format!("On {}, of {} {heads}: {}.", side_label(contrast, task), words::count(n), words::list(&roles))
    };
    let text = format!(
        "The kind of token to which a head attends most from the last token, over {}. {}",
        words::prompts_of(file.origin.split),
        Side::BOTH.map(sentence).join(" ")
    );
    Some(Finding::new("Where hero heads attend", text, [csv(ATTENTION_TABLE)]))
}

/// How many hero heads restore part of the clean answer, by normalised influence, which is relative to the difference
/// between the clean and the corrupted run; for a model that does not do the task, that difference may have the wrong sign.
pub(super) fn influence(study: &ContrastStudy, extras: &ContrastExtras) -> Option<Finding> {
    let contrast = study.contrast();
    if extras.traced.is_empty() {
        return None;
    }
    let sentence = |task: Side| {
        let does = |model: &str| {
            study.joint.model(model).is_none_or(|m| m.info.performance(task).does_task() != Some(false))
        };
        let of_doing: Vec<&CausalResult> = extras.traced.iter().filter(|r| does(&r.model)).collect();
        let influences = || of_doing.iter().map(|r| &r.on(task).figures);
        let above = influences().filter(|i| i.normalised_ci_low.is_some_and(|low| low > 0.0)).count();
        let below = influences().filter(|i| i.normalised_ci_high.is_some_and(|high| high < 0.0)).count();
        let significant = influences().filter(|i| i.q_value <= SIGNIFICANT).count();
        let size = |r: &CausalResult| r.on(task).figures.normalised.map_or(0.0, f64::abs);
        let largest = of_doing.iter().max_by(|a, b| size(a).total_cmp(&size(b)));
        let largest = largest.and_then(|r| {
            let influence = &r.on(task).figures;
            let ends = words::signed_range(influence.normalised_ci_low, influence.normalised_ci_high);
            Some(format!(
                "; the largest in absolute value is that of {} {}, {}{}",
                r.model,
                words::head(r.layer, r.head),
                words::signed(influence.normalised?),
                ends.unwrap_or_default()
            ))
        });
        let mut left_out: Vec<String> =
            extras.traced.iter().filter(|r| !does(&r.model)).map(|r| r.model.clone()).collect();
        left_out.dedup();
        let left_out = match left_out[..] {
            [] => String::new(),
            _ => format!(" Left out because they do not do the task: {}.", words::list(&left_out)),
        };
        format!(
            "On {}, the interval of the normalised influence (0: corrupted run, 1: clean run) is above 0 for {} of {} {} (they \
             restore part of the clean answer) and below 0 for {}; {} {} q ≤ {SIGNIFICANT}{}.{left_out}",
            side_label(contrast, task),
            words::none_or(above),
            words::count(of_doing.len()),
            if of_doing.len() == 1 { "hero head" } else { "hero heads" },
            words::none_or(below),
            words::none_or(significant),
            if significant < 2 { "has" } else { "have" },
            largest.unwrap_or_default(),
        )
    };
    let mut text = Side::BOTH.map(sentence).join(" ");
    let weak = extras.traced.iter().filter(|r| r.category == Category::Weak).count();
    if weak > 0 {
        text += &format!(
            " Of all traced heads, {} {} weak.",
            words::count(weak),
            if weak == 1 { "is" } else { "are" }
        );
    }
    Some(Finding::new("Causal influence", text, [csv(&contrast.table("hero_head_causal_summary"))]))
}

pub(super) fn transfer(study: &ContrastStudy) -> Finding {
    let significant = |column: &str| {
        let cells = numbers(study, TRANSFER_TESTS, column);
        let known = cells.iter().flatten().count();
        (cells.iter().flatten().filter(|q| **q <= SIGNIFICANT).count(), known)
    };
    let (by_index, n_index) = significant("q_value_index");
    let (by_match, n_match) = significant("q_value_match");
    let text = if n_index + n_match == 0 {
        "No pair of models could be tested: there is only one model, or no head of either task has a counterpart.".to_owned()
    } else {
        format!(
            "Heads with the same layer and index are stronger in the target than expected by chance in {} of {} (one per task and \
             pair of models); heads with the same effects are also at the same relative depth in {} of {} (q ≤ {SIGNIFICANT}).",
            words::none_or(by_index),
            words::counted(n_index, "test", "tests"),
            words::none_or(by_match),
            words::counted(n_match, "test", "tests"),
        )
    };
    Finding::new("Transfer between models", text, [csv(&study.contrast().table(TRANSFER_TESTS))])
}
