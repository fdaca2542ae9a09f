//! Where heads attend at the last token of a prompt, from which the answer is read.
//!
//! Every token of a prompt has one [`TokenRole`]; a head's attention is summed over the tokens of a role, prompt by prompt,
//! and averaged over the prompts, each counted as often as it was drawn. Over all roles the averages add up to 1.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{AnalysisError, Result};
use crate::files::{read_json, write_json};
use crate::origin::Origin;
use crate::table::Table;

/// Stem of the table of all heads.
pub const ATTENTION_TABLE: &str = "attention_at_last_token";
/// Texts listed for each head.
pub const TOP_TEXTS: usize = 5;
/// Prompts of each task whose attention is kept token by token.
pub const N_EXAMPLES: usize = 3;

/// The role of a token in its prompt. If several apply, the first in this order counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenRole {
    /// The BOS token before every prompt, to which idle heads attend.
    Bos,
    /// The first mention of the correct name (IO).
    Correct,
    /// The first mention of the distractor (S1).
    Distractor,
    /// The second mention of the repeated name (S2).
    Repeated,
    /// The last token itself (END).
    Last,
    /// The token before the last.
    Previous,
    /// The token after the first mention of the correct name (IO+1).
    AfterCorrect,
    /// The token after the first mention of the distractor (S1+1).
    AfterDistractor,
    /// The token after the repeated name (S2+1).
    AfterRepeated,
    /// Any other token.
    Other,
}

impl TokenRole {
    /// All roles, in order.
    pub const ALL: [Self; 10] = [
        Self::Bos,
        Self::Correct,
        Self::Distractor,
        Self::Repeated,
        Self::Last,
        Self::Previous,
        Self::AfterCorrect,
        Self::AfterDistractor,
        Self::AfterRepeated,
        Self::Other,
    ];

    /// Name in files.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Bos => "bos",
            Self::Correct => "correct",
            Self::Distractor => "distractor",
            Self::Repeated => "repeated",
            Self::Last => "last",
            Self::Previous => "previous",
            Self::AfterCorrect => "after_correct",
            Self::AfterDistractor => "after_distractor",
            Self::AfterRepeated => "after_repeated",
            Self::Other => "other",
        }
    }

    /// Label for the reader.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Bos => "BOS",
            Self::Correct => "correct name",
            Self::Distractor => "distractor's first mention",
            Self::Repeated => "repeated name",
            Self::Last => "last token itself",
            Self::Previous => "token before the last",
            Self::AfterCorrect => "token after the correct name",
            Self::AfterDistractor => "token after the distractor",
            Self::AfterRepeated => "token after the repeated name",
            Self::Other => "other tokens",
        }
    }

    /// Whether the token is (part of) a name.
    #[must_use]
    pub fn is_name(self) -> bool {
        matches!(self, Self::Correct | Self::Distractor | Self::Repeated)
    }
}

/// Attention to all tokens of one text that are neither BOS nor a name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TextAttention {
    /// The token's text, including a space before it.
    pub text: String,
    /// Mean attention to it, over all prompts; prompts without it count as 0.
    pub mean: f32,
}

/// Where one head attends.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HeadAttention {
    /// Block, from 0.
    pub layer: u32,
    /// Head within its block, from 0.
    pub head: u32,
    /// Mean attention to the tokens of each role, in the order of [`TokenRole::ALL`].
    pub mean: [f32; 10],
    /// Its standard deviation over prompts.
    pub sd: [f32; 10],
    /// Up to [`TOP_TEXTS`] texts with the most attention, in descending order.
    pub texts: Vec<TextAttention>,
}

impl HeadAttention {
    /// Roles and their mean attention, in descending order.
    #[must_use]
    pub fn by_weight(&self) -> Vec<(TokenRole, f32)> {
        let mut roles: Vec<_> = TokenRole::ALL.into_iter().zip(self.mean).collect();
        roles.sort_by(|a, b| b.1.total_cmp(&a.1));
        roles
    }
}

/// A prompt, and the attention of every head from its last token.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExamplePrompt {
    /// Texts of its tokens, including BOS if the model has one.
    pub tokens: Vec<String>,
    /// The correct answer.
    pub correct: String,
    /// The distractor.
    pub distractor: String,
    /// Attention from the last token to every token, in thousandths: a row per head, ordered by layer and head.
    /// `[n_layers × n_heads, n_tokens]`
    pub thousandths: Vec<Vec<u16>>,
}

/// Where all heads of a model attend on one task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskAttention {
    /// Task: `ioi`, `anti_repeat`.
    pub task: String,
    /// Prompts drawn: including weights.
    pub n_prompts: u64,
    /// Distinct prompts.
    pub n_distinct_prompts: u64,
    /// Every head, ordered by layer and head.
    pub heads: Vec<HeadAttention>,
    /// Up to [`N_EXAMPLES`] prompts token by token; empty in files of versions that did not store them.
    #[serde(default)]
    pub examples: Vec<ExamplePrompt>,
}

/// `results/attention/attention_<model>.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AttentionFile {
    /// What was measured, and by which program.
    pub origin: Origin,
    /// Names of the roles, in the order of each head's `mean` and `sd`.
    pub roles: Vec<TokenRole>,
    /// The tasks.
    pub tasks: Vec<TaskAttention>,
    /// Explanation of the numbers.
    pub note: String,
}

impl AttentionFile {
    /// The results of one model.
    #[must_use]
    pub fn new(origin: Origin, tasks: Vec<TaskAttention>) -> Self {
        let note = format!(
            "attention of every head at the last token of each prompt, nothing ablated, summed over the tokens of a role and averaged \
             over the {} prompts, each counted as often as it was drawn",
            origin.split
        );
        Self { origin, roles: TokenRole::ALL.to_vec(), tasks, note }
    }

    /// Where a head attends on a task.
    #[must_use]
    pub fn head(&self, task: &str, layer: u32, head: u32) -> Option<&HeadAttention> {
        let of_task = self.tasks.iter().find(|t| t.task == task)?;
        of_task.heads.iter().find(|h| (h.layer, h.head) == (layer, head))
    }

    /// Writes the file, atomically.
    ///
    /// # Errors
    /// [`AnalysisError::Io`] when it cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        write_json(path, self)
    }

    /// Reads what [`Self::write`] wrote.
    ///
    /// # Errors
    /// When the file cannot be read or holds something else.
    pub fn read(path: &Path) -> Result<Self> {
        let fix = "delete the file and run circuit-scaling attend again";
        let file: Self = read_json(path, fix)?;
        if file.roles != TokenRole::ALL {
            let problem = "is not the list that this version knows";
            return Err(AnalysisError::format(path, "field `roles`", problem, fix));
        }
        Ok(file)
    }
}

/// A row per model, task and head.
#[must_use]
pub fn attention_table(files: &[AttentionFile]) -> Table {
    let rows: Vec<(&Origin, &TaskAttention, &HeadAttention)> = files
        .iter()
        .flat_map(|file| file.tasks.iter().map(move |task| (&file.origin, task)))
        .flat_map(|(origin, task)| task.heads.iter().map(move |head| (origin, task, head)))
        .collect();
    let mut table = Table::new(ATTENTION_TABLE)
        .text("family", rows.iter().map(|r| r.0.family.as_str()))
        .text("model", rows.iter().map(|r| r.0.model.as_str()))
        .text("task", rows.iter().map(|r| r.1.task.as_str()))
        .integer("layer", rows.iter().map(|r| r.2.layer))
        .integer("head", rows.iter().map(|r| r.2.head));
    type Of = fn(&HeadAttention) -> &[f32; 10];
    let figures: [(&str, Of); 2] = [("", |h| &h.mean), ("_sd", |h| &h.sd)];
    // Five decimals are finer than averages over a few hundred prompts can resolve. The result files have all digits.
    let cell = |value: f32| format!("{value:.5}").parse::<f64>().ok();
    for (suffix, of) in figures {
        for (at, role) in TokenRole::ALL.into_iter().enumerate() {
            let name = format!("{}{suffix}", role.name());
            table = table.float(name, rows.iter().map(|r| cell(of(r.2)[at])));
        }
    }
    let top = |head: &HeadAttention| head.texts.first().cloned();
    table = table
        .text("top_text", rows.iter().map(|r| top(r.2).map(|t| t.text)))
        .float("top_text_mean", rows.iter().map(|r| top(r.2).and_then(|t| cell(t.mean))))
        .integer("n_prompts", rows.iter().map(|r| r.1.n_prompts as usize));
    Origin::columns(table, rows.iter().map(|r| r.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_are_listed_in_their_order() {
        for (at, role) in TokenRole::ALL.into_iter().enumerate() {
            assert_eq!(role as usize, at);
            assert_eq!(serde_json::json!(role), role.name());
        }
    }
}
