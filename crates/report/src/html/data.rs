//! The data of the page.

use cs_analysis::ablation::{SummaryRow, TaskSummary};
use cs_analysis::attention::TokenRole;
use cs_analysis::categories::RELATIVE_TAU;
use cs_analysis::contrast::{Category, Side};
use cs_analysis::dictionary::describe;
use cs_analysis::effects::{HEAD_EFFECTS, ModelEffects};
use cs_analysis::model_measures::{TaskCorrelation, measure_names};
use cs_analysis::overlap::Overlap;
use cs_analysis::ranged::Ranged;
use cs_analysis::scaling::POOLED;
use cs_analysis::scan_file::ACCURACY;
use cs_analysis::stats::Interval;
use cs_analysis::study::{ContrastStudy, Study};
use cs_analysis::table::{Column, Table, Values};
use plotters::style::RGBColor;
use serde_json::{Value, json};

use super::packed::compressed;
use super::{PLOTTING_LIBRARY, roles};
use crate::extras::{ContrastExtras, Extras};
use crate::figures::palette::{Families, Marker, category_color, category_label, task_color, task_label};
use crate::figures::shows_tasks;
use crate::notes::{self, Finding};
use crate::words;

/// Significant digits of the numbers in the page's tables: those of float32, the type of measured effects.
const TABLE_DIGITS: usize = 7;

/// All data of the page except single heads and the contents of tables.
pub(super) fn data(study: &Study, extras: &Extras) -> Value {
    let families = Families::new(study.models().map(|m| m.family.as_str()));
    let models: Vec<Value> = study.effects.models.iter().map(|m| model(study, extras, m)).collect();
    let task = |(place, name): (usize, &String)| json!({ "name": name, "label": task_label(name), "color": hex(task_color(place)) });
    let findings = if shows_tasks(study) { notes::task_findings(study, extras) } else { Vec::new() };
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "plotting": PLOTTING_LIBRARY,
        "options": {
            "tau": study.options.tau, "top_k": study.options.top_k, "tau_sweep": study.options.tau_sweep,
        },
        "families": families.names().map(|f| json!({
            "name": f, "color": hex(families.color(f)), "symbol": symbol(families.marker(f)),
        })).collect::<Vec<_>>(),
        "tasks": study.effects.tasks.iter().enumerate().map(task).collect::<Vec<_>>(),
        "models": models,
        "best": notes::best_model(study),
        "contrasts": study.contrasts.iter().map(|c| contrast(study, c, extras)).collect::<Vec<_>>(),
        "overlaps": overlaps(study),
        "findings": finding_list(findings),
        "limits": notes::all_limits(study, extras),
        "accuracy": ACCURACY,
        "relative_tau": RELATIVE_TAU,
        "roles": roles::roles(),
        "attention_roles": TokenRole::ALL.map(TokenRole::label),
        "raw": extras.raw.iter().map(|file| json!({
            "path": file.path, "what": file.what, "bytes": file.bytes,
        })).collect::<Vec<_>>(),
    })
}

/// All tables, with contents if they fit into `room` bytes.
///
/// # Errors
/// If a table cannot be compressed.
pub(super) fn tables(study: &Study, extras: &Extras, mut room: usize) -> std::io::Result<Value> {
    let all: Vec<&Table> = study.tables.iter().chain(&extras.tables).collect();
    // The long table comes last, since the others have more information per byte.
    let mut order: Vec<usize> = (0..all.len()).collect();
    order.sort_by_key(|&at| all[at].name == HEAD_EFFECTS);
    let mut tables = vec![Value::Null; all.len()];
    for at in order {
        tables[at] = table(all[at], &mut room)?;
    }
    Ok(json!(tables))
}

fn finding_list(findings: Vec<Finding>) -> Vec<Value> {
    findings.into_iter().map(|f| json!({ "title": f.title, "text": f.text, "sources": f.sources })).collect()
}

/// Every pair of tasks of every model: indices of model and tasks, then the numbers.
fn overlaps(study: &Study) -> Vec<Value> {
    let task = |name: &str| study.effects.tasks.iter().position(|t| t == name);
    let model = |name: &str| study.models().position(|m| m.model == name);
    let of = |o: &Overlap| {
        json!({
            "model": model(&o.info.model), "tasks": o.contrast.tasks().map(task), "n_heads": o.n_heads,
            "pearson": correlation(&o.pearson), "spearman": correlation(&o.spearman),
            "n_strong": o.n_strong, "n_shared": ranged(&o.n_shared), "jaccard": ranged(&o.jaccard),
        })
    };
    study.overlaps.iter().map(of).collect()
}

/// A contrast: its tasks, the names of its categories, and its data for every model; null for models without it.
fn contrast(study: &Study, contrast: &ContrastStudy, extras: &Extras) -> Value {
    let (pair, own) = (contrast.contrast(), &extras.of(contrast.contrast()));
    let place = |task: &str| study.effects.tasks.iter().position(|t| t == task);
    let models: Vec<Value> = study
        .effects
        .models
        .iter()
        .map(|model| {
            let index = contrast.joint.models.iter().position(|m| m.info.model == model.info.model);
            index.map_or(Value::Null, |index| contrasted_model(contrast, own, index))
        })
        .collect();
    json!({
        "name": pair.to_string(), "sides": pair.tasks().map(place), "keys": pair.keys(),
        "categories": Category::ALL.map(|c| json!({
            "name": pair.category(c), "label": category_label(pair, c), "color": hex(category_color(c)),
        })),
        "models": models,
        "measures": measure_names(pair),
        "laws": laws(contrast),
        "ablation": curves(own),
        "ablation_prompts": own.ablation_prompts(),
        "findings": finding_list(notes::findings(contrast, own)),
        "intervals_over": words::intervals_over(contrast.correlations.iter().map(|c| &c.pearson)),
        "not_done": words::not_done(pair, contrast.joint.models.iter().map(|m| &m.info)),
    })
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

/// A number with all digits: the page rounds it once, when it shows it. JSON has no NaN; it becomes null.
pub(super) fn number(value: Option<f64>) -> Value {
    json!(value.filter(|v| v.is_finite()).map(|v| v + 0.0))
}

fn with_ends(value: Option<f64>, ends: Option<Interval>) -> Value {
    json!([number(value), number(ends.map(|i| i.low)), number(ends.map(|i| i.high))])
}

fn ranged(ranged: &Ranged) -> Value {
    json!([number(ranged.value), number(ranged.low), number(ranged.high)])
}

fn correlation(correlation: &TaskCorrelation) -> Value {
    with_ends(correlation.estimate, correlation.shown().map(|(interval, _)| interval))
}

/// A contrast's data for a model.
fn contrasted_model(study: &ContrastStudy, extras: &ContrastExtras, index: usize) -> Value {
    let classified = &study.classified.models[index];
    let correlations = &study.correlations[index];
    let dissociation = extras.dissociation.iter().find(|row| row.model == classified.info.model);
    json!({
        "counts": classified.counts(), "n_unstable": classified.n_unstable(), "n_unclassified": classified.n_unclassified,
        "pearson": correlation(&correlations.pearson), "spearman": correlation(&correlations.spearman),
        "held_out_pearson": correlation(&correlations.held_out_pearson),
        "held_out_spearman": correlation(&correlations.held_out_spearman),
        "pearson_templates": with_ends(correlations.pearson.estimate, correlations.pearson.templates),
        "disattenuated": with_ends(correlations.disattenuated.value, correlations.disattenuated.interval),
        "dissociation": dissociation.map(|row| ranged(&row.index)),
        "relative_counts": classified.relative_counts(),
        "values": study.measures[index].values.iter().map(|v| number(*v)).collect::<Vec<_>>(),
    })
}

fn model(study: &Study, extras: &Extras, model: &ModelEffects) -> Value {
    let info = &model.info;
    let (n_layers, n_heads) = model.shape();
    let baseline = |task: &String| {
        extras.baseline(&info.model, task).map(|b| {
            json!({
                "accuracy": number(Some(b.main.base_accuracy)), "logit_diff": number(Some(b.main.base_logit_diff_mean)),
                "n_prompts": b.main.n_prompts,
                "held_out_accuracy": number(b.held_out.as_ref().map(|h| h.base_accuracy)),
            })
        })
    };
    let tasks = || study.effects.tasks.iter();
    let lacks = |task: &&String| model.on(task).is_some_and(|t| t.performance.does_task() == Some(false));
    let measures = |task: &String| {
        let own = study.task_measures.iter().find(|m| m.info.model == info.model && m.task == *task);
        own.map(|m| {
            json!({
                "n_strong": m.n_strong, "n_heads": m.n_heads,
                "frac_strong": number(Some(m.n_strong as f64 / m.n_heads as f64)),
                "top_5pct_share": number(m.concentration[1]),
                "participation_fraction": number(m.concentration[3]),
            })
        })
    };
    json!({
        "name": info.model, "family": info.family, "params_m": info.params_m,
        "n_layers": n_layers, "n_heads": n_heads,
        "provenance": {
            "Hugging Face id or folder": info.hf_name, "weights": info.weight_hash, "protocol": info.protocol,
            "ablation": info.ablation, "value bias": info.value_bias,
            "reference prompts": info.reference, "seed": info.seed,
            "measured by version": info.program_version,
        },
        "not_done": tasks().filter(lacks).map(|task| task_label(task)).collect::<Vec<_>>(),
        "baselines": tasks().map(baseline).collect::<Vec<_>>(),
        "measures": tasks().map(measures).collect::<Vec<_>>(),
        "roles": roles::of_model(study, extras, model),
        "repair": roles::repair(study, model),
    })
}

/// The curves of ablated sets: per model, selection and kind of set, columns over the number of heads.
fn curves(extras: &ContrastExtras) -> Value {
    let mut curves: Vec<(String, String, &str, Vec<&SummaryRow>)> = Vec::new();
    let is_known = |r: &&SummaryRow| r.tasks.iter().any(|task| task.mean_diff.value.is_some());
    for row in extras.ablated.iter().filter(is_known) {
        let kind = row.set_type.strip_suffix(&format!("_{}", row.selection)).unwrap_or(&row.set_type);
        match curves.iter_mut().find(|c| (&c.0, &c.1, c.2) == (&row.model, &row.selection, kind)) {
            Some(curve) => curve.3.push(row),
            None => curves.push((row.model.clone(), row.selection.clone(), kind, vec![row])),
        }
    }
    type Of = fn(&TaskSummary) -> Ranged;
    let figures: [(&str, Of); 3] =
        [("mean_diff", |t| t.mean_diff), ("acc", |t| t.acc), ("interaction", |t| t.interaction)];
    let curve = |(model, selection, kind, mut rows): (String, String, &str, Vec<&SummaryRow>)| {
        rows.sort_by_key(|r| r.k);
        let mut curve = json!({
            "model": model, "selection": selection, "kind": kind, "k": rows.iter().map(|r| r.k).collect::<Vec<_>>(),
        });
        for (name, of) in figures {
            for (side, task) in Side::BOTH.into_iter().zip(["a", "b"]) {
                let column = |end: fn(Ranged) -> Option<f64>| -> Value {
                    rows.iter().map(|r| number(end(of(r.on(side))))).collect()
                };
                curve[format!("{name}_{task}")] = column(|r| r.value);
                curve[format!("{name}_{task}_low")] = column(|r| r.low);
                curve[format!("{name}_{task}_high")] = column(|r| r.high);
            }
        }
        curve
    };
    curves.into_iter().map(curve).collect()
}

/// The pooled line of every measure.
fn laws(study: &ContrastStudy) -> Value {
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

/// A table as compressed CSV; without its contents if they do not fit into the remaining `room`.
fn table(table: &Table, room: &mut usize) -> std::io::Result<Value> {
    let rounded = |values: &Values| match values {
        Values::Float(cells) => Values::Float(cells.iter().map(|c| c.map(significant)).collect()),
        other => other.clone(),
    };
    let columns =
        table.columns.iter().map(|c| Column { name: c.name.clone(), values: rounded(&c.values) }).collect();
    let csv = Table { name: table.name.clone(), columns }.to_csv();
    let packed = Some(compressed(csv.as_bytes())?).filter(|packed| packed.len() <= *room);
    *room -= packed.as_ref().map_or(0, String::len);
    Ok(json!({
        "name": table.name, "about": describe(&table.name), "rows": table.n_rows(), "bytes": csv.len(), "gz": packed,
    }))
}

/// A number rounded to [`TABLE_DIGITS`] significant digits.
fn significant(value: f64) -> f64 {
    if value == 0.0 || !value.is_finite() {
        return value;
    }
    // Via its decimal form: exact, and the same on every platform.
    format!("{value:.*e}", TABLE_DIGITS - 1).parse().unwrap_or(value)
}
