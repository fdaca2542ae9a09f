//! Scaling laws: every measure of the models as a function of the logarithm of their size, per family and pooled.

use crate::contrast::Contrast;
use crate::model_measures::{LEVEL, ModelMeasures, measure_names};
use crate::stats::benjamini_hochberg;
use crate::stats::ols::{Line, ols, ols_with_groups};
use crate::table::Table;
use crate::words::counted;

/// Minimum number of sizes for a family to have its own line.
pub const FEWEST_SIZES: usize = 4;
/// The family name of pooled rows.
pub const POOLED: &str = "pooled";

/// One measure against log₁₀ of the parameters in millions.
#[derive(Debug, Clone, PartialEq)]
pub struct ScalingLaw {
    /// The measure.
    pub measure: String,
    /// The family, or [`POOLED`] for all families with one intercept each.
    pub family: String,
    /// Models whose size and measure are known.
    pub n: usize,
    /// The other models, by name.
    pub left_out: Vec<String>,
    /// The line, or why there is none.
    pub line: Result<Line, String>,
    /// Benjamini–Hochberg q-value of the slope over all lines of the study.
    pub q_value: Option<f64>,
}

/// Fits every measure within each family and over all of them.
#[must_use]
pub fn scaling_laws(contrast: &Contrast, models: &[ModelMeasures]) -> Vec<ScalingLaw> {
    let of_measure = |(index, name): (usize, String)| {
        let models: Vec<SizedValue> = models
            .iter()
            .map(|m| SizedValue {
                family: &m.info.family,
                model: &m.info.model,
                params_m: m.info.params_m,
                value: m.values[index],
            })
            .collect();
        (name, models)
    };
    fit_measures(measure_names(contrast).into_iter().enumerate().map(of_measure))
}

/// A model's size and its value of a measure, either of which may be unknown.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SizedValue<'a> {
    /// Family.
    pub family: &'a str,
    /// Model.
    pub model: &'a str,
    /// Size in millions of parameters.
    pub params_m: Option<f64>,
    /// The measure.
    pub value: Option<f64>,
}

/// Fits each named measure within each family and over all of them, with q-values over all lines. Models of one family
/// must be adjacent.
#[must_use]
pub fn fit_measures<'a>(
    measures: impl IntoIterator<Item = (String, Vec<SizedValue<'a>>)>,
) -> Vec<ScalingLaw> {
    let mut laws = Vec::new();
    for (measure, models) in measures {
        let mut families: Vec<&str> = models.iter().map(|m| m.family).collect();
        families.dedup();
        let points: Vec<Point> = models
            .iter()
            .filter_map(|m| {
                let family = families.iter().position(|f| *f == m.family)?;
                Some(Point { family, log_size: m.params_m?.log10(), value: m.value? })
            })
            .collect();
        for (family, name) in families.iter().enumerate() {
            let own: Vec<Point> = points.iter().copied().filter(|p| p.family == family).collect();
            let of_family = models.iter().filter(|m| m.family == *name);
            laws.push(law(&measure, name, family_line(&own), own.len(), of_family));
        }
        laws.push(law(&measure, POOLED, pooled_line(&points), points.len(), models.iter()));
    }
    let p_values: Vec<f64> = laws.iter().filter_map(|l| l.line.as_ref().ok()).map(|l| l.p_value).collect();
    let mut q_values = benjamini_hochberg(&p_values).into_iter();
    for law in &mut laws {
        law.q_value = law.line.is_ok().then(|| q_values.next()).flatten();
    }
    laws
}

#[derive(Debug, Clone, Copy)]
struct Point {
    family: usize,
    log_size: f64,
    value: f64,
}

fn law<'a>(
    measure: &str,
    family: &str,
    line: Result<Line, String>,
    n: usize,
    models: impl Iterator<Item = &'a SizedValue<'a>>,
) -> ScalingLaw {
    let left_out = models.filter(|m| m.params_m.is_none() || m.value.is_none());
    ScalingLaw {
        measure: measure.into(),
        family: family.into(),
        n,
        left_out: left_out.map(|m| m.model.to_owned()).collect(),
        line,
        q_value: None,
    }
}

fn columns(points: &[Point]) -> (Vec<f64>, Vec<f64>) {
    points.iter().map(|p| (p.log_size, p.value)).unzip()
}

fn family_line(points: &[Point]) -> Result<Line, String> {
    let (x, y) = columns(points);
    let mut sizes = x.clone();
    sizes.sort_by(f64::total_cmp);
    sizes.dedup();
    if sizes.len() < FEWEST_SIZES {
        return Err(format!(
            "not estimable: {}, at least {FEWEST_SIZES} needed",
            counted(sizes.len(), "size", "sizes")
        ));
    }
    ols(&x, &y, LEVEL).ok_or_else(|| "not estimable: sizes too close".into())
}

fn pooled_line(points: &[Point]) -> Result<Line, String> {
    let (x, y) = columns(points);
    let groups: Vec<usize> = points.iter().map(|p| p.family).collect();
    let mut families = groups.clone();
    families.dedup();
    // One slope and an intercept for each family leave this many degrees of freedom.
    let degrees = points.len() as i64 - families.len() as i64 - 1;
    if degrees < 2 {
        return Err(format!(
            "not estimable: {} of {}, at least {} needed",
            counted(points.len(), "model", "models"),
            counted(families.len(), "family", "families"),
            families.len() + 3
        ));
    }
    ols_with_groups(&x, &y, &groups, LEVEL).ok_or_else(|| "not estimable: no family has two sizes".into())
}

/// The table `scaling_laws` of a contrast: see [`named_scaling_table`].
#[must_use]
pub fn scaling_table(contrast: &Contrast, laws: &[ScalingLaw]) -> Table {
    named_scaling_table(&contrast.table("scaling_laws"), laws)
}

/// The table `name`, a row per line. The slope is the change in the measure per tenfold increase in size; `status` is
/// `estimated`, or why there is no line, and `left_out` names the models that lack the measure or a size.
#[must_use]
pub fn named_scaling_table(name: &str, laws: &[ScalingLaw]) -> Table {
    let line =
        |value: fn(&Line) -> Option<f64>| laws.iter().map(move |l| l.line.as_ref().ok().and_then(value));
    Table::new(name)
        .text("measure", laws.iter().map(|l| l.measure.as_str()))
        .text("family", laws.iter().map(|l| l.family.as_str()))
        .float("slope", line(|l| Some(l.slope)))
        .float("slope_ci_low", line(|l| Some(l.slope_interval.low)))
        .float("slope_ci_high", line(|l| Some(l.slope_interval.high)))
        .float("r_squared", line(|l| Some(l.r_squared)))
        .integer("n", laws.iter().map(|l| l.n))
        .float("p_value", line(|l| Some(l.p_value)))
        .float("q_value", laws.iter().map(|l| l.q_value))
        .float("intercept", line(|l| l.intercept.map(|i| i.0)))
        .float("intercept_ci_low", line(|l| l.intercept.map(|i| i.1.low)))
        .float("intercept_ci_high", line(|l| l.intercept.map(|i| i.1.high)))
        .text("status", laws.iter().map(|l| l.line.as_ref().map_or_else(String::as_str, |_| "estimated")))
        .text("left_out", laws.iter().map(|l| Some(l.left_out.join(" ")).filter(|names| !names.is_empty())))
}
