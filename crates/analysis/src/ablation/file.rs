//! One model's ablation as a file, so that a study that was interrupted goes on where it stopped.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::ModelAblation;
use crate::dissociation::Dissociation;
use crate::error::Result;
use crate::files::{read_json, write_json};

/// `results/ablation/ablation_<model>.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AblationFile {
    /// Hero heads against random heads.
    pub ablation: ModelAblation,
    /// Double dissociation.
    pub dissociation: Dissociation,
}

impl AblationFile {
    /// Writes the file, atomically.
    ///
    /// # Errors
    /// [`Io`](crate::error::AnalysisError::Io) when it cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        write_json(path, self)
    }

    /// Reads what [`Self::write`] wrote.
    ///
    /// # Errors
    /// When the file cannot be read or is no such file.
    pub fn read(path: &Path) -> Result<Self> {
        read_json(path, "delete the file and run circuit-scaling ablate again")
    }
}
