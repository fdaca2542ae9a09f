//! The double dissociation of two tasks: what ablating each task's own heads costs either.

use cs_analysis::contrast::{Category, Side};
use cs_analysis::dissociation::DissociationRow;
use cs_analysis::study::ContrastStudy;

use super::ablation::not_ablated;
use super::legend::{Entry, Symbol};
use super::page::{Sheet, Style};
use super::palette::{FAINT, category_label, side_color, side_label, side_marker};
use super::rows::rows;
use super::scale::Axis;
use super::{Drawing, NotDrawn};
use crate::error::Result;
use crate::extras::ContrastExtras;
use crate::words;

/// Distance of a row's two tasks from its centre, so that their intervals do not overlap.
const APART: f64 = 0.16;

/// `dissociation`: what ablating heads of the first task alone and as many of the second alone does to either task.
pub(super) fn double(study: &ContrastStudy, extras: &ContrastExtras, style: &Style) -> Result<Drawing> {
    let name = "dissociation";
    let contrast = study.contrast();
    let [only_a, only_b] = [Category::OnlyA, Category::OnlyB].map(|c| category_label(contrast, c));
    if extras.dissociation.is_empty() {
        return Ok(Err(not_ablated(name)));
    }
    let measured: Vec<&DissociationRow> =
        extras.dissociation.iter().filter(|r| r.damage[0][0].value.is_some()).collect();
    if measured.is_empty() {
        let why = format!(
            "no model has heads of both kinds to ablate: {only_a} heads and {only_b} heads that help their task"
        );
        return Ok(Err(NotDrawn::new(name, why)));
    }
    let values =
        measured.iter().flat_map(|r| r.damage).flatten().flat_map(|v| [v.value, v.low, v.high]).flatten();
    let x = Axis::linear("loss of logit difference", values.chain([0.0]), 5);
    let of_task = |task| {
        let symbol = Symbol::Marker(side_marker(task), side_color(task), true);
        Entry::new(symbol, format!("loss on {}", side_label(contrast, task)))
    };
    let legend = Side::BOTH.map(of_task).into();
    let double = measured.iter().filter(|r| r.double_dissociation == Some(true)).count();
    let own_task = "each kind of head hurts its own task more than the other kind does";
    let see = match (&measured[..], double) {
        ([only], 0) => format!("In {} it is not so that {own_task}.", only.model),
        ([only], _) => format!("In {} {own_task}.", only.model),
        (_, 0) => {
            "In no model does each kind of head hurt its own task more than the other kind does.".to_owned()
        }
        (all, n) => format!("In {n} of {} {own_task}.", words::counted(all.len(), "model", "models")),
    };
    let others = extras.dissociation.len() - measured.len();
    let mut caption = format!(
        "Loss of logit difference (logits) when helping {only_a} heads of a model, or as many helping {only_b} heads, are ablated together. Lines: 95% intervals \
         over prompts. n = {}.",
        words::counted(measured.len(), "model", "models"),
    );
    if others > 0 {
        caption += &format!(
            " Not shown: {} without heads of both kinds.",
            words::counted(others, "model", "models")
        );
    }
    let sets = [&only_a, &only_b];
    let labels = measured.iter().flat_map(|r| sets.map(|set| format!("{}, {set}", r.model)));
    let labels: Vec<String> = labels.collect();
    let sheet = Sheet { name, title: "", body_mm: 12.0 + 4.5 * labels.len() as f64, legend, see, caption };
    let figure = sheet.draw(style, |body| {
        rows(body, &labels, x, |panel| {
            panel.upright(0.0, FAINT)?;
            for (row, of_set) in measured.iter().flat_map(|r| r.damage).enumerate() {
                for (task, shift) in Side::BOTH.into_iter().zip([-APART, APART]) {
                    let (y, color, loss) = (row as f64 + shift, side_color(task), of_set[task as usize]);
                    if let Some((low, high)) = loss.ends() {
                        panel.interval_along(y, low, high, color, 0.8)?;
                    }
                    if let Some(value) = loss.value {
                        panel.marker(side_marker(task), (value, y), 1.8, color, 1.0)?;
                    }
                }
            }
            Ok(())
        })
    })?;
    Ok(Ok(figure))
}
