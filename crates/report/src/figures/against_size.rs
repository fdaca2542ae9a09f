//! Measures of models against their size: one panel per task, role or measure, one marker and colour per family.

use super::legend::{Entry, Symbol};
use super::page::{Area, DrawError, grid};
use super::palette::{FAINT, Families};
use super::panel::Panel;
use super::rows::rows;
use super::scale::Axis;

/// Horizontal offset between families, as a share of the axis: less than a marker's width.
const APART: f64 = 0.011;
/// Height of a row if all models have the same size.
const ROW_MM: f64 = 5.0;

/// A model's value, with an interval if there is one.
pub(super) struct Point<'a> {
    /// The model's family.
    pub family: &'a str,
    /// Its size in millions of parameters.
    pub size: f64,
    /// The value.
    pub value: f64,
    /// Its interval.
    pub interval: Option<(f64, f64)>,
}

impl<'a> Point<'a> {
    /// A model's value; `None` if its size is unknown.
    pub(super) fn new(
        family: &'a str,
        params_m: Option<f64>,
        value: f64,
        interval: Option<(f64, f64)>,
    ) -> Option<Self> {
        let size = params_m.filter(|p| *p > 0.0)?;
        Some(Self { family, size, value, interval })
    }
}

/// A panel.
pub(super) struct Facet<'a> {
    /// Its title.
    pub title: String,
    /// Its points.
    pub points: Vec<Point<'a>>,
}

/// Panels of one measure, which share their axis.
pub(super) struct Group<'a> {
    /// The axis of values.
    pub axis: Axis,
    /// Values with a dashed line.
    pub guides: &'a [f64],
    /// The panels.
    pub facets: Vec<Facet<'a>>,
}

/// The layout of panels.
pub(super) struct Layout {
    /// All models have the same size: facets are drawn as rows instead.
    one_size: bool,
    n_facets: usize,
    n_groups: usize,
}

impl Layout {
    pub(super) fn of(groups: &[Group]) -> Self {
        let mut sizes = sizes(groups);
        sizes.sort_unstable_by(f64::total_cmp);
        sizes.dedup();
        let n_facets = groups.iter().map(|g| g.facets.len()).max().unwrap_or(0);
        Self { one_size: sizes.len() < 2, n_facets, n_groups: groups.len() }
    }

    /// Whether all models have the same size.
    pub(super) fn is_of_one_size(&self) -> bool {
        self.one_size
    }

    fn columns(&self) -> usize {
        if self.n_facets == 1 { self.n_groups } else { 2 }
    }

    fn n_rows(&self) -> usize {
        (self.n_facets * self.n_groups).div_ceil(self.columns())
    }

    /// The positions of the panels of two groups, in words.
    pub(super) fn places(&self) -> [&'static str; 2] {
        if self.one_size { ["Top", "Bottom"] } else { ["Left", "Right"] }
    }

    /// Height of all panels.
    pub(super) fn body_mm(&self) -> f64 {
        if self.one_size {
            return self.n_groups as f64 * (11.0 + ROW_MM * self.n_facets as f64);
        }
        let row = if self.columns() == 1 { 60.0 } else { 42.0 };
        self.n_rows() as f64 * (210.0 / self.n_rows() as f64).clamp(20.0, row)
    }
}

fn sizes(groups: &[Group]) -> Vec<f64> {
    groups.iter().flat_map(|g| &g.facets).flat_map(|f| &f.points).map(|p| p.size).collect()
}

/// A sentence for the caption on the positions of families.
pub(super) fn about_families(families: &Families, groups: &[Group]) -> &'static str {
    if families.len() > 1 && !Layout::of(groups).one_size {
        " Families are shifted sideways a little, so that none hides another."
    } else {
        ""
    }
}

/// A legend of the families with points; a family with a single model is followed by the model's name.
pub(super) fn family_legend<'a>(
    families: &Families,
    models: impl Iterator<Item = (&'a str, &'a str)> + Clone,
) -> Vec<Entry> {
    let entry = |family: &str| {
        let mut own: Vec<&str> =
            models.clone().filter(|(f, _)| *f == family).map(|(_, model)| model).collect();
        own.sort_unstable();
        own.dedup();
        let label = match own[..] {
            [] => return None,
            [only] if only != family => format!("{family} ({only})"),
            _ => family.to_owned(),
        };
        Some(Entry::new(Symbol::Marker(families.marker(family), families.color(family), true), label))
    };
    families.names().filter_map(entry).collect()
}

/// Draws groups of panels: two groups side by side, one group in two columns.
pub(super) fn draw(body: &Area, groups: &[Group], families: &Families) -> Result<(), DrawError> {
    let layout = Layout::of(groups);
    if layout.one_size {
        return draw_rows(body, groups, families);
    }
    let (columns, n_rows, n_groups) = (layout.columns(), layout.n_rows(), layout.n_groups);
    let all = sizes(groups);
    let n_panels = layout.n_facets * n_groups;
    for (place, area) in grid(body, n_rows, columns).iter().enumerate().take(n_panels) {
        let group = &groups[place % n_groups];
        let facet = &group.facets[place / n_groups];
        let (mut x, mut y) = (Axis::sizes(all.iter().copied()), group.axis.clone());
        if columns > 1 {
            thin(&mut x);
        }
        if place + columns < n_panels {
            x.title.clear();
        }
        if n_groups == 1 && place % columns > 0 {
            y.title.clear();
        }
        let panel = Panel::new(area, &facet.title, x.clone(), y)?;
        group.guides.iter().try_for_each(|&value| panel.across(value, FAINT))?;
        family_lines(&panel, &x, families, &facet.points)?;
    }
    Ok(())
}

/// The points of each family joined by a line, with their intervals.
pub(super) fn family_lines(
    panel: &Panel,
    x: &Axis,
    families: &Families,
    points: &[Point],
) -> Result<(), DrawError> {
    for (place, family) in families.names().enumerate() {
        let (color, marker) = (families.color(family), families.marker(family));
        let shift = APART * (place as f64 - (families.len() - 1) as f64 / 2.0);
        let own = points.iter().filter(|p| p.family == family);
        let own: Vec<(f64, &Point)> = own.map(|p| (x.shifted(p.size, shift), p)).collect();
        let line: Vec<(f64, f64)> = own.iter().map(|(x, p)| (*x, p.value)).collect();
        if line.len() > 1 {
            panel.line(&line, color, 0.6)?;
        }
        for (x, point) in &own {
            if let Some((low, high)) = point.interval {
                panel.interval(*x, low, high, color, 0.8)?;
            }
            panel.marker(marker, (*x, point.value), 2.2, color, 1.0)?;
        }
    }
    Ok(())
}

/// Models of the same size: one row per facet, one group below the other.
fn draw_rows(body: &Area, groups: &[Group], families: &Families) -> Result<(), DrawError> {
    for (area, group) in body.split_evenly((groups.len(), 1)).iter().zip(groups) {
        let labels: Vec<String> = group.facets.iter().map(|f| f.title.clone()).collect();
        rows(area, &labels, group.axis.clone(), |panel| {
            group.guides.iter().try_for_each(|&value| panel.upright(value, FAINT))?;
            for (row, facet) in group.facets.iter().enumerate() {
                for (place, point) in facet.points.iter().enumerate() {
                    let shift = 0.6 * ((place as f64 + 0.5) / facet.points.len() as f64 - 0.5);
                    let (y, color) = (row as f64 + shift, families.color(point.family));
                    if let Some((low, high)) = point.interval {
                        panel.interval_along(y, low, high, color, 0.8)?;
                    }
                    panel.marker(families.marker(point.family), (point.value, y), 2.2, color, 1.0)?;
                }
            }
            Ok(())
        })?;
    }
    Ok(())
}

/// An axis of percentages that starts a little below 0, so that markers at 0 are fully visible.
pub(super) fn percent_axis<'a>(title: &str, points: impl Iterator<Item = &'a Point<'a>>) -> Axis {
    let highest = points.map(|p| p.value).fold(0.0, f64::max);
    let top = if highest > 0.0 { highest * 1.08 } else { 1.0 };
    Axis::linear_between(title, -0.05 * top, top, 4)
}

/// Keeps at most three labels on an axis of half a column.
pub(super) fn thin(axis: &mut Axis) {
    let n = axis.ticks.len();
    if n > 3 {
        let step = n.div_ceil(3);
        axis.ticks = axis.ticks.iter().step_by(step).cloned().collect();
    }
}
