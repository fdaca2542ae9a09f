//! What prompts need of a tokenizer.

use super::PromptError;

/// Why a tokenizer could not encode or decode.
pub type TokenizeError = Box<dyn std::error::Error + Send + Sync>;

/// A model's tokenizer, under the model's name.
///
/// Encoding loses nothing: the decoded tokens of a text are the text, as with every byte-level tokenizer.
pub trait Tokenize {
    /// The model's name, as files and errors show it.
    fn model(&self) -> &str;

    /// A hash of the tokenizer's contents; models with the same hash share a tokenizer.
    fn hash(&self) -> &str;

    /// The token that stands before every prompt.
    fn bos_id(&self) -> u32;

    /// The tokens of a text, with no BOS or other token that the text does not contain.
    ///
    /// # Errors
    /// Whatever the tokenizer cannot encode.
    fn encode(&self, text: &str) -> Result<Vec<u32>, TokenizeError>;

    /// The text of some tokens, exactly.
    ///
    /// # Errors
    /// Ids that the tokenizer does not have.
    fn decode(&self, ids: &[u32]) -> Result<String, TokenizeError>;
}

/// Tokens of `text`; checked to be free of BOS, so that one can be put in front.
pub(super) fn encode(tokenizer: &dyn Tokenize, text: &str) -> Result<Vec<u32>, PromptError> {
    let ids = tokenizer.encode(text).map_err(|source| PromptError::Tokenizer {
        model: tokenizer.model().to_owned(),
        text: text.to_owned(),
        source,
    })?;
    if ids.contains(&tokenizer.bos_id()) {
        return Err(PromptError::BosInText { model: tokenizer.model().to_owned(), text: text.to_owned() });
    }
    Ok(ids)
}

/// `ids` with BOS in front.
pub(super) fn with_bos(tokenizer: &dyn Tokenize, ids: &[u32]) -> Vec<u32> {
    let mut all = Vec::with_capacity(ids.len() + 1);
    all.push(tokenizer.bos_id());
    all.extend_from_slice(ids);
    all
}

/// Text of `ids`.
pub(super) fn decode(tokenizer: &dyn Tokenize, ids: &[u32]) -> Result<String, PromptError> {
    tokenizer.decode(ids).map_err(|source| PromptError::Tokenizer {
        model: tokenizer.model().to_owned(),
        text: format!("tokens {ids:?}"),
        source,
    })
}
