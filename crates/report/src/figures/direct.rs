//! What heads say themselves, and what later layers make of its absence.

use cs_analysis::effect::Effect;
use cs_analysis::self_repair::ModelRepair;
use cs_analysis::study::Study;

use super::page::{Entry, Sheet, Style, Symbol, grid};
use super::palette::{FAINT, Families, INK, Marker, task_color, task_label};
use super::panel::Panel;
use super::scale::Axis;
use super::scaling::thin;
use super::{Drawing, NotDrawn, model_figure};
use crate::error::Result;
use crate::words;

/// Points of different tasks are this far apart, in decades of size.
const DODGE: f64 = 0.018;
/// Heads named in each panel: of those that say τ or more themselves, and of the others.
const NAMED: [usize; 2] = [3, 2];

/// Direct effect and Δ of a head, where the two compare.
fn both(effect: &Effect) -> Option<(f64, f64)> {
    let direct = effect.detail.as_deref()?.direct.as_ref()?;
    direct.compensation?;
    Some((direct.direct, effect.delta?))
}

/// The models that have direct effects which compare with Δ, by place.
pub(super) fn models(study: &Study) -> Vec<usize> {
    let has_any = |&index: &usize| {
        study.effects.models[index].tasks.iter().flat_map(|t| &t.heads).any(|h| both(&h.effect).is_some())
    };
    (0..study.effects.models.len()).filter(has_any).collect()
}

/// Why no model has a figure of them.
pub(super) fn not_measured() -> NotDrawn {
    let why = "no direct effects that compare with Δ: scans with zero ablation and folded value biases measure them, of models whose \
               norms do not stand on the residual stream";
    NotDrawn::new("direct_vs_total", why)
}

/// `direct_vs_total_<model>`: Δ of every head against its direct effect, task by task.
pub(super) fn direct_vs_total(study: &Study, index: usize, style: &Style) -> Result<Drawing> {
    let model = &study.effects.models[index];
    let name = model_figure("direct_vs_total", &model.info.model);
    let tau = study.options.tau;
    let points = |task: usize| -> Vec<((f64, f64), String)> {
        let heads = model.tasks[task].heads.iter();
        heads.filter_map(|h| Some((both(&h.effect)?, format!("L{}H{}", h.layer, h.head)))).collect()
    };
    let tasks: Vec<usize> = (0..model.tasks.len()).filter(|&task| !points(task).is_empty()).collect();
    if tasks.is_empty() {
        return Ok(Err(not_measured()));
    }
    let all: Vec<(f64, f64)> = tasks.iter().flat_map(|&t| points(t)).map(|(at, _)| at).collect();
    let caption = format!(
        "Δ of a head against its direct effect: what taking it away would change if nothing after it took notice. n = {}, {}. On the dashed diagonal \
         later layers do nothing about its absence; above it they push the logit difference up, as backups of a helping head do (self-repair). Axes \
         show asinh(x / τ): nearly linear within ±τ = ±{tau}, logarithmic beyond. Named are heads of each task that are furthest from the \
         diagonal: {} of those that say τ or more themselves, and {} of the others. Intervals are in head_effects.csv.",
        words::counted(all.len() / tasks.len(), "head", "heads"),
        words::counted(tasks.len(), "task", "tasks"),
        NAMED[0],
        NAMED[1],
    );
    let apart = |(x, y): (f64, f64)| (y - x).abs();
    let furthest = tasks.iter().flat_map(|&task| points(task).into_iter().map(move |point| (task, point)));
    let furthest = furthest.max_by(|a, b| apart(a.1.0).total_cmp(&apart(b.1.0)));
    let see = furthest.map_or(String::new(), |(task, ((direct, delta), head))| {
        format!(
            "Later layers change most for {head} on {}: direct effect {}, Δ {}.",
            task_label(&model.tasks[task].task),
            words::signed(direct),
            words::signed(delta)
        )
    });
    let legend = vec![Entry::new(Symbol::Dashed(FAINT), "Δ = direct effect")];
    let (columns, rows) = (tasks.len().min(2), tasks.len().div_ceil(2));
    let body_mm = if columns == 1 { 66.0 } else { 46.0 * rows as f64 + 6.0 };
    let sheet = Sheet { name: &name, title: &model.info.model, body_mm, legend, see, caption };
    let figure = sheet.draw(style, |body| {
        for (place, (area, &task)) in grid(body, rows, columns).iter().zip(&tasks).enumerate() {
            let both_axes = || all.iter().flat_map(|(x, y)| [*x, *y]);
            let mut x = Axis::effects("direct effect (logits)", both_axes(), tau);
            let mut y = Axis::effects("Δ (logits)", both_axes(), tau);
            if place + columns < tasks.len() {
                x.title.clear();
            }
            if place % columns > 0 {
                y.title.clear();
            }
            if columns > 1 {
                thin(&mut x);
            }
            let ends = (x.low, x.high);
            let panel = Panel::new(area, &task_label(&model.tasks[task].task), x, y)?;
            panel.dashed((ends.0, ends.0), (ends.1, ends.1), FAINT)?;
            let color = task_color(task);
            let mut points = points(task);
            for (at, _) in &points {
                panel.marker(Marker::Circle, *at, 1.6, color, 0.7)?;
            }
            points.sort_by(|a, b| apart(b.0).total_cmp(&apart(a.0)));
            let taken: Vec<[(f64, f64); 2]> = points.iter().map(|(at, _)| [*at, *at]).collect();
            let (speak, others): (Vec<_>, Vec<_>) =
                points.into_iter().partition(|((x, _), _)| x.abs() >= tau);
            let named = speak.into_iter().take(NAMED[0]).chain(others.into_iter().take(NAMED[1]));
            panel.name_points(&named.collect::<Vec<_>>(), &taken, &[])?;
        }
        Ok(())
    })?;
    Ok(Ok(figure))
}

/// `self_repair_vs_scale`: how much of what helping heads say later layers make up for, against size.
pub(super) fn repair_vs_scale(study: &Study, families: &Families, style: &Style) -> Result<Drawing> {
    let name = "self_repair_vs_scale";
    let is_shown =
        |r: &&ModelRepair| r.info.params_m.is_some_and(|p| p > 0.0) && r.repair.repaired.value.is_some();
    let sized: Vec<&ModelRepair> = study.repairs.iter().filter(is_shown).collect();
    if sized.is_empty() {
        let why = "no model of known size has heads whose own output helps by τ, and direct effects that compare with Δ";
        return Ok(Err(NotDrawn::new(name, why)));
    }
    let tasks = &study.effects.tasks;
    let place_of = |task: &str| tasks.iter().position(|t| t == task).unwrap_or(0);
    let shown = |place: &usize| sized.iter().any(|r| r.task == tasks[*place]);
    let task_entry = |place: usize| Entry::new(Symbol::Swatch(task_color(place)), task_label(&tasks[place]));
    let mut legend: Vec<Entry> = (0..tasks.len()).filter(shown).map(task_entry).collect();
    let family_entry = |f: &str| Entry::new(Symbol::Marker(families.marker(f), INK, true), f);
    legend.extend(families.names().filter(|f| sized.iter().any(|r| r.info.family == *f)).map(family_entry));
    let heads: usize = sized.iter().map(|r| r.repair.n_heads).sum();
    let caption = format!(
        "Self-repair: slope of compensation (Δ − direct effect) on what heads say (minus their direct effect), over the heads of a model whose own \
         output helps a task by τ = {} logits or more. 100%: later layers make up for all of it; 0%: for nothing; below: they make the loss worse. n = {} \
         over models and tasks. Bars: 95% intervals over prompts. Tasks are shifted sideways a little.",
        study.options.tau,
        words::counted(heads, "head", "heads"),
    );
    let percent = |x: Option<f64>| x.map(|x| 100.0 * x);
    let ends =
        sized.iter().flat_map(|r| [r.repair.repaired.low, r.repair.repaired.value, r.repair.repaired.high]);
    // An interval may be very wide where heads say little; the axis follows the estimates and clips it.
    let values: Vec<f64> = sized.iter().filter_map(|r| percent(r.repair.repaired.value)).collect();
    let reach = values.iter().fold(100.0f64, |m, v| m.max(v.abs())) * 1.5;
    let within: Vec<f64> =
        ends.filter_map(percent).map(|v| v.clamp(-reach, reach)).chain([0.0, 100.0]).collect();
    let (low, high) =
        values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(*v), h.max(*v)));
    let range = |low: f64, high: f64| words::from_to(low, high, 0, "%");
    let see = if low >= 0.0 {
        format!("Later layers make up for {} of what helping heads say.", range(low, high))
    } else if high <= 0.0 {
        format!("Later layers make the loss worse, by {} of what helping heads say.", range(-high, -low))
    } else {
        format!(
            "Later layers make up for up to {} of what helping heads say, or make the loss worse by up to {}.",
            range(high, high),
            range(-low, -low)
        )
    };
    let sheet = Sheet { name, title: "", body_mm: 60.0, legend, see, caption };
    let figure = sheet.draw(style, |body| {
        let x = Axis::sizes(sized.iter().filter_map(|r| r.info.params_m));
        let panel = Panel::new(body, "", x, Axis::linear("repaired by later layers (%)", within, 5))?;
        panel.across(0.0, FAINT)?;
        panel.across(100.0, FAINT)?;
        for (place, task) in tasks.iter().enumerate() {
            let shift = 10f64.powf(DODGE * (place as f64 - (tasks.len() - 1) as f64 / 2.0));
            for family in families.names() {
                let own = sized.iter().filter(|r| r.task == *task && r.info.family == family);
                let points: Vec<(f64, &&ModelRepair)> =
                    own.filter_map(|r| Some((r.info.params_m? * shift, r))).collect();
                let line: Vec<(f64, f64)> = points
                    .iter()
                    .filter_map(|(x, r)| Some((*x, percent(r.repair.repaired.value)?)))
                    .collect();
                let color = task_color(place_of(task));
                if line.len() > 1 {
                    panel.line(&line, color, 0.6)?;
                }
                for (x, repair) in points {
                    if let Some((low, high)) = repair.repair.repaired.ends() {
                        panel.interval(x, 100.0 * low, 100.0 * high, color, 0.8)?;
                    }
                    if let Some(value) = percent(repair.repair.repaired.value) {
                        panel.marker(families.marker(family), (x, value), 2.2, color, 1.0)?;
                    }
                }
            }
        }
        Ok(())
    })?;
    Ok(Ok(figure))
}
