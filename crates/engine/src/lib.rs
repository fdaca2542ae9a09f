//! The exact intervened forward pass over a *forest* of prompts, in which any head's streams can be replaced.
//!
//! One call runs a batch of [prompts](Prompt) plainly and once more for every [`Branch`], and reads logits of chosen
//! tokens at each prompt's last token. Results are those of a separate full forward pass per prompt and branch, up to
//! float32 rounding, but only work that a branch really changes is done:
//!
//! 1. prompts become a prefix [`Forest`], so what they share is computed once;
//! 2. a branch starts at its first edited layer, from the plain run's state there (`resid_mid − (z_h − c_h) W_O^h`
//!    in a sequential block, `resid_post − …` in a parallel one; from `resid_pre` where attention's output passes a norm
//!    before it is added, which would blow up the rounding of a difference);
//! 3. in the last layer only the prompts' last tokens are carried on, and only the logits asked for are computed;
//! 4. branches that start at the same layer are stacked into one tall matrix.
//!
//! On a graphics card ([`Compute`]) branches are computed as differences from the plain run, whose products half precision carries
//! without losing float32's accuracy: the *delta form*.
//!
//! Prompts are cut into chunks and branches into stacks so that the [memory](Options::memory) bound holds. Neither
//! cut, nor the number of threads, changes a bit of the result: every row of every kernel depends on that row alone.
//!
//! ```text
//! prompts ──sort──► chunks ──► Forest ──► plain run, layer by layer ──┬─► stack of branches from layer l ─► readings
//!                   (plan)                                            └─► next layer            (driver)
//! ```
//!
//! What a model computes is best read in [`mod@reference`]: the whole decoder in plain loops. `block` says the same in
//! steps, and `machine` carries them out.

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
