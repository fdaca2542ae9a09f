//! Tokenizers for tests: real ones if available, and a word tokenizer.
#![allow(dead_code)]

use std::cell::RefCell;
use std::path::PathBuf;

use cs_circuits::prompts::{Token, Tokenize, TokenizeError};
use cs_circuits::task::{NameTask, Task};

/// A built-in task of names.
pub fn name_task(name: &str) -> NameTask {
    Task::load(name).unwrap().names().unwrap().clone()
}

/// Hugging Face's own tokenizer, as a model has it.
pub struct Real {
    pub model: String,
    pub inner: tokenizers::Tokenizer,
    pub bos_id: u32,
}

/// The real tokenizer with this folder name, or `None`, with a message.
pub fn real(folder: &str) -> Option<Real> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../../shared/hf")
        .join(folder)
        .join("tokenizer.json");
    if !path.exists() {
        println!("skipped: no {folder} tokenizer at ../shared/hf next to the repository");
        return None;
    }
    let inner = tokenizers::Tokenizer::from_file(&path).expect("a readable tokenizer.json");
    let bos_id = inner.token_to_id("<|endoftext|>").expect("a BOS token");
    Some(Real { model: folder.to_owned(), inner, bos_id })
}

/// The ids of a text's tokens.
pub fn ids(tokenizer: &dyn Tokenize, text: &str) -> Vec<u32> {
    tokenizer.encode(text).unwrap().into_iter().map(|token| token.id).collect()
}

impl Tokenize for Real {
    fn model(&self) -> &str {
        &self.model
    }
    fn hash(&self) -> &str {
        &self.model
    }
    fn bos_id(&self) -> Option<u32> {
        Some(self.bos_id)
    }
    fn encode(&self, text: &str) -> Result<Vec<Token>, TokenizeError> {
        let encoding = self.inner.encode(text, false)?;
        let tokens = encoding.get_ids().iter().zip(encoding.get_offsets());
        Ok(tokens.map(|(&id, &(start, end))| Token { id, span: start..end }).collect())
    }
    fn decode(&self, ids: &[u32]) -> Result<String, TokenizeError> {
        self.inner.decode(ids, false)
    }
}

/// One token per word with the space before it, and per punctuation mark. Token ids are assigned in order of
/// appearance.
pub struct Words {
    pub model: String,
    pub hash: String,
    /// Words that are two tokens: all but the last letter, and the last letter.
    pub split: Vec<String>,
    /// Two spaces are one token, as in Pythia's tokenizer.
    pub joins_spaces: bool,
    /// Text and id 0 of BOS.
    pub bos: String,
    /// Tokens by id.
    pub vocabulary: RefCell<Vec<String>>,
}

impl Words {
    pub fn new(model: &str) -> Self {
        let bos = "<bos>".to_owned();
        let vocabulary = RefCell::new(vec![bos.clone()]);
        Self {
            model: model.into(),
            hash: format!("hash of {model}"),
            split: vec![],
            joins_spaces: false,
            bos,
            vocabulary,
        }
    }

    pub fn splitting(model: &str, words: &[&str]) -> Self {
        Self { split: words.iter().map(|word| (*word).to_owned()).collect(), ..Self::new(model) }
    }

    fn id(&self, piece: &str) -> u32 {
        let mut vocabulary = self.vocabulary.borrow_mut();
        let place = vocabulary.iter().position(|known| known == piece).unwrap_or_else(|| {
            vocabulary.push(piece.to_owned());
            vocabulary.len() - 1
        });
        u32::try_from(place).unwrap()
    }
}

impl Tokenize for Words {
    fn model(&self) -> &str {
        &self.model
    }
    fn hash(&self) -> &str {
        &self.hash
    }
    fn bos_id(&self) -> Option<u32> {
        Some(0)
    }
    fn encode(&self, text: &str) -> Result<Vec<Token>, TokenizeError> {
        let mut pieces: Vec<&str> = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            if let Some(after) = rest.strip_prefix(self.bos.as_str()) {
                pieces.push(&self.bos);
                rest = after;
                continue;
            }
            if self.joins_spaces && rest.starts_with("  ") {
                pieces.push("  ");
                rest = &rest[2..];
                continue;
            }
            let start = usize::from(rest.starts_with(' '));
            let word = rest[start..].find(|c: char| !c.is_alphanumeric()).map_or(rest.len(), |n| n + start);
            let mut end = word;
            if word == start {
                // Not a word: a single space before another space, or a punctuation mark with the space before it.
                let mark = rest[start..].chars().next().filter(|c| *c != ' ').map_or(0, char::len_utf8);
                end = start + mark;
            }
            let piece = &rest[..end];
            if self.split.iter().any(|word| word == piece.trim_start()) {
                pieces.extend([&piece[..end - 1], &piece[end - 1..]]);
            } else {
                pieces.push(piece);
            }
            rest = &rest[end..];
        }
        let mut end = 0;
        let token = |piece: &str| {
            let start = end;
            end += piece.len();
            let id = if piece == self.bos { 0 } else { self.id(piece) };
            Token { id, span: start..end }
        };
        Ok(pieces.into_iter().map(token).collect())
    }
    fn decode(&self, ids: &[u32]) -> Result<String, TokenizeError> {
        let vocabulary = self.vocabulary.borrow();
        ids.iter()
            .map(|&id| vocabulary.get(id as usize).cloned().ok_or_else(|| "no such token".into()))
            .collect()
    }
}
