//! Decoder-only transformers: checkpoints, tokenizers, and an exact forward pass over a *forest* of prompts in which
//! any head's streams can be replaced.

// One module needs it: the memory map of weight files.
#![deny(unsafe_code)]

pub mod checkpoint;
pub mod config;
pub mod decoder;
pub mod engine;
pub mod error;
pub mod forest;
pub mod intervention;
pub mod model;
pub mod spec;
pub mod tokenizer;
pub mod weights;
