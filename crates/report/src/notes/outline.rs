//! `results_outline.md`: the structure of a paper's results, each point with its numbers, table and figure.

use cs_analysis::categories::Category;
use cs_analysis::study::Study;

use super::findings::{correlation_sentences, findings, law_sentence, limits};
use super::heading;
use crate::extras::Extras;
use crate::figures::palette::{Families, category_label, task_label};
use crate::figures::scale::{decimal, size_label};
use crate::words;

/// A section: its title, which findings belong to it, and its figures.
const SECTIONS: [(&str, &[&str], &[&str]); 5] = [
    ("Setup", &["What was measured", "Do the models do the tasks", "What the joint table is worth"], &[]),
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
        &["Causal influence", "Hero against random heads", "Sets against sums of heads", "Dissociation"],
        &["causal_ioi", "causal_anti", "hero_vs_random_ablation", "set_interaction", "dissociation"],
    ),
    ("From model to model", &["Transfer between models"], &["transfer"]),
];

/// The outline; `drawn` are the names of the figures of all models together that there are.
pub(super) fn outline(study: &Study, extras: &Extras, drawn: &[String]) -> String {
    let mut text = heading("Results outline", study);
    let all = findings(study, extras);
    for (number, (title, members, figures)) in SECTIONS.iter().enumerate() {
        text += &format!("## {}. {title}\n\n", number + 1);
        let mut said = 0;
        for finding in members.iter().filter_map(|m| all.iter().find(|f| f.title == *m)) {
            text += &format!("- **{}.** {} {}\n", finding.title, finding.text, finding.cited());
            said += 1;
        }
        if said == 0 {
            text += "- Nothing was measured for this section in this run.\n";
        }
        let is_there = |f: &&&str| f.ends_with("<model>") || drawn.iter().any(|name| name == **f);
        let names: Vec<String> = figures.iter().filter(is_there).map(|f| format!("`{f}`")).collect();
        if !names.is_empty() {
            text += &format!("- Figures, in `paper/figs`: {}.\n", names.join(", "));
        }
        text.push('\n');
        match number {
            0 => text += &model_table(study),
            1 => text += &per_family(study),
            2 => text += &more_laws(study),
            _ => {}
        }
    }
    text += &format!("## {}. Limits\n\n", SECTIONS.len() + 1);
    for limit in limits(study, extras) {
        text += &format!("- {limit}\n");
    }
    text
}

/// The models with their key numbers.
fn model_table(study: &Study) -> String {
    let mut text = String::from(
        "| model | family | size | heads | anti-only | IOI-only | shared | weak | relative: anti-only, IOI-only, shared, weak | r [95% interval] | does not do |\n|---|---|--:|--:|--:|--:|--:|--:|---|---|---|\n",
    );
    for (model, correlations) in study.classified.models.iter().zip(&study.correlations) {
        let counts = model.counts().map(words::count);
        let relative = model.relative_counts().map(|counts| counts.map(words::count).join(", "));
        let not_done: Vec<String> =
            model.info.tasks_not_done().into_iter().map(|task| task_label(task).to_owned()).collect();
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
    text + "\n[`head_category_summary.csv`, `corr_vs_scale_cross_family.csv`]\n\n"
}

fn escaped(cell: &str) -> String {
    cell.replace('|', "\\|")
}

/// The correlation, family by family.
fn per_family(study: &Study) -> String {
    let families = Families::new(study.joint.models.iter().map(|m| m.info.family.as_str()));
    if families.len() < 2 {
        return String::new();
    }
    let mut text =
        String::from("By family [`corr_vs_scale_cross_family.csv`, `head_category_summary.csv`]:\n\n");
    for family in families.names() {
        let models: Vec<_> = study.classified.models.iter().filter(|m| m.info.family == family).collect();
        let n: usize = models.iter().map(|m| m.heads.len()).sum();
        let counts: Vec<String> = Category::ALL
            .into_iter()
            .map(|c| {
                let count = models.iter().flat_map(|m| &m.heads).filter(|h| h.category == c).count();
                let share = if n > 0 { decimal(100.0 * count as f64 / n as f64, 1) } else { "–".into() };
                format!("{} {} ({share}%)", words::count(count), category_label(c))
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

/// Pooled lines of the measures that the findings leave out.
fn more_laws(study: &Study) -> String {
    let measures = [
        ("spearman", "Spearman's correlation"),
        ("corr_disattenuated", "Pearson's correlation, without the noise of measurement,"),
        ("frac_relative_shared", "The share of shared heads at relative thresholds"),
        ("frac_ioi_only", "The share of IOI-only heads"),
        ("frac_anti_only", "The share of anti-only heads"),
        ("top_5pct_share_ioi", "The share of Σ|Δ IOI| that the top 5% of heads hold"),
        ("top_5pct_share_anti", "The share of Σ|Δ anti-repeat| that the top 5% of heads hold"),
        ("mean_relative_depth_shared", "The mean relative depth of shared heads"),
    ];
    let mut text = String::from("Further lines, pooled over families [`scaling_laws.csv`]:\n\n");
    for (measure, name) in measures {
        if let Some(sentence) = law_sentence(study, measure, name) {
            text += &format!("- {sentence}\n");
        }
    }
    text + "\n"
}
