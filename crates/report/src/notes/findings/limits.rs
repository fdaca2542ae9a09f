//! What a study cannot say.

use cs_analysis::model_measures::IntervalOver;
use cs_analysis::scaling::FEWEST_SIZES;
use cs_analysis::stats::interval::FEWEST_PROMPTS;
use cs_analysis::study::ContrastStudy;

use super::models;
use crate::extras::ContrastExtras;
use crate::words;

/// What the study cannot say.
#[must_use]
pub fn limits(study: &ContrastStudy, extras: &ContrastExtras) -> Vec<String> {
    let contrast = study.contrast();
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
         size describe these models, not others."
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
    let [a, b] = contrast.keys();
    limits.push(format!(
        "Pearson's correlation can rest on a handful of strong heads: `participation_ratio_{a}` and `participation_ratio_{b}` in \
         `{}.csv` say how many. Spearman's does not hang on them.",
        contrast.table("model_measures")
    ));
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
            let details = m.heads.iter().flat_map(|h| &h.effects).filter_map(|e| e.detail.as_deref());
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
         `{}.csv` repeats the counts at other thresholds; relative categories have thresholds of each model's own.",
        study.options.tau,
        contrast.table("tau_sweep")
    ));
    limits.push(format!(
        "With this many heads some can reach τ, or the top of a list, by chance; hero heads are picked by their effects, which `{}.csv` \
         judges on other prompts where there are some.",
        contrast.table("winners_curse")
    ));
    limits.push("Ablating one head at a time misses heads that stand in for each other.".into());
    limits.extend(extras.missing().into_iter().map(|m| format!("Not measured in this run: {m}.")));
    limits
}
