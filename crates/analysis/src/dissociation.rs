//! Double dissociation: does ablating the heads specific to one task hurt it and spare the other, and vice versa?
//!
//! Heads are classified on the discovery prompts and evaluated on held-out prompts, in two ways.
//!
//! **Lesions.** The strongest helping heads specific to the first task (those whose ablation lowers the logit difference) are
//! ablated together, and so are equally many specific to the second. The *damage* of a set to a task is the mean logit
//! difference without ablation minus that with it. In the 2 × 2 table of damages (set × task), the tasks dissociate if each set
//! damages its own task more than the other set does. The table gives the contrast on each task, their sum (the
//! **interaction**), and Welch's test of the interaction over prompts. `double_dissociation` is true if both contrasts are
//! above 0 with 95% confidence.
//!
//! **Index.** How much of the effect on the two tasks is due to heads specific to one task: see
//! [`crate::dissociation_index`].

use std::path::Path;

use crate::ablation::{AblationSettings, Evidence, MEASURED, TaskOutcomes, task_values};
use crate::categories::Category;
use crate::contrast::{Contrast, Side};
use crate::dissociation_index::{CATEGORIES, dissociation_index};
use crate::error::Result;
use crate::model_measures::LEVEL;
use crate::origin::Origin;
use crate::ranged::Ranged;
use crate::scaling::{ScalingLaw, SizedValue, fit_measures, named_scaling_table};
use crate::stats::Seed;
use crate::stats::bootstrap::weighted_mean;
use crate::stats::correlation_bootstrap::Measured;
use crate::stats::functions::{Coverage, bootstrap_functions};
use crate::stats::interval::student_p_value;
use crate::table::{Table, read_named_rows};

/// Name of the published pair's table.
pub const DISSOCIATION_TABLE: &str = "dissociation";
/// Name of its table of scaling with size.
pub const DISSOCIATION_SCALING_TABLE: &str = "dissociation_scaling";
/// The categories of the two ablated sets.
const SETS: [Category; 2] = [Category::OnlyA, Category::OnlyB];

/// The dissociation of the two tasks in one model.
#[derive(Debug, Clone, PartialEq)]
pub struct Dissociation {
    /// The two tasks.
    pub contrast: Contrast,
    /// The model, its prompts, the program.
    pub origin: Origin,
    /// How lesions were made; the index uses the scan's own ablation.
    pub settings: AblationSettings,
    /// The scan's ablation: `zero`, `mean` or `resample`.
    pub scan_ablation: String,
    /// Heads of each of [`CATEGORIES`].
    pub n_heads: [usize; 3],
    /// Share of each task's squared effects held by a category: [`CATEGORIES`] × tasks.
    pub shares: [[Ranged; 2]; 3],
    /// The index.
    pub index: Ranged,
    /// `measured`, or why there is no index.
    pub index_status: String,
    /// Heads in each of the two ablated sets; 0 without lesions.
    pub k: usize,
    /// Damage of each set to each task, in logits: set × task.
    pub damage: [[Ranged; 2]; 2],
    /// On each task, the damage of its own set minus that of the other.
    pub own_minus_other: [Ranged; 2],
    /// Sum of both.
    pub interaction: Ranged,
    /// Two-sided p-value of no interaction, Welch's test over prompts.
    pub interaction_p_value: Option<f64>,
    /// Whether both differences are above 0 with 95% confidence.
    pub double_dissociation: Option<bool>,
    /// `measured`, or why there are no lesions.
    pub lesion_status: String,
}

/// Index, 2 × 2 table and test of one model.
///
/// # Errors
/// If scans and categories have different heads.
pub fn dissociation(
    origin: &Origin,
    settings: &AblationSettings,
    evidence: Evidence<'_>,
) -> Result<Dissociation> {
    let model = evidence.model;
    let count = |category| model.heads.iter().filter(|h| h.category == category).count();
    let mut result = Dissociation {
        contrast: evidence.contrast.clone(),
        origin: origin.clone(),
        settings: settings.clone(),
        scan_ablation: evidence.scans[0].meta.ablation.clone(),
        n_heads: CATEGORIES.map(count),
        shares: Default::default(),
        index: Ranged::default(),
        index_status: MEASURED.to_owned(),
        k: 0,
        damage: Default::default(),
        own_minus_other: Default::default(),
        interaction: Ranged::default(),
        interaction_p_value: None,
        double_dissociation: None,
        lesion_status: MEASURED.to_owned(),
    };
    let found = dissociation_index(evidence.contrast, model, evidence.scans, origin.split)?;
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

    fn seed(&self, side: Side, purpose: &str) -> Seed {
        let key = self.contrast.key(side);
        Seed::new(self.origin.seed, &[&self.origin.model, key, "dissociation", purpose])
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
            .zip(Side::BOTH)
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
        self.own_minus_other = [found[2].into(), found[5].into()];
        self.interaction = found[6].into();
        self.interaction_p_value =
            welch(&[(&series[0][2], &outcomes[0].weights), (&series[1][2], &outcomes[1].weights)]);
        let [a, b] = self.own_minus_other.map(|difference| difference.low.map(|low| low > 0.0));
        self.double_dissociation = a.zip(b).map(|(a, b)| a && b);
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

/// Name of the damage of a set to a task.
fn damage_column(contrast: &Contrast, set: Category, task: Side) -> String {
    format!("{}_damage_{}", contrast.category(set), contrast.key(task))
}

/// The table [`DISSOCIATION_TABLE`] of a contrast: a row per model.
#[must_use]
pub fn dissociation_table(contrast: &Contrast, models: &[Dissociation]) -> Table {
    let rows = || models.iter();
    let mut table = Table::new(contrast.table(DISSOCIATION_TABLE))
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
    for (at, &set) in SETS.iter().enumerate() {
        for task in Side::BOTH {
            let name = damage_column(contrast, set, task);
            table = add(table, &name, &|d| d.damage[at][task as usize]);
        }
    }
    for task in Side::BOTH {
        let name = format!("{}_contrast", contrast.key(task));
        table = add(table, &name, &|d| d.own_minus_other[task as usize]);
    }
    table = add(table, "interaction", &|d| d.interaction)
        .float("interaction_p_value", rows().map(|d| d.interaction_p_value))
        .boolean("double_dissociation", rows().map(|d| d.double_dissociation))
        .text("lesion_status", rows().map(|d| d.lesion_status.as_str()));
    for (at, category) in CATEGORIES.map(|c| contrast.category(c)).into_iter().enumerate() {
        table = table.integer(format!("n_{category}"), rows().map(|d| d.n_heads[at]));
        for task in Side::BOTH {
            let name = format!("{category}_share_{}", contrast.key(task));
            table = add(table, &name, &|d| d.shares[at][task as usize]);
        }
    }
    table = table.text("scan_ablation", rows().map(|d| d.scan_ablation.as_str()));
    table = AblationSettings::columns(table, rows().map(|d| &d.settings))
        .text("note", rows().map(|d| d.origin.caution()));
    Origin::columns(table, rows().map(|d| &d.origin))
}

/// A row of [`DISSOCIATION_TABLE`] for figures.
#[derive(Debug, Clone, PartialEq)]
pub struct DissociationRow {
    /// Family.
    pub family: String,
    /// Model.
    pub model: String,
    /// Size in millions of parameters.
    pub params_m: Option<f64>,
    /// The index.
    pub index: Ranged,
    /// `measured`, or why there is no index.
    pub index_status: String,
    /// Heads in each of the two ablated sets.
    pub k: usize,
    /// Damage of each set to each task: set × task.
    pub damage: [[Ranged; 2]; 2],
    /// The interaction.
    pub interaction: Option<f64>,
    /// Two-sided p-value of no interaction.
    pub interaction_p_value: Option<f64>,
    /// Whether each set damages its own task more than the other does, with 95% confidence in both.
    pub double_dissociation: Option<bool>,
    /// `measured`, or why there are no lesions.
    pub lesion_status: String,
}

/// Reads a table of this contrast written by [`dissociation_table`].
///
/// # Errors
/// If the file cannot be read or a row has invalid contents.
pub fn read_dissociation(path: &Path, contrast: &Contrast) -> Result<Vec<DissociationRow>> {
    read_named_rows(path, "make the table again: circuit-scaling ablate", |row| {
        let ranged = |name: &str| {
            Ok::<_, String>(Ranged {
                value: row.parsed(name)?,
                low: row.parsed(&format!("{name}_ci_low"))?,
                high: row.parsed(&format!("{name}_ci_high"))?,
            })
        };
        let mut damage = [[Ranged::default(); 2]; 2];
        for (of_set, &set) in damage.iter_mut().zip(&SETS) {
            for task in Side::BOTH {
                of_set[task as usize] = ranged(&damage_column(contrast, set, task))?;
            }
        }
        Ok(DissociationRow {
            family: row.text("family")?.to_owned(),
            model: row.text("model")?.to_owned(),
            params_m: row.parsed("params_m")?,
            index: ranged("index")?,
            index_status: row.text("index_status")?.to_owned(),
            k: row.needed("k")?,
            damage,
            interaction: row.parsed("interaction")?,
            interaction_p_value: row.parsed("interaction_p_value")?,
            double_dissociation: row.parsed("double_dissociation")?,
            lesion_status: row.text("lesion_status")?.to_owned(),
        })
    })
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

/// The table [`DISSOCIATION_SCALING_TABLE`] of a contrast.
#[must_use]
pub fn dissociation_scaling_table(contrast: &Contrast, laws: &[ScalingLaw]) -> Table {
    named_scaling_table(&contrast.table(DISSOCIATION_SCALING_TABLE), laws)
}
