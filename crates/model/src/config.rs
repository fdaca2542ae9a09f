//! `config.json` → [`ModelConfig`].
//!
//! Every key that affects the computation is respected, or rejected by name; defaults are those of Hugging Face
//! Transformers. Unknown keys are rejected too, since they may belong to a variant of the architecture that computes
//! something else.

use serde_json::Value;

use crate::error::LoadError;
use crate::families::{self, Description, Family, Parameters};
use crate::files::ModelFiles;
use crate::keys::Keys;
use crate::spec::ModelSpec;

/// The contents of a `config.json`: the computation, and the optional parameters of the checkpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelConfig {
    /// The family whose keys and tensor names are used. The computation depends only on [`ModelSpec`].
    pub family: &'static Family,
    /// What the model computes.
    pub spec: ModelSpec,
    /// Parameters that vary within the family.
    pub parameters: Parameters,
    /// `bos_token_id`, if the file has one within the vocabulary.
    pub bos_token_id: Option<u32>,
}

impl ModelConfig {
    /// Reads a model's `config.json`.
    ///
    /// # Errors
    /// No such file, or any error of [`parse`].
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

/// Parses a `config.json`. `file` is its name in error messages.
///
/// # Errors
/// Invalid JSON; an architecture that no [family](families::FAMILIES) describes; an invalid or unsupported value; an
/// unknown key.
pub fn parse(json: &[u8], file: &str) -> Result<ModelConfig, LoadError> {
    let malformed = |problem: String| LoadError::Malformed {
        file: file.to_owned(),
        problem,
        fix: "fetch the file again".to_owned(),
    };
    let value: Value =
        serde_json::from_slice(json).map_err(|e| malformed(format!("is not valid JSON ({e})")))?;
    let Value::Object(map) = &value else {
        return Err(malformed("does not hold a JSON object".to_owned()));
    };
    let (family, Description { spec, parameters, bos_token_id }) = families::read(&Keys::new(file, map))?;
    Ok(ModelConfig { family, spec, parameters, bos_token_id })
}
