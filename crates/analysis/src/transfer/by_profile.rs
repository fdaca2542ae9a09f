//! Transfer by function: each base head is matched with a different target head that is similar in relative depth and
//! in its effects on both tasks, such that the total cost is minimal.

use super::PairTransfer;
use crate::contrast::{Contrast, Side};
use crate::joint::{HeadRow, JointTable, ModelHeads};
use crate::stats::Seed;
use crate::stats::assignment::assign;
use crate::stats::resampling::sample_without_replacement;
use crate::table::Table;

/// Shuffles of the target's depths behind each p-value; each needs its own assignment.
const N_PERMUTATIONS: usize = 199;

/// A base head and its counterpart.
#[derive(Debug, Clone, PartialEq)]
pub struct Match {
    /// The base head and its relative depth.
    pub base: (HeadRow, f64),
    /// The target head and its relative depth.
    pub target: (HeadRow, f64),
    /// Distance between the two profiles; see [`ProfileTransfer`].
    pub cost: f64,
}

/// All matches of one pair.
///
/// A head's profile is its relative depth (0 to 1), and each Δ over the largest |Δ| of that task in its model (−1 to 1);
/// the cost of a match is the Euclidean distance between profiles.
#[derive(Debug, Clone, PartialEq)]
pub struct ProfileTransfer {
    /// The matches, strongest base head first.
    pub matches: Vec<Match>,
    /// Mean cost.
    pub mean_cost: Option<f64>,
    /// Mean cost when the target's depths are shuffled among its heads.
    pub chance_cost: Option<f64>,
    /// One-sided p-value: how often shuffled depths allow matches of as low a cost. Small means that heads with the
    /// same effects are also at the same depth.
    pub p_value: Option<f64>,
}

/// Relative depth, and both effects over the model's largest.
type Profile = [f64; 3];

pub(super) fn match_heads(
    contrast: &Contrast,
    base: &ModelHeads,
    base_heads: &[&HeadRow],
    target: &ModelHeads,
    side: Side,
) -> ProfileTransfer {
    let candidates: Vec<&HeadRow> = target.heads.iter().filter(|h| h.deltas().is_some()).collect();
    // The strongest base heads, if the target has fewer heads than there are base heads.
    let base_heads = &base_heads[..base_heads.len().min(candidates.len())];
    let of_base = profiles(base, base_heads);
    let of_target = profiles(target, &candidates);
    let Some((assigned, mean_cost)) = cheapest(&of_base, &of_target).filter(|_| !base_heads.is_empty())
    else {
        return ProfileTransfer { matches: Vec::new(), mean_cost: None, chance_cost: None, p_value: None };
    };
    let matches = base_heads
        .iter()
        .zip(&of_base)
        .zip(&assigned)
        .map(|((&head, profile), &column)| Match {
            base: (head.clone(), profile[0]),
            target: (candidates[column].clone(), of_target[column][0]),
            cost: distance(profile, &of_target[column]),
        })
        .collect();
    let seed =
        Seed::new(0, &["transfer by profile", contrast.key(side), &base.info.model, &target.info.model]);
    let (mut as_cheap, mut total) = (0, 0.0);
    for permutation in 0..N_PERMUTATIONS as u64 {
        let order =
            sample_without_replacement(&mut seed.stream(permutation), of_target.len(), of_target.len());
        let shuffled: Vec<Profile> =
            of_target.iter().zip(order).map(|(p, from)| [of_target[from][0], p[1], p[2]]).collect();
        let cost = cheapest(&of_base, &shuffled).map_or(f64::INFINITY, |c| c.1);
        // Costs are only exact to the solver's step.
        as_cheap += usize::from(cost <= mean_cost + 1e-9);
        total += cost;
    }
    ProfileTransfer {
        matches,
        mean_cost: Some(mean_cost),
        chance_cost: Some(total / N_PERMUTATIONS as f64),
        p_value: Some((as_cheap + 1) as f64 / (N_PERMUTATIONS + 1) as f64),
    }
}

fn profiles(model: &ModelHeads, heads: &[&HeadRow]) -> Vec<Profile> {
    let largest =
        |side| model.heads.iter().filter_map(|h| h.effect(side).delta).fold(0.0f64, |m, d| m.max(d.abs()));
    let largest = Side::BOTH.map(largest);
    let scaled = |h: &HeadRow, side: Side| {
        let largest = largest[side as usize];
        h.effect(side).delta.filter(|_| largest > 0.0).map_or(0.0, |d| d / largest)
    };
    heads.iter().map(|h| [model.relative_depth(h.layer), scaled(h, Side::A), scaled(h, Side::B)]).collect()
}

fn distance(a: &Profile, b: &Profile) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum::<f64>().sqrt()
}

/// The cheapest assignment of base to target heads, and its mean cost.
fn cheapest(base: &[Profile], target: &[Profile]) -> Option<(Vec<usize>, f64)> {
    let costs: Vec<f64> = base.iter().flat_map(|b| target.iter().map(|t| distance(b, t))).collect();
    let assigned = assign(&costs, target.len())?;
    let total: f64 = base.iter().zip(&assigned).map(|(b, &column)| distance(b, &target[column])).sum();
    Some((assigned, total / base.len() as f64))
}

/// The table `<task>_transfer_matched` of the contrast.
pub(super) fn table(joint: &JointTable, side: Side, transfers: &[&PairTransfer]) -> Table {
    let rows: Vec<(&PairTransfer, &Match)> =
        transfers.iter().flat_map(|t| t.by_profile.matches.iter().map(move |m| (*t, m))).collect();
    let info = |index: usize| &joint.models[index].info;
    let contrast = &joint.contrast;
    let mut table = Table::new(contrast.table(&format!("{}_transfer_matched", contrast.key(side))))
        .text("base_family", rows.iter().map(|(t, _)| info(t.pair.base).family.as_str()))
        .text("base_model", rows.iter().map(|(t, _)| info(t.pair.base).model.as_str()))
        .text("tgt_family", rows.iter().map(|(t, _)| info(t.pair.target).family.as_str()))
        .text("tgt_model", rows.iter().map(|(t, _)| info(t.pair.target).model.as_str()))
        .integer("layer", rows.iter().map(|(_, m)| m.base.0.layer))
        .integer("head", rows.iter().map(|(_, m)| m.base.0.head))
        .integer("tgt_layer", rows.iter().map(|(_, m)| m.target.0.layer))
        .integer("tgt_head", rows.iter().map(|(_, m)| m.target.0.head))
        .float("relative_depth", rows.iter().map(|(_, m)| m.base.1))
        .float("tgt_relative_depth", rows.iter().map(|(_, m)| m.target.1));
    for of in Side::BOTH {
        let name = format!("delta_{}", contrast.key(of));
        table = table
            .float(name.clone(), rows.iter().map(|(_, m)| m.base.0.effect(of).delta))
            .float(format!("tgt_{name}"), rows.iter().map(|(_, m)| m.target.0.effect(of).delta));
    }
    table
        .float("cost", rows.iter().map(|(_, m)| m.cost))
        .text("relation", rows.iter().map(|(t, _)| t.pair.relation))
}
