//! Tokenizers of every kind, small ones and (if available) real ones, against ids from Hugging Face's own tokenizers.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use cs_model::ModelFiles;
use cs_model::families::Bos;
use cs_model::tokenizer::Tokenizer;
use serde::Deserialize;

use crate::tiny::GPT2;

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

/// The folder of a real tokenizer: in `CIRCUIT_SCALING_TOKENIZERS` (which `tools/tokenizers/make` fills), or next to the
/// workspace.
fn folder(name: &str) -> Option<PathBuf> {
    let given = std::env::var_os("CIRCUIT_SCALING_TOKENIZERS").map(PathBuf::from);
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/hf");
    let found = given.into_iter().chain([beside]).map(|all| all.join(name)).find(|path| path.is_dir());
    if found.is_none() {
        println!("skipped: no folder {name}");
    }
    found
}

fn open(folder: &Path, bos: Bos) -> Tokenizer {
    Tokenizer::alone(&ModelFiles::folder(folder).unwrap(), bos).unwrap()
}

fn check(tokenizer: &Tokenizer, known: &[Known]) {
    assert!(known.len() >= 20);
    for Known { text, ids } in known {
        assert_eq!(tokenizer.encode(text).unwrap(), *ids, "{text:?}");
        let with_bos = tokenizer.encode_with_bos(text).unwrap();
        match tokenizer.bos_id() {
            None => assert_eq!(with_bos, *ids),
            Some(bos) => {
                assert_eq!(with_bos[0], bos);
                let already = ids.first() == Some(&bos);
                assert_eq!(with_bos[usize::from(!already)..], *ids, "{text:?}");
            }
        }
        let with_spans = tokenizer.encode_with_spans(text).unwrap();
        assert!(with_spans.iter().map(|token| token.id).eq(ids.iter().copied()), "{text:?}");
        assert!(with_spans.iter().all(|token| text.get(token.span.clone()).is_some()), "{text:?}");
    }
}

#[test]
fn gpt2_in_both_formats() {
    let Some(folder) = folder("gpt2") else { return };
    let from_json = open(&folder, GPT2);
    let two_files = tempfile::tempdir().unwrap();
    for file in ["vocab.json", "merges.txt"] {
        std::fs::copy(folder.join(file), two_files.path().join(file)).unwrap();
    }
    let from_two = open(two_files.path(), GPT2);
    for tokenizer in [&from_json, &from_two] {
        let known: Vec<_> = known("gpt2");
        // Without special_tokens_map.json, nothing marks <|endoftext|> as a special token.
        let plain = known.into_iter().filter(|k| !k.text.contains("<|endoftext|>")).collect::<Vec<_>>();
        check(tokenizer, &plain);
        for Known { text, ids } in &plain {
            assert_eq!(tokenizer.decode(ids).unwrap(), *text);
        }
        assert_eq!((tokenizer.bos_id(), tokenizer.vocab_size()), (Some(50256), 50257));
        assert_eq!(tokenizer.single_token(" Mary"), Some(5335));
        assert_eq!(tokenizer.token_text(5335).unwrap(), " Mary");
        assert_eq!(tokenizer.single_token("  Mary"), None);
        assert!(tokenizer.is_real(50256) && !tokenizer.is_real(50257));
    }
    check(&from_json, &known("gpt2"));
    let map = r#"{"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>"}"#;
    std::fs::write(two_files.path().join("special_tokens_map.json"), map).unwrap();
    check(&open(two_files.path(), GPT2), &known("gpt2"));
}

#[test]
fn pythia_with_its_added_tokens() {
    let Some(folder) = folder("pythia") else { return };
    let tokenizer = open(&folder, GPT2);
    check(&tokenizer, &known("pythia"));
    assert_eq!(tokenizer.bos_id(), Some(0));
    assert_eq!(tokenizer.encode(" Alice").unwrap().len(), 1);
    // Two spaces are one token, which leaves "Alice" without the space that would make it one.
    assert_eq!(tokenizer.encode(".  Alice").unwrap(), [15, 50276, 2422, 547]);
    assert!(tokenizer.is_real(50276) && tokenizer.is_real(50277) && !tokenizer.is_real(50278));
    assert_eq!(tokenizer.token_text(50303), None, "the model's vocabulary is padded up to here");
}

#[test]
fn every_kind_of_small_tokenizer() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/tokenizers");
    let mut n_kinds = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if name == "added-tokens" {
            // Its added token "Mary" has another id than the vocabulary's token of that text.
            let refused = Tokenizer::alone(&ModelFiles::folder(&path).unwrap(), Bos::AsTokenizer);
            assert!(refused.unwrap_err().to_string().contains("\"Mary\" the id 420"));
            continue;
        }
        let tokenizer = open(&path, Bos::AsTokenizer);
        check(&tokenizer, &known(name));
        // Their post-processors add a BOS, or nothing.
        let adds = ["llama-2", "phi-3", "gemma", "llama-3-kind", "metaspace-always", "metaspace-first"];
        let token = tokenizer.bos_id().map(|id| tokenizer.token_text(id).unwrap());
        assert_eq!(token.is_some(), adds.contains(&name), "{name}: {token:?}");
        n_kinds += 1;
    }
    assert!(n_kinds >= 10);
}

#[test]
fn real_tokenizers_of_recent_models() {
    for (name, bos) in [
        ("llama-3", Some("<|begin_of_text|>")),
        ("mistral-7b", Some("<s>")),
        ("qwen2", None),
        ("deepseek-v4", None),
        ("smollm2", None),
    ] {
        let Some(folder) = folder(name) else { continue };
        let tokenizer = open(&folder, Bos::AsTokenizer);
        check(&tokenizer, &known(name));
        let found = tokenizer.bos_id().map(|id| tokenizer.token_text(id).unwrap());
        assert_eq!(found.as_deref(), bos, "{name}");
    }
}
