//! Tokenizers: real ones against known ids, both file formats, BOS, and invalid files.

mod broken;
mod real;
mod synthetic;
mod tiny;
