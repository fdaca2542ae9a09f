//! The study's record of names and prompts, `<task>_study.json`, and the accompanying files.
//!
//! A study resolves its names and prompts once and records them, so that models scanned at different times, or on
//! different machines, get the same prompts. The record contains the whole task and needs no other file.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use cs_analysis::error::AnalysisError;
use cs_analysis::files::write_atomic;
use serde::{Deserialize, Serialize};

use super::fitting::is_further;
use super::{
    DEFAULT_PROMPTS, HoldOut, Prompt, PromptError, PromptOptions, PromptSet, Protocol, ReferencePrompt,
    RefusedName, Tokenize, TokenizerRecord, Twin, published_form,
};
use crate::task::{NameTask, Names, Rendered, Task};

/// To be changed whenever the record's fields change.
const FORMAT: u32 = 2;

/// The fields of `<task>_study.json`, in order.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    format: u32,
    program_version: String,
    protocol: Protocol,
    seed: u64,
    hold_out: HoldOut,
    n_prompts: usize,
    n_distinct_prompts: usize,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    limit: Option<usize>,
    names: Names,
    refused: Vec<RefusedName>,
    tokenizers: Vec<TokenizerRecord>,
    task_hash: String,
    task: Task,
    prompts: Vec<Prompt>,
}

/// A prompt's texts with the positions of their names.
pub(super) struct PromptTexts {
    pub(super) clean: Rendered,
    pub(super) corrupted: Option<Rendered>,
    pub(super) resample: Option<Rendered>,
    pub(super) references: Vec<Rendered>,
}

impl PromptSet {
    /// The path of a task's record in a folder.
    pub fn path(folder: &Path, task: &str) -> PathBuf {
        folder.join(format!("{task}_study.json"))
    }

    /// The study's prompts: read from the record in `folder` if there is one, else resolved and recorded there.
    ///
    /// Models that are not in the record are checked against it and added.
    ///
    /// # Errors
    /// Those of [`Self::resolve`] and [`Self::load`]; [`PromptError::Mismatch`] if the record was made with another
    /// task, protocol, seed or number of prompts, or for another tokenizer of a model; [`PromptError::OneToken`] if a
    /// new model's tokenizer breaks the one-token rule on the recorded prompts.
    pub fn load_or_resolve(
        folder: &Path,
        task: &Task,
        options: &PromptOptions,
        tokenizers: &[&dyn Tokenize],
    ) -> Result<Self, PromptError> {
        let path = Self::path(folder, task.name());
        if !path.exists() {
            let set = Self::resolve(task, options, tokenizers)?;
            set.save(folder)?;
            return Ok(set);
        }
        let mut set = Self::load(&path)?;
        set.expect(&path, task, options)?;
        let known = set.tokenizers.len();
        for &tokenizer in tokenizers {
            set.admit(&path, tokenizer)?;
        }
        if set.tokenizers.len() > known {
            set.save(folder)?;
        }
        Ok(set)
    }

    /// Writes the record into a folder, creating it if necessary, and returns its path.
    ///
    /// # Errors
    /// [`PromptError::File`].
    pub fn save(&self, folder: &Path) -> Result<PathBuf, PromptError> {
        let path = Self::path(folder, self.task.name());
        let record = Record {
            format: FORMAT,
            program_version: env!("CARGO_PKG_VERSION").to_owned(),
            protocol: self.protocol,
            seed: self.seed,
            hold_out: self.hold_out,
            n_prompts: self.n_prompts,
            n_distinct_prompts: self.prompts.len(),
            limit: self.limit,
            names: self.names.clone(),
            refused: self.refused.clone(),
            tokenizers: self.tokenizers.clone(),
            task_hash: self.task.hash(),
            task: self.task.clone(),
            prompts: self.prompts.clone(),
        };
        write_atomic(&path, |out| {
            serde_json::to_writer_pretty(&mut *out, &record)?;
            out.write_all(b"\n")
        })?;
        Ok(path)
    }

    /// Reads a record and checks it: every text of a task of names must match its template, names and fillers.
    ///
    /// # Errors
    /// [`PromptError::File`] and [`PromptError::Record`].
    pub fn load(path: &Path) -> Result<Self, PromptError> {
        let text = fs::read_to_string(path).map_err(AnalysisError::io("read", path))?;
        let fail = |field: &str, problem: String| PromptError::Record {
            file: path.display().to_string(),
            field: field.to_owned(),
            problem,
        };
        let record: Record = serde_json::from_str(&text)
            .map_err(|error| fail(&format!("line {}", error.line()), error.to_string()))?;
        if record.format != FORMAT {
            let problem = format!("is {}, and this version of the program reads {FORMAT}", record.format);
            return Err(fail("format", problem));
        }
        record.task.validate("task").map_err(|error| fail("task", error.to_string()))?;
        if record.task_hash != record.task.hash() {
            return Err(fail("task_hash", "does not match `task`".to_owned()));
        }
        let set = Self {
            task: record.task,
            protocol: record.protocol,
            seed: record.seed,
            hold_out: record.hold_out,
            n_prompts: record.n_prompts,
            limit: record.limit,
            names: record.names,
            refused: record.refused,
            tokenizers: record.tokenizers,
            prompts: record.prompts,
        };
        let mut texts = BTreeSet::new();
        for (i, prompt) in set.prompts.iter().enumerate() {
            if !set.fits(prompt) {
                let problem = format!("{:?} does not match its template, names and fillers", prompt.text);
                return Err(fail(&format!("prompts[{i}]"), problem));
            }
            if !texts.insert(&prompt.text) {
                return Err(fail(&format!("prompts[{i}]"), format!("{:?} occurs twice", prompt.text)));
            }
        }
        let drawn: usize = set.prompts.iter().map(|prompt| prompt.weight as usize).sum();
        if drawn != set.n_prompts || drawn == 0 {
            return Err(fail("n_prompts", format!("is {}, and the weights sum to {drawn}", set.n_prompts)));
        }
        Ok(set)
    }

    /// Whether a prompt's texts and answers match its other fields, and its split belongs to the protocol.
    fn fits(&self, prompt: &Prompt) -> bool {
        let is_of_split =
            [self.protocol.discovery_split(), self.protocol.held_out_split()].contains(&prompt.split);
        is_of_split
            && match &self.task {
                Task::Names(task) => self.fits_names(task, prompt),
                Task::Words(_) | Task::Rows(_) => {
                    let texts = prompt.resample.iter().map(|twin| &twin.text);
                    let texts = texts.chain(prompt.references.iter().map(|r| &r.text));
                    prompt.order.is_none()
                        && prompt.weight > 0
                        && ![&prompt.text, &prompt.correct, &prompt.distractor].iter().any(|t| t.is_empty())
                        && prompt.correct != prompt.distractor
                        && texts.chain(&prompt.corrupted_text).all(|text| !text.is_empty())
                }
            }
    }

    fn fits_names(&self, task: &NameTask, prompt: &Prompt) -> bool {
        let Some(order) = prompt.order else { return false };
        let named = |name: &str| self.names.all().any(|other| other == name);
        let stands_in = |name: &str| {
            named(name)
                || self.protocol == Protocol::Published
                    && (is_further(name) || task.names.all().any(|other| other == name))
        };
        let Some(texts) = self.render(prompt) else { return false };
        let (repeated, other) = order.repeated_and_other(&prompt.first, &prompt.second);
        let (correct, distractor) = task.correct.correct_and_distractor(repeated, other);
        texts.clean.text == prompt.text
            && !prompt.glued
            && texts.corrupted.map(|corrupted| corrupted.text) == prompt.corrupted_text
            && texts.resample.map(|twin| twin.text) == prompt.resample.as_ref().map(|twin| twin.text.clone())
            && texts.references.iter().map(|r| &r.text).eq(prompt.references.iter().map(|r| &r.text))
            && prompt.references.iter().all(|r| {
                let names = [&r.first, &r.second, &r.third];
                names.iter().all(|name| stands_in(name))
                    && r.first != r.second
                    && !names[..2].contains(&&r.third)
            })
            && (correct, distractor) == (prompt.correct.as_str(), prompt.distractor.as_str())
            && prompt.first != prompt.second
            && named(&prompt.first)
            && named(&prompt.second)
    }

    /// A prompt, its twins and its references: rendered again for a task of names, otherwise as drawn, without mentions. `None` if
    /// the task lacks its template or a filler is missing.
    pub(super) fn texts(&self, prompt: &Prompt) -> Option<PromptTexts> {
        if self.task.names().is_some() {
            return self.render(prompt);
        }
        let as_drawn = |text: &String| Rendered { text: text.clone(), mentions: Vec::new() };
        Some(PromptTexts {
            clean: as_drawn(&prompt.text),
            corrupted: prompt.corrupted_text.as_ref().map(as_drawn),
            resample: prompt.resample.as_ref().map(|twin| as_drawn(&twin.text)),
            references: prompt.references.iter().map(|reference| as_drawn(&reference.text)).collect(),
        })
    }

    fn render(&self, prompt: &Prompt) -> Option<PromptTexts> {
        let (pattern, order) = (self.pattern(&prompt.template)?, prompt.order?);
        let (first, second) = (prompt.first.as_str(), prompt.second.as_str());
        let (repeated, other) = order.repeated_and_other(first, second);
        let resample = match &prompt.resample {
            None => None,
            Some(Twin { first, second, .. }) => {
                let (repeated, _) = order.repeated_and_other(first, second);
                Some(pattern.render(first, second, repeated, &prompt.fillers)?)
            }
        };
        let of_reference =
            |r: &ReferencePrompt| pattern.render(&r.first, &r.second, &r.third, &prompt.fillers);
        Some(PromptTexts {
            clean: pattern.render(first, second, repeated, &prompt.fillers)?,
            corrupted: Some(pattern.render(first, second, other, &prompt.fillers)?),
            resample,
            references: prompt.references.iter().map(of_reference).collect::<Option<_>>()?,
        })
    }

    /// The options with which the prompts were drawn.
    #[must_use]
    pub fn options(&self) -> PromptOptions {
        PromptOptions {
            protocol: self.protocol,
            seed: self.seed,
            hold_out: self.hold_out,
            n_prompts: if matches!(self.task, Task::Rows(_)) { self.limit } else { Some(self.n_prompts) },
            min_names: None,
        }
    }

    /// Checks that the record matches the current request.
    fn expect(&self, path: &Path, task: &Task, options: &PromptOptions) -> Result<(), PromptError> {
        let (recorded, asked) = self.n_recorded_and_requested(options)?;
        let settings = [
            ("task hash", self.task.hash(), task.hash()),
            ("protocol", self.protocol.to_string(), options.protocol.to_string()),
            ("seed", self.seed.to_string(), options.seed.to_string()),
            ("prompts", recorded, asked),
            ("held-out", self.hold_out.to_string(), options.hold_out.to_string()),
        ];
        settings.into_iter().try_for_each(|(field, recorded, asked)| {
            if recorded == asked { Ok(()) } else { Err(mismatch(path, field, recorded, asked)) }
        })
    }

    /// The recorded and the requested number of prompts, for messages.
    fn n_recorded_and_requested(&self, options: &PromptOptions) -> Result<(String, String), PromptError> {
        let name = self.task.name();
        let asked = match (&self.task, options.protocol) {
            (Task::Names(task), Protocol::Published) => {
                options.drawn(name, published_form(task)?.n_prompts)?
            }
            (Task::Names(_) | Task::Words(_), _) => options.drawn(name, DEFAULT_PROMPTS)?,
            (Task::Rows(_), _) => {
                // Requesting as many as there are means all of them.
                let limit = options.n_prompts.filter(|&n| self.limit.is_some() || n < self.prompts.len());
                let shown = |limit: Option<usize>| {
                    limit.map_or_else(|| "all of the file".to_owned(), |n| n.to_string())
                };
                return Ok((shown(self.limit), shown(limit)));
            }
        };
        Ok((self.n_prompts.to_string(), asked.to_string()))
    }

    /// Adds a model to the record after checking that its tokenizer encodes the prompts as required.
    fn admit(&mut self, path: &Path, tokenizer: &dyn Tokenize) -> Result<(), PromptError> {
        let (model, hash) = (tokenizer.model(), tokenizer.hash());
        if let Some(known) = self.tokenizers.iter().find(|record| record.model == model) {
            return if known.tokenizer_hash == hash {
                Ok(())
            } else {
                let recorded = format!("{} for {model}", known.tokenizer_hash);
                Err(mismatch(path, "tokenizer", recorded, hash.to_owned()))
            };
        }
        if !self.tokenizers.iter().any(|record| record.tokenizer_hash == hash) {
            self.tokenize(tokenizer)?;
        }
        self.tokenizers.push(TokenizerRecord { model: model.to_owned(), tokenizer_hash: hash.to_owned() });
        self.tokenizers.sort_by(|a, b| a.model.cmp(&b.model));
        Ok(())
    }
}

fn mismatch(path: &Path, field: &'static str, recorded: String, asked: String) -> PromptError {
    PromptError::Mismatch { file: path.display().to_string(), field, recorded, asked }
}

/// Writes one JSON object per line.
pub(super) fn write_lines<T: Serialize>(path: &Path, items: &[T]) -> Result<(), PromptError> {
    let written = write_atomic(path, |out| {
        for item in items {
            serde_json::to_writer(&mut *out, item)?;
            out.write_all(b"\n")?;
        }
        Ok(())
    });
    Ok(written?)
}
