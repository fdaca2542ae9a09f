//! The heads of a study as data of the page.

use cs_analysis::attention::{AttentionFile, ExamplePrompt, TaskAttention};
use cs_analysis::categories::{Category, ClassifiedHead, ClassifiedModel};
use cs_analysis::contrast::Side;
use cs_analysis::effect::{Effect, EffectDetail};
use cs_analysis::effects::ModelEffects;
use cs_analysis::study::{ContrastStudy, Study};
use cs_analysis::tracing::{CausalResult, TaskInfluence};
use serde_json::{Value, json};

use super::packed::Columns;
use super::roles;
use crate::extras::{ContrastExtras, Extras};
use crate::words;

/// Maximum number of attention values to single tokens: heads × tokens of their example prompts.
const ROOM_FOR_EXAMPLES: usize = 800_000;

/// All data of single heads: model by model, and the data of each contrast.
pub(super) fn heads(study: &Study, extras: &Extras) -> Value {
    let n_of_examples = heads_with_examples(study, extras);
    let of_model = |model: &ModelEffects| {
        let rows = rows(model);
        json!({
            "heads": columns(study, model, &rows),
            "attention": attention(study, extras, model, &rows),
            "examples": examples(study, extras, model, &rows, n_of_examples),
            "roles": roles::of_heads(study, extras, model, &rows),
        })
    };
    let of_contrast = |contrast: &ContrastStudy| -> Value {
        let own = &extras.of(contrast.contrast());
        let of_model = |model: &ModelEffects| {
            let classified = contrast.classified.models.iter().find(|m| m.info.model == model.info.model);
            classified.map(|classified| contrasted(&rows(model), classified, own))
        };
        study.effects.models.iter().map(of_model).collect()
    };
    json!({
        "models": study.effects.models.iter().map(of_model).collect::<Vec<_>>(),
        "contrasts": study.contrasts.iter().map(of_contrast).collect::<Vec<_>>(),
    })
}

/// The heads of a model that were measured on any task, in order.
fn rows(model: &ModelEffects) -> Vec<(u32, u32)> {
    let mut rows: Vec<(u32, u32)> =
        model.tasks.iter().flat_map(|t| &t.heads).map(|h| (h.layer, h.head)).collect();
    rows.sort_unstable();
    rows.dedup();
    rows
}

/// A model's heads, column by column; names of a task's columns start with its index among the study's tasks.
fn columns(study: &Study, model: &ModelEffects, rows: &[(u32, u32)]) -> Value {
    let mut columns = Columns::default();
    columns.whole("layer", rows.iter().map(|h| Some(h.0 as usize)));
    columns.whole("head", rows.iter().map(|h| Some(h.1 as usize)));
    type Of = fn(&EffectDetail) -> Option<f64>;
    let details: [(&str, Of); 14] = [
        ("low", |d| d.ci_low),
        ("high", |d| d.ci_high),
        ("low_templates", |d| d.low_templates),
        ("high_templates", |d| d.high_templates),
        ("q", |d| d.q_value),
        ("held_out", |d| d.held_out_delta),
        ("held_out_low", |d| d.held_out_ci_low),
        ("held_out_high", |d| d.held_out_ci_high),
        ("direct", |d| d.direct.as_ref().map(|e| e.direct)),
        ("direct_low", |d| d.direct.as_ref()?.direct_low),
        ("direct_high", |d| d.direct.as_ref()?.direct_high),
        ("compensation", |d| d.direct.as_ref()?.compensation),
        ("compensation_low", |d| d.direct.as_ref()?.compensation_low),
        ("compensation_high", |d| d.direct.as_ref()?.compensation_high),
    ];
    for (place, task) in study.effects.tasks.iter().enumerate() {
        let Some(of_task) = model.on(task) else { continue };
        let effects: Vec<Option<&Effect>> = rows.iter().map(|&(l, h)| of_task.effect(l, h)).collect();
        columns.numbers(&format!("t{place}_delta"), effects.iter().map(|e| e.and_then(|e| e.delta)));
        for (detail, of) in details {
            let value = |e: &Option<&Effect>| e.and_then(|e| e.detail.as_deref()).and_then(of);
            columns.numbers(&format!("t{place}_{detail}"), effects.iter().map(value));
        }
    }
    columns.into_value()
}

/// A contrast's data for the heads of a model; names of the influence columns start with `a` and `b`.
fn contrasted(rows: &[(u32, u32)], classified: &ClassifiedModel, extras: &ContrastExtras) -> Value {
    let mut columns = Columns::default();
    if !extras.traced.is_empty() {
        type Of = fn(&TaskInfluence) -> Option<f64>;
        let figures: [(&str, Of); 3] =
            [("", |t| Some(t.mean)), ("_low", |t| t.figures.ci_low), ("_high", |t| t.figures.ci_high)];
        let traced: Vec<Option<&CausalResult>> =
            rows.iter().map(|&(l, h)| extras.influence(&classified.info.model, l, h)).collect();
        for (side, name) in Side::BOTH.into_iter().zip(["a", "b"]) {
            for (end, of) in figures {
                let value = |r: &Option<&CausalResult>| r.and_then(|r| of(r.on(side)));
                columns.numbers(&format!("{name}_influence{end}"), traced.iter().map(value));
            }
        }
    }
    // Heads without a category are not classified.
    let of_row: Vec<Option<&ClassifiedHead>> = rows
        .iter()
        .map(|place| {
            let found = classified.heads.binary_search_by_key(place, |h| (h.layer, h.head)).ok()?;
            Some(&classified.heads[found])
        })
        .collect();
    let mut category = |name: &str, of: fn(&ClassifiedHead) -> Option<Category>| {
        columns.whole(name, of_row.iter().map(|h| h.and_then(of).map(|c| c as usize)));
    };
    category("category", |h| Some(h.category));
    category("relative_category", |h| h.relative_category);
    category("held_out_category", |h| h.held_out_category);
    let probability = |h: &ClassifiedHead| h.probabilities.map(|p| p[h.category as usize]);
    columns.numbers("probability", of_row.iter().map(|h| h.and_then(probability)));
    columns.into_value()
}

/// Attention of a model's heads, in hundredths, head by head in the order of its rows; null if it was not
/// measured.
fn attention(study: &Study, extras: &Extras, model: &ModelEffects, rows: &[(u32, u32)]) -> Value {
    let Some(file) = extras.attention_file(&model.info.model) else { return Value::Null };
    // Texts are in a list, since the same few occur many times.
    let mut texts: Vec<&str> = Vec::new();
    let mut of_task = |task: &String| -> Vec<Value> {
        let of_head = |&(layer, head): &(u32, u32)| -> Option<Value> {
            let head = file.head(task, layer, head)?;
            let mut shares: Vec<i64> = head.mean.map(hundredths).to_vec();
            if let Some(top) = head.texts.first() {
                let at = texts.iter().position(|text| *text == top.text).unwrap_or_else(|| {
                    texts.push(&top.text);
                    texts.len() - 1
                });
                shares.extend([at as i64, hundredths(top.mean)]);
            }
            Some(json!(shares))
        };
        rows.iter().map(of_head).map(|shares| json!(shares)).collect()
    };
    let tasks: Vec<Vec<Value>> = study.effects.tasks.iter().map(&mut of_task).collect();
    json!({ "prompts": words::prompts_of(file.origin.split), "texts": texts, "tasks": tasks })
}

fn hundredths(share: f32) -> i64 {
    (f64::from(share) * 100.0).round() as i64
}

/// The number of heads of each model with example prompts on the page: as many as there is room for.
fn heads_with_examples(study: &Study, extras: &Extras) -> usize {
    let tokens = |file: &AttentionFile| -> usize {
        file.tasks.iter().flat_map(|t| &t.examples).map(|e| e.tokens.len()).sum()
    };
    let most = study.effects.models.iter().map(|m| rows(m).len()).max().unwrap_or(0);
    let takes = |n: usize| -> usize {
        let own =
            study.effects.models.iter().filter_map(|m| Some((m, extras.attention_file(&m.info.model)?)));
        own.map(|(m, file)| rows(m).len().min(n) * tokens(file)).sum()
    };
    // The largest number that fits; `takes` grows with it.
    let (mut fits, mut too_many) = (0, most + 1);
    while too_many - fits > 1 {
        let middle = fits.midpoint(too_many);
        if takes(middle) <= ROOM_FOR_EXAMPLES { fits = middle } else { too_many = middle }
    }
    fits
}

/// The example prompts of every task, with the attention of a model's `n` strongest heads in percent: the indices of these heads among
/// the rows, and the prompts of each task. Null if no examples were kept.
fn examples(study: &Study, extras: &Extras, model: &ModelEffects, rows: &[(u32, u32)], n: usize) -> Value {
    let Some(file) = extras.attention_file(&model.info.model) else { return Value::Null };
    let strength = |&(layer, head): &(u32, u32)| -> f64 {
        let deltas = model.tasks.iter().filter_map(|t| t.effect(layer, head)?.delta);
        deltas.map(f64::abs).sum()
    };
    let mut strongest: Vec<usize> = (0..rows.len()).collect();
    strongest.sort_by(|&a, &b| strength(&rows[b]).total_cmp(&strength(&rows[a])));
    strongest.truncate(n);
    strongest.sort_unstable();
    let of_prompt = |task: &TaskAttention, prompt: &ExamplePrompt| {
        let of_head = |&row: &usize| -> Option<Vec<u16>> {
            let at = task.heads.iter().position(|h| (h.layer, h.head) == rows[row])?;
            Some(prompt.thousandths.get(at)?.iter().map(|share| (share + 5) / 10).collect())
        };
        json!({
            "tokens": prompt.tokens, "correct": prompt.correct, "distractor": prompt.distractor,
            "percent": strongest.iter().map(of_head).collect::<Vec<_>>(),
        })
    };
    let of_task = |name: &String| -> Vec<Value> {
        let task = file.tasks.iter().find(|t| t.task == *name);
        task.map_or(Vec::new(), |task| task.examples.iter().map(|e| of_prompt(task, e)).collect())
    };
    let tasks: Vec<Vec<Value>> = study.effects.tasks.iter().map(of_task).collect();
    if tasks.iter().all(Vec::is_empty) {
        return Value::Null;
    }
    json!({ "rows": strongest, "tasks": tasks })
}
