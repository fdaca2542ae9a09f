//! Errors of the command line, each a one-line message.

use std::fmt::Display;
use std::path::{Path, PathBuf};

use cs_analysis::AnalysisError;
use cs_circuits::ablate::AblateError;
use cs_circuits::attention::AttentionError;
use cs_circuits::prompts::PromptError;
use cs_circuits::scan::ScanError;
use cs_circuits::task::TaskError;
use cs_circuits::trace::TraceError;
use cs_model::error::LoadError;

use crate::commands::parts::PartsError;

/// An error that ends the program with exit code 1.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// A checkpoint cannot be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// A task cannot be read.
    #[error(transparent)]
    Task(#[from] TaskError),
    /// Prompts cannot be made.
    #[error(transparent)]
    Prompts(Box<PromptError>),
    /// A scan cannot be run.
    #[error("{model}: {source}")]
    Scan {
        /// The model.
        model: String,
        /// Why.
        source: ScanError,
    },
    /// Heads cannot be traced.
    #[error("{model}: {source}")]
    Trace {
        /// The model.
        model: String,
        /// Why.
        source: TraceError,
    },
    /// Sets of heads cannot be ablated.
    #[error("{model}: {source}")]
    Ablate {
        /// The model.
        model: String,
        /// Why.
        source: AblateError,
    },
    /// Attention cannot be read.
    #[error("{model}: {source}")]
    Attend {
        /// The model.
        model: String,
        /// Why.
        source: AttentionError,
    },
    /// An experiment on a model that the study did not scan.
    #[error(
        "{model} was not scanned on {tasks} in {folder}: run `circuit-scaling scan --models {model}` with {how}"
    )]
    NotScanned {
        /// The model.
        model: String,
        /// The tasks, in words.
        tasks: String,
        /// The options that name them.
        how: String,
        /// The study.
        folder: PathBuf,
    },
    /// A scan was made with a method unknown to this version.
    #[error(
        "{model}: its scan cannot be followed: {why}; scan it again, or name --ablation, --value-bias and --reference"
    )]
    ScanOption {
        /// The model.
        model: String,
        /// What is unknown.
        why: String,
    },
    /// A scan of some heads would replace one of all heads.
    #[error(
        "{path} has every head of the model, which --heads would replace by fewer: choose another folder with --out"
    )]
    WholeScan {
        /// The scan.
        path: PathBuf,
    },
    /// Scans of other models in the folder were made in another way.
    #[error(
        "{folder} holds a scan of {model} on {task} with --{option} {was}, and this run's has --{option} {is}: scan alike, name \
         {model} among --models to scan it again, or choose another folder with --out"
    )]
    OtherMethod {
        /// The study.
        folder: PathBuf,
        /// The model.
        model: Box<str>,
        /// The task.
        task: Box<str>,
        /// The option.
        option: &'static str,
        /// What it was.
        was: Box<str>,
        /// What it is now.
        is: Box<str>,
    },
    /// A scanned model is no longer where it was.
    #[error("{model} was scanned from `{from}`, but is no longer there: say where it is with --models")]
    ModelMoved {
        /// The model.
        model: String,
        /// Where it was.
        from: String,
    },
    /// The weights of a scanned model have changed.
    #[error(
        "the weights of {model} are not those that were scanned: scan it again, or name the right folder"
    )]
    OtherWeights {
        /// The model.
        model: String,
    },
    /// A table or result file.
    #[error(transparent)]
    Analysis(#[from] AnalysisError),
    /// A figure, a note or the page.
    #[error(transparent)]
    Report(#[from] cs_report::ReportError),
    /// An unknown name.
    #[error(
        "there is no model or folder `{name}`: give a bundled miniature ({miniatures}), a published model (see `circuit-scaling models`), a Hugging Face id or a folder with a checkpoint"
    )]
    UnknownModel {
        /// The name.
        name: String,
        /// Names of the bundled miniatures.
        miniatures: String,
    },
    /// A file where a model's folder should be.
    #[error("`{name}` is a file: name the folder that holds a model's config.json, weights and tokenizer")]
    ModelIsFile {
        /// The path.
        name: String,
    },
    /// A Hub model that cannot be loaded.
    #[error(transparent)]
    Hub(#[from] cs_hub::HubError),
    /// Prompts need a tokenizer.
    #[error(
        "{model} has neither tokenizer.json nor vocab.json with merges.txt: put the model's tokenizer next to its weights"
    )]
    NoTokenizer {
        /// The model's folder.
        model: String,
    },
    /// A text that the tokenizer rejects.
    #[error("{0}")]
    Tokenize(#[from] cs_model::tokenizer::TokenizeError),
    /// A prompt that the model cannot run.
    #[error(transparent)]
    Capture(#[from] cs_engine::CaptureError),
    /// An impossible run.
    #[error(transparent)]
    Engine(#[from] cs_engine::EngineError),
    /// An unavailable device, or a precision that it does not support.
    #[error(transparent)]
    Device(#[from] cs_engine::DeviceError),
    /// An edit that does not match its prompts.
    #[error("edit of {head}: {problem}; {fix}")]
    Edit {
        /// The head.
        head: cs_analysis::head_id::HeadId,
        /// What is wrong.
        problem: String,
        /// What the user can do.
        fix: String,
    },
    /// Activations that do not fit into memory.
    #[error(
        "the activations of these prompts take {need} bytes and {available} are free: cache fewer prompts at a time"
    )]
    CacheMemory {
        /// Bytes needed.
        need: u64,
        /// Bytes free.
        available: u64,
    },
    /// A prompt from which no forest can be built.
    #[error(transparent)]
    Forest(#[from] cs_engine::forest::ForestError),
    /// Two models would write the same files.
    #[error(
        "two of the models are called `{name}`: name each model once, or give the folders different names"
    )]
    SameName {
        /// The name.
        name: String,
    },
    /// A table needs scans that do not exist.
    #[error(
        "{folder} has no model that was scanned on both tasks: run `circuit-scaling run`, or `scan` with --task ioi and with --task anti-repeat"
    )]
    NoScans {
        /// The study.
        folder: PathBuf,
    },
    /// A command that compares two tasks, in a study with only one.
    #[error(
        "{folder} has scans only on {task}, but this command compares two tasks: scan the models on another one too (`circuit-scaling scan`)"
    )]
    OneTask {
        /// The study.
        folder: PathBuf,
        /// Its task.
        task: String,
    },
    /// Causal tracing of a file of prompts without corrupted ones.
    #[error(
        "{task}: no row has a `corrupted` prompt, which causal tracing needs: add the column, or leave tracing out with --stages {stages}"
    )]
    NoCorrupted {
        /// The task.
        task: String,
        /// All other stages.
        stages: String,
    },
    /// The study's folder cannot be used.
    #[error("{path} cannot be written ({source}): choose another folder with --out")]
    Out {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Another process writes to the study's folder.
    #[error("another run is working in {path}: wait for it, or choose another folder with --out")]
    InUse {
        /// The folder.
        path: PathBuf,
    },
    /// A `study.toml` that cannot be read.
    #[error("{path}: cannot read the study: {source}")]
    ReadStudy {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A `study.toml` with a field or value that a study does not have.
    #[error("{path}: {place}: {problem}; `circuit-scaling run --help` explains each field as an option")]
    StudyFile {
        /// The file.
        path: PathBuf,
        /// Line or field.
        place: String,
        /// What is wrong there.
        problem: String,
    },
    /// Two tasks would write the same files.
    #[error("--tasks names {task} twice: name each task once")]
    SameTask {
        /// The task.
        task: String,
    },
    /// A study in parts.
    #[error(transparent)]
    Parts(#[from] PartsError),
    /// An unknown table.
    #[error("there is no table `{name}`: `circuit-scaling tables` lists them all")]
    NoTable {
        /// The requested table.
        name: String,
    },
    /// A manual page that cannot be written.
    #[error("the manual page cannot be written: {0}")]
    Man(std::io::Error),
    /// Threads cannot be started.
    #[error("--threads {threads}: {source}")]
    Threads {
        /// How many.
        threads: usize,
        /// Why.
        source: rayon::ThreadPoolBuildError,
    },
}

impl CliError {
    /// The error for a model that was not scanned on these tasks.
    pub fn not_scanned(model: &str, tasks: &[&str], folder: &Path) -> Self {
        let option = |task: &&str| format!("--task {}", task.replace('_', "-"));
        Self::NotScanned {
            model: model.to_owned(),
            tasks: tasks.join(" and "),
            how: tasks.iter().map(option).collect::<Vec<_>>().join(" and with "),
            folder: folder.to_owned(),
        }
    }
}

impl From<PromptError> for CliError {
    fn from(error: PromptError) -> Self {
        Self::Prompts(Box::new(error))
    }
}

/// Number of bytes of a message to show: of its start, which names the file, and of its end, which names the fix.
const SHOWN: (usize, usize) = (1200, 400);

/// A message as one line, even if it quotes text from a file: characters that move the cursor or reorder text
/// are replaced, and the middle of a long message is omitted.
pub fn one_line(message: &impl Display) -> String {
    let moves = |c: char| c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let line: String =
        message.to_string().chars().map(|c| if moves(c) { char::REPLACEMENT_CHARACTER } else { c }).collect();
    let (start, end) = SHOWN;
    if line.len() <= start + end {
        return line;
    }
    let (start, end) = (line.floor_char_boundary(start), line.ceil_char_boundary(line.len() - end));
    format!("{} […] {}", &line[..start], &line[end..])
}

#[cfg(test)]
mod tests {
    use super::one_line;

    #[test]
    fn a_message_is_one_line_whatever_it_quotes() {
        assert_eq!(one_line(&"a.json: no `é` here; fetch it"), "a.json: no `é` here; fetch it");
        // A carriage return would overwrite the line; an escape sequence might do anything.
        assert_eq!(one_line(&"a\r\n\u{1b}[2Jb\u{202e}c"), "a\u{fffd}\u{fffd}\u{fffd}[2Jb\u{fffd}c");
        for shift in 0..3 {
            let long = format!("file: {}{}; fetch it", "x".repeat(shift), "é".repeat(9000));
            let shown = one_line(&long);
            assert!(
                shown.len() < 1700 && shown.starts_with("file: ") && shown.ends_with("é; fetch it"),
                "{shown}"
            );
        }
    }
}
