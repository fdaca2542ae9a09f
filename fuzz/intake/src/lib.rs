//! Reads every kind of untrusted file the way the program does.
//!
//! [`Kind::check`] reads one file and panics unless the result is a value or a clear one-line error, within a
//! memory bound proportional to the file's size. The fuzz targets (`fuzz/targets`) and the replay of their seeds
//! (`tests/replay.rs`) only call this function.

#![deny(unsafe_code)]

#[expect(unsafe_code, reason = "a global allocator is unsafe to write")]
mod memory;
mod read;
mod room;
mod words;

use std::sync::{Mutex, PoisonError};

/// The maximum length of an error: a path, a name from the file, and the fix.
const LONGEST_MESSAGE: usize = 2000;

/// A kind of file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `model.safetensors`. An input that starts with `{` is only the header; length and data are added.
    Safetensors,
    /// `model.safetensors.index.json` and `pytorch_model.bin.index.json`.
    ShardIndex,
    /// `pytorch_model.bin`: zip with pickle, or the legacy sequence of pickles.
    Torch,
    /// `config.json`
    Config,
    /// A tokenizer's file: the first byte says which (`t` tokenizer.json, `c` tokenizer_config.json, `v` vocab.json, `m`
    /// merges.txt, `s` special_tokens_map.json), the rest is its content.
    Tokenizer,
    /// A task's TOML file; prompts are drawn from a valid one.
    TaskToml,
    /// A file of prompts: the first byte says which (`c` CSV, `j` JSON Lines), the rest is its content. Prompts are selected from
    /// a valid one.
    PromptRows,
    /// `study.toml`
    StudyToml,
    /// A scan file.
    ScanJson,
    /// A scan's per-prompt file with the logit differences per prompt.
    PerPrompt,
    /// Roles of a model's heads (`results/attention/roles_<model>.json`); tables are made from a valid one.
    Roles,
    /// A joint table.
    JointCsv,
    /// Prompts as the study recorded them. (The JSONL files next to the record are never read.)
    Prompts,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 13] = [
        Self::Safetensors,
        Self::ShardIndex,
        Self::Torch,
        Self::Config,
        Self::Tokenizer,
        Self::TaskToml,
        Self::PromptRows,
        Self::StudyToml,
        Self::ScanJson,
        Self::PerPrompt,
        Self::Roles,
        Self::JointCsv,
        Self::Prompts,
    ];

    /// Name of the fuzz target, and of the folder of its seeds.
    pub fn name(self) -> &'static str {
        match self {
            Self::Safetensors => "safetensors",
            Self::ShardIndex => "shard_index",
            Self::Torch => "torch",
            Self::Config => "config",
            Self::Tokenizer => "tokenizer",
            Self::TaskToml => "task_toml",
            Self::PromptRows => "prompt_rows",
            Self::StudyToml => "study_toml",
            Self::ScanJson => "scan_json",
            Self::PerPrompt => "per_prompt",
            Self::Roles => "roles",
            Self::JointCsv => "joint_csv",
            Self::Prompts => "prompts",
        }
    }

    /// The maximum memory for reading a file of this kind: a fixed number of bytes, plus a number per byte of the
    /// file.
    ///
    /// The fixed part covers the valid files next to the untrusted one, and the prompts drawn from it.
    fn memory_bound(self, len: usize) -> usize {
        let fixed = match self {
            Self::Config | Self::ScanJson | Self::PerPrompt | Self::Roles | Self::JointCsv => 1 << 16,
            Self::Safetensors | Self::ShardIndex | Self::Torch | Self::StudyToml | Self::Prompts => 1 << 20,
            Self::TaskToml | Self::PromptRows | Self::Tokenizer => 4 << 20,
        };
        // A byte of JSON can start a map, whose smallest node takes about 600 bytes.
        fixed + 400 * len
    }

    /// Reads `bytes` as a file of this kind.
    ///
    /// # Errors
    /// The program's message for a file that it rejects.
    ///
    /// # Panics
    /// If an error is not one line of reasonable length, or reading takes more memory than the bound. Any other
    /// panic is also a finding.
    pub fn check(self, bytes: &[u8]) -> Result<(), String> {
        // One at a time: memory is counted per process, and files share one folder.
        static TURN: Mutex<()> = Mutex::new(());
        let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        read::prepare();
        let mut result = Ok(());
        within_bound(self.memory_bound(bytes.len()), || result = read::read(self, bytes));
        if let Err(message) = &result {
            let is_line = !message.contains(['\n', '\r']) && (1..=LONGEST_MESSAGE).contains(&message.len());
            assert!(is_line, "no clear line: {message:?}");
        }
        result
    }
}

/// Runs `work`.
///
/// # Panics
/// If it holds more than `bound` bytes at a time, over all threads.
pub fn within_bound(bound: usize, work: impl FnOnce()) {
    let held = memory::peak_of(work);
    assert!(held <= bound, "held {held} bytes, {bound} at most");
}
