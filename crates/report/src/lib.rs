//! Figures, notes and one HTML page from the numbers of a study.
//!
//! Everything here is a function of [`cs_analysis::study::Study`] and of further measurements ([`Extras`]); no model is
//! needed, so a study read from a joint CSV is drawn and described in the same way as one that was just run. Missing
//! measurements are reported as missing, never drawn empty or written as numbers.

#![forbid(unsafe_code)]

pub mod error;
pub mod extras;
pub mod figures;
pub mod html;
pub mod notes;
mod numbers;
pub mod words;

pub use error::{ReportError, Result};
pub use extras::{ContrastExtras, Extras};
