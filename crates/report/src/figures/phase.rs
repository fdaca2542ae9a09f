//! Heads as points: the effect on one task against the effect on the other.

use cs_analysis::categories::{Category, ClassifiedHead, ClassifiedModel};
use cs_analysis::contrast::{Contrast, Side};
use cs_analysis::effect::Effect;
use cs_analysis::joint::ModelHeads;
use cs_analysis::study::ContrastStudy;
use plotters::style::RGBColor;

use super::legend::{Entry, Symbol};
use super::page::{Area, DrawError, Sheet, Style, grid};
use super::palette::{FAINT, Families, IN_LEGENDS, INK, Marker, category_color, category_label, side_label};
use super::panel::Panel;
use super::scale::Axis;
use super::{Drawing, NotDrawn, all_weak, model_figure};
use crate::error::Result;
use crate::words;

/// Titles of the axes of a contrast.
fn titles(contrast: &Contrast) -> [String; 2] {
    Side::BOTH.map(|side| format!("Δ {} (logits)", side_label(contrast, side)))
}

/// A sentence about the axes of [`effect_axes`].
const AXES: &str = "Axes show asinh(Δ / τ): nearly linear within ±τ, logarithmic beyond.";
/// Maximum number of strong heads for which intervals are drawn, so that they do not hide the heads.
const MOST_INTERVALS: usize = 150;
/// More strong heads than this are drawn smaller.
const CROWDED: usize = 1000;
/// Number of heads with intervals in a model's scatter plot.
const WITH_INTERVALS: usize = 40;
/// Number of heads named in a model's scatter plot.
const NAMED: usize = 6;

/// The categories that occur, as a legend.
fn category_entries(
    contrast: &Contrast,
    models: &[&ClassifiedModel],
    symbol: impl Fn(RGBColor) -> Symbol,
) -> Vec<Entry> {
    let occurs = |c: Category| models.iter().any(|m| m.heads.iter().any(|h| h.category == c));
    let categories = IN_LEGENDS.into_iter().filter(|c| occurs(*c));
    categories.map(|c| Entry::new(symbol(category_color(c)), category_label(contrast, c))).collect()
}

fn tau_entry(tau: f64) -> Entry {
    Entry::new(Symbol::Dashed(FAINT), format!("±τ = ±{tau}"))
}

fn tau_lines(panel: &Panel, tau: f64) -> std::result::Result<(), DrawError> {
    [-tau, tau].into_iter().try_for_each(|t| {
        panel.across(t, FAINT)?;
        panel.upright(t, FAINT)
    })
}

/// A sentence on how many of these models' strong heads work on both tasks.
fn shared_of_strong(models: &[&ClassifiedModel]) -> String {
    let count = |keep: fn(Category) -> bool| {
        models.iter().flat_map(|m| &m.heads).filter(|h| keep(h.category)).count()
    };
    let strong = count(|c| c != Category::Weak);
    match (strong, count(|c| c == Category::Shared)) {
        (0, _) => "No head reaches τ on either task: all are weak.".into(),
        (1, 0) => "One head reaches τ, on one task.".into(),
        (1, _) => "One head reaches τ, on both tasks.".into(),
        (n, 0) => format!("None of the {} heads that reach τ on a task does so on both.", words::count(n)),
        (n, 1) => format!("One of the {} heads that reach τ on a task does so on both.", words::count(n)),
        (n, shared) if n == shared => {
            format!("All {} heads that reach τ on a task do so on both.", words::count(n))
        }
        (n, shared) => format!(
            "{} of the {} heads that reach τ on a task do so on both.",
            words::count(shared),
            words::count(n)
        ),
    }
}

/// Draws heads: weak ones first and small, strong ones over them.
fn points<'a>(
    panel: &Panel,
    heads: impl Iterator<Item = (&'a ClassifiedHead, Marker)> + Clone,
    size: f64,
) -> std::result::Result<(), DrawError> {
    for is_weak in [true, false] {
        for (head, marker) in heads.clone().filter(|(h, _)| (h.category == Category::Weak) == is_weak) {
            let (size, opacity) = if is_weak { (size * 0.7, 0.45) } else { (size, 0.8) };
            let color = category_color(head.category);
            panel.marker(marker, (head.deltas[0], head.deltas[1]), size, color, opacity)?;
        }
    }
    Ok(())
}

fn not_weak(model: &ClassifiedModel) -> Vec<&ClassifiedHead> {
    model.heads.iter().filter(|h| h.category != Category::Weak).collect()
}

/// Draws the intervals of these heads.
fn intervals(
    panel: &Panel,
    heads: &[&ClassifiedHead],
    measured: &ModelHeads,
) -> std::result::Result<(), DrawError> {
    for head in heads {
        let Some(row) = measured.head(head.layer, head.head) else { continue };
        let color = category_color(head.category);
        if let Some((low, high)) = ends(row.effect(Side::A)) {
            panel.interval_along(head.deltas[1], low, high, color, 0.4)?;
        }
        if let Some((low, high)) = ends(row.effect(Side::B)) {
            panel.interval(head.deltas[0], low, high, color, 0.4)?;
        }
    }
    Ok(())
}

fn ends(effect: &Effect) -> Option<(f64, f64)> {
    let detail = effect.detail.as_deref()?;
    detail.ci_low.zip(detail.ci_high)
}

fn n_heads(study: &ContrastStudy) -> usize {
    study.classified.models.iter().map(|m| m.heads.len()).sum()
}

/// Bounds of the intervals of these heads on one task.
fn reach(heads: &[&ClassifiedHead], measured: &ModelHeads, task: Side) -> Vec<f64> {
    let rows = heads.iter().filter_map(|h| measured.head(h.layer, h.head));
    rows.filter_map(|row| ends(row.effect(task))).flat_map(|(low, high)| [low, high]).collect()
}

/// Axes that cover all heads, and their intervals if these are drawn.
fn effect_axes(study: &ContrastStudy, with_intervals: bool) -> (Axis, Axis) {
    let heads = || study.classified.models.iter().flat_map(|m| &m.heads);
    let intervals = |task| -> Vec<f64> {
        let models = study.classified.models.iter().zip(&study.joint.models).filter(|_| with_intervals);
        models.flat_map(|(model, measured)| reach(&not_weak(model), measured, task)).collect()
    };
    let tau = study.options.tau;
    let (x, y) = (heads().map(|h| h.deltas[0]), heads().map(|h| h.deltas[1]));
    let [x_title, y_title] = titles(study.contrast());
    (
        Axis::effects(&x_title, x.chain(intervals(Side::A)), tau),
        Axis::effects(&y_title, y.chain(intervals(Side::B)), tau),
    )
}

/// `phase_space_all_heads`: every head of every model.
pub(super) fn all_heads(study: &ContrastStudy, families: &Families, style: &Style) -> Result<Drawing> {
    let name = "phase_space_all_heads";
    let models: Vec<&ClassifiedModel> = study.classified.models.iter().collect();
    if n_heads(study) == 0 {
        return Ok(Err(NotDrawn::new(name, "no head was measured on both tasks")));
    }
    let tau = study.options.tau;
    let n_strong = models.iter().flat_map(|m| &m.heads).filter(|h| h.category != Category::Weak).count();
    let has_intervals = study.joint.rows().any(|(_, h)| h.effects.iter().any(|e| ends(e).is_some()));
    let draw_intervals = has_intervals && n_strong <= MOST_INTERVALS;
    let mut legend = category_entries(study.contrast(), &models, Symbol::Swatch);
    legend.push(tau_entry(tau));
    legend.extend(families.names().map(|f| Entry::new(Symbol::Marker(families.marker(f), INK, true), f)));
    let about_intervals = match (has_intervals, draw_intervals) {
        _ if n_strong == 0 => "",
        (true, true) => " Lines: 95% intervals over prompts, of heads that are not weak.",
        (true, false) => " Intervals are in the scatter plot of each model.",
        (false, _) => "",
    };
    let caption = format!(
        "n = {} of {}. Negative Δ: the head helps the task. {AXES}{about_intervals}",
        words::counted(n_heads(study), "head", "heads"),
        words::models(&models.iter().map(|m| m.info.model.as_str()).collect::<Vec<_>>()),
    );
    let see = shared_of_strong(&models);
    let (x, y) = effect_axes(study, draw_intervals);
    let sheet = Sheet { name, title: "", body_mm: 76.0, legend, see, caption };
    let figure = sheet.draw(style, |body| {
        let panel = Panel::new(body, "", x, y)?;
        tau_lines(&panel, tau)?;
        if draw_intervals {
            for (model, measured) in models.iter().zip(&study.joint.models) {
                intervals(&panel, &not_weak(model), measured)?;
            }
        }
        let heads = models.iter().flat_map(|m| {
            let marker = families.marker(&m.info.family);
            m.heads.iter().map(move |h| (h, marker))
        });
        points(&panel, heads, if n_strong > CROWDED { 1.1 } else { 1.6 })
    })?;
    Ok(Ok(figure))
}

/// `family_grid`: the same with one panel per family, on common axes.
pub(super) fn family_grid(study: &ContrastStudy, families: &Families, style: &Style) -> Result<Drawing> {
    let name = "family_grid";
    if n_heads(study) == 0 {
        return Ok(Err(NotDrawn::new(name, "no head was measured on both tasks")));
    }
    let models: Vec<&ClassifiedModel> = study.classified.models.iter().collect();
    let columns = if families.len() == 1 { 1 } else { 2 };
    let rows = families.len().div_ceil(columns);
    let mut legend = category_entries(study.contrast(), &models, Symbol::Swatch);
    legend.push(tau_entry(study.options.tau));
    let per_family = |family: &str| {
        let models: Vec<&ClassifiedModel> =
            models.iter().copied().filter(|m| m.info.family == family).collect();
        let n: usize = models.iter().map(|m| m.heads.len()).sum();
        (models, n)
    };
    let counts: Vec<String> = families
        .names()
        .map(|f| {
            format!(
                "{} in {f} ({})",
                words::count(per_family(f).1),
                words::models(&per_family(f).0.iter().map(|m| m.info.model.as_str()).collect::<Vec<_>>())
            )
        })
        .collect();
    let noun = if n_heads(study) == 1 { "head" } else { "heads" };
    let mut caption =
        format!("n = {} {noun}. Negative Δ: the head helps the task. {AXES}", words::list(&counts));
    if families.len() > 1 {
        caption += " They are the same in every panel.";
    }
    let see = shared_of_strong(&models);
    let (x, y) = effect_axes(study, false);
    let body_mm = if columns == 1 { 70.0 } else { 44.0 * rows as f64 };
    let sheet = Sheet { name, title: "", body_mm, legend, see, caption };
    let figure = sheet.draw(style, |body| {
        for (index, (area, family)) in grid(body, rows, columns).iter().zip(families.names()).enumerate() {
            let (mut x, mut y) = (x.clone(), y.clone());
            // Axis titles are only at the edge of the grid.
            if index % columns != 0 {
                y.title.clear();
            }
            if index + columns < families.len() {
                x.title.clear();
            }
            family_panel(area, family, &per_family(family).0, (x, y), study.options.tau, families)?;
        }
        Ok(())
    })?;
    Ok(Ok(figure))
}

fn family_panel(
    area: &Area,
    family: &str,
    models: &[&ClassifiedModel],
    axes: (Axis, Axis),
    tau: f64,
    families: &Families,
) -> std::result::Result<(), DrawError> {
    let panel = Panel::new(area, family, axes.0, axes.1)?;
    tau_lines(&panel, tau)?;
    let marker = families.marker(family);
    points(&panel, models.iter().flat_map(|m| m.heads.iter().map(move |h| (h, marker))), 1.3)
}

/// `scatter_<model>`: one model on linear axes, its strongest heads by name, with intervals.
pub(super) fn scatter(
    study: &ContrastStudy,
    index: usize,
    families: &Families,
    style: &Style,
) -> Result<Drawing> {
    let contrast = study.contrast();
    let model = &study.classified.models[index];
    let measured = &study.joint.models[index];
    let tau = study.options.tau;
    let name = model_figure("scatter", &model.info.model);
    if model.heads.is_empty() {
        return Ok(Err(NotDrawn::new(&name, "no head was measured on both tasks")));
    }
    let mut strongest: Vec<&ClassifiedHead> =
        model.heads.iter().filter(|h| h.category != Category::Weak).collect();
    strongest.sort_by(|a, b| b.strength.total_cmp(&a.strength));
    let n_strong = strongest.len();
    let point = |h: &ClassifiedHead| (h.deltas[0], h.deltas[1]);
    let names: Vec<_> =
        strongest.iter().take(NAMED).map(|h| (point(h), words::head(h.layer, h.head))).collect();
    let taken: Vec<(f64, f64)> = strongest.iter().map(|h| point(h)).collect();
    strongest.truncate(WITH_INTERVALS);
    let mut legend = category_entries(contrast, &[model], |color| {
        Symbol::Marker(families.marker(&model.info.family), color, true)
    });
    legend.push(tau_entry(tau));
    let has_intervals = measured.heads.iter().any(|h| h.effects.iter().any(|e| ends(e).is_some()));
    let correlations = &study.correlations[index];
    let over = words::intervals_over(std::iter::once(&correlations.pearson));
    let mut caption = format!(
        "n = {}. Pearson's r = {}{}.",
        words::counted(model.heads.len(), "head", "heads"),
        words::correlation(&correlations.pearson),
        over.map_or(String::new(), |over| format!(", 95% interval over {over}")),
    );
    let see = shared_of_strong(&[model]);
    if has_intervals && !all_weak(std::slice::from_ref(model)) {
        caption += &if n_strong > WITH_INTERVALS {
            format!(" Lines: 95% intervals over prompts, of the {WITH_INTERVALS} strongest heads.")
        } else {
            " Lines: 95% intervals over prompts, of heads that are not weak.".to_owned()
        };
    }
    if let Some(not_done) = words::not_done(contrast, std::iter::once(&measured.info)) {
        caption += &format!(" {not_done}");
    }
    if !names.is_empty() {
        caption += " Names: the strongest heads, where there is room.";
    }
    if model.n_unclassified > 0 {
        let more = words::counted(model.n_unclassified, "head is", "heads are");
        caption += &format!(" {more} not shown: measured on one task only.");
    }
    // Intervals may reach beyond the points.
    let reach = |task| reach(&strongest, measured, task);
    let guide = [-1.3 * tau, 1.3 * tau];
    let x_values = model.heads.iter().map(|h| h.deltas[0]).chain(reach(Side::A)).chain(guide);
    let y_values = model.heads.iter().map(|h| h.deltas[1]).chain(reach(Side::B)).chain(guide);
    let [x_title, y_title] = titles(contrast);
    let (x, y) = (Axis::linear(&x_title, x_values, 5), Axis::linear(&y_title, y_values, 5));
    // Names must not cover the points and their intervals.
    let lines = strongest.iter().flat_map(|h| {
        let (x, y) = point(h);
        let row = measured.head(h.layer, h.head);
        let along = row.and_then(|r| ends(r.effect(Side::A))).map(|(low, high)| [(low, y), (high, y)]);
        let up = row.and_then(|r| ends(r.effect(Side::B))).map(|(low, high)| [(x, low), (x, high)]);
        [along, up].into_iter().flatten()
    });
    let taken: Vec<[(f64, f64); 2]> = taken.into_iter().map(|at| [at, at]).chain(lines).collect();
    // Names should not cover the lines at ±τ, between which the weak heads are.
    let bands = [[(-tau, y.low), (tau, y.high)], [(x.low, -tau), (x.high, tau)]];
    let sheet = Sheet { name: &name, title: &model.info.model, body_mm: 66.0, legend, see, caption };
    let figure = sheet.draw(style, |body| {
        let panel = Panel::new(body, "", x, y)?;
        tau_lines(&panel, tau)?;
        intervals(&panel, &strongest, measured)?;
        let marker = families.marker(&model.info.family);
        points(&panel, model.heads.iter().map(|h| (h, marker)), 1.8)?;
        panel.name_points(&names, &taken, &bands)?;
        Ok(())
    })?;
    Ok(Ok(figure))
}
