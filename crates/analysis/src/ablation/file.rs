//! One model's ablation as a file, so that a study that was interrupted goes on where it stopped.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{AblationPlan, AblationSettings, ModelAblation};
use crate::categories::ClassifiedModel;
use crate::dissociation::Dissociation;
use crate::error::{AnalysisError, Result};
use crate::files::write_atomic;
use crate::origin::Origin;

/// `results/ablation/ablation_<model>.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AblationFile {
    /// What the results follow from: see [`fingerprint`].
    pub fingerprint: String,
    /// Hero heads against random heads.
    pub ablation: ModelAblation,
    /// Double dissociation.
    pub dissociation: Dissociation,
}

/// SHA-256, in hex, of all that decides one model's results: origin, settings, sets, and what the scans say of its heads.
#[must_use]
pub fn fingerprint(
    origin: &Origin,
    settings: &AblationSettings,
    plan: &AblationPlan,
    model: &ClassifiedModel,
) -> String {
    let heads: Vec<_> =
        model.heads.iter().map(|h| (h.layer, h.head, h.delta_ioi, h.delta_anti, h.category.name())).collect();
    let inputs = serde_json::json!([origin, settings, plan.sets, heads]);
    let digest = Sha256::digest(inputs.to_string().as_bytes());
    digest.iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
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
        serde_json::from_slice(&bytes).map_err(|e| {
            let place = format!("line {}, column {}", e.line(), e.column());
            AnalysisError::format(
                path,
                place,
                e.to_string(),
                "delete the file and run circuit-scaling ablate again",
            )
        })
    }
}
