//! A panel of named rows: one row per model or pair of models.

use plotters::style::text_anchor::{HPos, VPos};

use super::page::{Area, DrawError, SMALL_PT, pt, shortened, text, text_width};
use super::palette::{GROUND, INK};
use super::panel::Panel;
use super::scale::{Axis, Scale};

/// Draws the rows' names and the axes; `draw` fills the panel, in which row `i` is at y = i.
pub fn rows(
    area: &Area,
    labels: &[String],
    x: Axis,
    draw: impl FnOnce(&Panel) -> Result<(), DrawError>,
) -> Result<(), DrawError> {
    let labels: Vec<String> =
        labels.iter().map(|l| shortened(l, SMALL_PT, area.dim_in_pixel().0 as i32 * 6 / 10)).collect();
    let widest = labels.iter().map(|l| text_width(l, SMALL_PT)).max().unwrap_or(0);
    let (left, right) = area.split_horizontally(widest + pt(4.0));
    let (low, high) = (x.low, x.high);
    let y = Axis {
        scale: Scale::Linear,
        low: labels.len() as f64 - 0.5,
        high: -0.5,
        ticks: Vec::new(),
        title: String::new(),
    };
    let panel = Panel::new(&right, "", x, y)?;
    let inside_top = panel.inside().get_base_pixel().1 - left.get_base_pixel().1;
    for (row, label) in labels.iter().enumerate() {
        let y = inside_top + panel.at(low, row as f64).1;
        text(&left, label, (widest + pt(2.0), y), SMALL_PT, &INK, (HPos::Right, VPos::Center))?;
        panel.line(&[(low, row as f64), (high, row as f64)], GROUND, 0.4)?;
    }
    draw(&panel)
}
