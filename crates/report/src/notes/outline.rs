//! `results_outline.md`: the structure of a paper's results, each point with its numbers, table and figure.

use cs_analysis::categories::Category;
use cs_analysis::contrast::Side;
use cs_analysis::study::{ContrastStudy, Study};

use super::findings::{Finding, correlation_sentences, findings, law_sentence, task_findings};
use super::{all_limits, bullets, contrast_title, heading};
use crate::error::Result;
use crate::extras::{ContrastExtras, Extras};
use crate::figures::palette::{Families, category_label, side_label, task_label};
use crate::figures::scale::{decimal, size_label};
use crate::figures::{names_of_all_models, shows_tasks};
use crate::words;

/// A section of a contrast: its title, findings and figures; `<a>` and `<b>` are the tasks.
const SECTIONS: [(&str, &[&str], &[&str]); 5] = [
    ("Setup", &["What was measured", "Do the models do the tasks", "Audit of the joint table"], &[]),
    (
        "One population of heads or two?",
        &[
            "Do the same heads do both tasks",
            "Categories of heads",
            "Strongest heads",
            "Held-out prompts",
            "Where hero heads attend",
        ],
        &["phase_space_all_heads", "family_grid", "scatter_<model>", "heatmap_<model>"],
    ),
    (
        "What changes with size",
        &["Change with size", "Concentration", "Depth"],
        &[
            "cross_family_correlation_vs_scale",
            "strong_head_scaling",
            "relative_head_scaling",
            "concentration_scaling",
            "layer_histogram_<model>",
        ],
    ),
    (
        "Causal role",
        &["Causal influence", "Hero vs. random heads", "Sets vs. sums of single heads", "Dissociation"],
        &["causal_<a>", "causal_<b>", "hero_vs_random_ablation", "set_interaction", "dissociation"],
    ),
    ("From model to model", &["Transfer between models"], &["transfer"]),
];

/// The outline of a study: for its only contrast, or for all tasks and then for each contrast.
///
/// # Errors
/// If a figure that it names cannot be drawn.
pub(super) fn outline(study: &Study, extras: &Extras) -> Result<String> {
    let mut text = heading("Results outline", study);
    if !shows_tasks(study) {
        for contrast in &study.contrasts {
            text += &of_contrast(contrast, &extras.of(contrast.contrast()), "##")?;
        }
        let number = SECTIONS.len() + 1;
        return Ok(text + &limits_section(&format!("{number}. Limits"), study, extras));
    }
    text += "## Tasks\n\n";
    text += &bullets(&task_findings(study, extras));
    let mut figures = vec!["`task_scaling`", "`effects_<model>`"];
    if !study.overlaps.is_empty() {
        figures.push("`task_overlap_<model>`");
    }
    text += &format!("- Figures, in `paper/figs`: {}.\n\n", figures.join(", "));
    text += &task_table(study);
    for contrast in &study.contrasts {
        text += &format!("## {}\n\n", contrast_title(contrast.contrast()));
        text += &of_contrast(contrast, &extras.of(contrast.contrast()), "###")?;
    }
    Ok(text + &limits_section("Limits", study, extras))
}

fn limits_section(title: &str, study: &Study, extras: &Extras) -> String {
    let limits = all_limits(study, extras);
    format!("## {title}\n\n") + &limits.iter().map(|limit| format!("- {limit}\n")).collect::<String>()
}

/// The outline of a contrast; `level` is the prefix of its section headings.
fn of_contrast(study: &ContrastStudy, extras: &ContrastExtras, level: &str) -> Result<String> {
    let drawn = names_of_all_models(study, extras)?;
    let all = findings(study, extras);
    let contrast = study.contrast();
    let [a, b] = contrast.keys();
    let folder = contrast.folder().map_or(String::new(), |folder| format!("/{folder}"));
    let mut text = String::new();
    for (number, (title, members, figures)) in SECTIONS.iter().enumerate() {
        text += &format!("{level} {}. {title}\n\n", number + 1);
        let said: Vec<Finding> =
            members.iter().filter_map(|m| all.iter().find(|f| f.title == *m)).cloned().collect();
        text += &bullets(&said);
        if said.is_empty() {
            text += "- Nothing was measured for this section in this run.\n";
        }
        let named = figures.iter().map(|figure| figure.replace("<a>", a).replace("<b>", b));
        let there = named.filter(|f| f.ends_with("<model>") || drawn.contains(f));
        let names: Vec<String> = there.map(|f| format!("`{f}`")).collect();
        if !names.is_empty() {
            text += &format!("- Figures, in `paper/figs{folder}`: {}.\n", names.join(", "));
        }
        text.push('\n');
        match number {
            0 => text += &model_table(study),
            1 => text += &per_family(study),
            2 => text += &more_laws(study),
            _ => {}
        }
    }
    Ok(text)
}

/// Every model with its accuracy and number of strong heads on each task.
fn task_table(study: &Study) -> String {
    let tasks: Vec<String> = study.effects.tasks.iter().map(|task| escaped(&task_label(task))).collect();
    let columns: String =
        tasks.iter().map(|task| format!(" accuracy {task} | heads at τ, {task} |")).collect();
    let mut text =
        format!("| model | family | size |{columns}\n|---|---|--:|{}\n", "--:|--:|".repeat(tasks.len()));
    for model in &study.effects.models {
        let info = &model.info;
        let size = info.params_m.map_or("unknown".into(), size_label);
        text += &format!("| {} | {} | {size} |", escaped(&info.model), escaped(&info.family));
        for task in &study.effects.tasks {
            let accuracy = model.on(task).and_then(|t| t.performance.accuracy);
            let measures = study.task_measures.iter().find(|m| m.info.model == info.model && m.task == *task);
            let accuracy = accuracy.map_or("–".into(), |a| format!("{}%", decimal(100.0 * a, 1)));
            let strong = measures.map_or("–".into(), |m| {
                format!("{} of {}", words::count(m.n_strong), words::count(m.n_heads))
            });
            text += &format!(" {accuracy} | {strong} |");
        }
        text.push('\n');
    }
    text + "\n[`task_measures.csv`]\n\n"
}

/// The models with their key numbers.
fn model_table(study: &ContrastStudy) -> String {
    let contrast = study.contrast();
    let categories = Category::ALL.map(|c| category_label(contrast, c));
    let mut text = format!(
        "| model | family | size | heads | {} | relative: {} | r [95% interval] | does not do \
         |\n|---|---|--:|--:|--:|--:|--:|--:|---|---|---|\n",
        categories.join(" | "),
        categories.join(", "),
    );
    for (model, correlations) in study.classified.models.iter().zip(&study.correlations) {
        let counts = model.counts().map(words::count);
        let relative = model.relative_counts().map(|counts| counts.map(words::count).join(", "));
        let not_done: Vec<String> =
            model.info.tasks_not_done().into_iter().map(|task| side_label(contrast, task)).collect();
        text += &format!(
            "| {} | {} | {} | {} | {} | {} | {} | {} |\n",
            escaped(&model.info.model),
            escaped(&model.info.family),
            model.info.params_m.map_or("unknown".into(), size_label),
            words::count(model.heads.len()),
            counts.join(" | "),
            relative.unwrap_or_else(|| "–".into()),
            words::correlation(&correlations.pearson),
            if not_done.is_empty() { "–".to_owned() } else { words::list(&not_done) },
        );
    }
    let sources = ["head_category_summary", "corr_vs_scale_cross_family"].map(|name| contrast.table(name));
    text + &format!("\n[`{}.csv`, `{}.csv`]\n\n", sources[0], sources[1])
}

fn escaped(cell: &str) -> String {
    cell.replace('|', "\\|")
}

/// The correlation, family by family.
fn per_family(study: &ContrastStudy) -> String {
    let families = Families::new(study.joint.models.iter().map(|m| m.info.family.as_str()));
    if families.len() < 2 {
        return String::new();
    }
    let contrast = study.contrast();
    let sources = ["corr_vs_scale_cross_family", "head_category_summary"].map(|name| contrast.table(name));
    let mut text = format!("By family [`{}.csv`, `{}.csv`]:\n\n", sources[0], sources[1]);
    for family in families.names() {
        let models: Vec<_> = study.classified.models.iter().filter(|m| m.info.family == family).collect();
        let n: usize = models.iter().map(|m| m.heads.len()).sum();
        let counts: Vec<String> = Category::ALL
            .into_iter()
            .map(|c| {
                let count = models.iter().flat_map(|m| &m.heads).filter(|h| h.category == c).count();
                let share = if n > 0 { decimal(100.0 * count as f64 / n as f64, 1) } else { "–".into() };
                format!("{} {} ({share}%)", words::count(count), category_label(contrast, c))
            })
            .collect();
        text += &format!(
            "- {family}: {} Heads: {}.\n",
            correlation_sentences(study, |info| info.family == family),
            words::list(&counts)
        );
    }
    text + "\n"
}

/// Pooled lines for the measures that the findings omit.
fn more_laws(study: &ContrastStudy) -> String {
    let contrast = study.contrast();
    let shares = [Category::OnlyA, Category::OnlyB].map(|c| {
        let name = format!("The share of {} heads", category_label(contrast, c));
        (format!("frac_{}", contrast.category(c)), name)
    });
    let tops = Side::BOTH.map(|side| {
        let name = format!("The share of Σ|Δ {}| held by the top 5% of heads", side_label(contrast, side));
        (format!("top_5pct_share_{}", contrast.key(side)), name)
    });
    let measures = [
        ("spearman", "Spearman's correlation"),
        ("corr_disattenuated", "Pearson's correlation, corrected for measurement noise,"),
        ("frac_relative_shared", "The share of shared heads at relative thresholds"),
    ];
    let measures = measures.map(|(measure, name)| (measure.to_owned(), name.to_owned())).into_iter();
    let depth =
        ("mean_relative_depth_shared".to_owned(), "The mean relative depth of shared heads".to_owned());
    let measures = measures.chain(shares).chain(tops).chain([depth]);
    let mut text = format!(
        "Further scaling lines, pooled over families [`{}.csv`]:\n\n",
        contrast.table("scaling_laws")
    );
    for (measure, name) in measures {
        if let Some(sentence) = law_sentence(study, &measure, &name) {
            text += &format!("- {sentence}\n");
        }
    }
    text + "\n"
}
