//! The real tokenizers of GPT-2 and Pythia, where they are at hand, against ids made by Hugging Face's own.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use cs_model::ModelFiles;
use cs_model::config::Architecture;
use cs_model::tokenizer::Tokenizer;
use serde::Deserialize;

#[derive(Deserialize)]
struct Known {
    text: String,
    ids: Vec<u32>,
}

fn known(name: &str) -> Vec<Known> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/tokenizers.json");
    let mut all: BTreeMap<String, Vec<Known>> =
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    all.remove(name).unwrap()
}

/// The folder of a real tokenizer, which lies beside the workspace where there is one.
fn folder(name: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/hf").join(name);
    if !path.is_dir() {
        println!("skipped: no folder {}", path.display());
    }
    path.is_dir().then_some(path)
}

fn open(folder: &Path, architecture: Architecture) -> Tokenizer {
    Tokenizer::alone(&ModelFiles::folder(folder).unwrap(), architecture).unwrap()
}

fn check(tokenizer: &Tokenizer, known: &[Known]) {
    assert!(known.len() >= 20);
    for Known { text, ids } in known {
        assert_eq!(tokenizer.encode(text).unwrap(), *ids, "{text:?}");
        let with_bos = tokenizer.encode_with_bos(text).unwrap();
        assert_eq!(with_bos[0], tokenizer.bos_id());
        let already = ids.first() == Some(&tokenizer.bos_id());
        assert_eq!(with_bos[usize::from(!already)..], *ids, "{text:?}");
    }
}

#[test]
fn gpt2_in_both_formats() {
    let Some(folder) = folder("gpt2") else { return };
    let from_json = open(&folder, Architecture::Gpt2);
    let two_files = tempfile::tempdir().unwrap();
    for file in ["vocab.json", "merges.txt"] {
        std::fs::copy(folder.join(file), two_files.path().join(file)).unwrap();
    }
    let from_two = open(two_files.path(), Architecture::Gpt2);
    for tokenizer in [&from_json, &from_two] {
        let known: Vec<_> = known("gpt2");
        // Without special_tokens_map.json nothing says that <|endoftext|> is more than text.
        let plain = known.into_iter().filter(|k| !k.text.contains("<|endoftext|>")).collect::<Vec<_>>();
        check(tokenizer, &plain);
        for Known { text, ids } in &plain {
            assert_eq!(tokenizer.decode(ids).unwrap(), *text);
        }
        assert_eq!((tokenizer.bos_id(), tokenizer.vocab_size()), (50256, 50257));
        assert_eq!(tokenizer.single_token(" Mary"), Some(5335));
        assert_eq!(tokenizer.token_text(5335).unwrap(), " Mary");
        assert_eq!(tokenizer.single_token("  Mary"), None);
        assert!(tokenizer.is_real(50256) && !tokenizer.is_real(50257));
    }
    check(&from_json, &known("gpt2"));
    let map = r#"{"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>"}"#;
    std::fs::write(two_files.path().join("special_tokens_map.json"), map).unwrap();
    check(&open(two_files.path(), Architecture::Gpt2), &known("gpt2"));
}

#[test]
fn pythia_with_its_added_tokens() {
    let Some(folder) = folder("pythia") else { return };
    let tokenizer = open(&folder, Architecture::GptNeoX);
    check(&tokenizer, &known("pythia"));
    assert_eq!(tokenizer.bos_id(), 0);
    assert_eq!(tokenizer.encode(" Alice").unwrap().len(), 1);
    // Two spaces are a token of their own, which leaves "Alice" without the space that makes it one.
    assert_eq!(tokenizer.encode(".  Alice").unwrap(), [15, 50276, 2422, 547]);
    assert!(tokenizer.is_real(50276) && tokenizer.is_real(50277) && !tokenizer.is_real(50278));
    assert_eq!(tokenizer.token_text(50303), None, "the model's vocabulary is padded up to here");
}
