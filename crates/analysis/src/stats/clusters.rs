//! Intervals over clusters of prompts: prompts of the same template are similar, so they carry less information
//! than equally many prompts of different templates.

use super::bootstrap::weighted_mean;
use super::interval::{Interval, student_quantile};

/// Minimum number of clusters for estimating the variance between them.
pub const FEWEST_CLUSTERS: usize = 2;

/// The cluster-robust interval of a weighted mean (Liang and Zeger 1986), by Student's t with (clusters − 1) degrees of
/// freedom (Cameron and Miller 2015, section VI).
///
/// It estimates the mean over the population of clusters. With e_g = Σ_{p in g} w_p (x_p − mean), W = Σ w and G clusters
/// the variance is G/(G − 1) · Σ e_g² / W²; for clusters of equal weight this is the plain interval of the clusters'
/// means.
///
/// `values`, `weights` and `clusters` (each prompt's cluster, any numbers) `[n_prompts]`. `None` for fewer than
/// [`FEWEST_CLUSTERS`].
#[must_use]
pub fn cluster_interval(values: &[f64], weights: &[u32], clusters: &[u32], level: f64) -> Option<Interval> {
    let mean = weighted_mean(values, weights);
    let places = places(clusters);
    let n = n_clusters(&places);
    if n < FEWEST_CLUSTERS {
        return None;
    }
    let mut residuals = vec![0.0; n];
    let mut total = 0.0;
    for ((value, &weight), &place) in values.iter().zip(weights).zip(&places) {
        residuals[place] += f64::from(weight) * (value - mean);
        total += f64::from(weight);
    }
    let squares: f64 = residuals.iter().map(|e| e * e).sum();
    let df = (n - 1) as f64;
    let half = student_quantile(0.5 * (1.0 + level), df) * (n as f64 / df * squares).sqrt() / total;
    Some(Interval { low: mean - half, high: mean + half })
}

/// Each prompt's cluster as an index from 0, in numeric order. `[n_prompts]`
pub(super) fn places(clusters: &[u32]) -> Vec<usize> {
    let mut distinct = clusters.to_vec();
    distinct.sort_unstable();
    distinct.dedup();
    clusters.iter().map(|cluster| distinct.partition_point(|other| other < cluster)).collect()
}

/// Number of clusters.
pub(super) fn n_clusters(places: &[usize]) -> usize {
    places.iter().max().map_or(0, |last| last + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clusters_of_equal_weight_count_as_one_value_each() {
        // Means 1, 2 and 6 of three clusters: 3 ± 4.3027 · √7 / √3.
        let values = [0.0, 2.0, 1.0, 3.0, 6.0, 6.0];
        let found = cluster_interval(&values, &[1; 6], &[7, 7, 0, 0, 3, 3], 0.95).unwrap();
        let half = 4.302_652_729_911 * (7.0f64 / 3.0).sqrt();
        assert!(
            (found.low - (3.0 - half)).abs() < 1e-9 && (found.high - (3.0 + half)).abs() < 1e-9,
            "{found:?}"
        );
        // A prompt of weight 2 counts as two prompts.
        let merged =
            cluster_interval(&[0.0, 2.0, 1.0, 3.0, 6.0], &[1, 1, 1, 1, 2], &[7, 7, 0, 0, 3], 0.95).unwrap();
        assert!((found.low - merged.low).abs() < 1e-12);
        assert_eq!(cluster_interval(&values, &[1; 6], &[4; 6], 0.95), None);
        assert_eq!(cluster_interval(&[], &[], &[], 0.95), None);
    }
}
