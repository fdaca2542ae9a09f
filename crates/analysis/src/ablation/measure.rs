//! The measures on which sets are compared.

use super::{Outcome, SetMeans};
use crate::stats::bootstrap::weighted_mean;

/// A measure on which sets are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Measure {
    /// Accuracy among all candidate names.
    Acc,
    /// Correct − mean of the other candidates.
    MeanDiff,
}

impl Measure {
    pub const BOTH: [Self; 2] = [Self::Acc, Self::MeanDiff];

    pub fn name(self) -> &'static str {
        match self {
            Self::Acc => "acc",
            Self::MeanDiff => "mean_diff",
        }
    }

    /// The measure on each prompt. `[n_prompts]`
    pub fn values(self, outcome: &Outcome) -> Vec<f64> {
        match self {
            Self::Acc => outcome.correct.iter().map(|&c| f64::from(u8::from(c))).collect(),
            Self::MeanDiff => outcome.mean_diff.iter().map(|&d| f64::from(d)).collect(),
        }
    }

    /// Its mean over weighted prompts.
    pub fn mean(self, outcome: &Outcome, weights: &[u32]) -> f64 {
        weighted_mean(&self.values(outcome), weights)
    }

    pub fn of(self, means: &SetMeans) -> f64 {
        match self {
            Self::Acc => means.acc,
            Self::MeanDiff => means.mean_diff,
        }
    }
}
