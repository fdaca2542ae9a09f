//! What the numbers say, one claim at a time.

use cs_analysis::ablation::{SetKind, SummaryRow, TEST_TABLE};
use cs_analysis::attention::TokenRole;
use cs_analysis::categories::{Category, ClassifiedHead, RELATIVE_TAU};
use cs_analysis::joint::{ModelInfo, StudyTask};
use cs_analysis::model_measures::{IntervalOver, ModelCorrelations, TaskCorrelation};
use cs_analysis::scaling::{FEWEST_SIZES, POOLED, ScalingLaw};
use cs_analysis::scan_file::{Baseline, TOP_HEADS};
use cs_analysis::stats::Interval;
use cs_analysis::stats::interval::FEWEST_PROMPTS;
use cs_analysis::study::Study;
use cs_analysis::table::Values;
use cs_analysis::tracing::CausalResult;

use crate::extras::Extras;
use crate::figures::causal::of_task;
use crate::figures::palette::{category_label, task_label};
use crate::figures::scale::decimal;
use crate::numbers::{SIGNIFICANT, numbers};
use crate::words;

/// A claim and where it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What it is about.
    pub title: &'static str,
    /// Whole sentences.
    pub text: String,
    /// Tables and files that say it.
    pub sources: Vec<&'static str>,
}

impl Finding {
    fn new(title: &'static str, text: String, sources: &[&'static str]) -> Self {
        Self { title, text, sources: sources.to_vec() }
    }

    /// The sources in brackets, as Markdown.
    #[must_use]
    pub fn cited(&self) -> String {
        let files: Vec<String> = self.sources.iter().map(|s| format!("`{s}`")).collect();
        format!("[{}]", files.join(", "))
    }
}

/// What the study finds, in the order in which a paper would tell it.
#[must_use]
pub fn findings(study: &Study, extras: &Extras) -> Vec<Finding> {
    let mut findings = vec![measured(study)];
    findings.extend(baselines(study, extras));
    findings.extend([correlations(study), categories(study), strongest(study)]);
    findings.extend([scaling(study), concentration(study), depth(study)]);
    findings.extend(winners_curse(study));
    findings.extend(attention(study, extras));
    findings.extend(influence(study, extras));
    findings.extend(hero_sets(extras));
    findings.extend(interaction(extras));
    findings.extend(dissociation(extras));
    findings.push(transfer(study));
    findings.push(audit(study));
    findings
}

fn models(n: usize) -> String {
    words::counted(n, "model", "models")
}

fn heads(n: usize) -> String {
    words::counted(n, "head", "heads")
}

fn measured(study: &Study) -> Finding {
    let table = &study.joint;
    let mut families: Vec<String> = table.models.iter().map(|m| m.info.family.clone()).collect();
    families.dedup();
    let both = study.classified.models.iter().map(|m| m.heads.len()).sum::<usize>();
    let mut text = format!(
        "{} of {} in {} ({}) {} measured on both tasks.",
        heads(both),
        models(table.models.len()),
        words::counted(families.len(), "family", "families"),
        words::list(&families),
        if both == 1 { "was" } else { "were" },
    );
    let mut methods: Vec<String> = table.models.iter().filter_map(|m| words::method(&m.info)).collect();
    methods.dedup();
    match methods.as_slice() {
        [] => text += " The table does not say how the effects were measured.",
        [method] => text += &format!(" Method: {method}."),
        several => text += &format!(" Methods differ between models: {}.", several.join("; ")),
    }
    let left = table.n_rows() - both;
    if left > 0 {
        text += &format!(" {} more lack a value on at least one task and have no category.", heads(left));
    }
    Finding::new("What was measured", text, &["joint_ioi_anti_repeat_all.csv"])
}

fn baselines(study: &Study, extras: &Extras) -> Option<Finding> {
    if extras.baselines.is_empty() {
        return None;
    }
    let sentence = |task: StudyTask| {
        let all: Vec<&Baseline> =
            extras.baselines.iter().filter(|b| b.task == task).map(|b| &b.main).collect();
        let prefer = all.iter().filter(|b| b.base_logit_diff_mean > 0.0).count();
        let right = all.iter().filter(|b| b.base_accuracy > 0.5).count();
        let accuracy = all.iter().map(|b| 100.0 * b.base_accuracy);
        let (low, high) = accuracy.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), a| (l.min(a), h.max(a)));
        format!(
            "On {}, the correct name is preferred to the distractor on average in {} of {}, and comes first among all candidate names on \
             more than half of the prompts in {} (accuracy {}).",
            task_label(task),
            prefer,
            models(all.len()),
            right,
            words::from_to(low, high, 1, "%"),
        )
    };
    let mut text = StudyTask::BOTH.map(sentence).join(" ")
        + " Where a model does not do a task, the effects of its heads say little about how the task is done.";
    if let Some(not_done) = words::not_done(study.joint.models.iter().map(|m| &m.info)) {
        text += &format!(" {not_done}");
    }
    Some(Finding::new("Do the models do the tasks", text, &["results/*_logitdiff_scan_*.json"]))
}

/// How many correlations are positive, and how many intervals lie to either side of 0.
struct Signs {
    known: usize,
    positive: usize,
    with_interval: usize,
    above: usize,
    below: usize,
}

impl Signs {
    fn new(correlations: impl Iterator<Item = TaskCorrelation>) -> Self {
        let mut signs = Self { known: 0, positive: 0, with_interval: 0, above: 0, below: 0 };
        for correlation in correlations {
            let Some(estimate) = correlation.estimate else { continue };
            signs.known += 1;
            signs.positive += usize::from(estimate > 0.0);
            if let Some((interval, _)) = correlation.shown() {
                signs.with_interval += 1;
                signs.above += usize::from(interval.low > 0.0);
                signs.below += usize::from(interval.high < 0.0);
            }
        }
        signs
    }

    fn sentence(&self, of: &str) -> String {
        if self.known == 0 {
            return format!("{of} is defined for no model.");
        }
        let intervals = match self.with_interval {
            0 => "no interval can be estimated".to_owned(),
            n => format!(
                "of {}, {} {} wholly above 0 and {} wholly below",
                words::counted(n, "interval", "intervals"),
                self.above,
                if self.above == 1 { "lies" } else { "lie" },
                self.below
            ),
        };
        format!("{of} is positive in {} of {}; {intervals}.", self.positive, models(self.known))
    }
}

pub(super) fn correlation_sentences(study: &Study, keep: impl Fn(&ModelInfo) -> bool) -> String {
    type Of = fn(&ModelCorrelations) -> TaskCorrelation;
    let kinds: [(&str, Of); 3] = [
        ("Pearson's correlation between Δ IOI and Δ anti-repeat over a model's heads", |c| c.pearson),
        ("Spearman's", |c| c.spearman),
        ("Pearson's on held-out prompts", |c| c.held_out_pearson),
    ];
    let sentence = |(name, of): (&str, Of)| {
        let signs = Signs::new(study.correlations.iter().filter(|c| keep(&c.info)).map(of));
        (signs.known > 0 || !name.contains("held-out")).then(|| signs.sentence(name))
    };
    kinds.into_iter().filter_map(sentence).collect::<Vec<_>>().join(" ")
}

fn correlations(study: &Study) -> Finding {
    let mut text = correlation_sentences(study, |_| true);
    if let Some(over) = words::intervals_over(study.correlations.iter().map(|c| &c.pearson)) {
        text += &format!(" These intervals are over {over}.");
    }
    let templates: Vec<Interval> = study.correlations.iter().filter_map(|c| c.pearson.templates).collect();
    if !templates.is_empty() {
        let zero = templates.iter().filter(|i| i.low <= 0.0 && i.high >= 0.0).count();
        text += &format!(
            " Over templates (what prompts of other templates would give for the same model), Pearson's interval includes 0 in {zero} of {}.",
            models(templates.len())
        );
    }
    let corrected: Vec<f64> = study.correlations.iter().filter_map(|c| c.disattenuated.value).collect();
    if let Some(first) = corrected.first() {
        let (low, high) = corrected.iter().fold((*first, *first), |(l, h), v| (l.min(*v), h.max(*v)));
        text += &format!(
            " Without the noise of measurement, which pulls a correlation towards 0, Pearson's is {} in {}.",
            words::from_to(low, high, 2, ""),
            models(corrected.len())
        );
    }
    Finding::new("Do the same heads do both tasks", text, &["corr_vs_scale_cross_family.csv"])
}

fn categories(study: &Study) -> Finding {
    let classified = &study.classified;
    let all: usize = classified.models.iter().map(|m| m.heads.len()).sum();
    let share = |n: usize| {
        if all > 0 { format!("{}%", decimal(100.0 * n as f64 / all as f64, 1)) } else { "–".into() }
    };
    let counts = classified.models.iter().fold([0; 4], |mut sum, m| {
        sum.iter_mut().zip(m.counts()).for_each(|(sum, n)| *sum += n);
        sum
    });
    let parts: Vec<String> = Category::ALL
        .into_iter()
        .zip(counts)
        .map(|(c, n)| format!("{} {} ({})", words::count(n), category_label(c), share(n)))
        .collect();
    let with_shared = classified.models.iter().filter(|m| m.counts()[Category::Shared as usize] > 0).count();
    let all_weak =
        classified.models.iter().filter(|m| m.heads.iter().all(|h| h.category == Category::Weak)).count();
    let mut text = format!(
        "At τ = {} logits, {} are {}. {} of {} {} at least one shared head; in {} all heads are weak.",
        study.options.tau,
        heads(all),
        words::list(&parts),
        with_shared,
        models(classified.models.len()),
        if with_shared == 1 || classified.models.len() == 1 { "has" } else { "have" },
        all_weak,
    );
    let unstable: Option<Vec<usize>> = classified.models.iter().map(|m| m.n_unstable()).collect();
    text += &match unstable {
        Some(unstable) => format!(
            " The category of {} of {} is not stable: when the prompts are resampled it changes with a probability above 5%.",
            words::count(unstable.iter().sum()),
            heads(all)
        ),
        None => {
            " How stable these categories are cannot be said: the table holds no probabilities for this τ."
                .to_owned()
        }
    };
    text += &relative_sentence(study);
    Finding::new("Categories of heads", text, &["head_category_summary.csv", "tau_sweep.csv"])
}

/// The categories at thresholds relative to what each model does, and who has none.
fn relative_sentence(study: &Study) -> String {
    let classified = &study.classified.models;
    let counted: Vec<[usize; 4]> = classified.iter().filter_map(|m| m.relative_counts()).collect();
    let percent = decimal(100.0 * RELATIVE_TAU, 0);
    let mut text = match counted.len() {
        0 => format!(
            " No model has categories relative to its own logit differences (|Δ| ≥ {percent}% of them): none is known to do both tasks."
        ),
        n => {
            let sums = counted.iter().fold([0; 4], |mut sums, counts| {
                sums.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
                sums
            });
            let named = Category::ALL.into_iter().zip(sums);
            let parts: Vec<String> =
                named.map(|(c, n)| format!("{} {}", words::count(n), category_label(c))).collect();
            format!(
                " Relative to a model's own mean logit difference on a task (|Δ| ≥ {percent}% of it), which compares across models, the heads of \
                 {} are {}.",
                models(n),
                words::list(&parts)
            )
        }
    };
    let without = classified.iter().filter(|m| m.relative_counts().is_none());
    let names: Vec<String> = without.map(|m| m.info.model.clone()).collect();
    if !names.is_empty() && !counted.is_empty() {
        text += &format!(" Without, for not doing both tasks as far as is known: {}.", words::list(&names));
    }
    text
}

/// Heads that the finding on strongest heads names.
const NAMED: usize = 5;

fn strongest(study: &Study) -> Finding {
    let mut top: Vec<(&str, &ClassifiedHead)> = study
        .classified
        .models
        .iter()
        .filter_map(|m| {
            let head = m.heads.iter().max_by(|a, b| a.strength.total_cmp(&b.strength))?;
            Some((m.info.model.as_str(), head))
        })
        .collect();
    top.sort_by(|a, b| b.1.strength.total_cmp(&a.1.strength));
    let of = top.len();
    top.truncate(NAMED);
    let named: Vec<String> = top
        .iter()
        .map(|(model, head)| {
            let measured = study.joint.model(model).and_then(|m| m.head(head.layer, head.head));
            let effects = StudyTask::BOTH.map(|task| {
                let interval = measured
                    .and_then(|row| row.effect(task).detail.as_deref())
                    .and_then(|detail| words::signed_range(detail.ci_low, detail.ci_high));
                let delta = if task == StudyTask::Ioi { head.delta_ioi } else { head.delta_anti };
                format!("Δ {} {}{}", task_label(task), words::signed(delta), interval.unwrap_or_default())
            });
            format!("{model} {} ({})", words::head(head.layer, head.head), effects.join(", "))
        })
        .collect();
    let text = match named.len() {
        0 => "No head was measured on both tasks.".to_owned(),
        n if n < of => format!(
            "By |Δ IOI| + |Δ anti-repeat|, the strongest heads of the {n} models whose strongest are largest: {}.",
            named.join("; ")
        ),
        _ => format!("The strongest head of each model by |Δ IOI| + |Δ anti-repeat|: {}.", named.join("; ")),
    };
    Finding::new("Strongest heads", text, &["hero_heads_for_paper.csv"])
}

fn law<'a>(study: &'a Study, measure: &str) -> Option<&'a ScalingLaw> {
    study.scaling_laws.iter().find(|l| l.measure == measure && l.family == POOLED)
}

/// A pooled scaling law in words.
pub(super) fn law_sentence(study: &Study, measure: &str, name: &str) -> Option<String> {
    let law = law(study, measure)?;
    let left_out = match &law.left_out[..] {
        [] => String::new(),
        names => format!("; left out: {}", words::list(names)),
    };
    Some(match &law.line {
        Ok(line) => {
            let interval = line.slope_interval;
            let zero = if interval.low > 0.0 || interval.high < 0.0 { "excludes" } else { "includes" };
            format!(
                "{name} changes by {} {} with each tenfold size (n = {}, q = {}{left_out}); the interval {zero} 0.",
                decimal(line.slope, 3),
                words::interval(interval, 3),
                law.n,
                law.q_value.map_or("–".into(), |q| decimal(q, 3)),
            )
        }
        Err(_) => format!("{name}: no line can be estimated (n = {}{left_out}).", law.n),
    })
}

fn scaling(study: &Study) -> Finding {
    let estimated = study.scaling_laws.iter().filter(|l| l.line.is_ok()).count();
    let significant =
        study.scaling_laws.iter().filter(|l| l.q_value.is_some_and(|q| q <= SIGNIFICANT)).count();
    let measures = [
        ("corr", "Pearson's correlation"),
        ("frac_strong", "The share of heads that are not weak"),
        ("frac_shared", "The share of shared heads"),
        ("frac_relative_strong", "The share of heads that are not weak at relative thresholds"),
    ];
    let mut text = format!(
        "{} of {} lines of a measure against log₁₀ of the size could be estimated; {} of their slopes {} q ≤ {SIGNIFICANT}. Pooled over \
         families, with an intercept for each: ",
        words::count(estimated),
        words::count(study.scaling_laws.len()),
        words::count(significant),
        if significant == 1 { "has" } else { "have" },
    );
    text +=
        &measures.iter().filter_map(|(m, name)| law_sentence(study, m, name)).collect::<Vec<_>>().join(" ");
    Finding::new("Change with size", text, &["scaling_laws.csv", "model_measures.csv"])
}

/// Smallest and largest of a measure over the models that have it.
fn range(study: &Study, measure: &str) -> Option<(f64, f64, usize)> {
    let column = cs_analysis::model_measures::measure_names().iter().position(|n| n == measure)?;
    let values: Vec<f64> = study.measures.iter().filter_map(|m| m.values[column]).collect();
    let first = *values.first()?;
    let (low, high) = values.iter().fold((first, first), |(l, h), v| (l.min(*v), h.max(*v)));
    Some((low, high, values.len()))
}

fn concentration(study: &Study) -> Finding {
    let sentence = |task: StudyTask| match range(study, &format!("top_5pct_share_{}", task.name())) {
        Some((low, high, n)) => format!(
            "On {}, the strongest 5% of a model's heads (interpolated between whole heads) hold {} of Σ|Δ| in {}.",
            task_label(task),
            words::from_to(100.0 * low, 100.0 * high, 1, "%"),
            models(n)
        ),
        None => format!("On {}, no effect was measured.", task_label(task)),
    };
    Finding::new("Concentration", StudyTask::BOTH.map(sentence).join(" "), &["model_measures.csv"])
}

fn depth(study: &Study) -> Finding {
    let parts: Vec<String> = [Category::IoiOnly, Category::AntiOnly, Category::Shared]
        .into_iter()
        .map(|c| match range(study, &format!("mean_relative_depth_{c}")) {
            Some((low, high, n)) => format!(
                "{} heads lie at a mean depth of {} in the {} that {} some",
                category_label(c),
                words::from_to(low, high, 2, ""),
                models(n),
                if n == 1 { "has" } else { "have" },
            ),
            None => format!("no model has {} heads", category_label(c)),
        })
        .collect();
    let text = format!("With 0 the first layer and 1 the last: {}.", parts.join("; "));
    Finding::new("Depth", text, &["model_measures.csv"])
}

fn winners_curse(study: &Study) -> Option<Finding> {
    let rows = &study.winners_curse;
    if rows.is_empty() {
        return None;
    }
    // The mean effect on held-out prompts, with the sign it was picked with, for each logit where it was picked.
    let mut left: Vec<f64> =
        rows.iter().map(|r| r.mean_held_out / r.mean_abs_delta).filter(|s| s.is_finite()).collect();
    left.sort_by(f64::total_cmp);
    let (lower, upper) = (left.get((left.len().max(1) - 1) / 2)?, left.get(left.len() / 2)?);
    let median = (lower + upper) / 2.0;
    let (same, of) = rows.iter().fold((0, 0), |(s, n), r| (s + r.n_same_sign, n + r.n_heads));
    let text = format!(
        "A model's strongest heads on a task (at most {TOP_HEADS}) were judged on prompts that did not pick them: for each logit of mean |Δ| \
         where they were picked, their mean held-out Δ, counted with the picked sign, is {} (median {} over {}); {} of {} keep their sign.",
        words::from_to(*left.first()?, *left.last()?, 2, ""),
        decimal(median, 2),
        words::counted(left.len(), "pair of model and task", "pairs of model and task"),
        words::count(same),
        heads(of),
    );
    Some(Finding::new("Held-out prompts", text, &["winners_curse.csv"]))
}

/// Which kind of token gets most of the attention of hero heads.
fn attention(study: &Study, extras: &Extras) -> Option<Finding> {
    let file = extras.attention.first()?;
    let sentence = |task: StudyTask| {
        let heroes = study.heroes.iter().filter(|h| h.head.category != Category::Weak);
        let mut counts = [0; TokenRole::ALL.len()];
        heroes
            .filter_map(|h| extras.attention_of(&h.model, h.head.layer, h.head.head, task))
            .for_each(|head| counts[head.by_weight()[0].0 as usize] += 1);
        let n = counts.iter().sum::<usize>();
        if n == 0 {
            return format!("On {}, there is no hero head that is not weak.", task_label(task));
        }
        let mut roles: Vec<(usize, TokenRole)> = counts.into_iter().zip(TokenRole::ALL).collect();
        roles.retain(|(count, _)| *count > 0);
        roles.sort_by_key(|(count, _)| std::cmp::Reverse(*count));
        let roles: Vec<String> = roles
            .iter()
            .map(|(count, role)| format!("{} in {}", role.label(), words::count(*count)))
            .collect();
        let heads = if n == 1 { "hero head that is not weak" } else { "hero heads that are not weak" };
        format!("On {}, of {} {heads}: {}.", task_label(task), words::count(n), words::list(&roles))
    };
    let text = format!(
        "The kind of token that gets most of a head's attention at the last token, over {}. {}",
        words::prompts_of(file.origin.split),
        StudyTask::BOTH.map(sentence).join(" ")
    );
    Some(Finding::new("Where hero heads attend", text, &["attention_at_last_token.csv"]))
}

/// How many hero heads bring part of the clean answer back, by their normalised influence: one relative to how far the clean
/// run lies from the corrupted one, which has a sign of its own in a model that does not do the task.
fn influence(study: &Study, extras: &Extras) -> Option<Finding> {
    if extras.traced.is_empty() {
        return None;
    }
    let sentence = |task: StudyTask| {
        let does = |model: &str| {
            study.joint.model(model).is_none_or(|m| m.info.performance(task).does_task() != Some(false))
        };
        let of_doing: Vec<&CausalResult> = extras.traced.iter().filter(|r| does(&r.model)).collect();
        let influences = || of_doing.iter().map(|r| of_task(r, task).1);
        let above = influences().filter(|i| i.normalised_ci_low.is_some_and(|low| low > 0.0)).count();
        let below = influences().filter(|i| i.normalised_ci_high.is_some_and(|high| high < 0.0)).count();
        let significant = influences().filter(|i| i.q_value <= SIGNIFICANT).count();
        let size = |r: &CausalResult| of_task(r, task).1.normalised.map_or(0.0, f64::abs);
        let largest = of_doing.iter().max_by(|a, b| size(a).total_cmp(&size(b)));
        let largest = largest.and_then(|r| {
            let influence = of_task(r, task).1;
            let ends = words::signed_range(influence.normalised_ci_low, influence.normalised_ci_high);
            Some(format!(
                "; the largest in size is that of {} {}, {}{}",
                r.model,
                words::head(r.layer, r.head),
                words::signed(influence.normalised?),
                ends.unwrap_or_default()
            ))
        });
        let mut left_out: Vec<String> =
            extras.traced.iter().filter(|r| !does(&r.model)).map(|r| r.model.clone()).collect();
        left_out.dedup();
        let left_out = match left_out[..] {
            [] => String::new(),
            _ => format!(" Left out, for not doing the task: {}.", words::list(&left_out)),
        };
        format!(
            "On {}, the interval of the normalised influence (0: as the corrupted run, 1: as the clean one) of {above} of {} {} lies above 0 (they \
             bring part of the clean answer back) and of {below} below; {significant} have q ≤ {SIGNIFICANT}{}.{left_out}",
            task_label(task),
            words::count(of_doing.len()),
            if of_doing.len() == 1 { "hero head" } else { "hero heads" },
            largest.unwrap_or_default(),
        )
    };
    let mut text = StudyTask::BOTH.map(sentence).join(" ");
    let weak = extras.traced.iter().filter(|r| r.category == Category::Weak.name()).count();
    if weak > 0 {
        text += &format!(
            " Of all traced heads, {} {} weak.",
            words::count(weak),
            if weak == 1 { "is" } else { "are" }
        );
    }
    Some(Finding::new("Causal influence", text, &["hero_head_causal_summary.csv"]))
}

fn hero_sets(extras: &Extras) -> Option<Finding> {
    let all = |kind: SetKind| {
        extras.ablated.iter().filter(move |r| r.set_type == kind.name() && r.mean_diff_ioi.is_some())
    };
    // The largest hero set of each model, and the random sets of that size.
    let mut compared: Vec<(&SummaryRow, &SummaryRow)> = Vec::new();
    for hero in all(SetKind::Hero) {
        let Some(random) = all(SetKind::Random).find(|r| r.model == hero.model && r.k == hero.k) else {
            continue;
        };
        match compared.iter_mut().find(|c| c.0.model == hero.model) {
            Some(known) if known.0.k < hero.k => *known = (hero, random),
            Some(_) => {}
            None => compared.push((hero, random)),
        }
    }
    if compared.is_empty() {
        return None;
    }
    let below = |value: fn(&SummaryRow) -> Option<f64>, low: fn(&SummaryRow) -> Option<f64>| {
        compared
            .iter()
            .filter(|(hero, random)| value(hero).zip(low(random)).is_some_and(|(v, l)| v < l))
            .count()
    };
    let mut text = format!(
        "At the largest number of heads for which both exist, the hero set leaves a smaller difference between the correct name and the others \
         than the central 95% of the random sets in {} of {} on IOI and in {} on anti-repeat, over {}.",
        below(|r| r.mean_diff_ioi, |r| r.mean_diff_ioi_low),
        models(compared.len()),
        below(|r| r.mean_diff_anti, |r| r.mean_diff_anti_low),
        extras.ablation_prompts(),
    );
    let mut sources = vec!["hero_vs_random_ablation_summary.csv"];
    let tests = extras.tables.iter().find(|t| t.name == TEST_TABLE);
    if let Some(q_values) = tests.and_then(|t| t.column("q_value")).and_then(as_floats) {
        let n = q_values.len();
        let significant = q_values.iter().filter(|q| **q <= SIGNIFICANT).count();
        text += &format!(
            " Of {} of a hero set against random sets (each size, category, task and measure, and heads drawn from all layers or, where \
             that finds something, from the same ones), {} {} q ≤ {SIGNIFICANT}.",
            words::counted(n, "test", "tests"),
            words::count(significant),
            if significant == 1 { "has" } else { "have" },
        );
        let floats = |name| tests.and_then(|t| t.column(name)).and_then(as_floats).unwrap_or_default();
        let ends = |values: Vec<f64>| {
            let low = values.iter().copied().reduce(f64::min)?;
            Some((low, values.into_iter().reduce(f64::max)?))
        };
        if let Some((fewest, most)) = ends(floats("n_behind_p").into_iter().filter(|n| *n > 0.0).collect()) {
            text += &format!(
                " Random sets are drawn one after the other as long as they decide something: {} of them stand behind a p-value, which \
                 therefore is {} at least, before it is adjusted.",
                words::from_to(fewest, most, 0, ""),
                decimal(2.0 / (most + 1.0), 4)
            );
        }
        sources.push("hero_vs_random_tests.csv");
    }
    Some(Finding::new("Hero against random heads", text, &sources))
}

/// Whether the heads of a set do together what each does alone.
fn interaction(extras: &Extras) -> Option<Finding> {
    // The largest hero set of each model.
    let mut largest: Vec<&SummaryRow> = Vec::new();
    let heroes = extras.ablated.iter().filter(|r| r.set_type == SetKind::Hero.name() && r.k > 1);
    for hero in heroes.filter(|r| r.interaction_ioi.is_some() && r.interaction_anti.is_some()) {
        match largest.iter_mut().find(|known| known.model == hero.model) {
            Some(known) if known.k < hero.k => *known = hero,
            Some(_) => {}
            None => largest.push(hero),
        }
    }
    if largest.is_empty() {
        return None;
    }
    type Of = fn(&SummaryRow) -> [Option<f64>; 3];
    let tasks: [(&str, Of); 2] = [
        ("IOI", |r| [r.sum_delta_ioi, r.interaction_ioi_low, r.interaction_ioi_high]),
        ("anti-repeat", |r| [r.sum_delta_anti, r.interaction_anti_low, r.interaction_anti_high]),
    ];
    let parts = tasks.map(|(task, of)| {
        let (mut more, mut less) = (0, 0);
        for row in &largest {
            let [Some(sum), Some(low), Some(high)] = of(row) else { continue };
            let sign = if low > 0.0 {
                1.0
            } else if high < 0.0 {
                -1.0
            } else {
                continue;
            };
            if sign * sum > 0.0 { more += 1 } else { less += 1 }
        }
        format!("more in {} and less in {} on {task}", words::count(more), words::count(less))
    });
    let text = format!(
        "Ablated together, the heads of the largest hero set of all categories do not always do what their single effects add up to: of \
         {}, {}, each with 95% confidence over prompts. Less than the sum is what heads do that stand in for each other or work in one \
         chain; more, that they are each other's backup.",
        models(largest.len()),
        parts.join(", and "),
    );
    Some(Finding::new("Sets against sums of heads", text, &["hero_vs_random_ablation_summary.csv"]))
}

/// The numbers of a column; one that was read from a file holds whole numbers where all happen to be whole.
fn as_floats(values: &Values) -> Option<Vec<f64>> {
    match values {
        Values::Float(cells) => Some(cells.iter().flatten().copied().collect()),
        Values::Integer(cells) => Some(cells.iter().flatten().map(|n| *n as f64).collect()),
        _ => None,
    }
}

fn dissociation(extras: &Extras) -> Option<Finding> {
    if extras.dissociation.is_empty() {
        return None;
    }
    let tested: Vec<bool> = extras.dissociation.iter().filter_map(|r| r.double_dissociation).collect();
    let index: Vec<f64> = extras.dissociation.iter().filter_map(|r| r.index).collect();
    let above = extras.dissociation.iter().filter(|r| r.index_ci_low.is_some_and(|low| low > 0.0)).count();
    let without = extras.dissociation.len() - tested.len();
    let mut text = if tested.is_empty() {
        format!(
            "None of {} has helping heads of both kinds, IOI-only and anti-only, to ablate together.",
            models(without)
        )
    } else {
        format!(
            "Ablating helping IOI-only heads hurts IOI more than ablating as many helping anti-only heads does, and the other way round on \
             anti-repeat, with 95% confidence in both, in {} of {} with heads of both kinds to ablate; {} {} such heads.",
            tested.iter().filter(|&&double| double).count(),
            models(tested.len()),
            models(without),
            if without == 1 { "lacks" } else { "lack" },
        )
    };
    if let Some(first) = index.first() {
        let (low, high) = index.iter().fold((*first, *first), |(l, h), v| (l.min(*v), h.max(*v)));
        text += &format!(
            " The index of dissociation, 1 where each task has heads of its own and 0 where all heads are shared, is {} in {}; its interval \
             lies wholly above 0 in {above}.",
            words::from_to(low, high, 2, ""),
            models(index.len())
        );
    }
    Some(Finding::new("Dissociation", text, &["dissociation.csv"]))
}

fn transfer(study: &Study) -> Finding {
    let tests = "transfer_tests";
    let significant = |column: &str| {
        let cells = numbers(study, tests, column);
        let known = cells.iter().flatten().count();
        (cells.iter().flatten().filter(|q| **q <= SIGNIFICANT).count(), known)
    };
    let (by_index, n_index) = significant("q_value_index");
    let (by_match, n_match) = significant("q_value_match");
    let text = if n_index + n_match == 0 {
        "No pair of models could be tested: there is one model only, or no head that works on a task has a counterpart.".to_owned()
    } else {
        format!(
            "Heads with the same layer and number are stronger in the target than chance in {by_index} of {} (pair of models and \
             task); heads with the same effects also lie at the same relative depth in {by_match} of {} (q ≤ {SIGNIFICANT}).",
            words::counted(n_index, "test", "tests"),
            words::counted(n_match, "test", "tests"),
        )
    };
    Finding::new("Transfer between models", text, &["transfer_tests.csv"])
}

fn audit(study: &Study) -> Finding {
    let zero: usize = study.audits.iter().map(|a| a.n_zero_rows).sum();
    let missing: usize = study.audits.iter().map(|a| a.n_missing.iter().sum::<usize>()).sum();
    let text = format!(
        "{} in the joint table {} empty, and {} an exact 0 on some task, which a measured effect hardly ever is.",
        words::counted(missing, "effect", "effects"),
        if missing == 1 { "is" } else { "are" },
        words::counted(zero, "row holds", "rows hold"),
    );
    Finding::new("What the joint table is worth", text, &["audit.csv"])
}

/// What the study cannot say.
#[must_use]
pub fn limits(study: &Study, extras: &Extras) -> Vec<String> {
    let mut limits = Vec::new();
    let mut sizes: Vec<(String, usize)> = Vec::new();
    for model in &study.joint.models {
        match sizes.last_mut().filter(|(family, _)| *family == model.info.family) {
            Some((_, n)) => *n += 1,
            None => sizes.push((model.info.family.clone(), 1)),
        }
    }
    let few: Vec<String> = sizes
        .iter()
        .filter(|(_, n)| *n < FEWEST_SIZES)
        .map(|(family, n)| format!("{family} ({n})"))
        .collect();
    if !few.is_empty() {
        limits.push(format!(
            "Families with fewer than {FEWEST_SIZES} sizes have no scaling line of their own: {}.",
            few.join(", ")
        ));
    }
    limits.push(
        "Models of one family differ in more than size (depth, width, data order), and families in more than training data: lines against \
         size describe these models and are no law."
            .into(),
    );
    let unknown = study.joint.models.iter().filter(|m| m.info.params_m.is_none()).count();
    if unknown > 0 {
        limits.push(format!(
            "The size of {} is unknown; they are left out of everything against size.",
            models(unknown)
        ));
    }
    if study.winners_curse.is_empty() {
        limits.push(
            "There are no held-out prompts: heads are picked and judged on the same prompts, so the strongest effects are too large.".into(),
        );
    }
    if study
        .correlations
        .iter()
        .any(|c| c.pearson.shown().is_some_and(|(_, over)| over == IntervalOver::Heads))
    {
        limits.push(
            "Where the joint table knows nothing of the prompts, intervals of correlations are over heads: they say how far another such model \
             could differ, not what other prompts would give, and Pearson's is too narrow where a handful of heads carry the effect."
                .into(),
        );
    }
    limits.push(
        "Pearson's correlation can rest on a handful of strong heads: `participation_ratio_ioi` and `participation_ratio_anti` in \
         `model_measures.csv` say how many. Spearman's does not hang on them."
            .into(),
    );
    limits.push(
        "Counts of intervals that lie on one side of 0 are not corrected for how many intervals there are; q-values are, within their table."
            .into(),
    );
    limits.push(
        "Intervals over prompts say what other prompts from the same templates and names would give, not other wordings of a task; intervals \
         over templates say that of wordings like these, and are wide since there are few."
            .into(),
    );
    let few: Vec<String> = study
        .joint
        .models
        .iter()
        .filter(|m| {
            let details = m.heads.iter().flat_map(|h| [&h.ioi, &h.anti]).filter_map(|e| e.detail.as_deref());
            details.into_iter().any(|d| d.p_value.is_some() && d.ci_low.is_none())
        })
        .map(|m| m.info.model.clone())
        .collect();
    if !few.is_empty() {
        limits.push(format!(
            "Intervals and the stability of categories are not estimable from fewer than {FEWEST_PROMPTS} distinct prompts per split: {}.",
            words::list(&few)
        ));
    }
    limits.push(format!(
        "Categories depend on τ = {} logits, an absolute threshold: a model with larger logit differences has more strong heads. \
         `tau_sweep.csv` repeats the counts at other thresholds; relative categories have thresholds of each model's own.",
        study.options.tau
    ));
    limits.push(
        "With this many heads some can reach τ, or the top of a list, by chance; hero heads are picked by their effects, which `winners_curse.csv` \
         judges on other prompts where there are some."
            .into(),
    );
    limits.push("Ablating one head at a time misses heads that stand in for each other.".into());
    limits.extend(extras.missing().into_iter().map(|m| format!("Not measured in this run: {m}.")));
    limits
}
