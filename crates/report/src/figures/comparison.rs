//! Two joint tables of the same models: every head's effect in one against its effect in the other.

use cs_analysis::categories::Category;
use cs_analysis::compare::Comparison;
use cs_analysis::contrast::Side;

use super::legend::{Entry, Symbol};
use super::page::{Sheet, Style, grid};
use super::palette::{FAINT, Families, INK, category_color, category_label, side_label};
use super::panel::Panel;
use super::scale::Axis;
use super::{Figure, NotDrawn};
use crate::error::Result;
use crate::words;

/// `comparison`: one panel per task, with the line of equality.
///
/// # Errors
/// If the drawing library fails.
pub fn comparison(comparison: &Comparison) -> Result<std::result::Result<Figure, NotDrawn>> {
    let name = "comparison";
    let contrast = &comparison.contrast;
    let heads = || comparison.models.iter().flat_map(|m| m.heads.iter().map(move |pair| (&m.info, pair)));
    let n = heads().count();
    if n == 0 {
        return Ok(Err(NotDrawn::new(name, "no head was measured on both tasks in both tables")));
    }
    let families = Families::new(comparison.models.iter().map(|m| m.info.family.as_str()));
    let tau = comparison.tau;
    let category = |row: &cs_analysis::joint::HeadRow| {
        row.deltas().map_or(Category::Weak, |deltas| Category::of(deltas.into(), tau))
    };
    let occurs = |c: &Category| heads().any(|(_, (a, _))| category(a) == *c);
    let swatch = |c| Entry::new(Symbol::Swatch(category_color(c)), category_label(contrast, c));
    let mut legend: Vec<Entry> = Category::ALL.into_iter().filter(occurs).map(swatch).collect();
    legend.push(Entry::new(Symbol::Dashed(FAINT), "equal in both"));
    legend.extend(families.names().map(|f| Entry::new(Symbol::Marker(families.marker(f), INK, true), f)));
    let caption = format!(
        "n = {} of {} in both tables. Categories are those of the first table. Axes show asinh(Δ / τ), τ = {tau}: nearly linear within ±τ, logarithmic beyond.",
        words::counted(n, "head", "heads"),
        words::counted(comparison.models.len(), "model", "models"),
    );
    let see = "Heads on the dashed line have the same effect in both tables.".to_owned();
    let sheet = Sheet { name, title: "", body_mm: 130.0, legend, see, caption };
    let figure = sheet.draw(&Style::default(), |body| {
        for (area, task) in grid(body, 2, 1).iter().zip(Side::BOTH) {
            let both = || {
                heads().filter_map(move |(info, (a, b))| {
                    Some((info, category(a), (a.effect(task).delta?, b.effect(task).delta?)))
                })
            };
            let values = || both().flat_map(|(_, _, (a, b))| [a, b]);
            // One range for both axes, so that the line of equality is the diagonal.
            let x = Axis::effects("Δ in the first table (logits)", values(), tau);
            let y = Axis::effects("Δ in the second table (logits)", values(), tau);
            let ends = (x.low.max(y.low), x.high.min(y.high));
            let panel = Panel::new(area, &side_label(contrast, task), x, y)?;
            panel.dashed((ends.0, ends.0), (ends.1, ends.1), FAINT)?;
            for is_weak in [true, false] {
                for (info, category, at) in both().filter(|(_, c, _)| (*c == Category::Weak) == is_weak) {
                    let (size, opacity) = if is_weak { (1.1, 0.45) } else { (1.6, 0.8) };
                    let marker = families.marker(&info.family);
                    panel.marker(marker, at, size, category_color(category), opacity)?;
                }
            }
        }
        Ok(())
    })?;
    Ok(Ok(figure))
}
