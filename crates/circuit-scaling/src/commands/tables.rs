//! Tables that need no model: from the scans that lie in a study's folder (`joint`, `classify`, `summarize`, `heroes`,
//! `correlate`, `transfer`), or from a joint table alone (`analyze`).

use std::fmt::Write;

use cs_analysis::audit::{ModelAudit, audit_csv};
use cs_analysis::categories::{Category, RELATIVE_TAU};
use cs_analysis::joint::{Disattenuated, JointTable, ScanPair, from_scans, scanned_models, study_pair};
use cs_analysis::layout::{ANTI_REPEAT, IOI, Layout};
use cs_analysis::model_measures::{IntervalOver, TaskCorrelation};
use cs_analysis::scan_file::ACCURACY;
use cs_analysis::stats::Interval;
use cs_analysis::study::{Study, analyse, analyse_csv};

use cs_report::Extras;
use cs_report::figures::{Format, draw_all};

use super::drawn::drawn_text;
use crate::args::{AnalyzeArgs, TableArgs};
use crate::error::CliError;
use crate::progress::Display;

/// Writes the joint table and its audit.
pub fn joint(args: &TableArgs, display: Display) -> Result<String, CliError> {
    let (layout, study) = from_folder(args, display)?;
    write_tables(&layout, &study, &["joint_ioi_anti_repeat_all", "audit"])?;
    let mut text = format!("{} heads of {} models are in ", study.joint.n_rows(), study.joint.models.len());
    let _ = writeln!(text, "{}", layout.table("joint_ioi_anti_repeat_all").display());
    Ok(text + &audit_text(&study.audits))
}

/// Writes every head's category, and prints the counts.
pub fn classify(args: &TableArgs, display: Display) -> Result<String, CliError> {
    written(args, display, &["joint_ioi_anti_repeat_heads", "tau_sweep"], |study| summary_text(study, None))
}

/// Writes and prints the counts per category.
pub fn summarize(args: &TableArgs, display: Display) -> Result<String, CliError> {
    written(args, display, &["head_category_summary"], |study| summary_text(study, None))
}

/// Writes and prints the strongest heads of each model and category.
pub fn heroes(args: &TableArgs, display: Display) -> Result<String, CliError> {
    written(args, display, &["hero_heads_for_paper"], heroes_text)
}

/// Writes and prints the correlation between the tasks in each model.
pub fn correlate(args: &TableArgs, display: Display) -> Result<String, CliError> {
    written(args, display, &["corr_vs_scale_cross_family"], correlation_text)
}

/// Writes where each model's strongest heads are in other models, and prints whether that beats chance.
pub fn transfer(args: &TableArgs, display: Display) -> Result<String, CliError> {
    let tables = [
        "ioi_transfer_generic",
        "anti_transfer_generic",
        "ioi_transfer_matched",
        "anti_transfer_matched",
        "transfer_tests",
    ];
    written(args, display, &tables, transfer_text)
}

/// Makes every table, figure and note, and the page, from a joint table alone.
pub fn analyze(args: &AnalyzeArgs) -> Result<String, CliError> {
    let layout = Layout::new(&args.tables.study.out);
    let study = match analyse_csv(&args.joint, args.max_rows, &args.tables.options()?) {
        Ok(study) => study,
        Err(error) => {
            // A table that cannot be analysed may still be audited: what is wrong with it is the answer then.
            if let Ok(audits) = audit_csv(&args.joint, args.max_rows, args.tables.tau) {
                eprint!("{}", audit_text(&audits));
            }
            return Err(error.into());
        }
    };
    study.write(&layout)?;
    let mut text = summary_text(&study, None);
    text += &correlation_text(&study);
    text += &audit_text(&study.audits);
    let _ = writeln!(text, "{} tables are in {}", study.tables.len(), layout.tables().display());
    let extras = Extras::read(&layout, &study)?;
    let drawn = draw_all(&study, &extras, &layout.figures(), &[Format::Png, Format::Svg])?;
    text += &drawn_text(&layout, &drawn);
    cs_report::notes::write_all(&study, &extras, &layout.notes())?;
    let page = layout.root().join(cs_report::html::FILE_NAME);
    cs_report::html::write(&study, &extras, &page)?;
    let _ = writeln!(text, "Notes are in {}\nOpen {} in a browser", layout.notes().display(), page.display());
    Ok(text)
}

/// Makes the study's tables from its scans, writes some of them and says where they are.
fn written(
    args: &TableArgs,
    display: Display,
    names: &[&str],
    show: impl Fn(&Study) -> String,
) -> Result<String, CliError> {
    let (layout, study) = from_folder(args, display)?;
    write_tables(&layout, &study, names)?;
    let mut text = show(&study);
    for name in names {
        let _ = writeln!(text, "Written to {}", layout.table(name).display());
    }
    Ok(text)
}

fn write_tables(layout: &Layout, study: &Study, names: &[&str]) -> Result<(), CliError> {
    for table in names.iter().filter_map(|name| study.table(name)) {
        table.write_csv(&layout.tables())?;
    }
    Ok(())
}

/// The study of all scans in a folder.
pub fn from_folder(args: &TableArgs, display: Display) -> Result<(Layout, Study), CliError> {
    let layout = Layout::new(&args.study.out);
    let study = analyse(read_joint(&layout, args.tau, display)?, &args.options()?)?;
    Ok((layout, study))
}

/// The joint table of all models scanned on both tasks; says which were scanned on one only.
pub fn read_joint(layout: &Layout, tau: f64, display: Display) -> Result<JointTable, CliError> {
    let no_scans = || CliError::NoScans { folder: layout.root().to_owned() };
    if !layout.results().is_dir() {
        return Err(no_scans());
    }
    let [ioi, anti] = [scanned_models(layout, IOI)?, scanned_models(layout, ANTI_REPEAT)?];
    for (models, others, task) in [(&ioi, &anti, "ioi"), (&anti, &ioi, "anti-repeat")] {
        for model in models.iter().filter(|model| !others.contains(model)) {
            display.note(&format!("left out: {model}, which was scanned on {task} only"));
        }
    }
    let both: Vec<&String> = ioi.iter().filter(|model| anti.contains(model)).collect();
    if both.is_empty() {
        return Err(no_scans());
    }
    let pairs: Vec<ScanPair> =
        both.into_iter().map(|model| study_pair(layout, model, tau)).collect::<Result<_, _>>()?;
    Ok(from_scans(&pairs)?)
}

/// A line per hero head.
fn heroes_text(study: &Study) -> String {
    let mut text = format!(
        "{:16} {:10} {:7} {:>9} {:>9} {:>9}\n",
        "model", "category", "head", "Δ ioi", "Δ anti", "strength"
    );
    for hero in &study.heroes {
        let head = format!("L{}H{}", hero.head.layer, hero.head.head);
        let _ = writeln!(
            text,
            "{:16} {:10} {head:7} {:+9.3} {:+9.3} {:9.3}",
            marked(study, &hero.model),
            hero.head.category.name(),
            hero.head.delta_ioi,
            hero.head.delta_anti,
            hero.head.strength
        );
    }
    text + &what_marks_mean(study)
}

/// What stands after the name of a model that does not do one of the tasks.
const MARK: &str = "*";

/// A model's name, marked if it does not do one of the tasks.
fn marked(study: &Study, model: &str) -> String {
    let is_marked = study.joint.model(model).is_some_and(|m| !m.info.tasks_not_done().is_empty());
    if is_marked { format!("{model}{MARK}") } else { model.to_owned() }
}

/// Which tasks the marked models do not do; nothing where none is marked.
fn what_marks_mean(study: &Study) -> String {
    let not_done = cs_report::words::not_done(study.joint.models.iter().map(|m| &m.info));
    not_done.map_or(String::new(), |text| format!("{MARK} {text}\n"))
}

/// A line per model: both correlations with their intervals.
fn correlation_text(study: &Study) -> String {
    let with_ends = |r: Option<f64>, interval: Option<Interval>| match (r, interval) {
        (Some(r), Some(i)) => format!("{r:+.3} [{:+.3}, {:+.3}]", i.low, i.high),
        (Some(r), None) => format!("{r:+.3}"),
        (None, _) => "not defined".to_owned(),
    };
    let shown = |c: &TaskCorrelation| with_ends(c.estimate, c.shown().map(|(interval, _)| interval));
    let over_templates = |c: &TaskCorrelation| match c.templates {
        Some(i) => format!("[{:+.3}, {:+.3}]", i.low, i.high),
        None => "not estimable".to_owned(),
    };
    let mut text = format!(
        "{:16} {:>24}  {:>16}  {:>24}  {:>24}  {:>24}\n",
        "model", "Pearson", "over templates", "without noise", "Spearman", "Pearson, held out"
    );
    for model in &study.correlations {
        let corrected = match model.disattenuated {
            Disattenuated { value: None, .. } => "not estimable".to_owned(),
            Disattenuated { value, interval } => with_ends(value, interval),
        };
        let _ = writeln!(
            text,
            "{:16} {:>24}  {:>16}  {:>24}  {:>24}  {:>24}",
            marked(study, &model.info.model),
            shown(&model.pearson),
            over_templates(&model.pearson),
            corrected,
            shown(&model.spearman),
            shown(&model.held_out_pearson)
        );
    }
    text += &what_marks_mean(study);
    let all_over_prompts = study
        .correlations
        .iter()
        .all(|c| c.pearson.shown().is_none_or(|(_, over)| over == IntervalOver::Prompts));
    text += "Correlation of Δ between the tasks over a model's heads. ";
    text += if all_over_prompts {
        "95% intervals over prompts: what as many other prompts would give for this model; over templates: what prompts of other \
         templates would. Without noise: corrected for the noise with which each effect is measured.\n"
    } else {
        "95% intervals over heads, as if they were a sample of more, where the table knows nothing of the prompts.\n"
    };
    text
}

/// A line per task and pair: does following heads by index or by profile beat chance?
fn transfer_text(study: &Study) -> String {
    let number = |x: Option<f64>| x.map_or("-".to_owned(), |x| format!("{x:.3}"));
    let mut text = format!(
        "{:5} {:34} {:>5} {:>9} {:>9} {:>7} {:>7}\n",
        "task", "from -> to", "heads", "mean rank", "chance", "p", "p match"
    );
    for transfer in &study.transfers {
        let name = |at: usize| study.joint.models[at].info.model.as_str();
        let _ = writeln!(
            text,
            "{:5} {:34} {:5} {:>9} {:>9} {:>7} {:>7}",
            transfer.task.name(),
            format!("{} -> {}", name(transfer.pair.base), name(transfer.pair.target)),
            transfer.by_index.heads.len(),
            number(transfer.by_index.mean_frac_rank),
            number(transfer.by_index.chance_frac_rank),
            number(transfer.by_index.p_value),
            number(transfer.by_profile.p_value)
        );
    }
    text += "Mean rank: where the base model's strongest heads come among the target's, 0 first and 1 last, at the same \
             layer and head number; p match: matched by depth and effects instead.\n";
    text
}

/// A sentence per model: what its rows are worth.
fn audit_text(audits: &[ModelAudit]) -> String {
    audits.iter().map(|audit| audit.sentence() + "\n").collect()
}

/// A line per model: how well it does the tasks (where the scans are at hand), and its heads per category.
pub fn summary_text(study: &Study, scans: Option<&[ScanPair]>) -> String {
    let mut text = format!("{:16} {:>6}", "model", "heads");
    if scans.is_some() {
        let _ = write!(text, "  {:>14}  {:>14}", "ioi acc  diff", "anti acc  diff");
    }
    for category in Category::ALL {
        let _ = write!(text, "  {:>9}", category.name());
    }
    for category in [Category::Shared, Category::Weak] {
        let _ = write!(text, "  {:>15}", format!("relative {category}"));
    }
    text.push('\n');
    for model in &study.classified.models {
        let _ = write!(text, "{:16} {:6}", marked(study, &model.info.model), model.heads.len());
        let pair = scans.and_then(|s| s.iter().find(|p| p.ioi.meta.model_name == model.info.model));
        for scan in pair.iter().flat_map(|p| [&p.ioi, &p.anti]) {
            let base = &scan.baseline;
            let _ = write!(text, "  {:6.1}% {:+6.2}", 100.0 * base.base_accuracy, base.base_logit_diff_mean);
        }
        for count in model.counts() {
            let _ = write!(text, "  {count:9}");
        }
        for category in [Category::Shared, Category::Weak] {
            let count = model.relative_counts().map(|counts| counts[category as usize]);
            let _ = write!(text, "  {:>15}", count.map_or("-".to_owned(), |n| n.to_string()));
        }
        text.push('\n');
    }
    text += &what_marks_mean(study);
    let _ = writeln!(
        text,
        "A head counts for a task if ablating it moves the mean logit difference by {} or more; in relative categories, by {}% of the \
         model's own mean logit difference, where it does both tasks.",
        study.options.tau,
        100.0 * RELATIVE_TAU
    );
    if scans.is_some() {
        text += &format!("{ACCURACY} diff: the mean logit difference.\n");
    }
    text
}
