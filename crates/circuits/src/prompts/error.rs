//! Errors about the prompts of a study, each a one-line message that says what to do.

use cs_analysis::error::AnalysisError;
use thiserror::Error;

use super::TokenizeError;

/// Prompts that cannot be drawn, read or written.
#[derive(Debug, Error)]
pub enum PromptError {
    /// No tokenizer was given.
    #[error("{task}: no model was given; names and prompts are chosen for the models that are compared")]
    NoModels {
        /// The task's name.
        task: String,
    },
    /// Fewer prompts than the splits need.
    #[error("{task}: too few prompts ({asked}): ask for at least {needed} (--prompts)")]
    TooFewPrompts {
        /// The task's name.
        task: String,
        /// The requested number.
        asked: usize,
        /// One prompt in each split.
        needed: usize,
    },
    /// More prompts than a weight can count.
    #[error("{task}: too many prompts ({asked}): at most {most} can be drawn (--prompts)")]
    TooManyPrompts {
        /// The task's name.
        task: String,
        /// The requested number.
        asked: usize,
        /// The maximum.
        most: usize,
    },
    /// The protocol `published` was requested for a task without a published form.
    #[error("{task}: the task has no published form; use --protocol standard{}", if *can_have_one { ", or add a [published] table to it" } else { "" })]
    NotPublished {
        /// The task's name.
        task: String,
        /// Whether tasks of this kind can have one.
        can_have_one: bool,
    },
    /// Held-out templates were requested for a protocol without held-out prompts.
    #[error(
        "{task}: --protocol published has no held-out prompts; --hold-out templates needs --protocol standard"
    )]
    NothingHeldOut {
        /// The task's name.
        task: String,
    },
    /// One template cannot be divided.
    #[error(
        "{task}: --hold-out templates needs at least 2 templates, and the task has 1; add templates to it"
    )]
    TooFewTemplates {
        /// The task's name.
        task: String,
    },
    /// The one-token rule leaves too few names or words.
    #[error(
        "{task}: {usable} of the {listed} {noun} in `{scope}` are usable and {needed} are needed: {reasons}; {fix}"
    )]
    TooFewNames {
        /// The task's name.
        task: String,
        /// What the list contains: `names` or `words`.
        noun: &'static str,
        /// The list that is too short; `names` for both lists together.
        scope: Box<str>,
        /// Number of usable names.
        usable: usize,
        /// Number of names that the task lists.
        listed: usize,
        /// Number needed.
        needed: usize,
        /// Which tokenizers reject how many names, and why.
        reasons: Box<str>,
        /// What to do.
        fix: Box<str>,
    },
    /// Too few rows of a file of prompts can be used.
    #[error("{task}: {problem}; {fix}")]
    TooFewRows {
        /// The task's name.
        task: String,
        /// How many are left, and why.
        problem: String,
        /// What to do.
        fix: &'static str,
    },
    /// The words of a template give too few distinct prompts for two splits.
    #[error(
        "{task}: the template {template:?} gives no further prompt that is not in the other split, after {n}: add words, or ask for \
         fewer prompts (--prompts)"
    )]
    TooFewTexts {
        /// The task's name.
        task: String,
        /// The template's id.
        template: String,
        /// Prompts drawn for the split before.
        n: usize,
    },
    /// A prompt in a file exceeds a model's context length.
    #[error(
        "{task}: the prompt {start:?}… has {len} tokens, and {model} reads at most {n_ctx}: shorten it, or remove its row"
    )]
    TooLong {
        /// The task's name.
        task: String,
        /// How the prompt begins.
        start: String,
        /// Its number of tokens, including BOS.
        len: usize,
        /// The model.
        model: String,
        /// The model's context length.
        n_ctx: usize,
    },
    /// A prompt breaks the one-token rule.
    #[error("{task}, {model}: the prompt {text:?} breaks the one-token rule: {reason}; {fix}")]
    OneToken {
        /// The task's name.
        task: String,
        /// The model whose tokenizer breaks it.
        model: String,
        /// The prompt.
        text: String,
        /// What the tokenizer makes of the name.
        reason: String,
        /// What to do.
        fix: String,
    },
    /// Two names end in the same token, so that they share a logit.
    #[error(
        "{task}, {model}: {correct:?} and {distractor:?} end in the same token, so the prompt {text:?} has no logit \
         difference; use --protocol standard"
    )]
    SameAnswer {
        /// The task's name.
        task: String,
        /// The model whose tokenizer it is.
        model: String,
        /// The prompt.
        text: String,
        /// The correct name.
        correct: String,
        /// The other name.
        distractor: String,
    },
    /// A prompt and its resampled or corrupted version differ in length under the one-token rule.
    #[error(
        "{task}, {model}: {text:?} has length {len} in tokens and {twin:?} {twin_len}; reword the template"
    )]
    UnequalLength {
        /// The task's name.
        task: String,
        /// The model whose tokenizer it is.
        model: String,
        /// The prompt.
        text: String,
        /// Its length in tokens.
        len: usize,
        /// The text with other names.
        twin: String,
        /// Its length in tokens.
        twin_len: usize,
    },
    /// Mean or resample ablation of prompts that have no reference prompt.
    #[error(
        "{task}, {model}: {missing} of {prompts} prompts have no reference prompt: {reason} as in {example:?}: {fix}"
    )]
    NoReference {
        /// The task's name.
        task: String,
        /// The model whose tokenizer it is.
        model: String,
        /// How many distinct prompts have none.
        missing: usize,
        /// How many distinct prompts there are.
        prompts: usize,
        /// One that has none.
        example: Box<str>,
        /// What it lacks.
        reason: &'static str,
        /// What to do.
        fix: Box<str>,
    },
    /// Mean ablation of a prompt without other prompts to average over.
    #[error("{task}, {model}: mean ablation with --reference same has nothing to average for {alone}: {fix}")]
    NothingToAverage {
        /// The task's name.
        task: String,
        /// The model.
        model: String,
        /// How many groups of prompts, of how many, and an example.
        alone: Box<str>,
        /// Prompts drawn.
        prompts: u64,
        /// What to do.
        fix: Box<str>,
    },
    /// A prompt whose template the task lacks, or that lacks one of the template's fillers.
    #[error("{task}: a prompt has the template {template:?}, which the task does not have in that form")]
    Template {
        /// The task's name.
        task: String,
        /// The template's id.
        template: String,
    },
    /// A tokenizer failed.
    #[error("{model}: the tokenizer cannot handle {text:?}: {source}")]
    Tokenizer {
        /// The model whose tokenizer it is.
        model: String,
        /// What it was given.
        text: String,
        /// Its reason.
        source: TokenizeError,
    },
    /// BOS inside a prompt.
    #[error(
        "{model}: the text {text:?} contains the tokenizer's BOS token, which may only be at the start of a prompt"
    )]
    BosInText {
        /// The model whose tokenizer it is.
        model: String,
        /// The text.
        text: String,
    },
    /// A file that cannot be read or written.
    #[error(transparent)]
    File(#[from] AnalysisError),
    /// A record that this program did not write, or that was edited.
    #[error(
        "{file}: `{field}`: {problem}; remove the file to choose names and prompts again, or use another --out"
    )]
    Record {
        /// Path.
        file: String,
        /// The field, or `line N`.
        field: String,
        /// What is wrong.
        problem: String,
    },
    /// The record was made with other settings.
    #[error(
        "{file}: the study was made with {field} {recorded}, but {asked} is requested now: \
         use the same, or another --out"
    )]
    Mismatch {
        /// Path.
        file: String,
        /// The setting that differs.
        field: &'static str,
        /// Its value in the record.
        recorded: String,
        /// Its value now.
        asked: String,
    },
}
