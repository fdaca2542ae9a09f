//! What the tables say at the command line.

use std::fmt::Write;

use cs_analysis::audit::ModelAudit;
use cs_analysis::categories::RELATIVE_TAU;
use cs_analysis::contrast::{Category, Side};
use cs_analysis::joint::Disattenuated;
use cs_analysis::model_measures::{IntervalOver, TaskCorrelation};
use cs_analysis::scan_file::{ACCURACY, Performance};
use cs_analysis::stats::Interval;
use cs_analysis::study::{ContrastStudy, Study};

/// Lines of a table, and what its columns mean.
pub struct Said {
    /// The lines.
    pub rows: String,
    /// A line each.
    pub notes: Vec<String>,
}

impl Said {
    /// One after the other; then each note, once.
    pub fn together(parts: impl IntoIterator<Item = Said>) -> String {
        let (mut text, mut notes) = (String::new(), Vec::new());
        for part in parts {
            text += &part.rows;
            for note in part.notes {
                if !notes.contains(&note) {
                    notes.push(note);
                }
            }
        }
        notes.iter().for_each(|note| text += &format!("{note}\n"));
        text
    }
}

/// A line per hero head.
pub fn heroes(study: &ContrastStudy) -> Said {
    let contrast = study.contrast();
    let delta = |side| format!("Δ {}", contrast.key(side));
    let mut text = format!(
        "{:16} {:10} {:7} {:>9} {:>9} {:>9}\n",
        "model",
        "category",
        "head",
        delta(Side::A),
        delta(Side::B),
        "strength"
    );
    for hero in &study.heroes {
        let head = format!("L{}H{}", hero.head.layer, hero.head.head);
        let _ = writeln!(
            text,
            "{:16} {:10} {head:7} {:+9.3} {:+9.3} {:9.3}",
            marked(study, &hero.model),
            contrast.category(hero.head.category),
            hero.head.deltas[0],
            hero.head.deltas[1],
            hero.head.strength
        );
    }
    Said { rows: text, notes: what_marks_mean(study).into_iter().collect() }
}

/// The mark after the name of a model that does not do one of the tasks.
const MARK: &str = "*";

/// A model's name, marked if it does not do one of the tasks.
fn marked(study: &ContrastStudy, model: &str) -> String {
    let is_marked = study.joint.model(model).is_some_and(|m| !m.info.tasks_not_done().is_empty());
    if is_marked { format!("{model}{MARK}") } else { model.to_owned() }
}

/// Which tasks the marked models do not do; empty if none is marked.
fn what_marks_mean(study: &ContrastStudy) -> Option<String> {
    let not_done = cs_report::words::not_done(study.contrast(), study.joint.models.iter().map(|m| &m.info));
    not_done.map(|text| format!("{MARK} {text}"))
}

/// A line per model: both correlations with their intervals.
pub fn correlation(study: &ContrastStudy) -> Said {
    let with_ends = |r: Option<f64>, interval: Option<Interval>| match (r, interval) {
        (Some(r), Some(i)) => format!("{r:+.3} [{:+.3}, {:+.3}]", i.low, i.high),
        (Some(r), None) => format!("{r:+.3}"),
        (None, _) => "not defined".to_owned(),
    };
    let shown = |c: &TaskCorrelation| with_ends(c.estimate, c.shown().map(|(interval, _)| interval));
    let over_templates = |c: &TaskCorrelation| match c.templates {
        Some(i) => format!("[{:+.3}, {:+.3}]", i.low, i.high),
        None => "not estimable".to_owned(),
    };
    let mut text = format!(
        "{:16} {:>24}  {:>16}  {:>24}  {:>24}  {:>24}\n",
        "model", "Pearson", "over templates", "without noise", "Spearman", "Pearson, held out"
    );
    for model in &study.correlations {
        let corrected = match model.disattenuated {
            Disattenuated { value: None, .. } => "not estimable".to_owned(),
            Disattenuated { value, interval } => with_ends(value, interval),
        };
        let _ = writeln!(
            text,
            "{:16} {:>24}  {:>16}  {:>24}  {:>24}  {:>24}",
            marked(study, &model.info.model),
            shown(&model.pearson),
            over_templates(&model.pearson),
            corrected,
            shown(&model.spearman),
            shown(&model.held_out_pearson)
        );
    }
    let all_over_prompts = study
        .correlations
        .iter()
        .all(|c| c.pearson.shown().is_none_or(|(_, over)| over == IntervalOver::Prompts));
    let intervals = if all_over_prompts {
        "95% intervals over prompts: what as many other prompts would give for this model; over templates: what prompts of other \
         templates would. Without noise: corrected for the noise with which each effect is measured."
    } else {
        "95% intervals over heads, as if they were a sample of more, where the table knows nothing of the prompts."
    };
    let note = format!("Correlation of Δ between the tasks over a model's heads. {intervals}");
    Said { rows: text, notes: what_marks_mean(study).into_iter().chain([note]).collect() }
}

/// A line per task and pair: do heads transfer by index or by profile better than chance?
pub fn transfer(study: &ContrastStudy) -> Said {
    let number = |x: Option<f64>| x.map_or("-".to_owned(), |x| format!("{x:.3}"));
    let mut text = format!(
        "{:5} {:34} {:>5} {:>9} {:>9} {:>7} {:>7}\n",
        "task", "from -> to", "heads", "mean rank", "chance", "p", "p match"
    );
    for transfer in &study.transfers {
        let name = |at: usize| study.joint.models[at].info.model.as_str();
        let _ = writeln!(
            text,
            "{:5} {:34} {:5} {:>9} {:>9} {:>7} {:>7}",
            study.contrast().key(transfer.side),
            format!("{} -> {}", name(transfer.pair.base), name(transfer.pair.target)),
            transfer.by_index.heads.len(),
            number(transfer.by_index.mean_frac_rank),
            number(transfer.by_index.chance_frac_rank),
            number(transfer.by_index.p_value),
            number(transfer.by_profile.p_value)
        );
    }
    let note = "Mean rank: where the base model's strongest heads come among the target's, 0 first and 1 last, at the same layer and head \
                number; p match: matched by depth and effects instead.";
    Said { rows: text, notes: vec![note.to_owned()] }
}

/// A sentence per model about the audit of its rows.
pub fn audit(audits: &[ModelAudit]) -> String {
    audits.iter().map(|audit| audit.sentence() + "\n").collect()
}

/// A line per model: how well it does the tasks of a contrast (if the scans are available), and its heads per category.
pub fn summary(study: &ContrastStudy, with_scans: bool) -> Said {
    let contrast = study.contrast();
    let mut text = format!("{:16} {:>6}", "model", "heads");
    if with_scans {
        for key in contrast.keys() {
            let _ = write!(text, "  {:>14}", format!("{key} acc  diff"));
        }
    }
    for category in Category::ALL {
        let _ = write!(text, "  {:>9}", contrast.category(category));
    }
    for category in [Category::Shared, Category::Weak] {
        let _ = write!(text, "  {:>15}", format!("relative {}", contrast.category(category)));
    }
    text.push('\n');
    for model in &study.classified.models {
        let _ = write!(text, "{:16} {:6}", marked(study, &model.info.model), model.heads.len());
        for performance in model.info.performance.iter().filter(|_| with_scans) {
            text += &performance_text(performance);
        }
        for (category, count) in Category::ALL.into_iter().zip(model.counts()) {
            let width = contrast.category(category).len().max(9);
            let _ = write!(text, "  {count:width$}");
        }
        for category in [Category::Shared, Category::Weak] {
            let count = model.relative_counts().map(|counts| counts[category as usize]);
            let _ = write!(text, "  {:>15}", count.map_or("-".to_owned(), |n| n.to_string()));
        }
        text.push('\n');
    }
    let categories = format!(
        "A head counts for a task if ablating it moves the mean logit difference by {} or more; in relative categories, by {}% of the \
         model's own mean logit difference, where it does both tasks.",
        study.options.tau,
        100.0 * RELATIVE_TAU
    );
    let notes =
        what_marks_mean(study).into_iter().chain([categories]).chain(with_scans.then(accuracy_and_diff));
    Said { rows: text, notes: notes.collect() }
}

/// The values of the columns `acc` and `diff`.
fn accuracy_and_diff() -> String {
    format!("{ACCURACY} diff: the mean logit difference.")
}

/// Accuracy and mean logit difference, under a title of 14 characters.
fn performance_text(performance: &Performance) -> String {
    match (performance.accuracy, performance.logit_diff) {
        (Some(accuracy), Some(difference)) => format!("  {:6.1}% {difference:+6.2}", 100.0 * accuracy),
        _ => format!("  {:>14}", "-"),
    }
}

/// A summary of a run's tables: for each contrast, and in a study with more tasks first for every task.
pub fn study(study: &Study) -> String {
    let tasks = cs_report::figures::shows_tasks(study).then(|| tasks(study));
    let contrasts = study.contrasts.iter().map(|contrast| {
        let said = summary(contrast, true);
        Said { rows: titled(contrast, study.contrasts.len(), &said.rows), ..said }
    });
    Said::together(tasks.into_iter().chain(contrasts))
}

/// A text about a contrast, with its name as title if there are several.
pub fn titled(study: &ContrastStudy, n_contrasts: usize, text: &str) -> String {
    if n_contrasts > 1 { format!("{}\n{text}", study.contrast()) } else { text.to_owned() }
}

/// A line per model and task: how well it is done, and how many heads are strong.
fn tasks(study: &Study) -> Said {
    let mut is_any_marked = false;
    let mut text =
        format!("{:16} {:20} {:>14}  {:>6}  {:>8}\n", "model", "task", "acc  diff", "heads", "strong");
    for measures in &study.task_measures {
        let model = study.effects.model(&measures.info.model);
        let performance = model.and_then(|m| m.on(&measures.task)).map(|t| t.performance).unwrap_or_default();
        let is_marked = performance.does_task() == Some(false);
        is_any_marked |= is_marked;
        let mark = if is_marked { MARK } else { "" };
        let _ = writeln!(
            text,
            "{:16} {:19}{} {:6}  {:8}",
            measures.info.model,
            format!("{}{mark}", measures.task),
            performance_text(&performance),
            measures.n_heads,
            measures.n_strong
        );
    }
    let mut notes = vec![format!("strong: heads with |Δ| of {} logits or more.", study.options.tau)];
    notes.extend(is_any_marked.then(|| format!("{MARK} The model does not do the task.")));
    notes.push(accuracy_and_diff());
    Said { rows: text, notes }
}
