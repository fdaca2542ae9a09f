//! Numbers in words.

use cs_analysis::contrast::{Contrast, Side};
use cs_analysis::joint::ModelInfo;
use cs_analysis::model_measures::{IntervalOver, TaskCorrelation};
use cs_analysis::scan_file::Split;
use cs_analysis::stats::Interval;

use crate::figures::palette::side_label;
use crate::figures::scale::decimal;

pub use cs_analysis::words::{count, counted};

/// A number in a sentence: `none` for 0.
#[must_use]
pub fn none_or(n: usize) -> String {
    if n == 0 { "none".to_owned() } else { count(n) }
}

/// A count of each kind, with missing kinds last: `2 shared and 1 weak; none is IOI-only`.
#[must_use]
pub fn kinds(counted: impl IntoIterator<Item = (usize, String, String)>) -> String {
    let (there, missing): (Vec<_>, Vec<_>) = counted.into_iter().partition(|(n, ..)| *n > 0);
    let there: Vec<String> =
        there.iter().map(|(n, kind, more)| format!("{} {kind}{more}", count(*n))).collect();
    let missing: Vec<String> = missing.into_iter().map(|(_, kind, _)| kind).collect();
    match (there.is_empty(), missing.is_empty()) {
        (_, true) => list(&there),
        (true, _) => format!("none {}", list_of_any(&missing)),
        (false, false) => format!("{}; none is {}", list(&there), list_of_any(&missing)),
    }
}

/// An effect in logits, always with its sign.
#[must_use]
pub fn signed(value: f64) -> String {
    signed_to(value, 3)
}

/// A change with this many decimals, always with its sign unless it is shown as 0.
#[must_use]
pub fn signed_to(value: f64, decimals: usize) -> String {
    let text = decimal(value, decimals);
    let is_zero = text.chars().all(|c| matches!(c, '0' | '.'));
    if value > 0.0 && !is_zero { format!("+{text}") } else { text }
}

/// The ends of an effect's interval in square brackets, after a space, if both are known.
#[must_use]
pub fn signed_range(low: Option<f64>, high: Option<f64>) -> Option<String> {
    low.zip(high).map(|(low, high)| format!(" [{}, {}]", signed(low), signed(high)))
}

/// An interval in square brackets.
#[must_use]
pub fn interval(interval: Interval, decimals: usize) -> String {
    format!("[{}, {}]", decimal(interval.low, decimals), decimal(interval.high, decimals))
}

/// A correlation with its interval, or that it is not defined.
#[must_use]
pub fn correlation(correlation: &TaskCorrelation) -> String {
    match (correlation.estimate, correlation.shown()) {
        (Some(r), Some((i, _))) => format!("{} {}", decimal(r, 2), interval(i, 2)),
        (Some(r), None) => format!("{} (no interval can be estimated)", decimal(r, 2)),
        (None, _) => "not defined".into(),
    }
}

/// The source of variation of the shown intervals of correlations, if there are any.
pub fn intervals_over<'a>(correlations: impl Iterator<Item = &'a TaskCorrelation>) -> Option<&'static str> {
    let mut over: Vec<IntervalOver> = correlations.filter_map(|c| Some(c.shown()?.1)).collect();
    over.dedup();
    match over[..] {
        [] => None,
        [IntervalOver::Prompts] => Some("prompts"),
        [IntervalOver::Heads] => Some(
            "heads, treated as a sample from a larger population (the table does not describe its prompts)",
        ),
        _ => Some("prompts, or over heads if the table does not describe its prompts"),
    }
}

/// Which models do not do which tasks, if any.
pub fn not_done<'a>(
    contrast: &Contrast,
    models: impl Iterator<Item = &'a ModelInfo> + Clone,
) -> Option<String> {
    let of_task = |task: Side| {
        let lacking = models.clone().filter(|m| m.tasks_not_done().contains(&task));
        (side_label(contrast, task), lacking.map(|m| m.model.clone()).collect())
    };
    tasks_not_done(Side::BOTH.map(of_task))
}

/// Which models do not do which tasks, given as task labels with the models that do not do them; `None` if there are
/// none.
pub fn tasks_not_done(tasks: impl IntoIterator<Item = (String, Vec<String>)>) -> Option<String> {
    let lacking = tasks.into_iter().filter(|(_, models)| !models.is_empty());
    let parts: Vec<String> = lacking.map(|(task, models)| format!("{task} by {}", list(&models))).collect();
    (!parts.is_empty()).then(|| {
        format!(
            "Not done (the 95% interval of the mean logit difference reaches or is below 0, or no prompt is answered correctly): {}.",
            parts.join("; ")
        )
    })
}

/// The strength of a head in a contrast, as a formula.
#[must_use]
pub fn strength(contrast: &Contrast) -> String {
    let [a, b] = Side::BOTH.map(|side| side_label(contrast, side));
    format!("|Δ {a}| + |Δ {b}|")
}

/// Names in the order in which they first come, each once.
#[must_use]
pub fn each_once<'a>(names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut all: Vec<&str> = Vec::new();
    for name in names {
        if !all.contains(&name) {
            all.push(name);
        }
    }
    all
}

/// Models in a count: the name of a single one, else how many there are.
#[must_use]
pub fn models(names: &[&str]) -> String {
    match names {
        [only] => (*only).to_owned(),
        several => counted(several.len(), "model", "models"),
    }
}

/// Whose heads: those of a single model, or of any of several.
#[must_use]
pub fn heads_of(models: &[&str]) -> String {
    match models {
        [only] => format!("the heads of {only}"),
        _ => "a model's heads".to_owned(),
    }
}

/// A head in the usual notation.
#[must_use]
pub fn head(layer: u32, head: u32) -> String {
    format!("L{layer}H{head}")
}

/// A list with commas, and `and` before its last.
#[must_use]
pub fn list(items: &[String]) -> String {
    match items {
        [] => String::new(),
        [only] => only.clone(),
        [init @ .., last] => format!("{} and {last}", init.join(", ")),
    }
}

/// A list with commas, and `or` before its last.
#[must_use]
pub fn list_of_any(items: &[String]) -> String {
    match items {
        [init @ .., last] if !init.is_empty() => format!("{} or {last}", init.join(", ")),
        _ => list(items),
    }
}

/// A sentence with an initial capital letter.
#[must_use]
pub fn capitalised(sentence: &str) -> String {
    let mut letters = sentence.chars();
    letters.next().map_or(String::new(), |first| first.to_uppercase().chain(letters).collect())
}

/// A range, or a single value if both ends are equal.
#[must_use]
pub fn from_to(low: f64, high: f64, decimals: usize, unit: &str) -> String {
    let [low, high] = [low, high].map(|end| decimal(end, decimals) + unit);
    if low == high { low } else { format!("{low} to {high}") }
}

/// The prompts of a split.
#[must_use]
pub fn prompts_of(split: Split) -> &'static str {
    match split {
        Split::Discovery => "the prompts used to select heads",
        Split::HeldOut => "held-out prompts",
        Split::All => "all prompts (this protocol has no held-out ones)",
    }
}

/// How the effects of this model were measured, as far as the table tells.
#[must_use]
pub fn method(info: &ModelInfo) -> Option<String> {
    let ablation = info.ablation.as_ref()?;
    let mut text = format!("{ablation} ablation");
    if let Some(reference) = &info.reference {
        text += &format!(" over {reference} reference prompts");
    }
    if let Some(bias) = &info.value_bias {
        text += &format!(", value bias {bias}");
    }
    if let Some(protocol) = &info.protocol {
        text += &format!(", {protocol} protocol");
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!([count(7), count(8048), count(1_234_567)], ["7", "8,048", "1,234,567"]);
        assert_eq!(counted(1, "head", "heads"), "1 head");
        assert_eq!([none_or(0), none_or(1000)], ["none", "1,000"]);
        let kind = |n, name: &str| (n, name.to_owned(), String::new());
        assert_eq!(kinds([kind(2, "a"), kind(0, "b"), kind(1, "c")]), "2 a and 1 c; none is b");
        assert_eq!(kinds([kind(2, "a"), kind(1, "c")]), "2 a and 1 c");
        assert_eq!(
            [signed(-0.5), signed(0.25), signed(0.0), signed(-1e-9)],
            ["−0.500", "+0.250", "0.000", "0.000"]
        );
        assert_eq!([from_to(-0.5, 2.0, 1, "%"), from_to(0.11, 0.12, 1, "")], ["−0.5% to 2.0%", "0.1"]);
        let three = ["a".into(), "b".into(), "c".into()];
        assert_eq!(
            [list(&three), list_of_any(&three), list_of_any(&three[..1])],
            ["a, b and c", "a, b or c", "a"]
        );
        assert_eq!([capitalised("a b"), capitalised("")], ["A b", ""]);
    }
}
