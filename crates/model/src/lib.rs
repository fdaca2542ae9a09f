//! Decoder-only models as files: `config.json` to a [`ModelSpec`](spec::ModelSpec), checkpoints, and tokenizers.
//!
//! Nothing is computed here. [`ModelInfo::open`] reads everything but the weights; what runs a model reads the weights'
//! values, tensor by tensor, through its [`checkpoint::Checkpoint`].

// One module needs it: the memory map of weight files.
#![deny(unsafe_code)]

pub mod checkpoint;
pub mod config;
pub mod error;
pub mod families;
#[expect(unsafe_code, reason = "files are mapped into memory, and their pages given back")]
mod files;
mod hex;
mod info;
mod keys;
pub mod memory;
pub mod spec;
pub mod tokenizer;

pub use files::{InMemory, InMemoryTensor, ModelFiles};
pub use info::ModelInfo;
