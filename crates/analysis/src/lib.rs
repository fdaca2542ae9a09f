//! Everything in the study that needs measurements but no model.
//!
//! A scan produces one logit difference per prompt and ablated head ([`per_prompt`]). The rest is statistics: [`scan_summary`]
//! turns these into a scan file ([`scan_file`]) with an interval, a p-value and a q-value for every head, and [`effects`] puts
//! those of all models and tasks into one table. A [`contrast`] is a pair of tasks: [`joint`] combines its scans, and [`study`]
//! makes every further table from that: categories, hero heads, correlations, scaling laws, transfer, audit. [`overlap`] compares
//! every pair of a study's tasks. [`stats`] has the statistics themselves, on plain slices of numbers.
//!
//! Two rules hold everywhere: a missing value stays missing and is never written as a number, and the same inputs
//! and seed give the same bytes regardless of the number of threads.

#![forbid(unsafe_code)]

pub mod ablation;
pub mod attention;
pub mod audit;
pub mod categories;
pub mod compare;
pub mod contrast;
pub mod dictionary;
pub mod direct;
pub mod dissociation;
pub mod dissociation_index;
pub mod effect;
pub mod effects;
pub mod error;
pub mod file_name;
pub mod files;
pub mod head_id;
pub mod joint;
mod json_object;
pub mod known_models;
pub mod layout;
pub mod model_measures;
pub mod origin;
pub mod overlap;
pub mod parquet_file;
pub mod per_prompt;
pub mod ranged;
pub mod role_tables;
pub mod roles;
pub mod scaling;
pub mod scan_file;
pub mod scan_summary;
pub mod self_repair;
pub mod stats;
pub mod study;
pub mod study_scans;
pub mod table;
pub mod task_measures;
pub mod tracing;
pub mod transfer;
pub mod winners_curse;
pub mod words;

pub use error::{AnalysisError, Result};
