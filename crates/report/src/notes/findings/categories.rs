//! Which heads contribute to which task, how strongly, and at which depth.

use cs_analysis::categories::{Category, ClassifiedHead, RELATIVE_TAU};
use cs_analysis::contrast::Side;
use cs_analysis::study::ContrastStudy;

use super::size::range;
use super::{Finding, csv, heads, models};
use crate::figures::palette::{category_label, side_label};
use crate::figures::scale::decimal;
use crate::words;

pub(super) fn categories(study: &ContrastStudy) -> Finding {
    let contrast = study.contrast();
    let classified = &study.classified;
    let all: usize = classified.models.iter().map(|m| m.heads.len()).sum();
    let share = |n: usize| {
        if all > 0 { format!("{}%", decimal(100.0 * n as f64 / all as f64, 1)) } else { "–".into() }
    };
    let counts = classified.models.iter().fold([0; 4], |mut sum, m| {
        sum.iter_mut().zip(m.counts()).for_each(|(sum, n)| *sum += n);
        sum
    });
    let parts = Category::ALL.into_iter().zip(counts);
    let parts =
        words::kinds(parts.map(|(c, n)| (n, category_label(contrast, c), format!(" ({})", share(n)))));
    let with_shared = classified.models.iter().filter(|m| m.counts()[Category::Shared as usize] > 0).count();
    let all_weak =
        classified.models.iter().filter(|m| m.heads.iter().all(|h| h.category == Category::Weak)).count();
    let mut text = format!("At τ = {} logits, {} are {parts}.", study.options.tau, heads(all));
    text += &match with_shared {
        0 => " No model has a shared head.".to_owned(),
        n => format!(
            " {} of {} {} at least one shared head.",
            words::count(n),
            models(classified.models.len()),
            if n == 1 { "has" } else { "have" },
        ),
    };
    if all_weak > 0 {
        text += &format!(" In {} all heads are weak.", models(all_weak));
    }
    let unstable: Option<Vec<usize>> = classified.models.iter().map(|m| m.n_unstable()).collect();
    text += &match unstable {
        Some(unstable) if unstable.iter().sum::<usize>() == 0 => {
            " Every category is stable: resampling the prompts changes none with a probability above 5%."
                .to_owned()
        }
        Some(unstable) => format!(
            " The category of {} of {} is not stable: when the prompts are resampled it changes with a probability above 5%.",
            words::count(unstable.iter().sum()),
            heads(all)
        ),
        None => " The stability of these categories is unknown: the table has no probabilities for this τ."
            .to_owned(),
    };
    text += &relative_sentence(study);
    Finding::new(
        "Categories of heads",
        text,
        ["head_category_summary", "tau_sweep"].map(|name| csv(&contrast.table(name))),
    )
}

/// The categories at relative thresholds, and the models that have none.
fn relative_sentence(study: &ContrastStudy) -> String {
    let contrast = study.contrast();
    let classified = &study.classified.models;
    let counted: Vec<[usize; 4]> = classified.iter().filter_map(|m| m.relative_counts()).collect();
    let percent = decimal(100.0 * RELATIVE_TAU, 0);
    let mut text = match counted.len() {
        0 => format!(
            " No model has categories relative to its own logit differences (|Δ| ≥ {percent}% of them): none is known to do both \
             tasks."
        ),
        n => {
            let sums = counted.iter().fold([0; 4], |mut sums, counts| {
                sums.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
                sums
            });
            let named = Category::ALL.into_iter().zip(sums);
            let parts = words::kinds(named.map(|(c, n)| (n, category_label(contrast, c), String::new())));
            format!(
                " Relative to a model's own mean logit difference on a task (|Δ| ≥ {percent}% of it), which compares across \
                 models, the heads of \
                 {} are {parts}.",
                models(n),
            )
        }
    };
    let without = classified.iter().filter(|m| m.relative_counts().is_none());
    let names: Vec<String> = without.map(|m| m.info.model.clone()).collect();
    if !names.is_empty() && !counted.is_empty() {
        text += &format!(
            " Models without relative categories, because they are not known to do both tasks: \
            {}.",
            words::list(&names)
        );
    }
    text
}

/// Number of heads named in the finding on strongest heads.
const NAMED: usize = 5;

pub(super) fn strongest(study: &ContrastStudy) -> Finding {
    let contrast = study.contrast();
    let mut top: Vec<(&str, &ClassifiedHead)> = study
        .classified
        .models
        .iter()
        .filter_map(|m| {
            let head = m.heads.iter().max_by(|a, b| a.strength.total_cmp(&b.strength))?;
            Some((m.info.model.as_str(), head))
        })
        .collect();
    top.sort_by(|a, b| b.1.strength.total_cmp(&a.1.strength));
    let of = top.len();
    top.truncate(NAMED);
    let named: Vec<String> = top
        .iter()
        .map(|(model, head)| {
            let measured = study.joint.model(model).and_then(|m| m.head(head.layer, head.head));
            let effects = Side::BOTH.map(|task| {
                let interval = measured
                    .and_then(|row| row.effect(task).detail.as_deref())
                    .and_then(|detail| words::signed_range(detail.ci_low, detail.ci_high));
                let delta = head.deltas[task as usize];
                format!(
                    "Δ {} {}{}",
                    side_label(contrast, task),
                    words::signed(delta),
                    interval.unwrap_or_default()
                )
            });
            format!("{model} {} ({})", words::head(head.layer, head.head), effects.join(", "))
        })
        .collect();
    let strength = words::strength(contrast);
    let text = match named.len() {
        0 => "No head was measured on both tasks.".to_owned(),
        n if n < of => format!(
            "The strongest heads by {strength}, at most one per model, for the top {n} models: {}.",
            named.join("; ")
        ),
        _ => format!("The strongest head of each model by {strength}: {}.", named.join("; ")),
    };
    Finding::new("Strongest heads", text, [csv(&contrast.table("hero_heads_for_paper"))])
}

pub(super) fn depth(study: &ContrastStudy) -> Finding {
    let contrast = study.contrast();
    let parts: Vec<String> = [Category::OnlyA, Category::OnlyB, Category::Shared]
        .into_iter()
        .map(|c| match range(study, &format!("mean_relative_depth_{}", contrast.category(c))) {
            Some((low, high, n)) => format!(
                "{} heads are at a mean depth of {} in the {} that {} some",
                category_label(contrast, c),
                words::from_to(low, high, 2, ""),
                models(n),
                if n == 1 { "has" } else { "have" },
            ),
            None => format!("no model has {} heads", category_label(contrast, c)),
        })
        .collect();
    let text = format!("On a scale from 0 (first layer) to 1 (last layer): {}.", parts.join("; "));
    Finding::new("Depth", text, [csv(&contrast.table("model_measures"))])
}
