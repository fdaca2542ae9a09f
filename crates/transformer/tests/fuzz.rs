//! Mutated model files: whatever they hold, reading them ends in a model or in one line. `FUZZ_RUNS=1000000` tries more.

mod mutation;

use std::path::Path;

use mutation::{mutants, runs};
use transformer::checkpoint::{Checkpoint, ModelFiles};
use transformer::config::{self, ModelConfig};
use transformer::error::LoadError;
use transformer::spec::Architecture;
use transformer::tokenizer::Tokenizer;

fn tests() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests"))
}

/// Tries mutants of one file of a folder, the other files being good.
fn fuzz<T>(
    file: &str,
    good: &[u8],
    others: &[(&str, &[u8])],
    n: u64,
    open: impl Fn(&ModelFiles) -> Result<T, LoadError>,
) {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in others {
        std::fs::write(folder.path().join(name), content).unwrap();
    }
    let files = ModelFiles::folder(folder.path()).unwrap();
    let mut refused = 0;
    for bytes in mutants(good, runs(n)) {
        std::fs::write(folder.path().join(file), bytes).unwrap();
        if let Err(error) = open(&files) {
            refused += 1;
            let message = error.to_string();
            assert!(!message.contains('\n') && message.len() < 2000, "{message}");
        }
    }
    // Both ends come up, or the mutants are not near the edge.
    assert!(refused > 0, "no mutant of {file} was refused");
}

/// Loads weights by the config of a golden checkpoint.
fn weights(of_golden: &str) -> impl Fn(&ModelFiles) -> Result<(), LoadError> {
    let config =
        ModelConfig::open(&ModelFiles::folder(tests().join("golden").join(of_golden)).unwrap()).unwrap();
    move |files| Checkpoint::open(files, &config)?.load().map(drop)
}

#[test]
fn fuzz_config() {
    for golden in ["gpt2-default", "neox-parallel", "opt-projected-f16", "neo-alternating"] {
        let good = std::fs::read(tests().join("golden").join(golden).join("config.json")).unwrap();
        for bytes in mutants(&good, runs(3000)) {
            if let Err(error) = config::parse(&bytes, "config.json") {
                assert!(!error.to_string().contains('\n'), "{error}");
            }
        }
    }
}

#[test]
fn fuzz_safetensors_header() {
    let good = std::fs::read(tests().join("golden/gpt2-untied/model.safetensors")).unwrap();
    let n = u64::from_le_bytes(good[..8].try_into().unwrap()) as usize;
    let folder = tempfile::tempdir().unwrap();
    let (files, open) = (ModelFiles::folder(folder.path()).unwrap(), weights("gpt2-untied"));
    for header in mutants(&good[8..8 + n], runs(1500)) {
        let length = (header.len() as u64).to_le_bytes();
        let bytes = [&length[..], &header, &good[8 + n..]].concat();
        std::fs::write(folder.path().join("model.safetensors"), bytes).unwrap();
        if let Err(error) = open(&files) {
            assert!(!error.to_string().contains('\n'), "{error}");
        }
    }
}

#[test]
fn fuzz_index_of_shards() {
    let index = std::fs::read(tests().join("torch/gpt2-sharded/pytorch_model.bin.index.json")).unwrap();
    let shard = |n| {
        std::fs::read(tests().join(format!("torch/gpt2-sharded/pytorch_model-0000{n}-of-00002.bin"))).unwrap()
    };
    let (one, two) = (shard(1), shard(2));
    let others = [("pytorch_model-00001-of-00002.bin", &one[..]), ("pytorch_model-00002-of-00002.bin", &two)];
    fuzz("pytorch_model.bin.index.json", &index, &others, 1000, weights("gpt2-untied"));
}

#[test]
fn fuzz_torch_zip() {
    let good = std::fs::read(tests().join("torch/opt-tied/pytorch_model.bin")).unwrap();
    fuzz("pytorch_model.bin", &good, &[], 1500, weights("opt-postnorm-no-bias"));
}

#[test]
fn fuzz_torch_pickle() {
    // Of the old format, where no checksum stands before the pickle.
    let good = std::fs::read(tests().join("torch/neo-legacy/pytorch_model.bin")).unwrap();
    let end = good.windows(2).rposition(|w| w == b"e.").unwrap() + 2;
    let folder = tempfile::tempdir().unwrap();
    let (files, open) = (ModelFiles::folder(folder.path()).unwrap(), weights("neo-old-hub"));
    for pickle in mutants(&good[..end.min(6000)], runs(3000)) {
        let bytes = [&pickle[..], &good[end.min(6000)..]].concat();
        std::fs::write(folder.path().join("pytorch_model.bin"), bytes).unwrap();
        if let Err(error) = open(&files) {
            let message = error.to_string();
            assert!(!message.contains('\n') && message.len() < 2000, "{message}");
        }
    }
}

#[test]
fn fuzz_tokenizer_files() {
    let alone = |files: &ModelFiles| Tokenizer::alone(files, Architecture::Gpt2);
    let bytes = |value: serde_json::Value| value.to_string().into_bytes();
    // Every byte is a token, and one merge.
    let shown: Vec<u32> = (0x21..=0x7e).chain(0xa1..=0xac).chain(0xae..=0xff).collect();
    let hidden = (0..256u32).filter(|b| !shown.contains(b)).enumerate().map(|(i, _)| 256 + i as u32);
    let letters = shown.iter().copied().chain(hidden).map(|c| char::from_u32(c).unwrap().to_string());
    let mut vocab: serde_json::Map<_, _> = letters.enumerate().map(|(i, c)| (c, i.into())).collect();
    vocab.insert("ab".into(), 256.into());
    vocab.insert("<|endoftext|>".into(), 257.into());
    let byte_level = serde_json::json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    let json = bytes(serde_json::json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": null, "pre_tokenizer": byte_level,
        "added_tokens": [{"id": 257, "content": "<|endoftext|>", "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true}],
        "post_processor": null, "decoder": byte_level,
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "vocab": vocab, "merges": ["a b"]},
    }));
    let settings = bytes(
        serde_json::json!({"bos_token": {"content": "<|endoftext|>", "lstrip": false}, "add_prefix_space": false,
        "added_tokens_decoder": {"257": {"content": "<|endoftext|>", "special": true}}}),
    );
    let vocab = bytes(vocab.into());
    fuzz("tokenizer.json", &json, &[("tokenizer_config.json", &settings)], 1500, alone);
    fuzz("tokenizer_config.json", &settings, &[("tokenizer.json", &json)], 1500, alone);
    fuzz("vocab.json", &vocab, &[("merges.txt", b"#version: 0.2\na b\n")], 1500, alone);
    fuzz("merges.txt", b"#version: 0.2\na b\nb a\n", &[("vocab.json", &vocab)], 1500, alone);
}
