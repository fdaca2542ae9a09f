//! The language of the planted models: its tokens, and both tasks in it.

use cs_circuits::prompts::{PromptOptions, PromptSet, Token, Tokenize, TokenizeError, TokenizedPrompts};
use cs_circuits::task::Task;

const BOS: &str = "<bos>";
/// All tokens except names: words with the space before them, and punctuation marks.
const WORDS: [&str; 21] = [
    "When", "After", "Today", "Then", " and", " went", " to", " the", " store", " park", " met", " gave",
    " a", " book", " saw", " talked", " with", ",", ".", " at", " on",
];
/// Maximum number of distinct prompts, half of them in each split.
const N_PROMPTS: usize = 32;

/// Vocabulary, tasks and prompts. Token ids: BOS, then the names, then the words.
pub struct World {
    vocabulary: Vec<String>,
    n_names: usize,
    /// Prompts of indirect object identification.
    pub ioi: TokenizedPrompts,
    /// Prompts of anti-repeat.
    pub anti: TokenizedPrompts,
    /// The same as text, IOI first.
    pub sets: [PromptSet; 2],
}

impl World {
    /// Draws the prompts of both tasks, by the same code that draws those of real models.
    pub fn new() -> Self {
        let task = |toml, file| Task::from_toml(toml, file).expect("a valid task");
        let ioi = task(include_str!("ioi.toml"), "ioi.toml");
        let anti = task(include_str!("anti_repeat.toml"), "anti_repeat.toml");
        let names: Vec<String> =
            ioi.names().expect("names").names.all().map(|name| format!(" {name}")).collect();
        let n_names = names.len();
        let words = WORDS.iter().map(|word| (*word).to_owned());
        let vocabulary: Vec<String> = std::iter::once(BOS.to_owned()).chain(names).chain(words).collect();

        let tokenizer = Vocabulary(&vocabulary);
        let options = PromptOptions { n_prompts: Some(N_PROMPTS), ..PromptOptions::default() };
        let prompts = |task| {
            let set = PromptSet::resolve(task, &options, &[&tokenizer]).expect("prompts of the task");
            (set.tokenize(&tokenizer).expect("tokens of the prompts"), set)
        };
        let ((ioi, ioi_set), (anti, anti_set)) = (prompts(&ioi), prompts(&anti));
        Self { vocabulary, n_names, ioi, anti, sets: [ioi_set, anti_set] }
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> Vocabulary<'_> {
        Vocabulary(&self.vocabulary)
    }

    /// Tokens of the vocabulary.
    pub fn d_vocab(&self) -> usize {
        self.vocabulary.len()
    }

    /// Ids of the names.
    pub fn names(&self) -> std::ops::RangeInclusive<usize> {
        1..=self.n_names
    }

    /// The id of a token.
    pub fn id(&self, token: &str) -> usize {
        self.vocabulary.iter().position(|known| known == token).expect("a token of the vocabulary")
    }

    /// The id of BOS.
    pub fn bos(&self) -> usize {
        0
    }
}

/// Splits a text greedily into the longest tokens.
pub struct Vocabulary<'a>(&'a [String]);

impl Tokenize for Vocabulary<'_> {
    fn model(&self) -> &str {
        "planted"
    }

    fn hash(&self) -> &str {
        "planted"
    }

    fn bos_id(&self) -> Option<u32> {
        Some(0)
    }

    fn encode(&self, text: &str) -> Result<Vec<Token>, TokenizeError> {
        let mut tokens = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let fits = self.0.iter().enumerate().filter(|(_, token)| rest.starts_with(token.as_str()));
            let (id, token) =
                fits.max_by_key(|(_, token)| token.len()).ok_or_else(|| format!("no token for {rest:?}"))?;
            let start = text.len() - rest.len();
            tokens.push(Token { id: id as u32, span: start..start + token.len() });
            rest = &rest[token.len()..];
        }
        Ok(tokens)
    }

    fn decode(&self, ids: &[u32]) -> Result<String, TokenizeError> {
        ids.iter().map(|&id| self.0.get(id as usize).cloned().ok_or_else(|| "no such token".into())).collect()
    }
}
