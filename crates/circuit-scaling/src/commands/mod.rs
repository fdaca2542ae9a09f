//! One module per subcommand (or a few that belong together). Each returns the text for standard output.

pub mod ablate;
pub mod attend;
mod checked;
pub mod compare;
mod costs;
pub mod devices;
pub mod drawn;
pub mod experiment;
pub mod inspect;
pub mod models;
pub mod parts;
mod places;
pub mod plan;
pub mod predict;
pub mod presentation;
mod rest;
pub mod roles;
pub mod run;
pub mod scan;
pub mod shell;
pub mod tables;
pub mod task;
pub mod trace;
