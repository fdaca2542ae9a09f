//! `joint`, `classify`, `summarize` and `heroes`: tables from scans that lie in the study's folder.

use std::fmt::Write;

use analysis::categories::Category;
use analysis::joint::JointTable;
use analysis::joint::{ScanPair, from_scans};
use analysis::layout::{ANTI_REPEAT, IOI, Layout, scan_prefix};
use analysis::per_prompt::PerPromptScan;
use analysis::scan_file::ScanFile;
use analysis::study::{Study, StudyOptions, analyse};

use crate::args::{StudyArgs, TableArgs};
use crate::error::CliError;

/// Writes the joint table.
pub fn joint(args: &StudyArgs) -> Result<String, CliError> {
    let layout = Layout::new(&args.out);
    let (table, only_one) = read_joint(&layout)?;
    table.to_table().write_csv(&layout.tables())?;
    let mut text = format!("{} heads of {} models are in ", table.n_rows(), table.models.len());
    let _ = writeln!(text, "{}", layout.table("joint_ioi_anti_repeat_all").display());
    for model in only_one {
        let _ = writeln!(text, "left out: {model}, which was scanned on one of the two tasks only");
    }
    Ok(text)
}

/// Writes every head's category, and prints the counts.
pub fn classify(args: &TableArgs) -> Result<String, CliError> {
    written(args, "joint_ioi_anti_repeat_heads", |study| summary_text(study, None, args.tau))
}

/// Writes and prints the counts per category.
pub fn summarize(args: &TableArgs) -> Result<String, CliError> {
    written(args, "head_category_summary", |study| summary_text(study, None, args.tau))
}

/// Writes and prints the strongest heads of each model and category.
pub fn heroes(args: &TableArgs) -> Result<String, CliError> {
    written(args, "hero_heads_for_paper", |study| {
        let mut text = format!(
            "{:16} {:10} {:7} {:>9} {:>9} {:>9}\n",
            "model", "category", "head", "Δ ioi", "Δ anti", "strength"
        );
        for hero in &study.heroes {
            let head = format!("L{}H{}", hero.head.layer, hero.head.head);
            let _ = writeln!(
                text,
                "{:16} {:10} {head:7} {:+9.3} {:+9.3} {:9.3}",
                hero.model,
                hero.head.category.name(),
                hero.head.delta_ioi,
                hero.head.delta_anti,
                hero.head.strength
            );
        }
        text
    })
}

/// Makes the study's tables from its scans, writes one of them and says where it is.
fn written(args: &TableArgs, name: &str, show: impl Fn(&Study) -> String) -> Result<String, CliError> {
    let layout = Layout::new(&args.study.out);
    let options = StudyOptions { tau: args.tau, top_k: args.top_k, ..StudyOptions::default() };
    let study = analyse(read_joint(&layout)?.0, &options)?;
    if let Some(table) = study.table(name) {
        table.write_csv(&layout.tables())?;
    }
    Ok(format!("{}\nWritten to {}\n", show(&study), layout.table(name).display()))
}

/// The joint table of all models scanned on both tasks, and the models scanned on one only.
pub fn read_joint(layout: &Layout) -> Result<(JointTable, Vec<String>), CliError> {
    let [ioi, anti] = [IOI, ANTI_REPEAT].map(|task| read_scans(layout, task));
    let (ioi, mut anti) = (ioi?, anti?);
    let (mut pairs, mut only_one) = (Vec::new(), Vec::new());
    for ioi in ioi {
        match anti.iter().position(|scan| scan.model_name == ioi.model_name) {
            Some(at) => pairs.push(pair(layout, ioi, anti.swap_remove(at))?),
            None => only_one.push(ioi.model_name),
        }
    }
    only_one.extend(anti.into_iter().map(|scan| scan.model_name));
    if pairs.is_empty() {
        return Err(CliError::NoScans { folder: layout.root().to_owned() });
    }
    Ok((from_scans(&pairs)?, only_one))
}

/// Two scans of one model, with what their side files tell.
pub fn pair(layout: &Layout, ioi: ScanFile, anti: ScanFile) -> Result<ScanPair, CliError> {
    let read = |scan: &ScanFile| PerPromptScan::read(&layout.per_prompt(&scan.task, &scan.model_name));
    let (of_ioi, of_anti) = (read(&ioi)?, read(&anti)?);
    Ok(ScanPair::new(ioi, anti).with_prompts(&of_ioi, &of_anti)?)
}

/// All scan files of a task, in order of file name.
fn read_scans(layout: &Layout, task: &str) -> Result<Vec<ScanFile>, CliError> {
    let prefix = format!("{}_logitdiff_scan_", scan_prefix(task));
    let Ok(entries) = std::fs::read_dir(layout.results()) else { return Ok(Vec::new()) };
    let mut paths: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.retain(|path| {
        let name = path.file_name().map(|n| n.to_string_lossy()).unwrap_or_default();
        name.starts_with(&prefix) && name.ends_with(".json")
    });
    paths.sort();
    paths.iter().map(|path| Ok(ScanFile::read(path)?)).collect()
}

/// A line per model: how well it does the tasks (where the scans are at hand), and its heads per category.
pub fn summary_text(study: &Study, scans: Option<&[ScanPair]>, tau: f64) -> String {
    let mut text = format!("{:16} {:>6}", "model", "heads");
    if scans.is_some() {
        let _ = write!(text, "  {:>14}  {:>14}", "ioi acc  diff", "anti acc  diff");
    }
    for category in Category::ALL {
        let _ = write!(text, "  {:>9}", category.name());
    }
    text.push('\n');
    for model in &study.classified.models {
        let _ = write!(text, "{:16} {:6}", model.info.model, model.heads.len());
        let pair = scans.and_then(|s| s.iter().find(|p| p.ioi.model_name == model.info.model));
        for scan in pair.iter().flat_map(|p| [&p.ioi, &p.anti]) {
            let base = &scan.baseline;
            let _ = write!(text, "  {:6.1}% {:+6.2}", 100.0 * base.base_accuracy, base.base_logit_diff_mean);
        }
        for count in model.counts() {
            let _ = write!(text, "  {count:9}");
        }
        text.push('\n');
    }
    let _ = writeln!(
        text,
        "A head counts for a task if ablating it moves the mean logit difference by {tau} or more."
    );
    text
}
