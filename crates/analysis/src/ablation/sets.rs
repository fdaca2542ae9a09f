//! Which sets of heads to ablate.

use std::collections::HashMap;

use rand_chacha::ChaCha8Rng;

use super::Selection;
use crate::categories::{Category, ClassifiedHead, ClassifiedModel};
use crate::stats::Seed;
use crate::stats::resampling::sample_without_replacement;

/// Heads as (layer, head), in order, each once.
pub type HeadSet = Vec<(u32, u32)>;

/// All sets of one model, and what each is for.
#[derive(Debug, Clone, PartialEq)]
pub struct AblationPlan {
    /// Distinct sets; each is run once.
    pub sets: Vec<HeadSet>,
    /// Hero against random, for each selection and k.
    pub comparisons: Vec<Comparison>,
    /// The helping IOI-only heads and as many helping anti-only heads, as places in `sets`; or why there are none. See
    /// [`crate::dissociation`].
    pub lesions: Result<[usize; 2], String>,
    /// What cannot be had.
    pub notes: Vec<String>,
}

/// One selection at one k.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// Where the hero heads come from.
    pub selection: Selection,
    /// Heads in each set.
    pub k: usize,
    /// The sets, or why there are none.
    pub sets: Result<ComparedSets, String>,
}

/// Sets that are compared, as places in [`AblationPlan::sets`].
#[derive(Debug, Clone, PartialEq)]
pub struct ComparedSets {
    /// The k strongest heads.
    pub hero: usize,
    /// Random sets of any heads.
    pub random: Arm,
    /// Random sets with as many heads of each layer as the hero set.
    pub matched: Arm,
}

/// Random sets of one kind, as places in [`AblationPlan::sets`].
#[derive(Debug, Clone, PartialEq)]
pub struct Arm {
    /// Sets of other heads, or why there are none.
    pub others: Result<Vec<usize>, String>,
    /// Sets of all heads.
    pub permuted: Vec<usize>,
}

/// 1, 2, 3, 5, 8, 13, … up to a quarter of the heads.
#[must_use]
pub fn set_sizes(n_heads_total: usize) -> Vec<usize> {
    let (mut k, mut next) = (1, 2);
    let mut sizes = Vec::new();
    while 4 * k <= n_heads_total {
        sizes.push(k);
        (k, next) = (next, k + next);
    }
    sizes
}

/// The sets to ablate in a model, with `n_random_sets` random sets of each kind. `seed` is the study's.
///
/// Sets depend on the model's name, the seed and the strengths alone.
#[must_use]
pub fn plan(model: &ClassifiedModel, n_random_sets: usize, seed: u64) -> AblationPlan {
    let n_heads_total = model.heads.len();
    let sizes = set_sizes(n_heads_total);
    let mut sets = DistinctSets::default();
    let mut comparisons = Vec::new();
    let mut notes = Vec::new();
    if sizes.is_empty() {
        notes.push(format!("{n_heads_total} heads are too few: sets are of up to a quarter of the heads"));
    }
    let by_layer = |heads: &mut dyn Iterator<Item = &ClassifiedHead>| -> HeadSet {
        let mut set: HeadSet = heads.map(|h| (h.layer, h.head)).collect();
        set.sort_unstable();
        set
    };
    let all = by_layer(&mut model.heads.iter());
    for selection in Selection::ALL {
        let chosen = model.strongest(|h| selection.category().is_none_or(|c| h.category == c));
        let shortage = || match chosen.len() {
            0 => format!("no head is {selection}"),
            1 => format!("only 1 head is {selection}"),
            n => format!("only {n} heads are {selection}"),
        };
        if let Some(missing) = sizes.iter().find(|&&k| k > chosen.len()) {
            notes.push(format!("{}: no set of {missing} or more", shortage()));
        }
        for &k in &sizes {
            if k > chosen.len() {
                comparisons.push(Comparison { selection, k, sets: Err(shortage()) });
                continue;
            }
            let hero = by_layer(&mut chosen.iter().copied().take(k));
            let draw = |arm: &str, strata: Vec<Stratum>, sets: &mut DistinctSets| {
                // The same draws for every selection: where two share their hero set, or draw from all heads, they share
                // the random sets too, which then run once.
                let seed = |purpose: &str| {
                    Seed::new(seed, &[&model.info.model, "sets", &k.to_string(), arm, purpose])
                };
                draw_arm(&strata, n_random_sets, [seed("others"), seed("permuted")], sets)
            };
            let random = draw("random", vec![Stratum::new("the model", &all, &hero)], &mut sets);
            let layers = hero.chunk_by(|a, b| a.0 == b.0).map(|in_layer| {
                let layer = in_layer[0].0;
                let all: HeadSet = all.iter().copied().filter(|h| h.0 == layer).collect();
                Stratum::new(&format!("layer {layer}"), &all, in_layer)
            });
            let matched = draw("matched", layers.collect(), &mut sets);
            if let Err(why) = &matched.others {
                notes.push(format!("{selection}, k = {k}: no set matched layer by layer: {why}"));
            }
            let compared = ComparedSets { hero: sets.place(hero), random, matched };
            comparisons.push(Comparison { selection, k, sets: Ok(compared) });
        }
    }
    let lesions = lesions(model, &mut sets);
    AblationPlan { sets: sets.sets, comparisons, lesions, notes }
}

/// Heads of which some are drawn, all alike.
struct Stratum {
    name: String,
    all: HeadSet,
    others: HeadSet,
    n_drawn: usize,
}

impl Stratum {
    fn new(name: &str, all: &[(u32, u32)], hero: &[(u32, u32)]) -> Self {
        Self {
            name: name.to_owned(),
            all: all.to_vec(),
            others: all.iter().copied().filter(|h| !hero.contains(h)).collect(),
            n_drawn: hero.len(),
        }
    }
}

/// Draws sets of others, and sets of all; where one of the latter avoids the hero set, one of the former stands for it.
fn draw_arm(
    strata: &[Stratum],
    n_sets: usize,
    [others, permuted]: [Seed; 2],
    sets: &mut DistinctSets,
) -> Arm {
    let short = strata.iter().find(|s| s.others.len() < s.n_drawn);
    let others: Result<Vec<usize>, String> = match short {
        Some(s) => Err(format!("{} has {} hero heads and only {} others", s.name, s.n_drawn, s.others.len())),
        None => Ok((0..n_sets)
            .map(|i| sets.place(draw(strata, |s| &s.others, &mut others.stream(i as u64))))
            .collect()),
    };
    let permuted = (0..n_sets)
        .map(|i| {
            let set = draw(strata, |s| &s.all, &mut permuted.stream(i as u64));
            let avoids_hero =
                set.iter().all(|head| strata.iter().any(|s| s.others.binary_search(head).is_ok()));
            match &others {
                Ok(others) if avoids_hero => others[i],
                _ => sets.place(set),
            }
        })
        .collect();
    Arm { others, permuted }
}

fn draw(strata: &[Stratum], from: fn(&Stratum) -> &HeadSet, rng: &mut ChaCha8Rng) -> HeadSet {
    let mut set = HeadSet::new();
    for stratum in strata {
        let heads = from(stratum);
        set.extend(
            sample_without_replacement(rng, heads.len(), stratum.n_drawn).into_iter().map(|i| heads[i]),
        );
    }
    set.sort_unstable();
    set
}

/// Sets in order of their first appearance, each once.
#[derive(Default)]
struct DistinctSets {
    sets: Vec<HeadSet>,
    places: HashMap<HeadSet, usize>,
}

impl DistinctSets {
    fn place(&mut self, set: HeadSet) -> usize {
        *self.places.entry(set).or_insert_with_key(|set| {
            self.sets.push(set.clone());
            self.sets.len() - 1
        })
    }
}

/// The strongest helping heads of `ioi_only` and of `anti_only`: equally many, up to a quarter of the model's heads.
fn lesions(model: &ClassifiedModel, sets: &mut DistinctSets) -> Result<[usize; 2], String> {
    let ioi = model.strongest(|h| h.category == Category::IoiOnly && h.delta_ioi < 0.0);
    let anti = model.strongest(|h| h.category == Category::AntiOnly && h.delta_anti < 0.0);
    for (heads, category) in [(&ioi, Category::IoiOnly), (&anti, Category::AntiOnly)] {
        if heads.is_empty() {
            return Err(format!("no {category} head helps its task"));
        }
    }
    let k = ioi.len().min(anti.len()).min((model.heads.len() / 4).max(1));
    Ok([ioi, anti].map(|heads| {
        let mut set: HeadSet = heads[..k].iter().map(|h| (h.layer, h.head)).collect();
        set.sort_unstable();
        sets.place(set)
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_stop_at_a_quarter() {
        assert!(set_sizes(3).is_empty());
        assert_eq!(set_sizes(4), [1]);
        assert_eq!(set_sizes(144), [1, 2, 3, 5, 8, 13, 21, 34]);
        assert_eq!(set_sizes(12), [1, 2, 3]);
        assert_eq!(set_sizes(11), [1, 2]);
    }
}
