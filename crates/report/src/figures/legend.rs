//! The legend of a figure.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};

use super::page::{Area, DrawError, SMALL_PT, draw_marker, line_height, pt, shortened, text, text_width};
use super::palette::{INK, Marker};

/// White stripes on a coloured area, to distinguish areas without colour vision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stripes {
    /// No stripes.
    None,
    /// One vertical stripe.
    Upright,
    /// Several horizontal stripes.
    Across,
}

impl Stripes {
    /// Draws the stripes over an area between two corners.
    pub fn draw(self, area: &Area, [from, to]: [(i32, i32); 2]) -> std::result::Result<(), DrawError> {
        let width = pt(0.7).max(1);
        let stripe = |corners: [(i32, i32); 2]| area.draw(&Rectangle::new(corners, WHITE.filled()));
        match self {
            Self::None => Ok(()),
            Self::Upright => {
                let middle = from.0.midpoint(to.0);
                stripe([(middle - width / 2, from.1), (middle + width - width / 2, to.1)])
            }
            Self::Across => {
                let n = ((to.1 - from.1) / pt(2.0)).max(1);
                (1..=n).try_for_each(|i| {
                    let y = from.1 + (to.1 - from.1) * i / (n + 1);
                    stripe([(from.0, y - width / 2), (to.0, y + width - width / 2)])
                })
            }
        }
    }
}

/// The symbol of a legend entry.
#[derive(Debug, Clone, Copy)]
pub enum Symbol {
    /// A marker, filled or hollow.
    Marker(Marker, RGBColor, bool),
    /// A coloured square.
    Swatch(RGBColor),
    /// A coloured square with white stripes.
    Striped(RGBColor, Stripes),
    /// A line.
    Line(RGBColor),
    /// A dashed line.
    Dashed(RGBColor),
}

/// An entry of the legend.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The symbol.
    pub symbol: Symbol,
    /// Its meaning.
    pub label: String,
}

impl Entry {
    /// An entry of the legend.
    pub fn new(symbol: Symbol, label: impl Into<String>) -> Self {
        Self { symbol, label: label.into() }
    }
}

/// Width of an entry's symbol.
fn symbol_width() -> i32 {
    pt(10.0)
}

/// The entries in rows, each with its offset from the left.
pub(super) fn legend_rows(entries: &[Entry], width: i32) -> Vec<Vec<(i32, Entry)>> {
    let mut rows: Vec<Vec<(i32, Entry)>> = Vec::new();
    let mut x = 0;
    for entry in entries {
        let label = shortened(&entry.label, SMALL_PT, width - symbol_width());
        let own = symbol_width() + text_width(&label, SMALL_PT);
        if rows.is_empty() || x + own > width {
            rows.push(Vec::new());
            x = 0;
        }
        if let Some(row) = rows.last_mut() {
            row.push((x, Entry::new(entry.symbol, label)));
        }
        x += own + pt(8.0);
    }
    rows
}

pub(super) fn draw_entry(area: &Area, entry: &Entry, x: i32, top: i32) -> std::result::Result<(), DrawError> {
    let middle = top + line_height(SMALL_PT) / 2;
    let centre = (x + symbol_width() / 2 - pt(1.0), middle);
    match entry.symbol {
        Symbol::Marker(marker, color, filled) => draw_marker(area, marker, centre, 2.4, color, filled, 1.0)?,
        Symbol::Swatch(color) => draw_swatch(area, centre, color, Stripes::None)?,
        Symbol::Striped(color, stripes) => draw_swatch(area, centre, color, stripes)?,
        Symbol::Line(color) => {
            area.draw(&PathElement::new(
                [(x, middle), (x + pt(8.0), middle)],
                color.stroke_width(pt(1.0) as u32),
            ))?;
        }
        Symbol::Dashed(color) => {
            for dash in 0..3 {
                let from = x + pt(2.7 * f64::from(dash));
                let line = [(from, middle), (from + pt(1.8), middle)];
                area.draw(&PathElement::new(line, color.stroke_width(pt(0.7) as u32)))?;
            }
        }
    }
    let at = (x + symbol_width(), middle);
    text(area, &entry.label, at, SMALL_PT, &INK, (HPos::Left, VPos::Center))
}

fn draw_swatch(
    area: &Area,
    centre: (i32, i32),
    color: RGBColor,
    stripes: Stripes,
) -> std::result::Result<(), DrawError> {
    let half = pt(2.6);
    let corners = [(centre.0 - half, centre.1 - half), (centre.0 + half, centre.1 + half)];
    area.draw(&Rectangle::new(corners, color.filled()))?;
    stripes.draw(area, corners)
}
