//! What changes with the size of a model.

use cs_analysis::categories::{Category, RELATIVE_TAU, relative_taus};
use cs_analysis::contrast::Side;
use cs_analysis::joint::ModelInfo;
use cs_analysis::model_measures::{ModelCorrelations, TaskCorrelation, measure_names};
use cs_analysis::study::ContrastStudy;

use super::against_size::{
    Facet, Group, Layout, Point, about_families, draw, family_legend, family_lines, percent_axis, thin,
};
use super::legend::Entry;
use super::page::{Sheet, Style, grid};
use super::palette::{FAINT, Families, category_label, side_label};
use super::panel::Panel;
use super::scale::{Axis, decimal};
use super::{Drawing, NotDrawn, all_weak};
use crate::error::Result;
use crate::words;

/// Models whose size is known, and a sentence about the others.
fn sized(study: &ContrastStudy) -> (Vec<usize>, String) {
    let models = &study.joint.models;
    let known = |i: &usize| models[*i].info.params_m.is_some_and(|p| p > 0.0);
    let sized: Vec<usize> = (0..models.len()).filter(known).collect();
    let unknown = models.len() - sized.len();
    let words = match unknown {
        0 => String::new(),
        n => format!(" Not shown: {} of unknown size.", words::counted(n, "model", "models")),
    };
    (sized, words)
}

pub(super) fn no_sizes(name: &str) -> NotDrawn {
    NotDrawn::new(
        name,
        "the size of no model is known: add a column `params_m` (millions) to the joint table",
    )
}

fn size_of(info: &ModelInfo) -> f64 {
    info.params_m.unwrap_or(f64::NAN)
}

fn size_axis(study: &ContrastStudy, sized: &[usize]) -> Axis {
    Axis::sizes(sized.iter().map(|&i| size_of(&study.joint.models[i].info)))
}

/// A model's point.
fn point(study: &ContrastStudy, model: usize, value: f64, interval: Option<(f64, f64)>) -> Option<Point<'_>> {
    let info = &study.joint.models[model].info;
    Point::new(&info.family, info.params_m, value, interval)
}

fn legend(families: &Families, study: &ContrastStudy, shown: &[usize]) -> Vec<Entry> {
    let info = |i: &usize| &study.joint.models[*i].info;
    family_legend(families, shown.iter().map(|i| (info(i).family.as_str(), info(i).model.as_str())))
}

fn names<'a>(study: &'a ContrastStudy, models: &[usize]) -> Vec<&'a str> {
    models.iter().map(|&i| study.joint.models[i].info.model.as_str()).collect()
}

/// `cross_family_correlation_vs_scale`: the correlation between the tasks over each model's heads.
pub(super) fn correlation_vs_scale(
    study: &ContrastStudy,
    families: &Families,
    style: &Style,
) -> Result<Drawing> {
    let name = "cross_family_correlation_vs_scale";
    let (sized, not_shown) = sized(study);
    if sized.is_empty() {
        return Ok(Err(no_sizes(name)));
    }
    type Of = fn(&ModelCorrelations) -> TaskCorrelation;
    let main: [(&str, Of); 2] = [("Pearson's r", |c| c.pearson), ("Spearman's ρ", |c| c.spearman)];
    let points = |of: Of| -> Vec<Point> {
        let of_model = |&model: &usize| {
            let correlation = of(&study.correlations[model]);
            let interval = correlation.shown().map(|(i, _)| (i.low, i.high));
            point(study, model, correlation.estimate?, interval)
        };
        sized.iter().filter_map(of_model).collect()
    };
    let undefined = sized.len() - points(main[0].1).len();
    let over = words::intervals_over(sized.iter().map(|&i| &study.correlations[i].pearson));
    let heads: usize = sized.iter().map(|&i| study.correlations[i].n_heads).sum();
    let [a, b] = Side::BOTH.map(|side| side_label(study.contrast(), side));
    let above =
        |&&i: &&usize| study.correlations[i].pearson.shown().is_some_and(|(interval, _)| interval.low > 0.0);
    let see = match sized.as_slice() {
        [only] => format!(
            "Over the heads of {}, Δ {a} and Δ {b} correlate at r = {}.",
            study.joint.models[*only].info.model,
            words::correlation(&study.correlations[*only].pearson)
        ),
        several => match several.iter().filter(above).count() {
            0 => format!("In none of {} models does the whole interval of r lie above 0.", several.len()),
            n if n == several.len() => {
                format!("The whole interval of r lies above 0 in each of the {n} models.")
            }
            n => format!("The whole interval of r lies above 0 in {n} of {} models.", several.len()),
        },
    };
    let mut caption = format!(
        "Correlation of Δ {a} with Δ {b} over the heads of a model. n = {} of {}.{}",
        words::counted(heads, "head", "heads"),
        words::models(&names(study, &sized)),
        over.map_or(String::new(), |over| format!(" Bars: 95% intervals over {over}.")),
    );
    let facets = main.map(|(title, of)| Facet { title: title.to_owned(), points: points(of) });
    let groups = [Group {
        axis: Axis::linear_between("correlation", -1.05, 1.05, 5),
        guides: &[0.0],
        facets: facets.into(),
    }];
    let layout = Layout::of(&groups);
    if families.len() > 1 && !layout.is_of_one_size() {
        caption += " Families are shifted sideways a little, so that none hides another.";
    }
    if undefined > 0 {
        caption += &format!(" Not defined for {}.", words::counted(undefined, "model", "models"));
    }
    caption += &not_shown;
    let legend = legend(families, study, &sized);
    let body_mm = if layout.is_of_one_size() { layout.body_mm() } else { 92.0 };
    let sheet = Sheet { name, title: "", body_mm, legend, see, caption };
    let figure = sheet.draw(style, |body| {
        if layout.is_of_one_size() {
            return draw(body, &groups, families);
        }
        for (row, (area, (title, of))) in grid(body, 2, 1).iter().zip(main).enumerate() {
            let mut x = size_axis(study, &sized);
            if row == 0 {
                x.title.clear();
            }
            let panel = Panel::new(area, "", x.clone(), Axis::linear_between(title, -1.05, 1.05, 5))?;
            panel.across(0.0, FAINT)?;
            family_lines(&panel, &x, families, &points(of))?;
        }
        Ok(())
    })?;
    Ok(Ok(figure))
}

/// A panel of [`measures`]: its title, the unit of its y axis, and a column of the table `model_measures`.
struct Measure {
    title: String,
    unit: &'static str,
    column: String,
}

/// `strong_head_scaling`: the share of heads that work on something, in all and per category.
pub(super) fn strong_heads(study: &ContrastStudy, families: &Families, style: &Style) -> Result<Drawing> {
    let measure = |title: &str, column: String| Measure { title: title.into(), unit: "% of heads", column };
    let contrast = study.contrast();
    let categories = [Category::Shared, Category::OnlyA, Category::OnlyB];
    let mut panels = vec![measure("not weak", "frac_strong".into())];
    panels.extend(
        categories.map(|c| measure(&category_label(contrast, c), format!("frac_{}", contrast.category(c)))),
    );
    let about = format!(
        "Share of a model's heads with |Δ| ≥ τ = {} logits on a task, and of each category. These shares have no interval: \
         {}.csv counts the heads whose category is not stable.",
        study.options.tau,
        contrast.table("head_category_summary"),
    );
    let see = match ends(study, &["frac_strong".into()]) {
        _ if all_weak(&study.classified.models) => {
            "No head reaches τ on either task: all are weak.".to_owned()
        }
        Some((low, high)) => {
            format!("{} of {} reach τ on a task.", words::from_to(low, high, 1, "%"), of_whom(study))
        }
        None => "No head was measured on both tasks.".to_owned(),
    };
    measures(study, families, "strong_head_scaling", &panels, (see, about), style)
}

/// `relative_head_scaling`: the same shares at thresholds relative to what each model does on each task.
pub(super) fn relative_heads(study: &ContrastStudy, families: &Families, style: &Style) -> Result<Drawing> {
    let name = "relative_head_scaling";
    let models = &study.classified.models;
    let (with, without): (Vec<_>, Vec<_>) = models.iter().partition(|m| relative_taus(&m.info).is_some());
    if with.is_empty() {
        return Ok(Err(NotDrawn::new(
            name,
            "no model is known to do both tasks, so none has relative categories: scan them on enough prompts",
        )));
    }
    let measure = |title: &str, column: String| Measure { title: title.into(), unit: "% of heads", column };
    let contrast = study.contrast();
    let categories = [Category::Shared, Category::OnlyA, Category::OnlyB];
    let mut panels = vec![measure("not weak", "frac_relative_strong".into())];
    panels.extend(
        categories.map(|c| {
            measure(&category_label(contrast, c), format!("frac_relative_{}", contrast.category(c)))
        }),
    );
    let mut about = format!(
        "Shares of a model's heads as in strong_head_scaling, but with |Δ| ≥ {}% of the model's own mean logit difference on the task. These shares have \
         no interval.",
        decimal(100.0 * RELATIVE_TAU, 0),
    );
    let without: Vec<String> = without.iter().map(|m| m.info.model.clone()).collect();
    if !without.is_empty() {
        about +=
            &format!(" Left out, for not doing both tasks as far as is known: {}.", words::list(&without));
    }
    let see = ends(study, &["frac_relative_strong".into()]).map_or(
        "No model that does both tasks has such heads.".to_owned(),
        |(low, high)| {
            format!(
                "{} of {} move a task by {}% or more of the model's own logit difference.",
                words::from_to(low, high, 1, "%"),
                of_whom(study),
                decimal(100.0 * RELATIVE_TAU, 0)
            )
        },
    );
    measures(study, families, name, &panels, (see, about), style)
}

/// `concentration_scaling`: how much of the effect few heads hold.
pub(super) fn concentration(study: &ContrastStudy, families: &Families, style: &Style) -> Result<Drawing> {
    let contrast = study.contrast();
    let rows =
        [("top 5% (% of Σ|Δ|)", "top_5pct_share"), ("participation (% of heads)", "participation_fraction")];
    let panels: Vec<Measure> = rows
        .into_iter()
        .flat_map(|(unit, column)| {
            Side::BOTH.map(|task| Measure {
                title: side_label(contrast, task),
                unit,
                column: format!("{column}_{}", contrast.key(task)),
            })
        })
        .collect();
    let about = "Top: share of Σ|Δ| that the strongest 5% of a model's heads hold, interpolated between whole heads. Bottom: participation ratio (Σ|Δ|)² / ΣΔ², the \
                 number of heads, all equal, that would be as concentrated, as a share of all heads. No intervals.";
    let columns = contrast.keys().map(|key| format!("top_5pct_share_{key}"));
    let see = ends(study, &columns).map_or("No effect was measured.".to_owned(), |(low, high)| {
        format!("The strongest 5% of {} hold {} of Σ|Δ|.", of_whom(study), words::from_to(low, high, 0, "%"))
    });
    measures(study, families, "concentration_scaling", &panels, (see, about.to_owned()), style)
}

/// Whose heads a study is about.
fn of_whom(study: &ContrastStudy) -> String {
    let all: Vec<usize> = (0..study.joint.models.len()).collect();
    words::heads_of(&names(study, &all))
}

/// The smallest and largest of what these columns of the measures hold, in percent.
fn ends(study: &ContrastStudy, columns: &[String]) -> Option<(f64, f64)> {
    let names = measure_names(study.contrast());
    let at = |column: &String| names.iter().position(|name| name == column);
    let at: Vec<usize> = columns.iter().filter_map(at).collect();
    let values = study.measures.iter().flat_map(|m| at.iter().filter_map(|&at| m.values[at]));
    values.fold(None, |ends, v| {
        let (low, high) = ends.unwrap_or((100.0 * v, 100.0 * v));
        Some((low.min(100.0 * v), high.max(100.0 * v)))
    })
}

/// Four measures against size, in percent; panels of a row share their axis.
fn measures(
    study: &ContrastStudy,
    families: &Families,
    name: &str,
    panels: &[Measure],
    (see, about): (String, String),
    style: &Style,
) -> Result<Drawing> {
    let (sized, not_shown) = sized(study);
    if sized.is_empty() {
        return Ok(Err(no_sizes(name)));
    }
    let columns = measure_names(study.contrast());
    let value = |measure: &Measure, model: usize| {
        let column = columns.iter().position(|n| *n == measure.column)?;
        study.measures[model].values[column].map(|v| v * 100.0)
    };
    // Models that no panel shows are neither counted nor in the legend.
    let sized: Vec<usize> =
        sized.into_iter().filter(|&i| panels.iter().any(|measure| value(measure, i).is_some())).collect();
    let points = |measure: &Measure| -> Vec<Point> {
        sized.iter().filter_map(|&i| point(study, i, value(measure, i)?, None)).collect()
    };
    let group = |of: &'_ [Measure]| {
        let facet = |measure: &Measure| Facet { title: measure.title.clone(), points: points(measure) };
        let facets: Vec<Facet> = of.iter().map(facet).collect();
        Group { axis: percent_axis(of[0].unit, facets.iter().flat_map(|f| &f.points)), guides: &[], facets }
    };
    let n: usize = sized.iter().map(|&i| study.correlations[i].n_heads).sum();
    let heads = words::counted(n, "head", "heads");
    let groups: Vec<Group> = panels.chunk_by(|a, b| a.unit == b.unit).map(group).collect();
    let layout = Layout::of(&groups);
    let shift = about_families(families, &groups);
    let caption =
        format!("{about} n = {heads} of {}.{shift}{not_shown}", words::models(&names(study, &sized)));
    let legend = legend(families, study, &sized);
    let body_mm = if layout.is_of_one_size() { layout.body_mm() } else { 84.0 };
    let sheet = Sheet { name, title: "", body_mm, legend, see, caption };
    let figure = sheet.draw(style, |body| {
        if layout.is_of_one_size() {
            return draw(body, &groups, families);
        }
        for (index, (area, measure)) in grid(body, 2, 2).iter().zip(panels).enumerate() {
            let row: Vec<Point> = panels[index / 2 * 2..index / 2 * 2 + 2].iter().flat_map(points).collect();
            let mut x = size_axis(study, &sized);
            thin(&mut x);
            let y = percent_axis(if index % 2 == 0 { measure.unit } else { "" }, row.iter());
            if index < 2 {
                x.title.clear();
            }
            let panel = Panel::new(area, &measure.title, x.clone(), y)?;
            family_lines(&panel, &x, families, &points(measure))?;
        }
        Ok(())
    })?;
    Ok(Ok(figure))
}
