//! The description of a model family.

use std::fmt;

use crate::error::ConfigError;
use crate::keys::Keys;
use crate::spec::ModelSpec;

use super::tensors::Tensors;

/// One architecture of Hugging Face Transformers.
pub struct Family {
    /// `model_type` in `config.json`.
    pub model_type: &'static str,
    /// The family in tables, for models that [`Family::known_models`] does not list.
    pub name: &'static str,
    /// Which BOS token is put before a prompt.
    pub bos: Bos,
    /// Members with a short name.
    pub known_models: &'static [KnownModel],
    pub(crate) tensors: Tensors,
    pub(super) read: fn(&Keys) -> Result<Description, ConfigError>,
}

/// Which BOS token is put before a prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bos {
    /// Always one: the BOS named by the tokenizer's files or `config.json`, else this one.
    Always(&'static str),
    /// The token that the tokenizer itself puts before a text, if any.
    AsTokenizer,
}

/// A model on the Hugging Face Hub that has a short name.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct KnownModel {
    /// The short name, as on the command line and in tables.
    pub name: &'static str,
    /// The family in tables: models trained in the same way.
    pub family: &'static str,
    /// Its id on the Hub.
    pub hub_id: &'static str,
    /// Its former id, under which a cache may still have it.
    pub former_hub_id: Option<&'static str>,
    /// Blocks.
    pub n_layers: usize,
    /// Query heads per block.
    pub n_heads: usize,
    /// Nominal size in millions of parameters.
    pub params_m: f64,
}

impl KnownModel {
    pub(super) const fn new(
        name: &'static str,
        family: &'static str,
        hub_id: &'static str,
        n_layers: usize,
        n_heads: usize,
        params_m: f64,
    ) -> Self {
        Self { name, family, hub_id, former_hub_id: None, n_layers, n_heads, params_m }
    }

    pub(super) const fn formerly(self, id: &'static str) -> Self {
        Self { former_hub_id: Some(id), ..self }
    }
}

/// Parameters that vary within a family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parameters {
    /// Whether the query, key and value projections have biases.
    pub qkv_bias: bool,
    /// Whether the attention output projection has a bias.
    pub attn_out_bias: bool,
    /// Whether the MLP's layers have biases.
    pub mlp_bias: bool,
    /// Whether norms have a gain, and layer norms a bias.
    pub norm_affine: bool,
    /// Whether the unembedding has a bias.
    pub unembed_bias: bool,
}

impl Parameters {
    /// Norms with gains, no biases.
    pub(super) const NO_BIASES: Self = Self {
        qkv_bias: false,
        attn_out_bias: false,
        mlp_bias: false,
        norm_affine: true,
        unembed_bias: false,
    };
}

/// What a family reads from a `config.json`.
pub(crate) struct Description {
    pub(crate) spec: ModelSpec,
    pub(crate) parameters: Parameters,
    pub(crate) bos_token_id: Option<u32>,
}

impl fmt::Debug for Family {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.model_type)
    }
}

impl PartialEq for Family {
    fn eq(&self, other: &Self) -> bool {
        self.model_type == other.model_type
    }
}
