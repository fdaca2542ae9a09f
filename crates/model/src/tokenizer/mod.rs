//! BPE tokenizers that can encode every text (byte-level or with byte fallback), and their BOS.
//!
//! A tokenizer comes from `tokenizer.json`, or from `vocab.json` and `merges.txt` (the OPT repositories have only
//! these). The BPE itself is Hugging Face's `tokenizers`; this module adds what a model needs around it: ids within
//! the vocabulary, added tokens, and exactly one BOS if the model has one.

mod special;
mod vocabulary;

use std::ops::Range;

use sha2::{Digest, Sha256};

use crate::config::ModelConfig;
use crate::error::LoadError;
use crate::families::Bos;
use crate::files::ModelFiles;
use crate::hex::hex;
use special::Declared;

/// A token, and the part of the text that it covers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// Its id.
    pub id: u32,
    /// The bytes of the text that it covers. Spaces at either end may be excluded, and anything that the tokenizer itself
    /// inserted (a space before the first word) is not part of it, so it may be empty.
    pub span: Range<usize>,
}

/// A text or token list that a tokenizer cannot translate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenizeError {
    /// The tokenizer failed.
    #[error("{text:?} cannot be tokenized: {reason}")]
    Encode {
        /// The text.
        text: String,
        /// The tokenizer's error message.
        reason: String,
    },
    /// A token that was added to the tokenizer but not to the model.
    #[error(
        "{text:?} holds {token:?}, token {id}, and the model has rows for ids below {d_vocab} only; \
         leave it out, or use the checkpoint that was resized for it"
    )]
    NoRow {
        /// The text.
        text: String,
        /// The token's own text.
        token: String,
        /// Its id.
        id: u32,
        /// The model's `vocab_size`.
        d_vocab: usize,
    },
    /// A character that the tokenizer would silently drop.
    #[error("{text:?} holds {character:?}, which the tokenizer has no token for; leave it out")]
    UnknownCharacter {
        /// The text.
        text: String,
        /// The character.
        character: char,
    },
    /// An id beyond the tokenizer's vocabulary.
    #[error("no token has the id {id}; the tokenizer's ids go up to {max_id}")]
    UnknownId {
        /// The id.
        id: u32,
        /// The largest id.
        max_id: u32,
    },
    /// The tokenizer failed.
    #[error("tokens {ids:?} cannot be decoded: {reason}")]
    Decode {
        /// The ids.
        ids: Vec<u32>,
        /// The tokenizer's error message.
        reason: String,
    },
}

/// A model's tokenizer.
#[derive(Debug, Clone)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    bos_id: Option<u32>,
    max_id: u32,
    vocab_size: usize,
    /// Rows of the model's embedding, if there is a model.
    d_vocab: Option<usize>,
    /// Bytes of UTF-8 without a token.
    unknown_bytes: Vec<u8>,
    hash: String,
    notes: Vec<String>,
}

impl Tokenizer {
    /// The tokenizer of a checkpoint, checked against its `config.json`.
    ///
    /// # Errors
    /// [`LoadError::MissingFile`] if the model has none, and those of [`Tokenizer::optional`].
    pub fn from_files(files: &ModelFiles, config: &ModelConfig) -> Result<Self, LoadError> {
        Self::optional(files, config)?.ok_or_else(|| vocabulary::missing(files))
    }

    /// Like [`Tokenizer::from_files`], but `None` if there is neither `tokenizer.json` nor `vocab.json`.
    ///
    /// # Errors
    /// Those of [`Tokenizer::alone`]; an id at or beyond `vocab_size`, unless the token was added to the tokenizer (then a
    /// text that uses it is rejected); a `bos_token_id` other than the tokenizer's own BOS.
    pub fn optional(files: &ModelFiles, config: &ModelConfig) -> Result<Option<Self>, LoadError> {
        Self::read(files, config.family.bos, config.bos_token_id, Some(config.spec.d_vocab))
    }

    /// A tokenizer without a model. Its BOS follows `bos`, a [family's](crate::families::Family::bos) rule.
    ///
    /// # Errors
    /// Missing or invalid files, an unsupported kind of tokenizer, or a missing BOS.
    pub fn alone(files: &ModelFiles, bos: Bos) -> Result<Self, LoadError> {
        Self::read(files, bos, None, None)?.ok_or_else(|| vocabulary::missing(files))
    }

    /// Reads the tokenizer and checks it against the model's `d_vocab`, if there is a model.
    fn read(
        files: &ModelFiles,
        bos: Bos,
        config_bos: Option<u32>,
        d_vocab: Option<usize>,
    ) -> Result<Option<Self>, LoadError> {
        let mut declared = Declared::read(files)?;
        let Some((mut inner, file)) = vocabulary::read(files, &mut declared)? else { return Ok(None) };
        declared.add_to(&mut inner, &file)?;
        let bos_id = special::bos_id(&inner, &file, &mut declared, bos, config_bos, files)?;

        let vocab = inner.get_vocab(true);
        let max_id = vocab.values().copied().max().unwrap_or(0);
        let does_not_fit = |problem: String| LoadError::Tokenizer {
            file: file.clone(),
            problem: format!("does not fit the model: {problem}"),
            fix: "use the tokenizer that belongs to this checkpoint".to_owned(),
        };
        if let Some(d_vocab) = d_vocab {
            let added = inner.get_added_vocabulary().get_vocab();
            let own = vocab.iter().filter(|(token, _)| !added.contains_key(*token)).map(|(_, &id)| id);
            let needed = own.chain(bos_id).max().unwrap_or(0);
            if needed as usize >= d_vocab {
                return Err(does_not_fit(format!(
                    "its largest token id is {needed}, but {} gives a vocab_size of {d_vocab}",
                    files.label("config.json")
                )));
            }
        }
        // Checked before anything iterates up to the largest id, which a broken file may set to any value.
        if max_id as usize >= 2 * vocab.len() + 1024 {
            let n_tokens = vocab.len();
            return Err(does_not_fit(format!(
                "its largest token id is {max_id}, but it has {n_tokens} tokens"
            )));
        }
        let json = inner.to_string(false).map_err(|e| LoadError::Tokenizer {
            file: file.clone(),
            problem: format!("cannot be written as a tokenizer.json ({e})"),
            fix: "fetch it again".to_owned(),
        })?;
        let hash = hex(&Sha256::digest(json));
        Ok(Some(Tokenizer {
            bos_id,
            max_id,
            vocab_size: vocab.len(),
            d_vocab,
            unknown_bytes: vocabulary::unknown_bytes(&inner),
            hash,
            notes: declared.notes,
            inner,
        }))
    }

    /// The tokens of a text. Nothing is added before or after it, even if the tokenizer's settings would.
    ///
    /// # Errors
    /// [`TokenizeError::UnknownCharacter`] for the few characters that some tokenizers drop, [`TokenizeError::NoRow`] for a
    /// token that the model has no row for, and [`TokenizeError::Encode`] if the library fails.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, TokenizeError> {
        self.check_characters(text)?;
        let ids = self.translated(text, self.inner.encode_fast(text, false))?.get_ids().to_vec();
        ids.iter().try_for_each(|&id| self.check_row(text, id))?;
        Ok(ids)
    }

    /// Like [`Tokenizer::encode`], with the part of the text that each token covers according to the tokenizer, whatever
    /// its normalizer and pre-tokenizer added or changed.
    ///
    /// # Errors
    /// Those of [`Tokenizer::encode`].
    pub fn encode_with_spans(&self, text: &str) -> Result<Vec<Token>, TokenizeError> {
        self.check_characters(text)?;
        let encoding = self.translated(text, self.inner.encode(text, false))?;
        let tokens = encoding.get_ids().iter().zip(encoding.get_offsets()).map(|(&id, &(start, end))| {
            self.check_row(text, id)?;
            Ok(Token { id, span: start..end })
        });
        tokens.collect()
    }

    fn translated(
        &self,
        text: &str,
        encoding: tokenizers::Result<tokenizers::Encoding>,
    ) -> Result<tokenizers::Encoding, TokenizeError> {
        encoding.map_err(|e| TokenizeError::Encode { text: text.to_owned(), reason: e.to_string() })
    }

    /// Rejects a text that would lose characters.
    fn check_characters(&self, text: &str) -> Result<(), TokenizeError> {
        let is_unknown =
            |c: &char| c.encode_utf8(&mut [0; 4]).bytes().any(|byte| self.unknown_bytes.contains(&byte));
        if self.unknown_bytes.is_empty() {
            return Ok(());
        }
        match text.chars().find(is_unknown) {
            Some(character) => Err(TokenizeError::UnknownCharacter { text: text.to_owned(), character }),
            None => Ok(()),
        }
    }

    /// Rejects a token that the model has no row for.
    fn check_row(&self, text: &str, id: u32) -> Result<(), TokenizeError> {
        match self.d_vocab {
            Some(d_vocab) if id as usize >= d_vocab => Err(TokenizeError::NoRow {
                text: text.to_owned(),
                token: self.inner.id_to_token(id).unwrap_or_default(),
                id,
                d_vocab,
            }),
            _ => Ok(()),
        }
    }

    /// The tokens of a prompt, starting with exactly one BOS even if the text itself begins with it; without BOS if the
    /// model has none.
    ///
    /// # Errors
    /// Those of [`Tokenizer::encode`].
    pub fn encode_with_bos(&self, text: &str) -> Result<Vec<u32>, TokenizeError> {
        let mut ids = self.encode(text)?;
        if let Some(bos_id) = self.bos_id.filter(|bos_id| ids.first() != Some(bos_id)) {
            ids.insert(0, bos_id);
        }
        Ok(ids)
    }

    /// The text of some tokens, including special ones. Bytes that form no whole character become `�`.
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

    /// The id of a text that is a single token; `None` if it is not.
    pub fn single_token(&self, text: &str) -> Option<u32> {
        match self.encode(text).as_deref() {
            Ok(&[id]) => Some(id),
            _ => None,
        }
    }

    /// Remarks for the user about the tokenizer's files, one line each.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The token put before every prompt, if any.
    pub fn bos_id(&self) -> Option<u32> {
        self.bos_id
    }

    /// Number of tokens, including added ones. A model's `d_vocab` is often padded beyond it.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// Whether an id belongs to a token rather than to the padding of a model's vocabulary.
    pub fn is_real(&self, id: u32) -> bool {
        self.inner.id_to_token(id).is_some()
    }

    /// SHA-256, in hexadecimal, of the tokenizer in the canonical form of a `tokenizer.json`: vocabulary, merges,
    /// added tokens and settings.
    pub fn hash(&self) -> &str {
        &self.hash
    }
}
