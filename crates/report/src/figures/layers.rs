//! Heads by where they lie: how many of each category in each layer, and the effect of each.

use cs_analysis::categories::Category;
use cs_analysis::contrast::Side;
use cs_analysis::study::ContrastStudy;
use plotters::style::text_anchor::{HPos, VPos};

use super::legend::{Entry, Stripes, Symbol};
use super::page::{Area, DrawError, SMALL_PT, Sheet, Style, line_height, mm, pt, say, text};
use super::palette::{FAINT, GROUND, INK, Marker, category_color, category_label, diverging, side_label};
use super::panel::Panel;
use super::scale::{Axis, Scale, decimal};
use super::{Drawing, NotDrawn, model_figure};
use crate::error::Result;
use crate::words;

/// The categories that a histogram stacks, from the bottom, each with stripes of its own.
const STACKED: [(Category, Stripes); 3] = [
    (Category::Shared, Stripes::None),
    (Category::OnlyA, Stripes::Upright),
    (Category::OnlyB, Stripes::Across),
];

/// Whole numbers from 0 to `n` − 1, each in the middle of its cell, with at most `most` labels.
fn indices(title: &str, n: usize, most: usize) -> Axis {
    let step = [1, 2, 4, 5, 8, 10, 16, 20, 32, 50, 100].into_iter().find(|s| n.div_ceil(*s) <= most);
    let step = step.unwrap_or_else(|| n.div_ceil(most));
    let ticks = (0..n).step_by(step).map(|i| (i as f64, i.to_string())).collect();
    Axis { scale: Scale::Linear, low: -0.5, high: n as f64 - 0.5, ticks, title: title.into() }
}

/// `layer_histogram_<model>`: heads of each category in each layer.
pub(super) fn histogram(study: &ContrastStudy, index: usize, style: &Style) -> Result<Drawing> {
    let contrast = study.contrast();
    let model = &study.classified.models[index];
    let n_layers = study.joint.models[index].n_layers() as usize;
    let name = model_figure("layer_histogram", &model.info.model);
    if model.heads.is_empty() {
        return Ok(Err(NotDrawn::new(&name, "no head was measured on both tasks")));
    }
    // [n_layers] of [category]
    let mut counts = vec![[0usize; STACKED.len()]; n_layers];
    for head in &model.heads {
        if let Some(slot) = STACKED.iter().position(|(c, _)| *c == head.category) {
            counts[head.layer as usize][slot] += 1;
        }
    }
    let tallest = counts.iter().map(|c| c.iter().sum::<usize>()).max().unwrap_or(0);
    let weak = model.heads.iter().filter(|h| h.category == Category::Weak).count();
    let is_fullest = |layer: &usize| counts[*layer].iter().sum::<usize>() == tallest;
    let fullest: Vec<usize> = (0..n_layers).filter(is_fullest).collect();
    let see = see_fullest(&fullest, tallest);
    let entry =
        |(c, stripes)| Entry::new(Symbol::Striped(category_color(c), stripes), category_label(contrast, c));
    let legend = STACKED.into_iter().map(entry).collect();
    let caption = format!(
        "n = {} that are not weak at τ = {} logits, of {} measured on both tasks ({} weak, not shown).",
        words::counted(model.heads.len() - weak, "head", "heads"),
        study.options.tau,
        words::count(model.heads.len()),
        words::count(weak),
    );
    let sheet = Sheet { name: &name, title: &model.info.model, body_mm: 44.0, legend, see, caption };
    let figure = sheet.draw(style, |body| {
        let y = Axis::counts("heads", tallest, 4);
        let panel = Panel::new(body, "", indices("layer", n_layers, 16), y)?;
        for (layer, counts) in counts.iter().enumerate() {
            let mut below = 0;
            for ((category, stripes), count) in STACKED.iter().zip(counts).filter(|(_, count)| **count > 0) {
                let (left, right) = (layer as f64 - 0.4, layer as f64 + 0.4);
                let (bottom, top) = (below as f64, (below + count) as f64);
                panel.striped((left, top), (right, bottom), category_color(*category), *stripes)?;
                below += count;
            }
        }
        if tallest == 0 {
            say(panel.inside(), "No head reaches τ on either task: all are weak.")?;
        }
        Ok(())
    })?;
    Ok(Ok(figure))
}

/// Which layers have the most heads that reach τ.
fn see_fullest(layers: &[usize], n: usize) -> String {
    let named: Vec<String> = layers.iter().map(ToString::to_string).collect();
    let (who, each) = match layers {
        _ if n == 0 => return "No head reaches τ on either task: all are weak.".to_owned(),
        [only] => (format!("Layer {only} has"), ""),
        [first, .., last] if layers.len() > 4 => {
            (format!("{} layers between {first} and {last} have", layers.len()), " each")
        }
        _ => (format!("Layers {} have", words::list(&named)), " each"),
    };
    format!("{who} the most heads that reach τ on a task: {n}{each}.")
}

/// `heatmap_<model>`: Δ of every head on both tasks, by layer and head.
pub(super) fn heatmap(study: &ContrastStudy, index: usize, style: &Style) -> Result<Drawing> {
    let contrast = study.contrast();
    let model = &study.joint.models[index];
    let name = model_figure("heatmap", &model.info.model);
    let effects = || model.heads.iter().flat_map(|h| Side::BOTH.map(|task| h.effect(task).delta));
    let limit = effects().flatten().fold(0.0f64, |m, d| m.max(d.abs()));
    if effects().flatten().next().is_none() {
        return Ok(Err(NotDrawn::new(&name, "no head was measured")));
    }
    let seen = model.heads.iter().map(|h| h.head as usize + 1).max().unwrap_or(0);
    let n_heads = model.info.n_heads.map_or(seen, |n| n as usize).max(seen);
    let n_layers = model.n_layers() as usize;
    let measured = Side::BOTH.map(|task| {
        (side_label(contrast, task), model.heads.iter().filter(|h| h.effect(task).delta.is_some()).count())
    });
    let tau = study.options.tau;
    let missing = n_layers * n_heads * 2 > effects().flatten().count();
    let legend = not_measured(missing);
    let caption = format!("{} {}", measured_on(&measured), about_colors(tau));
    let strongest = Side::BOTH.map(|task| {
        let heads = model.heads.iter().filter_map(|h| Some((h.layer, h.head, h.effect(task).delta?)));
        strongest(&side_label(contrast, task), heads)
    });
    let see = see_strongest(strongest.into_iter().flatten());
    let rows_mm = (n_layers as f64 * 2.2).clamp(30.0, 96.0);
    let bar_mm = 11.0;
    let sheet = Sheet {
        name: &name,
        title: &model.info.model,
        body_mm: rows_mm + 10.0 + bar_mm,
        legend,
        see,
        caption,
    };
    let figure = sheet.draw(style, |body| {
        let (width, height) = body.dim_in_pixel();
        let (upper, lower) = body.split_vertically(height as i32 - mm(bar_mm));
        let halves = upper.split_horizontally(width as i32 / 2 + mm(2.0));
        for (area, task) in [&halves.0, &halves.1].into_iter().zip(Side::BOTH) {
            let heads = model.heads.iter().filter_map(|h| Some((h.layer, h.head, h.effect(task).delta?)));
            let titles = [side_label(contrast, task), "head".to_owned(), y_title(task == Side::A)];
            cells(area, titles, heads, (n_layers, n_heads), (limit, tau))?;
        }
        color_bar(&lower, limit)
    })?;
    Ok(Ok(figure))
}

/// What the colours of a map mean.
pub(super) fn about_colors(tau: f64) -> String {
    format!(
        "Blue: the head helps the task; red: it hinders; a dot: it hinders by τ = {tau} logits or more. The colour follows √|Δ|, to the \
         largest |Δ| of the model."
    )
}

/// How many heads were measured on each task.
pub(super) fn measured_on(tasks: &[(String, usize)]) -> String {
    match tasks {
        [(_, n)] => format!("n = {}.", words::counted(*n, "head", "heads")),
        [(_, n), rest @ ..] if rest.iter().all(|(_, other)| other == n) => {
            format!("n = {} on each task.", words::counted(*n, "head", "heads"))
        }
        _ => {
            let each: Vec<String> =
                tasks.iter().map(|(task, n)| format!("{} on {task}", words::count(*n))).collect();
            format!("n = {} heads.", words::list(&each))
        }
    }
}

/// The legend of a map.
pub(super) fn not_measured(is_any: bool) -> Vec<Entry> {
    if is_any { vec![Entry::new(Symbol::Swatch(GROUND), "not measured")] } else { Vec::new() }
}

/// The head with the largest |Δ| on a task, in words.
pub(super) fn strongest(task: &str, heads: impl Iterator<Item = (u32, u32, f64)>) -> Option<String> {
    let (layer, head, delta) = heads.max_by(|a, b| a.2.abs().total_cmp(&b.2.abs()))?;
    Some(format!("{} on {task} ({})", words::head(layer, head), words::signed(delta)))
}

/// What to see in a map: the strongest heads.
pub(super) fn see_strongest(heads: impl Iterator<Item = String>) -> String {
    let heads: Vec<String> = heads.collect();
    let noun = if heads.len() == 1 { "head" } else { "heads" };
    format!("Strongest {noun}: {}.", words::list(&heads))
}

/// Place on the colour scale: signed square root, so that the many small effects stay apart.
fn shade(delta: f64, limit: f64) -> f64 {
    if limit > 0.0 { delta.signum() * (delta.abs() / limit).sqrt() } else { 0.0 }
}

/// The title of the axis of layers, which panels beside each other share.
pub(super) fn y_title(is_first: bool) -> String {
    if is_first { "layer".to_owned() } else { String::new() }
}

/// A map of effects (layer, head, Δ) in a model of so many layers and heads, with titles of its own and of both axes. Colours go to
/// `limit`; heads that hinder by `tau` or more are marked by a dot.
pub(super) fn cells(
    area: &Area,
    [title, x_title, y_title]: [String; 3],
    heads: impl Iterator<Item = (u32, u32, f64)>,
    (n_layers, n_heads): (usize, usize),
    (limit, tau): (f64, f64),
) -> std::result::Result<(), DrawError> {
    let most = if area.dim_in_pixel().0 as i32 > mm(60.0) { 16 } else { 8 };
    let panel = Panel::new(area, &title, indices(&x_title, n_heads, most), indices(&y_title, n_layers, 12))?;
    panel.block((-0.5, n_layers as f64 - 0.5), (n_heads as f64 - 0.5, -0.5), GROUND, 1.0)?;
    // A fifth of a cell, which may be narrow or low.
    let (corner, next) = (panel.at(0.0, 0.0), panel.at(1.0, 1.0));
    let cell = (next.0 - corner.0).abs().min((next.1 - corner.1).abs());
    let dot = (0.2 * f64::from(cell) / f64::from(pt(1.0))).clamp(0.35, 1.0);
    for (layer, head, delta) in heads {
        let (x, y) = (f64::from(head), f64::from(layer));
        panel.block((x - 0.5, y + 0.5), (x + 0.5, y - 0.5), diverging(shade(delta, limit)), 1.0)?;
        if delta >= tau {
            panel.marker(Marker::Circle, (x, y), dot, INK, 1.0)?;
        }
    }
    let (right, top) = (n_heads as f64 - 0.5, n_layers as f64 - 0.5);
    panel.line(&[(-0.5, top), (right, top), (right, -0.5)], FAINT, 0.5)
}

/// The colour scale with five values.
pub(super) fn color_bar(area: &Area, limit: f64) -> std::result::Result<(), DrawError> {
    const STEPS: i32 = 100;
    let width = area.dim_in_pixel().0 as i32;
    let (left, length) = (width / 5, width * 3 / 5);
    let (top, bottom) = (pt(3.0), pt(9.0));
    for step in 0..STEPS {
        let edge = |s: i32| left + length * s / STEPS;
        let value = (f64::from(step) + 0.5) / f64::from(STEPS) * 2.0 - 1.0;
        let corners = [(edge(step), top), (edge(step + 1), bottom)];
        area.draw(&plotters::element::Rectangle::new(
            corners,
            plotters::style::Color::filled(&diverging(value)),
        ))?;
    }
    let decimals = (1.0 - (limit / 4.0).max(1e-6).log10().floor()).max(0.0) as usize;
    for share in [-1.0f64, -0.25, 0.0, 0.25, 1.0] {
        let x = left + (f64::from(length) * (shade(share, 1.0) + 1.0) / 2.0) as i32;
        let label = decimal(share * limit, decimals);
        text(area, &label, (x, bottom + pt(1.5)), SMALL_PT, &INK, (HPos::Center, VPos::Top))?;
    }
    let words = "Δ (logits)";
    text(
        area,
        words,
        (width / 2, bottom + pt(1.5) + line_height(SMALL_PT)),
        SMALL_PT,
        &INK,
        (HPos::Center, VPos::Top),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fullest_layers_are_named_even_where_there_are_several() {
        let of = |layers: &[usize], n: usize| see_fullest(layers, n);
        assert_eq!(of(&[3], 1), "Layer 3 has the most heads that reach τ on a task: 1.");
        assert_eq!(of(&[1, 4], 2), "Layers 1 and 4 have the most heads that reach τ on a task: 2 each.");
        assert_eq!(
            of(&[0, 2, 4, 6, 9], 7),
            "5 layers between 0 and 9 have the most heads that reach τ on a task: 7 each."
        );
        assert!(of(&[0, 1], 0).starts_with("No head reaches τ"));
        let tasks = |n: [usize; 2]| measured_on(&[("IOI".into(), n[0]), ("b".into(), n[1])]);
        assert_eq!(tasks([4, 4]), "n = 4 heads on each task.");
        assert_eq!(tasks([4, 3]), "n = 4 on IOI and 3 on b heads.");
        assert_eq!(measured_on(&[("IOI".into(), 1)]), "n = 1 head.");
    }
}
