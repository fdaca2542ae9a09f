//! Sets of heads ablated at once: hero heads against random ones, and what each set does to either task.

use cs_analysis::ablation::{SetKind, SummaryRow};
use cs_analysis::dissociation::DissociationRow;
use cs_analysis::joint::StudyTask;
use cs_analysis::scan_file::ACCURACY;
use cs_analysis::study::Study;
use plotters::style::RGBColor;

use super::page::{DrawError, Entry, Sheet, Symbol, grid};
use super::palette::{FAINT, Families, INK, Marker, task_color, task_label};
use super::panel::Panel;
use super::rows::rows;
use super::scale::{Axis, Scale};
use super::{Drawing, NotDrawn, model_figure};
use crate::error::Result;
use crate::extras::Extras;
use crate::words;

/// Which heads hero sets are taken from in the figures: all of a model.
const SELECTION: &str = "all";

/// A figure of a set on a task: its value and the ends of what surrounds it.
type Value = (Option<f64>, Option<f64>, Option<f64>);

/// Correct − mean of the other candidates.
fn mean_diff(row: &SummaryRow, task: StudyTask) -> Value {
    match task {
        StudyTask::Ioi => (row.mean_diff_ioi, row.mean_diff_ioi_low, row.mean_diff_ioi_high),
        StudyTask::Anti => (row.mean_diff_anti, row.mean_diff_anti_low, row.mean_diff_anti_high),
    }
}

fn accuracy(row: &SummaryRow, task: StudyTask) -> Value {
    match task {
        StudyTask::Ioi => (row.acc_ioi, row.acc_ioi_low, row.acc_ioi_high),
        StudyTask::Anti => (row.acc_anti, row.acc_anti_low, row.acc_anti_high),
    }
}

/// The rows of a model and kind of set, by k, that were measured.
fn curve<'a>(extras: &'a Extras, model: &'a str, kind: SetKind) -> Vec<&'a SummaryRow> {
    let is_ours = |r: &&SummaryRow| {
        r.model == model
            && r.set_type == kind.name()
            && (kind == SetKind::Baseline || r.selection == SELECTION)
    };
    let mut rows: Vec<_> = extras
        .ablated
        .iter()
        .filter(is_ours)
        .filter(|r| r.mean_diff_ioi.is_some() && r.mean_diff_anti.is_some())
        .collect();
    rows.sort_by_key(|r| r.k);
    rows
}

/// An axis of set sizes, evenly spaced by their logarithm.
fn k_axis(sizes: &[usize]) -> Axis {
    let mut sizes = sizes.to_vec();
    sizes.sort_unstable();
    sizes.dedup();
    let (low, high) = (sizes.first().copied().unwrap_or(1) as f64, sizes.last().copied().unwrap_or(2) as f64);
    // Labels that would touch are left out: each needs about a sixth of the axis.
    let length = (high / low).log10().max(0.1);
    let mut ticks: Vec<(f64, String)> = Vec::new();
    for size in sizes.iter().map(|&s| s as f64) {
        if ticks.last().is_none_or(|t| (size / t.0).log10() > length / 6.0) {
            ticks.push((size, size.to_string()));
        }
    }
    Axis {
        scale: Scale::Log,
        low: low / 1.15,
        high: high * 1.15,
        ticks,
        title: "heads ablated (log scale)".into(),
    }
}

pub(super) fn not_ablated(name: &str) -> NotDrawn {
    NotDrawn::new(name, "no set of heads was ablated: run circuit-scaling ablate")
}

/// `hero_vs_random_ablation`: a row of panels for each family, a column for each task.
pub(super) fn overview(study: &Study, extras: &Extras, families: &Families) -> Result<Drawing> {
    let name = "hero_vs_random_ablation";
    let models: Vec<(&str, &str)> = study
        .joint
        .models
        .iter()
        .map(|m| (m.info.family.as_str(), m.info.model.as_str()))
        .filter(|(_, model)| !curve(extras, model, SetKind::Hero).is_empty())
        .collect();
    if models.is_empty() {
        return Ok(Err(not_ablated(name)));
    }
    let shown: Vec<&str> = families.names().filter(|f| models.iter().any(|m| m.0 == *f)).collect();
    let legend = vec![
        Entry::new(Symbol::Marker(Marker::Circle, INK, true), "hero heads"),
        Entry::new(Symbol::Dashed(FAINT), "as many random heads"),
    ];
    let caption = format!(
        "Logit of the correct name minus the mean of the other candidates, as a change from nothing ablated; over {}. Each line is a model, \
         larger ones darker. n = {}. Hero: 95% intervals over prompts; random: mean of sets of as many of all heads. The figure of each \
         model shows the spread of the sets.",
        extras.ablation_prompts(),
        words::counted(models.len(), "model", "models"),
    );
    let sheet = Sheet { name, title: "", body_mm: 12.0 + 32.0 * shown.len() as f64, legend, caption };
    let figure = sheet.draw(|body| {
        for (index, area) in grid(body, shown.len(), 2).iter().enumerate() {
            let (family, task) = (shown[index / 2], StudyTask::BOTH[index % 2]);
            let own: Vec<&str> = models.iter().filter(|m| m.0 == family).map(|m| m.1).collect();
            family_panel(
                area,
                &format!("{family}, {}", task_label(task)),
                task,
                &own,
                extras,
                families,
                family,
                [index % 2 == 0, index / 2 + 1 == shown.len()],
            )?;
        }
        Ok(())
    })?;
    Ok(Ok(figure))
}

/// Change of a set's value from the baseline of its model.
fn change(row: &SummaryRow, base: f64, task: StudyTask) -> Value {
    let (value, low, high) = mean_diff(row, task);
    let less = |v: Option<f64>| v.map(|v| v - base);
    (less(value), less(low), less(high))
}

#[allow(clippy::too_many_arguments, reason = "one panel of one figure")]
fn family_panel(
    area: &super::page::Area,
    title: &str,
    task: StudyTask,
    models: &[&str],
    extras: &Extras,
    families: &Families,
    family: &str,
    [with_y_title, with_x_title]: [bool; 2],
) -> std::result::Result<(), DrawError> {
    let base = |model: &str| {
        curve(extras, model, SetKind::Baseline).first().and_then(|r| mean_diff(r, task).0).unwrap_or(0.0)
    };
    let all: Vec<&SummaryRow> = models
        .iter()
        .flat_map(|m| [SetKind::Hero, SetKind::Random].into_iter().flat_map(|kind| curve(extras, m, kind)))
        .collect();
    let values = all.iter().flat_map(|r| {
        let (value, low, high) = change(r, base(&r.model), task);
        // Of random sets the mean alone is drawn.
        if r.set_type == SetKind::Hero.name() { [value, low, high] } else { [value, None, None] }
    });
    let mut x = k_axis(&all.iter().map(|r| r.k).collect::<Vec<_>>());
    let mut y = Axis::linear("change (logits)", values.flatten().chain([0.0]), 3);
    if !with_x_title {
        x.title.clear();
    }
    if !with_y_title {
        y.title.clear();
    }
    let panel = Panel::new(area, title, x, y)?;
    panel.across(0.0, super::palette::GROUND)?;
    for (place, model) in models.iter().enumerate() {
        let color = lightened(families.color(family), 0.6 * (1.0 - (place + 1) as f64 / models.len() as f64));
        let points = |kind| -> Vec<(f64, Value)> {
            curve(extras, model, kind)
                .into_iter()
                .map(|r| (r.k as f64, change(r, base(model), task)))
                .collect()
        };
        let random: Vec<(f64, f64)> =
            points(SetKind::Random).iter().filter_map(|(k, v)| Some((*k, v.0?))).collect();
        for ends in random.windows(2) {
            panel.dashed(ends[0], ends[1], color)?;
        }
        let hero = points(SetKind::Hero);
        let line: Vec<(f64, f64)> = hero.iter().filter_map(|(k, v)| Some((*k, v.0?))).collect();
        panel.line(&line, color, 0.7)?;
        for (k, (value, low, high)) in hero {
            if let Some((low, high)) = low.zip(high) {
                panel.interval(k, low, high, color, 0.6)?;
            }
            if let Some(value) = value {
                panel.marker(families.marker(family), (k, value), 1.5, color, 1.0)?;
            }
        }
    }
    Ok(())
}

fn lightened(color: RGBColor, share: f64) -> RGBColor {
    let mix = |c: u8| (f64::from(c) + share * (255.0 - f64::from(c))).round() as u8;
    RGBColor(mix(color.0), mix(color.1), mix(color.2))
}

/// `hero_vs_random_ablation_<model>`: both measures on both tasks.
pub(super) fn of_model(study: &Study, extras: &Extras, index: usize) -> Result<Drawing> {
    let model = study.joint.models[index].info.model.as_str();
    let name = model_figure("hero_vs_random_ablation", model);
    let [baseline, hero, random] =
        [SetKind::Baseline, SetKind::Hero, SetKind::Random].map(|kind| curve(extras, model, kind));
    if hero.is_empty() {
        return Ok(Err(not_ablated(&name)));
    }
    let n_sets = random.iter().map(|r| r.n_sets).max().unwrap_or(0);
    let legend = vec![
        Entry::new(Symbol::Marker(Marker::Circle, task_color(StudyTask::Ioi), true), "hero heads, IOI"),
        Entry::new(
            Symbol::Marker(Marker::Circle, task_color(StudyTask::Anti), true),
            "hero heads, anti-repeat",
        ),
        Entry::new(Symbol::Line(FAINT), "random heads"),
        Entry::new(Symbol::Dashed(INK), "nothing ablated"),
    ];
    let caption = format!(
        "Top: logit of the correct name minus the mean of the other candidates. Bottom: accuracy. Over {}. Hero: 95% \
         intervals over prompts; random: mean and central 95% of up to n = {} of as many of all heads. {ACCURACY}",
        extras.ablation_prompts(),
        words::counted(n_sets, "set", "sets"),
    );
    let sheet = Sheet { name: &name, title: model, body_mm: 76.0, legend, caption };
    let figure = sheet.draw(|body| {
        for (place, area) in grid(body, 2, 2).iter().enumerate() {
            let task = StudyTask::BOTH[place % 2];
            let of: fn(&SummaryRow, StudyTask) -> Value = if place < 2 { mean_diff } else { accuracy };
            let all = || baseline.iter().chain(&hero).chain(&random).map(|r| of(r, task));
            let title = match (place < 2, place % 2) {
                (_, 1) => "",
                (true, _) => "difference (logits)",
                (false, _) => "accuracy",
            };
            let y = if place < 2 {
                Axis::linear(title, all().flat_map(|v| [v.0, v.1, v.2]).flatten(), 4)
            } else {
                Axis::linear_between(title, -0.03, 1.03, 4)
            };
            let mut x = k_axis(&hero.iter().chain(&random).map(|r| r.k).collect::<Vec<_>>());
            if place < 2 {
                x.title.clear();
            }
            let panel = Panel::new(area, if place < 2 { task_label(task) } else { "" }, x, y)?;
            if let Some(base) = baseline.first().and_then(|r| of(r, task).0) {
                panel.across(base, INK)?;
            }
            // A little apart, so that intervals at the same number of heads do not hide each other.
            set_lines(&panel, &random, FAINT, 0.98, |r| of(r, task))?;
            set_lines(&panel, &hero, task_color(task), 1.02, |r| of(r, task))?;
        }
        Ok(())
    })?;
    Ok(Ok(figure))
}

fn set_lines(
    panel: &Panel,
    rows: &[&SummaryRow],
    color: RGBColor,
    shift: f64,
    of: impl Fn(&SummaryRow) -> Value,
) -> std::result::Result<(), DrawError> {
    let line: Vec<(f64, f64)> = rows.iter().filter_map(|r| Some((shift * r.k as f64, of(r).0?))).collect();
    panel.line(&line, color, 0.8)?;
    for row in rows {
        let (value, low, high) = of(row);
        if let Some((low, high)) = low.zip(high) {
            panel.interval(shift * row.k as f64, low, high, color, 0.8)?;
        }
        if let Some(value) = value {
            panel.marker(Marker::Circle, (shift * row.k as f64, value), 1.5, color, 1.0)?;
        }
    }
    Ok(())
}

/// The damage of a set to a task, with its interval.
fn damage(row: &DissociationRow) -> [(StudyTask, f64, Value); 4] {
    // Above each row: the IOI-only set; below: the anti-only set. Its two tasks lie a little apart, so that their intervals do
    // not hide each other.
    let (upper, lower, apart) = (-0.2, 0.2, 0.075);
    [
        (
            StudyTask::Ioi,
            upper - apart,
            (row.ioi_only_damage_ioi, row.ioi_only_damage_ioi_ci_low, row.ioi_only_damage_ioi_ci_high),
        ),
        (
            StudyTask::Anti,
            upper + apart,
            (row.ioi_only_damage_anti, row.ioi_only_damage_anti_ci_low, row.ioi_only_damage_anti_ci_high),
        ),
        (
            StudyTask::Ioi,
            lower - apart,
            (row.anti_only_damage_ioi, row.anti_only_damage_ioi_ci_low, row.anti_only_damage_ioi_ci_high),
        ),
        (
            StudyTask::Anti,
            lower + apart,
            (row.anti_only_damage_anti, row.anti_only_damage_anti_ci_low, row.anti_only_damage_anti_ci_high),
        ),
    ]
}

/// `dissociation`: what ablating IOI-only heads and as many anti-only heads does to either task.
pub(super) fn dissociation(extras: &Extras) -> Result<Drawing> {
    let name = "dissociation";
    if extras.dissociation.is_empty() {
        return Ok(Err(not_ablated(name)));
    }
    let measured: Vec<&DissociationRow> =
        extras.dissociation.iter().filter(|r| r.ioi_only_damage_ioi.is_some()).collect();
    if measured.is_empty() {
        let why = "no model has heads of both kinds to ablate: IOI-only heads and anti-only heads that help their task";
        return Ok(Err(NotDrawn::new(name, why)));
    }
    let values = measured.iter().flat_map(|r| damage(r)).flat_map(|(_, _, v)| [v.0, v.1, v.2]).flatten();
    let x = Axis::linear("damage (logits)", values.chain([0.0]), 5);
    let legend = vec![
        Entry::new(Symbol::Marker(Marker::Circle, task_color(StudyTask::Ioi), true), "to IOI"),
        Entry::new(Symbol::Marker(Marker::Diamond, task_color(StudyTask::Anti), true), "to anti-repeat"),
    ];
    let double = measured.iter().filter(|r| r.double_dissociation == Some(true)).count();
    let others = extras.dissociation.len() - measured.len();
    let mut caption = format!(
        "Loss of logit difference when helping IOI-only heads (upper two lines of each model) or as many helping anti-only heads (lower two) \
         are ablated together. Lines: 95% intervals over prompts. n = {}, of which {double} with double dissociation.",
        words::counted(measured.len(), "model", "models"),
    );
    if others > 0 {
        caption += &format!(
            " Not shown: {} without heads of both kinds.",
            words::counted(others, "model", "models")
        );
    }
    let labels: Vec<String> = measured.iter().map(|r| r.model.clone()).collect();
    let sheet = Sheet { name, title: "", body_mm: 12.0 + 7.0 * measured.len() as f64, legend, caption };
    let figure = sheet.draw(|body| {
        rows(body, &labels, x, |panel| {
            panel.upright(0.0, FAINT)?;
            for (row, of_model) in measured.iter().enumerate() {
                for (task, shift, (value, low, high)) in damage(of_model) {
                    let (y, color) = (row as f64 + shift, task_color(task));
                    if let Some((low, high)) = low.zip(high) {
                        panel.interval_along(y, low, high, color, 0.8)?;
                    }
                    let marker = if task == StudyTask::Ioi { Marker::Circle } else { Marker::Diamond };
                    if let Some(value) = value {
                        panel.marker(marker, (value, y), 1.8, color, 1.0)?;
                    }
                }
            }
            Ok(())
        })
    })?;
    Ok(Ok(figure))
}
