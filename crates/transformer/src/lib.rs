//! Decoder-only transformers: checkpoints, tokenizers, and an exact forward pass over a *forest* of prompts in which
//! any head's streams can be replaced.

pub mod spec;
pub mod weights;
