//! Many weighted sums of many series at once: the matrix product inside bootstrap and permutation tests.
//!
//! Each sum is taken in the order of the points, in float64 and without fused operations, so it depends neither on
//! how the work is divided into blocks, nor on the machine.

/// Series per panel: as many as fit into registers for two rows of multipliers at once.
const LANES: usize = 8;

/// Series of equal length, packed so that a sum over their points reads memory sequentially.
#[derive(Debug, Clone)]
pub(crate) struct PackedSeries {
    n_series: usize,
    n_points: usize,
    /// `[n_panels, n_points, LANES]`, zeros after the last series.
    packed: Vec<f64>,
}

impl PackedSeries {
    /// Packs `series`, each of `n_points`.
    pub fn new<'a>(n_points: usize, series: impl ExactSizeIterator<Item = &'a [f64]>) -> Self {
        let n_series = series.len();
        let mut packed = vec![0.0; n_series.div_ceil(LANES) * n_points * LANES];
        for (index, values) in series.enumerate() {
            let panel = &mut packed[index / LANES * n_points * LANES..][..n_points * LANES];
            for (point, &value) in values.iter().enumerate() {
                panel[point * LANES + index % LANES] = value;
            }
        }
        Self { n_series, n_points, packed }
    }

    /// Number of series.
    pub fn len(&self) -> usize {
        self.n_series
    }

    /// For each row of `multipliers` `[n_rows, n_points]`, the sums of `multiplier · value` over the points, one for
    /// each series: `sums` `[n_rows, n_series]`.
    pub fn weighted_sums(&self, multipliers: &[f64], sums: &mut [f64]) {
        if self.n_series == 0 || self.n_points == 0 {
            sums.fill(0.0);
            return;
        }
        for (panel_index, panel) in self.packed.chunks_exact(self.n_points * LANES).enumerate() {
            let first = panel_index * LANES;
            let width = LANES.min(self.n_series - first);
            let mut rows = multipliers.chunks_exact(2 * self.n_points);
            let mut out = sums.chunks_exact_mut(2 * self.n_series);
            for (pair, out) in (&mut rows).zip(&mut out) {
                let (a, b) = pair.split_at(self.n_points);
                let (sum_a, sum_b) = two_rows(panel, a, b);
                out[first..first + width].copy_from_slice(&sum_a[..width]);
                out[self.n_series + first..][..width].copy_from_slice(&sum_b[..width]);
            }
            if !rows.remainder().is_empty() {
                let (sum, _) = two_rows(panel, rows.remainder(), rows.remainder());
                out.into_remainder()[first..first + width].copy_from_slice(&sum[..width]);
            }
        }
    }
}

/// Two rows of multipliers times one panel.
#[inline]
fn two_rows(panel: &[f64], a: &[f64], b: &[f64]) -> ([f64; LANES], [f64; LANES]) {
    let (mut sum_a, mut sum_b) = ([0.0; LANES], [0.0; LANES]);
    let (values, _) = panel.as_chunks::<LANES>();
    for ((values, &a), &b) in values.iter().zip(a).zip(b) {
        for lane in 0..LANES {
            sum_a[lane] += a * values[lane];
            sum_b[lane] += b * values[lane];
        }
    }
    (sum_a, sum_b)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn agrees_with_the_plain_sum_exactly(
            n_series in 1usize..20, n_points in 1usize..9, n_rows in 1usize..6, seed in any::<u32>(),
        ) {
            let number = |i: usize| f64::from((seed.wrapping_mul(2_654_435_761).wrapping_add(i as u32 * 40_503)) % 1000) / 7.0;
            let series: Vec<Vec<f64>> =
                (0..n_series).map(|s| (0..n_points).map(|p| number(s * 31 + p)).collect()).collect();
            let multipliers: Vec<f64> = (0..n_rows * n_points).map(|i| number(i + 5000)).collect();
            let packed = PackedSeries::new(n_points, series.iter().map(Vec::as_slice));
            let mut sums = vec![f64::NAN; n_rows * n_series];
            packed.weighted_sums(&multipliers, &mut sums);
            for row in 0..n_rows {
                for s in 0..n_series {
                    let mut plain = 0.0;
                    for p in 0..n_points {
                        plain += multipliers[row * n_points + p] * series[s][p];
                    }
                    prop_assert_eq!(sums[row * n_series + s], plain);
                }
            }
        }
    }
}
