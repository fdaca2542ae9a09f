//! Tables of set ablation, written and read.

use std::path::Path;

use super::{
    AblationSettings, CurveArea, ModelAblation, SetMeans, SetTest, SummaryRow, TaskSummary, set_type,
};
use crate::contrast::{Contrast, Side};
use crate::error::Result;
use crate::origin::Origin;
use crate::scan_file::Split;
use crate::table::{Table, read_named_rows};

/// Name of the published pair's summary.
pub const SUMMARY_TABLE: &str = "hero_vs_random_ablation_summary";
/// Name of its table of tests.
pub const TEST_TABLE: &str = "hero_vs_random_tests";
/// Name of its table of areas.
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

/// One of a set's means.
type MeanOf = fn(&SetMeans) -> f64;

/// The table `hero_vs_random_ablation`: every set with its means.
#[must_use]
pub fn raw_table(contrast: &Contrast, models: &[ModelAblation]) -> Table {
    let rows = || of_all(models, |m| &m.rows);
    let of_task = |table: Table, side: Side, columns: &[(&str, MeanOf)]| {
        columns.iter().fold(table, |table, (name, value)| {
            let cells = rows().map(|(_, r)| r.tasks[side as usize].as_ref().map(value));
            table.float(format!("{name}_{}", contrast.key(side)), cells)
        })
    };
    let mut table = Table::new("hero_vs_random_ablation")
        .text("family", rows().map(|(m, _)| m.origin.family.as_str()))
        .text("model", rows().map(|(m, _)| m.origin.model.as_str()))
        .integer("k", rows().map(|(_, r)| r.k))
        .text("set_type", rows().map(|(_, r)| set_type(&r.selection, r.kind)));
    for side in Side::BOTH {
        table = of_task(table, side, &[("acc", |m| m.acc), ("mean_diff", |m| m.mean_diff)]);
    }
    for side in Side::BOTH {
        table = of_task(table, side, &[("delta", |m| m.delta)]);
    }
    table = table
        .text("selection", rows().map(|(_, r)| r.selection.as_str()))
        .integer("set", rows().map(|(_, r)| r.index))
        .text("heads", rows().map(|(_, r)| head_list(&r.heads)));
    for side in Side::BOTH {
        table = of_task(table, side, &[("sum_delta", |m| m.sum_delta)]);
    }
    for side in Side::BOTH {
        let drawn = rows().map(|(_, r)| r.tasks[side as usize].map(|m| m.n_prompts as usize));
        table = table.integer(format!("n_prompts_{}", contrast.key(side)), drawn);
    }
    origin_columns(table, rows())
}

type Figure = for<'a> fn(&'a mut TaskSummary) -> &'a mut Option<f64>;

/// Columns of a summary for one task, whose name replaces `{}`. In tables and files, each of these lists appears for one
/// task and then for the other, with columns that belong to neither task between the lists.
pub(super) const SCORES: [(&str, Figure); 2] =
    [("acc_{}", |t| &mut t.acc.value), ("mean_diff_{}", |t| &mut t.mean_diff.value)];
pub(super) const ENDS: [(&str, Figure); 4] = [
    ("acc_{}_low", |t| &mut t.acc.low),
    ("acc_{}_high", |t| &mut t.acc.high),
    ("mean_diff_{}_low", |t| &mut t.mean_diff.low),
    ("mean_diff_{}_high", |t| &mut t.mean_diff.high),
];
pub(super) const DELTA: [(&str, Figure); 1] = [("delta_{}", |t| &mut t.delta)];
pub(super) const TOGETHER: [(&str, Figure); 4] = [
    ("sum_delta_{}", |t| &mut t.sum_delta),
    ("interaction_{}", |t| &mut t.interaction.value),
    ("interaction_{}_low", |t| &mut t.interaction.low),
    ("interaction_{}_high", |t| &mut t.interaction.high),
];
pub(super) const REMOVED: [(&str, Figure); 1] = [("variance_removed_{}", |t| &mut t.variance_removed)];

/// Names and figures of one of these lists for both tasks of a row.
pub(super) fn figures<'a>(
    contrast: &'a Contrast,
    row: &'a SummaryRow,
    list: &'a [(&str, Figure)],
) -> impl Iterator<Item = (String, Option<f64>)> + 'a {
    let of_task = move |side: Side| {
        list.iter().map(move |(name, figure)| {
            (name.replace("{}", contrast.key(side)), *figure(&mut row.on(side).clone()))
        })
    };
    Side::BOTH.into_iter().flat_map(of_task)
}

/// Reads all lists of figures of a row, by name.
pub(super) fn read_figures<E>(
    contrast: &Contrast,
    mut figure: impl FnMut(&str) -> std::result::Result<Option<f64>, E>,
) -> std::result::Result<[TaskSummary; 2], E> {
    let mut tasks = [TaskSummary::default(); 2];
    for (key, task) in contrast.keys().into_iter().zip(&mut tasks) {
        for (name, place) in [&SCORES[..], &ENDS, &DELTA, &TOGETHER, &REMOVED].into_iter().flatten() {
            *place(task) = figure(&name.replace("{}", key))?;
        }
    }
    Ok(tasks)
}

/// The table [`SUMMARY_TABLE`] of a contrast.
#[must_use]
pub fn summary_table(contrast: &Contrast, models: &[ModelAblation]) -> Table {
    let rows = || of_all(models, |m| &m.summary);
    let add = |mut table: Table, list: &[(&str, Figure)]| {
        for side in Side::BOTH {
            for (name, figure) in list {
                let cells = rows().map(|(_, r)| *figure(&mut r.on(side).clone()));
                table = table.float(name.replace("{}", contrast.key(side)), cells);
            }
        }
        table
    };
    let count = |mut table: Table, name: &str, of: fn(&ModelAblation, &SummaryRow, usize) -> usize| {
        for side in Side::BOTH {
            let cells = rows().map(|(m, r)| of(m, r, side as usize));
            table = table.integer(format!("{name}_{}", contrast.key(side)), cells);
        }
        table
    };
    let table = Table::new(contrast.table(SUMMARY_TABLE))
        .text("family", rows().map(|(_, r)| r.family.as_str()))
        .text("model", rows().map(|(_, r)| r.model.as_str()))
        .integer("k", rows().map(|(_, r)| r.k))
        .text("set_type", rows().map(|(_, r)| r.set_type.as_str()));
    let table = add(table, &SCORES).integer("n_sets", rows().map(|(_, r)| r.n_sets));
    let table = add(table, &ENDS).text("interval_over", rows().map(|(_, r)| r.interval_over.as_str()));
    let table = add(table, &DELTA)
        .text("selection", rows().map(|(_, r)| r.selection.as_str()))
        .text("status", rows().map(|(_, r)| r.status.as_str()));
    let table = count(table, "n_candidates", |m, _, at| m.n_candidates[at]);
    let table = count(table, "n_prompts", |m, _, at| m.n_prompts[at] as usize);
    let table = count(table, "n_sets", |_, r, at| r.tasks[at].n_sets);
    let table = add(add(table, &TOGETHER), &REMOVED);
    origin_columns(table, rows())
}

/// Reads a table of this contrast written by [`summary_table`]; unknown columns are ignored.
///
/// # Errors
/// If the file cannot be read or a row has invalid contents.
pub fn read_summary(path: &Path, contrast: &Contrast) -> Result<Vec<SummaryRow>> {
    read_named_rows(path, "make the table again: circuit-scaling ablate", |row| {
        let mut tasks = read_figures(contrast, |name| row.parsed(name))?;
        for (key, task) in contrast.keys().into_iter().zip(&mut tasks) {
            task.n_sets = row.needed(&format!("n_sets_{key}"))?;
        }
        let split = row.text("split").ok();
        Ok(SummaryRow {
            family: row.text("family")?.to_owned(),
            model: row.text("model")?.to_owned(),
            k: row.needed("k")?,
            set_type: row.text("set_type")?.to_owned(),
            tasks,
            n_sets: row.needed("n_sets")?,
            interval_over: row.text("interval_over")?.to_owned(),
            selection: row.text("selection")?.to_owned(),
            status: row.text("status")?.to_owned(),
            split: split.and_then(Split::named),
        })
    })
}

/// The table [`TEST_TABLE`] of a contrast: hero against random at each k.
#[must_use]
pub fn test_table(contrast: &Contrast, models: &[ModelAblation]) -> Table {
    let rows = || of_all(models, |m| &m.tests);
    let number = |of: fn(&SetTest) -> Option<f64>| rows().map(move |(_, r)| of(r));
    let table = Table::new(contrast.table(TEST_TABLE))
        .text("family", rows().map(|(m, _)| m.origin.family.as_str()))
        .text("model", rows().map(|(m, _)| m.origin.model.as_str()))
        .text("selection", rows().map(|(_, r)| r.selection.as_str()))
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

/// The table [`AREA_TABLE`] of a contrast: the area between hero and random curves.
#[must_use]
pub fn area_table(contrast: &Contrast, models: &[ModelAblation]) -> Table {
    let rows = || of_all(models, |m| &m.areas);
    let number = |of: fn(&CurveArea) -> Option<f64>| rows().map(move |(_, r)| of(r));
    let sizes = |r: &CurveArea| r.sizes.iter().map(usize::to_string).collect::<Vec<_>>().join(" ");
    let table = Table::new(contrast.table(AREA_TABLE))
        .text("family", rows().map(|(m, _)| m.origin.family.as_str()))
        .text("model", rows().map(|(m, _)| m.origin.model.as_str()))
        .text("selection", rows().map(|(_, r)| r.selection.as_str()))
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
