//! A study on many machines: `parts` divides it, `part` runs one part, `gather` joins them; `slurm` submits all three to a
//! scheduler, and `status` shows their state.
//!
//! A study is done in two waves of parts, since the scans of all heads determine which heads and sets the experiments use:
//! `gather` joins the scans and plans the second wave. Everything is in the study's folder:
//!
//! ```text
//! parts/plan.json              who does what, and from what: prompts, weights, program
//! parts/scans/00001/           the first part of the first wave, a separate study folder
//! parts/experiments/00001/     the first part of the second
//! ```
//!
//! The results of a part are bit-identical to those of the stages of `run`; `gather` passes them to these
//! stages ([`Measured`](crate::measured::Measured)) instead of models.

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
