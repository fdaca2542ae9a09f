//! The tokenizer interface that prompts need.

use cs_model::tokenizer::Token;

use super::PromptError;

/// Why a tokenizer could not encode or decode.
pub type TokenizeError = Box<dyn std::error::Error + Send + Sync>;

/// A model's tokenizer, under the model's name.
///
/// It may add characters to a text or change them: the position of a token in a text always comes from
/// [`Tokenize::encode`], never from decoded tokens.
pub trait Tokenize {
    /// The model's name in files and errors.
    fn model(&self) -> &str;

    /// A hash of the tokenizer's contents; models with the same hash share a tokenizer.
    fn hash(&self) -> &str;

    /// The token put before every prompt; `None` for a model without BOS.
    fn bos_id(&self) -> Option<u32>;

    /// The tokens of a text, without BOS or any other token that the text does not contain.
    ///
    /// # Errors
    /// If the tokenizer cannot encode the text.
    fn encode(&self, text: &str) -> Result<Vec<Token>, TokenizeError>;

    /// The text of some tokens, for messages.
    ///
    /// # Errors
    /// For ids that the tokenizer does not have.
    fn decode(&self, ids: &[u32]) -> Result<String, TokenizeError>;
}

/// Tokens of `text`; checked to be free of BOS, so that one can be put in front.
pub(super) fn encode(tokenizer: &dyn Tokenize, text: &str) -> Result<Vec<Token>, PromptError> {
    let tokens = tokenizer.encode(text).map_err(|source| PromptError::Tokenizer {
        model: tokenizer.model().to_owned(),
        text: text.to_owned(),
        source,
    })?;
    if tokens.iter().any(|token| Some(token.id) == tokenizer.bos_id()) {
        return Err(PromptError::BosInText { model: tokenizer.model().to_owned(), text: text.to_owned() });
    }
    Ok(tokens)
}

/// The ids of `tokens`, starting with BOS if the model has one.
pub(super) fn with_bos(tokenizer: &dyn Tokenize, tokens: &[Token]) -> Vec<u32> {
    tokenizer.bos_id().into_iter().chain(tokens.iter().map(|token| token.id)).collect()
}

/// Each token's text, quoted, for messages.
pub(super) fn show(tokenizer: &dyn Tokenize, tokens: &[Token]) -> Result<String, PromptError> {
    let quoted = tokens.iter().map(|token| {
        let text = tokenizer.decode(&[token.id]).map_err(|source| PromptError::Tokenizer {
            model: tokenizer.model().to_owned(),
            text: format!("token {}", token.id),
            source,
        })?;
        Ok(format!("'{text}'"))
    });
    Ok(quoted.collect::<Result<Vec<_>, PromptError>>()?.join(", "))
}
