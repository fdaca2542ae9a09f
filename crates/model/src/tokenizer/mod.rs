//! Byte-level BPE tokenizers, as all four families have, with exactly one BOS.
//!
//! A tokenizer comes from `tokenizer.json`, or from `vocab.json` and `merges.txt` (the OPT repositories have only
//! these). The BPE itself is Hugging Face's `tokenizers`; this module sees to what a model needs around it: ids that
//! fit the vocabulary, added tokens, and the BOS.

mod special;
mod vocabulary;

use sha2::{Digest, Sha256};

use crate::config::Architecture;
use crate::config::ModelConfig;
use crate::error::LoadError;
use crate::files::ModelFiles;
use crate::hex::hex;
use special::Declared;

/// A text or token list that a tokenizer cannot translate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenizeError {
    /// The tokenizer failed.
    #[error("{text:?} cannot be tokenized: {reason}")]
    Encode {
        /// The text.
        text: String,
        /// The tokenizer's own words.
        reason: String,
    },
    /// An id beyond the tokenizer's vocabulary.
    #[error("no token has the id {id}; the tokenizer's ids go up to {max_id}")]
    UnknownId {
        /// The id.
        id: u32,
        /// The largest there is.
        max_id: u32,
    },
    /// The tokenizer failed.
    #[error("tokens {ids:?} cannot be decoded: {reason}")]
    Decode {
        /// The ids.
        ids: Vec<u32>,
        /// The tokenizer's own words.
        reason: String,
    },
}

/// A model's tokenizer.
#[derive(Debug, Clone)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    bos_id: u32,
    max_id: u32,
    vocab_size: usize,
    hash: String,
}

impl Tokenizer {
    /// The tokenizer beside a checkpoint, checked against its `config.json`.
    ///
    /// # Errors
    /// [`LoadError::MissingFile`] where the model has none, and those of [`Tokenizer::optional`].
    pub fn from_files(files: &ModelFiles, config: &ModelConfig) -> Result<Self, LoadError> {
        Self::optional(files, config)?.ok_or_else(|| vocabulary::missing(files))
    }

    /// As [`Tokenizer::from_files`], but `None` where there is neither `tokenizer.json` nor `vocab.json`.
    ///
    /// # Errors
    /// Those of [`Tokenizer::alone`]; an id at or beyond `vocab_size`; a `bos_token_id` other than the tokenizer's
    /// own BOS.
    pub fn optional(files: &ModelFiles, config: &ModelConfig) -> Result<Option<Self>, LoadError> {
        Self::read(files, config.architecture, config.bos_token_id, Some(config.spec.d_vocab))
    }

    /// A tokenizer without a model. Its BOS is the one that `tokenizer_config.json` or `special_tokens_map.json`
    /// name, else `<|endoftext|>`, or `</s>` for OPT.
    ///
    /// # Errors
    /// Missing or broken files, a tokenizer that is not byte-level BPE, or one without a BOS.
    pub fn alone(files: &ModelFiles, architecture: Architecture) -> Result<Self, LoadError> {
        Self::read(files, architecture, None, None)?.ok_or_else(|| vocabulary::missing(files))
    }

    /// The tokenizer, checked against the model's `d_vocab` where there is a model.
    fn read(
        files: &ModelFiles,
        architecture: Architecture,
        config_bos: Option<u32>,
        d_vocab: Option<usize>,
    ) -> Result<Option<Self>, LoadError> {
        let declared = Declared::read(files)?;
        let Some((mut inner, file)) = vocabulary::read(files, &declared)? else { return Ok(None) };
        declared.add_to(&mut inner, &file)?;
        let bos_id = special::bos_id(&inner, &file, &declared, architecture, config_bos, files)?;

        let vocab = inner.get_vocab(true);
        let max_id = vocab.values().copied().max().unwrap_or(0);
        // Before anything walks over all ids up to the largest, which a broken file may put anywhere.
        let (limit, source) = match d_vocab {
            Some(d_vocab) => {
                (d_vocab, format!("{} gives a vocab_size of {d_vocab}", files.label("config.json")))
            }
            None => (2 * vocab.len() + 1024, format!("it has {} tokens", vocab.len())),
        };
        if max_id as usize >= limit {
            return Err(LoadError::Tokenizer {
                file,
                problem: format!("does not fit the model: its largest token id is {max_id}, but {source}"),
                mend: "use the tokenizer that belongs to this checkpoint".to_owned(),
            });
        }
        let json = inner.to_string(false).map_err(|e| LoadError::Tokenizer {
            file: file.clone(),
            problem: format!("cannot be written as a tokenizer.json ({e})"),
            mend: "fetch it again".to_owned(),
        })?;
        let hash = hex(&Sha256::digest(json));
        Ok(Some(Tokenizer { bos_id, max_id, vocab_size: vocab.len(), hash, inner }))
    }

    /// The tokens of a text. Nothing is put before or after it, even where the tokenizer's own settings would.
    ///
    /// # Errors
    /// [`TokenizeError::Encode`]; byte-level BPE knows every text, so only the library's own failure remains.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, TokenizeError> {
        match self.inner.encode_fast(text, false) {
            Ok(encoding) => Ok(encoding.get_ids().to_vec()),
            Err(e) => Err(TokenizeError::Encode { text: text.to_owned(), reason: e.to_string() }),
        }
    }

    /// The tokens of a prompt with exactly one BOS in front, also where the text itself begins with it.
    ///
    /// # Errors
    /// Those of [`Tokenizer::encode`].
    pub fn encode_with_bos(&self, text: &str) -> Result<Vec<u32>, TokenizeError> {
        let mut ids = self.encode(text)?;
        if ids.first() != Some(&self.bos_id) {
            ids.insert(0, self.bos_id);
        }
        Ok(ids)
    }

    /// The text of some tokens, special ones included. Bytes that form no whole character become `�`.
    ///
    /// # Errors
    /// An id that the tokenizer does not have.
    pub fn decode(&self, ids: &[u32]) -> Result<String, TokenizeError> {
        if let Some(&id) = ids.iter().find(|&&id| !self.is_real(id)) {
            return Err(TokenizeError::UnknownId { id, max_id: self.max_id });
        }
        self.inner
            .decode(ids, false)
            .map_err(|e| TokenizeError::Decode { ids: ids.to_vec(), reason: e.to_string() })
    }

    /// One token's text, as [`Tokenizer::decode`] gives it; `None` for an id that the tokenizer does not have.
    pub fn token_text(&self, id: u32) -> Option<String> {
        self.decode(&[id]).ok()
    }

    /// The id of a text that is one token; `None` where it is several (or none).
    pub fn single_token(&self, text: &str) -> Option<u32> {
        match self.encode(text).as_deref() {
            Ok(&[id]) => Some(id),
            _ => None,
        }
    }

    /// The token that stands before every prompt.
    pub fn bos_id(&self) -> u32 {
        self.bos_id
    }

    /// Number of tokens, added ones included. A model's `d_vocab` is often padded beyond it.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// Whether an id belongs to a token, and not to the padding of a model's vocabulary.
    pub fn is_real(&self, id: u32) -> bool {
        self.inner.id_to_token(id).is_some()
    }

    /// SHA-256, in hexadecimal, of the tokenizer in the canonical form of a `tokenizer.json`: vocabulary, merges,
    /// added tokens and settings.
    pub fn hash(&self) -> &str {
        &self.hash
    }
}
