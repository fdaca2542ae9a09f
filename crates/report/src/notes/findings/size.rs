//! What changes with size.

use cs_analysis::contrast::Side;
use cs_analysis::scaling::{POOLED, ScalingLaw};
use cs_analysis::study::ContrastStudy;

use super::{Finding, csv, models};
use crate::figures::palette::side_label;
use crate::figures::scale::decimal;
use crate::numbers::SIGNIFICANT;
use crate::words;

fn law<'a>(study: &'a ContrastStudy, measure: &str) -> Option<&'a ScalingLaw> {
    study.scaling_laws.iter().find(|l| l.measure == measure && l.family == POOLED)
}

/// A pooled scaling law in words.
pub(in crate::notes) fn law_sentence(study: &ContrastStudy, measure: &str, name: &str) -> Option<String> {
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
                "{name} changes by {} {} per tenfold increase in size (n = {}, q = {}{left_out}); the interval {zero} 0.",
                decimal(line.slope, 3),
                words::interval(interval, 3),
                law.n,
                law.q_value.map_or("–".into(), |q| decimal(q, 3)),
            )
        }
        Err(_) => format!("{name}: no line can be estimated (n = {}{left_out}).", law.n),
    })
}

pub(super) fn scaling(study: &ContrastStudy) -> Finding {
    let estimated = study.scaling_laws.iter().filter(|l| l.line.is_ok()).count();
    let significant =
        study.scaling_laws.iter().filter(|l| l.q_value.is_some_and(|q| q <= SIGNIFICANT)).count();
    let measures = [
        ("corr", "Pearson's correlation"),
        ("frac_strong", "The share of heads that are not weak"),
        ("frac_shared", "The share of shared heads"),
        ("frac_relative_strong", "The share of heads that are not weak at relative thresholds"),
    ];
    if estimated == 0 {
        let text = "No scaling line could be estimated: there are too few models or sizes.";
        return Finding::new("Change with size", text.into(), [csv(&study.contrast().table("scaling_laws"))]);
    }
    let mut text = format!(
        "{} of {} lines of a measure against log₁₀ of size could be estimated; {} of their slopes {} q ≤ {SIGNIFICANT}. Pooled \
         over families, with an intercept for each: ",
        words::count(estimated),
        words::count(study.scaling_laws.len()),
        words::none_or(significant),
        if significant < 2 { "has" } else { "have" },
    );
    text +=
        &measures.iter().filter_map(|(m, name)| law_sentence(study, m, name)).collect::<Vec<_>>().join(" ");
    Finding::new(
        "Change with size",
        text,
        ["scaling_laws", "model_measures"].map(|name| csv(&study.contrast().table(name))),
    )
}

/// The smallest and largest value of a measure over the models that have it.
pub(super) fn range(study: &ContrastStudy, measure: &str) -> Option<(f64, f64, usize)> {
    let column =
        cs_analysis::model_measures::measure_names(study.contrast()).iter().position(|n| n == measure)?;
    let values: Vec<f64> = study.measures.iter().filter_map(|m| m.values[column]).collect();
    let first = *values.first()?;
    let (low, high) = values.iter().fold((first, first), |(l, h), v| (l.min(*v), h.max(*v)));
    Some((low, high, values.len()))
}

pub(super) fn concentration(study: &ContrastStudy) -> Finding {
    let contrast = study.contrast();
    let sentence = |task: Side| match range(study, &format!("top_5pct_share_{}", contrast.key(task))) {
        Some((low, high, n)) => format!(
            "On {}, the strongest 5% of a model's heads (interpolated between whole heads) hold {} of Σ|Δ| in {}.",
            side_label(contrast, task),
            words::from_to(100.0 * low, 100.0 * high, 1, "%"),
            models(n)
        ),
        None => format!("On {}, no effect was measured.", side_label(contrast, task)),
    };
    Finding::new(
        "Concentration",
        Side::BOTH.map(sentence).join(" "),
        [csv(&contrast.table("model_measures"))],
    )
}
