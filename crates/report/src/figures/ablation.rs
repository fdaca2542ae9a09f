//! Sets of heads ablated at once: hero heads against random ones, and what each set does to either task.

use cs_analysis::ablation::{SetKind, SummaryRow};
use cs_analysis::contrast::{Contrast, Side};
use cs_analysis::ranged::Ranged;
use cs_analysis::scan_file::ACCURACY;
use cs_analysis::study::ContrastStudy;
use plotters::style::RGBColor;

use super::legend::{Entry, Symbol};
use super::page::{DrawError, Sheet, Style, grid};
use super::palette::{FAINT, Families, INK, Marker, side_color, side_label};
use super::panel::Panel;
use super::scale::{Axis, Scale};
use super::{Drawing, NotDrawn, model_figure};
use crate::error::Result;
use crate::extras::ContrastExtras;
use crate::words;

/// Which heads hero sets are taken from in the figures: all of a model.
const SELECTION: &str = "all";

/// The rows of a model and kind of set, by k, that were measured.
fn curve<'a>(extras: &'a ContrastExtras<'a>, model: &'a str, kind: SetKind) -> Vec<&'a SummaryRow> {
    let is_ours = |r: &&SummaryRow| {
        r.model == model
            && r.set_type == kind.name()
            && (kind == SetKind::Baseline || r.selection == SELECTION)
    };
    let mut rows: Vec<_> = extras
        .ablated
        .iter()
        .filter(is_ours)
        .filter(|r| r.tasks.iter().all(|task| task.mean_diff.value.is_some()))
        .collect();
    rows.sort_by_key(|r| r.k);
    rows
}

/// An axis of set sizes, evenly spaced by their logarithm.
fn k_axis(sizes: &[usize]) -> Axis {
    let mut sizes = sizes.to_vec();
    sizes.sort_unstable();
    sizes.dedup();
    let (low, high) = (sizes.first().copied().unwrap_or(1) as f64, sizes.last().copied().unwrap_or(2) as f64);
    // Labels that would touch are left out: each needs about a sixth of the axis.
    let length = (high / low).log10().max(0.1);
    let mut ticks: Vec<(f64, String)> = Vec::new();
    for size in sizes.iter().map(|&s| s as f64) {
        if ticks.last().is_none_or(|t| (size / t.0).log10() > length / 6.0) {
            ticks.push((size, size.to_string()));
        }
    }
    // One size alone stands in the middle of an axis that is as long as from 1 to 4.
    let room = 1.15 * (4.0 / (high / low)).sqrt().max(1.0);
    Axis {
        scale: Scale::Log,
        low: low / room,
        high: high * room,
        ticks,
        title: "heads ablated (log scale)".into(),
    }
}

pub(super) fn not_ablated(name: &str) -> NotDrawn {
    NotDrawn::new(name, "no set of heads was ablated: run circuit-scaling ablate")
}

/// `hero_vs_random_ablation`: a row of panels for each family, a column for each task.
pub(super) fn overview(
    study: &ContrastStudy,
    extras: &ContrastExtras,
    families: &Families,
    style: &Style,
) -> Result<Drawing> {
    let name = "hero_vs_random_ablation";
    let contrast = study.contrast();
    let models: Vec<(&str, &str)> = study
        .joint
        .models
        .iter()
        .map(|m| (m.info.family.as_str(), m.info.model.as_str()))
        .filter(|(_, model)| !curve(extras, model, SetKind::Hero).is_empty())
        .collect();
    if models.is_empty() {
        return Ok(Err(not_ablated(name)));
    }
    let shown: Vec<&str> = families.names().filter(|f| models.iter().any(|m| m.0 == *f)).collect();
    let legend = vec![
        Entry::new(Symbol::Marker(Marker::Circle, INK, true), "hero heads"),
        Entry::new(Symbol::Dashed(FAINT), "as many random heads"),
    ];
    let names: Vec<&str> = models.iter().map(|m| m.1).collect();
    let see = hurts_more(contrast, extras, &names);
    let caption = format!(
        "Logit of the correct answer minus the mean of the other candidates, as a change from nothing ablated; over {}. {} n = {}. Hero heads: \
         the strongest by {}, 95% intervals over prompts; random heads: as many of all heads, mean of the sets, whose spread is in the figure of each \
         model.",
        extras.ablation_prompts(),
        numbered(&models, &shown),
        words::counted(names.len(), "model", "models"),
        words::strength(contrast),
    );
    let sheet = Sheet { name, title: "", body_mm: 12.0 + 32.0 * shown.len() as f64, legend, see, caption };
    let figure = sheet.draw(style, |body| {
        for (index, area) in grid(body, shown.len(), 2).iter().enumerate() {
            let (family, task) = (shown[index / 2], Side::BOTH[index % 2]);
            let own: Vec<&str> = models.iter().filter(|m| m.0 == family).map(|m| m.1).collect();
            family_panel(
                area,
                &format!(
                    "{}, {}",
                    if let [only] = own[..] { only } else { family },
                    side_label(contrast, task)
                ),
                task,
                &own,
                extras,
                families,
                family,
                [index % 2 == 0, index / 2 + 1 == shown.len()],
                style,
            )?;
        }
        Ok(())
    })?;
    Ok(Ok(figure))
}

/// What the lines of a panel are: models, with the numbers at their ends where a family has several.
fn numbered(models: &[(&str, &str)], families: &[&str]) -> String {
    let of_family = |family: &&str| {
        let own: Vec<&str> = models.iter().filter(|m| m.0 == *family).map(|m| m.1).collect();
        let named: Vec<String> =
            own.iter().enumerate().map(|(at, m)| format!("{}\u{a0}{m}", at + 1)).collect();
        (own.len() > 1).then(|| named.join(", "))
    };
    let numbers: Vec<String> = families.iter().filter_map(of_family).collect();
    if numbers.is_empty() {
        return "Each line is a model.".to_owned();
    }
    format!("Each line is a model, larger ones darker: {}.", numbers.join("; "))
}

/// In how many models the largest hero set hurts each task more than as many random heads do.
fn hurts_more(contrast: &Contrast, extras: &ContrastExtras, models: &[&str]) -> String {
    let lower = |model: &&str, task: Side| -> Option<bool> {
        let (hero, random) = (curve(extras, model, SetKind::Hero), curve(extras, model, SetKind::Random));
        let largest = hero.iter().rev().find_map(|h| Some((h, random.iter().find(|r| r.k == h.k)?)));
        let (hero, random) = largest?;
        Some(hero.on(task).mean_diff.value? < random.on(task).mean_diff.value?)
    };
    let compared = models.iter().filter(|model| lower(model, Side::A).is_some()).count();
    let [a, b] = Side::BOTH.map(|task| {
        let n = models.iter().filter(|model| lower(model, task) == Some(true)).count();
        (n, side_label(contrast, task))
    });
    match (models, a.0, b.0) {
        _ if compared == 0 => "What ablating hero heads leaves of each task.".to_owned(),
        ([only], 1, 1) => {
            format!(
                "The largest hero set of {only} hurts {} and {} more than as many random heads do.",
                a.1, b.1
            )
        }
        ([only], 0, 0) => {
            format!("The largest hero set of {only} hurts neither task more than as many random heads do.")
        }
        ([only], ..) => {
            let (hurt, not) = if a.0 == 1 { (a.1, b.1) } else { (b.1, a.1) };
            format!(
                "The largest hero set of {only} hurts {hurt}, but not {not}, more than as many random heads do."
            )
        }
        _ => format!(
            "The largest hero sets hurt {} more than as many random heads do in {} of {}, and {} in {}.",
            a.1,
            words::none_or(a.0),
            words::counted(compared, "model", "models"),
            b.1,
            words::none_or(b.0)
        ),
    }
}

/// Change of a set's (correct − mean of the other candidates) from the baseline of its model.
fn change(row: &SummaryRow, base: f64, task: Side) -> Ranged {
    let Ranged { value, low, high } = row.on(task).mean_diff;
    let less = |v: Option<f64>| v.map(|v| v - base);
    Ranged { value: less(value), low: less(low), high: less(high) }
}

#[allow(clippy::too_many_arguments, reason = "one panel of one figure")]
fn family_panel(
    area: &super::page::Area,
    title: &str,
    task: Side,
    models: &[&str],
    extras: &ContrastExtras,
    families: &Families,
    family: &str,
    [with_y_title, with_x_title]: [bool; 2],
    style: &Style,
) -> std::result::Result<(), DrawError> {
    let base = |model: &str| {
        curve(extras, model, SetKind::Baseline)
            .first()
            .and_then(|r| r.on(task).mean_diff.value)
            .unwrap_or(0.0)
    };
    let all: Vec<&SummaryRow> = models
        .iter()
        .flat_map(|m| [SetKind::Hero, SetKind::Random].into_iter().flat_map(|kind| curve(extras, m, kind)))
        .collect();
    let values = all.iter().flat_map(|r| {
        let Ranged { value, low, high } = change(r, base(&r.model), task);
        // Of random sets the mean alone is drawn.
        if r.set_type == SetKind::Hero.name() { [value, low, high] } else { [value, None, None] }
    });
    let mut x = k_axis(&all.iter().map(|r| r.k).collect::<Vec<_>>());
    // Room for the numbers of models at the ends of their lines.
    x.high = x.shifted(x.high, 0.06);
    let mut y = Axis::linear("change (logits)", values.flatten().chain([0.0]), 3);
    if !with_x_title {
        x.title.clear();
    }
    if !with_y_title {
        y.title.clear();
    }
    let x_ends = (x.low, x.high);
    let panel = Panel::new(area, title, x, y)?;
    panel.across(0.0, super::palette::GROUND)?;
    let mut names: Vec<((f64, f64), String)> = Vec::new();
    let mut taken: Vec<[(f64, f64); 2]> = Vec::new();
    for (place, model) in models.iter().enumerate() {
        let color = lightened(
            style.color(families.color(family)),
            0.6 * (1.0 - (place + 1) as f64 / models.len() as f64),
        );
        let points = |kind| -> Vec<(f64, Ranged)> {
            curve(extras, model, kind)
                .into_iter()
                .map(|r| (r.k as f64, change(r, base(model), task)))
                .collect()
        };
        let random: Vec<(f64, f64)> =
            points(SetKind::Random).iter().filter_map(|(k, v)| Some((*k, v.value?))).collect();
        for ends in random.windows(2) {
            panel.dashed(ends[0], ends[1], color)?;
        }
        let hero = points(SetKind::Hero);
        let line: Vec<(f64, f64)> = hero.iter().filter_map(|(k, v)| Some((*k, v.value?))).collect();
        panel.line(&line, color, 0.7)?;
        names.extend(line.last().map(|end| (*end, (place + 1).to_string())));
        taken.extend(line.windows(2).chain(random.windows(2)).flat_map(|ends| panel.along(ends[0], ends[1])));
        for (k, change) in hero {
            if let Some((low, high)) = change.ends() {
                panel.interval(k, low, high, color, 0.6)?;
                taken.push([(k, low), (k, high)]);
            }
            if let Some(value) = change.value {
                panel.marker(families.marker(family), (k, value), 1.5, color, 1.0)?;
            }
        }
    }
    // A model that stands alone is named in the title.
    let guide = [[(x_ends.0, 0.0), (x_ends.1, 0.0)]];
    if models.len() > 1 { panel.name_points(&names, &taken, &guide) } else { Ok(()) }
}

fn lightened(color: RGBColor, share: f64) -> RGBColor {
    let mix = |c: u8| (f64::from(c) + share * (255.0 - f64::from(c))).round() as u8;
    RGBColor(mix(color.0), mix(color.1), mix(color.2))
}

/// `hero_vs_random_ablation_<model>`: both measures on both tasks.
pub(super) fn of_model(
    study: &ContrastStudy,
    extras: &ContrastExtras,
    index: usize,
    style: &Style,
) -> Result<Drawing> {
    let contrast = study.contrast();
    let model = study.joint.models[index].info.model.as_str();
    let name = model_figure("hero_vs_random_ablation", model);
    let [baseline, hero, random] =
        [SetKind::Baseline, SetKind::Hero, SetKind::Random].map(|kind| curve(extras, model, kind));
    if hero.is_empty() {
        return Ok(Err(not_ablated(&name)));
    }
    let effect = |rows: &[&SummaryRow], k: usize| {
        let of = |task: Side| {
            let row = rows.iter().find(|r| r.k == k)?;
            row.on(task)
                .mean_diff
                .value
                .zip(baseline.first()?.on(task).mean_diff.value)
                .map(|(v, base)| v - base)
        };
        of(Side::A).zip(of(Side::B)).map(|(a, b)| {
            format!(
                "{} by {}, {} by {}",
                side_label(contrast, Side::A),
                words::signed(a),
                side_label(contrast, Side::B),
                words::signed(b)
            )
        })
    };
    let largest = hero.iter().map(|r| r.k).filter(|k| random.iter().any(|r| r.k == *k)).max();
    let see = match largest.and_then(|k| Some((k, effect(&hero, k)?, effect(&random, k)?))) {
        Some((1, hero, random)) => {
            format!("Ablating the strongest head moves {hero}; a random head moves {random}.")
        }
        Some((k, hero, random)) => {
            format!("Ablating the {k} strongest heads moves {hero}; {k} random heads move {random}.")
        }
        None => "What ablating hero heads leaves of both tasks.".to_owned(),
    };
    let n_sets = random.iter().map(|r| r.n_sets).max().unwrap_or(0);
    let of_task = |task| {
        let symbol = Symbol::Marker(Marker::Circle, side_color(task), true);
        Entry::new(symbol, format!("hero heads, {}", side_label(contrast, task)))
    };
    let mut legend: Vec<Entry> = Side::BOTH.map(of_task).into();
    legend.push(Entry::new(Symbol::Marker(Marker::Square, FAINT, true), "random heads"));
    legend.push(Entry::new(Symbol::Dashed(INK), "nothing ablated"));
    let caption = format!(
        "Top: logit of the correct answer minus the mean of the other candidates. Bottom: accuracy. Over {}. Hero heads: the strongest by {}, 95% \
         intervals over prompts; random heads: as many of all heads, mean and middle 95% of n = {} at most. {ACCURACY}",
        extras.ablation_prompts(),
        words::strength(contrast),
        words::counted(n_sets, "set", "sets"),
    );
    let sheet = Sheet { name: &name, title: model, body_mm: 76.0, legend, see, caption };
    let figure = sheet.draw(style, |body| {
        for (place, area) in grid(body, 2, 2).iter().enumerate() {
            let task = Side::BOTH[place % 2];
            let of: fn(&SummaryRow, Side) -> Ranged =
                if place < 2 { |r, task| r.on(task).mean_diff } else { |r, task| r.on(task).acc };
            let all = || baseline.iter().chain(&hero).chain(&random).map(|r| of(r, task));
            let title = match (place < 2, place % 2) {
                (_, 1) => "",
                (true, _) => "difference (logits)",
                (false, _) => "accuracy",
            };
            let y = if place < 2 {
                Axis::linear(title, all().flat_map(|v| [v.value, v.low, v.high]).flatten(), 4)
            } else {
                Axis::linear_between(title, -0.03, 1.03, 4)
            };
            let mut x = k_axis(&hero.iter().chain(&random).map(|r| r.k).collect::<Vec<_>>());
            if place < 2 {
                x.title.clear();
            }
            let title = if place < 2 { side_label(contrast, task) } else { String::new() };
            let panel = Panel::new(area, &title, x, y)?;
            if let Some(base) = baseline.first().and_then(|r| of(r, task).value) {
                panel.across(base, INK)?;
            }
            // A little apart, so that intervals at the same number of heads do not hide each other.
            set_lines(&panel, &random, (FAINT, Marker::Square), 0.98, |r| of(r, task))?;
            set_lines(&panel, &hero, (side_color(task), Marker::Circle), 1.02, |r| of(r, task))?;
        }
        Ok(())
    })?;
    Ok(Ok(figure))
}

fn set_lines(
    panel: &Panel,
    rows: &[&SummaryRow],
    (color, marker): (RGBColor, Marker),
    shift: f64,
    of: impl Fn(&SummaryRow) -> Ranged,
) -> std::result::Result<(), DrawError> {
    let line: Vec<(f64, f64)> =
        rows.iter().filter_map(|r| Some((shift * r.k as f64, of(r).value?))).collect();
    panel.line(&line, color, 0.8)?;
    for row in rows {
        let figure = of(row);
        if let Some((low, high)) = figure.ends() {
            panel.interval(shift * row.k as f64, low, high, color, 0.8)?;
        }
        if let Some(value) = figure.value {
            panel.marker(marker, (shift * row.k as f64, value), 1.5, color, 1.0)?;
        }
    }
    Ok(())
}
