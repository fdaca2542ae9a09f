//! Double dissociation: do IOI-only heads hurt IOI and spare anti-repeat, and the reverse?
//!
//! Heads are classed on the prompts they are picked on and judged on held-out prompts, in two ways.
//!
//! **Lesions.** The strongest helping heads of `ioi_only` (those whose ablation lowers the logit difference) are ablated
//! together, and equally many of `anti_only`. The *damage* of a set to a task is the mean logit difference without
//! ablation minus that with it. The 2 × 2 table of damages (set × task) dissociates where each set damages its own task
//! more than the other set does: the contrast on each task, their sum (the **interaction**), and Welch's test of the
//! interaction over prompts. `double_dissociation` is true where both contrasts are above 0 with 95% confidence.
//!
//! **Index.** How much of what heads do for the two tasks is done by heads that do it for one task alone: see
//! [`crate::dissociation_index`].

use serde::{Deserialize, Serialize};
use std::path::Path;

use crate::ablation::{AblationSettings, Evidence, MEASURED, TaskOutcomes, task_values};
use crate::dissociation_index::{CATEGORIES, dissociation_index};
use crate::error::Result;
use crate::joint::StudyTask;
use crate::model_measures::LEVEL;
use crate::origin::Origin;
use crate::scaling::{ScalingLaw, SizedValue, fit_measures, named_scaling_table};
use crate::stats::Seed;
use crate::stats::bootstrap::weighted_mean;
use crate::stats::correlation_bootstrap::Measured;
use crate::stats::functions::{Coverage, Estimate, bootstrap_functions};
use crate::stats::interval::student_p_value;
use crate::table::{Table, read_rows};

/// Name of the table's file, without `.csv`.
pub const DISSOCIATION_TABLE: &str = "dissociation";
/// Name of the table of its scaling with size.
pub const DISSOCIATION_SCALING_TABLE: &str = "dissociation_scaling";

/// An estimate with its 95% interval, where there is one.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Ranged {
    /// The estimate.
    pub value: Option<f64>,
    /// Lower end.
    pub low: Option<f64>,
    /// Upper end.
    pub high: Option<f64>,
}

impl From<Option<Estimate>> for Ranged {
    fn from(estimate: Option<Estimate>) -> Self {
        let interval = estimate.and_then(|e| e.interval);
        Self {
            value: estimate.map(|e| e.value),
            low: interval.map(|i| i.low),
            high: interval.map(|i| i.high),
        }
    }
}

/// The dissociation of the two tasks in one model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Dissociation {
    /// The model, its prompts, the program.
    pub origin: Origin,
    /// How lesions were made; the index rests on the scan's own ablation.
    pub settings: AblationSettings,
    /// The scan's ablation: `zero`, `mean` or `resample`.
    pub scan_ablation: String,
    /// Heads of `ioi_only`, `anti_only` and `shared`.
    pub n_heads: [usize; 3],
    /// Share of each task's squared effect that lies in a category: `[ioi_only, anti_only, shared]` × `[ioi, anti]`.
    pub shares: [[Ranged; 2]; 3],
    /// The index.
    pub index: Ranged,
    /// `measured`, or why there is no index.
    pub index_status: String,
    /// Heads in each of the two ablated sets; 0 where there are none.
    pub k: usize,
    /// Damage of each set to each task, in logits: `[ioi_only, anti_only]` × `[ioi, anti]`.
    pub damage: [[Ranged; 2]; 2],
    /// Damage of the IOI-only set minus that of the anti-only set, on IOI.
    pub ioi_contrast: Ranged,
    /// Damage of the anti-only set minus that of the IOI-only set, on anti-repeat.
    pub anti_contrast: Ranged,
    /// Sum of both contrasts.
    pub interaction: Ranged,
    /// Two-sided p-value of no interaction, Welch's test over prompts.
    pub interaction_p_value: Option<f64>,
    /// Whether both contrasts are above 0 with 95% confidence.
    pub double_dissociation: Option<bool>,
    /// `measured`, or why there are no lesions.
    pub lesion_status: String,
}

/// Index, 2 × 2 table and test of one model.
///
/// # Errors
/// When scans and categories are of different heads.
pub fn dissociation(
    origin: &Origin,
    settings: &AblationSettings,
    evidence: Evidence<'_>,
) -> Result<Dissociation> {
    let model = evidence.model;
    let count = |category| model.heads.iter().filter(|h| h.category == category).count();
    let mut result = Dissociation {
        origin: origin.clone(),
        settings: settings.clone(),
        scan_ablation: evidence.scans[0].meta.ablation.clone(),
        n_heads: CATEGORIES.map(count),
        shares: Default::default(),
        index: Ranged::default(),
        index_status: MEASURED.to_owned(),
        k: 0,
        damage: Default::default(),
        ioi_contrast: Ranged::default(),
        anti_contrast: Ranged::default(),
        interaction: Ranged::default(),
        interaction_p_value: None,
        double_dissociation: None,
        lesion_status: MEASURED.to_owned(),
    };
    let found = dissociation_index(model, evidence.scans, origin.split)?;
    (result.shares, result.index, result.index_status) = (found.shares, found.index, found.status);
    match &evidence.plan.lesions {
        Err(why) => result.lesion_status = why.clone(),
        Ok(sets) => {
            result.k = evidence.plan.sets[sets[0]].len();
            result.measure_lesions(*sets, evidence.outcomes);
        }
    }
    Ok(result)
}

impl Dissociation {
    fn coverage(&self) -> Coverage {
        Coverage { n_resamples: self.settings.n_resamples, level: LEVEL }
    }

    fn seed(&self, task: StudyTask, purpose: &str) -> Seed {
        Seed::new(self.origin.seed, &[&self.origin.model, task.name(), "dissociation", purpose])
    }

    fn measure_lesions(&mut self, sets: [usize; 2], outcomes: [&TaskOutcomes; 2]) {
        // Per task: damage of both sets, and their contrast in favour of the task's own set. [3] of [n_prompts]
        let series: Vec<Vec<Vec<f64>>> = outcomes
            .iter()
            .enumerate()
            .map(|(task, outcomes)| {
                let damage = |set: usize| -> Vec<f64> {
                    task_values(&outcomes.base, &outcomes.sets[set]).into_iter().map(|delta| -delta).collect()
                };
                let (own, other) = (damage(sets[task]), damage(sets[1 - task]));
                let contrast = own.iter().zip(&other).map(|(own, other)| own - other).collect();
                if task == 0 { vec![own, other, contrast] } else { vec![other, own, contrast] }
            })
            .collect();
        let samples: Vec<_> = series
            .iter()
            .zip(outcomes)
            .zip(StudyTask::BOTH)
            .map(|((series, o), task)| (Measured { series, weights: &o.weights }, self.seed(task, "lesions")))
            .collect();
        let found = bootstrap_functions(&samples, self.coverage(), 7, |means, out| {
            out[..6].copy_from_slice(means);
            out[6] = means[2] + means[5];
        });
        for task in 0..2 {
            for set in 0..2 {
                self.damage[set][task] = found[3 * task + set].into();
            }
        }
        (self.ioi_contrast, self.anti_contrast) = (found[2].into(), found[5].into());
        self.interaction = found[6].into();
        self.interaction_p_value =
            welch(&[(&series[0][2], &outcomes[0].weights), (&series[1][2], &outcomes[1].weights)]);
        let above = |contrast: Ranged| contrast.low.map(|low| low > 0.0);
        self.double_dissociation =
            above(self.ioi_contrast).zip(above(self.anti_contrast)).map(|(ioi, anti)| ioi && anti);
    }
}

/// Two-sided p-value of Σ of the samples' means = 0, with Welch and Satterthwaite's degrees of freedom. `None` for fewer
/// than 2 draws in a sample, or no variation.
fn welch(samples: &[(&Vec<f64>, &Vec<u32>)]) -> Option<f64> {
    let (mut sum, mut variance, mut inverse_df) = (0.0, 0.0, 0.0);
    for (values, weights) in samples {
        let n: f64 = weights.iter().copied().map(f64::from).sum();
        if n < 2.0 {
            return None;
        }
        let mean = weighted_mean(values, weights);
        let squares: f64 = values.iter().zip(*weights).map(|(v, &w)| f64::from(w) * (v - mean).powi(2)).sum();
        let of_mean = squares / (n - 1.0) / n;
        sum += mean;
        variance += of_mean;
        inverse_df += of_mean * of_mean / (n - 1.0);
    }
    (variance > 0.0).then(|| student_p_value(sum / variance.sqrt(), variance * variance / inverse_df))
}

/// The table [`DISSOCIATION_TABLE`]: a row per model.
#[must_use]
pub fn dissociation_table(models: &[Dissociation]) -> Table {
    let rows = || models.iter();
    let mut table = Table::new(DISSOCIATION_TABLE)
        .text("family", rows().map(|d| d.origin.family.as_str()))
        .text("model", rows().map(|d| d.origin.model.as_str()))
        .float("params_m", rows().map(|d| d.origin.params_m));
    let add = |table: Table, name: &str, of: &dyn Fn(&Dissociation) -> Ranged| {
        table
            .float(name, rows().map(|d| of(d).value))
            .float(format!("{name}_ci_low"), rows().map(|d| of(d).low))
            .float(format!("{name}_ci_high"), rows().map(|d| of(d).high))
    };
    table = add(table, "index", &|d| d.index);
    table =
        table.text("index_status", rows().map(|d| d.index_status.as_str())).integer("k", rows().map(|d| d.k));
    for (set, category) in CATEGORIES[..2].iter().enumerate() {
        for (task, name) in StudyTask::BOTH.iter().enumerate() {
            table = add(table, &format!("{category}_damage_{}", name.name()), &|d| d.damage[set][task]);
        }
    }
    table = add(table, "ioi_contrast", &|d| d.ioi_contrast);
    table = add(table, "anti_contrast", &|d| d.anti_contrast);
    table = add(table, "interaction", &|d| d.interaction)
        .float("interaction_p_value", rows().map(|d| d.interaction_p_value))
        .boolean("double_dissociation", rows().map(|d| d.double_dissociation))
        .text("lesion_status", rows().map(|d| d.lesion_status.as_str()));
    for (at, category) in CATEGORIES.iter().enumerate() {
        table = table.integer(format!("n_{category}"), rows().map(|d| d.n_heads[at]));
        for (task, name) in StudyTask::BOTH.iter().enumerate() {
            table = add(table, &format!("{category}_share_{}", name.name()), &|d| d.shares[at][task]);
        }
    }
    table = table.text("scan_ablation", rows().map(|d| d.scan_ablation.as_str()));
    table = AblationSettings::columns(table, rows().map(|d| &d.settings))
        .text("note", rows().map(|d| d.origin.caution()));
    Origin::columns(table, rows().map(|d| &d.origin))
}

/// A row of [`DISSOCIATION_TABLE`] as figures need it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct DissociationRow {
    /// Family.
    pub family: String,
    /// Model.
    pub model: String,
    /// Size in millions of parameters.
    pub params_m: Option<f64>,
    /// The index.
    pub index: Option<f64>,
    /// Lower end of its 95% interval.
    pub index_ci_low: Option<f64>,
    /// Upper end.
    pub index_ci_high: Option<f64>,
    /// `measured`, or why there is no index.
    pub index_status: String,
    /// Heads in each of the two ablated sets.
    pub k: usize,
    /// Damage of the IOI-only set to IOI.
    pub ioi_only_damage_ioi: Option<f64>,
    /// Lower end of its 95% interval.
    pub ioi_only_damage_ioi_ci_low: Option<f64>,
    /// Upper end.
    pub ioi_only_damage_ioi_ci_high: Option<f64>,
    /// Damage of the IOI-only set to anti-repeat.
    pub ioi_only_damage_anti: Option<f64>,
    /// Lower end of its 95% interval.
    pub ioi_only_damage_anti_ci_low: Option<f64>,
    /// Upper end.
    pub ioi_only_damage_anti_ci_high: Option<f64>,
    /// Damage of the anti-only set to IOI.
    pub anti_only_damage_ioi: Option<f64>,
    /// Lower end of its 95% interval.
    pub anti_only_damage_ioi_ci_low: Option<f64>,
    /// Upper end.
    pub anti_only_damage_ioi_ci_high: Option<f64>,
    /// Damage of the anti-only set to anti-repeat.
    pub anti_only_damage_anti: Option<f64>,
    /// Lower end of its 95% interval.
    pub anti_only_damage_anti_ci_low: Option<f64>,
    /// Upper end.
    pub anti_only_damage_anti_ci_high: Option<f64>,
    /// The interaction.
    pub interaction: Option<f64>,
    /// Two-sided p-value of no interaction.
    pub interaction_p_value: Option<f64>,
    /// Whether both contrasts are above 0 with 95% confidence.
    pub double_dissociation: Option<bool>,
    /// `measured`, or why there are no lesions.
    pub lesion_status: String,
}

/// Reads what [`dissociation_table`] wrote.
///
/// # Errors
/// When the file cannot be read or a row does not hold what the table holds.
pub fn read_dissociation(path: &Path) -> Result<Vec<DissociationRow>> {
    read_rows(path, "make the table again: circuit-scaling ablate")
}

/// Index and interaction against the logarithm of size, within each family and pooled.
#[must_use]
pub fn scaling(models: &[Dissociation]) -> Vec<ScalingLaw> {
    type Of = fn(&Dissociation) -> Option<f64>;
    let measures: [(&str, Of); 2] =
        [("dissociation_index", |d| d.index.value), ("interaction", |d| d.interaction.value)];
    fit_measures(measures.map(|(name, of)| {
        let sized = models.iter().map(|d| SizedValue {
            family: &d.origin.family,
            model: &d.origin.model,
            params_m: d.origin.params_m,
            value: of(d),
        });
        (name.to_owned(), sized.collect())
    }))
}

/// The table [`DISSOCIATION_SCALING_TABLE`].
#[must_use]
pub fn dissociation_scaling_table(laws: &[ScalingLaw]) -> Table {
    named_scaling_table(DISSOCIATION_SCALING_TABLE, laws)
}
