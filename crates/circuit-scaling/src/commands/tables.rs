//! Tables that need no model: from the scans that lie in a study's folder (`joint`, `classify`, `summarize`, `heroes`,
//! `correlate`, `transfer`), or from a joint table alone (`analyze`).

use std::fmt::Write;
use std::path::PathBuf;

use cs_analysis::audit::{ModelAudit, audit_csv};
use cs_analysis::categories::RELATIVE_TAU;
use cs_analysis::contrast::{Category, Contrast, Side};
use cs_analysis::joint::Disattenuated;
use cs_analysis::layout::Layout;
use cs_analysis::model_measures::{IntervalOver, TaskCorrelation};
use cs_analysis::scan_file::{ACCURACY, Performance};
use cs_analysis::stats::Interval;
use cs_analysis::study::{ContrastStudy, Study, analyse_csv};
use cs_analysis::study_scans::{StudyScans, scanned_models, scanned_tasks};
use cs_analysis::table::write_all;
use cs_analysis::transfer::TRANSFER_TESTS;
use cs_analysis::words::counted;

use cs_report::Extras;
use cs_report::figures::{Format, draw_all};

use super::drawn::drawn_text;
use crate::args::{AnalyzeArgs, ContrastArgs, TableArgs};
use crate::error::CliError;
use crate::progress::Display;
use crate::study_file::StudyFile;
use crate::study_folder::StudyFolder;

/// Writes the joint table and its audit.
pub fn joint(args: &TableArgs, display: Display) -> Result<String, CliError> {
    let (layout, study) = from_folder(args, display)?;
    let mut text = String::new();
    let contrasts = contrasted(&layout, &study)?;
    let mut folder = StudyFolder::open(layout.root())?;
    for contrast in contrasts {
        let names = [contrast.contrast().joint_table(), contrast.contrast().table("audit")];
        write_tables(&mut folder, contrast, &names, display)?;
        let (heads, models) = (contrast.joint.n_rows(), contrast.joint.models.len());
        let _ = writeln!(
            text,
            "{} of {}: {}",
            counted(heads, "head", "heads"),
            counted(models, "model", "models"),
            layout.table(&names[0]).display()
        );
        text += &audit_text(&contrast.audits);
    }
    Ok(text)
}

/// Writes every head's category, and prints the counts.
pub fn classify(args: &TableArgs, display: Display) -> Result<String, CliError> {
    let names = |c: &Contrast| vec![c.heads_table(), c.table("tau_sweep")];
    written(args, display, names, |study| summary_text(study, false))
}

/// Writes and prints the counts per category.
pub fn summarize(args: &TableArgs, display: Display) -> Result<String, CliError> {
    let names = |c: &Contrast| vec![c.table("head_category_summary")];
    written(args, display, names, |study| summary_text(study, false))
}

/// Writes and prints the strongest heads of each model and category.
pub fn heroes(args: &TableArgs, display: Display) -> Result<String, CliError> {
    written(args, display, |c| vec![c.table("hero_heads_for_paper")], heroes_text)
}

/// Writes and prints the correlation between the tasks in each model.
pub fn correlate(args: &TableArgs, display: Display) -> Result<String, CliError> {
    written(args, display, |c| vec![c.table("corr_vs_scale_cross_family")], correlation_text)
}

/// Writes where each model's strongest heads are in other models, and prints whether that beats chance.
pub fn transfer(args: &TableArgs, display: Display) -> Result<String, CliError> {
    let names = |c: &Contrast| {
        let of = |kind: &str| c.keys().map(|key| c.table(&format!("{key}_transfer_{kind}")));
        of("generic").into_iter().chain(of("matched")).chain([c.table(TRANSFER_TESTS)]).collect()
    };
    written(args, display, names, transfer_text)
}

/// Makes every table, figure and note, and the page, from a joint table alone.
pub fn analyze(args: &AnalyzeArgs, display: Display) -> Result<String, CliError> {
    StudyFolder::check(&args.tables.study.out)?;
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
    let mut folder = StudyFolder::open(&args.tables.study.out)?;
    let layout = folder.layout.clone();
    folder.add("analyze", display, |layout| Ok(study.write(layout)?))?;
    let mut text = String::new();
    for contrast in &study.contrasts {
        text += &summary_text(contrast, false);
        text += &correlation_text(contrast);
        text += &audit_text(&contrast.audits);
    }
    let _ = writeln!(text, "{} tables are in {}", study.tables.len(), layout.tables().display());
    let extras = Extras::read(&layout, &study)?;
    folder.add("analyze", display, |desk| {
        let drawn = draw_all(&study, &extras, &desk.figures(), &[Format::Png, Format::Svg])?;
        let notes = cs_report::notes::write_all(&study, &extras, &desk.notes())?;
        let page = desk.root().join(cs_report::html::FILE_NAME);
        cs_report::html::write(&study, &extras, &page)?;
        text += &drawn_text(&layout.figures(), &drawn);
        Ok([drawn.files, notes, vec![page]].concat())
    })?;
    let page = layout.root().join(cs_report::html::FILE_NAME);
    let _ = writeln!(text, "Notes are in {}\nOpen {} in a browser", layout.notes().display(), page.display());
    Ok(text)
}

/// The contrasts of a study, of which there must be one.
fn contrasted<'a>(layout: &Layout, study: &'a Study) -> Result<&'a [ContrastStudy], CliError> {
    if study.contrasts.is_empty() {
        let task = study.effects.tasks.join(", ");
        return Err(CliError::OneTask { folder: layout.root().to_owned(), task });
    }
    Ok(&study.contrasts)
}

/// Makes the study's tables from its scans, writes some of each contrast's and says where they are.
fn written(
    args: &TableArgs,
    display: Display,
    names: impl Fn(&Contrast) -> Vec<String>,
    show: impl Fn(&ContrastStudy) -> String,
) -> Result<String, CliError> {
    let (layout, study) = from_folder(args, display)?;
    let contrasts = contrasted(&layout, &study)?;
    let mut folder = StudyFolder::open(layout.root())?;
    let mut text = String::new();
    for contrast in contrasts {
        let names = names(contrast.contrast());
        write_tables(&mut folder, contrast, &names, display)?;
        text += &titled(contrast, contrasts.len(), &show(contrast));
        for name in &names {
            let _ = writeln!(text, "Written to {}", layout.table(name).display());
        }
    }
    Ok(text)
}

/// What is said of a contrast, under its name where there are several.
fn titled(study: &ContrastStudy, n_contrasts: usize, text: &str) -> String {
    if n_contrasts > 1 { format!("{}\n{text}", study.contrast()) } else { text.to_owned() }
}

/// Writes those of a contrast's tables that have these names.
fn write_tables(
    folder: &mut StudyFolder,
    study: &ContrastStudy,
    names: &[String],
    display: Display,
) -> Result<(), CliError> {
    let tables = study.tables.iter().filter(|table| names.contains(&table.name));
    folder.add("tables", display, |layout| Ok(write_all(tables, &layout.tables())?)).map(drop)
}

/// The study of all scans in a folder.
pub fn from_folder(args: &TableArgs, display: Display) -> Result<(Layout, Study), CliError> {
    let layout = Layout::new(&args.study.out);
    let options = args.options()?;
    let (scans, contrasts) = read_scans(&layout, &args.contrasts, display)?;
    let study = Study::new(&scans, &contrasts, &options)?;
    Ok((layout, study))
}

/// The scans in a folder and the contrasts to make of them; says which models a contrast leaves out for want of a scan.
pub fn read_scans(
    layout: &Layout,
    args: &ContrastArgs,
    display: Display,
) -> Result<(StudyScans, Vec<Contrast>), CliError> {
    let no_scans = || CliError::NoScans { folder: layout.root().to_owned() };
    if !layout.results().is_dir() {
        return Err(no_scans());
    }
    let mut tasks = scanned_tasks(layout)?;
    StudyFile::order_tasks(layout.root(), &mut tasks);
    if tasks.is_empty() {
        return Err(no_scans());
    }
    let models = |task: &String| Ok::<_, CliError>((task.clone(), scanned_models(layout, task)?));
    let models_of_tasks = tasks.iter().map(models).collect::<Result<Vec<_>, _>>()?;
    let contrasts = Contrast::choose(&args.contrast, &tasks)?;
    for contrast in &contrasts {
        let of = |task: &str| models_of_tasks.iter().find(|(name, _)| name == task).map_or(&[][..], |m| &m.1);
        let [a, b] = contrast.tasks();
        let is_on = |task: &str, model: &String| of(task).contains(model);
        for (task, other) in [(a, b), (b, a)] {
            for model in of(task).iter().filter(|model| !is_on(other, model)) {
                let task = task.replace('_', "-");
                display.note(&format!("left out: {model}, which was scanned on {task} only"));
            }
        }
        if !of(a).iter().any(|model| is_on(b, model)) && args.contrast.is_empty() {
            return Err(no_scans());
        }
    }
    Ok((StudyScans::read(layout, &models_of_tasks)?, contrasts))
}

/// The joint table of a folder that has no scans, such as `analyze` leaves it: the published pair's, else the first by name.
pub fn joint_table_in(layout: &Layout) -> Option<PathBuf> {
    let published = layout.table(&Contrast::published().joint_table());
    if published.exists() {
        return Some(published);
    }
    let entries = std::fs::read_dir(layout.tables()).ok()?;
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.retain(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("joint_") && name.ends_with("_all.csv")
    });
    paths.into_iter().min()
}

/// A line per hero head.
fn heroes_text(study: &ContrastStudy) -> String {
    let contrast = study.contrast();
    let delta = |side| format!("Δ {}", contrast.key(side));
    let mut text = format!(
        "{:16} {:10} {:7} {:>9} {:>9} {:>9}\n",
        "model",
        "category",
        "head",
        delta(Side::A),
        delta(Side::B),
        "strength"
    );
    for hero in &study.heroes {
        let head = format!("L{}H{}", hero.head.layer, hero.head.head);
        let _ = writeln!(
            text,
            "{:16} {:10} {head:7} {:+9.3} {:+9.3} {:9.3}",
            marked(study, &hero.model),
            contrast.category(hero.head.category),
            hero.head.deltas[0],
            hero.head.deltas[1],
            hero.head.strength
        );
    }
    text + &what_marks_mean(study)
}

/// What stands after the name of a model that does not do one of the tasks.
const MARK: &str = "*";

/// A model's name, marked if it does not do one of the tasks.
fn marked(study: &ContrastStudy, model: &str) -> String {
    let is_marked = study.joint.model(model).is_some_and(|m| !m.info.tasks_not_done().is_empty());
    if is_marked { format!("{model}{MARK}") } else { model.to_owned() }
}

/// Which tasks the marked models do not do; nothing where none is marked.
fn what_marks_mean(study: &ContrastStudy) -> String {
    let not_done = cs_report::words::not_done(study.contrast(), study.joint.models.iter().map(|m| &m.info));
    not_done.map_or(String::new(), |text| format!("{MARK} {text}\n"))
}

/// A line per model: both correlations with their intervals.
fn correlation_text(study: &ContrastStudy) -> String {
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
fn transfer_text(study: &ContrastStudy) -> String {
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
            study.contrast().key(transfer.side),
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

/// A line per model: how well it does the tasks of a contrast (where the scans are at hand), and its heads per category.
pub fn summary_text(study: &ContrastStudy, with_scans: bool) -> String {
    let contrast = study.contrast();
    let mut text = format!("{:16} {:>6}", "model", "heads");
    if with_scans {
        for key in contrast.keys() {
            let _ = write!(text, "  {:>14}", format!("{key} acc  diff"));
        }
    }
    for category in Category::ALL {
        let _ = write!(text, "  {:>9}", contrast.category(category));
    }
    for category in [Category::Shared, Category::Weak] {
        let _ = write!(text, "  {:>15}", format!("relative {}", contrast.category(category)));
    }
    text.push('\n');
    for model in &study.classified.models {
        let _ = write!(text, "{:16} {:6}", marked(study, &model.info.model), model.heads.len());
        for performance in model.info.performance.iter().filter(|_| with_scans) {
            text += &performance_text(performance);
        }
        for (category, count) in Category::ALL.into_iter().zip(model.counts()) {
            let width = contrast.category(category).len().max(9);
            let _ = write!(text, "  {count:width$}");
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
    if with_scans {
        text += &format!("{ACCURACY} diff: the mean logit difference.\n");
    }
    text
}

/// Accuracy and mean logit difference, under a title of 14 characters.
fn performance_text(performance: &Performance) -> String {
    match (performance.accuracy, performance.logit_diff) {
        (Some(accuracy), Some(difference)) => format!("  {:6.1}% {difference:+6.2}", 100.0 * accuracy),
        _ => format!("  {:>14}", "-"),
    }
}

/// What a run's tables show: of each contrast; of a study with more to it, first of every task by itself.
pub fn study_text(study: &Study) -> String {
    let mut text = String::new();
    if cs_report::figures::shows_tasks(study) {
        text += &tasks_text(study);
    }
    for contrast in &study.contrasts {
        text += &titled(contrast, study.contrasts.len(), &summary_text(contrast, true));
    }
    text
}

/// A line per model and task: how well it is done, and how many heads work on it.
fn tasks_text(study: &Study) -> String {
    let mut text =
        format!("{:16} {:20} {:>14}  {:>6}  {:>8}\n", "model", "task", "acc  diff", "heads", "strong");
    for measures in &study.task_measures {
        let model = study.effects.model(&measures.info.model);
        let performance = model.and_then(|m| m.on(&measures.task)).map(|t| t.performance).unwrap_or_default();
        let mark = if performance.does_task() == Some(false) { MARK } else { "" };
        let _ = writeln!(
            text,
            "{:16} {:19}{} {:6}  {:8}",
            measures.info.model,
            format!("{}{mark}", measures.task),
            performance_text(&performance),
            measures.n_heads,
            measures.n_strong
        );
    }
    let _ = writeln!(
        text,
        "strong: heads with |Δ| of {} logits or more; {MARK} the model does not do the task. {ACCURACY} diff: the mean logit difference.",
        study.options.tau
    );
    text
}
