//! A study's prompts as one model's tokens.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use cs_analysis::layout::Layout;
use serde::{Deserialize, Serialize};

use super::one_token::{Answers, broken_mention};
use super::record::write_lines;
use super::tokenize::{Tokenize, encode, with_bos};
use super::{Prompt, PromptError, PromptSet, Protocol, Split, Token, continuation};
use crate::task::{Candidates, Order, Rendered, Task};

/// One distinct prompt as run by a model: a line of `<task>_<model>.jsonl`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenizedPrompt {
    /// The prompt, without BOS and without its answer.
    pub text: String,
    /// Its tokens, starting with one BOS if the model has one.
    pub token_ids: Vec<u32>,
    /// The correct answer.
    pub correct: String,
    /// The token of the correct answer.
    pub correct_id: u32,
    /// The other answer.
    pub distractor: String,
    /// The token of the other answer.
    pub distractor_id: u32,
    /// How many times the prompt was drawn.
    pub weight: u32,
    /// Its split.
    pub split: Split,
    /// Its template's id.
    pub template: String,
    /// Which of the two mentions is repeated; `None` if a prompt is not made of names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<Order>,
    /// The words for the template's other placeholders.
    pub fillers: BTreeMap<String, String>,
    /// Another prompt of the task; see [`Prompt::resample`].
    pub resample_text: Option<String>,
    /// Its tokens, as many as in `token_ids`.
    pub resample_token_ids: Option<Vec<u32>>,
    /// The corrupted text, for causal tracing; `None` if a file of prompts has none.
    pub corrupted_text: Option<String>,
    /// Its tokens, as many as in `token_ids`; missing if the two differ in length, which only happens under `published`
    /// and for files.
    pub corrupted_token_ids: Option<Vec<u32>>,
    /// The source of values for mean and resample ablation; see [`Prompt::references`]. Those that differ in length are left
    /// out, which only happens under `published` and for files.
    pub references: Vec<TokenizedReference>,
}

/// A reference prompt as run by a model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenizedReference {
    /// The text.
    pub text: String,
    /// Its tokens, one BOS in front, as many as the prompt's.
    pub token_ids: Vec<u32>,
}

/// A candidate answer and the token that represents it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidate {
    /// The name or word.
    pub name: String,
    /// Its token; under `published` the last one of `" NAME"`.
    pub id: u32,
}

/// The prompts of one task as one model's tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenizedPrompts {
    /// The task's name.
    pub task: String,
    /// Where the prompts come from.
    pub protocol: Protocol,
    /// The model.
    pub model: String,
    /// Hash of its tokenizer.
    pub tokenizer_hash: String,
    /// Distinct prompts, in the order of [`PromptSet::prompts`].
    pub prompts: Vec<TokenizedPrompt>,
    /// Templates that prompts can have under the protocol.
    pub n_templates: usize,
    /// Every answer of the task: the names in use, in the order of the task's lists, or the answers of all prompts. Empty if only
    /// a prompt's own two answers count.
    pub candidates: Vec<Candidate>,
    /// Whether the prompts come from a file.
    pub from_file: bool,
}

/// A clean and a corrupted prompt of equal length: a line of `<task>_pairs_<model>.jsonl`.
///
/// For the corrupted one the distractor is correct, or no longer wrong. Correct and distractor are the clean prompt's,
/// in both runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TracingPair {
    /// The prompt.
    pub clean_text: String,
    /// The corrupted prompt.
    pub corrupted_text: String,
    /// Tokens of the prompt, one BOS in front.
    pub clean_token_ids: Vec<u32>,
    /// Tokens of the corrupted prompt, equally many.
    pub corrupted_token_ids: Vec<u32>,
    /// The clean prompt's correct answer.
    pub correct: String,
    /// Its token.
    pub correct_id: u32,
    /// The clean prompt's other answer.
    pub distractor: String,
    /// Its token.
    pub distractor_id: u32,
    /// How many times the clean prompt was drawn.
    pub weight: u32,
    /// The split of the clean prompt.
    pub split: Split,
    /// The template's id.
    pub template: String,
    /// Which of the two mentions the clean prompt repeats, of a prompt made of names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<Order>,
}

/// The tracing pairs of one split.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TracingPairs {
    /// The task's name.
    pub task: String,
    /// The model.
    pub model: String,
    /// One pair for each distinct prompt that has a corrupted version of equal length.
    pub pairs: Vec<TracingPair>,
    /// Texts of the prompts without one; only under `published` and for files.
    pub left_out: Vec<String>,
    /// Whether the prompts come from a file.
    pub from_file: bool,
}

impl PromptSet {
    /// The prompts as a model's tokens. The model need not be one for which the prompts were chosen.
    ///
    /// # Errors
    /// Under `standard`, [`PromptError::OneToken`] if an answer is not one token, or a name is not one token at each of its
    /// mentions; [`PromptError::SameAnswer`] if both answers are the same token; a tokenizer error.
    pub fn tokenize(&self, tokenizer: &dyn Tokenize) -> Result<TokenizedPrompts, PromptError> {
        let one_token = self.protocol == Protocol::Standard;
        let mut ids: BTreeMap<&str, u32> = BTreeMap::new();
        let context = self.prompts.first().map_or("", |prompt| &prompt.text);
        let answers = Answers::after(tokenizer, context)?;
        for name in self.names.all() {
            let answer = continuation(name, false);
            let id = answers
                .of(&answer, one_token)?
                .map_err(|reason| self.broken_rule(tokenizer, &answer, reason))?;
            ids.insert(name, id);
        }
        let reader = Reader { set: self, tokenizer, ids: &ids, one_token };
        let prompts = self.prompts.iter().map(|prompt| reader.read(prompt)).collect::<Result<Vec<_>, _>>()?;
        let candidate = |name: &str, id: u32| Candidate { name: name.to_owned(), id };
        let candidates = match &self.task {
            Task::Names(_) => {
                self.names.all().filter_map(|name| Some(candidate(name, *ids.get(name)?))).collect()
            }
            Task::Words(task) if task.candidates == Candidates::Pair => Vec::new(),
            Task::Words(_) | Task::Rows(_) => {
                let answers = |p: &TokenizedPrompt| {
                    [(p.correct_id, p.correct.clone()), (p.distractor_id, p.distractor.clone())]
                };
                let all: BTreeSet<(u32, String)> = prompts.iter().flat_map(answers).collect();
                all.into_iter().map(|(id, name)| Candidate { name, id }).collect()
            }
        };
        let n_templates = match &self.task {
            Task::Names(task) if one_token => task.templates.len(),
            Task::Names(_) => 1,
            Task::Words(task) => task.templates.len(),
            Task::Rows(_) => prompts.iter().map(|prompt| &prompt.template).collect::<BTreeSet<_>>().len(),
        };
        Ok(TokenizedPrompts {
            task: self.task.name().to_owned(),
            protocol: self.protocol,
            model: tokenizer.model().to_owned(),
            tokenizer_hash: tokenizer.hash().to_owned(),
            prompts,
            n_templates,
            candidates,
            from_file: matches!(self.task, Task::Rows(_)),
        })
    }

    fn broken_rule(&self, tokenizer: &dyn Tokenize, text: &str, reason: String) -> PromptError {
        PromptError::OneToken {
            task: self.task.name().to_owned(),
            model: tokenizer.model().to_owned(),
            text: text.to_owned(),
            reason,
            fix: "prompts are chosen once for all models of a study: scan all of them in a new --out, or leave this \
                   one out"
                .to_owned(),
        }
    }
}

/// Turns a set's texts into one model's tokens.
struct Reader<'a> {
    set: &'a PromptSet,
    tokenizer: &'a dyn Tokenize,
    ids: &'a BTreeMap<&'a str, u32>,
    one_token: bool,
}

impl Reader<'_> {
    fn read(&self, prompt: &Prompt) -> Result<TokenizedPrompt, PromptError> {
        let texts = self.set.texts(prompt).ok_or_else(|| PromptError::Template {
            task: self.set.task.name().to_owned(),
            template: prompt.template.clone(),
        })?;
        let tokens = self.tokens(&texts.clean)?;
        let as_long = |twin: &Option<Rendered>| match twin {
            Some(twin) => self.twin(&prompt.text, tokens.len(), twin),
            None => Ok(None),
        };
        let (corrupted, resample) = (as_long(&texts.corrupted)?, as_long(&texts.resample)?);
        let mut references = Vec::new();
        for rendered in &texts.references {
            if let Some(tokens) = self.twin(&prompt.text, tokens.len(), rendered)? {
                let token_ids = with_bos(self.tokenizer, &tokens);
                references.push(TokenizedReference { text: rendered.text.clone(), token_ids });
            }
        }
        let answers = Answers::after(self.tokenizer, &prompt.text)?;
        let correct_id = self.answer(&answers, prompt, &prompt.correct)?;
        let distractor_id = self.answer(&answers, prompt, &prompt.distractor)?;
        if correct_id == distractor_id {
            return Err(PromptError::SameAnswer {
                task: self.set.task.name().to_owned(),
                model: self.tokenizer.model().to_owned(),
                text: prompt.text.clone(),
                correct: prompt.correct.clone(),
                distractor: prompt.distractor.clone(),
            });
        }
        Ok(TokenizedPrompt {
            text: prompt.text.clone(),
            token_ids: with_bos(self.tokenizer, &tokens),
            correct: prompt.correct.clone(),
            correct_id,
            distractor: prompt.distractor.clone(),
            distractor_id,
            weight: prompt.weight,
            split: prompt.split,
            template: prompt.template.clone(),
            order: prompt.order,
            fillers: prompt.fillers.clone(),
            resample_text: resample.is_some().then(|| texts.resample.map(|twin| twin.text)).flatten(),
            resample_token_ids: resample.map(|tokens| with_bos(self.tokenizer, &tokens)),
            corrupted_text: prompt.corrupted_text.clone(),
            corrupted_token_ids: corrupted.map(|tokens| with_bos(self.tokenizer, &tokens)),
            references,
        })
    }

    /// Tokens of a text, checking each mention of a name if the one-token rule applies.
    fn tokens(&self, rendered: &Rendered) -> Result<Vec<Token>, PromptError> {
        let tokens = encode(self.tokenizer, &rendered.text)?;
        if self.one_token
            && let Some(reason) =
                broken_mention(self.tokenizer, &tokens, rendered, |name| self.ids.get(name).copied())?
        {
            return Err(self.set.broken_rule(self.tokenizer, &rendered.text, reason));
        }
        Ok(tokens)
    }

    /// Tokens of a text that must have length `len`: otherwise an error if names or words are single tokens, and `None` for
    /// other prompts.
    fn twin(&self, text: &str, len: usize, twin: &Rendered) -> Result<Option<Vec<Token>>, PromptError> {
        let tokens = self.tokens(twin)?;
        if tokens.len() == len {
            Ok(Some(tokens))
        } else if self.one_token && !matches!(self.set.task, Task::Rows(_)) {
            Err(PromptError::UnequalLength {
                task: self.set.task.name().to_owned(),
                model: self.tokenizer.model().to_owned(),
                text: text.to_owned(),
                len,
                twin: twin.text.clone(),
                twin_len: tokens.len(),
            })
        } else {
            Ok(None)
        }
    }

    /// The token of an answer; for a name it must be the same after every prompt.
    fn answer(&self, answers: &Answers, prompt: &Prompt, answer: &str) -> Result<u32, PromptError> {
        let broken = |reason| self.set.broken_rule(self.tokenizer, &prompt.text, reason);
        let id = answers.of(&prompt.continuation(answer), self.one_token)?.map_err(broken)?;
        match self.ids.get(answer) {
            _ if self.set.task.names().is_none() => Ok(id),
            None => Err(broken(format!("{answer:?} is not one of the study's names"))),
            Some(&same) if same == id => Ok(id),
            Some(_) => Err(broken(format!("' {answer}' is a different token after {:?}", answers.text()))),
        }
    }
}

/// Number of characters of a prompt shown in messages.
const SHOWN: usize = 40;

impl TokenizedPrompts {
    /// The prompts of a split, with their indices in [`Self::prompts`].
    pub fn of_split(&self, split: Split) -> impl Iterator<Item = (usize, &TokenizedPrompt)> {
        self.prompts.iter().enumerate().filter(move |(_, prompt)| split.contains(prompt.split))
    }

    /// The same with only the prompts of one split.
    pub fn restricted_to(&self, split: Split) -> Self {
        Self { prompts: self.of_split(split).map(|(_, prompt)| prompt.clone()).collect(), ..self.clone() }
    }

    /// Checks that a model which reads `n_ctx` tokens can read every prompt.
    ///
    /// # Errors
    /// [`PromptError::TooLong`], naming the first prompt that is too long.
    pub fn require_fit(&self, n_ctx: usize) -> Result<(), PromptError> {
        let Some(prompt) = self.prompts.iter().find(|prompt| prompt.token_ids.len() > n_ctx) else {
            return Ok(());
        };
        Err(PromptError::TooLong {
            task: self.task.clone(),
            start: prompt.text.chars().take(SHOWN).collect(),
            len: prompt.token_ids.len(),
            model: self.model.clone(),
            n_ctx,
        })
    }

    /// Number of prompts drawn for a split: the sum of its weights.
    pub fn n_drawn(&self, split: Split) -> u64 {
        self.of_split(split).map(|(_, prompt)| u64::from(prompt.weight)).sum()
    }

    /// The candidates' tokens, ascending and distinct.
    pub fn candidate_ids(&self) -> Vec<u32> {
        self.candidates.iter().map(|candidate| candidate.id).collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// Clean and corrupted prompts of a split, for causal tracing.
    pub fn tracing_pairs(&self, split: Split) -> TracingPairs {
        let mut pairs = Vec::new();
        let mut left_out = Vec::new();
        for (_, prompt) in self.of_split(split) {
            match prompt.corrupted_text.as_ref().zip(prompt.corrupted_token_ids.as_ref()) {
                None => left_out.push(prompt.text.clone()),
                Some((text, corrupted)) => pairs.push(TracingPair {
                    clean_text: prompt.text.clone(),
                    corrupted_text: text.clone(),
                    clean_token_ids: prompt.token_ids.clone(),
                    corrupted_token_ids: corrupted.clone(),
                    correct: prompt.correct.clone(),
                    correct_id: prompt.correct_id,
                    distractor: prompt.distractor.clone(),
                    distractor_id: prompt.distractor_id,
                    weight: prompt.weight,
                    split: prompt.split,
                    template: prompt.template.clone(),
                    order: prompt.order,
                }),
            }
        }
        TracingPairs {
            task: self.task.clone(),
            model: self.model.clone(),
            pairs,
            left_out,
            from_file: self.from_file,
        }
    }

    /// Writes the prompts to their path in a study, [`Layout::prompts`], and returns it.
    ///
    /// # Errors
    /// [`PromptError::File`].
    pub fn write(&self, layout: &Layout) -> Result<PathBuf, PromptError> {
        let path = layout.prompts(&self.task, &self.model);
        write_lines(&path, &self.prompts)?;
        Ok(path)
    }
}

impl TracingPairs {
    /// Writes the pairs to their path in a study, [`Layout::tracing_pairs`], and returns it.
    ///
    /// # Errors
    /// [`PromptError::File`].
    pub fn write(&self, layout: &Layout) -> Result<PathBuf, PromptError> {
        let path = layout.tracing_pairs(&self.task, &self.model);
        write_lines(&path, &self.pairs)?;
        Ok(path)
    }
}
