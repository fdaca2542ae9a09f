//! The audit of a joint table: how much of it was measured, and how much of its correlation is due to zeros filled in
//! for heads that were not measured.

use std::collections::BTreeSet;
use std::path::Path;

use crate::categories::Category;
use crate::contrast::{Contrast, Side};
use crate::error::Result;
use crate::joint::{Import, JointTable, ModelHeads};
use crate::known_models;
use crate::stats::correlation::pearson;
use crate::table::Table;
use crate::words::counted;

/// Number of heads that the published study's selection takes from each end of each task.
pub const SELECTED: usize = 20;

/// The audit of one model's rows.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelAudit {
    /// The two tasks.
    pub contrast: Contrast,
    /// Family.
    pub family: String,
    /// Model.
    pub model: String,
    /// Rows of the model.
    pub n_rows: usize,
    /// Heads that the model has, if known.
    pub n_heads_model: Option<usize>,
    /// Whether layers, and heads, seem to be counted from 1 rather than 0.
    pub from_one: [bool; 2],
    /// Rows that repeat a head.
    pub n_duplicates: usize,
    /// Rows without a value on each task.
    pub n_missing: [usize; 2],
    /// Of them, rows whose cell says `NaN`.
    pub n_nan: [usize; 2],
    /// Rows whose value is exactly 0, which a measured effect almost never is.
    pub n_zero: [usize; 2],
    /// Rows whose value is exactly 0 on at least one task.
    pub n_zero_rows: usize,
    /// Rows with nonzero values on both tasks.
    pub n_measured: usize,
    /// Pearson's correlation over all rows with values.
    pub corr_all: Option<f64>,
    /// The same over rows with values other than 0 on both tasks.
    pub corr_measured: Option<f64>,
    /// Heads per category over all rows with values; in the order of [`Category::ALL`].
    pub categories_all: [usize; 4],
    /// The same over rows with values other than 0 on both tasks.
    pub categories_measured: [usize; 4],
    /// The result of selecting heads from a full scan and filling in zeros; `None` if the table is not a full scan.
    pub filled: Option<Filled>,
}

/// A full scan after selecting [`SELECTED`] heads from each end of each task, an outer join, and filling in zeros for
/// missing values.
#[derive(Debug, Clone, PartialEq)]
pub struct Filled {
    /// Heads that survive the selection on at least one task.
    pub n_rows: usize,
    /// Of these, heads with a filled-in zero on each task.
    pub n_zero: [usize; 2],
    /// The correlation that would have been reported.
    pub corr: Option<f64>,
    /// Heads per category that would have been reported.
    pub categories: [usize; 4],
}

/// Audits a valid joint table.
#[must_use]
pub fn audit(joint: &JointTable, tau: f64) -> Vec<ModelAudit> {
    joint.models.iter().map(|m| audit_model(&joint.contrast, m, tau)).collect()
}

/// Audits a table as read, including duplicates.
#[must_use]
pub fn audit_import(import: &Import, tau: f64) -> Vec<ModelAudit> {
    let mut audits = audit(&import.table, tau);
    for audit in &mut audits {
        audit.n_duplicates = import.duplicates.iter().filter(|d| d.model == audit.model).count();
        audit.n_nan = Side::BOTH
            .map(|side| import.n_nan.get(&(audit.model.clone(), side)).copied().unwrap_or_default());
    }
    audits
}

fn audit_model(contrast: &Contrast, model: &ModelHeads, tau: f64) -> ModelAudit {
    let count = |keep: &dyn Fn(Option<f64>) -> bool| {
        Side::BOTH.map(|side| model.heads.iter().filter(|h| keep(h.effect(side).delta)).count())
    };
    let all: Vec<(f64, f64)> = model.heads.iter().filter_map(|h| h.deltas()).collect();
    let measured: Vec<(f64, f64)> = all.iter().copied().filter(|&(a, b)| a != 0.0 && b != 0.0).collect();
    let n_zero = count(&|delta| delta == Some(0.0));
    let is_complete = model.info.n_heads_total().is_none_or(|n| n == model.heads.len());
    // A table with more than a few zeros has been filled already.
    let is_full_scan =
        is_complete && all.len() == model.heads.len() && 20 * n_zero[0].max(n_zero[1]) <= all.len();
    ModelAudit {
        contrast: contrast.clone(),
        family: model.info.family.clone(),
        model: model.info.model.clone(),
        n_rows: model.heads.len(),
        n_heads_model: model.info.n_heads_total(),
        from_one: from_one(model),
        n_duplicates: 0,
        n_missing: count(&|delta| delta.is_none()),
        n_nan: [0, 0],
        n_zero,
        n_zero_rows: model
            .heads
            .iter()
            .filter(|h| Side::BOTH.iter().any(|&t| h.effect(t).delta == Some(0.0)))
            .count(),
        n_measured: measured.len(),
        corr_all: correlation(&all),
        corr_measured: correlation(&measured),
        categories_all: categories(&all, tau),
        categories_measured: categories(&measured, tau),
        filled: is_full_scan.then(|| filled(&all, tau)),
    }
}

/// Whether layers, and heads, seem to be counted from 1: their largest number is one beyond the model's last, the grid
/// of heads is complete, or both start at 1.
fn from_one(model: &ModelHeads) -> [bool; 2] {
    let known = known_models::find(&model.info.model);
    let sizes = [
        model.info.n_layers.or(known.map(|known| known.n_layers)),
        model.info.n_heads.or(known.map(|known| known.n_heads)),
    ];
    let places: BTreeSet<[u32; 2]> = model.heads.iter().map(|h| [h.layer, h.head]).collect();
    let ends = [0, 1].map(|axis| {
        let values = || places.iter().map(|place| place[axis]);
        (values().min().unwrap_or(0), values().max().unwrap_or(0))
    });
    let is_grid =
        places.len() as u64 == ends.map(|(low, high)| u64::from(high - low) + 1).iter().product::<u64>();
    let both = ends.iter().all(|&(low, _)| low == 1);
    [0, 1].map(|axis| {
        let (low, high) = ends[axis];
        // A partial table may well start at layer 1.
        low == 1
            && (sizes[axis] == Some(high) || (sizes[axis].is_none() && places.len() > 1 && (is_grid || both)))
    })
}

fn correlation(deltas: &[(f64, f64)]) -> Option<f64> {
    let (a, b): (Vec<f64>, Vec<f64>) = deltas.iter().copied().unzip();
    pearson(&a, &b)
}

fn categories(deltas: &[(f64, f64)], tau: f64) -> [usize; 4] {
    Category::ALL
        .map(|category| deltas.iter().filter(|&&deltas| Category::of(deltas.into(), tau) == category).count())
}

/// A full scan after the selection.
fn filled(deltas: &[(f64, f64)], tau: f64) -> Filled {
    let (a, b): (Vec<f64>, Vec<f64>) = deltas.iter().copied().unzip();
    let kept = [selected(&a), selected(&b)];
    let rows: Vec<(f64, f64)> = (0..deltas.len())
        .filter(|&i| kept[0][i] || kept[1][i])
        .map(|i| (if kept[0][i] { a[i] } else { 0.0 }, if kept[1][i] { b[i] } else { 0.0 }))
        .collect();
    let n_either = rows.len();
    Filled {
        n_rows: n_either,
        n_zero: kept.map(|kept| n_either - kept.iter().filter(|&&k| k).count()),
        corr: correlation(&rows),
        categories: categories(&rows, tau),
    }
}

/// The [`SELECTED`] most negative and most positive values.
fn selected(deltas: &[f64]) -> Vec<bool> {
    let mut order: Vec<usize> = (0..deltas.len()).collect();
    order.sort_by(|&a, &b| deltas[a].total_cmp(&deltas[b]));
    let mut kept = vec![false; deltas.len()];
    for &i in order.iter().take(SELECTED).chain(order.iter().rev().take(SELECTED)) {
        kept[i] = true;
    }
    kept
}

impl ModelAudit {
    /// Correlation over all rows minus that over measured rows: the contribution of zeros.
    #[must_use]
    pub fn owed_to_zeros(&self) -> Option<f64> {
        Some(self.corr_all? - self.corr_measured?)
    }

    /// The finding in a sentence.
    #[must_use]
    pub fn sentence(&self) -> String {
        let Self { model, n_rows, n_zero_rows, n_measured, .. } = self;
        let rows = |n| counted(n, "row", "rows");
        let of = match self.n_heads_model {
            Some(n) if n != *n_rows => {
                format!("{} for a model of {}", rows(*n_rows), counted(n, "head", "heads"))
            }
            _ => rows(*n_rows),
        };
        let mut sentence = if *n_zero_rows == 0 {
            let corr = self.corr_all.map_or("too few to correlate the tasks".into(), |r| {
                format!("the correlation between the tasks is {r:.3} and no zeros were filled in")
            });
            format!("{model}: {of}, none with an exact zero; {corr}.")
        } else {
            let shares = Side::BOTH.map(|side| {
                let share = 100.0 * self.n_zero[side as usize] as f64 / *n_rows as f64;
                format!("{share:.0}% exact zeros on {}", self.contrast.key(side))
            });
            match (self.corr_all, self.corr_measured) {
                (Some(all), Some(measured)) => format!(
                    "{model}: {of}, {}; the correlation is {all:.3} over all rows and {measured:.3} over the {n_measured} measured \
                     on both tasks, so {:+.3} of it comes from zeros that were filled in.",
                    shares.join(" and "),
                    all - measured
                ),
                (all, _) => format!(
                    "{model}: {of}, {}; only {} measured on both tasks, too few to tell how much of the correlation{} comes from zeros \
                     that were filled in.",
                    shares.join(" and "),
                    if *n_measured == 1 {
                        "1 row was".to_owned()
                    } else {
                        format!("{} were", rows(*n_measured))
                    },
                    all.map_or(String::new(), |r| format!(" of {r:.3}"))
                ),
            }
        };
        let from_one: Vec<&str> = ["layer", "head"]
            .into_iter()
            .zip(self.from_one)
            .filter(|(_, from_one)| *from_one)
            .map(|(name, _)| name)
            .collect();
        if !from_one.is_empty() {
            let (columns, names) = (from_one.join("` and `"), from_one.join("s and "));
            sentence += &format!(
                " Its {names}s start at 1, and count from 0 here: subtract 1 in the column{} `{columns}`.",
                if from_one.len() == 2 { "s" } else { "" }
            );
        }
        if let (Some(filled), Some(corr)) = (&self.filled, self.corr_all)
            && let Some(reported) = filled.corr
            && filled.n_zero != [0, 0]
        {
            sentence += &format!(
                " The {SELECTED} heads from either end of each task, joined and filled with zeros, would have reported \
                 {reported:.3} over {} instead: {:+.3} from filling.",
                rows(filled.n_rows),
                reported - corr
            );
        }
        sentence
    }
}

/// The table `audit` of a contrast: a row per model.
#[must_use]
pub fn audit_table(contrast: &Contrast, audits: &[ModelAudit]) -> Table {
    let rows = || audits.iter();
    let fraction = |n: usize, of: usize| n as f64 / of as f64;
    let mut table = Table::new(contrast.table("audit"))
        .text("family", rows().map(|a| a.family.as_str()))
        .text("model", rows().map(|a| a.model.as_str()))
        .integer("n_rows", rows().map(|a| a.n_rows))
        .integer("n_heads_model", rows().map(|a| a.n_heads_model))
        .float(
            "frac_heads_present",
            rows().map(|a| Some(fraction(a.n_rows - a.n_duplicates, a.n_heads_model?))),
        )
        .integer("n_duplicates", rows().map(|a| a.n_duplicates));
    for (index, name) in contrast.keys().into_iter().enumerate() {
        table = table
            .integer(format!("n_missing_{name}"), rows().map(|a| a.n_missing[index]))
            .integer(format!("n_nan_{name}"), rows().map(|a| a.n_nan[index]))
            .integer(format!("n_zero_{name}"), rows().map(|a| a.n_zero[index]))
            .float(format!("frac_zero_{name}"), rows().map(|a| fraction(a.n_zero[index], a.n_rows)));
    }
    table = table
        .integer("n_zero_rows", rows().map(|a| a.n_zero_rows))
        .integer("n_measured_both", rows().map(|a| a.n_measured))
        .float("corr_all_rows", rows().map(|a| a.corr_all))
        .float("corr_measured_both", rows().map(|a| a.corr_measured))
        .float("corr_owed_to_zeros", rows().map(ModelAudit::owed_to_zeros));
    type Counts = fn(&ModelAudit) -> Option<[usize; 4]>;
    let counts: [(&str, Counts); 3] = [
        ("all_rows", |a| Some(a.categories_all)),
        ("measured_both", |a| Some(a.categories_measured)),
        ("if_filled", |a| a.filled.as_ref().map(|f| f.categories)),
    ];
    for (suffix, of) in counts {
        for (index, category) in Category::ALL.into_iter().enumerate() {
            let name = format!("n_{}_{suffix}", contrast.category(category));
            table = table.integer(name, rows().map(|a| of(a).map(|c| c[index])));
        }
    }
    let filled = || rows().map(|a| a.filled.as_ref());
    table = table.integer("n_rows_if_filled", filled().map(|f| f.map(|f| f.n_rows)));
    for (index, name) in contrast.keys().into_iter().enumerate() {
        let name = format!("n_zero_{name}_if_filled");
        table = table.integer(name, filled().map(|f| f.map(|f| f.n_zero[index])));
    }
    table.float("corr_if_filled", filled().map(|f| f.and_then(|f| f.corr)))
}

/// Reads and audits a table, even one that [`Import::into_table`] rejects.
///
/// # Errors
/// If it cannot be read as a joint table at all.
pub fn audit_csv(path: &Path, max_rows: usize, tau: f64) -> Result<Vec<ModelAudit>> {
    Ok(audit_import(&crate::joint::import(path, max_rows)?, tau))
}
