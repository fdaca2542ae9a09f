//! A model ready to use: spec, weights and tokenizer.

use cs_model::checkpoint::Checkpoint;
use cs_model::error::LoadError;
use cs_model::spec::ModelSpec;
use cs_model::tokenizer::Tokenizer;
use cs_model::{ModelFiles, ModelInfo};

use crate::decoder::Decoder;
use crate::load::load;

/// A model whose weights are in memory.
pub struct Model {
    name: String,
    decoder: Decoder,
    tokenizer: Option<Tokenizer>,
    checkpoint: Checkpoint,
}

impl Model {
    /// Loads a model and, if its files include one, its tokenizer.
    ///
    /// # Errors
    /// Any [`LoadError`].
    pub fn load(files: &ModelFiles) -> Result<Self, LoadError> {
        Self::from_info(ModelInfo::open(files)?)
    }

    /// Loads the weights of a model with validated files.
    ///
    /// # Errors
    /// Weights that do not fit into memory, a parameter that is not a number, or an unembedding that differs from the
    /// embedding it is tied to.
    pub fn from_info(info: ModelInfo) -> Result<Self, LoadError> {
        let ModelInfo { name, config, tokenizer, checkpoint } = info;
        let weights = load(&checkpoint)?;
        Ok(Self { name, decoder: Decoder::new(config.spec, weights), tokenizer, checkpoint })
    }

    /// The name of the folder or of the bundled model.
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
