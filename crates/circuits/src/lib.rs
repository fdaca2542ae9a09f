//! Every experiment that runs a model: tasks and their prompts, head scans, causal tracing, ablation of head sets, attention; and the division of a
//! study into parts.

#![forbid(unsafe_code)]

pub mod ablate;
pub mod attention;
pub mod direct;
pub mod parts;
pub mod prompts;
pub mod references;
pub mod roles;
pub mod scan;
pub mod task;
pub mod toml_error;
pub mod trace;
