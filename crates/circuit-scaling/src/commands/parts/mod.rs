//! A study over many machines: `parts` cuts it, `part` does one part, `gather` joins them; `slurm` hands all three to a scheduler,
//! and `status` says how far they are.
//!
//! A study is done in two waves of parts, since which heads and sets are experimented on follows from the scans of all heads:
//! `gather` joins the scans and cuts the second wave. Everything lies in the study's folder:
//!
//! ```text
//! parts/plan.json              who does what, and from what: prompts, weights, program
//! parts/scans/00001/           the first part of the first wave, a study's folder of its own
//! parts/experiments/00001/     the first part of the second
//! ```
//!
//! What a part finds is what the stages of `run` would find, to the bit; `gather` hands it to them
//! ([`Measured`](crate::measured::Measured)) in the place of models.

mod cutting;
mod error;
mod experiments;
mod gather;
mod heartbeat;
mod lines;
mod part;
mod plan;
mod results;
mod slurm;
mod state;
mod status;

pub use cutting::parts;
pub use error::PartsError;
pub use gather::gather;
pub use part::part;
pub use slurm::slurm;
pub use status::status;
