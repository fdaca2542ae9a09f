//! What hero heads bring back in causal tracing.

use cs_analysis::categories::Category;
use cs_analysis::contrast::Side;
use cs_analysis::study::ContrastStudy;
use cs_analysis::tracing::CausalResult;

use super::legend::{Entry, Symbol};
use super::page::{Sheet, Style};
use super::palette::{FAINT, IN_LEGENDS, category_color, category_label, category_marker, side_label};
use super::rows::rows;
use super::scale::Axis;
use super::{Drawing, NotDrawn};
use crate::error::Result;
use crate::extras::ContrastExtras;
use crate::words;

/// Heads named of each model.
const NAMED: usize = 3;

/// `causal_<task>`: the influence of each traced head on a task, model by model.
pub(super) fn influence(
    study: &ContrastStudy,
    extras: &ContrastExtras,
    task: Side,
    style: &Style,
) -> Result<Drawing> {
    let contrast = study.contrast();
    let name = format!("causal_{}", contrast.key(task));
    if extras.traced.is_empty() {
        return Ok(Err(NotDrawn::new(&name, "no head was traced: run circuit-scaling trace")));
    }
    let models: Vec<&str> = study
        .joint
        .models
        .iter()
        .map(|m| m.info.model.as_str())
        .filter(|model| extras.traced.iter().any(|r| r.model == *model))
        .collect();
    let ends = extras.traced.iter().flat_map(|r| {
        let on = r.on(task);
        [Some(on.mean), on.figures.ci_low, on.figures.ci_high].into_iter().flatten()
    });
    let x = Axis::effects(
        &format!("influence on {} (logits)", side_label(contrast, task)),
        ends,
        study.options.tau,
    );
    let occurs = |c: &Category| extras.traced.iter().any(|r| r.category == *c);
    let legend = IN_LEGENDS
        .into_iter()
        .filter(occurs)
        .map(|c| {
            Entry::new(
                Symbol::Marker(category_marker(c), category_color(c), true),
                category_label(contrast, c),
            )
        })
        .collect();
    let pairs = extras.traced.iter().map(|r| r.on(task).figures.n_pairs);
    let (fewest, most) = pairs.fold((u64::MAX, 0), |(low, high), n| (low.min(n), high.max(n)));
    let n_pairs = if fewest == most {
        words::counted(most as usize, "pair", "pairs")
    } else {
        format!("{fewest} to {most} pairs")
    };
    let most = extras.traced.iter().max_by(|a, b| a.on(task).mean.abs().total_cmp(&b.on(task).mean.abs()));
    let see = most.map_or(String::new(), |r| {
        let on = r.on(task);
        format!(
            "Largest influence on {}: {} {}, {}{} logits.",
            side_label(contrast, task),
            r.model,
            words::head(r.layer, r.head),
            words::signed(on.mean),
            words::signed_range(on.figures.ci_low, on.figures.ci_high).unwrap_or_default()
        )
    });
    let caption = format!(
        "Logit difference that a head's clean values bring back in the corrupted run. n = {} of {}, {n_pairs} of prompts; \
         hero heads are the strongest of a category by {}. The strongest of each model are named, where there is room. Lines: 95% intervals over pairs. The axis shows asinh(influence / τ), τ = {}: nearly linear within ±τ, logarithmic beyond.",
        words::counted(extras.traced.len(), "hero head", "hero heads"),
        words::models(&models),
        words::strength(contrast),
        study.options.tau,
    );
    let row_mm = if models.len() > 6 { 9.0 } else { 16.0 };
    let body_mm = 12.0 + row_mm * models.len() as f64;
    let labels: Vec<String> = models.iter().map(|m| (*m).to_owned()).collect();
    let sheet = Sheet { name: &name, title: "", body_mm, legend, see, caption };
    let figure = sheet.draw(style, |body| {
        rows(body, &labels, x, |panel| {
            panel.upright(0.0, FAINT)?;
            let mut taken: Vec<[(f64, f64); 2]> = Vec::new();
            // The strongest of every model before the second of any.
            let mut names = Vec::new();
            for (row, model) in models.iter().enumerate() {
                let own: Vec<&CausalResult> = extras.traced.iter().filter(|r| r.model == *model).collect();
                let mut named = Vec::new();
                for (place, result) in own.iter().enumerate() {
                    let color = category_color(result.category);
                    let on = result.on(task);
                    let at = (on.mean, row as f64 + spread(place, own.len()));
                    let (low, high) = on.figures.ci_low.zip(on.figures.ci_high).unwrap_or((at.0, at.0));
                    panel.interval_along(at.1, low, high, color, 0.5)?;
                    panel.marker(category_marker(result.category), at, 1.3, color, 1.0)?;
                    taken.push([(low, at.1), (high, at.1)]);
                    named.push((at, words::head(result.layer, result.head)));
                }
                named.sort_by(|a, b| b.0.0.abs().total_cmp(&a.0.0.abs()));
                names.extend(named.into_iter().take(NAMED).enumerate());
            }
            names.sort_by_key(|(rank, _)| *rank);
            let names: Vec<_> = names.into_iter().map(|(_, name)| name).collect();
            panel.name_points(&names, &taken, &[])
        })
    })?;
    Ok(Ok(figure))
}

/// Where the heads of a row lie across it, from top to bottom.
fn spread(place: usize, of: usize) -> f64 {
    ((place as f64 + 0.5) / of as f64 - 0.5) * 0.84
}
