//! One line per model: the correlation between its tasks, and the measures that scaling laws are fitted to.

use crate::categories::{Category, Classified, ClassifiedModel};
use crate::contrast::{Contrast, Side};
use crate::joint::{Disattenuated, JointTable, ModelHeads, ModelInfo, OverPrompts, does_columns};
use crate::stats::concentration::{participation_ratio, top_share};
use crate::stats::correlation::Correlation;
use crate::stats::correlation_bootstrap::correlation_interval;
use crate::stats::{Interval, Seed};
use crate::table::Table;

/// Coverage of every interval in the tables.
pub const LEVEL: f64 = 0.95;

/// A correlation between the two tasks over a model's heads.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct TaskCorrelation {
    /// The correlation; `None` if it is not defined.
    pub estimate: Option<f64>,
    /// Its 95% interval over prompts: what equally many other prompts would give for this model. `None` if unknown.
    pub prompts: Option<Interval>,
    /// Its 95% interval over templates: what prompts of other templates would give for this model.
    pub templates: Option<Interval>,
    /// Its 95% interval over heads, treated as a sample from a larger population: how much another such model could
    /// differ. `None` for too few heads.
    pub heads: Option<Interval>,
    /// Whether [`Self::heads`] covers the sampling of prompts too.
    pub heads_and_prompts: bool,
}

/// The source of variation covered by an interval of a correlation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IntervalOver {
    /// Prompts: all heads of the model are measured.
    Prompts,
    /// Heads, if nothing is known about the prompts.
    Heads,
}

impl TaskCorrelation {
    /// The interval to show, over prompts if known, else over heads; and which one it is.
    #[must_use]
    pub fn shown(&self) -> Option<(Interval, IntervalOver)> {
        let prompts = self.prompts.map(|interval| (interval, IntervalOver::Prompts));
        prompts.or_else(|| self.heads.map(|interval| (interval, IntervalOver::Heads)))
    }
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
    /// Pearson's without measurement noise.
    pub disattenuated: Disattenuated,
    /// The same on held-out prompts.
    pub held_out_disattenuated: Disattenuated,
}

/// The correlations of every model. The resampling seed depends only on the model's name, so a table from scans and
/// one from CSV give the same.
#[must_use]
pub fn correlations(joint: &JointTable) -> Vec<ModelCorrelations> {
    joint.models.iter().map(model_correlations).collect()
}

fn model_correlations(model: &ModelHeads) -> ModelCorrelations {
    let over_prompts = model.info.over_prompts;
    let of = |deltas: &(Vec<f64>, Vec<f64>), kind: Correlation, split: &str, over_prompts: OverPrompts| {
        let seed = Seed::new(0, &[&model.info.model, "correlation over heads", kind.name(), split]);
        TaskCorrelation {
            estimate: kind.of(&deltas.0, &deltas.1),
            prompts: over_prompts.prompts,
            templates: over_prompts.templates,
            heads: correlation_interval(&deltas.0, &deltas.1, kind, over_prompts.noise, LEVEL, &seed),
            heads_and_prompts: over_prompts.noise.is_some(),
        }
    };
    let (main, held_out) = (model.deltas(), model.held_out_deltas());
    ModelCorrelations {
        info: model.info.clone(),
        n_heads: main.0.len(),
        pearson: of(&main, Correlation::Pearson, "main", over_prompts.pearson),
        spearman: of(&main, Correlation::Spearman, "main", over_prompts.spearman),
        held_out_pearson: of(&held_out, Correlation::Pearson, "held out", over_prompts.held_out_pearson),
        held_out_spearman: of(&held_out, Correlation::Spearman, "held out", over_prompts.held_out_spearman),
        disattenuated: over_prompts.disattenuated,
        held_out_disattenuated: over_prompts.held_out_disattenuated,
    }
}

/// The table `corr_vs_scale_cross_family` of a contrast: `family, model, params_m, corr`, then Spearman's, and both on held-out prompts.
///
/// Each has three intervals: `_ci_low`, `_ci_high` over prompts and `_low_templates`, `_high_templates` over templates say
/// what other prompts would give for this model; `_heads_ci_low`, `_heads_ci_high` treat its heads as a sample, and
/// `heads_interval_over` says whether they cover `heads and prompts` or `heads` alone. Pearson's interval over heads is too
/// narrow if a handful of heads carry the effect (`docs/statistics.md`). `corr_disattenuated` is Pearson's without
/// measurement noise, with its interval over prompts.
#[must_use]
pub fn correlation_table(contrast: &Contrast, correlations: &[ModelCorrelations]) -> Table {
    let rows = || correlations.iter();
    let mut table = Table::new(contrast.table("corr_vs_scale_cross_family"))
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
        table = with_ends(table, name, ["_ci_low", "_ci_high"], rows().map(|c| of(c).prompts));
        table =
            with_ends(table, name, ["_low_templates", "_high_templates"], rows().map(|c| of(c).templates));
        table = with_ends(table, name, ["_heads_ci_low", "_heads_ci_high"], rows().map(|c| of(c).heads));
    }
    type Corrected = fn(&ModelCorrelations) -> Disattenuated;
    let corrected: [(&str, Corrected); 2] = [
        ("corr_disattenuated", |c| c.disattenuated),
        ("held_out_corr_disattenuated", |c| c.held_out_disattenuated),
    ];
    for (name, of) in corrected {
        table = table.float(name, rows().map(|c| of(c).value));
        table = with_ends(table, name, ["_ci_low", "_ci_high"], rows().map(|c| of(c).interval));
    }
    let over =
        |c: &ModelCorrelations| if c.pearson.heads_and_prompts { "heads and prompts" } else { "heads" };
    let table = table
        .text("heads_interval_over", rows().map(over))
        .integer("n_heads_measured", rows().map(|c| c.n_heads));
    does_columns(table, contrast, rows().map(|c| &c.info.performance))
}

/// Adds the ends of an interval, named by `name` and both `ends`.
fn with_ends(
    table: Table,
    name: &str,
    ends: [&str; 2],
    intervals: impl Iterator<Item = Option<Interval>> + Clone,
) -> Table {
    table
        .float(format!("{name}{}", ends[0]), intervals.clone().map(|i| i.map(|i| i.low)))
        .float(format!("{name}{}", ends[1]), intervals.map(|i| i.map(|i| i.high)))
}

/// The measures of one model, in the order of [`measure_names`]. `None` if one is not defined, such as the depth of a
/// category without heads.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelMeasures {
    /// The model.
    pub info: ModelInfo,
    /// One value per name.
    pub values: Vec<Option<f64>>,
}

/// Names of the measures of a contrast.
#[must_use]
pub fn measure_names(contrast: &Contrast) -> Vec<String> {
    let mut names: Vec<String> =
        ["corr", "spearman", "held_out_corr", "held_out_spearman", "n_strong", "frac_strong"]
            .map(String::from)
            .into();
    for category in STRONG.map(|c| contrast.category(c)) {
        names.extend([format!("n_{category}"), format!("frac_{category}")]);
    }
    for task in contrast.keys() {
        names.extend([
            format!("top_1pct_share_{task}"),
            format!("top_5pct_share_{task}"),
            format!("participation_ratio_{task}"),
            format!("participation_fraction_{task}"),
        ]);
    }
    names.extend(Category::ALL.map(|c| format!("mean_relative_depth_{}", contrast.category(c))));
    names.push("corr_disattenuated".into());
    names.push("frac_relative_strong".into());
    names.extend(STRONG.map(|c| format!("frac_relative_{}", contrast.category(c))));
    names
}

/// The categories of heads that contribute to a task.
const STRONG: [Category; 3] = [Category::OnlyB, Category::OnlyA, Category::Shared];

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
    for side in Side::BOTH {
        let deltas: Vec<f64> = model.heads.iter().filter_map(|h| h.effect(side).delta).collect();
        values.extend(concentration(&deltas));
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
    values.push(correlations.disattenuated.value);
    let relative = classified.relative_counts();
    let share = |keep: &dyn Fn(Category) -> bool| {
        let kept = |counts: [usize; 4]| Category::ALL.into_iter().zip(counts).filter(|(c, _)| keep(*c));
        relative
            .filter(|_| n > 0.0)
            .map(|counts| kept(counts).map(|(_, count)| count as f64).sum::<f64>() / n)
    };
    values.push(share(&|c| c != Category::Weak));
    values.extend(STRONG.map(|category| share(&|c| c == category)));
    values
}

/// How concentrated the effect on a task is: shares of the strongest 1% and 5%, participation ratio, and the ratio as a share
/// of the heads.
pub(crate) fn concentration(deltas: &[f64]) -> [Option<f64>; 4] {
    let participation = participation_ratio(deltas);
    let fraction = participation.map(|p| p / deltas.len() as f64);
    [top_share(deltas, 0.01), top_share(deltas, 0.05), participation, fraction]
}

/// The table `model_measures` of a contrast: a row per model, a column per measure.
#[must_use]
pub fn measures_table(contrast: &Contrast, measures: &[ModelMeasures]) -> Table {
    let mut table = Table::new(contrast.table("model_measures"))
        .text("family", measures.iter().map(|m| m.info.family.as_str()))
        .text("model", measures.iter().map(|m| m.info.model.as_str()))
        .float("params_m", measures.iter().map(|m| m.info.params_m));
    for (index, name) in measure_names(contrast).into_iter().enumerate() {
        table = table.float(name, measures.iter().map(|m| m.values[index]));
    }
    does_columns(table, contrast, measures.iter().map(|m| &m.info.performance))
}
