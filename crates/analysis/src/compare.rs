//! Two joint tables of the same models: another seed, protocol, precision, machine or program.

use std::collections::HashMap;

use crate::categories::Category;
use crate::contrast::{Contrast, Side};
use crate::error::{AnalysisError, Result};
use crate::joint::{HeadRow, JointTable, ModelHeads, ModelInfo};
use crate::model_measures::LEVEL;
use crate::stats::correlation::{Correlation, pearson};
use crate::stats::correlation_bootstrap::correlation_interval;
use crate::stats::{Interval, Seed};
use crate::table::Table;

/// How many of the largest disagreements are listed for each model and task.
pub const LARGEST: usize = 10;

/// One task of one model in both tables.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskAgreement {
    /// The task.
    pub side: Side,
    /// Heads measured in both tables.
    pub n: usize,
    /// Pearson's correlation of Δ.
    pub pearson: Option<f64>,
    /// Spearman's correlation of Δ, and its interval over heads.
    pub spearman: (Option<f64>, Option<Interval>),
    /// Share of heads with the same sign (0 agrees with 0 only).
    pub sign_agreement: f64,
    /// Among heads with |Δ| ≥ τ in at least one table, the share with the same sign; `None` if there are none.
    pub sign_agreement_strong: Option<f64>,
    /// Mean of |Δ_b − Δ_a|.
    pub mean_abs_difference: f64,
    /// Largest of |Δ_b − Δ_a|.
    pub max_abs_difference: f64,
    /// The [`LARGEST`] disagreements, largest first.
    pub disagreements: Vec<Disagreement>,
}

/// A head on which two tables differ.
#[derive(Debug, Clone, PartialEq)]
pub struct Disagreement {
    /// Block.
    pub layer: u32,
    /// Head.
    pub head: u32,
    /// Δ in either table.
    pub delta: [f64; 2],
}

/// One model in both tables.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelComparison {
    /// The model, as the first table describes it.
    pub info: ModelInfo,
    /// Hash of the weights in the first table and in the second, if recorded.
    pub weight_hashes: [Option<String>; 2],
    /// Heads in the first table only, and in the second only.
    pub n_only: [usize; 2],
    /// Each task.
    pub tasks: Vec<TaskAgreement>,
    /// Heads by their category in the first table (row) and in the second (column), as in [`Category::ALL`].
    pub confusion: [[usize; 4]; 4],
    /// Heads in both, measured on both tasks in both: `(row of a, row of b)`, for a figure.
    pub heads: Vec<(HeadRow, HeadRow)>,
}

impl ModelComparison {
    /// Whether both tables have the same weights; `None` if unknown.
    #[must_use]
    pub fn has_same_weights(&self) -> Option<bool> {
        let [a, b] = &self.weight_hashes;
        Some(a.as_ref()? == b.as_ref()?)
    }

    /// Share of heads with the same category, and Cohen's κ (agreement beyond chance).
    #[must_use]
    pub fn category_agreement(&self) -> (Option<f64>, Option<f64>) {
        let total = self.confusion.iter().flatten().sum::<usize>() as f64;
        if total == 0.0 {
            return (None, None);
        }
        let observed = (0..4).map(|i| self.confusion[i][i]).sum::<usize>() as f64 / total;
        let expected: f64 = (0..4)
            .map(|i| {
                let row: usize = self.confusion[i].iter().sum();
                let column: usize = self.confusion.iter().map(|r| r[i]).sum();
                (row as f64 / total) * (column as f64 / total)
            })
            .sum();
        let kappa = (expected < 1.0).then(|| (observed - expected) / (1.0 - expected));
        (Some(observed), kappa)
    }
}

/// Two tables side by side.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// The two tasks of both tables.
    pub contrast: Contrast,
    /// Threshold of the categories.
    pub tau: f64,
    /// Models that both tables have.
    pub models: Vec<ModelComparison>,
    /// Names of models in the first table only, and in the second only.
    pub only: [Vec<String>; 2],
}

/// Compares table `b` with table `a`.
///
/// # Errors
/// If they are for different tasks, or have no model in common.
pub fn compare(a: &JointTable, b: &JointTable, tau: f64) -> Result<Comparison> {
    if a.contrast != b.contrast {
        return Err(AnalysisError::inconsistent(
            "the two tables",
            format!("one is of {}, the other of {}", a.contrast, b.contrast),
            "compare tables of the same two tasks",
        ));
    }
    let only = |x: &JointTable, y: &JointTable| -> Vec<String> {
        x.models.iter().map(|m| m.info.model.clone()).filter(|name| y.model(name).is_none()).collect()
    };
    let models: Vec<ModelComparison> = a
        .models
        .iter()
        .filter_map(|m| b.model(&m.info.model).map(|other| compare_model(&a.contrast, m, other, tau)))
        .collect();
    if models.is_empty() {
        let names =
            |t: &JointTable| t.models.iter().map(|m| m.info.model.as_str()).collect::<Vec<_>>().join(", ");
        let without_revision = |m: &ModelHeads| m.info.model.split('@').next().map(str::to_owned);
        let of_b: Vec<_> = b.models.iter().map(without_revision).collect();
        let shared: Vec<String> =
            a.models.iter().map(without_revision).filter(|name| of_b.contains(name)).flatten().collect();
        let against = format!("{} against {}", names(a), names(b));
        let (problem, fix) = if shared.is_empty() {
            ("no model in common".to_owned(), "compare tables of the same models, under the same names")
        } else {
            let problem = format!(
                "different weights of the same model, {}: they are of different revisions",
                shared.join(", ")
            );
            (problem, "compare tables of one revision, or scan both revisions in one study")
        };
        return Err(AnalysisError::inconsistent("the two tables", format!("{problem}: {against}"), fix));
    }
    Ok(Comparison { contrast: a.contrast.clone(), tau, models, only: [only(a, b), only(b, a)] })
}

fn compare_model(contrast: &Contrast, a: &ModelHeads, b: &ModelHeads, tau: f64) -> ModelComparison {
    let of_b: HashMap<(u32, u32), &HeadRow> = b.heads.iter().map(|h| ((h.layer, h.head), h)).collect();
    let both: Vec<(&HeadRow, &HeadRow)> =
        a.heads.iter().filter_map(|h| Some((h, *of_b.get(&(h.layer, h.head))?))).collect();
    let mut confusion = [[0; 4]; 4];
    for (x, y) in &both {
        if let Some((x, y)) = x.deltas().zip(y.deltas()) {
            let [in_a, in_b] = [x, y].map(|deltas| Category::of(deltas.into(), tau) as usize);
            confusion[in_a][in_b] += 1;
        }
    }
    ModelComparison {
        info: a.info.clone(),
        weight_hashes: [a, b].map(|side| side.info.weight_hash.clone()),
        n_only: [a.heads.len() - both.len(), b.heads.len() - both.len()],
        tasks: Side::BOTH.map(|side| agreement(contrast, &a.info, &both, side, tau)).into(),
        confusion,
        heads: both
            .into_iter()
            .filter(|(x, y)| x.deltas().is_some() && y.deltas().is_some())
            .map(|(x, y)| (x.clone(), y.clone()))
            .collect(),
    }
}

fn agreement(
    contrast: &Contrast,
    info: &ModelInfo,
    both: &[(&HeadRow, &HeadRow)],
    side: Side,
    tau: f64,
) -> TaskAgreement {
    let mut pairs: Vec<Disagreement> = both
        .iter()
        .filter_map(|(x, y)| {
            let delta = [x.effect(side).delta?, y.effect(side).delta?];
            Some(Disagreement { layer: x.layer, head: x.head, delta })
        })
        .collect();
    let (x, y): (Vec<f64>, Vec<f64>) = pairs.iter().map(|d| (d.delta[0], d.delta[1])).unzip();
    let share = |of: &[&Disagreement]| {
        let same = of.iter().filter(|d| sign(d.delta[0]) == sign(d.delta[1])).count();
        same as f64 / of.len() as f64
    };
    let all: Vec<&Disagreement> = pairs.iter().collect();
    let strong: Vec<&Disagreement> =
        pairs.iter().filter(|d| d.delta.iter().any(|delta| delta.abs() >= tau)).collect();
    let difference = |d: &Disagreement| (d.delta[1] - d.delta[0]).abs();
    let seed = Seed::new(0, &[&info.model, contrast.key(side), "comparison"]);
    let (n, sign_agreement) = (pairs.len(), share(&all));
    let sign_agreement_strong = (!strong.is_empty()).then(|| share(&strong));
    let mean_abs_difference = pairs.iter().map(difference).sum::<f64>() / n as f64;
    pairs.sort_by(|a, b| difference(b).total_cmp(&difference(a)));
    TaskAgreement {
        side,
        n,
        pearson: pearson(&x, &y),
        spearman: (
            Correlation::Spearman.of(&x, &y),
            correlation_interval(&x, &y, Correlation::Spearman, None, LEVEL, &seed),
        ),
        sign_agreement,
        sign_agreement_strong,
        mean_abs_difference,
        max_abs_difference: pairs.first().map_or(f64::NAN, difference),
        disagreements: pairs.into_iter().take(LARGEST).collect(),
    }
}

fn sign(x: f64) -> i8 {
    i8::from(x > 0.0) - i8::from(x < 0.0)
}

impl Comparison {
    /// The tables `compare_models`, `compare_categories` and `compare_heads`.
    #[must_use]
    pub fn tables(&self) -> Vec<Table> {
        vec![self.models_table(), self.categories_table(), self.heads_table()]
    }

    fn models_table(&self) -> Table {
        let rows: Vec<(&ModelComparison, &TaskAgreement)> =
            self.models.iter().flat_map(|m| m.tasks.iter().map(move |t| (m, t))).collect();
        Table::new("compare_models")
            .text("family", rows.iter().map(|(m, _)| m.info.family.as_str()))
            .text("model", rows.iter().map(|(m, _)| m.info.model.as_str()))
            .text("task", rows.iter().map(|(_, t)| self.contrast.key(t.side)))
            .integer("n_heads_both", rows.iter().map(|(_, t)| t.n))
            .integer("n_heads_only_a", rows.iter().map(|(m, _)| m.n_only[0]))
            .integer("n_heads_only_b", rows.iter().map(|(m, _)| m.n_only[1]))
            .float("spearman", rows.iter().map(|(_, t)| t.spearman.0))
            .float("spearman_ci_low", rows.iter().map(|(_, t)| t.spearman.1.map(|i| i.low)))
            .float("spearman_ci_high", rows.iter().map(|(_, t)| t.spearman.1.map(|i| i.high)))
            .float("pearson", rows.iter().map(|(_, t)| t.pearson))
            .float("sign_agreement", rows.iter().map(|(_, t)| t.sign_agreement))
            .float("sign_agreement_strong", rows.iter().map(|(_, t)| t.sign_agreement_strong))
            .float("mean_abs_difference", rows.iter().map(|(_, t)| t.mean_abs_difference))
            .float("max_abs_difference", rows.iter().map(|(_, t)| t.max_abs_difference))
            .float("category_agreement", rows.iter().map(|(m, _)| m.category_agreement().0))
            .float("category_kappa", rows.iter().map(|(m, _)| m.category_agreement().1))
            .float("tau", rows.iter().map(|_| self.tau))
            .text(
                "same_weights",
                rows.iter().map(|(m, _)| match m.has_same_weights() {
                    Some(true) => "yes",
                    Some(false) => "no",
                    None => "",
                }),
            )
    }

    fn categories_table(&self) -> Table {
        let rows: Vec<(&ModelComparison, usize)> =
            self.models.iter().flat_map(|m| (0..4).map(move |row| (m, row))).collect();
        let mut table = Table::new("compare_categories")
            .text("family", rows.iter().map(|(m, _)| m.info.family.as_str()))
            .text("model", rows.iter().map(|(m, _)| m.info.model.as_str()))
            .text("category_a", rows.iter().map(|(_, row)| self.contrast.category(Category::ALL[*row])));
        for (column, category) in Category::ALL.into_iter().enumerate() {
            let name = format!("n_{}_in_b", self.contrast.category(category));
            table = table.integer(name, rows.iter().map(|(m, row)| m.confusion[*row][column]));
        }
        table
    }

    fn heads_table(&self) -> Table {
        let rows: Vec<(&ModelInfo, Side, &Disagreement)> = self
            .models
            .iter()
            .flat_map(|m| {
                m.tasks.iter().flat_map(move |t| t.disagreements.iter().map(move |d| (&m.info, t.side, d)))
            })
            .collect();
        Table::new("compare_heads")
            .text("family", rows.iter().map(|(m, ..)| m.family.as_str()))
            .text("model", rows.iter().map(|(m, ..)| m.model.as_str()))
            .text("task", rows.iter().map(|(_, side, _)| self.contrast.key(*side)))
            .integer("layer", rows.iter().map(|(.., d)| d.layer))
            .integer("head", rows.iter().map(|(.., d)| d.head))
            .float("delta_a", rows.iter().map(|(.., d)| d.delta[0]))
            .float("delta_b", rows.iter().map(|(.., d)| d.delta[1]))
            .float("difference", rows.iter().map(|(.., d)| d.delta[1] - d.delta[0]))
    }
}
