//! A panel: a pair of axes and the marks between them.

use plotters::chart::ChartContext;
use plotters::coord::cartesian::Cartesian2d;
use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};

use super::legend::Stripes;
use super::page::{
    Area, DrawError, SMALL_PT, TITLE_PT, draw_marker, line_height, pt, text, text_style, text_width, wrap,
};
use super::palette::{FAINT, INK, Marker, STRIP};
use super::scale::Axis;

type Drawn = Result<(), DrawError>;

/// An axis in the drawing library's terms: values are positions along it; ticks and labels are drawn here.
#[derive(Clone)]
struct Places {
    range: std::ops::Range<f64>,
    ticks: Vec<(f64, String)>,
}

impl Places {
    fn new(axis: &Axis) -> Self {
        let ticks = axis.ticks.iter().map(|t| (axis.scale.place(t.0), t.1.clone())).collect();
        Self { range: axis.range(), ticks }
    }
}

impl Ranged for Places {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, place: &f64, limit: (i32, i32)) -> i32 {
        let share = (place - self.range.start) / (self.range.end - self.range.start);
        limit.0 + (share * f64::from(limit.1 - limit.0)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        if hint.weight().allow_light_points() {
            return Vec::new();
        }
        self.ticks.iter().map(|t| t.0).collect()
    }

    fn range(&self) -> std::ops::Range<f64> {
        self.range.clone()
    }
}

impl ValueFormatter<f64> for Places {
    fn format_ext(&self, place: &f64) -> String {
        self.ticks.iter().find(|t| t.0 == *place).map(|t| t.1.clone()).unwrap_or_default()
    }
}

/// A pair of axes in an area, to draw in.
pub struct Panel<'a, 'b> {
    chart: ChartContext<'a, SVGBackend<'b>, Cartesian2d<Places, Places>>,
    area: Area<'b>,
    x: Axis,
    y: Axis,
}

impl<'a, 'b> Panel<'a, 'b> {
    /// Draws two axes and a title in an area. An axis without title has no labels either: it shares them with a
    /// neighbouring panel.
    ///
    /// # Errors
    /// If the drawing library fails.
    pub fn new(area: &'a Area<'b>, title: &str, x: Axis, y: Axis) -> Result<Self, DrawError> {
        let (width, _) = area.dim_in_pixel();
        let widest = y.ticks.iter().map(|t| text_width(&t.1, SMALL_PT)).max().unwrap_or(0);
        let tick = pt(2.0);
        let y_area =
            tick + widest + pt(2.5) + if y.title.is_empty() { 0 } else { line_height(TITLE_PT) + pt(1.0) };
        let x_area = tick
            + line_height(SMALL_PT)
            + pt(1.0)
            + if x.title.is_empty() { 0 } else { line_height(TITLE_PT) + pt(1.0) };
        // Half a label may extend beyond the last tick.
        let right = x.ticks.last().map_or(0, |t| text_width(&t.1, SMALL_PT) / 2 + pt(1.0)).max(pt(4.0));
        let room = width as i32 - y_area - right;
        // On a separate strip, so that it is not taken for a label of the axis above.
        let lines: Vec<String> = wrap(title, TITLE_PT, room).into_iter().take(2).collect();
        let (strip, height) = (pt(3.0), lines.len() as i32 * line_height(TITLE_PT));
        let top = if lines.is_empty() { pt(4.0) } else { strip + height + pt(2.5) };
        if !lines.is_empty() {
            let corners = [(y_area, strip), (y_area + room, strip + height)];
            area.draw(&Rectangle::new(corners, STRIP.filled()))?;
        }
        for (line, words) in lines.iter().enumerate() {
            let middle = strip + line as i32 * line_height(TITLE_PT) + line_height(TITLE_PT) / 2;
            text(area, words, (y_area + room / 2, middle), TITLE_PT, &INK, (HPos::Center, VPos::Center))?;
        }
        let mut chart = ChartBuilder::on(area)
            .margin_top(top)
            .margin_right(right)
            .margin_left(if y.title.is_empty() { 0 } else { pt(1.5) })
            .x_label_area_size(x_area)
            .y_label_area_size(y_area)
            .build_cartesian_2d(Places::new(&x), Places::new(&y))?;
        let line = FAINT.stroke_width(pt(0.5) as u32);
        let mut mesh = chart.configure_mesh();
        mesh.disable_mesh()
            .axis_style(line)
            .label_style(text_style(SMALL_PT, &INK))
            .axis_desc_style(text_style(TITLE_PT, &INK))
            .set_all_tick_mark_size(tick);
        if !x.title.is_empty() {
            mesh.x_desc(x.title.clone());
        }
        if !y.title.is_empty() {
            mesh.y_desc(y.title.clone());
        }
        mesh.draw()?;
        let plotting = chart.plotting_area().strip_coord_spec();
        Ok(Self { chart, area: plotting, x, y })
    }

    /// The position of a point, in units of the area between the axes.
    #[must_use]
    pub fn at(&self, x: f64, y: f64) -> (i32, i32) {
        let place = (self.x.scale.place(x), self.y.scale.place(y));
        let (left, top) = self.area.get_base_pixel();
        let (x, y) = self.chart.backend_coord(&place);
        (x - left, y - top)
    }

    /// The area between the axes.
    #[must_use]
    pub fn inside(&self) -> &Area<'b> {
        &self.area
    }

    /// A marker at a point.
    pub fn marker(
        &self,
        marker: Marker,
        at: (f64, f64),
        size_pt: f64,
        color: RGBColor,
        opacity: f64,
    ) -> Drawn {
        draw_marker(&self.area, marker, self.at(at.0, at.1), size_pt, color, true, opacity)
    }

    /// A hollow marker at a point.
    pub fn hollow(&self, marker: Marker, at: (f64, f64), size_pt: f64, color: RGBColor) -> Drawn {
        draw_marker(&self.area, marker, self.at(at.0, at.1), size_pt, color, false, 1.0)
    }

    /// A line through points.
    pub fn line(&self, points: &[(f64, f64)], color: RGBColor, width_pt: f64) -> Drawn {
        let points: Vec<_> = points.iter().map(|p| self.at(p.0, p.1)).collect();
        self.area.draw(&PathElement::new(points, color.stroke_width(pt(width_pt).max(1) as u32)))
    }

    /// A dashed line between two points.
    pub fn dashed(&self, from: (f64, f64), to: (f64, f64), color: RGBColor) -> Drawn {
        let (from, to) = (self.at(from.0, from.1), self.at(to.0, to.1));
        let (dx, dy) = (f64::from(to.0 - from.0), f64::from(to.1 - from.1));
        let period = f64::from(pt(3.4));
        let n = (dx.hypot(dy) / period).round().max(1.0) as usize;
        let point = |share: f64| (from.0 + (dx * share) as i32, from.1 + (dy * share) as i32);
        for dash in 0..n {
            let ends = [point(dash as f64 / n as f64), point((dash as f64 + 0.55) / n as f64)];
            self.area.draw(&PathElement::new(ends, color.stroke_width(pt(0.5) as u32)))?;
        }
        Ok(())
    }

    /// A horizontal dashed line at a value of the y axis.
    pub fn across(&self, y: f64, color: RGBColor) -> Drawn {
        self.dashed((self.x.low, y), (self.x.high, y), color)
    }

    /// A vertical dashed line at a value of the x axis.
    pub fn upright(&self, x: f64, color: RGBColor) -> Drawn {
        self.dashed((x, self.y.low), (x, self.y.high), color)
    }

    /// An interval along y.
    pub fn interval(&self, x: f64, low: f64, high: f64, color: RGBColor, width_pt: f64) -> Drawn {
        let clip = |v: f64| v.clamp(self.y.low, self.y.high);
        self.line(&[(x, clip(low)), (x, clip(high))], color, width_pt)
    }

    /// An interval along x.
    pub fn interval_along(&self, y: f64, low: f64, high: f64, color: RGBColor, width_pt: f64) -> Drawn {
        let clip = |v: f64| v.clamp(self.x.low, self.x.high);
        self.line(&[(clip(low), y), (clip(high), y)], color, width_pt)
    }

    /// A filled rectangle between two corners, with stripes.
    pub fn striped(&self, from: (f64, f64), to: (f64, f64), color: RGBColor, stripes: Stripes) -> Drawn {
        self.block(from, to, color, 1.0)?;
        stripes.draw(&self.area, [self.at(from.0, from.1), self.at(to.0, to.1)])
    }

    /// A filled rectangle between two corners.
    pub fn block(&self, from: (f64, f64), to: (f64, f64), color: RGBColor, opacity: f64) -> Drawn {
        let corners = [self.at(from.0, from.1), self.at(to.0, to.1)];
        self.area.draw(&Rectangle::new(corners, color.mix(opacity).filled()))
    }

    /// A line between two points, as boxes that names must not cover.
    #[must_use]
    pub fn along(&self, from: (f64, f64), to: (f64, f64)) -> Vec<[(f64, f64); 2]> {
        const PIECES: usize = 24;
        let ends = [from, to].map(|(x, y)| (self.x.scale.place(x), self.y.scale.place(y)));
        let point = |piece: usize| {
            let share = piece as f64 / PIECES as f64;
            let place = |a: f64, b: f64| a + share * (b - a);
            let (x, y) = (place(ends[0].0, ends[1].0), place(ends[0].1, ends[1].1));
            (self.x.scale.value(x), self.y.scale.value(y))
        };
        (0..PIECES).map(|piece| [point(piece), point(piece + 1)]).collect()
    }

    /// Labels points so that names do not overlap each other or existing marks (`taken`: opposite corners) or extend
    /// beyond the panel, and cover `bands` only if there is no other place. Names without a place are left out; earlier
    /// names have priority.
    pub fn name_points(
        &self,
        points: &[((f64, f64), String)],
        taken: &[[(f64, f64); 2]],
        bands: &[[(f64, f64); 2]],
    ) -> Drawn {
        let size = SMALL_PT;
        let (width, height) = self.area.dim_in_pixel();
        let (width, height) = (width as i32, height as i32);
        let radius = pt(1.6);
        let to_box = |corners: &[(f64, f64); 2]| {
            let [a, b] = corners.map(|(x, y)| self.at(x, y));
            let (low, high) = ((a.0.min(b.0), a.1.min(b.1)), (a.0.max(b.0), a.1.max(b.1)));
            [low.0 - radius, low.1 - radius, high.0 + radius, high.1 + radius]
        };
        let mut boxes: Vec<[i32; 4]> = taken.iter().map(to_box).collect();
        let bands: Vec<[i32; 4]> = bands.iter().map(to_box).collect();
        let overlap = |a: &[i32; 4], b: &[i32; 4]| a[0] < b[2] && b[0] < a[2] && a[1] < b[3] && b[1] < a[3];
        for (point, name) in points {
            let (x, y) = self.at(point.0, point.1);
            let (w, h, gap) = (text_width(name, size), pt(size * 0.88), pt(2.6));
            let places = [
                (x + gap, y - h / 2),
                (x - gap - w, y - h / 2),
                (x - w / 2, y - gap - h),
                (x - w / 2, y + gap),
                (x + gap, y - gap - h),
                (x - gap - w, y - gap - h),
                (x + gap, y + gap),
                (x - gap - w, y + gap),
            ];
            let place_box = |&(left, top): &(i32, i32)| [left, top, left + w, top + h];
            let free: Vec<(i32, i32)> = places
                .into_iter()
                .filter(|&(left, top)| left >= 0 && top >= 0 && left + w <= width && top + h <= height)
                .filter(|place| !boxes.iter().any(|b| overlap(b, &place_box(place))))
                .collect();
            let clear = free.iter().find(|place| !bands.iter().any(|b| overlap(b, &place_box(place))));
            if let Some(&(left, top)) = clear.or(free.first()) {
                boxes.push([left, top, left + w, top + h]);
                text(&self.area, name, (left, top + h / 2), size, &INK, (HPos::Left, VPos::Center))?;
            }
        }
        Ok(())
    }
}
