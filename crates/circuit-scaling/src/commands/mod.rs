//! One module a subcommand (or a few that belong together). Each returns what goes to standard output.

pub mod compare;
pub mod inspect;
pub mod models;
pub mod predict;
pub mod run;
pub mod scan;
pub mod tables;
