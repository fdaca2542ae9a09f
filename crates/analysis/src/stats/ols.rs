//! Straight lines by ordinary least squares, alone and with an intercept for each group.

use super::interval::{Interval, student_p_value, student_quantile};

/// A fitted line y = intercept + slope · x.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Line {
    /// Points.
    pub n: usize,
    /// Slope.
    pub slope: f64,
    /// Interval of the slope, by Student's t.
    pub slope_interval: Interval,
    /// Two-sided p-value of slope = 0.
    pub p_value: f64,
    /// Intercept and its interval; `None` for a line with an intercept for each group.
    pub intercept: Option<(f64, Interval)>,
    /// Share of the variation of y that the fit explains, group intercepts included; NaN if y does not vary.
    pub r_squared: f64,
}

/// The line through `(x, y)`, with intervals of coverage `level`.
///
/// `None` if no degree of freedom would be left (fewer than 3 points), or if all x are equal.
#[must_use]
pub fn ols(x: &[f64], y: &[f64], level: f64) -> Option<Line> {
    fit(x, y, &vec![0; x.len()], level)
}

/// The line through `(x, y)` with one slope and an intercept for each group, such as a family of models.
///
/// `None` with fewer than two more points than groups, or if x varies in no group.
#[must_use]
pub fn ols_with_groups(x: &[f64], y: &[f64], groups: &[usize], level: f64) -> Option<Line> {
    fit(x, y, groups, level).map(|line| Line { intercept: None, ..line })
}

/// Group intercepts drop out when x and y are taken relative to their group's mean (Frisch, Waugh, Lovell).
fn fit(x: &[f64], y: &[f64], groups: &[usize], level: f64) -> Option<Line> {
    let n = x.len();
    let n_groups = groups.iter().max().map_or(0, |g| g + 1);
    let mut means = vec![(0.0, 0.0, 0.0); n_groups];
    for ((&x, &y), &group) in x.iter().zip(y).zip(groups) {
        let (count, mean_x, mean_y) = &mut means[group];
        *count += 1.0;
        *mean_x += x;
        *mean_y += y;
    }
    for (count, mean_x, mean_y) in &mut means {
        *mean_x /= *count;
        *mean_y /= *count;
    }
    let n_present = means.iter().filter(|(count, ..)| *count > 0.0).count();
    let degrees = n.checked_sub(n_present + 1).filter(|&df| df > 0)? as f64;
    let within = || {
        x.iter().zip(y).zip(groups).map(|((x, y), &g)| {
            let (_, mean_x, mean_y) = means[g];
            (x - mean_x, y - mean_y)
        })
    };
    let (mut xx, mut xy) = (0.0, 0.0);
    for (dx, dy) in within() {
        xx += dx * dx;
        xy += dx * dy;
    }
    if !xx.is_normal() {
        return None;
    }
    let slope = xy / xx;
    let residual: f64 = within().map(|(dx, dy)| (dy - slope * dx).powi(2)).sum();
    let grand_mean = y.iter().sum::<f64>() / n as f64;
    let total: f64 = y.iter().map(|y| (y - grand_mean).powi(2)).sum();
    let variance = residual / degrees;
    let t = student_quantile(0.5 * (1.0 + level), degrees);
    let around = |value: f64, standard_error: f64| Interval {
        low: value - t * standard_error,
        high: value + t * standard_error,
    };
    let slope_error = (variance / xx).sqrt();
    let (_, mean_x, mean_y) = means[groups[0]];
    let intercept = mean_y - slope * mean_x;
    let intercept_error = (variance * (1.0 / n as f64 + mean_x * mean_x / xx)).sqrt();
    let p_value = match (slope == 0.0, slope_error > 0.0) {
        (true, _) => 1.0,
        (false, true) => student_p_value(slope / slope_error, degrees),
        (false, false) => 0.0,
    };
    Some(Line {
        n,
        slope,
        slope_interval: around(slope, slope_error),
        p_value,
        intercept: Some((intercept, around(intercept, intercept_error))),
        r_squared: 1.0 - residual / total,
    })
}
