//! All pairs of tasks, in one model.

use cs_analysis::overlap::Overlap;
use cs_analysis::ranged::Ranged;
use cs_analysis::study::Study;
use plotters::element::Rectangle;
use plotters::style::text_anchor::{HPos, VPos};
use plotters::style::{Color, RGBColor};

use super::legend::{Entry, Symbol};
use super::page::{
    Area, DrawError, SMALL_PT, Sheet, Style, line_height, mm, pt, shortened, text, text_width,
};
use super::palette::{GROUND, INK, category_color, diverging, task_label};
use super::scale::decimal;
use super::{Drawing, NotDrawn, model_figure};
use crate::error::Result;
use crate::words;

/// Height of a cell: four lines of text.
const CELL_MM: f64 = 13.0;

/// `task_overlap_<model>`: correlations of Δ above the diagonal, shares of common strong heads below it, numbers of strong
/// heads on it.
pub(super) fn matrix(study: &Study, index: usize, style: &Style) -> Result<Drawing> {
    let model = &study.effects.models[index].info.model;
    let name = model_figure("task_overlap", model);
    let own: Vec<&Overlap> = study.overlaps.iter().filter(|o| o.info.model == *model).collect();
    if own.is_empty() {
        return Ok(Err(NotDrawn::new(&name, "the model was scanned on one task only")));
    }
    let tasks = &study.effects.tasks;
    let n = tasks.len();
    let legend = vec![
        Entry::new(Symbol::Swatch(tint(diverging(0.7), 0.75)), "r > 0"),
        Entry::new(Symbol::Swatch(tint(diverging(-0.7), 0.75)), "r < 0"),
        Entry::new(Symbol::Swatch(tint(shared_color(), 0.6)), "strong heads in common"),
    ];
    let n_heads = own.iter().map(|o| o.n_heads).max().unwrap_or(0);
    let not_done: Vec<String> = study.effects.models[index]
        .tasks
        .iter()
        .filter(|t| t.performance.does_task() == Some(false))
        .map(|t| task_label(&t.task))
        .collect();
    let mut caption = format!(
        "Above the diagonal: Pearson's correlation of Δ between two tasks. Below: heads with |Δ| ≥ τ = {} logits on both, as a share of \
         those on either. On it: heads with |Δ| ≥ τ. n = {}. Brackets: 95% intervals over prompts.",
        study.options.tau,
        words::counted(n_heads, "head", "heads"),
    );
    if !not_done.is_empty() {
        caption += &format!(" The model does not do {}.", words::list(&not_done));
    }
    let most = own.iter().filter(|o| o.pearson.estimate.is_some());
    let most =
        most.max_by(|a, b| a.pearson.estimate.unwrap_or(0.0).total_cmp(&b.pearson.estimate.unwrap_or(0.0)));
    let see = most.map_or("No correlation is defined.".to_owned(), |o| {
        let [a, b] = o.contrast.tasks().map(task_label);
        format!("Most alike in {model}: {a} and {b}, r = {}.", words::correlation(&o.pearson))
    });
    let sheet = Sheet { name: &name, title: model, body_mm: 5.0 + CELL_MM * n as f64, legend, see, caption };
    let figure = sheet.draw(style, |body| {
        let width = body.dim_in_pixel().0 as i32;
        let labels: Vec<String> =
            tasks.iter().enumerate().map(|(at, task)| format!("{} {}", at + 1, task_label(task))).collect();
        let labels: Vec<String> = labels.iter().map(|l| shortened(l, SMALL_PT, mm(24.0))).collect();
        let left = labels.iter().map(|l| text_width(l, SMALL_PT)).max().unwrap_or(0) + mm(1.0) + pt(3.0);
        let (top, cell) = (mm(4.0), ((width - left - mm(1.0)) / n as i32, mm(CELL_MM)));
        let corner = |row: usize, column: usize| (left + cell.0 * column as i32, top + cell.1 * row as i32);
        for (at, label) in labels.iter().enumerate() {
            let middle = corner(at, 0).1 + cell.1 / 2;
            text(body, label, (left - pt(3.0), middle), SMALL_PT, &INK, (HPos::Right, VPos::Center))?;
            let centre = corner(0, at).0 + cell.0 / 2;
            text(
                body,
                &(at + 1).to_string(),
                (centre, top - pt(1.5)),
                SMALL_PT,
                &INK,
                (HPos::Center, VPos::Bottom),
            )?;
        }
        for row in 0..n {
            for column in 0..n {
                let place = (corner(row, column), cell);
                let found = own.iter().find(|o| {
                    let pair = o.contrast.tasks();
                    pair.contains(&tasks[row].as_str()) && pair.contains(&tasks[column].as_str())
                });
                if row == column {
                    let strong = strong_heads(&own, &tasks[row]);
                    let lines =
                        strong.map_or_else(|| vec!["–".to_owned()], |n| vec![n.to_string(), "strong".into()]);
                    draw_cell(body, place, GROUND, &lines)?;
                } else if let Some(found) = found.filter(|_| row < column) {
                    let interval = found.pearson.prompts.map(|i| (i.low, i.high));
                    let figure = Ranged::new(found.pearson.estimate, interval);
                    let shade = tint(diverging(figure.value.unwrap_or(0.0)), 0.75);
                    draw_cell(body, place, shade, &lines(figure, cell.0))?;
                } else if let Some(found) = found {
                    let shade = tint(shared_color(), 0.75 * found.jaccard.value.unwrap_or(0.0));
                    draw_cell(body, place, shade, &lines(found.jaccard, cell.0))?;
                } else {
                    draw_cell(body, place, GROUND, &["–".to_owned()])?;
                }
            }
        }
        Ok(())
    })?;
    Ok(Ok(figure))
}

/// The colour of heads that two tasks share.
fn shared_color() -> RGBColor {
    category_color(cs_analysis::contrast::Category::Shared)
}

/// A colour on white.
fn tint(color: RGBColor, share: f64) -> RGBColor {
    let mix = |c: u8| (255.0 - share * (255.0 - f64::from(c))).round() as u8;
    RGBColor(mix(color.0), mix(color.1), mix(color.2))
}

/// Heads that are strong on a task.
fn strong_heads(overlaps: &[&Overlap], task: &str) -> Option<usize> {
    overlaps.iter().find_map(|o| {
        let at = o.contrast.tasks().iter().position(|t| *t == task)?;
        Some(o.n_strong[at])
    })
}

/// A number and its interval, in as many lines as the width requires.
fn lines(figure: Ranged, width: i32) -> Vec<String> {
    let Some(value) = figure.value else { return vec!["–".to_owned()] };
    let mut lines = vec![decimal(value, 2)];
    if let Some((low, high)) = figure.ends() {
        let [low, high] = [low, high].map(|end| decimal(end, 2));
        let whole = format!("[{low}, {high}]");
        if text_width(&whole, SMALL_PT) <= width - pt(2.0) {
            lines.push(whole);
        } else {
            lines.extend([format!("[{low},"), format!("{high}]")]);
        }
    }
    lines
}

fn draw_cell(
    area: &Area,
    ((x, y), (width, height)): ((i32, i32), (i32, i32)),
    color: RGBColor,
    lines: &[String],
) -> std::result::Result<(), DrawError> {
    let gap = pt(0.5);
    area.draw(&Rectangle::new([(x + gap, y + gap), (x + width - gap, y + height - gap)], color.filled()))?;
    let first = y + height / 2 - lines.len() as i32 * line_height(SMALL_PT) / 2;
    lines.iter().enumerate().try_for_each(|(at, line)| {
        let place = (x + width / 2, first + at as i32 * line_height(SMALL_PT));
        text(area, line, place, SMALL_PT, &INK, (HPos::Center, VPos::Top))
    })
}
