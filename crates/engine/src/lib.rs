//! The exact intervened forward pass over a *forest* of prompts, in which any head's streams can be replaced.
//!
//! One call computes the plain run of a batch of [prompts](Prompt) and one more run for every [`Branch`], and reads
//! logits of chosen tokens at each prompt's last token. Results are those of a separate full forward pass per prompt
//! and branch, up to float32 rounding, but a branch only recomputes what its edits change:
//!
//! 1. prompts are merged into a prefix [`Forest`], so that shared prefixes are computed once;
//! 2. a branch starts at its first edited layer, from the plain run's state there (`resid_mid − (z_h − c_h) W_O^h` in a
//!    sequential block, `resid_post − …` in a parallel one; from `resid_pre` if attention's output is normalized before
//!    it is added, which would amplify the rounding error of a difference);
//! 3. in the last layer only the prompts' last tokens are computed, and of the logits only the requested ones;
//! 4. branches that start at the same layer are stacked into one tall matrix.
//!
//! On a GPU ([`Compute`]) branches are computed as differences from the plain run, so that products in half precision keep float32
//! accuracy: the *delta form*.
//!
//! Prompts are split into chunks and branches into stacks to stay within the [memory](Options::memory) bound.
//! Neither the splits nor the number of threads change a bit of the result: every row of a kernel's output depends
//! only on the same row of its input.
//!
//! ```text
//! prompts ──sort──► chunks ──► Forest ──► plain run, layer by layer ──┬─► stack of branches from layer l ─► readings
//!                   (plan)                                            └─► next layer            (driver)
//! ```
//!
//! To see what a model computes, read [`mod@reference`]: the whole decoder in plain loops. `block` describes the same
//! as steps, and `machine` executes them.

#![deny(unsafe_code)]

mod attention;
mod block;
mod capture;
mod cost;
pub mod decoder;
pub mod device;
mod direct;
mod driver;
mod error;
pub mod forest;
pub mod intervention;
mod load;
mod machine;
mod means;
pub mod model;
mod plan;
mod random_weights;
mod rates;
pub mod reference;
mod request;
mod rotary;
mod run;
mod side_by_side;
mod source;
mod tree;
pub mod weights;

pub use attention::{AttentionRow, Queries, attention_rows};
pub use capture::{Cache, CaptureError, LayerCache};
pub use cost::{Cost, cost};
pub use decoder::check_memory;
pub use device::{Compute, Device, DeviceChoice, DeviceError, Precision};
pub use direct::{direct_attribution, direct_attribution_cost};
pub use error::EngineError;
pub use load::load;
pub use rates::{Halves, Rates};
pub use request::{Options, Progress, Prompt, Reading, Receiver};
pub use run::{Readings, run};

#[cfg(doc)]
use crate::{forest::Forest, intervention::Branch};
