//! `config.json` → [`ModelSpec`].
//!
//! Every key that changes a number is honoured or refused by name; defaults of absent keys are those of Hugging Face
//! Transformers. A key that this module does not know is refused too, since it may belong to a variant of the
//! architecture that computes something else.

mod families;
mod keys;

use serde_json::Value;

use crate::error::LoadError;
use crate::files::ModelFiles;
use crate::spec::ModelSpec;
use keys::Keys;
use serde::{Deserialize, Serialize};

/// The architecture a checkpoint names in its `config.json`. It decides how keys and tensors are *named*; what is
/// computed is decided by [`ModelSpec`] alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Architecture {
    /// `model_type: gpt2`
    Gpt2,
    /// `model_type: gpt_neox` (Pythia)
    GptNeoX,
    /// `model_type: opt`
    Opt,
    /// `model_type: gpt_neo`
    GptNeo,
}

/// What a `config.json` says: the computation, and which optional parameters the checkpoint holds.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelConfig {
    /// Whose keys and tensor names these are.
    pub architecture: Architecture,
    /// What the model computes.
    pub spec: ModelSpec,
    /// Whether the query, key and value projections have biases.
    pub qkv_bias: bool,
    /// Whether the attention output projection has a bias.
    pub attn_out_bias: bool,
    /// Whether the MLP's two layers have biases.
    pub mlp_bias: bool,
    /// Whether layer norms have a gain and a bias.
    pub norm_affine: bool,
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
                mend: "a model's folder holds config.json and model.safetensors".to_owned(),
            }),
        }
    }
}

/// Reads a `config.json`. `file` is what error messages call it.
///
/// # Errors
/// Broken JSON; an architecture other than `gpt2`, `gpt_neox`, `opt` and `gpt_neo`; a value that is impossible or
/// that is not supported; an unknown key.
pub fn parse(json: &[u8], file: &str) -> Result<ModelConfig, LoadError> {
    let malformed = |problem: String| LoadError::Malformed {
        file: file.to_owned(),
        problem,
        mend: "fetch the file again".to_owned(),
    };
    let value: Value =
        serde_json::from_slice(json).map_err(|e| malformed(format!("is no valid JSON ({e})")))?;
    let Value::Object(map) = &value else {
        return Err(malformed("holds no JSON object".to_owned()));
    };
    let keys = Keys::new(file, map);
    let config = match keys.raw("model_type").and_then(Value::as_str) {
        Some("gpt2") => families::gpt2(&keys),
        Some("gpt_neox") => families::gpt_neox(&keys),
        Some("opt") => families::opt(&keys),
        Some("gpt_neo") => families::gpt_neo(&keys),
        _ => Err(keys.error(
            "model_type",
            "names no supported architecture",
            "use a GPT-2, GPT-NeoX (Pythia), OPT or GPT-Neo checkpoint: gpt2, gpt_neox, opt, gpt_neo",
        )),
    };
    Ok(config?)
}
