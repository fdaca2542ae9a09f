//! The winner's curse: how much smaller the effects of selected heads are on prompts that were not used to
//! select them.

use crate::contrast::{Contrast, Side};
use crate::joint::{JointTable, ModelHeads};
use crate::scan_file::TOP_HEADS;
use crate::table::Table;

/// The strongest heads of one model and task, on the prompts used to select them and on held-out ones.
#[derive(Debug, Clone, PartialEq)]
pub struct WinnersCurse {
    /// Family.
    pub family: String,
    /// Model.
    pub model: String,
    /// The task.
    pub side: Side,
    /// Number of selected heads: the [`TOP_HEADS`] with the largest |Δ|, or all of a small model.
    pub n_heads: usize,
    /// Their mean |Δ| on the prompts used to select them.
    pub mean_abs_delta: f64,
    /// Their mean held-out |Δ|, counted as negative if its sign differs.
    pub mean_held_out: f64,
    /// Of these, heads with the same sign on held-out prompts.
    pub n_same_sign: usize,
}

/// The winner's curse of every model and task that has held-out prompts.
#[must_use]
pub fn winners_curse(joint: &JointTable) -> Vec<WinnersCurse> {
    joint.models.iter().flat_map(|m| Side::BOTH.into_iter().filter_map(|side| of_model(m, side))).collect()
}

fn of_model(model: &ModelHeads, side: Side) -> Option<WinnersCurse> {
    let mut heads: Vec<(f64, f64)> = model
        .heads
        .iter()
        .filter_map(|h| {
            let effect = h.effect(side);
            effect.delta.zip(effect.held_out_delta())
        })
        .collect();
    heads.sort_by(|a, b| b.0.abs().total_cmp(&a.0.abs()));
    heads.truncate(TOP_HEADS);
    let n = heads.len() as f64;
    let signed = |&(picked, held_out): &(f64, f64)| if picked < 0.0 { -held_out } else { held_out };
    (!heads.is_empty()).then(|| WinnersCurse {
        family: model.info.family.clone(),
        model: model.info.model.clone(),
        side,
        n_heads: heads.len(),
        mean_abs_delta: heads.iter().map(|h| h.0.abs()).sum::<f64>() / n,
        mean_held_out: heads.iter().map(signed).sum::<f64>() / n,
        n_same_sign: heads.iter().filter(|h| signed(h) > 0.0).count(),
    })
}

/// The table `winners_curse` of a contrast; `shrinkage` is the share of the selected effect that is missing on held-out
/// prompts.
#[must_use]
pub fn winners_curse_table(contrast: &Contrast, rows: &[WinnersCurse]) -> Table {
    Table::new(contrast.table("winners_curse"))
        .text("family", rows.iter().map(|r| r.family.as_str()))
        .text("model", rows.iter().map(|r| r.model.as_str()))
        .text("task", rows.iter().map(|r| contrast.key(r.side)))
        .integer("n_heads", rows.iter().map(|r| r.n_heads))
        .float("mean_abs_delta", rows.iter().map(|r| r.mean_abs_delta))
        .float("mean_held_out_delta", rows.iter().map(|r| r.mean_held_out))
        .float("shrinkage", rows.iter().map(|r| 1.0 - r.mean_held_out / r.mean_abs_delta))
        .integer("n_same_sign", rows.iter().map(|r| r.n_same_sign))
}
