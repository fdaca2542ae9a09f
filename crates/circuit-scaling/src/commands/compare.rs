//! `compare`: two joint tables of the same models.

use std::fmt::Write;
use std::path::Path;

use cs_analysis::compare::{Comparison, compare as compare_tables};
use cs_analysis::files::write_bytes;
use cs_analysis::joint::{JointTable, MAX_ROWS, import};
use cs_analysis::layout::Layout;
use cs_analysis::table::write_all;
use cs_report::figures::Format;

use super::tables::{joint_table_in, read_scans};
use crate::args::CompareArgs;
use crate::error::CliError;
use crate::progress::Display;
use crate::study_folder::StudyFolder;

/// Compares two joint tables or studies; writes the comparison's tables and figure, and returns its key
/// numbers.
pub fn compare(args: &CompareArgs, display: Display) -> Result<String, CliError> {
    StudyFolder::check(&args.out)?;
    let read = |path: &Path| -> Result<Vec<JointTable>, CliError> {
        let layout = Layout::new(path);
        // The output of `analyze` has a joint table but no scans.
        let of_analyze = joint_table_in(&layout);
        let table = match (path.is_dir(), &of_analyze) {
            (true, Some(table)) if !layout.results().is_dir() => table,
            (true, _) => {
                let (scans, contrasts) = read_scans(&layout, &args.contrasts, display)?;
                let joint = |contrast| scans.joint(contrast, args.tau);
                return Ok(contrasts.iter().map(joint).collect::<Result<_, _>>()?);
            }
            (false, _) => path,
        };
        Ok(vec![import(table, MAX_ROWS)?.into_table(table)?])
    };
    let (a, b) = (read(&args.a)?, read(&args.b)?);
    // For studies with several contrasts, the first one in common.
    let same = a.iter().find_map(|a| Some((a, b.iter().find(|b| b.contrast == a.contrast)?)));
    let Some((a, b)) = same.or_else(|| a.first().zip(b.first())) else {
        return Err(CliError::NoScans { folder: args.a.clone() });
    };
    let comparison = compare_tables(a, b, args.tau)?;
    let mut folder = StudyFolder::open(&args.out)?;
    let layout = folder.layout.clone();
    let tables = comparison.tables();
    folder.add("compare", display, |desk| Ok(write_all(&tables, &desk.tables())?))?;
    let mut text = describe(&comparison);
    let _ = writeln!(text, "Tables are in {}", layout.tables().display());
    match cs_report::figures::comparison(&comparison)? {
        Ok(figure) => {
            folder.add("compare", display, |desk| {
                let mut paths = Vec::new();
                for format in [Format::Png, Format::Svg] {
                    let path = desk.figures().join(format!("{}.{}", figure.name, format.extension()));
                    write_bytes(&path, &figure.bytes(format)?)?;
                    paths.push(path);
                }
                Ok(paths)
            })?;
            let _ = writeln!(text, "The figure is in {}", layout.figures().display());
        }
        Err(missing) => {
            let _ = writeln!(text, "not drawn: {}: {}", missing.name, missing.why);
        }
    }
    Ok(text)
}

fn describe(comparison: &Comparison) -> String {
    let number = |x: Option<f64>| x.map_or("-".to_owned(), |x| format!("{x:.3}"));
    let mut text = format!(
        "{:16} {:5} {:>6} {:>9} {:>10} {:>12} {:>12}  {}\n",
        "model", "task", "heads", "Spearman", "same sign", "mean |diff|", "max |diff|", "largest at"
    );
    for model in &comparison.models {
        for task in &model.tasks {
            let largest = task.disagreements.first().map_or("-".to_owned(), |d| {
                format!("L{}H{} ({:+.3} and {:+.3})", d.layer, d.head, d.delta[0], d.delta[1])
            });
            let _ = writeln!(
                text,
                "{:16} {:5} {:6} {:>9} {:>9.1}% {:>12.6} {:>12.6}  {largest}",
                model.info.model,
                comparison.contrast.key(task.side),
                task.n,
                number(task.spearman.0),
                100.0 * task.sign_agreement,
                task.mean_abs_difference,
                task.max_abs_difference
            );
        }
        if model.has_same_weights() == Some(false) {
            let hash = |side: usize| {
                model.weight_hashes[side].as_ref().and_then(|hash| hash.get(..12)).unwrap_or_default()
            };
            let _ = writeln!(
                text,
                "{:16} the two tables have different weights: sha-256 {}… and {}…",
                model.info.model,
                hash(0),
                hash(1)
            );
        }
        let (share, kappa) = model.category_agreement();
        let _ = writeln!(
            text,
            "{:16} same category at τ = {}: {} of the heads (Cohen's κ {})",
            model.info.model,
            comparison.tau,
            share.map_or("-".to_owned(), |s| format!("{:.1}%", 100.0 * s)),
            number(kappa)
        );
        if model.n_only != [0, 0] {
            let [a, b] = model.n_only;
            let _ = writeln!(
                text,
                "{:16} heads in the first only: {a}, in the second only: {b}",
                model.info.model
            );
        }
    }
    for (names, which) in comparison.only.iter().zip(["first", "second"]) {
        if !names.is_empty() {
            let _ = writeln!(text, "In the {which} table only: {}", names.join(", "));
        }
    }
    text
}
