//! Direct effects of heads, and the reaction of later layers to their loss.

use cs_analysis::effect::Effect;
use cs_analysis::self_repair::ModelRepair;
use cs_analysis::study::Study;

use super::against_size::{Facet, Group, Layout, Point, about_families, draw, family_legend, thin};
use super::legend::{Entry, Symbol};
use super::page::{Sheet, Style, grid};
use super::palette::{FAINT, Families, Marker, task_color, task_label};
use super::panel::Panel;
use super::scale::Axis;
use super::{Drawing, NotDrawn, model_figure};
use crate::error::Result;
use crate::words;

/// Number of heads named in each panel: among those with |direct effect| ≥ τ, and among the others.
const NAMED: [usize; 2] = [3, 2];

/// Direct effect and Δ of a head, if the two are comparable.
fn both(effect: &Effect) -> Option<(f64, f64)> {
    let direct = effect.detail.as_deref()?.direct.as_ref()?;
    direct.compensation?;
    Some((direct.direct, effect.delta?))
}

/// Indices of the models with direct effects that are comparable to Δ.
pub(super) fn models(study: &Study) -> Vec<usize> {
    let has_any = |&index: &usize| {
        study.effects.models[index].tasks.iter().flat_map(|t| &t.heads).any(|h| both(&h.effect).is_some())
    };
    (0..study.effects.models.len()).filter(has_any).collect()
}

/// Why no model has this figure.
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
        "Δ of a head against its direct effect: what ablating it would change if no later layer reacted. n = {}, {}. On the dashed diagonal \
         later layers do not react; above it they push the logit difference up, as backups of a helping head do (self-repair). Axes \
         show asinh(x / τ): nearly linear within ±τ = ±{tau}, logarithmic beyond. Named are the heads of each task that lie furthest from the \
         diagonal, where there is room: {} of those with a direct effect of τ or more in size, and {} of the others. Intervals are in head_effects.csv.",
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
            "Later layers react most to the loss of {head} on {}: direct effect {}, Δ {}.",
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
            let diagonal = panel.along((ends.0, ends.0), (ends.1, ends.1));
            panel.name_points(&named.collect::<Vec<_>>(), &taken, &diagonal)?;
        }
        Ok(())
    })?;
    Ok(Ok(figure))
}

/// `self_repair_vs_scale`: the share of helping heads' direct effect that later layers make up for,
/// against size.
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
    let heads: usize = sized.iter().map(|r| r.repair.n_heads).sum();
    let percent = |x: Option<f64>| x.map(|x| 100.0 * x);
    let ends =
        sized.iter().flat_map(|r| [r.repair.repaired.low, r.repair.repaired.value, r.repair.repaired.high]);
    // Intervals may be very wide if direct effects are small; the axis follows the estimates and clips them.
    let values: Vec<f64> = sized.iter().filter_map(|r| percent(r.repair.repaired.value)).collect();
    let reach = values.iter().fold(100.0f64, |m, v| m.max(v.abs())) * 1.5;
    let within: Vec<f64> =
        ends.filter_map(percent).map(|v| v.clamp(-reach, reach)).chain([0.0, 100.0]).collect();
    let (low, high) =
        values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(*v), h.max(*v)));
    let range = |low: f64, high: f64| words::from_to(low, high, 0, "%");
    let see = if low >= 0.0 {
        format!("Later layers make up for {} of the direct effect that is lost.", range(low, high))
    } else if high <= 0.0 {
        format!(
            "Later layers make up for nothing: they add {} of the direct effect to the loss.",
            range(-high, -low)
        )
    } else {
        format!(
            "Later layers make up for up to {} of the direct effect that is lost, or add up to {} to the loss.",
            range(high, high),
            range(-low, -low)
        )
    };
    let facet = |task: &String| {
        let own = sized.iter().copied().filter(|r| r.task == *task);
        let points = own.filter_map(|r| {
            let ends = r.repair.repaired.ends().map(|(low, high)| (100.0 * low, 100.0 * high));
            Point::new(&r.info.family, r.info.params_m, percent(r.repair.repaired.value)?, ends)
        });
        Facet { title: task_label(task), points: points.collect() }
    };
    let (facets, without): (Vec<Facet>, Vec<Facet>) =
        tasks.iter().map(facet).partition(|facet| !facet.points.is_empty());
    let groups = [Group { axis: Axis::linear("repaired (%)", within, 5), guides: &[0.0, 100.0], facets }];
    let layout = Layout::of(&groups);
    let models = words::each_once(sized.iter().map(|r| r.info.model.as_str()));
    let mut caption = format!(
        "Self-repair: slope of compensation (Δ − direct effect) on minus the direct effect, over the heads of a model whose direct effect helps \
         a task by τ = {} logits or more. 100%: later layers make up for all of what is lost; 0%: for nothing; below: they add to the loss. n = {} \
         of {}, over all tasks. Bars: 95% intervals over prompts, cut off where they are very long.{}",
        study.options.tau,
        words::counted(heads, "head", "heads"),
        words::models(&models),
        about_families(families, &groups),
    );
    if !without.is_empty() {
        let labels: Vec<String> = without.into_iter().map(|facet| facet.title).collect();
        caption += &format!(" Not shown, without such heads: {}.", words::list(&labels));
    }
    let mut legend =
        family_legend(families, sized.iter().map(|r| (r.info.family.as_str(), r.info.model.as_str())));
    legend.push(Entry::new(Symbol::Dashed(FAINT), "0% and 100%"));
    let sheet = Sheet { name, title: "", body_mm: layout.body_mm(), legend, see, caption };
    Ok(Ok(sheet.draw(style, |body| draw(body, &groups, families))?))
}
