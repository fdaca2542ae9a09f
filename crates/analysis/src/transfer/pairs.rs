//! Which models to compare.

use crate::error::{AnalysisError, Result};
use crate::joint::{JointTable, ModelHeads};

/// Which pairs of models to compare.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Pairs {
    /// Each model with the next size of its family, and each pair of families at their nearest sizes.
    #[default]
    Neighbours,
    /// Every model with every other.
    All,
    /// Base and target by name.
    Named(Vec<(String, String)>),
}

/// A base model and a target, as positions in [`JointTable::models`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelPair {
    /// The model in which heads are selected.
    pub base: usize,
    /// The model in which they are looked up.
    pub target: usize,
    /// `next_size`, `nearest_size` (of another family) or `chosen`.
    pub relation: &'static str,
}

impl Pairs {
    /// Parses the command-line option: nothing, `all`, or `base:target` for each pair.
    ///
    /// # Errors
    /// If a word is neither.
    pub fn parse<S: AsRef<str>>(words: &[S]) -> Result<Self> {
        match words {
            [] => Ok(Self::Neighbours),
            [word] if word.as_ref() == "all" => Ok(Self::All),
            _ => words
                .iter()
                .map(|word| match word.as_ref().split_once(':') {
                    Some((base, target)) if !base.is_empty() && !target.is_empty() => {
                        Ok((base.to_owned(), target.to_owned()))
                    }
                    _ => Err(AnalysisError::Option {
                        option: "--pairs",
                        problem: format!(
                            "`{}` is neither `all` nor `BASE:TARGET`, such as gpt2:gpt2-medium",
                            word.as_ref()
                        ),
                    }),
                })
                .collect::<Result<_>>()
                .map(Self::Named),
        }
    }

    /// Checks that named pairs consist of two different ones of these models, before there is a table.
    ///
    /// # Errors
    /// If a named model is not among them, or is paired with itself.
    pub fn check(&self, models: &[String]) -> Result<()> {
        let Self::Named(names) = self else { return Ok(()) };
        let models: Vec<&str> = models.iter().map(String::as_str).collect();
        names.iter().try_for_each(|(base, target)| named(&models, base, target).map(drop))
    }

    /// The pairs among the models of a table, in the study's order.
    ///
    /// # Errors
    /// If a named model is not in the table, or is paired with itself.
    pub fn resolve(&self, joint: &JointTable) -> Result<Vec<ModelPair>> {
        match self {
            Self::Neighbours => Ok(neighbours(&joint.models)),
            Self::All => {
                let all = 0..joint.models.len();
                let pairs = all.clone().flat_map(|base| all.clone().map(move |target| (base, target)));
                Ok(pairs
                    .filter(|(base, target)| base != target)
                    .map(|(base, target)| ModelPair { base, target, relation: "chosen" })
                    .collect())
            }
            Self::Named(names) => {
                let models: Vec<&str> = joint.models.iter().map(|m| m.info.model.as_str()).collect();
                let pair = |(base, target): &(String, String)| {
                    let (base, target) = named(&models, base, target)?;
                    Ok(ModelPair { base, target, relation: "chosen" })
                };
                names.iter().map(pair).collect()
            }
        }
    }
}

/// The indices of two models in `models`.
fn named(models: &[&str], base: &str, target: &str) -> Result<(usize, usize)> {
    let fault = |problem| Err(AnalysisError::Option { option: "--pairs", problem });
    if base == target {
        return fault(format!("`{base}` is paired with itself"));
    }
    let position = |name: &str| models.iter().position(|m| m.eq_ignore_ascii_case(name));
    match (position(base), position(target)) {
        (Some(base), Some(target)) => Ok((base, target)),
        (None, _) => fault(format!("the study has no model `{base}`; it has {}", models.join(", "))),
        (_, None) => fault(format!("the study has no model `{target}`; it has {}", models.join(", "))),
    }
}

/// Models are in the study's order: families together, each by size.
fn neighbours(models: &[ModelHeads]) -> Vec<ModelPair> {
    let mut pairs: Vec<ModelPair> = (1..models.len())
        .filter(|&i| models[i - 1].info.family == models[i].info.family)
        .map(|i| ModelPair { base: i - 1, target: i, relation: "next_size" })
        .collect();
    let families: Vec<(usize, &[ModelHeads])> = models
        .chunk_by(|a, b| a.info.family == b.info.family)
        .scan(0, |start, family| {
            let first = *start;
            *start += family.len();
            Some((first, family))
        })
        .collect();
    for (index, &(first_a, a)) in families.iter().enumerate() {
        for &(first_b, b) in &families[index + 1..] {
            pairs.extend(nearest_sizes(a, b).map(|(i, j)| ModelPair {
                base: first_a + i,
                target: first_b + j,
                relation: "nearest_size",
            }));
        }
    }
    pairs
}

/// The models of two families with the size ratio nearest to 1; ties go to the smallest.
fn nearest_sizes(a: &[ModelHeads], b: &[ModelHeads]) -> Option<(usize, usize)> {
    // Sizes if both families have all of them, else numbers of heads, which every table has.
    let known = a.iter().chain(b).all(|m| m.info.params_m.is_some());
    let size = |m: &ModelHeads| m.info.params_m.filter(|_| known).unwrap_or(m.heads.len() as f64);
    let distance = |i: usize, j: usize| (size(&a[i]) / size(&b[j])).ln().abs();
    (0..a.len())
        .flat_map(|i| (0..b.len()).map(move |j| (i, j)))
        .min_by(|&(i, j), &(k, l)| distance(i, j).total_cmp(&distance(k, l)))
}
