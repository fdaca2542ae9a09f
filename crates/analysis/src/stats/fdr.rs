//! Control of the false discovery rate.

/// Benjamini–Hochberg q-values (1995): the smallest false discovery rate at which each hypothesis is rejected.
///
/// In the order of `p_values`, each in 0..=1.
#[must_use]
pub fn benjamini_hochberg(p_values: &[f64]) -> Vec<f64> {
    let n = p_values.len();
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|&a, &b| p_values[b].total_cmp(&p_values[a]));
    let mut q_values = vec![1.0; n];
    let mut smallest = 1.0f64;
    for (rank_from_end, &index) in order.iter().enumerate() {
        let rank = (n - rank_from_end) as f64;
        smallest = smallest.min(p_values[index] * n as f64 / rank);
        q_values[index] = smallest;
    }
    q_values
}

/// q-values of the adaptive two-stage procedure (Benjamini, Krieger and Yekutieli, Biometrika 2006): the smallest level at
/// which it rejects each hypothesis.
///
/// At level q the first stage is [`benjamini_hochberg`] at q′ = q / (1 + q); its r rejections leave n − r hypotheses that may be
/// true nulls, and the second stage is the same at q′ · n / (n − r). It finds more if there are many true effects, and nothing
/// if the first stage finds nothing. The rate is controlled for independent tests, and in simulations for positively dependent
/// ones.
///
/// In the order of `p_values`, each in 0..=1.
#[must_use]
pub fn two_stage(p_values: &[f64]) -> Vec<f64> {
    let first = benjamini_hochberg(p_values);
    let n = first.len() as f64;
    // The levels at which the number of first-stage rejections increases, with that number.
    let rejected = |level: f64| first.iter().filter(|q| **q <= level).count() as f64;
    let steps: Vec<(f64, f64)> = first.iter().map(|&level| (level, rejected(level))).collect();
    let q_value = |&own: &f64| {
        let reached = steps.iter().map(|&(level, r)| level.max(own * (n - r) / n));
        let level = reached.fold(1.0, f64::min);
        if level < 0.5 { level / (1.0 - level) } else { 1.0 }
    };
    first.iter().map(q_value).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The procedure at one level.
    fn rejected(p_values: &[f64], level: f64) -> Vec<bool> {
        let (n, q) = (p_values.len() as f64, level / (1.0 + level));
        let first = benjamini_hochberg(p_values);
        let r = first.iter().filter(|value| **value <= q).count() as f64;
        let second = if r == 0.0 { 0.0 } else { q * n / (n - r) };
        first.iter().map(|value| r > 0.0 && *value <= second).collect()
    }

    #[test]
    fn two_stages_reject_what_the_procedure_does() {
        for seed in 0..200u64 {
            let p_values: Vec<f64> = (0..1 + seed % 30)
                .map(|i| {
                    let u = ((seed * 7919 + i * 104_729) % 1009) as f64 / 1009.0;
                    if i % 3 == 0 { u.powi(6) } else { u }
                })
                .collect();
            let q_values = two_stage(&p_values);
            for level in [0.01, 0.0503, 0.1207, 0.31] {
                let found: Vec<bool> = q_values.iter().map(|q| *q <= level).collect();
                assert_eq!(found, rejected(&p_values, level), "{level}: {p_values:?} {q_values:?}");
            }
        }
        assert_eq!(two_stage(&[]), [0.0; 0]);
        assert_eq!(two_stage(&[0.9, 1.0]), [1.0, 1.0]);
    }
}
