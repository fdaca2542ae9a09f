//! The tasks of a study, each by itself: what every head does on each, and how few heads do it, against size.

use cs_analysis::effects::TaskHeads;
use cs_analysis::study::Study;
use cs_analysis::task_measures::TaskMeasures;

use super::layers::{cells, color_bar, see_strongest, strongest, y_title};
use super::page::{Entry, Sheet, Style, Symbol, grid, mm};
use super::palette::{Families, GROUND, INK, task_color, task_label};
use super::panel::Panel;
use super::scale::Axis;
use super::scaling::{no_sizes, thin};
use super::{Drawing, NotDrawn, model_figure};
use crate::error::Result;
use crate::words;

/// Points of different tasks are this far apart, in decades of size.
const DODGE: f64 = 0.018;

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
    let legend = if missing { vec![Entry::new(Symbol::Swatch(GROUND), "not measured")] } else { Vec::new() };
    let measured: Vec<String> = model
        .tasks
        .iter()
        .map(|t| format!("{} ({})", words::count(t.deltas().len()), task_label(&t.task)))
        .collect();
    let caption = format!(
        "n = {} heads. Blue: the head helps the task; red: it hinders. The colour follows √|Δ|, to the largest |Δ| of the model.",
        words::list(&measured)
    );
    let of_task = |task: &TaskHeads| {
        let heads = task.heads.iter().filter_map(|h| Some((h.layer, h.head, h.effect.delta?)));
        strongest(&task_label(&task.task), heads)
    };
    let see = see_strongest(model.tasks.iter().filter_map(of_task));
    let columns = model.tasks.len().min(2);
    let rows = model.tasks.len().div_ceil(columns);
    let row_mm = (f64::from(n_layers) * 2.2).clamp(30.0, 96.0) + 10.0;
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
            cells(area, titles, heads, (n_layers as usize, n_heads as usize), limit)?;
        }
        color_bar(&lower, limit)
    })?;
    Ok(Ok(figure))
}

/// A panel: its title, and what it shows of a model and task, in percent.
type Measure = (&'static str, fn(&TaskMeasures) -> Option<f64>);

/// `task_scaling`: how many heads work on each task, and how few hold its effect, against size.
pub(super) fn against_size(study: &Study, families: &Families, style: &Style) -> Result<Drawing> {
    let name = "task_scaling";
    let sized: Vec<&TaskMeasures> =
        study.task_measures.iter().filter(|m| m.info.params_m.is_some_and(|p| p > 0.0)).collect();
    if sized.is_empty() {
        return Ok(Err(no_sizes(name)));
    }
    let panels: [Measure; 2] = [
        ("heads with |Δ| ≥ τ (%)", |m| {
            (m.n_heads > 0).then(|| 100.0 * m.n_strong as f64 / m.n_heads as f64)
        }),
        ("Σ|Δ| in the top 5% (%)", |m| m.concentration[1].map(|share| 100.0 * share)),
    ];
    let tasks = &study.effects.tasks;
    let mut legend: Vec<Entry> = tasks
        .iter()
        .enumerate()
        .map(|(place, task)| Entry::new(Symbol::Swatch(task_color(place)), task_label(task)))
        .collect();
    let shown = |family: &&str| sized.iter().any(|m| m.info.family == **family);
    legend.extend(
        families.names().filter(shown).map(|f| Entry::new(Symbol::Marker(families.marker(f), INK, true), f)),
    );
    let mut models: Vec<&str> =
        study.models().filter(|m| m.params_m.is_some()).map(|m| m.model.as_str()).collect();
    models.dedup();
    let caption = format!(
        "Top: share of a model's heads with |Δ| ≥ τ = {} logits on a task. Bottom: share of Σ|Δ| that the strongest 5% of its heads hold, \
         interpolated between whole heads. n = {}, {}. No intervals.{} Where a model does not do a task \
         (task_measures.csv), the effects of its heads say little about how it is done.",
        study.options.tau,
        words::counted(models.len(), "model", "models"),
        words::counted(tasks.len(), "task", "tasks"),
        if tasks.len() > 1 { " Points of different tasks are shifted sideways a little." } else { "" },
    );
    let shares = sized.iter().filter_map(|m| panels[0].1(m));
    let (low, high) = shares.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), s| (l.min(s), h.max(s)));
    let see = format!("{} of a model's heads reach τ on a task.", words::from_to(low, high, 1, "%"));
    let sheet = Sheet { name, title: "", body_mm: 92.0, legend, see, caption };
    let figure = sheet.draw(style, |body| {
        for (row, (area, (title, of))) in grid(body, 2, 1).iter().zip(panels).enumerate() {
            let mut x = Axis::sizes(sized.iter().filter_map(|m| m.info.params_m));
            if row == 0 {
                x.title.clear();
            }
            if x.ticks.len() > 6 {
                thin(&mut x);
            }
            let highest = sized.iter().filter_map(|m| of(m)).fold(0.0, f64::max);
            let top = if highest > 0.0 { highest * 1.08 } else { 1.0 };
            let panel = Panel::new(area, "", x, Axis::linear_between(title, -0.05 * top, top, 4))?;
            for (place, task) in tasks.iter().enumerate() {
                let shift = 10f64.powf(DODGE * (place as f64 - (tasks.len() - 1) as f64 / 2.0));
                for family in families.names() {
                    let own = sized.iter().filter(|m| m.task == *task && m.info.family == family);
                    let points: Vec<(f64, f64)> =
                        own.filter_map(|m| Some((m.info.params_m? * shift, of(m)?))).collect();
                    if points.len() > 1 {
                        panel.line(&points, task_color(place), 0.6)?;
                    }
                    for point in points {
                        panel.marker(families.marker(family), point, 2.0, task_color(place), 1.0)?;
                    }
                }
            }
        }
        Ok(())
    })?;
    Ok(Ok(figure))
}
