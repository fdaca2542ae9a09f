//! An estimate and its interval, each of which may be missing.

use serde::{Deserialize, Serialize};

use crate::stats::functions::Estimate;

/// An estimate with its 95% interval, if there is one.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Ranged {
    /// The estimate.
    pub value: Option<f64>,
    /// Lower end.
    pub low: Option<f64>,
    /// Upper end.
    pub high: Option<f64>,
}

impl From<Option<Estimate>> for Ranged {
    fn from(estimate: Option<Estimate>) -> Self {
        let interval = estimate.and_then(|e| e.interval);
        Self {
            value: estimate.map(|e| e.value),
            low: interval.map(|i| i.low),
            high: interval.map(|i| i.high),
        }
    }
}

impl Ranged {
    /// An estimate and the ends of its interval, if there is one.
    #[must_use]
    pub fn new(value: Option<f64>, ends: Option<(f64, f64)>) -> Self {
        Self { value, low: ends.map(|e| e.0), high: ends.map(|e| e.1) }
    }

    /// Both ends of the interval, if there is one.
    #[must_use]
    pub fn ends(&self) -> Option<(f64, f64)> {
        self.low.zip(self.high)
    }
}
