//! The data of the page.

use std::io::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cs_analysis::ablation::SummaryRow;
use cs_analysis::attention::TokenRole;
use cs_analysis::categories::{Category, ClassifiedModel, RELATIVE_TAU};
use cs_analysis::joint::{Effect, EffectDetail, HeadRow, ModelHeads, StudyTask};
use cs_analysis::model_measures::{TaskCorrelation, measure_names};
use cs_analysis::scaling::POOLED;
use cs_analysis::scan_file::ACCURACY;
use cs_analysis::stats::Interval;
use cs_analysis::study::Study;
use cs_analysis::table::{Column, Table, Values};
use cs_analysis::tracing::{CausalResult, Influence};
use flate2::{Compression, GzBuilder};
use plotters::style::RGBColor;
use serde_json::{Value, json};

use super::PLOTTING_LIBRARY;
use crate::extras::Extras;
use crate::figures::causal::of_task;
use crate::figures::palette::{Families, Marker, category_color, category_label, task_color, task_label};
use crate::notes;
use crate::words;

/// Bytes of compressed tables that the page carries, so that it stays small enough to be sent.
const ROOM_FOR_TABLES: usize = 3_000_000;
/// Significant digits of the numbers in the page's tables: those of the float32 that effects are measured in.
const TABLE_DIGITS: usize = 7;

/// Everything the page shows.
pub(super) fn data(study: &Study, extras: &Extras) -> std::io::Result<Value> {
    let families = Families::new(study.joint.models.iter().map(|m| m.info.family.as_str()));
    let models: Vec<Value> = (0..study.joint.models.len()).map(|index| model(study, extras, index)).collect();
    let mut room = ROOM_FOR_TABLES;
    let tables = study.tables.iter().chain(&extras.tables).map(|t| table(t, &mut room));
    let tables = tables.collect::<std::io::Result<Vec<Value>>>()?;
    Ok(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "plotting": PLOTTING_LIBRARY,
        "options": {
            "tau": study.options.tau, "top_k": study.options.top_k, "tau_sweep": study.options.tau_sweep,
        },
        "families": families.names().map(|f| json!({
            "name": f, "color": hex(families.color(f)), "symbol": symbol(families.marker(f)),
        })).collect::<Vec<_>>(),
        "categories": Category::ALL.map(|c| json!({ "label": category_label(c), "color": hex(category_color(c)) })),
        "tasks": StudyTask::BOTH.map(|t| json!({ "label": task_label(t), "color": hex(task_color(t)) })),
        "models": models,
        "measures": measure_names(),
        "laws": laws(study),
        "ablation": curves(extras),
        "ablation_prompts": extras.ablation_prompts(),
        "findings": notes::findings(study, extras).into_iter().map(|f| json!({
            "title": f.title, "text": f.text, "sources": f.sources,
        })).collect::<Vec<_>>(),
        "limits": notes::limits(study, extras),
        "accuracy": ACCURACY,
        "intervals_over": words::intervals_over(study.correlations.iter().map(|c| &c.pearson)),
        "not_done": words::not_done(study.joint.models.iter().map(|m| &m.info)),
        "relative_tau": RELATIVE_TAU,
        "missing": extras.missing(),
        "attention_roles": TokenRole::ALL.map(TokenRole::label),
        "tables": tables,
        "raw": extras.raw.iter().map(|file| json!({
            "path": file.path, "what": file.what, "bytes": file.bytes,
        })).collect::<Vec<_>>(),
    }))
}

fn hex(color: RGBColor) -> String {
    format!("#{:02x}{:02x}{:02x}", color.0, color.1, color.2)
}

/// The plotting library's name of a marker.
fn symbol(marker: Marker) -> &'static str {
    match marker {
        Marker::Circle => "circle",
        Marker::Triangle => "triangle-up",
        Marker::Square => "square",
        Marker::Diamond => "diamond",
        Marker::TriangleDown => "triangle-down",
        Marker::Plus => "cross",
        Marker::Star => "star",
        Marker::Hexagon => "hexagon",
    }
}

/// A number in full: the page rounds it where it shows it, once. JSON has no NaN; it becomes null.
fn number(value: Option<f64>) -> Value {
    json!(value.filter(|v| v.is_finite()).map(|v| v + 0.0))
}

fn with_ends(value: Option<f64>, ends: Option<Interval>) -> Value {
    json!([number(value), number(ends.map(|i| i.low)), number(ends.map(|i| i.high))])
}

fn correlation(correlation: &TaskCorrelation) -> Value {
    with_ends(correlation.estimate, correlation.shown().map(|(interval, _)| interval))
}

fn model(study: &Study, extras: &Extras, index: usize) -> Value {
    let (measured, classified) = (&study.joint.models[index], &study.classified.models[index]);
    let info = &measured.info;
    let correlations = &study.correlations[index];
    let seen = measured.heads.iter().map(|h| h.head + 1).max().unwrap_or(0);
    let baselines = StudyTask::BOTH.map(|task| {
        extras.baseline(&info.model, task).map(|b| {
            json!({
                "accuracy": number(Some(b.main.base_accuracy)), "logit_diff": number(Some(b.main.base_logit_diff_mean)),
                "n_prompts": b.main.n_prompts,
                "held_out_accuracy": number(b.held_out.as_ref().map(|h| h.base_accuracy)),
            })
        })
    });
    json!({
        "name": info.model, "family": info.family, "params_m": info.params_m,
        "n_layers": measured.n_layers(), "n_heads": info.n_heads.unwrap_or(0).max(seen),
        "provenance": {
            "Hugging Face id or folder": info.hf_name, "weights": info.weight_hash, "protocol": info.protocol,
            "ablation": info.ablation, "value bias": info.value_bias,
            "reference prompts": info.reference, "seed": info.seed,
            "measured by version": info.program_version,
        },
        "counts": classified.counts(), "n_unstable": classified.n_unstable(), "n_unclassified": classified.n_unclassified,
        "pearson": correlation(&correlations.pearson), "spearman": correlation(&correlations.spearman),
        "held_out_pearson": correlation(&correlations.held_out_pearson),
        "held_out_spearman": correlation(&correlations.held_out_spearman),
        "pearson_templates": with_ends(correlations.pearson.estimate, correlations.pearson.templates),
        "disattenuated": with_ends(correlations.disattenuated.value, correlations.disattenuated.interval),
        "relative_counts": classified.relative_counts(),
        "not_done": info.tasks_not_done().into_iter().map(task_label).collect::<Vec<_>>(),
        "baselines": baselines,
        "values": study.measures[index].values.iter().map(|v| number(*v)).collect::<Vec<_>>(),
        "heads": heads(measured, classified, extras),
        "attention": attention(extras, measured),
    })
}

/// Where a model's heads attend, in thousandths, head by head in the order of its rows; null where it was not read.
fn attention(extras: &Extras, measured: &ModelHeads) -> Value {
    let model = &measured.info.model;
    let Some(file) = extras.attention_file(model) else { return Value::Null };
    let thousandths = |x: f32| (f64::from(x) * 1000.0).round() as i64;
    // Texts stand in a list, since the same few are met again and again.
    let mut texts: Vec<&str> = Vec::new();
    let mut of_task = |task: StudyTask| -> Vec<Value> {
        let of_head = |row: &HeadRow| -> Option<Value> {
            let head = extras.attention_of(model, row.layer, row.head, task)?;
            let mut shares: Vec<i64> = head.mean.map(thousandths).to_vec();
            if let Some(top) = head.texts.first() {
                let at = texts.iter().position(|text| *text == top.text).unwrap_or_else(|| {
                    texts.push(&top.text);
                    texts.len() - 1
                });
                shares.extend([at as i64, thousandths(top.mean)]);
            }
            Some(json!(shares))
        };
        measured.heads.iter().map(of_head).map(|shares| json!(shares)).collect()
    };
    let [ioi, anti] = StudyTask::BOTH.map(&mut of_task);
    json!({ "prompts": words::prompts_of(file.origin.split), "texts": texts, "ioi": ioi, "anti": anti })
}

/// A model's heads, column by column; details that no head has are left out.
fn heads(measured: &ModelHeads, classified: &ClassifiedModel, extras: &Extras) -> Value {
    let rows = &measured.heads;
    let mut columns = serde_json::Map::new();
    let mut put = |name: &str, column: Vec<Value>| {
        if column.iter().any(|v| !v.is_null()) {
            columns.insert(name.to_owned(), Value::Array(column));
        }
    };
    put("layer", rows.iter().map(|h| json!(h.layer)).collect());
    put("head", rows.iter().map(|h| json!(h.head)).collect());
    type Of = fn(&EffectDetail) -> Option<f64>;
    let details: [(&str, Of); 9] = [
        ("low", |d| d.ci_low),
        ("high", |d| d.ci_high),
        ("low_templates", |d| d.low_templates),
        ("high_templates", |d| d.high_templates),
        ("q", |d| d.q_value),
        ("held_out", |d| d.held_out_delta),
        ("held_out_low", |d| d.held_out_ci_low),
        ("held_out_high", |d| d.held_out_ci_high),
        ("held_out_q", |d| d.held_out_q_value),
    ];
    for (task, name) in StudyTask::BOTH.into_iter().zip(["ioi", "anti"]) {
        put(&format!("{name}_delta"), rows.iter().map(|h| number(h.effect(task).delta)).collect());
        for (detail, of) in details {
            let value = |effect: &Effect| number(effect.detail.as_deref().and_then(of));
            put(&format!("{name}_{detail}"), rows.iter().map(|h| value(h.effect(task))).collect());
        }
    }
    if !extras.traced.is_empty() {
        type Of = fn((f64, &Influence)) -> Option<f64>;
        let figures: [(&str, Of); 3] =
            [("", |t| Some(t.0)), ("_low", |t| t.1.ci_low), ("_high", |t| t.1.ci_high)];
        let traced: Vec<Option<&CausalResult>> =
            rows.iter().map(|h| extras.influence(&measured.info.model, h.layer, h.head)).collect();
        for (task, name) in StudyTask::BOTH.into_iter().zip(["ioi", "anti"]) {
            for (end, of) in figures {
                let value = |r: &Option<&CausalResult>| number(r.and_then(|r| of(of_task(r, task))));
                put(&format!("{name}_influence{end}"), traced.iter().map(value).collect());
            }
        }
    }
    // Heads without a category are not among the classified.
    let mut known = classified.heads.iter().peekable();
    let of_row: Vec<_> =
        rows.iter().map(|row| known.next_if(|h| (h.layer, h.head) == (row.layer, row.head))).collect();
    put("category", of_row.iter().map(|h| json!(h.map(|h| h.category as usize))).collect());
    put(
        "probability",
        of_row
            .iter()
            .map(|h| number(h.and_then(|h| h.probabilities.map(|p| p[h.category as usize]))))
            .collect(),
    );
    put(
        "relative_category",
        of_row.iter().map(|h| json!(h.and_then(|h| h.relative_category.map(|c| c as usize)))).collect(),
    );
    put(
        "held_out_category",
        of_row.iter().map(|h| json!(h.and_then(|h| h.held_out_category.map(|c| c as usize)))).collect(),
    );
    Value::Object(columns)
}

/// The curves of ablated sets: for each model, selection and kind of set, columns over the number of heads.
fn curves(extras: &Extras) -> Value {
    let mut curves: Vec<(String, String, &str, Vec<&SummaryRow>)> = Vec::new();
    for row in extras.ablated.iter().filter(|r| r.mean_diff_ioi.is_some() || r.mean_diff_anti.is_some()) {
        let kind = row.set_type.strip_suffix(&format!("_{}", row.selection)).unwrap_or(&row.set_type);
        match curves.iter_mut().find(|c| (&c.0, &c.1, c.2) == (&row.model, &row.selection, kind)) {
            Some(curve) => curve.3.push(row),
            None => curves.push((row.model.clone(), row.selection.clone(), kind, vec![row])),
        }
    }
    type Of = fn(&SummaryRow) -> Option<f64>;
    let columns: [(&str, Of); 18] = [
        ("mean_diff_ioi", |r| r.mean_diff_ioi),
        ("mean_diff_ioi_low", |r| r.mean_diff_ioi_low),
        ("mean_diff_ioi_high", |r| r.mean_diff_ioi_high),
        ("mean_diff_anti", |r| r.mean_diff_anti),
        ("mean_diff_anti_low", |r| r.mean_diff_anti_low),
        ("mean_diff_anti_high", |r| r.mean_diff_anti_high),
        ("acc_ioi", |r| r.acc_ioi),
        ("acc_ioi_low", |r| r.acc_ioi_low),
        ("acc_ioi_high", |r| r.acc_ioi_high),
        ("acc_anti", |r| r.acc_anti),
        ("acc_anti_low", |r| r.acc_anti_low),
        ("acc_anti_high", |r| r.acc_anti_high),
        ("interaction_ioi", |r| r.interaction_ioi),
        ("interaction_ioi_low", |r| r.interaction_ioi_low),
        ("interaction_ioi_high", |r| r.interaction_ioi_high),
        ("interaction_anti", |r| r.interaction_anti),
        ("interaction_anti_low", |r| r.interaction_anti_low),
        ("interaction_anti_high", |r| r.interaction_anti_high),
    ];
    let curve = |(model, selection, kind, mut rows): (String, String, &str, Vec<&SummaryRow>)| {
        rows.sort_by_key(|r| r.k);
        let mut curve = json!({
            "model": model, "selection": selection, "kind": kind, "k": rows.iter().map(|r| r.k).collect::<Vec<_>>(),
        });
        for (name, of) in columns {
            curve[name] = rows.iter().map(|r| number(of(r))).collect();
        }
        curve
    };
    curves.into_iter().map(curve).collect()
}

/// The pooled line of every measure.
fn laws(study: &Study) -> Value {
    let pooled = study.scaling_laws.iter().filter(|l| l.family == POOLED);
    let law = |l: &cs_analysis::scaling::ScalingLaw| match &l.line {
        Ok(line) => json!({
            "slope": number(Some(line.slope)), "low": number(Some(line.slope_interval.low)),
            "high": number(Some(line.slope_interval.high)), "q": number(l.q_value), "n": l.n, "left_out": l.left_out,
        }),
        Err(why) => json!({ "why": why, "n": l.n, "left_out": l.left_out }),
    };
    pooled.map(|l| (l.measure.clone(), law(l))).collect::<serde_json::Map<_, _>>().into()
}

/// A table as CSV, compressed; without its content where that does not fit into the `room` left.
fn table(table: &Table, room: &mut usize) -> std::io::Result<Value> {
    let rounded = |values: &Values| match values {
        Values::Float(cells) => Values::Float(cells.iter().map(|c| c.map(significant)).collect()),
        other => other.clone(),
    };
    let columns =
        table.columns.iter().map(|c| Column { name: c.name.clone(), values: rounded(&c.values) }).collect();
    let csv = Table { name: table.name.clone(), columns }.to_csv();
    let mut gz = GzBuilder::new().write(Vec::new(), Compression::best());
    gz.write_all(csv.as_bytes())?;
    let packed = Some(STANDARD.encode(gz.finish()?)).filter(|packed| packed.len() <= *room);
    *room -= packed.as_ref().map_or(0, String::len);
    Ok(json!({ "name": table.name, "rows": table.n_rows(), "bytes": csv.len(), "gz": packed }))
}

/// A number to [`TABLE_DIGITS`] significant digits.
fn significant(value: f64) -> f64 {
    if value == 0.0 || !value.is_finite() {
        return value;
    }
    // Through its decimal form: exact, and the same everywhere.
    format!("{value:.*e}", TABLE_DIGITS - 1).parse().unwrap_or(value)
}
