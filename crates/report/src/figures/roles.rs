//! How many heads play each role, against size.

use cs_analysis::role_tables::{RoleCount, role_counts};
use cs_analysis::roles::{ATTENDS, HeadRole};
use cs_analysis::study::Study;

use super::page::{Entry, Sheet, Style, Symbol, grid};
use super::palette::{FAINT, Families, INK, task_color, task_label};
use super::panel::Panel;
use super::scale::{Axis, decimal};
use super::scaling::{no_sizes, thin};
use super::{Drawing, NotDrawn};
use crate::error::Result;
use crate::extras::Extras;
use crate::words;

/// Points of different tasks are this far apart, in decades of size.
const DODGE: f64 = 0.018;

/// `head_roles_vs_scale`: the share of a model's heads that play each role.
pub(super) fn counts_vs_scale(
    study: &Study,
    extras: &Extras,
    families: &Families,
    style: &Style,
) -> Result<Drawing> {
    let name = "head_roles_vs_scale";
    let tau = study.options.tau;
    let counts = role_counts(&extras.roles, tau);
    if counts.is_empty() {
        return Ok(Err(NotDrawn::new(
            name,
            "the roles of heads were not measured: run circuit-scaling attend",
        )));
    }
    let sized: Vec<&RoleCount> =
        counts.iter().filter(|c| c.origin.params_m.is_some_and(|p| p > 0.0)).collect();
    if sized.is_empty() {
        return Ok(Err(no_sizes(name)));
    }
    let roles: Vec<HeadRole> =
        HeadRole::ALL.into_iter().filter(|r| sized.iter().any(|c| c.role == *r)).collect();
    let tasks = &study.effects.tasks;
    // What is read on random tokens belongs to no task.
    let task_of = |count: &RoleCount| tasks.iter().position(|t| t == count.task);
    let color_of = |place: Option<usize>| place.map_or(INK, task_color);
    let used = |place: Option<usize>| sized.iter().any(|c| task_of(c) == place);
    let mut legend = Vec::new();
    if used(None) {
        legend.push(Entry::new(Symbol::Swatch(INK), "repeated random tokens"));
    }
    let task_entry = |place: usize| Entry::new(Symbol::Swatch(task_color(place)), task_label(&tasks[place]));
    legend.extend((0..tasks.len()).filter(|&place| used(Some(place))).map(task_entry));
    let family_entry = |f: &str| Entry::new(Symbol::Marker(families.marker(f), INK, true), f);
    legend.extend(families.names().filter(|f| sized.iter().any(|c| c.origin.family == *f)).map(family_entry));
    let mut models: Vec<&str> = sized.iter().map(|c| c.origin.model.as_str()).collect();
    models.sort_unstable();
    models.dedup();
    let caption = format!(
        "Share of a model's heads that play a role: attention of {ATTENDS} or more to the token that the role is known for, or a score of τ = {tau} logits or \
         more, and an interval that excludes 0; S-inhibition heads also help by τ through later layers. n = {}. The scores are in head_roles.csv.",
        words::counted(models.len(), "model", "models"),
    );
    let percent = |c: &RoleCount| 100.0 * c.n as f64 / c.n_scored as f64;
    let rows = roles.len().div_ceil(2);
    let most = sized.iter().max_by(|a, b| percent(a).total_cmp(&percent(b)));
    let see = match most {
        Some(count) if count.n > 0 => format!(
            "Most common: {}, {}% of the heads of {}.",
            count.role.label(),
            decimal(percent(count), 0),
            count.origin.model
        ),
        _ => "No head plays any of these roles.".to_owned(),
    };
    let sheet = Sheet { name, title: "", body_mm: 34.0 * rows as f64, legend, see, caption };
    let figure = sheet.draw(style, |body| {
        for (place, (area, role)) in grid(body, rows, 2).iter().zip(&roles).enumerate() {
            let own: Vec<&&RoleCount> = sized.iter().filter(|c| c.role == *role).collect();
            let highest = own.iter().map(|c| percent(c)).fold(0.0, f64::max);
            let top = if highest > 0.0 { highest * 1.08 } else { 1.0 };
            let mut x = Axis::sizes(sized.iter().filter_map(|c| c.origin.params_m));
            thin(&mut x);
            if place + 2 < roles.len() {
                x.title.clear();
            }
            let title = if place % 2 == 0 { "% of heads" } else { "" };
            let panel = Panel::new(area, role.label(), x, Axis::linear_between(title, -0.05 * top, top, 4))?;
            panel.across(0.0, FAINT)?;
            for task in std::iter::once(None).chain((0..tasks.len()).map(Some)) {
                let shift =
                    task.map_or(1.0, |t| 10f64.powf(DODGE * (t as f64 - (tasks.len() - 1) as f64 / 2.0)));
                for family in families.names() {
                    let of = own.iter().filter(|c| task_of(c) == task && c.origin.family == family);
                    let points: Vec<(f64, f64)> =
                        of.filter_map(|c| Some((c.origin.params_m? * shift, percent(c)))).collect();
                    if points.len() > 1 {
                        panel.line(&points, color_of(task), 0.6)?;
                    }
                    for point in points {
                        panel.marker(families.marker(family), point, 2.0, color_of(task), 1.0)?;
                    }
                }
            }
        }
        Ok(())
    })?;
    Ok(Ok(figure))
}
