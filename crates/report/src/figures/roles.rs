//! The number of heads with each role, against size.

use cs_analysis::role_tables::{RoleCount, role_counts};
use cs_analysis::roles::{ATTENDS, HeadRole};
use cs_analysis::study::Study;

use super::against_size::{Facet, Group, Layout, Point, about_families, draw, family_legend, percent_axis};
use super::page::{Sheet, Style};
use super::palette::{Families, task_label};
use super::scale::decimal;
use super::scaling::no_sizes;
use super::{Drawing, NotDrawn};
use crate::error::Result;
use crate::extras::Extras;
use crate::words;

/// `head_roles_vs_scale`: the share of a model's heads with each role.
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
    let models = words::each_once(sized.iter().map(|c| c.origin.model.as_str()));
    let percent = |c: &RoleCount| 100.0 * c.n as f64 / c.n_scored as f64;
    // Roles scored on random tokens do not belong to a task.
    let task_of = |count: &RoleCount| tasks.iter().position(|t| t == count.task);
    let places = || std::iter::once(None).chain((0..tasks.len()).map(Some));
    let facet = |role: HeadRole, task: Option<usize>| {
        let own = sized.iter().copied().filter(|c| c.role == role && task_of(c) == task);
        let points = own.filter_map(|c| Point::new(&c.origin.family, c.origin.params_m, percent(c), None));
        let title = match task {
            Some(task) => format!("{}, {}", role.label(), task_label(&tasks[task])),
            None => role.label().to_owned(),
        };
        Facet { title, points: points.collect() }
    };
    let facets = roles.iter().flat_map(|&role| places().map(move |task| facet(role, task)));
    let facets: Vec<Facet> = facets.filter(|facet| !facet.points.is_empty()).collect();
    let axis = percent_axis("% of heads", facets.iter().flat_map(|f| &f.points));
    let groups = [Group { axis, guides: &[0.0], facets }];
    let layout = Layout::of(&groups);
    let caption = format!(
        "Share of a model's heads that play a role: attention of {ATTENDS} or more to the token that the role is known for, or a score of τ = {tau} logits or \
         more, and an interval that excludes 0; S-inhibition heads also help by τ through later layers. Roles without a task are read on random \
         tokens that are said twice. n = {}. The scores are in head_roles.csv.{}",
        words::counted(models.len(), "model", "models"),
        about_families(families, &groups),
    );
    let see = most_common(&sized, percent);
    let legend =
        family_legend(families, sized.iter().map(|c| (c.origin.family.as_str(), c.origin.model.as_str())));
    let sheet = Sheet { name, title: "", body_mm: layout.body_mm(), legend, see, caption };
    Ok(Ok(sheet.draw(style, |body| draw(body, &groups, families))?))
}

/// A sentence on the most common roles, and the model with the largest share.
fn most_common(counts: &[&RoleCount], percent: impl Fn(&RoleCount) -> f64) -> String {
    let most = counts.iter().max_by(|a, b| percent(a).total_cmp(&percent(b)));
    let Some(most) = most.filter(|count| count.n > 0) else {
        return "No head plays any of these roles.".to_owned();
    };
    let model = &most.origin.model;
    let as_common = counts.iter().filter(|c| c.origin.model == *model && percent(c) == percent(most));
    let labels: Vec<String> =
        words::each_once(as_common.map(|c| c.role.label())).into_iter().map(str::to_owned).collect();
    let each = if labels.len() > 1 { "each " } else { "" };
    format!(
        "Most common: {}, {each}{}% of the heads of {model}.",
        words::list(&labels),
        decimal(percent(most), 1)
    )
}
