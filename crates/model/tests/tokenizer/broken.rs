//! Tokenizer files that are broken, do not belong together, or do not fit the model.

use cs_model::ModelFiles;
use cs_model::tokenizer::Tokenizer;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::tiny::{GPT2, OPT, alone, folder, gpt2_json, model_config, opt_files, refused};

#[track_caller]
fn json_refused(edit: impl FnOnce(&mut Value), words: &[&str]) {
    let mut json = gpt2_json();
    edit(&mut json);
    let dir = folder(&[("tokenizer.json", &json.to_string())]);
    refused(alone(dir.path(), GPT2), &["tokenizer.json"]);
    refused(alone(dir.path(), GPT2), words);
}

#[test]
fn a_vocabulary_larger_than_the_model() {
    let dir = folder(&[("tokenizer.json", &gpt2_json().to_string())]);
    let files = ModelFiles::folder(dir.path()).unwrap();
    assert!(Tokenizer::from_files(&files, &model_config("gpt2", 262, None)).is_ok());
    let too_small = Tokenizer::from_files(&files, &model_config("gpt2", 261, None));
    refused(too_small, &["tokenizer.json", "largest token id is 261", "config.json", "vocab_size of 261"]);
}

#[test]
fn missing_files() {
    let dir = folder(&[]);
    let files = ModelFiles::folder(dir.path()).unwrap();
    let config = model_config("gpt2", 262, None);
    assert!(Tokenizer::optional(&files, &config).unwrap().is_none());
    refused(
        Tokenizer::from_files(&files, &config),
        &["tokenizer.json: no such file", "vocab.json", "merges.txt"],
    );
    let dir = folder(&[("vocab.json", &opt_files().0)]);
    refused(alone(dir.path(), OPT), &["merges.txt: no such file", "vocab.json needs it"]);
}

#[test]
fn tokenizers_of_another_kind() {
    json_refused(|j| j["model"]["type"] = "WordPiece".into(), &["model of type WordPiece", "only BPE"]);
    json_refused(
        |j| j["pre_tokenizer"] = json!({ "type": "Whitespace" }),
        &["pre_tokenizer of type Whitespace"],
    );
    json_refused(|j| j["decoder"] = Value::Null, &["pre_tokenizer of type ByteLevel", "decoder of another"]);
    json_refused(|j| j["decoder"] = json!({ "type": "WordPiece" }), &["decoder of type WordPiece"]);
    let sequence = json!({ "type": "Sequence", "pretokenizers": [
        { "type": "Sequence", "pretokenizers": [{ "type": "Whitespace" }] },
        { "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true },
    ] });
    json_refused(|j| j["pre_tokenizer"] = sequence, &["pre_tokenizer of type Whitespace"]);
    let removing = json!({ "type": "Sequence", "pretokenizers": [
        { "type": "Split", "pattern": { "String": " " }, "behavior": "Removed", "invert": false },
        { "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true },
    ] });
    json_refused(|j| j["pre_tokenizer"] = removing, &["removes a part of the text"]);
    let of_characters = |j: &mut Value, byte_fallback: bool| {
        j["pre_tokenizer"] = Value::Null;
        j["decoder"] = Value::Null;
        j["model"]["byte_fallback"] = byte_fallback.into();
    };
    json_refused(|j| of_characters(j, false), &["not a byte-level BPE", "would drop"]);
    json_refused(|j| of_characters(j, true), &["no token for every byte", "<0x00>"]);
    json_refused(|j| j["normalizer"] = json!({ "type": "Lowercase" }), &["normalizer of type Lowercase"]);
    json_refused(|j| j["model"]["dropout"] = 0.1.into(), &["dropout", "random"]);
    json_refused(|j| j["model"]["continuing_subword_prefix"] = "##".into(), &["marks subwords"]);
    json_refused(|j| j["version"] = "7.0".into(), &["not a valid tokenizer.json", "7.0"]);
    json_refused(|j| *j = json!({ "model": {} }), &["not a BPE tokenizer.json"]);
}

#[test]
fn vocabularies_that_contradict_themselves() {
    let vocab = |j: &mut Value, token: &str, id: Value| j["model"]["vocab"][token] = id;
    json_refused(|j| vocab(j, "Mary", 3.into()), &["the id 3 to both", "\"Mary\""]);
    json_refused(|j| vocab(j, "Mary", u32::MAX.into()), &["\"Mary\"", "4294967295", "beyond"]);
    json_refused(|j| vocab(j, "Mary", (-1).into()), &["not a BPE"]);
    let without_byte = |j: &mut Value| drop(j["model"]["vocab"].as_object_mut().unwrap().remove("Ċ"));
    json_refused(without_byte, &["no token for every byte", "'Ċ' is missing"]);
    // The byte 0xFF occurs in no text.
    let mut json = gpt2_json();
    json["model"]["vocab"].as_object_mut().unwrap().remove("ÿ");
    assert!(alone(folder(&[("tokenizer.json", &json.to_string())]).path(), GPT2).is_ok());
    json_refused(|j| j["model"]["merges"] = json!(["q z"]), &["not a valid tokenizer.json", "qz"]);
    json_refused(|j| j["added_tokens"][0]["id"] = 9.into(), &["\"<|endoftext|>\"", "the id 9", "261"]);
    json_refused(|j| j["added_tokens"][0]["id"] = u32::MAX.into(), &["\"<|endoftext|>\"", "beyond"]);
}

#[test]
fn two_files_that_do_not_belong_together() {
    let (vocab, merges) = opt_files();
    let error = |vocab: &str, merges: &str, words: &[&str]| {
        let dir = folder(&[("vocab.json", vocab), ("merges.txt", merges)]);
        refused(alone(dir.path(), OPT), words);
    };
    error("[]", &merges, &["vocab.json", "not a map from tokens to ids"]);
    error("{\"a\": 0", &merges, &["vocab.json", "not a map from tokens to ids"]);
    error("{\"a\": 0}", &merges, &["vocab.json", "no token for every byte"]);
    error(&vocab, "#version: 0.2\nM a\nM a b\n", &["merges.txt", "no pair", "line 3", "\"M a b\""]);
    error(&vocab, "Mary\n", &["merges.txt", "no pair", "line 1"]);
    error(&vocab, "M a\n\nz z\n", &["merges.txt", "line 3", "vocab.json has no token \"zz\""]);
    error(&vocab, "M a\nr y\nM a\n", &["merges.txt", "a second time", "line 3"]);
    let dir = folder(&[("vocab.json", &vocab)]);
    std::fs::write(dir.path().join("merges.txt"), [0xff, 0xfe]).unwrap();
    refused(alone(dir.path(), OPT), &["merges.txt", "not UTF-8"]);
}

#[test]
fn broken_companions() {
    let json = gpt2_json().to_string();
    for (file, content, words) in [
        ("tokenizer_config.json", "{", &["tokenizer_config.json", "not hold a JSON object"][..]),
        (
            "tokenizer_config.json",
            r#"{"bos_token": 3}"#,
            &["tokenizer_config.json", "no token under \"bos_token\""],
        ),
        ("tokenizer_config.json", r#"{"added_tokens_decoder": {"x": "a"}}"#, &["added_tokens_decoder"]),
        ("special_tokens_map.json", "[]", &["special_tokens_map.json", "not hold a JSON object"]),
        ("special_tokens_map.json", r#"{"additional_special_tokens": [1]}"#, &["additional_special_tokens"]),
        ("added_tokens.json", r#"{"a": "b"}"#, &["added_tokens.json", "\"a\""]),
        ("tokenizer.json", "not JSON", &["tokenizer.json", "not a BPE tokenizer.json"]),
        ("tokenizer.json", "", &["tokenizer.json", "not a BPE tokenizer.json"]),
    ] {
        let dir = folder(&[("tokenizer.json", &json)]);
        std::fs::write(dir.path().join(file), content).unwrap();
        refused(alone(dir.path(), GPT2), words);
    }
}

/// Loads these files and, if that succeeds, encodes a text.
fn try_load(files: &[(&str, &[u8])]) {
    let dir = folder(&[]);
    for (name, bytes) in files {
        std::fs::write(dir.path().join(name), bytes).unwrap();
    }
    match alone(dir.path(), GPT2) {
        Ok(tokenizer) => {
            let ids = tokenizer.encode("Mary met\n <|endoftext|>Bob's  é").unwrap();
            tokenizer.decode(&ids).unwrap();
        }
        Err(error) => assert!(!error.to_string().contains('\n'), "{error}"),
    }
}

const KINDS: &[&str] = &["llama-2", "gemma", "metaspace-first", "llama-3-kind", "digits", "three-patterns"];

fn golden(kind: &str) -> Value {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/tokenizers").join(kind);
    serde_json::from_slice(&std::fs::read(folder.join("tokenizer.json")).unwrap()).unwrap()
}

/// Replaces the value at a random place in a JSON tree.
fn replace(value: &mut Value, path: &[prop::sample::Index], new: Value) {
    let Some((first, rest)) = path.split_first() else {
        *value = new;
        return;
    };
    match value {
        Value::Object(map) if !map.is_empty() => {
            let at = first.index(map.len());
            replace(map.values_mut().nth(at).unwrap(), rest, new);
        }
        Value::Array(list) if !list.is_empty() => {
            let at = first.index(list.len());
            replace(&mut list[at], rest, new);
        }
        _ => *value = new,
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        Just(u32::MAX.into()),
        "\\PC{0,6}".prop_map(Into::into),
        Just(json!([])),
        Just(json!({})),
        prop::sample::select(vec![
            "ByteLevel",
            "NFC",
            "BPE",
            "TemplateProcessing",
            "Sequence",
            "Precompiled"
        ])
        .prop_map(|kind| json!({ "type": kind })),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn mutated_tokenizers(
        edits in proptest::collection::vec((proptest::collection::vec(any::<prop::sample::Index>(), 1..4), any_json()), 1..3),
    ) {
        let mut json = gpt2_json();
        for (path, new) in edits {
            replace(&mut json, &path, new);
        }
        try_load(&[("tokenizer.json", json.to_string().as_bytes())]);
    }

    #[test]
    fn mutated_tokenizers_of_every_kind(
        kind in prop::sample::select(KINDS),
        edits in proptest::collection::vec((proptest::collection::vec(any::<prop::sample::Index>(), 1..4), any_json()), 1..3),
    ) {
        let mut json = golden(kind);
        for (path, new) in edits {
            replace(&mut json, &path, new);
        }
        try_load(&[("tokenizer.json", json.to_string().as_bytes())]);
    }

    #[test]
    fn mutated_companions(config in any_json(), role in any_json(), token in any_json(), id in any::<u32>(), text in "\\PC{0,6}") {
        let tokenizer = gpt2_json().to_string();
        let declared = json!({ "bos_token": role, "added_tokens_decoder": { id.to_string(): token } }).to_string();
        let added = json!({ text: id }).to_string();
        try_load(&[("tokenizer.json", tokenizer.as_bytes()), ("tokenizer_config.json", declared.as_bytes())]);
        try_load(&[("tokenizer.json", tokenizer.as_bytes()), ("added_tokens.json", added.as_bytes())]);
        try_load(&[("tokenizer.json", tokenizer.as_bytes()), ("special_tokens_map.json", config.to_string().as_bytes())]);
    }

    #[test]
    fn mutated_bytes(at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<bool>()) {
        let (vocab, merges) = opt_files();
        for (name, text) in [("tokenizer.json", gpt2_json().to_string()), ("vocab.json", vocab.clone()), ("merges.txt", merges.clone())] {
            let mut bytes = text.into_bytes();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            if cut {
                bytes.truncate(at);
            }
            try_load(&[("vocab.json", vocab.as_bytes()), ("merges.txt", merges.as_bytes()), (name, &bytes)]);
        }
    }
}
