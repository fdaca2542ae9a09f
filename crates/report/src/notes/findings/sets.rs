//! Ablation of head sets.

use cs_analysis::ablation::{SUMMARY_TABLE, SetKind, SummaryRow, TEST_TABLE};
use cs_analysis::contrast::{Category, Side};
use cs_analysis::dissociation::DISSOCIATION_TABLE;
use cs_analysis::table::Values;

use super::{Finding, csv, models};
use crate::extras::ContrastExtras;
use crate::figures::palette::{category_label, side_label};
use crate::figures::scale::decimal;
use crate::numbers::SIGNIFICANT;
use crate::words;

pub(super) fn hero_sets(extras: &ContrastExtras) -> Option<Finding> {
    let contrast = extras.contrast;
    let all = |kind: SetKind| {
        extras
            .ablated
            .iter()
            .filter(move |r| r.set_type == kind.name() && r.on(Side::A).mean_diff.value.is_some())
    };
    // The largest hero set of each model, and the random sets of that size.
    let mut compared: Vec<(&SummaryRow, &SummaryRow)> = Vec::new();
    for hero in all(SetKind::Hero) {
        let Some(random) = all(SetKind::Random).find(|r| r.model == hero.model && r.k == hero.k) else {
            continue;
        };
        match compared.iter_mut().find(|c| c.0.model == hero.model) {
            Some(known) if known.0.k < hero.k => *known = (hero, random),
            Some(_) => {}
            None => compared.push((hero, random)),
        }
    }
    if compared.is_empty() {
        return None;
    }
    let below = |task: Side| {
        let figure = |row: &SummaryRow| row.on(task).mean_diff;
        compared
            .iter()
            .filter(|(hero, random)| figure(hero).value.zip(figure(random).low).is_some_and(|(v, l)| v < l))
            .count()
    };
    let mut text = format!(
        "At the largest set size, the hero set leaves a smaller logit difference between the correct answer and the other \
         candidates than the central 95% of the random sets in {} of {} on {} and in {} on {}, over {}.",
        words::none_or(below(Side::A)),
        models(compared.len()),
        side_label(contrast, Side::A),
        words::none_or(below(Side::B)),
        side_label(contrast, Side::B),
        extras.ablation_prompts(),
    );
    let mut sources = vec![csv(&contrast.table(SUMMARY_TABLE))];
    let tests = extras.all.tables.iter().find(|t| t.name == contrast.table(TEST_TABLE));
    if let Some(q_values) =
        tests.and_then(|t| t.column("q_value")).and_then(as_floats).filter(|q| !q.is_empty())
    {
        let n = q_values.len();
        let significant = q_values.iter().filter(|q| **q <= SIGNIFICANT).count();
        text += &format!(
            " Of {} of a hero set against random sets (for each size, category, task and measure, with random heads from all \
             layers, and if that is significant also from the same layers), {} {} q ≤ {SIGNIFICANT}.",
            words::counted(n, "test", "tests"),
            words::none_or(significant),
            if significant < 2 { "has" } else { "have" },
        );
        let floats = |name| tests.and_then(|t| t.column(name)).and_then(as_floats).unwrap_or_default();
        let ends = |values: Vec<f64>| {
            let low = values.iter().copied().reduce(f64::min)?;
            Some((low, values.into_iter().reduce(f64::max)?))
        };
        if let Some((fewest, most)) = ends(floats("n_behind_p").into_iter().filter(|n| *n > 0.0).collect()) {
            text += &format!(
                " Random sets are drawn one after the other until the comparison is decided: a p-value is based on {} of them, so \
                 it is at least {} before adjustment.",
                words::from_to(fewest, most, 0, ""),
                decimal(2.0 / (most + 1.0), 4)
            );
        }
        sources.push(csv(&contrast.table(TEST_TABLE)));
    }
    Some(Finding::new("Hero vs. random heads", text, sources))
}

/// Whether the effect of a set is the sum of its heads' effects.
pub(super) fn interaction(extras: &ContrastExtras) -> Option<Finding> {
    // The largest hero set of each model.
    let mut largest: Vec<&SummaryRow> = Vec::new();
    let heroes = extras.ablated.iter().filter(|r| r.set_type == SetKind::Hero.name() && r.k > 1);
    for hero in heroes.filter(|r| r.tasks.iter().all(|task| task.interaction.value.is_some())) {
        match largest.iter_mut().find(|known| known.model == hero.model) {
            Some(known) if known.k < hero.k => *known = hero,
            Some(_) => {}
            None => largest.push(hero),
        }
    }
    if largest.is_empty() {
        return None;
    }
    let parts = Side::BOTH.map(|task| {
        let (mut more, mut less) = (0, 0);
        for row in &largest {
            let on = row.on(task);
            let Some((sum, (low, high))) = on.sum_delta.zip(on.interaction.ends()) else { continue };
            let sign = if low > 0.0 {
                1.0
            } else if high < 0.0 {
                -1.0
            } else {
                continue;
            };
            if sign * sum > 0.0 { more += 1 } else { less += 1 }
        }
        format!(
            "more in {} and less in {} on {}",
            words::none_or(more),
            words::none_or(less),
            side_label(extras.contrast, task)
        )
    });
    let text = format!(
        "The effect of ablating the largest hero set of all categories can differ from the sum of its heads' individual effects: \
         of {}, it is {}, each with 95% confidence over prompts. Heads in series, which do the same work one after the other, give \
         less than the sum; heads that back each other up give more.",
        models(largest.len()),
        parts.join(", and "),
    );
    Some(Finding::new("Sets vs. sums of single heads", text, [csv(&extras.contrast.table(SUMMARY_TABLE))]))
}

/// The numbers of a column; one read from a file has integers if all values happen to be integers.
fn as_floats(values: &Values) -> Option<Vec<f64>> {
    match values {
        Values::Float(cells) => Some(cells.iter().flatten().copied().collect()),
        Values::Integer(cells) => Some(cells.iter().flatten().map(|n| *n as f64).collect()),
        _ => None,
    }
}

pub(super) fn dissociation(extras: &ContrastExtras) -> Option<Finding> {
    if extras.dissociation.is_empty() {
        return None;
    }
    let contrast = extras.contrast;
    let [a, b] = Side::BOTH.map(|side| side_label(contrast, side));
    let [only_a, only_b] = [Category::OnlyA, Category::OnlyB].map(|c| category_label(contrast, c));
    let tested: Vec<bool> = extras.dissociation.iter().filter_map(|r| r.double_dissociation).collect();
    let index: Vec<f64> = extras.dissociation.iter().filter_map(|r| r.index.value).collect();
    let above = extras.dissociation.iter().filter(|r| r.index.low.is_some_and(|low| low > 0.0)).count();
    let without = extras.dissociation.len() - tested.len();
    let mut text = if tested.is_empty() {
        format!(
            "None of {} has helping heads of both kinds, {only_a} and {only_b}, to ablate.",
            models(without)
        )
    } else {
        format!(
            "Ablating helping {only_a} heads hurts {a} more than ablating equally many helping {only_b} heads, and vice versa on \
             {b}, with 95% confidence in both, in {} of {} with heads of both kinds to ablate{}.",
            words::none_or(tested.iter().filter(|&&double| double).count()),
            models(tested.len()),
            match without {
                0 => String::new(),
                1 => "; 1 model lacks such heads".to_owned(),
                n => format!("; {n} models lack such heads"),
            },
        )
    };
    if let Some(first) = index.first() {
        let (low, high) = index.iter().fold((*first, *first), |(l, h), v| (l.min(*v), h.max(*v)));
        text += &format!(
            " The index of dissociation (1: the tasks share no heads, 0: all heads are shared) is {} in {}; its interval is above \
             0 in {}.",
            words::from_to(low, high, 2, ""),
            models(index.len()),
            words::none_or(above)
        );
    }
    Some(Finding::new("Dissociation", text, [csv(&contrast.table(DISSOCIATION_TABLE))]))
}
