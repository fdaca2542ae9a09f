//! Tables of ablated sets, and reading them back.

use std::path::Path;

use super::{AblationSettings, CurveArea, ModelAblation, RawRow, SetMeans, SetTest, SummaryRow};
use crate::error::Result;
use crate::origin::Origin;
use crate::table::{Table, read_rows};

/// Name of the summary's file, without `.csv`.
pub const SUMMARY_TABLE: &str = "hero_vs_random_ablation_summary";
/// Name of the tests' file.
pub const TEST_TABLE: &str = "hero_vs_random_tests";
/// Name of the areas' file.
pub const AREA_TABLE: &str = "hero_vs_random_area";

/// `L0H1 L2H3`, or nothing.
fn head_list(heads: &[(u32, u32)]) -> String {
    heads.iter().map(|(layer, head)| format!("L{layer}H{head}")).collect::<Vec<_>>().join(" ")
}

impl AblationSettings {
    /// Adds the settings of each row as further columns.
    pub(crate) fn columns<'a>(table: Table, rows: impl Iterator<Item = &'a Self> + Clone) -> Table {
        table
            .text("ablation", rows.clone().map(|s| s.ablation.as_str()))
            .text("value_bias", rows.clone().map(|s| s.value_bias.as_str()))
            .text("reference", rows.clone().map(|s| s.reference.as_deref()))
            .float("tau", rows.map(|s| s.tau))
    }
}

/// Every row of every model, with the model.
fn of_all<'a, T: 'a>(
    models: &'a [ModelAblation],
    rows: fn(&ModelAblation) -> &[T],
) -> impl Iterator<Item = (&'a ModelAblation, &'a T)> + Clone {
    models.iter().flat_map(move |m| rows(m).iter().map(move |row| (m, row)))
}

fn origin_columns<'a, T: 'a>(
    table: Table,
    rows: impl Iterator<Item = (&'a ModelAblation, &'a T)> + Clone,
) -> Table {
    let table = AblationSettings::columns(table, rows.clone().map(|(m, _)| &m.settings));
    Origin::columns(table, rows.map(|(m, _)| &m.origin))
}

/// The table `hero_vs_random_ablation`: every set with its means.
#[must_use]
pub fn raw_table(models: &[ModelAblation]) -> Table {
    let rows = || of_all(models, |m| &m.rows);
    type Of = fn(&RawRow) -> Option<SetMeans>;
    let mean = |of: Of, value: fn(&SetMeans) -> f64| rows().map(move |(_, r)| of(r).as_ref().map(value));
    let drawn = |of: Of| rows().map(move |(_, r)| of(r).map(|m| m.n_prompts as usize));
    let (ioi, anti): (Of, Of) = (|r| r.ioi, |r| r.anti);
    let table = Table::new("hero_vs_random_ablation")
        .text("family", rows().map(|(m, _)| m.origin.family.as_str()))
        .text("model", rows().map(|(m, _)| m.origin.model.as_str()))
        .integer("k", rows().map(|(_, r)| r.k))
        .text("set_type", rows().map(|(_, r)| r.selection.set_type(r.kind)))
        .float("acc_ioi", mean(ioi, |m| m.acc))
        .float("mean_diff_ioi", mean(ioi, |m| m.mean_diff))
        .float("acc_anti", mean(anti, |m| m.acc))
        .float("mean_diff_anti", mean(anti, |m| m.mean_diff))
        .float("delta_ioi", mean(ioi, |m| m.delta))
        .float("delta_anti", mean(anti, |m| m.delta))
        .text("selection", rows().map(|(_, r)| r.selection.name()))
        .integer("set", rows().map(|(_, r)| r.index))
        .text("heads", rows().map(|(_, r)| head_list(&r.heads)))
        .float("sum_delta_ioi", mean(ioi, |m| m.sum_delta))
        .float("sum_delta_anti", mean(anti, |m| m.sum_delta))
        .integer("n_prompts_ioi", drawn(ioi))
        .integer("n_prompts_anti", drawn(anti));
    origin_columns(table, rows())
}

/// The table [`SUMMARY_TABLE`].
#[must_use]
pub fn summary_table(models: &[ModelAblation]) -> Table {
    let rows = || of_all(models, |m| &m.summary);
    let table = Table::new(SUMMARY_TABLE)
        .text("family", rows().map(|(_, r)| r.family.as_str()))
        .text("model", rows().map(|(_, r)| r.model.as_str()))
        .integer("k", rows().map(|(_, r)| r.k))
        .text("set_type", rows().map(|(_, r)| r.set_type.as_str()))
        .float("acc_ioi", rows().map(|(_, r)| r.acc_ioi))
        .float("mean_diff_ioi", rows().map(|(_, r)| r.mean_diff_ioi))
        .float("acc_anti", rows().map(|(_, r)| r.acc_anti))
        .float("mean_diff_anti", rows().map(|(_, r)| r.mean_diff_anti))
        .integer("n_sets", rows().map(|(_, r)| r.n_sets))
        .float("acc_ioi_low", rows().map(|(_, r)| r.acc_ioi_low))
        .float("acc_ioi_high", rows().map(|(_, r)| r.acc_ioi_high))
        .float("mean_diff_ioi_low", rows().map(|(_, r)| r.mean_diff_ioi_low))
        .float("mean_diff_ioi_high", rows().map(|(_, r)| r.mean_diff_ioi_high))
        .float("acc_anti_low", rows().map(|(_, r)| r.acc_anti_low))
        .float("acc_anti_high", rows().map(|(_, r)| r.acc_anti_high))
        .float("mean_diff_anti_low", rows().map(|(_, r)| r.mean_diff_anti_low))
        .float("mean_diff_anti_high", rows().map(|(_, r)| r.mean_diff_anti_high))
        .text("interval_over", rows().map(|(_, r)| r.interval_over.as_str()))
        .float("delta_ioi", rows().map(|(_, r)| r.delta_ioi))
        .float("delta_anti", rows().map(|(_, r)| r.delta_anti))
        .text("selection", rows().map(|(_, r)| r.selection.as_str()))
        .text("status", rows().map(|(_, r)| r.status.as_str()));
    let table = table
        .integer("n_candidates_ioi", rows().map(|(m, _)| m.n_candidates[0]))
        .integer("n_candidates_anti", rows().map(|(m, _)| m.n_candidates[1]))
        .integer("n_prompts_ioi", rows().map(|(m, _)| m.n_prompts[0] as usize))
        .integer("n_prompts_anti", rows().map(|(m, _)| m.n_prompts[1] as usize))
        .integer("n_sets_ioi", rows().map(|(_, r)| r.n_sets_ioi))
        .integer("n_sets_anti", rows().map(|(_, r)| r.n_sets_anti))
        .float("sum_delta_ioi", rows().map(|(_, r)| r.sum_delta_ioi))
        .float("interaction_ioi", rows().map(|(_, r)| r.interaction_ioi))
        .float("interaction_ioi_low", rows().map(|(_, r)| r.interaction_ioi_low))
        .float("interaction_ioi_high", rows().map(|(_, r)| r.interaction_ioi_high))
        .float("sum_delta_anti", rows().map(|(_, r)| r.sum_delta_anti))
        .float("interaction_anti", rows().map(|(_, r)| r.interaction_anti))
        .float("interaction_anti_low", rows().map(|(_, r)| r.interaction_anti_low))
        .float("interaction_anti_high", rows().map(|(_, r)| r.interaction_anti_high))
        .float("variance_removed_ioi", rows().map(|(_, r)| r.variance_removed_ioi))
        .float("variance_removed_anti", rows().map(|(_, r)| r.variance_removed_anti));
    origin_columns(table, rows())
}

/// Reads what [`summary_table`] wrote; columns that it does not know are left alone.
///
/// # Errors
/// When the file cannot be read or a row does not hold what the table holds.
pub fn read_summary(path: &Path) -> Result<Vec<SummaryRow>> {
    read_rows(path, "make the table again: circuit-scaling ablate")
}

/// The table [`TEST_TABLE`]: hero against random at each k.
#[must_use]
pub fn test_table(models: &[ModelAblation]) -> Table {
    let rows = || of_all(models, |m| &m.tests);
    let number = |of: fn(&SetTest) -> Option<f64>| rows().map(move |(_, r)| of(r));
    let table = Table::new(TEST_TABLE)
        .text("family", rows().map(|(m, _)| m.origin.family.as_str()))
        .text("model", rows().map(|(m, _)| m.origin.model.as_str()))
        .text("selection", rows().map(|(_, r)| r.selection.name()))
        .integer("k", rows().map(|(_, r)| r.k))
        .text("task", rows().map(|(_, r)| r.task.as_str()))
        .text("measure", rows().map(|(_, r)| r.measure.as_str()))
        .text("against", rows().map(|(_, r)| r.against.name()))
        .float("hero", number(|r| r.hero))
        .float("random_mean", number(|r| r.random_mean))
        .float("random_sd", number(|r| r.random_sd))
        .float("difference", number(|r| r.difference))
        .float("difference_ci_low", number(|r| r.difference_ci_low))
        .float("difference_ci_high", number(|r| r.difference_ci_high))
        .float("effect_size", number(|r| r.effect_size))
        .float("p_value", number(|r| r.p_value))
        .float("q_value", number(|r| r.q_value))
        .integer("n_random", rows().map(|(_, r)| r.n_random))
        .integer("n_behind_p", rows().map(|(_, r)| r.n_behind_p))
        .integer("n_possible", rows().map(|(_, r)| r.n_possible.map(|n| n as usize)))
        .integer("n_prompts", rows().map(|(_, r)| r.n_prompts as usize))
        .text("status", rows().map(|(_, r)| r.status.as_str()));
    origin_columns(table, rows())
}

/// The table [`AREA_TABLE`]: the area between hero and random curves.
#[must_use]
pub fn area_table(models: &[ModelAblation]) -> Table {
    let rows = || of_all(models, |m| &m.areas);
    let number = |of: fn(&CurveArea) -> Option<f64>| rows().map(move |(_, r)| of(r));
    let sizes = |r: &CurveArea| r.sizes.iter().map(usize::to_string).collect::<Vec<_>>().join(" ");
    let table = Table::new(AREA_TABLE)
        .text("family", rows().map(|(m, _)| m.origin.family.as_str()))
        .text("model", rows().map(|(m, _)| m.origin.model.as_str()))
        .text("selection", rows().map(|(_, r)| r.selection.name()))
        .text("task", rows().map(|(_, r)| r.task.as_str()))
        .text("measure", rows().map(|(_, r)| r.measure.as_str()))
        .text("against", rows().map(|(_, r)| r.against.name()))
        .float("area", number(|r| r.area))
        .float("area_ci_low", number(|r| r.ci_low))
        .float("area_ci_high", number(|r| r.ci_high))
        .text("k", rows().map(|(_, r)| sizes(r)))
        .text("status", rows().map(|(_, r)| r.status.as_str()))
        .float("variance_removed", number(|r| r.variance_removed));
    origin_columns(table, rows())
}
