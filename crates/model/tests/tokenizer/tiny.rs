//! A small byte-level BPE in every form that a repository may have.

use std::path::Path;

use cs_model::ModelFiles;
use cs_model::config::{self, ModelConfig};
use cs_model::error::LoadError;
use cs_model::families::Bos;
use cs_model::tokenizer::Tokenizer;
use serde_json::{Value, json};
use tempfile::TempDir;

/// The BOS of GPT-2, GPT-Neo and Pythia.
pub const GPT2: Bos = Bos::Always("<|endoftext|>");

/// The BOS of OPT.
pub const OPT: Bos = Bos::Always("</s>");

/// Merges that make one token of " Mary" and leave " Bob" in pieces. `Ġ` stands for a space.
pub const MERGES: &[&str] = &["M a", "r y", "Ma ry", "Ġ Mary", "Ġ B"];

/// The printable stand-ins of all 256 bytes, in the order of GPT-2's own table.
pub fn alphabet() -> Vec<char> {
    let shown: Vec<u32> = (0x21..=0x7e).chain(0xa1..=0xac).chain(0xae..=0xff).collect();
    let hidden = (0..256u32).filter(|b| !shown.contains(b)).enumerate().map(|(i, _)| 256 + i as u32);
    shown.iter().copied().chain(hidden).map(|c| char::from_u32(c).unwrap()).collect()
}

/// Tokens to ids: `first`, the alphabet, the merges' results, then `last`.
pub fn vocab(first: &[&str], last: &[&str]) -> serde_json::Map<String, Value> {
    let bytes = alphabet().into_iter().map(String::from);
    let merged = MERGES.iter().map(|m| m.replace(' ', ""));
    let tokens = first.iter().map(|t| t.to_string()).chain(bytes).chain(merged);
    tokens
        .chain(last.iter().map(|t| t.to_string()))
        .enumerate()
        .map(|(id, token)| (token, json!(id)))
        .collect()
}

/// A `tokenizer.json` with these special tokens.
pub fn tokenizer_json(vocab: &serde_json::Map<String, Value>, special: &[&str]) -> Value {
    let added = special.iter().map(|token| {
        json!({
            "id": vocab[*token], "content": token, "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true,
        })
    });
    let byte_level =
        json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true });
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added.collect::<Vec<_>>(),
        "normalizer": null, "pre_tokenizer": byte_level, "post_processor": null, "decoder": byte_level,
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
            "vocab": vocab, "merges": MERGES,
        },
    })
}

/// A folder with these files.
pub fn folder(files: &[(&str, &str)]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, content) in files {
        std::fs::write(dir.path().join(name), content).unwrap();
    }
    dir
}

/// A miniature of GPT-2's tokenizer.
pub fn gpt2_json() -> Value {
    tokenizer_json(&vocab(&[], &["<|endoftext|>"]), &["<|endoftext|>"])
}

/// Miniatures of OPT's two files.
pub fn opt_files() -> (String, String) {
    let vocab = Value::Object(vocab(&["<s>", "<pad>", "</s>", "<unk>"], &[]));
    (vocab.to_string(), format!("#version: 0.2\n{}\n", MERGES.join("\n")))
}

pub fn alone(folder: &Path, bos: Bos) -> Result<Tokenizer, LoadError> {
    Tokenizer::alone(&ModelFiles::folder(folder).unwrap(), bos)
}

/// A config with this vocabulary size and BOS.
pub fn model_config(model_type: &str, vocab_size: usize, bos: Option<u32>) -> ModelConfig {
    let config = json!({ "model_type": model_type, "vocab_size": vocab_size, "bos_token_id": bos });
    config::parse(config.to_string().as_bytes(), "config.json").unwrap()
}

/// An error's message, which must be one line and name each of `words`.
#[track_caller]
pub fn refused<T>(result: Result<T, LoadError>, words: &[&str]) {
    let message = result.err().expect("must be refused").to_string();
    assert!(!message.contains('\n'), "{message}");
    for word in words {
        assert!(message.contains(word), "no {word:?} in: {message}");
    }
}
