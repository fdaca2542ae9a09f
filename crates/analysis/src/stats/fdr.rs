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
