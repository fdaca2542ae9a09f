//! `hero_heads.md`: a card for each hero head of each contrast; for a single task, its strongest heads.

use cs_analysis::attention::{ATTENTION_TABLE, HeadAttention};
use cs_analysis::categories::{Category, HeroHead, RELATIVE_TAU};
use cs_analysis::contrast::Side;
use cs_analysis::effect::Effect;
use cs_analysis::stats::interval::FEWEST_PROMPTS;
use cs_analysis::study::{ContrastStudy, Study};

use super::{contrast_title, heading};
use crate::extras::{ContrastExtras, Extras};
use crate::figures::palette::{category_label, side_label, task_label};
use crate::figures::scale::decimal;
use crate::words;

pub(super) fn hero_heads(study: &Study, extras: &Extras) -> String {
    let mut text = heading("Hero heads", study);
    match &study.contrasts[..] {
        [] => text += &of_tasks(study),
        [only] => text += &of_contrast(only, &extras.of(only.contrast()), "##"),
        several => {
            for contrast in several {
                text += &format!("## {}\n\n", contrast_title(contrast.contrast()));
                text += &of_contrast(contrast, &extras.of(contrast.contrast()), "###");
                text.push('\n');
            }
        }
    }
    text
}

/// The strongest heads of each model on each task.
fn of_tasks(study: &Study) -> String {
    let mut text = format!(
        "The {} heads of each model with the largest |Δ| on each task [`head_effects.csv`]. They were selected for being strong, \
         so their Δ tends to be overestimated; held-out values, if available, are not. q is the p-value of Δ = 0, adjusted over \
         the heads \
         of a model and task (Benjamini–Hochberg). Intervals in brackets are over prompts.\n",
        study.options.top_k
    );
    for model in &study.effects.models {
        text += &format!("\n## {}\n", model.info.model);
        for task in &model.tasks {
            text += &format!("\n{}:\n\n", task_label(&task.task));
            let mut heads: Vec<_> = task.heads.iter().filter_map(|h| Some((h, h.effect.delta?))).collect();
            heads.sort_by(|a, b| b.1.abs().total_cmp(&a.1.abs()));
            for (head, delta) in heads.into_iter().take(study.options.top_k) {
                let place = words::head(head.layer, head.head);
                text += &format!("- {place}: Δ = {}{}\n", words::signed(delta), evidence(Some(&head.effect)));
            }
            if task.performance.does_task() == Some(false) {
                text += &format!("- The model does not do {}\n", task_label(&task.task));
            }
        }
    }
    text
}

/// The cards of a contrast; `level` is the prefix of the models' headings.
fn of_contrast(study: &ContrastStudy, extras: &ContrastExtras, level: &str) -> String {
    let contrast = study.contrast();
    let mut text = format!(
        "Hero heads: the strongest heads of each model and category, {} at most, by {}, at τ = {} logits \
         [`{}.csv`]. They were selected for being strong, so their Δ tends to be overestimated; held-out values, if available, are \
         not. The strongest weak heads are listed too, to show what is just below τ. q is \
         the p-value of Δ = 0, adjusted over the heads of a model and task (Benjamini–Hochberg). Intervals in brackets are over \
         prompts, and cover other prompts of the same templates; intervals over templates cover other templates.\n",
        study.options.top_k,
        words::strength(contrast),
        study.options.tau,
        contrast.table("hero_heads_for_paper"),
    );
    if let Some(file) = extras.all.attention.first() {
        text += &format!(
            "\nAttention is the mean share of a head's attention at the last token, from which the answer is read, that goes to \
             each kind \
             of token, ± its standard deviation over prompts, without ablation; over {} [`{ATTENTION_TABLE}.csv`]. At most \
             {SHOWN_ROLES} \
             kinds are listed, and none below {SHOWN_FROM}.\n",
            words::prompts_of(file.origin.split)
        );
    }
    for missing in extras.missing() {
        text += &format!("\nNot measured in this run: {missing}.\n");
    }
    for model in &study.classified.models {
        text += &format!("\n{level} {}\n", model.info.model);
        let own: Vec<&HeroHead> = study.heroes.iter().filter(|h| h.model == model.info.model).collect();
        if own.is_empty() {
            text += "\nNo head was measured on both tasks.\n";
        }
        if !extras.all.attention.is_empty() && extras.all.attention_file(&model.info.model).is_none() {
            text += "\nThe attention of its heads was not measured in this run (`circuit-scaling attend`).\n";
        }
        for hero in own.iter().filter(|h| h.head.category != Category::Weak) {
            text += &card(hero, extras, level);
        }
        let weak: Vec<String> = own
            .iter()
            .filter(|h| h.head.category == Category::Weak)
            .map(|h| {
                let effect = |side: Side| {
                    let delta = words::signed(h.head.deltas[side as usize]);
                    format!("Δ {} {delta}", side_label(contrast, side))
                };
                let effects = Side::BOTH.map(effect).join(", ");
                format!("{} ({effects})", words::head(h.head.layer, h.head.head))
            })
            .collect();
        if weak.len() == own.len() && !own.is_empty() {
            text += "\nNo head reaches τ on either task.\n";
        }
        if !weak.is_empty() {
            text += &format!("\nStrongest weak heads: {}.\n", weak.join(", "));
        }
    }
    text
}

fn card(hero: &HeroHead, extras: &ContrastExtras, level: &str) -> String {
    let contrast = extras.contrast;
    let head = &hero.head;
    let mut text = format!(
        "\n{level}# {} {}: {}, rank {} in its category\n\n",
        hero.model,
        words::head(head.layer, head.head),
        category_label(contrast, head.category),
        hero.rank + 1
    );
    for task in Side::BOTH {
        let delta = head.deltas[task as usize];
        let effect = hero.evidence.as_ref().map(|row| row.effect(task));
        text +=
            &format!("- {}: Δ = {}{}\n", side_label(contrast, task), words::signed(delta), evidence(effect));
        if hero.performance[task as usize].does_task() == Some(false) {
            text += &format!("- The model does not do {}\n", side_label(contrast, task));
        }
    }
    text += &match (head.probabilities, head.held_out_category) {
        (Some(probabilities), held_out) => {
            let probability = probabilities[head.category as usize];
            let stable = if head.is_stable() == Some(true) { "stable" } else { "not stable" };
            let held_out = held_out
                .map_or(String::new(), |c| format!("; on held-out prompts: {}", category_label(contrast, c)));
            format!(
                "- Category: {stable} (probability {} under resampled prompts{held_out})\n",
                decimal(probability, 2)
            )
        }
        (None, Some(c)) => format!("- Category on held-out prompts: {}\n", category_label(contrast, c)),
        (None, None) => "- Category: stability unknown\n".to_owned(),
    };
    if let Some(relative) = head.relative_category {
        text += &format!(
            "- Category at {}% of the model's own logit differences: {}\n",
            decimal(100.0 * RELATIVE_TAU, 0),
            category_label(contrast, relative)
        );
    }
    if let Some(traced) = extras.influence(&hero.model, head.layer, head.head) {
        for task in Side::BOTH {
            let on = traced.on(task);
            let influence = &on.figures;
            let ends = words::signed_range(influence.ci_low, influence.ci_high);
            let share = influence.normalised.map_or(String::new(), |n| {
                format!("; {} of the difference between clean and corrupted runs", decimal(n, 2))
            });
            text += &format!(
                "- Causal influence on {}: {}{}{share}\n",
                side_label(contrast, task),
                words::signed(on.mean),
                ends.unwrap_or_else(|| " (no interval)".into())
            );
        }
    }
    for task in Side::BOTH {
        if let Some(attention) = extras.attention_of(&hero.model, head.layer, head.head, task) {
            text += &format!(
                "- Attention at the last token, {}: {}\n",
                side_label(contrast, task),
                attended(attention)
            );
        }
    }
    text
}

/// Maximum number of roles listed for a head.
const SHOWN_ROLES: usize = 4;
/// Minimum mean attention for a role to be listed.
const SHOWN_FROM: f32 = 0.05;

/// What a head attends to, in descending order, with standard deviations over prompts.
fn attended(attention: &HeadAttention) -> String {
    let number = |x: f32| decimal(f64::from(x), 2);
    let shown = attention.by_weight().into_iter().take(SHOWN_ROLES).filter(|(_, mean)| *mean >= SHOWN_FROM);
    let roles: Vec<String> = shown
        .map(|(role, mean)| {
            format!("{} {} ± {}", role.label(), number(mean), number(attention.sd[role as usize]))
        })
        .collect();
    let text =
        attention.texts.first().filter(|text| text.mean >= SHOWN_FROM).map_or_else(String::new, |text| {
            format!(
                "; among words other than names, “{}” gets the most ({})",
                text.text.trim(),
                number(text.mean)
            )
        });
    roles.join(", ") + &text
}

/// The interval, q-value and held-out value of an effect, as far as known.
fn evidence(effect: Option<&Effect>) -> String {
    let Some(detail) = effect.and_then(|e| e.detail.as_deref()) else { return " (no interval)".into() };
    let not_estimable = || match detail.p_value {
        Some(_) => format!(" (no interval: fewer than {FEWEST_PROMPTS} distinct prompts)"),
        None => " (no interval)".to_owned(),
    };
    let mut text = words::signed_range(detail.ci_low, detail.ci_high).unwrap_or_else(not_estimable);
    if let Some(ends) = words::signed_range(detail.low_templates, detail.high_templates) {
        text += &format!(", over templates{ends}");
    }
    if let Some(q) = detail.q_value {
        text += &if q < 0.001 { ", q < 0.001".to_owned() } else { format!(", q = {}", decimal(q, 3)) };
    }
    if let Some(delta) = detail.held_out_delta {
        let interval =
            words::signed_range(detail.held_out_ci_low, detail.held_out_ci_high).unwrap_or_default();
        text += &format!("; held out {}{interval}", words::signed(delta));
    }
    text
}
