//! The prompts of a study: names, words or rows chosen for all compared models together, texts drawn with a seed, and tokens
//! per model.
//!
//! ```text
//! Task + options + every compared tokenizer ──resolve──▶ PromptSet ──tokenize──▶ TokenizedPrompts, one per model
//!                                                        │  ▲
//!                                                        ▼  │ the study's record: models added later
//!                                               <task>_study.json       are asked the same questions
//! ```

mod draw;
mod error;
mod fitting;
mod generate;
mod one_token;
mod options;
mod record;
mod reference;
mod roles;
mod rows;
mod tokenize;
mod tokenized;
mod words;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use cs_analysis::scan_file::Split;
pub use cs_model::tokenizer::Token;
pub(crate) use draw::Draw;
pub use error::PromptError;
pub use one_token::RefusedName;
pub use options::{DEFAULT_PROMPTS, HoldOut, MAX_PROMPTS, PromptOptions, Protocol, REFERENCES_PER_TEMPLATE};
pub use reference::Reference;
pub use tokenize::{Tokenize, TokenizeError};
pub use tokenized::{
    Candidate, TokenizedPrompt, TokenizedPrompts, TokenizedReference, TracingPair, TracingPairs,
};

use crate::task::{NameTask, Names, Order, Pattern, Task, WordTask};

/// One distinct prompt, as text: the same for every model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prompt {
    /// The prompt, without BOS and without its answer.
    pub text: String,
    /// The correct answer, without the space before it.
    pub correct: String,
    /// The other answer.
    pub distractor: String,
    /// Whether the answers follow the text without a space; only in files of prompts.
    #[serde(default, skip_serializing_if = "is_false")]
    pub glued: bool,
    /// How many times it was drawn.
    pub weight: u32,
    /// Its split.
    pub split: Split,
    /// Its template's id; the group of a prompt from a file.
    pub template: String,
    /// Which of the two mentions is repeated; `None` for prompts without names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<Order>,
    /// The name mentioned first; empty for prompts without names.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub first: String,
    /// The name mentioned second; empty for prompts without names.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub second: String,
    /// The words for the other placeholders of a template of names.
    #[serde(default)]
    pub fillers: BTreeMap<String, String>,
    /// The corrupted prompt for causal tracing: with the repeated name swapped for the other one, or as given by the template
    /// of words or the file. `None` if the file has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub corrupted_text: Option<String>,
    /// Another prompt of the task, for resample ablation with [`Reference::Same`]: with two other names, other words, or another
    /// row of the file of the same group and length.
    ///
    /// Always present under `standard`, except for files of prompts. Missing under `published` if no two other names have,
    /// position by position, as many tokens in every compared tokenizer.
    pub resample: Option<Twin>,
    /// The prompt with three different names, the template's reference prompts, or the file's corrupted ones, for mean and
    /// resample ablation with [`Reference::Abc`]: one or more, see [`REFERENCES_PER_TEMPLATE`].
    ///
    /// There are none under `published` if no three names have, position by position, as many tokens in every compared tokenizer,
    /// and none in a file without corrupted prompts.
    pub references: Vec<ReferencePrompt>,
}

impl Prompt {
    /// A prompt of weight 1 without names.
    fn of_text(text: String, [correct, distractor]: [String; 2], split: Split, template: &str) -> Self {
        Self {
            text,
            correct,
            distractor,
            glued: false,
            weight: 1,
            split,
            template: template.to_owned(),
            order: None,
            first: String::new(),
            second: String::new(),
            fillers: BTreeMap::new(),
            corrupted_text: None,
            resample: None,
            references: Vec::new(),
        }
    }

    /// How the text continues with `answer`.
    fn continuation(&self, answer: &str) -> String {
        continuation(answer, self.glued)
    }
}

/// How a prompt continues with `answer`.
fn continuation(answer: &str, glued: bool) -> String {
    if glued { answer.to_owned() } else { format!(" {answer}") }
}

fn is_false(flag: &bool) -> bool {
    !flag
}

/// A prompt's twin: the same template, fillers and order with two other names; or another prompt of the task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Twin {
    /// The name mentioned first; empty for prompts without names.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub first: String,
    /// The name mentioned second; empty for prompts without names.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub second: String,
    /// The text.
    pub text: String,
}

/// A reference prompt: the same template and fillers with three different names, so that none is repeated; or as defined
/// by the task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReferencePrompt {
    /// The name at `{first}`; empty for prompts without names.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub first: String,
    /// The name at `{second}`; empty for prompts without names.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub second: String,
    /// The name at `{repeated}`; empty for prompts without names.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub third: String,
    /// The text.
    pub text: String,
}

/// A model of the study and its tokenizer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenizerRecord {
    /// The model's name.
    pub model: String,
    /// Hash of its tokenizer.
    pub tokenizer_hash: String,
}

/// The prompts of one task for all models of a study.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PromptSet {
    /// The complete task, so that a record of the prompts needs no other file.
    pub task: Task,
    /// Where the prompts come from.
    pub protocol: Protocol,
    /// Seed of every draw.
    pub seed: u64,
    /// What is unique to held-out prompts.
    pub hold_out: HoldOut,
    /// Prompts drawn: the sum of all weights.
    pub n_prompts: usize,
    /// The limit on rows, for a file of prompts with more; `None` if all were used, and for other tasks.
    pub limit: Option<usize>,
    /// The names in use, each a candidate answer of every prompt; none in a task without names.
    pub names: Names,
    /// Names, words or lines of a file that some tokenizer rejects.
    pub refused: Vec<RefusedName>,
    /// The models for which names were chosen.
    pub tokenizers: Vec<TokenizerRecord>,
    /// Distinct prompts: discovery, then held-out, each in the order drawn.
    pub prompts: Vec<Prompt>,
}

impl PromptSet {
    /// Chooses the names, words or rows that every tokenizer accepts and draws the prompts.
    ///
    /// The result depends on the tokenizers only through the set of usable names, words or rows (under `published`, through the
    /// lengths of resampled twins and reference prompts), not on their order.
    ///
    /// # Errors
    /// [`PromptError`]: no models, 0 prompts, too few usable names, a task without a published form, a tokenizer that
    /// fails or that breaks the one-token rule on a drawn prompt.
    pub fn resolve(
        task: &Task,
        options: &PromptOptions,
        tokenizers: &[&dyn Tokenize],
    ) -> Result<Self, PromptError> {
        if tokenizers.is_empty() {
            return Err(PromptError::NoModels { task: task.name().to_owned() });
        }
        options.check_hold_out(task)?;
        let mut tokenizers = tokenizers.to_vec();
        tokenizers.sort_by(|a, b| a.model().cmp(b.model()));
        let chosen = match task {
            Task::Names(task) => Chosen::names(task, options, &tokenizers)?,
            Task::Words(task) => Chosen::words(task, options, &tokenizers)?,
            Task::Rows(task) => rows::choose(task, options, &tokenizers)?,
        };
        let records = tokenizers
            .iter()
            .map(|tokenizer| TokenizerRecord {
                model: tokenizer.model().to_owned(),
                tokenizer_hash: tokenizer.hash().to_owned(),
            })
            .collect();
        let set = Self {
            task: task.clone(),
            protocol: options.protocol,
            seed: options.seed,
            hold_out: options.hold_out,
            n_prompts: chosen.prompts.iter().map(|prompt| prompt.weight as usize).sum(),
            limit: chosen.limit,
            names: chosen.names,
            refused: chosen.refused,
            tokenizers: records,
            prompts: chosen.prompts,
        };
        for group in one_token::distinct(&tokenizers) {
            set.tokenize(group.tokenizer)?;
        }
        Ok(set)
    }

    /// The text of the template with this id, under this set's protocol, of a task of names.
    pub fn pattern(&self, template: &str) -> Option<&Pattern> {
        let task = self.task.names()?;
        match self.protocol {
            Protocol::Published => task.published.as_ref().map(|published| &published.text),
            Protocol::Standard => task.templates.iter().find(|t| t.id == template).map(|t| &t.text),
        }
    }
}

/// The choices of [`PromptSet::resolve`] for a task.
struct Chosen {
    names: Names,
    refused: Vec<RefusedName>,
    prompts: Vec<Prompt>,
    limit: Option<usize>,
}

impl Chosen {
    fn names(
        task: &NameTask,
        options: &PromptOptions,
        tokenizers: &[&dyn Tokenize],
    ) -> Result<Self, PromptError> {
        let (seed, hold_out) = (options.seed, options.hold_out);
        let (names, refused, prompts) = match options.protocol {
            Protocol::Standard => {
                let n = options.drawn(&task.name, DEFAULT_PROMPTS)?;
                let (names, refused) = one_token::usable_names(task, options, tokenizers)?;
                let prompts = generate::standard(task, &names, seed, hold_out, n)?;
                (names, refused, prompts)
            }
            Protocol::Published => {
                let form = published_form(task)?;
                let n = options.drawn(&task.name, form.n_prompts)?;
                let distinct: Vec<&dyn Tokenize> =
                    one_token::distinct(tokenizers).into_iter().map(|group| group.tokenizer).collect();
                let prompts = generate::published(task, form, seed, n, &distinct)?;
                (Names { pool: form.names.clone(), min_usable: 0, ..Names::none() }, Vec::new(), prompts)
            }
        };
        Ok(Self { names, refused, prompts, limit: None })
    }

    fn words(
        task: &WordTask,
        options: &PromptOptions,
        tokenizers: &[&dyn Tokenize],
    ) -> Result<Self, PromptError> {
        options.no_published_form(&task.name)?;
        let n = options.drawn(&task.name, DEFAULT_PROMPTS)?;
        let (words, refused) = words::usable(task, tokenizers)?;
        let prompts = words::draw(task, &words, options.seed, options.hold_out, n)?;
        Ok(Self { names: Names::none(), refused, prompts, limit: None })
    }
}

fn published_form(task: &NameTask) -> Result<&crate::task::Published, PromptError> {
    let none = || PromptError::NotPublished { task: task.name.clone(), can_have_one: true };
    task.published.as_ref().ok_or_else(none)
}
