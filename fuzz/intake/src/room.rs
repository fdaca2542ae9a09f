//! Valid files, with a place for an untrusted one among them.

use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use cs_model::ModelFiles;
use cs_model::checkpoint::Checkpoint;
use cs_model::config::{self, ModelConfig};
use serde_json::{Map, Value, json};
use tempfile::TempDir;

use crate::read::{Outcome, message};

/// Holds a single `model.safetensors`.
pub(crate) const MODEL: &str = "model";
/// Holds a shard and the index `model.safetensors.index.json`.
pub(crate) const SHARDS: &str = "shards";
/// Holds a single `pytorch_model.bin`.
pub(crate) const TORCH: &str = "torch";
/// Holds two shards and the index `pytorch_model.bin.index.json`.
pub(crate) const TORCH_SHARDS: &str = "torch-shards";
/// Holds a tokenizer as `tokenizer.json`.
pub(crate) const JSON_TOKENIZER: &str = "tokenizer";
/// Holds a tokenizer as `vocab.json` and `merges.txt`.
pub(crate) const BPE_TOKENIZER: &str = "bpe";
const ALONE: &str = "alone";

const GOOD_MODEL: &[u8] = include_bytes!("../../../crates/engine/tests/golden/gpt2-untied/model.safetensors");
const GOOD_CONFIG: &[u8] = include_bytes!("../../../crates/engine/tests/golden/gpt2-untied/config.json");
const TORCH_CONFIG: &[u8] =
    include_bytes!("../../../crates/engine/tests/golden/opt-postnorm-no-bias/config.json");
const TORCH_SHARD_FILES: [(&str, &[u8]); 2] = [
    (
        "pytorch_model-00001-of-00002.bin",
        include_bytes!("../../../crates/engine/tests/torch/gpt2-sharded/pytorch_model-00001-of-00002.bin"),
    ),
    (
        "pytorch_model-00002-of-00002.bin",
        include_bytes!("../../../crates/engine/tests/torch/gpt2-sharded/pytorch_model-00002-of-00002.bin"),
    ),
];

/// A folder of folders, one per process.
pub(crate) struct Room {
    folder: TempDir,
    gpt2: ModelConfig,
    opt: ModelConfig,
}

impl Room {
    /// The process's room, with its valid files.
    ///
    /// # Panics
    /// If temporary files cannot be created.
    pub(crate) fn get() -> &'static Self {
        static ROOM: OnceLock<Room> = OnceLock::new();
        ROOM.get_or_init(|| Room::furnished().expect("a place for temporary files"))
    }

    fn furnished() -> Result<Self, Box<dyn std::error::Error>> {
        let folder = tempfile::tempdir()?;
        let place = |folder_name: &str, files: &[(&str, &[u8])]| {
            let folder = folder.path().join(folder_name);
            fs::create_dir_all(&folder)?;
            files.iter().try_for_each(|(name, content)| fs::write(folder.join(name), content))
        };
        place(ALONE, &[])?;
        place(MODEL, &[])?;
        place(TORCH, &[])?;
        place(SHARDS, &[("model-00001-of-00001.safetensors", GOOD_MODEL)])?;
        place(TORCH_SHARDS, &TORCH_SHARD_FILES)?;
        let [json, vocab, settings] = tokenizer().map(|value| value.to_string().into_bytes());
        place(JSON_TOKENIZER, &[("tokenizer.json", &json), ("tokenizer_config.json", &settings)])?;
        place(BPE_TOKENIZER, &[("vocab.json", &vocab), ("merges.txt", b"#version: 0.2\na b\n")])?;
        let config = |json| config::parse(json, "config.json");
        Ok(Self { gpt2: config(GOOD_CONFIG)?, opt: config(TORCH_CONFIG)?, folder })
    }

    /// Calls `read` with `content` under this name among the valid files of a folder, then restores the valid
    /// file.
    pub(crate) fn beside(
        &self,
        folder: &str,
        file: &str,
        content: &[u8],
        read: impl FnOnce(&ModelFiles) -> Outcome,
    ) -> Outcome {
        let folder = self.folder.path().join(folder);
        let path = folder.join(file);
        let good = fs::read(&path).ok();
        fs::write(&path, content).map_err(message)?;
        let outcome = ModelFiles::folder(&folder).map_err(message).and_then(|files| read(&files));
        match good {
            Some(good) => fs::write(&path, good),
            None => fs::remove_file(&path),
        }
        .map_err(message)?;
        outcome
    }

    /// Loads weights, with one untrusted file.
    pub(crate) fn weights(&self, folder: &str, file: &str, content: &[u8]) -> Outcome {
        let config = if folder == TORCH { &self.opt } else { &self.gpt2 };
        self.beside(folder, file, content, |files| {
            let checkpoint = Checkpoint::open(files, config).map_err(message)?;
            checkpoint.weight_hash();
            cs_engine::load(&checkpoint).map(drop).map_err(message)
        })
    }

    /// Calls `read` with a file that is alone in its folder.
    pub(crate) fn alone(&self, content: &[u8], read: impl FnOnce(&Path) -> Outcome) -> Outcome {
        let path = self.folder.path().join(ALONE).join("file");
        fs::write(&path, content).map_err(message)?;
        read(&path)
    }
}

/// A safetensors file with this header, if the bytes are a header, with a valid file's length and data.
pub(crate) fn around_header(bytes: &[u8]) -> Vec<u8> {
    if !bytes.starts_with(b"{") {
        return bytes.to_vec();
    }
    let (length, rest) = GOOD_MODEL.split_at(8);
    let length = length.try_into().map_or(0, u64::from_le_bytes) as usize;
    [&(bytes.len() as u64).to_le_bytes(), bytes, &rest[length..]].concat()
}

/// `tokenizer.json`, `vocab.json` and `tokenizer_config.json` of a tokenizer in which every byte is a token, with one
/// merge and one special token.
fn tokenizer() -> [Value; 3] {
    // GPT-2's alphabet: bytes without a visible character are represented by characters from 256 on.
    let visible: Vec<u32> = (0x21..=0x7e).chain(0xa1..=0xac).chain(0xae..=0xff).collect();
    let others = (0..256).filter(|byte| !visible.contains(byte)).zip(256u32..).map(|(_, shown)| shown);
    let letters = visible.iter().copied().chain(others).filter_map(char::from_u32);
    let mut vocab: Map<String, Value> = letters.enumerate().map(|(i, c)| (c.to_string(), i.into())).collect();
    vocab.insert("ab".to_owned(), 256.into());
    vocab.insert("<|endoftext|>".to_owned(), 257.into());
    let byte_level =
        json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    let json = json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": null, "pre_tokenizer": byte_level,
        "added_tokens": [{"id": 257, "content": "<|endoftext|>", "single_word": false, "lstrip": false,
            "rstrip": false, "normalized": false, "special": true}],
        "post_processor": null, "decoder": byte_level,
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "vocab": vocab, "merges": ["a b"]},
    });
    let settings = json!({
        "bos_token": {"content": "<|endoftext|>", "lstrip": false}, "add_prefix_space": false,
        "added_tokens_decoder": {"257": {"content": "<|endoftext|>", "special": true}},
    });
    [json, vocab.into(), settings]
}
