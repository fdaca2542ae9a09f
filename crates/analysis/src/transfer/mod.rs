//! Do heads carry over from one model to another? By index, as in the published study, with a test against
//! chance ([`by_index`]), and by function and depth ([`by_profile`]).

pub mod by_index;
pub mod by_profile;
mod pairs;

pub use pairs::{ModelPair, Pairs};

use rayon::prelude::*;

use crate::categories::Classified;
use crate::contrast::Side;
use crate::error::Result;
use crate::joint::{HeadRow, JointTable, ModelHeads};
use crate::stats::benjamini_hochberg;
use crate::table::Table;

/// Name of the published pair's table of tests.
pub const TRANSFER_TESTS: &str = "transfer_tests";
/// Number of the base model's heads that are looked up in the target.
pub const BASE_HEADS: usize = 20;

/// Everything on the transfer of one task's heads between one pair of models.
#[derive(Debug, Clone, PartialEq)]
pub struct PairTransfer {
    /// The task.
    pub side: Side,
    /// Base and target.
    pub pair: ModelPair,
    /// Each base head at the same layer and head number of the target.
    pub by_index: by_index::IndexTransfer,
    /// Each base head at its match in the target.
    pub by_profile: by_profile::ProfileTransfer,
}

/// Transfers the strongest heads of each task for every pair, ordered by task, then pair.
///
/// # Errors
/// If `pairs` names a model that is not in the table.
pub fn transfers(joint: &JointTable, classified: &Classified, pairs: &Pairs) -> Result<Vec<PairTransfer>> {
    let pairs = pairs.resolve(joint)?;
    let work: Vec<(Side, &ModelPair)> =
        Side::BOTH.into_iter().flat_map(|side| pairs.iter().map(move |pair| (side, pair))).collect();
    Ok(work
        .into_par_iter()
        .map(|(side, pair)| {
            let [base, target] = [pair.base, pair.target].map(|index| &joint.models[index]);
            let base_heads = base_heads(base, classified, pair.base, side);
            PairTransfer {
                side,
                pair: pair.clone(),
                by_index: by_index::follow(&joint.contrast, base, &base_heads, target, side),
                by_profile: by_profile::match_heads(&joint.contrast, base, &base_heads, target, side),
            }
        })
        .collect())
}

/// The [`BASE_HEADS`] strongest heads by |Δ| on one of the tasks among those that contribute to it, strongest
/// first.
fn base_heads<'a>(
    base: &'a ModelHeads,
    classified: &Classified,
    model: usize,
    side: Side,
) -> Vec<&'a HeadRow> {
    let works: std::collections::HashSet<(u32, u32)> = classified.models[model]
        .heads
        .iter()
        .filter(|h| h.category.works_on(side))
        .map(|h| (h.layer, h.head))
        .collect();
    let mut heads: Vec<&HeadRow> = base.heads.iter().filter(|h| works.contains(&(h.layer, h.head))).collect();
    heads.sort_by(|a, b| size(b, side).total_cmp(&size(a, side)));
    heads.truncate(BASE_HEADS);
    heads
}

/// |Δ| of a head, 0 if it was not measured.
fn size(head: &HeadRow, side: Side) -> f64 {
    head.effect(side).delta.map_or(0.0, f64::abs)
}

/// The tables of transfer: `<task>_transfer_generic` and `<task>_transfer_matched` for each task, and `transfer_tests`.
#[must_use]
pub fn tables(joint: &JointTable, transfers: &[PairTransfer]) -> Vec<Table> {
    let of = |side| transfers.iter().filter(move |t| t.side == side).collect::<Vec<_>>();
    let mut tables: Vec<Table> = Side::BOTH.map(|side| by_index::table(joint, side, &of(side))).into();
    tables.extend(Side::BOTH.map(|side| by_profile::table(joint, side, &of(side))));
    tables.push(tests_table(joint, transfers));
    tables
}

/// The table `transfer_tests`: for each task and pair, whether heads carry over better than chance.
fn tests_table(joint: &JointTable, transfers: &[PairTransfer]) -> Table {
    let rows = || transfers.iter();
    let info = |index: usize| &joint.models[index].info;
    let q_values = |p: fn(&PairTransfer) -> Option<f64>| {
        let known: Vec<f64> = transfers.iter().filter_map(p).collect();
        let mut q_values = benjamini_hochberg(&known).into_iter();
        transfers.iter().map(|t| p(t).and_then(|_| q_values.next())).collect::<Vec<_>>()
    };
    Table::new(joint.contrast.table(TRANSFER_TESTS))
        .text("task", rows().map(|t| joint.contrast.key(t.side)))
        .text("base_family", rows().map(|t| info(t.pair.base).family.as_str()))
        .text("base_model", rows().map(|t| info(t.pair.base).model.as_str()))
        .text("tgt_family", rows().map(|t| info(t.pair.target).family.as_str()))
        .text("tgt_model", rows().map(|t| info(t.pair.target).model.as_str()))
        .text("relation", rows().map(|t| t.pair.relation))
        .integer("n_base_heads", rows().map(|t| t.by_index.heads.len()))
        .integer("n_missing", rows().map(|t| t.by_index.heads.iter().filter(|h| h.missing).count()))
        .float("mean_frac_rank", rows().map(|t| t.by_index.mean_frac_rank))
        .float("chance_frac_rank", rows().map(|t| t.by_index.chance_frac_rank))
        .float("p_value_index", rows().map(|t| t.by_index.p_value))
        .float("q_value_index", q_values(|t| t.by_index.p_value))
        .float("p_value_index_within_layer", rows().map(|t| t.by_index.p_value_within_layer))
        .integer("n_matched", rows().map(|t| t.by_profile.matches.len()))
        .float("mean_match_cost", rows().map(|t| t.by_profile.mean_cost))
        .float("chance_match_cost", rows().map(|t| t.by_profile.chance_cost))
        .float("p_value_match", rows().map(|t| t.by_profile.p_value))
        .float("q_value_match", q_values(|t| t.by_profile.p_value))
}
