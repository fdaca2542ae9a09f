//! What a study found, in a few sentences with their numbers: what a reader meets first.

use cs_analysis::categories::ClassifiedModel;
use cs_analysis::contrast::{Category, Contrast, Side};
use cs_analysis::effects::ModelEffects;
use cs_analysis::model_measures::ModelCorrelations;
use cs_analysis::overlap::Overlap;
use cs_analysis::scaling::POOLED;
use cs_analysis::study::{ContrastStudy, Study};

use crate::extras::{ContrastExtras, Extras};
use crate::figures::palette::{side_label, task_label};
use crate::figures::scale::decimal;
use crate::words;

/// The answer of a study to its question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The question.
    pub question: String,
    /// What was measured, in one line.
    pub measured: String,
    /// The answer: one point per contrast, or one for the task.
    pub points: Vec<Point>,
    /// What to keep in mind, if anything: models that do not do a task.
    pub caution: Option<String>,
}

/// A finding in one sentence, and the numbers that carry it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Point {
    /// The contrast that it is about; none where it is about a task, or about all of them.
    pub contrast: Option<Contrast>,
    /// The finding.
    pub verdict: String,
    /// Its numbers with their 95% intervals.
    pub numbers: String,
}

/// From here on a correlation is that of tasks which largely use the same heads.
const STRONG: f64 = 0.5;
/// Heads that are named of a task which stands alone.
const NAMED: usize = 3;

/// The answer that the numbers of a study give.
#[must_use]
pub fn answer(study: &Study, extras: &Extras) -> Answer {
    let labels: Vec<String> = study.effects.tasks.iter().map(|task| task_label(task)).collect();
    let best = best_model(study);
    let is_alone = labels.len() == 2 && study.contrasts.len() == 1;
    let of_contrast = |c| of_contrast(c, &extras.of(ContrastStudy::contrast(c)), best_name(study), is_alone);
    let of_contrasts = study.contrasts.iter().map(of_contrast);
    let (question, points) = match labels.as_slice() {
        [only] => (format!("Which attention heads do {only}?"), vec![of_task(study, best, 0)]),
        [a, b] if is_alone => {
            (format!("Do the same attention heads do {a} and {b}?"), of_contrasts.collect())
        }
        _ if study.overlaps.is_empty() => {
            let of_tasks = (0..labels.len()).map(|task| of_task(study, best, task));
            (
                format!("Which attention heads do {}?", words::list(&labels)),
                of_tasks.chain(of_contrasts).collect(),
            )
        }
        _ => {
            let mut points = vec![of_overlaps(study, best)];
            points.extend(of_contrasts);
            (format!("Which of {} tasks share their attention heads?", labels.len()), points)
        }
    };
    let points = points.into_iter().map(|p| Point { verdict: words::capitalised(&p.verdict), ..p }).collect();
    Answer { question, measured: measured(study), points, caution: caution(study) }
}

/// The model to look at first: of those that do the most tasks the most accurate, to a hundredth, and of these the largest.
#[must_use]
pub fn best_model(study: &Study) -> usize {
    let merit = |model: &ModelEffects| {
        let done = model.tasks.iter().filter(|t| t.performance.does_task() != Some(false)).count();
        let accuracies = model.tasks.iter().filter_map(|t| t.performance.accuracy);
        let accuracy = accuracies.sum::<f64>() / model.tasks.len().max(1) as f64;
        (done, (100.0 * accuracy).round(), model.info.params_m.unwrap_or(0.0))
    };
    let better = |a: (usize, f64, f64), b: (usize, f64, f64)| {
        a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)).then(a.2.total_cmp(&b.2)).is_gt()
    };
    let models = &study.effects.models;
    let start = (0, models.first().map_or((0, 0.0, 0.0), merit));
    let choose = |best: (usize, (usize, f64, f64)), (at, model): (usize, &ModelEffects)| {
        let own = merit(model);
        if better(own, best.1) { (at, own) } else { best }
    };
    models.iter().enumerate().fold(start, choose).0
}

fn best_name(study: &Study) -> &str {
    study.effects.models.get(best_model(study)).map_or("", |m| m.info.model.as_str())
}

fn measured(study: &Study) -> String {
    let models = &study.effects.models;
    let n_heads: usize =
        models.iter().map(|m| m.tasks.iter().map(|t| t.deltas().len()).max().unwrap_or(0)).sum();
    let of = match models.as_slice() {
        [one] => one.info.model.clone(),
        several => words::counted(several.len(), "model", "models"),
    };
    format!(
        "{} of {of}, each ablated alone. Δ: how far that moves the logit difference (correct − distractor); a negative Δ means that \
         the head helps.",
        words::counted(n_heads, "head", "heads")
    )
}

/// The models that do not do every task, those that lack the same ones together.
fn caution(study: &Study) -> Option<String> {
    let mut groups: Vec<(Vec<String>, Vec<String>)> = Vec::new();
    for model in &study.effects.models {
        let not_done = model.tasks.iter().filter(|t| t.performance.does_task() == Some(false));
        let lacking: Vec<String> = not_done.map(|t| task_label(&t.task)).collect();
        let name = model.info.model.clone();
        match groups.iter_mut().find(|group| group.0 == lacking) {
            Some(group) => group.1.push(name),
            None => groups.push((lacking, vec![name])),
        }
    }
    groups.retain(|group| !group.0.is_empty());
    let sentence = |(tasks, models): &(Vec<String>, Vec<String>)| {
        let verb = if models.len() == 1 { "does" } else { "do" };
        format!("{} {verb} not do {}", words::list(models), words::list_of_any(tasks))
    };
    let all: Vec<String> = groups.iter().map(sentence).collect();
    let whose = if groups.iter().map(|group| group.1.len()).sum::<usize>() == 1 { "its" } else { "their" };
    (!all.is_empty()).then(|| format!("{}: what {whose} heads do there says little.", all.join("; ")))
}

/// How the correlation over the heads of one model is read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reading {
    /// Its interval lies above [`STRONG`].
    Same,
    /// Above 0.
    Some,
    /// Below 0.
    Opposed,
    /// It includes 0, and nothing above [`STRONG`].
    None,
    /// It includes 0 and more than [`STRONG`].
    Unclear,
    /// There is no interval.
    Unknown,
}

fn reading(correlation: &ModelCorrelations) -> Reading {
    match correlation.pearson.shown() {
        Some((interval, _)) if interval.low > STRONG => Reading::Same,
        Some((interval, _)) if interval.low > 0.0 => Reading::Some,
        Some((interval, _)) if interval.high < 0.0 => Reading::Opposed,
        Some((interval, _)) if interval.high > STRONG => Reading::Unclear,
        Some(_) => Reading::None,
        None => Reading::Unknown,
    }
}

/// Whether the same heads do both tasks; the numbers in full where no other contrast stands beside.
fn of_contrast(study: &ContrastStudy, extras: &ContrastExtras, best: &str, in_full: bool) -> Point {
    let contrast = study.contrast();
    let [a, b] = Side::BOTH.map(|side| side_label(contrast, side));
    let does_both = |c: &&ModelCorrelations| c.info.tasks_not_done().is_empty();
    let able: Vec<&ModelCorrelations> = study.correlations.iter().filter(does_both).collect();
    let nobody = able.is_empty();
    let shown: Vec<&ModelCorrelations> = if nobody { study.correlations.iter().collect() } else { able };
    let example = shown.iter().find(|c| c.info.model == best).or(shown.first());
    let Some(example) = example else {
        return Point {
            contrast: Some(contrast.clone()),
            verdict: format!("{a} and {b} were measured on no model together."),
            numbers: String::new(),
        };
    };
    let verdict = if nobody {
        format!("No model does both {a} and {b}: what their heads share says little.")
    } else {
        verdict(&shown, [&a, &b], shown.len() == study.correlations.len())
    };
    let mut numbers = format!(
        "In {}, Δ {a} and Δ {b} correlate over {} at r = {}.",
        example.info.model,
        words::counted(example.n_heads, "head", "heads"),
        words::correlation(&example.pearson)
    );
    if !in_full {
        numbers = format!("In {}, r = {}.", example.info.model, words::correlation(&example.pearson));
    }
    let classified = study.classified.models.iter().find(|m| m.info.model == example.info.model && in_full);
    numbers += &classified.map_or(String::new(), |m| format!(" {}", shared_heads(m, study.options.tau)));
    let of_example = extras.dissociation.iter().find(|row| row.model == example.info.model && in_full);
    if let Some((value, (low, high))) = of_example.and_then(|row| row.index.value.zip(row.index.ends())) {
        numbers += &format!(
            " Index of dissociation {} [{}, {}] (0: all heads are shared; 1: each task has its own).",
            decimal(value, 2),
            decimal(low, 2),
            decimal(high, 2)
        );
    }
    if shown.len() > 1 {
        let estimates: Vec<f64> = shown.iter().filter_map(|c| c.pearson.estimate).collect();
        let ends =
            estimates.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), r| (l.min(*r), h.max(*r)));
        if !estimates.is_empty() {
            let of = words::counted(estimates.len(), "model", "models");
            numbers += &format!(" Over {of}, r is {}.", words::from_to(ends.0, ends.1, 2, ""));
        }
    }
    if in_full {
        numbers += &with_size(study);
    }
    Point { contrast: Some(contrast.clone()), verdict, numbers }
}

/// What the correlations of these models say together.
fn verdict(shown: &[&ModelCorrelations], [a, b]: [&str; 2], all_do: bool) -> String {
    let that = if all_do { "" } else { " that do both" };
    let n = shown.len();
    let count = |keep: &[Reading]| shown.iter().filter(|c| keep.contains(&reading(c))).count();
    let (same, positive) = (count(&[Reading::Same]), count(&[Reading::Same, Reading::Some]));
    let (opposed, unknown) = (count(&[Reading::Opposed]), count(&[Reading::Unknown]));
    let models = words::counted(n, "model", "models");
    let everywhere = if n == 1 { String::new() } else { format!(" in each of the {models}{that}") };
    if unknown == n {
        format!("Whether the same heads do {a} and {b} cannot be told: no interval can be estimated.")
    } else if same == n {
        format!("The same heads do {a} and {b}{everywhere}.")
    } else if opposed == n {
        format!("Heads that help {a} hinder {b}{everywhere}.")
    } else if positive == n {
        format!("{a} and {b} share some of their heads{everywhere}.")
    } else if positive + opposed == 0 && count(&[Reading::Unclear]) + unknown == n {
        format!(
            "Whether the same heads do {a} and {b} cannot be told: intervals reach from no relation to a strong one."
        )
    } else if positive == 0 && opposed == 0 {
        let nowhere = if n == 1 { String::new() } else { format!(" in any of the {models}{that}") };
        format!("No sign that the same heads do {a} and {b}{nowhere}.")
    } else if positive == 0 {
        format!(
            "{a} and {b} share no heads: in {opposed} of the {models}{that}, heads that help one hinder the other."
        )
    } else {
        format!("{a} and {b} share heads in {positive} of the {models}{that}.")
    }
}

/// How many of the heads that are strong on either task are strong on both.
fn shared_heads(model: &ClassifiedModel, tau: f64) -> String {
    let counts = model.counts();
    let of = |category: Category| counts[category as usize];
    let either = of(Category::OnlyA) + of(Category::OnlyB) + of(Category::Shared);
    match either {
        0 => format!("No head reaches |Δ| = {tau} logits on either task."),
        1 => format!(
            "One head reaches |Δ| = {tau} logits, on {}.",
            if of(Category::Shared) == 1 { "both tasks" } else { "one task" }
        ),
        n => {
            let on_both = match of(Category::Shared) {
                0 => "none has".to_owned(),
                1 => "1 has".to_owned(),
                shared => format!("{} have", words::count(shared)),
            };
            format!(
                "Of the {} heads with |Δ| ≥ {tau} logits on a task, {on_both} it on both.",
                words::count(n)
            )
        }
    }
}

/// How the correlation changes with size, where a line was fitted.
fn with_size(study: &ContrastStudy) -> String {
    let law = study.scaling_laws.iter().find(|l| l.measure == "corr" && l.family == POOLED);
    let Some((law, line)) = law.and_then(|law| Some((law, law.line.as_ref().ok()?))) else {
        return String::new();
    };
    let interval = line.slope_interval;
    let change = if interval.low > 0.0 {
        "rises"
    } else if interval.high < 0.0 {
        "falls"
    } else {
        "does not change clearly"
    };
    format!(
        " With size r {change}: {} {} for each tenfold size (n = {}).",
        words::signed_to(line.slope, 2),
        words::interval(interval, 2),
        law.n
    )
}

/// Which heads carry a task, in the model that does it best.
fn of_task(study: &Study, best: usize, place: usize) -> Point {
    let task = &study.effects.tasks[place];
    let label = task_label(task);
    let tau = study.options.tau;
    let Some((model, of_task)) = study.effects.models.get(best).and_then(|m| Some((m, m.on(task)?))) else {
        return Point {
            contrast: None,
            verdict: format!("{label} was not measured."),
            numbers: String::new(),
        };
    };
    let mut heads: Vec<_> = of_task.heads.iter().filter_map(|h| Some((h, h.effect.delta?))).collect();
    heads.sort_by(|a, b| b.1.abs().total_cmp(&a.1.abs()));
    let n_strong = heads.iter().filter(|h| h.1.abs() >= tau).count();
    let all = words::counted(heads.len(), "head", "heads");
    let name = &model.info.model;
    let verdict = match n_strong {
        0 => format!("No head of {name} alone moves {label} by {tau} logits."),
        1 => format!("One of the {all} of {name} moves {label} by at least {tau} logits."),
        n => format!("{} of the {all} of {name} move {label} by at least {tau} logits.", words::count(n)),
    };
    let named: Vec<String> = heads
        .iter()
        .take(NAMED)
        .map(|(head, delta)| {
            let detail = head.effect.detail.as_deref();
            let interval = detail.and_then(|d| words::signed_range(d.ci_low, d.ci_high)).unwrap_or_default();
            format!("{} {}{interval}", words::head(head.layer, head.head), words::signed(*delta))
        })
        .collect();
    let mut numbers = format!("The strongest: {}.", named.join("; "));
    let measures = study.task_measures.iter().find(|m| m.task == *task && m.info.model == *name);
    if let Some(share) = measures.and_then(|m| m.concentration[1]) {
        numbers += &format!(" The strongest 5% of its heads hold {}% of Σ|Δ|.", decimal(100.0 * share, 0));
    }
    let shares: Vec<f64> = (study.task_measures.iter())
        .filter(|m| m.task == *task && m.n_heads > 0)
        .map(|m| 100.0 * m.n_strong as f64 / m.n_heads as f64)
        .collect();
    if shares.len() > 1 {
        let (low, high) =
            shares.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), s| (l.min(*s), h.max(*s)));
        let models = words::counted(shares.len(), "model", "models");
        numbers += &format!(" Over {models}, {} of the heads do.", words::from_to(low, high, 1, "%"));
    }
    Point { contrast: None, verdict, numbers }
}

/// Which pairs of tasks share heads most and least, in the model that does the most of them.
fn of_overlaps(study: &Study, best: usize) -> Point {
    let name = study.effects.models.get(best).map_or("", |m| m.info.model.as_str());
    let of_best = |o: &&Overlap| o.info.model == name && o.pearson.estimate.is_some();
    let all: Vec<&Overlap> = study.overlaps.iter().filter(of_best).collect();
    let are_done = |o: &&&Overlap| o.info.tasks_not_done().is_empty();
    let mut own: Vec<&Overlap> = all.iter().filter(are_done).copied().collect();
    let of_model = study.effects.models.get(best).map_or(&[][..], |m| &m.tasks);
    let n_done = of_model.iter().filter(|t| t.performance.does_task() != Some(false)).count();
    // Said first where it is not every task, so that nobody reads "the tasks that it does share heads".
    let (where_from, pairs) = if own.len() == all.len() {
        (format!("In {name}, "), "pairs of tasks")
    } else if own.is_empty() {
        own = all;
        (format!("In {name}, which does both tasks of no pair, "), "pairs of tasks")
    } else {
        (format!("Of {} tasks, {name} does {n_done}: ", of_model.len()), "pairs of these")
    };
    own.sort_by(|a, b| b.pearson.estimate.unwrap_or(0.0).total_cmp(&a.pearson.estimate.unwrap_or(0.0)));
    let (Some(most), Some(least)) = (own.first(), own.last()) else {
        return Point {
            contrast: None,
            verdict: format!("No two tasks compare in {name}."),
            numbers: String::new(),
        };
    };
    let is_above = |o: &&&Overlap| o.pearson.shown().is_some_and(|(interval, _)| interval.low > 0.0);
    let n = own.len();
    let verdict = match own.iter().filter(is_above).count() {
        0 => format!("{where_from}no sign that any of {n} {pairs} share heads."),
        above if above == n => format!("{where_from}all {n} {pairs} share heads."),
        above => format!("{where_from}{above} of {n} {pairs} share heads."),
    };
    let pair = |contrast: &Contrast| contrast.tasks().map(task_label).join(" and ");
    let numbers = format!(
        "Most: {}, r = {}. Least: {}, r = {}.",
        pair(&most.contrast),
        words::correlation(&most.pearson),
        pair(&least.contrast),
        words::correlation(&least.pearson)
    );
    Point { contrast: None, verdict, numbers }
}
