//! Branches with common prefixes of edits.
//!
//! Two branches with the same edits up to a layer have the same state there, so it is computed once, just as the prefix
//! forest does for prompts. A *run* represents all branches that have not diverged yet; at each layer it divides into
//! one run per distinct list of edits there. Random sets of a few heads share most of their early layers this way, and
//! equal sets share all layers.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use crate::intervention::{Branch, Replacement, Stream};

/// How often runs with a common prefix may divide; after that, each branch runs separately. Every division keeps a
/// frame of activations waiting, so this bounds memory.
const MAX_PARTINGS: usize = 5;

/// Sorted branches, and what they may share.
pub(crate) struct Tree<'a> {
    branches: &'a [Branch],
    /// Whether branches may share a run after their first edited layer: not if a later edit changes what attention
    /// reads (`q`, `k`, `v`, `pattern`), since a run's attention is computed before it divides.
    shares: bool,
}

impl<'a> Tree<'a> {
    pub fn new(branches: &'a [Branch]) -> Self {
        let later =
            |b: &Branch| b.edits().iter().any(|e| Some(e.layer) > b.first_layer() && e.stream != Stream::Z);
        Self { branches, shares: !branches.iter().any(later) }
    }

    /// The branches that start at each layer, sorted so that common prefixes are adjacent; branches without edits come
    /// last, under `usize::MAX`.
    pub fn by_first_layer(&self) -> BTreeMap<usize, Vec<usize>> {
        let mut starting: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (index, branch) in self.branches.iter().enumerate() {
            starting.entry(branch.first_layer().unwrap_or(usize::MAX)).or_default().push(index);
        }
        for indices in starting.values_mut() {
            indices.sort_by(|&a, &b| in_order(&self.branches[a], &self.branches[b]));
        }
        starting
    }

    /// Divides a run, which has diverged from others `partings` times so far, by its branches' edits at `layer`. Equal
    /// branches never diverge.
    pub fn divide<'b>(
        &self,
        run: &'b [usize],
        layer: usize,
        partings: usize,
    ) -> impl Iterator<Item = &'b [usize]> {
        let may_share = self.shares && partings < MAX_PARTINGS;
        run.chunk_by(move |&a, &b| {
            let (a, b) = (&self.branches[a], &self.branches[b]);
            (may_share && a.at_layer(layer) == b.at_layer(layer)) || a == b
        })
    }

    /// Splits the branches into at most `n_parts` nonempty parts of about equal cost; within a part, common prefixes are adjacent.
    ///
    /// A branch costs the layers that it does not share with its predecessor: from where they diverge to the
    /// last.
    pub fn parts(&self, n_layers: usize, n_parts: usize) -> Vec<Vec<usize>> {
        let order: Vec<usize> = self.by_first_layer().into_values().flatten().collect();
        let layers = |at: usize| {
            let branch = &self.branches[order[at]];
            let Some(first) = branch.first_layer() else { return 0 };
            let before = at.checked_sub(1).map(|before| &self.branches[order[before]]);
            let parting = match before.filter(|before| before.first_layer() == Some(first)) {
                Some(before) if before == branch => n_layers,
                Some(before) if self.shares => {
                    (first..n_layers).find(|&l| before.at_layer(l) != branch.at_layer(l)).unwrap_or(n_layers)
                }
                _ => first,
            };
            n_layers - parting
        };
        let costs: Vec<usize> = (0..order.len()).map(layers).collect();
        let total = costs.iter().sum::<usize>().max(1);
        let mut parts = vec![vec![]; n_parts];
        let mut before = 0;
        for (&branch, cost) in order.iter().zip(costs) {
            // The part that contains the middle of the branch's cost.
            parts[((2 * before + cost) * n_parts / (2 * total)).min(n_parts - 1)].push(branch);
            before += cost;
        }
        parts.retain(|part| !part.is_empty());
        parts
    }

    /// The maximum number of frames of activations that wait at once: one, plus one for each later layer at which a branch
    /// may diverge from others.
    pub fn frames(&self) -> usize {
        let partings = |b: &Branch| b.edits().chunk_by(|x, y| x.layer == y.layer).count().saturating_sub(1);
        let most = if self.shares { self.branches.iter().map(partings).max().unwrap_or(0) } else { 0 };
        1 + most.min(MAX_PARTINGS + 1)
    }

    /// Layers after a branch's first at which branches read the plain run (of the source or of the prompt itself), and
    /// whether they read more than `z` there.
    pub fn sources_read_later(&self) -> BTreeMap<usize, bool> {
        let mut layers = BTreeMap::new();
        for branch in self.branches {
            for edit in branch.edits() {
                let reads = matches!(edit.replacement, Replacement::Source | Replacement::OthersMean);
                if reads && Some(edit.layer) > branch.first_layer() {
                    *layers.entry(edit.layer).or_insert(false) |= edit.stream != Stream::Z;
                }
            }
        }
        layers
    }
}

/// Compares two branches layer by layer; a layer without edits comes before one with.
fn in_order(a: &Branch, b: &Branch) -> Ordering {
    let (mut a, mut b) = (a.edits(), b.edits());
    loop {
        let (Some(x), Some(y)) = (a.first(), b.first()) else { return a.len().cmp(&b.len()) };
        if x.layer != y.layer {
            return y.layer.cmp(&x.layer);
        }
        let end = |edits: &[_]| edits.partition_point(|e: &crate::intervention::Edit| e.layer <= x.layer);
        let (own, others) = (a.split_at(end(a)), b.split_at(end(b)));
        match own.0.cmp(others.0) {
            Ordering::Equal => (a, b) = (own.1, others.1),
            order => return order,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sets(sets: &[&[(usize, usize)]]) -> Vec<Branch> {
        sets.iter().map(|heads| Branch::ablate(heads.iter().copied(), Replacement::Zero)).collect()
    }

    #[test]
    fn branches_that_begin_alike_stand_together() {
        let branches = sets(&[
            &[(0, 1), (2, 3)],
            &[(0, 2)],
            &[(0, 1)],
            &[(0, 1), (1, 0)],
            &[(0, 1), (0, 2)],
            &[(0, 1), (2, 3)],
        ]);
        let tree = Tree::new(&branches);
        let order = tree.by_first_layer().remove(&0).unwrap();
        let runs = |run: &[usize], layer, partings| -> Vec<Vec<usize>> {
            tree.divide(run, layer, partings).map(<[usize]>::to_vec).collect()
        };
        let at_0 = runs(&order, 0, 0);
        assert_eq!(at_0, [vec![2, 0, 5, 3], vec![4], vec![1]]);
        let at_1 = runs(&at_0[0], 1, 1);
        assert_eq!(at_1, [vec![2, 0, 5], vec![3]]);
        assert_eq!(runs(&at_1[0], 2, 2), [vec![2], vec![0, 5]]);
        // Beyond the limit, branches run separately.
        assert_eq!(runs(&at_0[0], 1, MAX_PARTINGS), [vec![2], vec![0, 5], vec![3]]);
        assert_eq!(tree.frames(), 2);
    }

    /// Layers computed by the runs of a tree, each counted once for all branches that share it.
    fn layers_run(tree: &Tree<'_>, n_layers: usize) -> usize {
        fn below(tree: &Tree<'_>, run: &[usize], layer: usize, partings: usize, n_layers: usize) -> usize {
            if layer == n_layers {
                return 0;
            }
            let runs: Vec<&[usize]> = tree.divide(run, layer, partings).collect();
            let partings = partings + usize::from(runs.len() > 1);
            runs.iter().map(|run| 1 + below(tree, run, layer + 1, partings, n_layers)).sum()
        }
        let starting = tree.by_first_layer().into_iter().filter(|&(layer, _)| layer < n_layers);
        starting.map(|(layer, branches)| below(tree, &branches, layer, 0, n_layers)).sum()
    }

    #[test]
    fn parts_cost_the_same_and_hold_every_branch_once() {
        // Every head of 6 layers of 4 heads; pairs with the same first head; no branches; equal branches.
        let heads: Vec<Branch> =
            (0..24).map(|i| Branch::ablate([(i / 4, i % 4)], Replacement::Zero)).collect();
        let pairs: Vec<Branch> =
            (0..20).map(|i| Branch::ablate([(0, i % 2), (5, i / 8)], Replacement::Zero)).collect();
        let (none, same) = (vec![Branch::new([]); 3], vec![heads[2].clone(); 5]);
        for (branches, most_alone) in [(heads, 6), (pairs, 6), (none, 0), (same, 6)] {
            for n_parts in 1..=5 {
                let parts = Tree::new(&branches).parts(6, n_parts);
                assert!(parts.len() <= n_parts && parts.iter().all(|part| !part.is_empty()));
                let mut all = parts.concat();
                all.sort_unstable();
                assert!(all.into_iter().eq(0..branches.len()), "{parts:?}");
                let cost = |part: &Vec<usize>| {
                    let own: Vec<Branch> = part.iter().map(|&b| branches[b].clone()).collect();
                    layers_run(&Tree::new(&own), 6)
                };
                let costs: Vec<usize> = parts.iter().map(cost).collect();
                let (low, high) = (costs.iter().min().unwrap(), costs.iter().max().unwrap());
                assert!(parts.len() < n_parts || high - low <= 2 * most_alone, "{n_parts}: {costs:?}");
            }
        }
    }

    #[test]
    fn later_edits_of_what_attention_reads_part_at_once() {
        let patch = |heads: &[(usize, usize)], stream| {
            Branch::patch(heads.iter().copied(), stream, Replacement::Source)
        };
        let branches = [patch(&[(0, 0), (1, 0)], Stream::V), patch(&[(0, 0), (1, 1)], Stream::Z)];
        let tree = Tree::new(&branches);
        assert_eq!(tree.divide(&[0, 1], 0, 0).count(), 2);
        assert_eq!(tree.frames(), 1);
        assert_eq!(tree.sources_read_later(), BTreeMap::from([(1, true)]));
        // Edits at the first layer can be shared, whatever they change.
        let branches = [patch(&[(0, 0)], Stream::V), patch(&[(0, 0)], Stream::V)];
        assert_eq!(Tree::new(&branches).divide(&[0, 1], 0, 0).count(), 1);
    }
}
