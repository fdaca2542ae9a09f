//! Which sets of heads to ablate.

use std::collections::HashMap;

use super::Selection;
use super::draws::Pool;
use crate::categories::{Category, ClassifiedHead, ClassifiedModel};
use crate::contrast::{Contrast, Side};

/// Heads as (layer, head), in order, each once.
pub type HeadSet = Vec<(u32, u32)>;

/// All sets of one model, and the purpose of each.
#[derive(Debug, Clone, PartialEq)]
pub struct AblationPlan {
    /// Distinct sets to run on every held-out prompt: hero sets and lesions.
    pub sets: Vec<HeadSet>,
    /// The pools from which random sets are drawn.
    pub pools: Vec<Pool>,
    /// Hero vs. random, for each selection and k.
    pub comparisons: Vec<Comparison>,
    /// The helping heads specific to the first task and equally many specific to the second, as indices into `sets`; or why there
    /// are none. See [`crate::dissociation`].
    pub lesions: Result<[usize; 2], String>,
    /// Sets that are not possible.
    pub notes: Vec<String>,
}

/// One selection at one k.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// The heads from which the hero set is selected.
    pub selection: Selection,
    /// Heads in each set.
    pub k: usize,
    /// The sets, or why there are none.
    pub sets: Result<ComparedSets, String>,
}

/// The compared sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ComparedSets {
    /// The k strongest heads, as an index into [`AblationPlan::sets`].
    pub hero: usize,
    /// Random sets of the same size from all heads, as an index into [`AblationPlan::pools`]: the same for
    /// every selection.
    pub random: usize,
    /// Layer-matched sets, if there are enough of them for a test or the hero set is the largest of its selection.
    pub matched: Option<usize>,
}

impl ComparedSets {
    /// The pools of both kinds that exist.
    pub(super) fn pools(&self) -> impl Iterator<Item = usize> {
        std::iter::once(self.random).chain(self.matched)
    }
}

/// 1, 2, 4, 8, … up to an eighth of the heads.
#[must_use]
pub fn set_sizes(n_heads_total: usize) -> Vec<usize> {
    std::iter::successors(Some(1), |k| Some(2 * k)).take_while(|k| 8 * k <= n_heads_total).collect()
}

/// The sets to ablate in a model, with at most `n_random_sets` random sets of each kind. `seed` is the study's.
///
/// Hero sets depend only on the strengths; random sets on the model's name, the seed, and the hero sets' sizes and layers.
#[must_use]
pub fn plan(contrast: &Contrast, model: &ClassifiedModel, n_random_sets: usize, seed: u64) -> AblationPlan {
    let sizes = set_sizes(model.heads.len());
    let all = in_order(model.heads.iter());
    let mut plan = AblationPlan {
        sets: vec![],
        pools: vec![],
        comparisons: vec![],
        lesions: Err(String::new()),
        notes: vec![],
    };
    let mut places = Places::default();
    if sizes.is_empty() {
        plan.notes.push(format!("too few heads, {}: sets are of up to an eighth of the heads", all.len()));
    }
    for selection in Selection::ALL {
        let chosen = model.strongest(|h| selection.category().is_none_or(|c| h.category == c));
        let name = selection.name(contrast);
        let shortage = match chosen.len() {
            0 => format!("no head is {name}"),
            1 => format!("only 1 head is {name}"),
            n => format!("only {n} heads are {name}"),
        };
        if let Some(missing) = sizes.iter().find(|&&k| k > chosen.len()) {
            plan.notes.push(format!("{shortage}: no set of {missing} or more"));
        }
        let largest = sizes.iter().rfind(|&&k| k <= chosen.len());
        for &k in &sizes {
            let sets = if k > chosen.len() {
                Err(shortage.clone())
            } else {
                let hero = in_order(chosen.iter().copied().take(k));
                let random = Pool::of_all(&model.info.model, seed, &all, k, n_random_sets);
                let matched = Pool::matched(&model.info.model, seed, &all, &hero, n_random_sets);
                let matched =
                    Some(matched).filter(|pool| Some(&k) == largest || pool.is_worth_it(n_random_sets));
                Ok(ComparedSets {
                    hero: places.of(hero, &mut plan.sets),
                    random: place(random, &mut plan.pools),
                    matched: matched.map(|pool| place(pool, &mut plan.pools)),
                })
            };
            plan.comparisons.push(Comparison { selection, k, sets });
        }
    }
    plan.lesions = lesions(contrast, model, &mut places, &mut plan.sets);
    plan
}

/// The heads' (layer, head) pairs, in order.
fn in_order<'a>(heads: impl Iterator<Item = &'a ClassifiedHead>) -> HeadSet {
    let mut set: HeadSet = heads.map(|h| (h.layer, h.head)).collect();
    set.sort_unstable();
    set
}

/// The index of a pool in the list, to which a new one is added.
fn place(pool: Pool, pools: &mut Vec<Pool>) -> usize {
    pools.iter().position(|known| *known == pool).unwrap_or_else(|| {
        pools.push(pool);
        pools.len() - 1
    })
}

/// Indices of sets, each stored once.
#[derive(Default)]
struct Places(HashMap<HeadSet, usize>);

impl Places {
    fn of(&mut self, set: HeadSet, sets: &mut Vec<HeadSet>) -> usize {
        *self.0.entry(set).or_insert_with_key(|set| {
            sets.push(set.clone());
            sets.len() - 1
        })
    }
}

/// The strongest helping heads specific to each task: equally many, up to a quarter of the model's heads.
fn lesions(
    contrast: &Contrast,
    model: &ClassifiedModel,
    places: &mut Places,
    sets: &mut Vec<HeadSet>,
) -> Result<[usize; 2], String> {
    let helping =
        |side: Side| model.strongest(|h| h.category.only() == Some(side) && h.deltas[side as usize] < 0.0);
    let [a, b] = Side::BOTH.map(helping);
    for (heads, category) in [(&a, Category::OnlyA), (&b, Category::OnlyB)] {
        if heads.is_empty() {
            return Err(format!("no {} head helps its task", contrast.category(category)));
        }
    }
    let k = a.len().min(b.len()).min((model.heads.len() / 4).max(1));
    Ok([a, b].map(|heads| places.of(in_order(heads[..k].iter().copied()), sets)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_stop_at_an_eighth() {
        assert!(set_sizes(7).is_empty());
        assert_eq!(set_sizes(8), [1]);
        assert_eq!(set_sizes(48), [1, 2, 4]);
        assert_eq!(set_sizes(144), [1, 2, 4, 8, 16]);
        assert_eq!(set_sizes(1200), [1, 2, 4, 8, 16, 32, 64, 128]);
    }
}
