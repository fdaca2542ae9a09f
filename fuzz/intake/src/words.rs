//! A tokenizer for any text, for drawing prompts from an untrusted task.

use std::cell::RefCell;
use std::collections::HashMap;

use cs_circuits::prompts::{Token, Tokenize, TokenizeError};

/// One token per word with the space before it, and per punctuation mark. Ids are assigned in order of
/// appearance; 0 is the BOS.
#[derive(Default)]
pub(crate) struct Words {
    seen: RefCell<(HashMap<String, u32>, Vec<String>)>,
}

impl Tokenize for Words {
    fn model(&self) -> &str {
        "words"
    }

    fn hash(&self) -> &str {
        "words"
    }

    fn bos_id(&self) -> Option<u32> {
        Some(0)
    }

    fn encode(&self, text: &str) -> Result<Vec<Token>, TokenizeError> {
        let (ids, pieces) = &mut *self.seen.borrow_mut();
        // A space or mark starts a piece, so nothing is lost.
        let starts = text
            .char_indices()
            .filter(|&(i, c)| i == 0 || c == ' ' || c.is_ascii_punctuation())
            .map(|(i, _)| i);
        let ends = starts.clone().skip(1).chain([text.len()]);
        let piece = |(start, end): (usize, usize)| {
            let piece = &text[start..end];
            let id = *ids.entry(piece.to_owned()).or_insert_with(|| {
                pieces.push(piece.to_owned());
                pieces.len() as u32
            });
            Token { id, span: start..end }
        };
        Ok(starts.zip(ends).map(piece).collect())
    }

    fn decode(&self, ids: &[u32]) -> Result<String, TokenizeError> {
        let (_, pieces) = &*self.seen.borrow();
        let piece = |&id: &u32| Some(pieces.get((id as usize).checked_sub(1)?)?.as_str());
        ids.iter().map(piece).collect::<Option<String>>().ok_or_else(|| "no such token".into())
    }
}
