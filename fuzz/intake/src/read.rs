//! How the program reads each kind of file.

use std::path::Path;

use circuit_scaling::args::{Cli, Command};
use circuit_scaling::study_file::StudyFile;
use clap::Parser;
use cs_analysis::categories::DEFAULT_TAU;
use cs_analysis::joint::{self, import_reader};
use cs_analysis::per_prompt::PerPromptScan;
use cs_analysis::role_tables::role_tables;
use cs_analysis::roles::RolesFile;
use cs_analysis::scan_file::ScanFile;
use cs_circuits::prompts::{PromptOptions, PromptSet, Protocol};
use cs_circuits::task::{RowTask, Task};
use cs_model::config;
use cs_model::families::Bos;
use cs_model::tokenizer::Tokenizer;

use crate::Kind;
use crate::room::{self, Room};
use crate::words::Words;

/// The line that the program prints if reading fails.
pub(crate) type Outcome = Result<(), String>;

pub(crate) fn message(error: impl std::fmt::Display) -> String {
    circuit_scaling::error::one_line(&error)
}

/// Sets up what all kinds need, so that it is not charged to any file.
pub(crate) fn prepare() {
    Room::get();
}

/// Reads a file of some kind.
pub(crate) fn read(kind: Kind, bytes: &[u8]) -> Outcome {
    let room = Room::get();
    match kind {
        Kind::Safetensors => room.weights(room::MODEL, "model.safetensors", &room::around_header(bytes)),
        Kind::ShardIndex => {
            let of_torch = || room.weights(room::TORCH_SHARDS, "pytorch_model.bin.index.json", bytes);
            room.weights(room::SHARDS, "model.safetensors.index.json", bytes).or_else(|_| of_torch())
        }
        Kind::Torch => room.weights(room::TORCH, "pytorch_model.bin", bytes),
        Kind::Config => config::parse(bytes, "config.json").map(drop).map_err(message),
        Kind::Tokenizer => tokenizer(room, bytes),
        Kind::TaskToml => task(bytes),
        Kind::PromptRows => prompt_rows(bytes),
        Kind::StudyToml => room.alone(bytes, study),
        Kind::ScanJson => room.alone(bytes, |path| ScanFile::read(path).map(drop).map_err(message)),
        Kind::PerPrompt => room.alone(bytes, |path| PerPromptScan::read(path).map(drop).map_err(message)),
        Kind::Roles => room.alone(bytes, |path| {
            let file = RolesFile::read(path).map_err(message)?;
            let _ = role_tables(&[file], DEFAULT_TAU);
            Ok(())
        }),
        Kind::JointCsv => {
            let path = Path::new("joint.csv");
            let table =
                import_reader(bytes, path, joint::MAX_ROWS).and_then(|import| import.into_table(path));
            table.map(drop).map_err(message)
        }
        Kind::Prompts => room.alone(bytes, |path| {
            let set = PromptSet::load(path).map_err(message)?;
            set.tokenize(&Words::default()).map(drop).map_err(message)
        }),
    }
}

fn tokenizer(room: &Room, bytes: &[u8]) -> Outcome {
    let Some((&which, content)) = bytes.split_first() else { return Err("no file at all".to_owned()) };
    // The files next to the untrusted one are valid.
    let (folder, file) = match which {
        b'c' => (room::JSON_TOKENIZER, "tokenizer_config.json"),
        b's' => (room::JSON_TOKENIZER, "special_tokens_map.json"),
        b'v' => (room::BPE_TOKENIZER, "vocab.json"),
        b'm' => (room::BPE_TOKENIZER, "merges.txt"),
        _ => (room::JSON_TOKENIZER, "tokenizer.json"),
    };
    room.beside(folder, file, content, |files| {
        let tokenizer = Tokenizer::alone(files, Bos::Always("<|endoftext|>")).map_err(message)?;
        let ids = tokenizer.encode_with_bos("When ab met cab,\u{a0}1").map_err(message)?;
        tokenizer.decode(&ids).map(drop).map_err(message)
    })
}

fn task(bytes: &[u8]) -> Outcome {
    let text = std::str::from_utf8(bytes).map_err(message)?;
    let task = Task::from_toml(text, "task.toml").map_err(message)?;
    for protocol in [Protocol::Standard, Protocol::Published] {
        let has_published = task.names().is_some_and(|task| task.published.is_some());
        if protocol == Protocol::Published && !has_published {
            continue;
        }
        let options = PromptOptions { protocol, n_prompts: Some(8), ..PromptOptions::default() };
        PromptSet::resolve(&task, &options, &[&Words::default()]).map_err(message)?;
    }
    Ok(())
}

fn prompt_rows(bytes: &[u8]) -> Outcome {
    let Some((&which, content)) = bytes.split_first() else { return Err("no file at all".to_owned()) };
    let file = if which == b'j' { "rows.jsonl" } else { "rows.csv" };
    let task = Task::Rows(RowTask::from_bytes(content, file).map_err(message)?);
    PromptSet::resolve(&task, &PromptOptions::default(), &[&Words::default()]).map(drop).map_err(message)
}

fn study(path: &Path) -> Outcome {
    let cli = Cli::try_parse_from(["circuit-scaling", "run"]).map_err(message)?;
    let Command::Run(mut args) = cli.command else { return Err("the command is not run".to_owned()) };
    let study = StudyFile::read(path).map_err(message)?;
    study.fill(path, &mut args, |_| false).map_err(message)?;
    args.tables.options().map(drop).map_err(message)
}
