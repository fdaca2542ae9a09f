//! The science that needs a model: tasks and their prompts, head scans, causal tracing, ablation of sets of heads, attention; and how a study of them is
//! cut into parts.

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
