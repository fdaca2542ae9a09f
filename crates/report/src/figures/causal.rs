//! What hero heads bring back in causal tracing.

use cs_analysis::categories::Category;
use cs_analysis::joint::StudyTask;
use cs_analysis::study::Study;
use cs_analysis::tracing::{CausalResult, Influence};

use super::page::{Entry, Sheet, Symbol};
use super::palette::{FAINT, Marker, category_color, category_label, task_label};
use super::rows::rows;
use super::scale::Axis;
use super::{Drawing, NotDrawn};
use crate::error::Result;
use crate::extras::Extras;
use crate::words;

/// A head's influence on a task: its mean, and what is known of it.
pub fn of_task(result: &CausalResult, task: StudyTask) -> (f64, &Influence) {
    match task {
        StudyTask::Ioi => (result.mean_ioi_influence, &result.ioi),
        StudyTask::Anti => (result.mean_anti_influence, &result.anti),
    }
}

/// `causal_ioi` and `causal_anti`: the influence of each traced head on a task, model by model.
pub(super) fn influence(study: &Study, extras: &Extras, task: StudyTask) -> Result<Drawing> {
    let name = format!("causal_{}", task.name());
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
    let category = |r: &CausalResult| Category::ALL.into_iter().position(|c| c.name() == r.category);
    let ends = extras.traced.iter().flat_map(|r| {
        let (mean, influence) = of_task(r, task);
        [Some(mean), influence.ci_low, influence.ci_high].into_iter().flatten()
    });
    let x = Axis::effects(&format!("influence on {} (logits)", task_label(task)), ends, study.options.tau);
    let occurs = |i: &usize| extras.traced.iter().any(|r| category(r) == Some(*i));
    let legend = (0..Category::ALL.len())
        .filter(occurs)
        .map(|i| Category::ALL[i])
        .map(|c| Entry::new(Symbol::Marker(Marker::Circle, category_color(c), true), category_label(c)))
        .collect();
    let pairs = extras.traced.iter().map(|r| of_task(r, task).1.n_pairs);
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
                    let Some(category) = category(result) else { continue };
                    let color = category_color(Category::ALL[category]);
                    let (mean, influence) = of_task(result, task);
                    let y = row as f64 + spread(place, own.len());
                    if let Some((low, high)) = influence.ci_low.zip(influence.ci_high) {
                        panel.interval_along(y, low, high, color, 0.5)?;
                    }
                    panel.marker(Marker::Circle, (mean, y), 1.3, color, 1.0)?;
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
