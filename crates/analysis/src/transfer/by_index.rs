//! Transfer by index: is the head with the same layer and index also strong in the target?

use std::collections::HashMap;

use super::{PairTransfer, size};
use crate::contrast::{Contrast, Side};
use crate::joint::{HeadRow, JointTable, ModelHeads};
use crate::stats::Seed;
use crate::stats::resampling::sample_without_replacement;
use crate::table::Table;

/// Random placements behind each p-value.
const N_PERMUTATIONS: usize = 10_000;

/// A base head at its own index in the target.
#[derive(Debug, Clone, PartialEq)]
pub struct IndexedHead {
    /// Block, in both models.
    pub layer: u32,
    /// Head, in both models.
    pub head: u32,
    /// |Δ| in the base model.
    pub base_abs_delta: f64,
    /// |Δ| in the target, if it has that head and measured it.
    pub target_abs_delta: Option<f64>,
    /// Rank among all measured heads of the target by |Δ|, from 0.
    pub target_rank: Option<usize>,
    /// (rank + 1) / measured heads.
    pub target_frac_rank: Option<f64>,
    /// Whether the target has no head with that layer and index.
    pub missing: bool,
}

/// All base heads of one pair, and whether their ranks are better than chance.
#[derive(Debug, Clone, PartialEq)]
pub struct IndexTransfer {
    /// The base heads, strongest first.
    pub heads: Vec<IndexedHead>,
    /// Mean fractional rank of the heads that exist in the target; small means strong.
    pub mean_frac_rank: Option<f64>,
    /// Its expectation if heads were placed at random.
    pub chance_frac_rank: Option<f64>,
    /// One-sided p-value: how often placing the heads anywhere in the target gives a mean rank as low.
    pub p_value: Option<f64>,
    /// The same for random placement within each head's layer, which separates a shared index from a shared depth.
    pub p_value_within_layer: Option<f64>,
}

/// Looks up the base heads in the target.
pub(super) fn follow(
    contrast: &Contrast,
    base: &ModelHeads,
    base_heads: &[&HeadRow],
    target: &ModelHeads,
    side: Side,
) -> IndexTransfer {
    let ranks = Ranks::new(target, side);
    let heads: Vec<IndexedHead> = base_heads
        .iter()
        .map(|h| {
            let found = target.head(h.layer, h.head);
            let rank = ranks.of.get(&(h.layer, h.head)).copied();
            IndexedHead {
                layer: h.layer,
                head: h.head,
                base_abs_delta: size(h, side),
                target_abs_delta: found.and_then(|t| t.effect(side).delta).map(f64::abs),
                target_rank: rank,
                target_frac_rank: rank.map(|r| ranks.fraction(r)),
                missing: found.is_none(),
            }
        })
        .collect();
    let placed: Vec<(u32, usize)> = heads.iter().filter_map(|h| Some((h.layer, h.target_rank?))).collect();
    if placed.is_empty() {
        return IndexTransfer {
            heads,
            mean_frac_rank: None,
            chance_frac_rank: None,
            p_value: None,
            p_value_within_layer: None,
        };
    }
    let seed = Seed::new(0, &["transfer by index", contrast.key(side), &base.info.model, &target.info.model]);
    let n = placed.len() as f64;
    let sum: usize = placed.iter().map(|p| p.1).sum();
    let (anywhere, within) = ranks.random_sums_as_low(&placed, sum, &seed);
    let p_value = |count: usize| (count + 1) as f64 / (N_PERMUTATIONS + 1) as f64;
    IndexTransfer {
        heads,
        mean_frac_rank: Some((sum as f64 / n + 1.0) / ranks.n as f64),
        chance_frac_rank: Some((ranks.n as f64 + 1.0) / (2.0 * ranks.n as f64)),
        p_value: Some(p_value(anywhere)),
        p_value_within_layer: Some(p_value(within)),
    }
}

/// Ranks of the target's heads by |Δ|.
struct Ranks {
    n: usize,
    of: HashMap<(u32, u32), usize>,
    in_layer: HashMap<u32, Vec<usize>>,
}

impl Ranks {
    fn new(target: &ModelHeads, side: Side) -> Self {
        let mut measured: Vec<&HeadRow> =
            target.heads.iter().filter(|h| h.effect(side).delta.is_some()).collect();
        // Stable: equal sizes keep their order of layer and head.
        measured.sort_by(|a, b| size(b, side).total_cmp(&size(a, side)));
        let mut in_layer: HashMap<u32, Vec<usize>> = HashMap::new();
        for (rank, head) in measured.iter().enumerate() {
            in_layer.entry(head.layer).or_default().push(rank);
        }
        let of = measured.iter().enumerate().map(|(rank, h)| ((h.layer, h.head), rank)).collect();
        Self { n: measured.len(), of, in_layer }
    }

    fn fraction(&self, rank: usize) -> f64 {
        (rank + 1) as f64 / self.n as f64
    }

    /// How many random placements have a sum of ranks of at most `sum`: anywhere, and within each head's layer.
    fn random_sums_as_low(&self, placed: &[(u32, usize)], sum: usize, seed: &Seed) -> (usize, usize) {
        let mut layers: Vec<(u32, usize)> = Vec::new();
        for &(layer, _) in placed {
            match layers.iter_mut().find(|l| l.0 == layer) {
                Some((_, count)) => *count += 1,
                None => layers.push((layer, 1)),
            }
        }
        let (mut anywhere, mut within) = (0, 0);
        for permutation in 0..N_PERMUTATIONS as u64 {
            let mut rng = seed.stream(permutation);
            let random: usize = sample_without_replacement(&mut rng, self.n, placed.len()).iter().sum();
            anywhere += usize::from(random <= sum);
            let random: usize = layers
                .iter()
                .map(|&(layer, count)| {
                    let ranks = &self.in_layer[&layer];
                    let drawn = sample_without_replacement(&mut rng, ranks.len(), count);
                    drawn.into_iter().map(|i| ranks[i]).sum::<usize>()
                })
                .sum();
            within += usize::from(random <= sum);
        }
        (anywhere, within)
    }
}

/// The table `<task>_transfer_generic` of the contrast.
pub(super) fn table(joint: &JointTable, side: Side, transfers: &[&PairTransfer]) -> Table {
    let rows: Vec<(&PairTransfer, &IndexedHead)> =
        transfers.iter().flat_map(|t| t.by_index.heads.iter().map(move |h| (*t, h))).collect();
    let info = |index: usize| &joint.models[index].info;
    let task = joint.contrast.key(side);
    Table::new(joint.contrast.table(&format!("{task}_transfer_generic")))
        .text("base_family", rows.iter().map(|(t, _)| info(t.pair.base).family.as_str()))
        .text("base_model", rows.iter().map(|(t, _)| info(t.pair.base).model.as_str()))
        .text("tgt_family", rows.iter().map(|(t, _)| info(t.pair.target).family.as_str()))
        .text("tgt_model", rows.iter().map(|(t, _)| info(t.pair.target).model.as_str()))
        .integer("layer", rows.iter().map(|(_, h)| h.layer))
        .integer("head", rows.iter().map(|(_, h)| h.head))
        .float(format!("base_abs_delta_{task}"), rows.iter().map(|(_, h)| h.base_abs_delta))
        .float(format!("tgt_abs_delta_{task}"), rows.iter().map(|(_, h)| h.target_abs_delta))
        .integer("tgt_rank", rows.iter().map(|(_, h)| h.target_rank))
        .float("tgt_frac_rank", rows.iter().map(|(_, h)| h.target_frac_rank))
        .boolean("missing_in_target_index", rows.iter().map(|(_, h)| h.missing))
        .text("relation", rows.iter().map(|(t, _)| t.pair.relation))
}
