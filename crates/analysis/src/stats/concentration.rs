//! How far an effect is concentrated in few heads.

/// Share of Σ|x| that the largest `fraction` of the values hold; at least one value counts as that fraction.
///
/// `None` for no values, or none above 0.
#[must_use]
pub fn top_share(values: &[f64], fraction: f64) -> Option<f64> {
    let mut sizes: Vec<f64> = values.iter().map(|x| x.abs()).collect();
    sizes.sort_unstable_by(|a, b| b.total_cmp(a));
    let total: f64 = sizes.iter().sum();
    let top = ((fraction * sizes.len() as f64).ceil() as usize).clamp(1, sizes.len().max(1));
    (total > 0.0).then(|| sizes.iter().take(top).sum::<f64>() / total)
}

/// Participation ratio (Σ|x|)² / Σx²: the number of values, all equal, that would be as concentrated.
///
/// 1 when one value holds everything, n when all are equal. `None` for no values, or none above 0.
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
}
