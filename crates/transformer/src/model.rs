//! A model ready to use: what it computes, its weights, and its tokenizer.

use crate::checkpoint::{Checkpoint, ModelFiles};
use crate::config::ModelConfig;
use crate::decoder::Decoder;
use crate::error::LoadError;
use crate::spec::ModelSpec;
use crate::tokenizer::Tokenizer;

/// A model whose weights are in memory.
pub struct Model {
    name: String,
    decoder: Decoder,
    tokenizer: Option<Tokenizer>,
    checkpoint: Checkpoint,
}

impl Model {
    /// Loads a model and, where its files include one, its tokenizer.
    ///
    /// # Errors
    /// Any [`LoadError`].
    pub fn load(files: &ModelFiles) -> Result<Self, LoadError> {
        ModelInfo::open(files)?.load()
    }

    /// The folder's own name, or the embedded model's.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the model computes.
    pub fn spec(&self) -> &ModelSpec {
        self.decoder.spec()
    }

    /// Spec and weights, ready to run.
    pub fn decoder(&self) -> &Decoder {
        &self.decoder
    }

    /// The tokenizer, if the model's files include one.
    pub fn tokenizer(&self) -> Option<&Tokenizer> {
        self.tokenizer.as_ref()
    }

    /// Number of parameters; a tied unembedding counts once.
    pub fn n_params(&self) -> usize {
        self.checkpoint.n_params()
    }

    /// The hash of the parameters: see [`Checkpoint::weight_hash`].
    pub fn weight_hash(&self) -> &str {
        self.checkpoint.weight_hash()
    }
}

/// A model whose files have been checked, but whose weights are still on disk.
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
    /// Any [`LoadError`] but those that concern the weights' values.
    pub fn open(files: &ModelFiles) -> Result<Self, LoadError> {
        let config = ModelConfig::open(files)?;
        let checkpoint = Checkpoint::open(files, &config)?;
        let tokenizer = Tokenizer::optional(files, &config)?;
        Ok(ModelInfo { name: files.name(), config, tokenizer, checkpoint })
    }

    /// Loads the weights.
    ///
    /// # Errors
    /// A parameter that is not a number, or an unembedding that differs from the embedding it is tied to.
    pub fn load(self) -> Result<Model, LoadError> {
        let ModelInfo { name, config, tokenizer, checkpoint } = self;
        let weights = checkpoint.load()?;
        Ok(Model { name, decoder: Decoder::new(config.spec, weights), tokenizer, checkpoint })
    }
}
