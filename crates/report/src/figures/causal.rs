//! What hero heads bring back in causal tracing.

use cs_analysis::categories::Category;
use cs_analysis::contrast::Side;
use cs_analysis::study::ContrastStudy;
use cs_analysis::tracing::CausalResult;

use super::page::{Entry, Sheet, Symbol};
use super::palette::{FAINT, Marker, category_color, category_label, side_label};
use super::rows::rows;
use super::scale::Axis;
use super::{Drawing, NotDrawn};
use crate::error::Result;
use crate::extras::ContrastExtras;
use crate::words;

/// `causal_<task>`: the influence of each traced head on a task, model by model.
pub(super) fn influence(study: &ContrastStudy, extras: &ContrastExtras, task: Side) -> Result<Drawing> {
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
    let legend = Category::ALL
        .into_iter()
        .filter(occurs)
        .map(|c| {
            Entry::new(Symbol::Marker(Marker::Circle, category_color(c), true), category_label(contrast, c))
        })
        .collect();
    let pairs = extras.traced.iter().map(|r| r.on(task).figures.n_pairs);
    let (fewest, most) = pairs.fold((u64::MAX, 0), |(low, high), n| (low.min(n), high.max(n)));
    let n_pairs = if fewest == most { most.to_string() } else { format!("{fewest} to {most}") };
    let caption = format!(
        "Logit difference that a head's clean values bring back in the corrupted run. n = {} of {}, {n_pairs} pairs of prompts. \
         Lines: 95% intervals over pairs. The axis shows asinh(influence / τ), τ = {}: nearly linear within ±τ, logarithmic beyond.",
        words::counted(extras.traced.len(), "hero head", "hero heads"),
        words::counted(models.len(), "model", "models"),
        study.options.tau,
    );
    let body_mm = 12.0 + 8.0 * models.len() as f64;
    let labels: Vec<String> = models.iter().map(|m| (*m).to_owned()).collect();
    let sheet = Sheet { name: &name, title: "", body_mm, legend, caption };
    let figure = sheet.draw(|body| {
        rows(body, &labels, x, |panel| {
            panel.upright(0.0, FAINT)?;
            for (row, model) in models.iter().enumerate() {
                let own: Vec<&CausalResult> = extras.traced.iter().filter(|r| r.model == *model).collect();
                for (place, result) in own.iter().enumerate() {
                    let color = category_color(result.category);
                    let on = result.on(task);
                    let y = row as f64 + spread(place, own.len());
                    if let Some((low, high)) = on.figures.ci_low.zip(on.figures.ci_high) {
                        panel.interval_along(y, low, high, color, 0.5)?;
                    }
                    panel.marker(Marker::Circle, (on.mean, y), 1.3, color, 1.0)?;
                }
            }
            Ok(())
        })
    })?;
    Ok(Ok(figure))
}

/// Where the heads of a row lie across it, from top to bottom.
fn spread(place: usize, of: usize) -> f64 {
    ((place as f64 + 0.5) / of as f64 - 0.5) * 0.84
}
