//! Tokenizers: real ones against known ids, both file formats, BOS, and files that do not fit.

mod broken;
mod real;
mod synthetic;
mod tiny;
