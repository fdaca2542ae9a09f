//! Tasks under tokenizers of every kind, real ones among them.

mod alignment;
mod real;
#[path = "../support/mod.rs"]
mod support;
