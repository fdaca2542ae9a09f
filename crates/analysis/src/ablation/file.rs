//! One model's ablation as a file, so that a study that was interrupted goes on where it stopped.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::ModelAblation;
use crate::dissociation::Dissociation;
use crate::error::{AnalysisError, Result};
use crate::files::write_atomic;

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
    /// [`AnalysisError::Io`] when it cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        write_atomic(path, |out| {
            serde_json::to_writer(&mut *out, self)?;
            out.write_all(b"\n")
        })
    }

    /// Reads what [`Self::write`] wrote.
    ///
    /// # Errors
    /// When the file cannot be read or is no such file.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = fs::read(path).map_err(AnalysisError::io("read", path))?;
        let mend = "delete the file and run circuit-scaling ablate again";
        serde_json::from_slice(&bytes).map_err(AnalysisError::json(path, mend))
    }
}
