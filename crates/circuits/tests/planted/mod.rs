//! Planted circuits: attention-only models with hand-set weights, so that every head's function is known.
//!
//! [`World`] is a small language with both tasks in it. A circuit is a list of [`Role`]s, heads with a function and the
//! effects that follow from it by arithmetic ([`full_circuit`], [`separate_circuit`], [`shared_circuit`], [`backup_circuit`]).
//! [`Planted`] puts them at random places of a model whose other heads are weak noise, and [`failures`] lists every error in a
//! scan of that model.
//!
//! Include it with `#[path = "planted/mod.rs"] mod planted;`.
#![allow(dead_code, unused_imports, reason = "each test that includes this uses a part of it")]

mod check;
mod circuits;
mod features;
mod model;
mod random;
mod world;

pub use check::{Failure, TASKS, deltas, failures, plain_scan, scan_with};
pub use circuits::{Role, backup_circuit, full_circuit, separate_circuit, shared_circuit};
pub use model::{N_HEADS, N_LAYERS, Placed, Planted};
pub use world::World;
