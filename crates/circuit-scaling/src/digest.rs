//! Hashes of the inputs and outputs of steps.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// A SHA-256 in hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Digest256(String);

impl Digest256 {
    /// The hash of a step's inputs.
    pub fn of(inputs: &serde_json::Value) -> Self {
        Self::of_bytes(inputs.to_string().as_bytes())
    }

    /// The hash of a file; `None` if it cannot be read.
    pub fn of_file(path: &Path) -> Option<Self> {
        fs::read(path).ok().map(|bytes| Self::of_bytes(&bytes))
    }

    /// The hash of bytes.
    pub fn of_bytes(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
