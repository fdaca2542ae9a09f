//! Effects of sets of heads against the sums of their heads' effects: interactions.

use cs_analysis::ablation::{SetKind, SummaryRow};
use cs_analysis::contrast::Side;
use cs_analysis::study::ContrastStudy;

use super::ablation::not_ablated;
use super::against_size::family_legend;
use super::legend::{Entry, Symbol};
use super::page::{Sheet, Style, grid};
use super::palette::{FAINT, Families, INK, Marker, side_label};
use super::panel::Panel;
use super::scale::Axis;
use super::{Drawing, NotDrawn};
use crate::error::Result;
use crate::extras::ContrastExtras;
use crate::words;

/// A set's sum of single-head Δ, its own Δ, and the bounds of the latter.
type Point = (f64, f64, Option<(f64, f64)>);

fn point(row: &SummaryRow, task: Side) -> Option<Point> {
    let on = row.on(task);
    let (sum, interaction) = (on.sum_delta?, on.interaction.value?);
    Some((sum, sum + interaction, on.interaction.ends().map(|(low, high)| (sum + low, sum + high))))
}

/// `set_interaction`: Δ of every set of 2 or more heads against the sum of its heads' Δ, one panel per task.
pub(super) fn of_sets(
    study: &ContrastStudy,
    extras: &ContrastExtras,
    families: &Families,
    style: &Style,
) -> Result<Drawing> {
    let name = "set_interaction";
    let contrast = study.contrast();
    if extras.ablated.is_empty() {
        return Ok(Err(not_ablated(name)));
    }
    let of_kind = |kind: SetKind| {
        let rows = extras.ablated.iter().filter(move |r| r.set_type == kind.name() && r.k > 1);
        rows.filter(|r| study.joint.model(&r.model).is_some() && r.on(Side::A).sum_delta.is_some())
    };
    let n_sets = of_kind(SetKind::Hero).count();
    if n_sets == 0 {
        let why = "no set of 2 or more heads was ablated as the scan's single heads were";
        return Ok(Err(NotDrawn::new(name, why)));
    }
    let models = of_kind(SetKind::Hero).map(|r| (r.family.as_str(), r.model.as_str()));
    let mut legend = family_legend(families, models.collect::<Vec<_>>().into_iter());
    legend.push(Entry::new(Symbol::Marker(Marker::Circle, FAINT, false), "random sets, mean"));
    legend.push(Entry::new(Symbol::Dashed(INK), "set = sum"));
    let unlike = Side::BOTH.map(|task| {
        let ends = of_kind(SetKind::Hero).filter_map(|row| row.on(task).interaction.ends());
        let (more, less) = ends.fold((0, 0), |(more, less), (low, high)| {
            (more + usize::from(high < 0.0), less + usize::from(low > 0.0))
        });
        (side_label(contrast, task), words::none_or(more), words::none_or(less))
    });
    let [(a, more_a, less_a), (b, more_b, less_b)] = unlike;
    let see = format!(
        "Δ of the set lies above the sum of its heads in {less_a} of {} on {a} and in {less_b} on {b}; below it in {more_a} and {more_b}.",
        words::counted(n_sets, "hero set", "hero sets"),
    );
    let caption = format!(
        "Δ of each hero set of 2 or more heads, of all categories, against the sum of its heads' single Δ; over {}. Below the diagonal heads do \
         more harm together than one by one, above it less. n = {}; hero heads are the strongest by {}. Lines: 95% intervals over prompts of the difference; \
         those that reach the diagonal are not counted above. Hollow: as many random heads, mean of the sets.",
        extras.ablation_prompts(),
        words::counted(n_sets, "hero set", "hero sets"),
        words::strength(contrast),
    );
    let sheet = Sheet { name, title: "", body_mm: 46.0, legend, see, caption };
    let figure = sheet.draw(style, |body| {
        for (place, area) in grid(body, 1, 2).iter().enumerate() {
            let task = Side::BOTH[place];
            let points = |kind| of_kind(kind).filter_map(move |row| Some((row, point(row, task)?)));
            let all = || points(SetKind::Hero).chain(points(SetKind::Random));
            let x = Axis::linear("sum of Δ (logits)", all().map(|(_, p)| p.0).chain([0.0]), 3);
            let ends = all().flat_map(|(_, p)| [Some(p.1), p.2.map(|e| e.0), p.2.map(|e| e.1)]).flatten();
            let y = Axis::linear(if place == 0 { "Δ of the set (logits)" } else { "" }, ends.chain([0.0]), 4);
            let (low, high) = (x.low.max(y.low), x.high.min(y.high));
            let panel = Panel::new(area, &side_label(contrast, task), x, y)?;
            if low < high {
                panel.dashed((low, low), (high, high), INK)?;
            }
            for (_, (sum, delta, _)) in points(SetKind::Random) {
                panel.hollow(Marker::Circle, (sum, delta), 1.5, FAINT)?;
            }
            for (row, (sum, delta, ends)) in points(SetKind::Hero) {
                let color = families.color(&row.family);
                if let Some((low, high)) = ends {
                    panel.interval(sum, low, high, color, 0.6)?;
                }
                panel.marker(families.marker(&row.family), (sum, delta), 1.6, color, 0.9)?;
            }
        }
        Ok(())
    })?;
    Ok(Ok(figure))
}
