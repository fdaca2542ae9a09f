//! Rotary position embedding (Su et al. 2021), in GPT-NeoX's half-split layout.

/// Rotates the pairs `(x[i], x[i + n])` of a head's first `2 n` coordinates by the angles whose cosines and sines are
/// `cos` and `sin`, `[n]` each. Later coordinates stay.
///
/// # Panics
/// If `cos` and `sin` differ in length or are more than half of `x`.
#[track_caller]
pub fn rotary(x: &mut [f32], cos: &[f32], sin: &[f32]) {
    let n = cos.len();
    assert_eq!(sin.len(), n, "lengths of cos and sin");
    let (first, second) = x[..2 * n].split_at_mut(n);
    for ((a, b), (cos, sin)) in first.iter_mut().zip(second).zip(cos.iter().zip(sin)) {
        (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn turns_pairs() {
        let mut x = [1.0, 2.0, 0.0, 5.0, 9.0];
        super::rotary(&mut x, &[0.0, 1.0], &[1.0, 0.0]);
        assert_eq!(x, [0.0, 2.0, 1.0, 5.0, 9.0]);
    }
}
