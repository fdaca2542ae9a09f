//! The figures of a study: each is drawn once, as an SVG with real text, and all formats are made from it.
//!
//! A figure is one column (85 mm) wide, with text of at least 7 points. Figures without data are listed with the reason
//! instead of being drawn empty.

mod ablation;
mod against_size;
pub(crate) mod causal;
mod comparison;
mod direct;
mod dissociation;
pub mod export;
mod head_map;
mod interaction;
mod layers;
pub mod legend;
mod overlap;
pub mod page;
pub mod palette;
mod panel;
mod phase;
mod roles;
mod rows;
pub mod scale;
mod scaling;
mod tasks;
mod transfer;

use std::path::{Path, PathBuf};

use cs_analysis::categories::{Category, ClassifiedModel};
use cs_analysis::contrast::Side;
use cs_analysis::file_name::file_safe_name;
use cs_analysis::files::write_bytes;
use cs_analysis::study::{ContrastStudy, Study};
use rayon::prelude::*;

pub use comparison::comparison;
pub use export::Format;
pub use head_map::head_map;
pub use page::{Figure, Style};
use palette::{Families, category_color, side_color, task_color};
use plotters::style::RGBColor;

use crate::error::{ReportError, Result};
use crate::extras::{ContrastExtras, Extras};

/// A figure without data in the study.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotDrawn {
    /// The stem of its file name.
    pub name: String,
    /// What is missing, and how to get it.
    pub why: String,
}

impl NotDrawn {
    fn new(name: &str, why: impl Into<String>) -> Self {
        Self { name: name.into(), why: why.into() }
    }
}

/// A figure, or the reason why there is none.
type Drawing = std::result::Result<Figure, NotDrawn>;

/// The results of drawing a study.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Drawn {
    /// Files written, in the order of the figures.
    pub files: Vec<PathBuf>,
    /// Relative paths of the figures in their folder, without extension, in order.
    pub names: Vec<String>,
    /// Figures without data in the study.
    pub not_drawn: Vec<NotDrawn>,
}

/// One figure to make.
type Job<'a> = Box<dyn Fn() -> Result<Drawing> + Sync + Send + 'a>;

/// Draws every figure of a study as SVG, in the order of a paper: those of all tasks first, then those of each contrast,
/// whose names start with the contrast's folder.
///
/// # Errors
/// If the drawing library fails.
pub fn describe_all(study: &Study, extras: &Extras) -> Result<Vec<Drawing>> {
    describe_styled(study, extras, &Style::default())
}

/// The same in a custom style.
///
/// # Errors
/// If the drawing library fails.
pub fn describe_styled(study: &Study, extras: &Extras, style: &Style) -> Result<Vec<Drawing>> {
    let families = &Families::new(study.models().map(|m| m.family.as_str()));
    let mut jobs: Vec<Job> = Vec::new();
    if shows_tasks(study) {
        jobs.extend(of_tasks(study, families, style));
    }
    jobs.extend(of_direct_effects_and_roles(study, extras, families, style));
    let all = jobs.par_iter().map(|job| job()).collect::<Result<Vec<Drawing>>>()?;
    let of_contrasts =
        study.contrasts.iter().map(|contrast| describe_contrast(contrast, extras, families, style));
    let of_contrasts: Vec<Vec<Drawing>> = of_contrasts.collect::<Result<_>>()?;
    Ok(all.into_iter().chain(of_contrasts.into_iter().flatten()).collect())
}

/// Whether a study has more than one contrast of only two tasks.
#[must_use]
pub fn shows_tasks(study: &Study) -> bool {
    !(study.contrasts.len() == 1 && study.effects.tasks.len() == 2)
}

/// The figures of all tasks, single or in pairs.
fn of_tasks<'a>(study: &'a Study, families: &'a Families, style: &'a Style) -> Vec<Job<'a>> {
    let mut jobs: Vec<Job> = vec![Box::new(move || tasks::against_size(study, families, style))];
    for index in 0..study.effects.models.len() {
        jobs.push(Box::new(move || tasks::heatmap(study, index, style)));
        if !study.overlaps.is_empty() {
            jobs.push(Box::new(move || overlap::matrix(study, index, style)));
        }
    }
    jobs
}

/// The figures of direct effects and head roles.
fn of_direct_effects_and_roles<'a>(
    study: &'a Study,
    extras: &'a Extras,
    families: &'a Families,
    style: &'a Style,
) -> Vec<Job<'a>> {
    let mut jobs: Vec<Job> = vec![
        Box::new(move || direct::repair_vs_scale(study, families, style)),
        Box::new(move || roles::counts_vs_scale(study, extras, families, style)),
    ];
    let with_direct = direct::models(study);
    if with_direct.is_empty() {
        jobs.push(Box::new(|| Ok(Err(direct::not_measured()))));
    }
    for index in with_direct {
        jobs.push(Box::new(move || direct::direct_vs_total(study, index, style)));
    }
    jobs
}

fn describe_contrast(
    study: &ContrastStudy,
    extras: &Extras,
    families: &Families,
    style: &Style,
) -> Result<Vec<Drawing>> {
    let extras = &extras.of(study.contrast());
    let mut jobs = of_all_models(study, extras, families, style);
    for index in 0..study.joint.models.len() {
        jobs.push(Box::new(move || phase::scatter(study, index, families, style)));
        jobs.push(Box::new(move || layers::histogram(study, index, style)));
        jobs.push(Box::new(move || layers::heatmap(study, index, style)));
        if !extras.ablated.is_empty() {
            jobs.push(Box::new(move || ablation::of_model(study, extras, index, style)));
        }
    }
    let drawings = jobs.par_iter().map(|job| job()).collect::<Result<Vec<Drawing>>>()?;
    let Some(folder) = study.contrast().folder() else { return Ok(drawings) };
    let within = |name: &str| format!("{folder}/{name}");
    let place = |drawing: Drawing| {
        drawing
            .map(|figure| Figure { name: within(&figure.name), ..figure })
            .map_err(|missing| NotDrawn { name: within(&missing.name), ..missing })
    };
    Ok(drawings.into_iter().map(place).collect())
}

/// Names of the figures of all models together for which a contrast has data, without its folder.
///
/// # Errors
/// If the drawing library fails.
pub fn names_of_all_models(study: &ContrastStudy, extras: &ContrastExtras) -> Result<Vec<String>> {
    let families = Families::new(study.joint.models.iter().map(|m| m.info.family.as_str()));
    let style = Style::default();
    let drawings: Vec<Drawing> =
        of_all_models(study, extras, &families, &style).par_iter().map(|job| job()).collect::<Result<_>>()?;
    Ok(drawings.into_iter().flatten().map(|figure| figure.name).collect())
}

/// The figures that show all models together.
fn of_all_models<'a>(
    study: &'a ContrastStudy,
    extras: &'a ContrastExtras<'a>,
    families: &'a Families,
    style: &'a Style,
) -> Vec<Job<'a>> {
    vec![
        Box::new(move || scaling::correlation_vs_scale(study, families, style)),
        Box::new(move || scaling::strong_heads(study, families, style)),
        Box::new(move || scaling::relative_heads(study, families, style)),
        Box::new(move || scaling::concentration(study, families, style)),
        Box::new(move || phase::all_heads(study, families, style)),
        Box::new(move || phase::family_grid(study, families, style)),
        Box::new(move || transfer::transfer(study, style)),
        Box::new(move || causal::influence(study, extras, Side::A, style)),
        Box::new(move || causal::influence(study, extras, Side::B, style)),
        Box::new(move || ablation::overview(study, extras, families, style)),
        Box::new(move || interaction::of_sets(study, extras, families, style)),
        Box::new(move || dissociation::double(study, extras, style)),
    ]
}

/// Which figures to draw, and how.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Choice {
    /// Their names, without extension; empty for all.
    pub only: Vec<String>,
    /// Their style.
    pub style: Style,
}

/// Writes every figure to `folder`, in each of `formats`.
///
/// # Errors
/// If a figure cannot be drawn or a file cannot be written.
pub fn draw_all(study: &Study, extras: &Extras, folder: &Path, formats: &[Format]) -> Result<Drawn> {
    draw_chosen(study, extras, folder, formats, &Choice::default())
}

/// Writes the chosen figures to `folder`, in each of `formats`.
///
/// # Errors
/// If the study has no figure with a chosen name, a figure cannot be drawn, or a file cannot be written.
pub fn draw_chosen(
    study: &Study,
    extras: &Extras,
    folder: &Path,
    formats: &[Format],
    choice: &Choice,
) -> Result<Drawn> {
    let mut drawn = Drawn::default();
    let mut figures = Vec::new();
    for drawing in describe_styled(study, extras, &choice.style)? {
        match drawing {
            Ok(figure) => figures.push(figure),
            Err(missing) => drawn.not_drawn.push(missing),
        }
    }
    if choice.style.title.is_some() && choice.only.len() != 1 {
        return Err(ReportError::OneTitle {
            n: if choice.only.is_empty() { figures.len() } else { choice.only.len() },
        });
    }
    if !choice.only.is_empty() {
        for name in &choice.only {
            if figures.iter().all(|figure| figure.name != *name) {
                return Err(not_among(name, &figures, &drawn.not_drawn));
            }
        }
        figures.retain(|figure| choice.only.contains(&figure.name));
        drawn.not_drawn.clear();
    }
    let files: Vec<Vec<PathBuf>> = figures
        .par_iter()
        .map(|figure| {
            formats
                .iter()
                .map(|&format| {
                    let path = folder.join(format!("{}.{}", figure.name, format.extension()));
                    write_bytes(&path, &figure.bytes(format)?)?;
                    Ok(path)
                })
                .collect()
        })
        .collect::<Result<_>>()?;
    drawn.files = files.into_iter().flatten().collect();
    drawn.names = figures.into_iter().map(|f| f.name).collect();
    Ok(drawn)
}

/// Why a figure with this name is not drawn.
fn not_among(name: &str, figures: &[Figure], not_drawn: &[NotDrawn]) -> ReportError {
    if let Some(missing) = not_drawn.iter().find(|missing| missing.name == name) {
        return ReportError::figure(name, missing.why.clone());
    }
    let names = || figures.iter().map(|figure| figure.name.as_str());
    let in_folders: Vec<&str> =
        names().filter(|full| full.rsplit_once('/').is_some_and(|(_, last)| last == name)).collect();
    let why = match &in_folders[..] {
        [] => format!("the study has no such figure; it has {}", names().collect::<Vec<_>>().join(", ")),
        _ => format!("name the contrast too: {}", in_folders.join(" or ")),
    };
    ReportError::figure(name, why)
}

/// The colours of a study's figures that a user can change, by name: categories, tasks and families.
fn named_colors(study: &Study) -> Vec<(String, RGBColor)> {
    let families = Families::new(study.models().map(|m| m.family.as_str()));
    let mut named: Vec<(String, RGBColor)> = Vec::new();
    for contrast in &study.contrasts {
        named.extend(Category::ALL.map(|c| (contrast.contrast().category(c), category_color(c))));
        named.extend(Side::BOTH.map(|side| (contrast.contrast().task(side).to_owned(), side_color(side))));
    }
    named.extend(study.effects.tasks.iter().enumerate().map(|(at, task)| (task.clone(), task_color(at))));
    named.extend(families.names().map(|family| (family.to_owned(), families.color(family))));
    named
}

/// Replacements for the colours of a study's categories, tasks and families, which are named as in files. A task and the heads that
/// only work on it share a colour.
///
/// # Errors
/// An unknown name.
pub fn chosen_colors(study: &Study, asked: &[(String, [u8; 3])]) -> Result<Vec<(RGBColor, RGBColor)>> {
    let named = named_colors(study);
    let mut chosen = Vec::new();
    for (name, [red, green, blue]) in asked {
        let own = || named.iter().filter(|(known, _)| known == name);
        if own().next().is_none() {
            let mut names: Vec<&str> = named.iter().map(|(name, _)| name.as_str()).collect();
            names.sort_unstable();
            names.dedup();
            return Err(ReportError::NoSuchColor { name: name.clone(), known: names.join(", ") });
        }
        chosen.extend(own().map(|(_, color)| (*color, RGBColor(*red, *green, *blue))));
    }
    Ok(chosen)
}

/// Whether no head of these models reaches τ on either task.
fn all_weak(models: &[ClassifiedModel]) -> bool {
    models.iter().flat_map(|m| &m.heads).all(|h| h.category == Category::Weak)
}

/// The name of a figure of one model.
fn model_figure(kind: &str, model: &str) -> String {
    format!("{kind}_{}", file_safe_name(model))
}
