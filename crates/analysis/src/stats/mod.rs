//! The statistics, on plain slices of numbers: independent of heads and models.
//!
//! Everything random takes a [`Seed`] and gives the same numbers for any number of threads.

pub mod assignment;
pub mod bootstrap;
pub mod clusters;
pub mod concentration;
pub mod correlation;
pub mod correlation_bootstrap;
pub mod correlation_prompts;
pub mod fdr;
pub mod functions;
pub mod interval;
pub mod jackknife;
pub mod ols;
pub mod resampling;
pub mod shared_strong;
pub mod sign_flip;
mod weighted_sums;

pub use bootstrap::{BootstrapMean, bootstrap_means};
pub use fdr::{benjamini_hochberg, two_stage};
pub use interval::Interval;
pub use resampling::Seed;
pub use sign_flip::sign_flip_p_values;
