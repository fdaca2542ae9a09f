//! The single tasks of a study: the effect of every head, and its concentration, against size.

use cs_analysis::effects::TaskHeads;
use cs_analysis::study::Study;
use cs_analysis::task_measures::TaskMeasures;

use super::against_size::{Facet, Group, Layout, Point, about_families, draw, family_legend, percent_axis};
use super::layers::{
    about_colors, cells, color_bar, measured_on, not_measured, see_strongest, strongest, y_title,
};
use super::page::{Sheet, Style, grid, mm};
use super::palette::{Families, task_label};
use super::scale::decimal;
use super::scaling::no_sizes;
use super::{Drawing, NotDrawn, model_figure};
use crate::error::Result;
use crate::words;

/// Maximum total height of the maps of all tasks.
const MOST_MM: f64 = 190.0;

/// `effects_<model>`: Δ of every head on every task, by layer and head.
pub(super) fn heatmap(study: &Study, index: usize, style: &Style) -> Result<Drawing> {
    let model = &study.effects.models[index];
    let name = model_figure("effects", &model.info.model);
    let (n_layers, n_heads) = model.shape();
    let limit = model.tasks.iter().flat_map(|t| t.deltas()).fold(0.0f64, |m, d| m.max(d.abs()));
    let n_measured: usize = model.tasks.iter().map(|t| t.deltas().len()).sum();
    if n_measured == 0 {
        return Ok(Err(NotDrawn::new(&name, "no head was measured")));
    }
    let missing = n_layers as usize * n_heads as usize * model.tasks.len() > n_measured;
    let legend = not_measured(missing);
    let measured: Vec<(String, usize)> =
        model.tasks.iter().map(|t| (task_label(&t.task), t.deltas().len())).collect();
    let tau = study.options.tau;
    let caption = format!("{} {}", measured_on(&measured), about_colors(tau));
    let of_task = |task: &TaskHeads| {
        let heads = task.heads.iter().filter_map(|h| Some((h.layer, h.head, h.effect.delta?)));
        strongest(&task_label(&task.task), heads)
    };
    let see = see_strongest(model.tasks.iter().filter_map(of_task));
    let columns = model.tasks.len().min(2);
    let rows = model.tasks.len().div_ceil(columns);
    let row_mm = (f64::from(n_layers) * 2.2).clamp(30.0, 96.0).min(MOST_MM / rows as f64).max(25.0) + 10.0;
    let bar_mm = 11.0;
    let body_mm = row_mm * rows as f64 + bar_mm;
    let sheet = Sheet { name: &name, title: &model.info.model, body_mm, legend, see, caption };
    let figure = sheet.draw(style, |body| {
        let (_, height) = body.dim_in_pixel();
        let (upper, lower) = body.split_vertically(height as i32 - mm(bar_mm));
        for (place, (area, task)) in grid(&upper, rows, columns).iter().zip(&model.tasks).enumerate() {
            let heads = task.heads.iter().filter_map(|h| Some((h.layer, h.head, h.effect.delta?)));
            let has_x = place + columns >= model.tasks.len();
            let x_title = if has_x { "head".to_owned() } else { String::new() };
            let titles = [task_label(&task.task), x_title, y_title(place % columns == 0)];
            cells(area, titles, heads, (n_layers as usize, n_heads as usize), (limit, tau))?;
        }
        color_bar(&lower, limit)
    })?;
    Ok(Ok(figure))
}

/// A measure of a model and task, in percent.
type Measure = fn(&TaskMeasures) -> Option<f64>;

/// `task_scaling`: the share of heads that work on each task, and the concentration of the effect, against
/// size.
pub(super) fn against_size(study: &Study, families: &Families, style: &Style) -> Result<Drawing> {
    let name = "task_scaling";
    let is_sized = |m: &&TaskMeasures| m.info.params_m.is_some_and(|p| p > 0.0);
    let sized: Vec<&TaskMeasures> = study.task_measures.iter().filter(is_sized).collect();
    if sized.is_empty() {
        return Ok(Err(no_sizes(name)));
    }
    let strong: Measure = |m| (m.n_heads > 0).then(|| 100.0 * m.n_strong as f64 / m.n_heads as f64);
    let top: Measure = |m| m.concentration[1].map(|share| 100.0 * share);
    let group = |title: &str, of: Measure| {
        let facet = |task: &String| {
            let own = sized.iter().copied().filter(|m| m.task == *task);
            let points = own.filter_map(|m| Point::new(&m.info.family, m.info.params_m, of(m)?, None));
            Facet { title: task_label(task), points: points.collect() }
        };
        let facets: Vec<Facet> = study.effects.tasks.iter().map(facet).collect();
        Group { axis: percent_axis(title, facets.iter().flat_map(|f| &f.points)), guides: &[], facets }
    };
    let groups = [group("strong heads (%)", strong), group("top 5% (% of Σ|Δ|)", top)];
    let layout = Layout::of(&groups);
    let models = words::each_once(sized.iter().map(|m| m.info.model.as_str()));
    let [first, second] = layout.places();
    let caption = format!(
        "{first}: share of a model's heads with |Δ| ≥ τ = {} logits. {second}: share of Σ|Δ| that the strongest 5% of its heads hold, \
         interpolated between whole heads. n = {}, {}. No intervals.{} Where a model does not do a task \
         (task_measures.csv), the effects of its heads say little about how it is done.",
        study.options.tau,
        words::counted(models.len(), "model", "models"),
        words::counted(study.effects.tasks.len(), "task", "tasks"),
        about_families(families, &groups),
    );
    let see = see_most(&sized, &models, strong);
    let legend =
        family_legend(families, sized.iter().map(|m| (m.info.family.as_str(), m.info.model.as_str())));
    let sheet = Sheet { name, title: "", body_mm: layout.body_mm(), legend, see, caption };
    Ok(Ok(sheet.draw(style, |body| draw(body, &groups, families))?))
}

/// A sentence on the tasks with the most and the fewest strong heads for a single model; for several models, on
/// their numbers.
fn see_most(sized: &[&TaskMeasures], models: &[&str], strong: Measure) -> String {
    let shares = || sized.iter().filter_map(|m| Some((task_label(&m.task), strong(m)?)));
    let most = shares().max_by(|a, b| a.1.total_cmp(&b.1));
    let fewest = shares().min_by(|a, b| a.1.total_cmp(&b.1));
    let (Some(most), Some(fewest)) = (most, fewest) else { return "No effect was measured.".to_owned() };
    match models {
        [only] if most.0 != fewest.0 => format!(
            "Heads of {only} with |Δ| ≥ τ: most on {} ({}%), fewest on {} ({}%).",
            most.0,
            decimal(most.1, 1),
            fewest.0,
            decimal(fewest.1, 1)
        ),
        _ => format!(
            "{} of {} reach |Δ| = τ on a task.",
            words::from_to(fewest.1, most.1, 1, "%"),
            words::heads_of(models)
        ),
    }
}
