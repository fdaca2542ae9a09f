//! Tables that need no model: from the scans in a study's folder (`joint`, `classify`, `summarize`, `heroes`,
//! `correlate`, `transfer`), or from a joint table alone (`analyze`).

pub(super) mod text;

use std::fmt::Write;
use std::path::PathBuf;

use cs_analysis::audit::audit_csv;
use cs_analysis::contrast::Contrast;
use cs_analysis::layout::Layout;
use cs_analysis::study::{ContrastStudy, Study, analyse_csv};
use cs_analysis::study_scans::{StudyScans, scanned_models, scanned_tasks};
use cs_analysis::table::write_all;
use cs_analysis::transfer::TRANSFER_TESTS;
use cs_analysis::words::counted;

use cs_report::Extras;
use cs_report::figures::{Format, draw_all};

use self::text::{Said, titled};
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
        text += &text::audit(&contrast.audits);
    }
    Ok(text)
}

/// Writes every head's category, and prints the counts.
pub fn classify(args: &TableArgs, display: Display) -> Result<String, CliError> {
    let names = |c: &Contrast| vec![c.heads_table(), c.table("tau_sweep")];
    written(args, display, names, |study| text::summary(study, false))
}

/// Writes and prints the counts per category.
pub fn summarize(args: &TableArgs, display: Display) -> Result<String, CliError> {
    let names = |c: &Contrast| vec![c.table("head_category_summary")];
    written(args, display, names, |study| text::summary(study, false))
}

/// Writes and prints the strongest heads of each model and category.
pub fn heroes(args: &TableArgs, display: Display) -> Result<String, CliError> {
    written(args, display, |c| vec![c.table("hero_heads_for_paper")], text::heroes)
}

/// Writes and prints the correlation between the tasks in each model.
pub fn correlate(args: &TableArgs, display: Display) -> Result<String, CliError> {
    written(args, display, |c| vec![c.table("corr_vs_scale_cross_family")], text::correlation)
}

/// Writes how each model's strongest heads rank in other models, and prints whether that is better than
/// chance.
pub fn transfer(args: &TableArgs, display: Display) -> Result<String, CliError> {
    let names = |c: &Contrast| {
        let of = |kind: &str| c.keys().map(|key| c.table(&format!("{key}_transfer_{kind}")));
        of("generic").into_iter().chain(of("matched")).chain([c.table(TRANSFER_TESTS)]).collect()
    };
    written(args, display, names, text::transfer)
}

/// Makes every table, figure and note, and the page, from a joint table alone.
pub fn analyze(args: &AnalyzeArgs, display: Display) -> Result<String, CliError> {
    StudyFolder::check(&args.tables.study.out)?;
    let study = match analyse_csv(&args.joint, args.max_rows, &args.tables.options()?) {
        Ok(study) => study,
        Err(error) => {
            // A table that cannot be analysed can still be audited, which shows what is wrong with it.
            if let Ok(audits) = audit_csv(&args.joint, args.max_rows, args.tables.tau) {
                eprint!("{}", text::audit(&audits));
            }
            return Err(error.into());
        }
    };
    let mut folder = StudyFolder::open(&args.tables.study.out)?;
    let layout = folder.layout.clone();
    folder.add("analyze", display, |layout| Ok(study.write(layout)?))?;
    let mut text = String::new();
    for contrast in &study.contrasts {
        text += &Said::together([text::summary(contrast, false), text::correlation(contrast)]);
        text += &text::audit(&contrast.audits);
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

/// The contrasts of a study, of which there must be at least one.
fn contrasted<'a>(layout: &Layout, study: &'a Study) -> Result<&'a [ContrastStudy], CliError> {
    if study.contrasts.is_empty() {
        let task = study.effects.tasks.join(", ");
        return Err(CliError::OneTask { folder: layout.root().to_owned(), task });
    }
    Ok(&study.contrasts)
}

/// Makes the study's tables from its scans, writes some of each contrast's tables and reports where they are.
fn written(
    args: &TableArgs,
    display: Display,
    names: impl Fn(&Contrast) -> Vec<String>,
    show: impl Fn(&ContrastStudy) -> Said,
) -> Result<String, CliError> {
    let (layout, study) = from_folder(args, display)?;
    let contrasts = contrasted(&layout, &study)?;
    let mut folder = StudyFolder::open(layout.root())?;
    let (mut parts, mut places) = (Vec::new(), String::new());
    for contrast in contrasts {
        let names = names(contrast.contrast());
        write_tables(&mut folder, contrast, &names, display)?;
        let Said { rows, notes } = show(contrast);
        parts.push(Said { rows: titled(contrast, contrasts.len(), &rows), notes });
        for name in &names {
            let _ = writeln!(places, "Written to {}", layout.table(name).display());
        }
    }
    Ok(Said::together(parts) + &places)
}

/// Writes a contrast's tables with these names.
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

/// The scans in a folder and the contrasts to make of them; reports models that a contrast leaves out because a scan is
/// missing.
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

/// The joint table of a folder without scans, as written by `analyze`: the published pair's, else the first by name.
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
