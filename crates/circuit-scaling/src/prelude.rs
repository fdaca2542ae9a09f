//! Everything for your own programs: `use circuit_scaling::prelude::*`.
//!
//! A model and its tokens; logits, with and without edited heads:
//!
//! ```
//! use circuit_scaling::prelude::*;
//!
//! # fn main() -> Result<(), Error> {
//! let model = Model::load("mini-gpt2-s")?;
//! let prompt = model.tokens("When John and Mary went to the store, John gave a gift to")?;
//! let read = [" Mary", " John"].map(|name| *model.tokens(name).unwrap().last().unwrap());
//! let head = HeadId { layer: 1, head: 3 };
//! let plain = model.logits(&[prompt.clone()], &[], Some(&read), Options::default(), &mut silent)?;
//! let without = model.logits(&[prompt], &[zero(head)], Some(&read), Options::default(), &mut silent)?;
//! println!("{head} changes Mary − John by {}", (without[0][0] - without[0][1]) - (plain[0][0] - plain[0][1]));
//! # Ok(())
//! # }
//! ```
//!
//! Its activations:
//!
//! ```
//! # use circuit_scaling::prelude::*;
//! # fn main() -> Result<(), Error> {
//! let model = Model::load("mini-gpt2-s")?;
//! let prompt = model.tokens("Alice met Bob. Alice talked to")?;
//! let cache = model.cache(&[prompt], &[Activation::Pattern])?;
//! assert_eq!(cache[0].arrays[&Activation::Pattern].shape[..2], [2, 4]); // layers, heads
//! # Ok(())
//! # }
//! ```
//!
//! Scans, sets of heads and tracing on a task, with the command line's defaults in [`Setup`]:
//!
//! ```
//! # use circuit_scaling::prelude::*;
//! # fn main() -> Result<(), Error> {
//! let model = Model::load("mini-gpt2-s")?;
//! let mut setup = Setup::of("ioi")?;
//! setup.prompts.n_prompts = Some(40);
//! let scan = model.scan(&setup, None, &mut silent)?;
//! let strongest = &scan.file.top_suppressor_candidates[0];
//! println!("L{}H{}: Δ = {:+.3}", strongest.layer, strongest.head, strongest.delta);
//!
//! let sets = [vec![(strongest.layer, strongest.head)], vec![(0, 0), (1, 0)]];
//! let ablated = model.ablate(&setup, &sets, Split::All, &mut silent)?;
//! assert_eq!(ablated.outcomes.sets.len(), 2);
//!
//! let traced = model.trace(&setup, None, Stream::V, Split::All, &mut silent)?;
//! assert_eq!(traced.trace.influences.len(), 8);
//! # Ok(())
//! # }
//! ```

pub use crate::activations::{Activation, Array, PromptCache};
pub use crate::edit::{HeadEdit, Value, mean, patch, resample, zero};
pub use crate::error::CliError as Error;
pub use crate::experiment::{AblatedSets, HeadScan, Setup, TracedHeads};
pub use crate::model::{Model, Observer, silent};
pub use cs_analysis::head_id::HeadId;
pub use cs_analysis::scan_file::{HeadDelta, Resampling, ScanFile};
pub use cs_circuits::prompts::{HoldOut, PromptOptions, Protocol, Reference, Split};
pub use cs_circuits::scan::{Ablation, ScanOptions, ValueBias};
pub use cs_circuits::task::{RowTask, Task};
pub use cs_engine::intervention::Stream;
pub use cs_engine::{DeviceChoice, Options, Precision, Progress};
