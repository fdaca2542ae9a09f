//! The page of a figure: one column wide, with a legend above, a caption below, and panels in between.

use std::sync::OnceLock;

use ab_glyph::{Font, FontRef};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::register_font;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::legend::{Entry, draw_entry, legend_rows};
use super::palette::{FAINT, INK, Marker, QUIET};
use crate::error::{ReportError, Result};

/// Drawing units per inch: fine enough that rounding to whole units is invisible at 300 dpi.
pub const UNITS_PER_INCH: f64 = 600.0;
/// Width of every figure: one column of a journal.
pub const COLUMN_MM: f64 = 85.0;
/// Size of the smallest text.
pub const SMALL_PT: f64 = 7.0;
/// Size of axis titles and panel titles.
pub const TITLE_PT: f64 = 7.5;

/// The typeface of figures. It is metric-compatible with Arial and Helvetica, so that an SVG looks the same with one
/// of them.
pub const FONT: &[u8] = include_bytes!("../../fonts/LiberationSans-Regular.ttf");
/// Its name.
pub const FONT_NAME: &str = "Liberation Sans";
/// The font family of SVGs.
const FONT_STACK: &str = "Arial, Helvetica, &apos;Liberation Sans&apos;, sans-serif";

/// A part of the page to draw on.
pub type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
/// The drawing library's error.
pub type DrawError = DrawingAreaErrorKind<std::io::Error>;

/// Millimetres in drawing units.
#[must_use]
pub fn mm(length: f64) -> i32 {
    (length / 25.4 * UNITS_PER_INCH).round() as i32
}

/// Points in drawing units.
#[must_use]
pub fn pt(length: f64) -> i32 {
    (length / 72.0 * UNITS_PER_INCH).round() as i32
}

/// A drawn figure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Figure {
    /// Stem of its file names.
    pub name: String,
    /// The drawing, from which all formats are made.
    pub svg: String,
}

/// Options that change the look of figures.
#[derive(Debug, Clone, PartialEq)]
pub struct Style {
    /// Width, in millimetres.
    pub width_mm: f64,
    /// A title that replaces the figure's own; empty for none.
    pub title: Option<String>,
    /// Whether there is a caption below.
    pub caption: bool,
    /// Colours with their replacements.
    pub colors: Vec<(RGBColor, RGBColor)>,
}

impl Default for Style {
    fn default() -> Self {
        Self { width_mm: COLUMN_MM, title: None, caption: true, colors: Vec::new() }
    }
}

impl Style {
    /// The replacement of a colour; the colour itself if there is none.
    #[must_use]
    pub fn color(&self, color: RGBColor) -> RGBColor {
        self.colors.iter().find(|(from, _)| *from == color).map_or(color, |(_, to)| *to)
    }

    /// The drawing in this style's colours.
    fn recolored(&self, svg: &str) -> String {
        let hex = |color: RGBColor| format!("{:02X}{:02X}{:02X}", color.0, color.1, color.2);
        let colors: Vec<(String, String)> = self.colors.iter().map(|(a, b)| (hex(*a), hex(*b))).collect();
        let mut parts = svg.split("\"#");
        let mut recolored = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            recolored += "\"#";
            let found = colors.iter().find(|(from, _)| part.starts_with(from.as_str()));
            match found {
                Some((from, to)) => recolored.extend([to, &part[from.len()..]]),
                None => recolored += part,
            }
        }
        recolored
    }
}

/// A figure without its panels.
#[derive(Debug, Clone)]
pub struct Sheet<'a> {
    /// Stem of its file names.
    pub name: &'a str,
    /// A title above everything, or none.
    pub title: &'a str,
    /// Height of the panels.
    pub body_mm: f64,
    /// The legend.
    pub legend: Vec<Entry>,
    /// The first line of the caption: what to see.
    pub see: String,
    /// The rest of it: what is shown, units, n, and the kind of intervals.
    pub caption: String,
}

impl Sheet<'_> {
    /// Draws the figure in a style; `panels` draws the part between legend and caption.
    ///
    /// # Errors
    /// If the drawing library fails.
    pub fn draw(
        self,
        style: &Style,
        panels: impl FnOnce(&Area) -> std::result::Result<(), DrawError>,
    ) -> Result<Figure> {
        prepare_font();
        let width = mm(style.width_mm);
        let title = style.title.as_deref().unwrap_or(self.title);
        let margin = mm(1.0);
        let inner = width - 2 * margin;
        let title_height = if title.is_empty() { 0 } else { line_height(TITLE_PT) };
        let rows = legend_rows(&self.legend, inner);
        let legend_height = rows.len() as i32 * line_height(SMALL_PT);
        let lines =
            |words: &str, color| wrap(words, SMALL_PT, inner).into_iter().map(move |line| (line, color));
        let mut caption: Vec<(String, RGBColor)> =
            lines(&self.see, INK).chain(lines(&self.caption, QUIET)).collect();
        if !style.caption {
            caption.clear();
        }
        let caption_height = caption.len() as i32 * line_height(SMALL_PT);
        let gap = mm(1.0);
        let body_top = margin + title_height + legend_height + gap;
        let body_height = mm(self.body_mm);
        let height = body_top + body_height + gap + caption_height + margin;

        let mut svg = String::new();
        {
            let root = SVGBackend::with_string(&mut svg, (width as u32, height as u32)).into_drawing_area();
            let drawn = (|| {
                root.fill(&WHITE)?;
                text(
                    &root,
                    &shortened(title, TITLE_PT, inner),
                    (margin, margin),
                    TITLE_PT,
                    &INK,
                    (HPos::Left, VPos::Top),
                )?;
                for (row, entries) in rows.iter().enumerate() {
                    let top = margin + title_height + row as i32 * line_height(SMALL_PT);
                    for (x, entry) in entries {
                        draw_entry(&root, entry, margin + x, top)?;
                    }
                }
                panels(&root.clone().shrink((0, body_top), (width, body_height)))?;
                for (line, (words, color)) in caption.iter().enumerate() {
                    let top = body_top + body_height + gap + line as i32 * line_height(SMALL_PT);
                    text(&root, words, (margin, top), SMALL_PT, color, (HPos::Left, VPos::Top))?;
                }
                root.present()
            })();
            drawn.map_err(|e| ReportError::figure(self.name, e))?;
        }
        Ok(Figure {
            name: self.name.to_owned(),
            svg: style.recolored(&finished(&svg, [title, &self.see, &self.caption], width, height)),
        })
    }
}

/// The drawing with its size in millimetres, its fonts in order of preference, and a description for screen readers.
fn finished(svg: &str, words: [&str; 3], width: i32, height: i32) -> String {
    let escape = |text: &str| text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let length = |units: i32| format!("{:.2}mm", f64::from(units) / UNITS_PER_INCH * 25.4);
    let size = format!("width=\"{width}\" height=\"{height}\"");
    let in_mm = format!("width=\"{}\" height=\"{}\" role=\"img\"", length(width), length(height));
    let words = words.iter().filter(|t| !t.is_empty()).map(|t| escape(t)).collect::<Vec<_>>();
    let svg =
        svg.replacen(&size, &in_mm, 1).replacen(">\n", &format!(">\n<desc>{}</desc>\n", words.join(" ")), 1);
    // Shapes are opaque by default; opacity of the fill instead of the shape avoids a group per shape; crisp edges
    // avoid seams between neighbouring rectangles.
    svg.replace(&format!("font-family=\"{FONT_NAME}\""), &format!("font-family=\"{FONT_STACK}\""))
        .replace("<rect ", "<rect shape-rendering=\"crispEdges\" ")
        .replace(" opacity=\"1\"", "")
        .replace(" opacity=\"", " fill-opacity=\"")
}

/// Registers [`FONT`] with the drawing library, once.
fn prepare_font() {
    static READY: OnceLock<()> = OnceLock::new();
    READY.get_or_init(|| {
        // The bytes are part of the program: if they were not a valid font, this module's tests would fail.
        let _ = register_font(FONT_NAME, FontStyle::Normal, FONT);
    });
}

/// Distance between two lines of text.
#[must_use]
pub fn line_height(size_pt: f64) -> i32 {
    pt(size_pt * 1.25)
}

/// Width of a text in drawing units.
#[must_use]
pub fn text_width(words: &str, size_pt: f64) -> i32 {
    static FACE: OnceLock<Option<FontRef<'static>>> = OnceLock::new();
    let face = FACE.get_or_init(|| FontRef::try_from_slice(FONT).ok());
    let ems: f32 = match face {
        Some(face) => {
            let units = face.units_per_em().unwrap_or(2048.0);
            words.chars().map(|c| face.h_advance_unscaled(face.glyph_id(c)) / units).sum()
        }
        None => 0.6 * words.chars().count() as f32,
    };
    (f64::from(ems) * f64::from(pt(size_pt))).ceil() as i32
}

/// Wraps words to lines of at most `width`; longer words are cut.
#[must_use]
pub fn wrap(words: &str, size_pt: f64, width: i32) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    // `n = 5` and `Δ −0.2` stay in one line.
    let words = words.replace(" = ", "\u{a0}=\u{a0}").replace("Δ ", "Δ\u{a0}");
    for word in words.split(' ').filter(|w| !w.is_empty()) {
        let word = shortened(word, size_pt, width);
        match lines.last_mut() {
            Some(line) if text_width(&format!("{line} {word}"), size_pt) <= width => {
                line.push(' ');
                line.push_str(&word);
            }
            _ => lines.push(word),
        }
    }
    lines
}

/// The text, shortened in the middle to fit `width`.
#[must_use]
pub fn shortened(words: &str, size_pt: f64, width: i32) -> String {
    if text_width(words, size_pt) <= width {
        return words.to_owned();
    }
    let all: Vec<char> = words.chars().collect();
    for kept in (0..all.len()).rev() {
        let (front, back) = (kept.div_ceil(2), kept / 2);
        let cut: String = all[..front].iter().chain(&['…']).chain(&all[all.len() - back..]).collect();
        if text_width(&cut, size_pt) <= width {
            return cut;
        }
    }
    String::new()
}

/// Writes words at a position of the area; `anchor` is the part of the text at that position.
pub fn text(
    area: &Area,
    words: &str,
    at: (i32, i32),
    size_pt: f64,
    color: &RGBColor,
    anchor: (HPos, VPos),
) -> std::result::Result<(), DrawError> {
    if words.is_empty() {
        return Ok(());
    }
    let style = text_style(size_pt, color).pos(Pos::new(anchor.0, anchor.1));
    area.draw(&Text::new(words.to_owned(), at, style))
}

/// A style for text of this size.
#[must_use]
pub fn text_style<'a>(size_pt: f64, color: &'a RGBColor) -> TextStyle<'a> {
    // The SVG backend uses 1/1.24 of a font's size as its em.
    TextStyle::from((FONT_NAME, f64::from(pt(size_pt)) * 1.24).into_font()).color(color)
}

/// Draws a marker with this radius at a position of the area.
pub fn draw_marker(
    area: &Area,
    marker: Marker,
    centre: (i32, i32),
    radius_pt: f64,
    color: RGBColor,
    filled: bool,
    opacity: f64,
) -> std::result::Result<(), DrawError> {
    let radius = f64::from(pt(radius_pt));
    let outline = pt(0.7) as u32;
    if marker == Marker::Circle {
        let style = if filled { color.mix(opacity).filled() } else { color.stroke_width(outline) };
        if !filled {
            area.draw(&Circle::new(centre, radius as i32, WHITE.filled()))?;
        }
        return area.draw(&Circle::new(centre, radius as i32, style));
    }
    let place =
        |(x, y): (f64, f64)| (centre.0 + (x * radius).round() as i32, centre.1 + (y * radius).round() as i32);
    let mut corners: Vec<(i32, i32)> = marker.corners().into_iter().map(place).collect();
    if filled {
        return area.draw(&Polygon::new(corners, color.mix(opacity)));
    }
    area.draw(&Polygon::new(corners.clone(), WHITE))?;
    corners.push(corners[0]);
    area.draw(&PathElement::new(corners, color.stroke_width(outline)))
}

/// Splits an area into `rows` × `columns` parts, row by row, with extra space for axis titles in the first column and
/// the last row, so that the areas between the axes have the same size.
#[must_use]
pub fn grid<'a>(area: &Area<'a>, rows: usize, columns: usize) -> Vec<Area<'a>> {
    let (width, height) = area.dim_in_pixel();
    let title = line_height(TITLE_PT) + pt(1.0);
    let cut = |length: u32, parts: usize, from: i32| -> Vec<i32> {
        let room = length as i32 - title;
        (1..parts as i32).map(|i| from + room * i / parts as i32).collect()
    };
    area.split_by_breakpoints(cut(width, columns, title), cut(height, rows, 0))
}

/// Writes in an empty panel why it is empty.
pub fn say(area: &Area, words: &str) -> std::result::Result<(), DrawError> {
    let (width, height) = area.dim_in_pixel();
    let lines = wrap(words, SMALL_PT, width as i32 * 9 / 10);
    let first = height as i32 / 2 - lines.len() as i32 * line_height(SMALL_PT) / 2;
    lines.iter().enumerate().try_for_each(|(line, words)| {
        let at = (width as i32 / 2, first + line as i32 * line_height(SMALL_PT));
        text(area, words, at, SMALL_PT, &FAINT, (HPos::Center, VPos::Top))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sign_that_figures_use_is_in_the_font() {
        let face = FontRef::try_from_slice(FONT).unwrap();
        for sign in "Δτ−≥≤×·ρ√→…–—±|µé'“”".chars() {
            assert_ne!(face.glyph_id(sign).0, 0, "{sign}");
        }
    }

    #[test]
    fn lines_are_no_wider_than_asked() {
        let width = mm(40.0);
        let long = "n = 8,048 heads of 17 models; τ = 0.05 logits; ".repeat(5) + &"x".repeat(200);
        let lines = wrap(&long, SMALL_PT, width);
        assert!(lines.len() > 5 && lines.iter().all(|l| text_width(l, SMALL_PT) <= width), "{lines:?}");
        assert_eq!(shortened("short", SMALL_PT, width), "short");
    }
}
