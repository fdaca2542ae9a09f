//! How concentrated an effect is in few heads.

/// Share of Σ|x| held by the largest `fraction` of the values, interpolated between whole values: the height at
/// `fraction` of the curve of cumulative sizes, largest first, from (0, 0) to (1, 1) (the Lorenz curve in descending
/// order).
///
/// So a fraction of less than one value counts as that part of the largest, and shares are comparable between
/// samples of any size. `None` without values, or if all are 0.
#[must_use]
pub fn top_share(values: &[f64], fraction: f64) -> Option<f64> {
    let mut sizes: Vec<f64> = values.iter().map(|x| x.abs()).collect();
    sizes.sort_unstable_by(|a, b| b.total_cmp(a));
    let total: f64 = sizes.iter().sum();
    let top = fraction.clamp(0.0, 1.0) * sizes.len() as f64;
    let whole = top.floor() as usize;
    let held = sizes.iter().take(whole).sum::<f64>()
        + (top - whole as f64) * sizes.get(whole).copied().unwrap_or_default();
    (total > 0.0).then(|| held / total)
}

/// Participation ratio (Σ|x|)² / Σx²: the number of equal values with the same concentration.
///
/// 1 if a single value holds everything, n if all are equal. `None` without values, or if all are 0.
#[must_use]
pub fn participation_ratio(values: &[f64]) -> Option<f64> {
    // Relative to the largest, so that squares of tiny effects do not vanish.
    let largest = values.iter().fold(0.0f64, |m, x| m.max(x.abs()));
    if largest == 0.0 {
        return None;
    }
    let (mut sum, mut squares) = (0.0, 0.0);
    for x in values {
        let size = x.abs() / largest;
        sum += size;
        squares += size * size;
    }
    Some(sum * sum / squares)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn concentration_of_simple_effects() {
        let mut one = vec![0.0; 100];
        one[3] = -2.0;
        assert_eq!((top_share(&one, 0.01), participation_ratio(&one)), (Some(1.0), Some(1.0)));
        let equal = vec![0.5; 200];
        assert_eq!((top_share(&equal, 0.05), participation_ratio(&equal)), (Some(0.05), Some(200.0)));
        assert_eq!((top_share(&[0.0], 0.01), participation_ratio(&[])), (None, None));
    }

    /// Equal heads hold exactly their fraction, and heads from one distribution the same share, regardless of their
    /// number.
    #[test]
    fn top_shares_compare_between_models_of_any_size() {
        for n in [8, 40, 1200] {
            for fraction in [0.01, 0.05, 0.3, 1.0] {
                let equal = top_share(&vec![0.3; n], fraction).unwrap();
                assert!((equal - fraction).abs() < 1e-12, "{n} heads, {fraction}: {equal}");
                // Evenly spaced sizes: the largest f hold 1 − (1 − f)² in the limit of many.
                let even: Vec<f64> = (0..n).map(|i| (i as f64 + 0.5) / n as f64).collect();
                let share = top_share(&even, fraction).unwrap();
                let limit = 1.0 - (1.0 - fraction).powi(2);
                assert!(
                    (share - limit).abs() <= 0.25 / (n * n) as f64 + fraction / n as f64,
                    "{n}, {fraction}: {share} {limit}"
                );
            }
        }
        // A twentieth of 8 heads is two fifths of the strongest; of 40, the two strongest.
        assert_eq!(top_share(&[-4.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0], 0.05), Some(0.4 * 4.0 / 10.0));
        let mut forty = vec![1.0; 40];
        forty[7] = 9.0;
        assert_eq!(top_share(&forty, 0.05), Some(10.0 / 48.0));
    }
}
