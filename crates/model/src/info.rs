//! A model's files, checked, with the weights not yet loaded.

use crate::checkpoint::Checkpoint;
use crate::config::ModelConfig;
use crate::error::LoadError;
use crate::files::ModelFiles;
use crate::tokenizer::Tokenizer;

/// A model whose files have been checked, but whose weights are not yet loaded.
pub struct ModelInfo {
    /// The folder's own name, or the embedded model's.
    pub name: String,
    /// What the model computes.
    pub config: ModelConfig,
    /// The tokenizer, if the model's files include one.
    pub tokenizer: Option<Tokenizer>,
    /// Names, shapes and types of the parameters.
    pub checkpoint: Checkpoint,
}

impl ModelInfo {
    /// Reads everything but the weights.
    ///
    /// # Errors
    /// Any [`LoadError`] except those about the weights' values.
    pub fn open(files: &ModelFiles) -> Result<Self, LoadError> {
        let config = ModelConfig::open(files)?;
        let checkpoint = Checkpoint::open(files, &config)?;
        let tokenizer = Tokenizer::optional(files, &config)?;
        Ok(ModelInfo { name: files.name(), config, tokenizer, checkpoint })
    }
}
