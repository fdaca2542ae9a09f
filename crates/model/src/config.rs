//! `config.json` → [`ModelConfig`].
//!
//! Every key that changes a number is honoured or refused by name; defaults of absent keys are those of Hugging Face
//! Transformers. A key that nothing reads is refused too, since it may belong to a variant of the architecture that
//! computes something else.

use serde_json::Value;

use crate::error::LoadError;
use crate::families::{self, Description, Family, Parameters};
use crate::files::ModelFiles;
use crate::keys::Keys;
use crate::spec::ModelSpec;

/// What a `config.json` says: the computation, and which optional parameters the checkpoint holds.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelConfig {
    /// Whose keys and tensor names these are. What is computed is decided by [`ModelSpec`] alone.
    pub family: &'static Family,
    /// What the model computes.
    pub spec: ModelSpec,
    /// Parameters that models of the family may have or lack.
    pub parameters: Parameters,
    /// `bos_token_id`, where the file gives one that the vocabulary holds.
    pub bos_token_id: Option<u32>,
}

impl ModelConfig {
    /// Reads a model's `config.json`.
    ///
    /// # Errors
    /// No such file, or any that [`parse`] gives.
    pub fn open(files: &ModelFiles) -> Result<Self, LoadError> {
        const FILE: &str = "config.json";
        let label = files.label(FILE);
        match files.read(FILE)? {
            Some(json) => parse(&json, &label),
            None => Err(LoadError::MissingFile {
                file: label,
                fix: "a model's folder holds config.json and model.safetensors".to_owned(),
            }),
        }
    }
}

/// Reads a `config.json`. `file` is what error messages call it.
///
/// # Errors
/// Broken JSON; an architecture that no [family](families::FAMILIES) describes; a value that is impossible or that is
/// not supported; an unknown key.
pub fn parse(json: &[u8], file: &str) -> Result<ModelConfig, LoadError> {
    let malformed = |problem: String| LoadError::Malformed {
        file: file.to_owned(),
        problem,
        fix: "fetch the file again".to_owned(),
    };
    let value: Value =
        serde_json::from_slice(json).map_err(|e| malformed(format!("is not valid JSON ({e})")))?;
    let Value::Object(map) = &value else {
        return Err(malformed("holds no JSON object".to_owned()));
    };
    let (family, Description { spec, parameters, bos_token_id }) = families::read(&Keys::new(file, map))?;
    Ok(ModelConfig { family, spec, parameters, bos_token_id })
}
