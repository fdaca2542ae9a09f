//! The limits of a study.

use cs_analysis::model_measures::IntervalOver;
use cs_analysis::scaling::FEWEST_SIZES;
use cs_analysis::stats::interval::FEWEST_PROMPTS;
use cs_analysis::study::ContrastStudy;

use super::models;
use crate::extras::ContrastExtras;
use crate::words;

/// The limits of the study.
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
        "Models of one family differ in more than size (depth, width, data order), and families in more than training data: \
         scaling lines describe these models, not others."
            .into(),
    );
    let unknown = study.joint.models.iter().filter(|m| m.info.params_m.is_none()).count();
    if unknown > 0 {
        limits.push(format!("The size of {} is unknown, so scaling lines leave them out.", models(unknown)));
    }
    if study.winners_curse.is_empty() {
        limits.push(
            "There are no held-out prompts: heads are selected and evaluated on the same prompts, so the strongest effects are \
             overestimated.".into(),
        );
    }
    if study
        .correlations
        .iter()
        .any(|c| c.pearson.shown().is_some_and(|(_, over)| over == IntervalOver::Heads))
    {
        limits.push(
            "If the joint table does not describe its prompts, intervals of correlations are over heads: they say how much \
             another such model could differ, not what other prompts would give, and Pearson's is too narrow if a handful of heads \
             carry the effect."
                .into(),
        );
    }
    let [a, b] = contrast.keys();
    limits.push(format!(
        "Pearson's correlation can depend on a handful of strong heads: `participation_ratio_{a}` and `participation_ratio_{b}` in \
         `{}.csv` say how many. Spearman's is robust to them.",
        contrast.table("model_measures")
    ));
    limits.push(
        "Counts of intervals on one side of 0 are not corrected for multiple comparisons; q-values are, within their table."
            .into(),
    );
    limits.push(
        "Intervals over prompts cover other prompts from the same templates and names, but not other wordings of a task; intervals \
         over templates cover similar wordings, and are wide because there are few templates."
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
            "Intervals and the stability of categories are not estimable from fewer than {FEWEST_PROMPTS} distinct prompts per \
             split: {}.",
            words::list(&few)
        ));
    }
    limits.push(format!(
        "Categories depend on τ = {} logits, an absolute threshold: models with larger logit differences have more strong heads. \
         `{}.csv` has the counts at other thresholds; relative categories use each model's own threshold.",
        study.options.tau,
        contrast.table("tau_sweep")
    ));
    limits.push(format!(
        "With this many heads, some can reach τ or the top of a list by chance; hero heads are selected by their effects, which \
         `{}.csv` compares with held-out prompts if there are any.",
        contrast.table("winners_curse")
    ));
    limits.push("Ablating one head at a time misses heads that back each other up.".into());
    limits.extend(extras.missing().into_iter().map(|m| format!("Not measured in this run: {m}.")));
    limits
}
