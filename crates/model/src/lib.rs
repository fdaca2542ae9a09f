//! Decoder-only models on disk: `config.json` to a [`ModelSpec`](spec::ModelSpec), checkpoints, and tokenizers.
//!
//! Nothing is computed here. [`ModelInfo::open`] reads everything except the weights; the engine then reads the
//! weights, tensor by tensor, through the [`checkpoint::Checkpoint`].

// Only the memory map of weight files needs it.
#![deny(unsafe_code)]

pub mod checkpoint;
pub mod config;
pub mod error;
pub mod families;
#[expect(unsafe_code, reason = "files are mapped into memory, and their pages released")]
mod files;
mod hex;
mod info;
mod keys;
pub mod memory;
pub mod spec;
pub mod tokenizer;

pub use files::{InMemory, InMemoryTensor, ModelFiles};
pub use info::ModelInfo;
