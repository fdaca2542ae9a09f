//! Rotary embedding.

/// Rotates `x`, the `d_rotary` leading values of a head's query or key, in the GPT-NeoX layout: value `i` pairs with value
/// `i + d_rotary / 2`. `cos` and `sin` are `[d_rotary / 2]`, of the position's angles.
///
/// # Panics
/// If `x` is not twice as long as `cos` and `sin`.
#[track_caller]
pub fn rotary(x: &mut [f32], cos: &[f32], sin: &[f32]) {
    let half = cos.len();
    assert!(x.len() == 2 * half && sin.len() == half, "x must be twice as long as cos and sin");
    let (a, b) = x.split_at_mut(half);
    for (((a, b), cos), sin) in a.iter_mut().zip(b).zip(cos).zip(sin) {
        (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
    }
}

/// Rotates `x`, the `d_rotary` leading values of a head's query or key, in the GPT-J layout: value `2 i` pairs with value
/// `2 i + 1`. `cos` and `sin` are `[d_rotary / 2]`, of the position's angles.
///
/// # Panics
/// If `x` is not twice as long as `cos` and `sin`.
#[track_caller]
pub fn rotary_interleaved(x: &mut [f32], cos: &[f32], sin: &[f32]) {
    let half = cos.len();
    assert!(x.len() == 2 * half && sin.len() == half, "x must be twice as long as cos and sin");
    let (pairs, _) = x.as_chunks_mut::<2>();
    for (([a, b], cos), sin) in pairs.iter_mut().zip(cos).zip(sin) {
        (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
    }
}
