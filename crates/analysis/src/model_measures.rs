//! One line per model: the correlation between its tasks, and the measures that scaling laws are fitted to.

use crate::categories::{Category, Classified, ClassifiedModel};
use crate::joint::{JointTable, ModelHeads, ModelInfo, StudyTask};
use crate::stats::concentration::{participation_ratio, top_share};
use crate::stats::correlation::Correlation;
use crate::stats::correlation_bootstrap::{PromptNoise, correlation_interval};
use crate::stats::{Interval, Seed};
use crate::table::Table;

/// Coverage of every interval in the tables.
pub const LEVEL: f64 = 0.95;

/// A correlation between the two tasks over a model's heads.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct TaskCorrelation {
    /// The correlation; `None` where it is not defined.
    pub estimate: Option<f64>,
    /// Its 95% interval; `None` for too few heads.
    pub interval: Option<Interval>,
    /// Whether the interval covers the sampling of prompts, not that of heads alone.
    pub over_prompts: bool,
}

/// The correlations of one model.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelCorrelations {
    /// The model.
    pub info: ModelInfo,
    /// Heads measured on both tasks.
    pub n_heads: usize,
    /// Pearson's.
    pub pearson: TaskCorrelation,
    /// Spearman's.
    pub spearman: TaskCorrelation,
    /// Pearson's on held-out prompts.
    pub held_out_pearson: TaskCorrelation,
    /// Spearman's on held-out prompts.
    pub held_out_spearman: TaskCorrelation,
}

/// The correlations of every model. The resampling is seeded by the model's name alone, so it is the same for a table
/// from scans and one from CSV.
#[must_use]
pub fn correlations(joint: &JointTable) -> Vec<ModelCorrelations> {
    joint.models.iter().map(model_correlations).collect()
}

fn model_correlations(model: &ModelHeads) -> ModelCorrelations {
    let noise = model.info.correlation_noise;
    let of = |deltas: &(Vec<f64>, Vec<f64>), kind: Correlation, split: &str, noise: Option<PromptNoise>| {
        let seed = Seed::new(0, &[&model.info.model, "correlation over heads", kind.name(), split]);
        TaskCorrelation {
            estimate: kind.of(&deltas.0, &deltas.1),
            interval: correlation_interval(&deltas.0, &deltas.1, kind, noise, LEVEL, &seed),
            over_prompts: noise.is_some(),
        }
    };
    let (main, held_out) = (model.deltas(), model.held_out_deltas());
    ModelCorrelations {
        info: model.info.clone(),
        n_heads: main.0.len(),
        pearson: of(&main, Correlation::Pearson, "main", noise.pearson),
        spearman: of(&main, Correlation::Spearman, "main", noise.spearman),
        held_out_pearson: of(&held_out, Correlation::Pearson, "held out", noise.held_out_pearson),
        held_out_spearman: of(&held_out, Correlation::Spearman, "held out", noise.held_out_spearman),
    }
}

/// The table `corr_vs_scale_cross_family`: `family, model, params_m, corr`, then its interval, Spearman's, and both on
/// held-out prompts. `interval_over` says whether intervals cover `heads and prompts`, or `heads` alone where the joint
/// table does not know about prompts. Pearson's intervals are too narrow where a handful of heads carry the effect
/// (`docs/statistics.md`): see `participation_ratio_ioi` and `participation_ratio_anti` of [`measures_table`].
#[must_use]
pub fn correlation_table(correlations: &[ModelCorrelations]) -> Table {
    let rows = || correlations.iter();
    let mut table = Table::new("corr_vs_scale_cross_family")
        .text("family", rows().map(|c| c.info.family.as_str()))
        .text("model", rows().map(|c| c.info.model.as_str()))
        .float("params_m", rows().map(|c| c.info.params_m))
        .float("corr", rows().map(|c| c.pearson.estimate));
    type Of = fn(&ModelCorrelations) -> TaskCorrelation;
    let columns: [(&str, Of); 4] = [
        ("corr", |c| c.pearson),
        ("spearman", |c| c.spearman),
        ("held_out_corr", |c| c.held_out_pearson),
        ("held_out_spearman", |c| c.held_out_spearman),
    ];
    for (name, of) in columns {
        if name != "corr" {
            table = table.float(name, rows().map(|c| of(c).estimate));
        }
        table = table
            .float(format!("{name}_ci_low"), rows().map(|c| of(c).interval.map(|i| i.low)))
            .float(format!("{name}_ci_high"), rows().map(|c| of(c).interval.map(|i| i.high)));
    }
    let over = |c: &ModelCorrelations| if c.pearson.over_prompts { "heads and prompts" } else { "heads" };
    table.text("interval_over", rows().map(over)).integer("n_heads_measured", rows().map(|c| c.n_heads))
}

/// The measures of one model, in the order of [`measure_names`]. `None` where one is not defined, such as the depth of
/// a category without heads.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelMeasures {
    /// The model.
    pub info: ModelInfo,
    /// One value per name.
    pub values: Vec<Option<f64>>,
}

/// Names of the measures.
#[must_use]
pub fn measure_names() -> Vec<String> {
    let mut names: Vec<String> =
        ["corr", "spearman", "held_out_corr", "held_out_spearman", "n_strong", "frac_strong"]
            .map(String::from)
            .into();
    for category in STRONG {
        names.extend([format!("n_{category}"), format!("frac_{category}")]);
    }
    for task in StudyTask::BOTH.map(StudyTask::name) {
        names.extend([
            format!("top_1pct_share_{task}"),
            format!("top_5pct_share_{task}"),
            format!("participation_ratio_{task}"),
            format!("participation_fraction_{task}"),
        ]);
    }
    names.extend(Category::ALL.map(|category| format!("mean_relative_depth_{category}")));
    names
}

/// The categories of heads that work on something.
const STRONG: [Category; 3] = [Category::AntiOnly, Category::IoiOnly, Category::Shared];

/// The measures of every model.
#[must_use]
pub fn measures(
    joint: &JointTable,
    classified: &Classified,
    correlations: &[ModelCorrelations],
) -> Vec<ModelMeasures> {
    joint
        .models
        .iter()
        .zip(&classified.models)
        .zip(correlations)
        .map(|((model, classified), correlations)| ModelMeasures {
            info: model.info.clone(),
            values: model_values(model, classified, correlations),
        })
        .collect()
}

fn model_values(
    model: &ModelHeads,
    classified: &ClassifiedModel,
    correlations: &ModelCorrelations,
) -> Vec<Option<f64>> {
    let n = classified.heads.len() as f64;
    let count = |keep: &dyn Fn(Category) -> bool| {
        let count = classified.heads.iter().filter(|h| keep(h.category)).count() as f64;
        [Some(count), Some(count / n)].map(|c| c.filter(|_| n > 0.0))
    };
    let mut values = vec![
        correlations.pearson.estimate,
        correlations.spearman.estimate,
        correlations.held_out_pearson.estimate,
        correlations.held_out_spearman.estimate,
    ];
    values.extend(count(&|c| c != Category::Weak));
    for category in STRONG {
        values.extend(count(&|c| c == category));
    }
    for task in StudyTask::BOTH {
        let deltas: Vec<f64> = model.heads.iter().filter_map(|h| h.effect(task).delta).collect();
        let participation = participation_ratio(&deltas);
        values.extend([
            top_share(&deltas, 0.01),
            top_share(&deltas, 0.05),
            participation,
            participation.map(|p| p / deltas.len() as f64),
        ]);
    }
    for category in Category::ALL {
        let depths: Vec<f64> = classified
            .heads
            .iter()
            .filter(|h| h.category == category)
            .map(|h| model.relative_depth(h.layer))
            .collect();
        values.push((!depths.is_empty()).then(|| depths.iter().sum::<f64>() / depths.len() as f64));
    }
    values
}

/// The table `model_measures`: a row per model, a column per measure.
#[must_use]
pub fn measures_table(measures: &[ModelMeasures]) -> Table {
    let mut table = Table::new("model_measures")
        .text("family", measures.iter().map(|m| m.info.family.as_str()))
        .text("model", measures.iter().map(|m| m.info.model.as_str()))
        .float("params_m", measures.iter().map(|m| m.info.params_m));
    for (index, name) in measure_names().into_iter().enumerate() {
        table = table.float(name, measures.iter().map(|m| m.values[index]));
    }
    table
}
