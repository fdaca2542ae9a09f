//! Statistics against scipy and statsmodels, with values from `tools/stats/make_golden.py`.

use cs_analysis::stats::assignment::assign;
use cs_analysis::stats::bootstrap::{BootstrapOptions, bootstrap_means};
use cs_analysis::stats::correlation::{pearson, ranks, spearman};
use cs_analysis::stats::interval::{Correction, bca_interval, student_p_value, student_quantile};
use cs_analysis::stats::ols::{Line, ols, ols_with_groups};
use cs_analysis::stats::{Seed, benjamini_hochberg, sign_flip_p_values};
use serde_json::Value;

fn cases(name: &str) -> Vec<Value> {
    let golden: Value = serde_json::from_str(include_str!("golden/statistics.json")).unwrap();
    let cases = golden[name].as_array().unwrap().clone();
    assert!(!cases.is_empty());
    cases
}

fn numbers(case: &Value, name: &str) -> Vec<f64> {
    case[name].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
}

fn indices(case: &Value, name: &str) -> Vec<usize> {
    numbers(case, name).iter().map(|&x| x as usize).collect()
}

#[track_caller]
fn assert_close(found: f64, case: &Value, name: &str) {
    let golden = case[name].as_f64().unwrap();
    assert!((found - golden).abs() <= 1e-9 * golden.abs().max(1.0), "{name}: {found} instead of {golden}");
}

#[test]
fn correlations_and_ranks() {
    for case in cases("correlations") {
        let (x, y) = (numbers(&case, "x"), numbers(&case, "y"));
        assert_close(pearson(&x, &y).unwrap(), &case, "pearson");
        assert_close(spearman(&x, &y).unwrap(), &case, "spearman");
        assert_eq!(ranks(&x), numbers(&case, "ranks_x"));
    }
}

#[test]
fn q_values() {
    for case in cases("false_discovery") {
        for (found, golden) in benjamini_hochberg(&numbers(&case, "p")).iter().zip(numbers(&case, "q")) {
            assert!((found - golden).abs() < 1e-12, "{found} instead of {golden}");
        }
    }
}

#[track_caller]
fn assert_line(line: &Line, case: &Value) {
    assert_close(line.slope, case, "slope");
    assert_close(line.slope_interval.low, case, "slope_low");
    assert_close(line.slope_interval.high, case, "slope_high");
    assert_close(line.p_value, case, "p_value");
    assert_close(line.r_squared, case, "r_squared");
}

#[test]
fn straight_lines() {
    for case in cases("lines") {
        let line = ols(&numbers(&case, "x"), &numbers(&case, "y"), case["level"].as_f64().unwrap()).unwrap();
        assert_line(&line, &case);
        let (intercept, interval) = line.intercept.unwrap();
        assert_close(intercept, &case, "intercept");
        assert_close(interval.low, &case, "intercept_low");
        assert_close(interval.high, &case, "intercept_high");
    }
    for case in cases("pooled_lines") {
        let groups = indices(&case, "groups");
        let line = ols_with_groups(&numbers(&case, "x"), &numbers(&case, "y"), &groups, 0.95).unwrap();
        assert_line(&line, &case);
        assert!(line.intercept.is_none());
    }
}

#[test]
fn lines_that_cannot_be_fitted() {
    assert!(ols(&[1.0, 2.0], &[1.0, 2.0], 0.95).is_none());
    assert!(ols(&[2.0; 5], &[1.0, 2.0, 3.0, 4.0, 5.0], 0.95).is_none());
    assert!(ols(&[], &[], 0.95).is_none());
    assert!(ols_with_groups(&[1.0, 2.0, 3.0], &[1.0, 2.0, 3.0], &[0, 1, 2], 0.95).is_none());
    let exact = ols(&[1.0, 2.0, 3.0, 4.0], &[1.0, 3.0, 5.0, 7.0], 0.95).unwrap();
    assert_eq!((exact.slope, exact.p_value, exact.r_squared), (2.0, 0.0, 1.0));
}

#[test]
fn optimal_assignments() {
    for case in cases("assignments") {
        let (costs, n_columns) = (numbers(&case, "costs"), case["columns"].as_u64().unwrap() as usize);
        let assigned = assign(&costs, n_columns).unwrap();
        assert_eq!(assigned, indices(&case, "assigned"));
        let total: f64 =
            assigned.iter().enumerate().map(|(row, column)| costs[row * n_columns + column]).sum();
        assert_close(total, &case, "total");
    }
    assert_eq!(assign(&[1.0, 2.0], 1), None, "more rows than columns");
    assert_eq!(assign(&[f64::NAN], 1), None);
    assert_eq!(assign(&[], 3), Some(Vec::new()));
}

#[test]
fn bca_intervals_of_a_given_distribution() {
    for case in cases("bca_intervals") {
        let (sample, distribution) = (numbers(&case, "sample"), numbers(&case, "distribution"));
        let mean = sample.iter().sum::<f64>() / sample.len() as f64;
        let acceleration = case["acceleration"].as_f64().unwrap();
        let plain = bca_interval(&distribution, mean, 0.95, Correction { acceleration, n: None });
        assert_close(plain.low, &case, "low");
        assert_close(plain.high, &case, "high");
        let expanded =
            bca_interval(&distribution, mean, 0.95, Correction { acceleration, n: Some(sample.len()) });
        assert_close(expanded.low, &case, "expanded_low");
        assert_close(expanded.high, &case, "expanded_high");
    }
}

#[test]
fn whole_bootstraps_agree_up_to_resampling() {
    for case in cases("bootstraps") {
        let sample = numbers(&case, "sample");
        let (low, high) = (case["low"].as_f64().unwrap(), case["high"].as_f64().unwrap());
        let options = BootstrapOptions { n_resamples: 100_000, level: 0.95, thresholds: vec![] };
        let weights = vec![1; sample.len()];
        let found = &bootstrap_means(&[sample], &weights, &options, &Seed::new(1, &["golden"]))[0];
        // Ours is widened by t/z·√(n/(n−1)) = 1.0297 at 60 points; the rest is resampling error of the bounds.
        let width = high - low;
        let widened = 0.5 * 0.0297 * width;
        let interval = found.interval.unwrap();
        assert!((interval.low - (low - widened)).abs() < 0.01 * width, "{found:?}, scipy {low}");
        assert!((interval.high - (high + widened)).abs() < 0.01 * width, "{found:?}, scipy {high}");
    }
}

#[test]
fn sign_flips_approach_the_exact_test() {
    for case in cases("sign_flips") {
        let sample = numbers(&case, "sample");
        let exact = case["p_value"].as_f64().unwrap();
        let weights = vec![1; sample.len()];
        let found = sign_flip_p_values(&[sample], &weights, 200_000, &Seed::new(1, &["golden"]))[0];
        let error = (exact * (1.0 - exact) / 200_000.0).sqrt();
        assert!((found - exact).abs() < 4.0 * error + 1e-5, "{found} instead of {exact}");
    }
}

#[test]
fn students_distribution() {
    for case in cases("student") {
        let (p, df, t) =
            (case["p"].as_f64().unwrap(), case["df"].as_f64().unwrap(), case["t"].as_f64().unwrap());
        assert_close(student_quantile(p, df), &case, "quantile");
        assert_close(student_p_value(t, df), &case, "p_value");
    }
}
