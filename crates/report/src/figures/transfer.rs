//! Transfer: whether heads with the same layer and number work on the same task in another model.

use cs_analysis::contrast::Side;
use cs_analysis::study::ContrastStudy;
use cs_analysis::transfer::{PairTransfer, TRANSFER_TESTS};

use super::legend::{Entry, Symbol};
use super::page::{Sheet, Style};
use super::palette::{FAINT, side_color, side_label, side_marker};
use super::rows::rows;
use super::scale::Axis;
use super::{Drawing, NotDrawn};
use crate::error::Result;
use crate::numbers::{SIGNIFICANT, numbers};
use crate::words;

/// Maximum number of pairs that fit on a page.
const MOST_PAIRS: usize = 40;

/// `transfer`: for each pair of models and task, the mean rank of the base model's heads in the target.
pub(super) fn transfer(study: &ContrastStudy, style: &Style) -> Result<Drawing> {
    let name = "transfer";
    let contrast = study.contrast();
    let n_all = study.transfers.len() / 2;
    let pairs: Vec<&PairTransfer> = study.transfers.iter().take(n_all.min(MOST_PAIRS)).collect();
    let placed = study.transfers.iter().filter(|t| t.by_index.mean_frac_rank.is_some()).count();
    if pairs.is_empty() {
        return Ok(Err(NotDrawn::new(name, "the study has no two models to compare")));
    }
    if placed == 0 {
        return Ok(Err(NotDrawn::new(
            name,
            "no head that works on a task in one model has a counterpart of the same layer and number in another",
        )));
    }
    let q_values = numbers(study, TRANSFER_TESTS, "q_value_index");
    let model = |i: usize| study.joint.models[i].info.model.as_str();
    let labels: Vec<String> =
        pairs.iter().map(|t| format!("{} → {}", model(t.pair.base), model(t.pair.target))).collect();
    let mut legend: Vec<Entry> = Side::BOTH
        .into_iter()
        .map(|task| {
            Entry::new(
                Symbol::Marker(side_marker(task), side_color(task), true),
                format!("{}, q ≤ {SIGNIFICANT}", side_label(contrast, task)),
            )
        })
        .collect();
    legend.extend(Side::BOTH.into_iter().map(|task| {
        Entry::new(
            Symbol::Marker(side_marker(task), side_color(task), false),
            format!("{}, q > {SIGNIFICANT}", side_label(contrast, task)),
        )
    }));
    legend.push(Entry::new(Symbol::Dashed(FAINT), "chance"));
    let mut caption = format!(
        "Mean rank, in the target (right of the arrow), of the heads with the layer and number of the base model's {} strongest heads (fewer where it has fewer), by |Δ|, as a share of \
         the target's heads. n = {} with counterparts, of {} and 2 tasks. No intervals; q over all tests \
         ({}.csv).",
        cs_analysis::transfer::BASE_HEADS,
        words::counted(placed, "test", "tests"),
        words::counted(n_all, "pair", "pairs"),
        contrast.table(TRANSFER_TESTS),
    );
    if n_all > pairs.len() {
        caption += &format!(" The first {} pairs are shown.", pairs.len());
    }
    let beaten = q_values.iter().flatten().filter(|q| **q <= SIGNIFICANT).count();
    let see = match beaten {
        0 => format!(
            "No test of {} finds heads of the same layer and number stronger in the target than by chance.",
            words::count(placed)
        ),
        n => format!(
            "Heads of the same layer and number are stronger in the target than by chance in {n} of {}.",
            words::counted(placed, "test", "tests")
        ),
    };
    let body_mm = 12.0 + 4.0 * pairs.len() as f64;
    let sheet = Sheet { name, title: "", body_mm, legend, see, caption };
    let figure = sheet.draw(style, |body| {
        let x = Axis::linear_between("mean rank (0: strongest, 1: weakest)", 0.0, 1.0, 4);
        rows(body, &labels, x, |panel| {
            for (index, transfer) in study.transfers.iter().enumerate() {
                let row = index % n_all;
                let Some(rank) = transfer.by_index.mean_frac_rank.filter(|_| row < pairs.len()) else {
                    continue;
                };
                let side = if transfer.side == Side::A { -1.0 } else { 1.0 };
                let middle = row as f64;
                // With few heads in the target, chance is more than a half.
                if let Some(chance) = transfer.by_index.chance_frac_rank {
                    panel.dashed((chance, middle), (chance, middle + 0.5 * side), FAINT)?;
                }
                let (at, color) = ((rank, middle + 0.16 * side), side_color(transfer.side));
                let beats_chance = q_values.get(index).copied().flatten().is_some_and(|q| q <= SIGNIFICANT);
                if beats_chance {
                    panel.marker(side_marker(transfer.side), at, 2.0, color, 1.0)?;
                } else {
                    panel.hollow(side_marker(transfer.side), at, 2.0, color)?;
                }
            }
            Ok(())
        })
    })?;
    Ok(Ok(figure))
}
