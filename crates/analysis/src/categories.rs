//! Head categories at a threshold τ and their stability, the hero heads, and the sweep over τ.

pub use crate::contrast::Category;
use crate::contrast::{Contrast, Side};
use crate::effect::{Effect, EffectDetail};
use crate::error::{AnalysisError, Result};
use crate::joint::{HeadRow, JointTable, ModelHeads, ModelInfo, does_columns};
use crate::scan_file::Performance;
use crate::table::Table;

/// The default threshold, in logits.
pub const DEFAULT_TAU: f64 = 0.05;
/// The thresholds of the sweep.
pub const TAU_SWEEP: [f64; 4] = [0.03, 0.05, 0.07, 0.10];
/// The relative threshold: this share of a model's own mean logit difference on a task.
pub const RELATIVE_TAU: f64 = 0.05;
/// Hero heads per family, model and category.
pub const DEFAULT_TOP_K: usize = 5;
/// A category is stable if the bootstrap over prompts gives it at least this probability.
pub const STABLE_PROBABILITY: f64 = 0.95;

/// A head measured on both tasks, and its category.
#[derive(Debug, Clone, PartialEq)]
pub struct ClassifiedHead {
    /// Block, from 0.
    pub layer: u32,
    /// Head within its block, from 0.
    pub head: u32,
    /// Δ on each task.
    pub deltas: [f64; 2],
    /// |Δ_a| + |Δ_b|.
    pub strength: f64,
    /// The category.
    pub category: Category,
    /// Probability of each of [`Category::ALL`] when the prompts are resampled; `None` if the joint table does not
    /// hold the probabilities for this τ.
    pub probabilities: Option<[f64; 4]>,
    /// The category on the held-out prompts, if there are any.
    pub held_out_category: Option<Category>,
    /// The category at the model's [`relative_taus`], if it has any.
    pub relative_category: Option<Category>,
}

/// [`RELATIVE_TAU`] of a model's mean logit difference on each task, in logits.
///
/// `None` if the model does not do both tasks, or if that is unknown: a share of a difference that may be 0 is
/// meaningless.
#[must_use]
pub fn relative_taus(info: &ModelInfo) -> Option<[f64; 2]> {
    let of = |side: Side| {
        let performance = info.performance(side);
        performance.logit_diff.filter(|_| performance.does_task() == Some(true)).map(|d| RELATIVE_TAU * d)
    };
    Some([of(Side::A)?, of(Side::B)?])
}

impl ClassifiedHead {
    /// Whether the category stays the same when the prompts are resampled, with probability
    /// [`STABLE_PROBABILITY`].
    #[must_use]
    pub fn is_stable(&self) -> Option<bool> {
        self.probabilities.map(|p| p[self.category as usize] >= STABLE_PROBABILITY)
    }

    fn new(
        row: &HeadRow,
        tau: f64,
        tau_index: Option<usize>,
        relative_taus: Option<[f64; 2]>,
    ) -> Option<Self> {
        let (a, b) = row.deltas()?;
        Some(Self {
            layer: row.layer,
            head: row.head,
            deltas: [a, b],
            strength: a.abs() + b.abs(),
            category: Category::of([a, b], tau),
            probabilities: tau_index.and_then(|index| category_probabilities(row, index)),
            held_out_category: row.held_out_deltas().map(|(a, b)| Category::of([a, b], tau)),
            relative_category: relative_taus.map(|taus| Category::at([a, b], taus)),
        })
    }
}

/// The two tasks are measured on different prompts, so their resamples are independent and the joint probabilities
/// are products.
fn category_probabilities(row: &HeadRow, tau_index: usize) -> Option<[f64; 4]> {
    let strong = |effect: &Effect| *effect.detail.as_ref()?.prob_abs_delta_ge_tau.get(tau_index)?;
    let [a, b] = &row.effects;
    let (a, b) = strong(a).zip(strong(b))?;
    Some([(1.0 - a) * b, a * (1.0 - b), a * b, (1.0 - a) * (1.0 - b)])
}

/// A model's heads with their categories.
#[derive(Debug, Clone, PartialEq)]
pub struct ClassifiedModel {
    /// The model.
    pub info: ModelInfo,
    /// Heads measured on both tasks, ordered by layer and head.
    pub heads: Vec<ClassifiedHead>,
    /// Heads in the joint table that were not measured on both tasks; they have no category.
    pub n_unclassified: usize,
}

impl ClassifiedModel {
    /// Heads of each of [`Category::ALL`] at the model's [`relative_taus`], if it has any.
    #[must_use]
    pub fn relative_counts(&self) -> Option<[usize; 4]> {
        relative_taus(&self.info)?;
        let mut counts = [0; 4];
        self.heads.iter().filter_map(|h| h.relative_category).for_each(|c| counts[c as usize] += 1);
        Some(counts)
    }

    /// Heads of each of [`Category::ALL`].
    #[must_use]
    pub fn counts(&self) -> [usize; 4] {
        let mut counts = [0; 4];
        for head in &self.heads {
            counts[head.category as usize] += 1;
        }
        counts
    }

    /// Heads whose category is not stable; `None` if the table holds no probabilities for this τ.
    #[must_use]
    pub fn n_unstable(&self) -> Option<usize> {
        let stable: Option<Vec<bool>> = self.heads.iter().map(ClassifiedHead::is_stable).collect();
        stable.map(|s| s.iter().filter(|&&stable| !stable).count())
    }

    /// The heads selected by `keep`, strongest first; ties are ordered by layer and head.
    pub(crate) fn strongest(&self, keep: impl Fn(&ClassifiedHead) -> bool) -> Vec<&ClassifiedHead> {
        let mut heads: Vec<_> = self.heads.iter().filter(|h| keep(h)).collect();
        heads.sort_by(|a, b| b.strength.total_cmp(&a.strength));
        heads
    }
}

/// Every head of a study with its category at one τ.
#[derive(Debug, Clone, PartialEq)]
pub struct Classified {
    /// The two tasks.
    pub contrast: Contrast,
    /// The threshold.
    pub tau: f64,
    /// The models, in the study's order.
    pub models: Vec<ClassifiedModel>,
}

/// Gives every head measured on both tasks its category.
///
/// # Errors
/// If τ is not a positive number.
pub fn classify(joint: &JointTable, tau: f64) -> Result<Classified> {
    if !(tau.is_finite() && tau > 0.0) {
        return Err(AnalysisError::Option {
            option: "--tau",
            problem: format!("the threshold {tau} must be above 0, such as {DEFAULT_TAU}"),
        });
    }
    let tau_index = joint.tau_index(tau);
    let model = |m: &ModelHeads| {
        let relative = relative_taus(&m.info);
        let heads: Vec<_> =
            m.heads.iter().filter_map(|row| ClassifiedHead::new(row, tau, tau_index, relative)).collect();
        ClassifiedModel { info: m.info.clone(), n_unclassified: m.heads.len() - heads.len(), heads }
    };
    Ok(Classified { contrast: joint.contrast.clone(), tau, models: joint.models.iter().map(model).collect() })
}

impl Classified {
    fn rows(&self) -> impl Iterator<Item = (&ModelInfo, &ClassifiedHead)> + Clone {
        self.models.iter().flat_map(|m| m.heads.iter().map(move |h| (&m.info, h)))
    }

    /// The table [`Contrast::heads_table`]. Heads not measured on both tasks are not included; the summary
    /// counts them.
    #[must_use]
    pub fn heads_table(&self) -> Table {
        let contrast = &self.contrast;
        let mut table = Table::new(contrast.heads_table())
            .text("family", self.rows().map(|(m, _)| m.family.as_str()))
            .text("model", self.rows().map(|(m, _)| m.model.as_str()))
            .integer("layer", self.rows().map(|(_, h)| h.layer))
            .integer("head", self.rows().map(|(_, h)| h.head));
        for (prefix, of) in [("", (|x| x) as fn(f64) -> f64), ("abs_", f64::abs)] {
            for side in Side::BOTH {
                let name = format!("{prefix}delta_{}", contrast.key(side));
                table = table.float(name, self.rows().map(|(_, h)| of(h.deltas[side as usize])));
            }
        }
        let mut table = table
            .float("strength", self.rows().map(|(_, h)| h.strength))
            .text("category", self.rows().map(|(_, h)| contrast.category(h.category)))
            .float("tau", self.rows().map(|_| self.tau));
        for category in Category::ALL {
            let probability = |h: &ClassifiedHead| h.probabilities.map(|p| p[category as usize]);
            let name = format!("prob_{}", contrast.category(category));
            table = table.float(name, self.rows().map(|(_, h)| probability(h)));
        }
        let name = |category: Option<Category>| category.map(|c| contrast.category(c));
        let table = table
            .boolean("stable", self.rows().map(|(_, h)| h.is_stable()))
            .text("held_out_category", self.rows().map(|(_, h)| name(h.held_out_category)))
            .text("relative_category", self.rows().map(|(_, h)| name(h.relative_category)));
        relative_tau_columns(table, contrast, self.rows().map(|(m, _)| relative_taus(m)))
    }

    /// The table `head_category_summary` of the contrast: numbers and fractions of heads per category and model, then the same numbers at
    /// relative thresholds, and which tasks the model does.
    #[must_use]
    pub fn summary_table(&self) -> Table {
        let rows = || self.models.iter();
        let contrast = &self.contrast;
        let mut table = summary_columns(
            Table::new(contrast.table("head_category_summary")),
            contrast,
            &rows().map(|m| (self.tau, m)).collect::<Vec<_>>(),
        );
        for category in Category::ALL {
            let count = |m: &ClassifiedModel| m.relative_counts().map(|counts| counts[category as usize]);
            let name = format!("n_relative_{}", contrast.category(category));
            table = table.integer(name, rows().map(count));
        }
        table = relative_tau_columns(table, contrast, rows().map(|m| relative_taus(&m.info)));
        does_columns(table, contrast, rows().map(|m| &m.info.performance))
    }

    /// The hero heads: the `top_k` strongest of every model and category, with their rows in `joint`, the table
    /// from which they were classified.
    #[must_use]
    pub fn heroes(&self, joint: &JointTable, top_k: usize) -> Vec<HeroHead> {
        let mut heroes = Vec::new();
        for (model, measured) in self.models.iter().zip(&joint.models) {
            for category in Category::ALL {
                let strongest = model.strongest(|h| h.category == category);
                heroes.extend(strongest.into_iter().take(top_k).enumerate().map(|(rank, head)| HeroHead {
                    family: model.info.family.clone(),
                    model: model.info.model.clone(),
                    hf_name: model.info.hf_name.clone(),
                    performance: model.info.performance,
                    rank,
                    evidence: measured.head(head.layer, head.head).cloned(),
                    head: head.clone(),
                }));
            }
        }
        heroes
    }
}

/// Adds each task's relative threshold.
fn relative_tau_columns(
    mut table: Table,
    contrast: &Contrast,
    rows: impl Iterator<Item = Option<[f64; 2]>> + Clone,
) -> Table {
    for side in Side::BOTH {
        let name = format!("tau_relative_{}", contrast.key(side));
        table = table.float(name, rows.clone().map(|taus| taus.map(|taus| taus[side as usize])));
    }
    table
}

/// The columns of a summary; each row is a model at a τ.
fn summary_columns(mut table: Table, contrast: &Contrast, rows: &[(f64, &ClassifiedModel)]) -> Table {
    table = table
        .text("family", rows.iter().map(|(_, m)| m.info.family.as_str()))
        .text("model", rows.iter().map(|(_, m)| m.info.model.as_str()));
    for category in Category::ALL {
        let name = format!("n_{}", contrast.category(category));
        table = table.integer(name, rows.iter().map(|(_, m)| m.counts()[category as usize]));
    }
    for category in Category::ALL {
        table = table.float(
            format!("frac_{}", contrast.category(category)),
            // No heads, no fraction: 0/0 is NaN, hence an empty cell.
            rows.iter().map(|(_, m)| m.counts()[category as usize] as f64 / m.heads.len() as f64),
        );
    }
    table
        .float("tau", rows.iter().map(|(tau, _)| *tau))
        .integer("n_classified", rows.iter().map(|(_, m)| m.heads.len()))
        .integer("n_unclassified", rows.iter().map(|(_, m)| m.n_unclassified))
        .integer("n_unstable", rows.iter().map(|(_, m)| m.n_unstable()))
}

/// One of the strongest heads of its model and category.
#[derive(Debug, Clone, PartialEq)]
pub struct HeroHead {
    /// Family.
    pub family: String,
    /// Model.
    pub model: String,
    /// Hugging Face id or folder, if known.
    pub hf_name: Option<String>,
    /// How well the model does both tasks.
    pub performance: [Performance; 2],
    /// Rank among the heads of its model and category, from 0.
    pub rank: usize,
    /// The head.
    pub head: ClassifiedHead,
    /// Its row in the joint table.
    pub evidence: Option<HeadRow>,
}

/// The table `hero_heads_for_paper` of a contrast: for each model the strongest heads of each category, strongest first.
#[must_use]
pub fn heroes_table(contrast: &Contrast, heroes: &[HeroHead]) -> Table {
    let rows = || heroes.iter();
    let mut table = Table::new(contrast.table("hero_heads_for_paper"))
        .text("family", rows().map(|h| h.family.as_str()))
        .text("model", rows().map(|h| h.model.as_str()))
        .text("category", rows().map(|h| contrast.category(h.head.category)))
        .integer("layer", rows().map(|h| h.head.layer))
        .integer("head", rows().map(|h| h.head.head));
    for side in Side::BOTH {
        let name = format!("delta_{}", contrast.key(side));
        table = table.float(name, rows().map(|h| h.head.deltas[side as usize]));
    }
    let name = |category: Option<Category>| category.map(|c| contrast.category(c));
    table = table
        .float("strength", rows().map(|h| h.head.strength))
        .integer("rank", rows().map(|h| h.rank))
        .float("prob_category", rows().map(|h| h.head.probabilities.map(|p| p[h.head.category as usize])))
        .boolean("stable", rows().map(|h| h.head.is_stable()))
        .text("held_out_category", rows().map(|h| name(h.head.held_out_category)))
        .text("relative_category", rows().map(|h| name(h.head.relative_category)));
    for side in Side::BOTH {
        let name = contrast.key(side);
        let detail = |of: fn(&EffectDetail) -> Option<f64>| {
            let cell = move |h: &HeroHead| h.evidence.as_ref()?.effect(side).detail.as_deref().and_then(of);
            rows().map(cell).collect::<Vec<_>>()
        };
        table = table
            .float(format!("delta_{name}_ci_low"), detail(|d| d.ci_low))
            .float(format!("delta_{name}_ci_high"), detail(|d| d.ci_high))
            .float(format!("delta_{name}_low_templates"), detail(|d| d.low_templates))
            .float(format!("delta_{name}_high_templates"), detail(|d| d.high_templates))
            .float(format!("q_value_{name}"), detail(|d| d.q_value))
            .float(format!("held_out_delta_{name}"), detail(|d| d.held_out_delta))
            .float(format!("held_out_delta_{name}_ci_low"), detail(|d| d.held_out_ci_low))
            .float(format!("held_out_delta_{name}_ci_high"), detail(|d| d.held_out_ci_high))
            .float(format!("held_out_delta_{name}_low_templates"), detail(|d| d.held_out_low_templates))
            .float(format!("held_out_delta_{name}_high_templates"), detail(|d| d.held_out_high_templates));
    }
    does_columns(table, contrast, rows().map(|h| &h.performance))
}

/// The table `tau_sweep` of the contrast: the summary at each of `taus`.
///
/// # Errors
/// When a τ is not a positive number.
pub fn tau_sweep(joint: &JointTable, taus: &[f64]) -> Result<Table> {
    let classified: Vec<Classified> = taus.iter().map(|&tau| classify(joint, tau)).collect::<Result<_>>()?;
    let rows: Vec<(f64, &ClassifiedModel)> =
        classified.iter().flat_map(|c| c.models.iter().map(|m| (c.tau, m))).collect();
    Ok(summary_columns(Table::new(joint.contrast.table("tau_sweep")), &joint.contrast, &rows))
}
