//! Real-world model folders, each compared with Hugging Face Transformers 4 and 5 (`tools/files`).

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use cs_engine::Cache;
use cs_engine::forest::Forest;
use cs_engine::model::Model;
use cs_model::config::ModelConfig;
use cs_model::error::LoadError;
use cs_model::families::FAMILIES;
use cs_model::tokenizer::{TokenizeError, Tokenizer};
use cs_model::{ModelFiles, ModelInfo};
use serde::Deserialize;
use serde_json::{Value, json};
use tempfile::TempDir;

/// Logits of the two implementations may differ by rounding.
const TOLERANCE: f32 = 2e-5;

const VERSIONS: [&str; 2] = ["4.57.6", "5.24.0"];

/// What one version of Transformers found.
#[derive(Deserialize)]
struct Found {
    prompt: String,
    folders: BTreeMap<String, FolderFound>,
    /// Model type, tokenizer class, `add_prefix_space` in `tokenizer_config.json` and in `tokenizer.json` (or "vocab", where
    /// there are `vocab.json` and `merges.txt`), and whether a text is tokenized as if it started with a space.
    prefix_space: Vec<PrefixSpace>,
}

type PrefixSpace = (String, Option<String>, Option<bool>, Value, Option<bool>);

#[derive(Deserialize)]
struct FolderFound {
    bos_id: u32,
    ids: Vec<u32>,
    pad_ids: Vec<u32>,
    /// After BOS and the prompt; `None` if the library did not recognize the weights' names.
    logits: Option<Vec<f32>>,
}

fn files() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/files")
}

fn found(version: &str) -> Found {
    let json = fs::read(files().join(format!("transformers-{version}.json"))).unwrap();
    serde_json::from_slice(&json).unwrap()
}

/// The whole model, with some files replaced by those of a folder.
fn folder(name: &str) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for from in ["plain", name] {
        for file in fs::read_dir(files().join("folders").join(from)).unwrap() {
            let file = file.unwrap();
            fs::copy(file.path(), dir.path().join(file.file_name())).unwrap();
        }
    }
    dir
}

fn open(dir: &TempDir) -> Result<ModelInfo, LoadError> {
    ModelInfo::open(&ModelFiles::folder(dir.path()).unwrap())
}

fn last_logits(model: &Model, ids: &[u32]) -> Vec<f32> {
    let forest = Forest::new(&[ids]).unwrap();
    Cache::new(model.decoder(), &forest).unwrap().logits(forest.end(0)).iter().map(|&x| x as f32).collect()
}

#[test]
fn every_folder_gives_the_tokens_and_logits_of_transformers() {
    for version in VERSIONS {
        let found = found(version);
        assert_eq!(found.folders.len(), 8);
        for (name, expected) in &found.folders {
            let info = open(&folder(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
            let tokenizer = info.tokenizer.as_ref().unwrap().clone();
            assert_eq!(tokenizer.encode(&found.prompt).unwrap(), expected.ids, "{name}");
            assert_eq!(tokenizer.bos_id(), Some(expected.bos_id), "{name} in {version}");
            let model = Model::from_info(info).unwrap();
            // Python ignores wrapped names and initializes weights at random: compare with the unwrapped weights.
            let plain = found.folders["plain"].logits.as_ref().unwrap();
            let logits = expected.logits.as_ref().unwrap_or(plain);
            let own = last_logits(&model, &[&[261], &expected.ids[..]].concat());
            let worst = own.iter().zip(logits).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(own.len() == logits.len() && worst < TOLERANCE, "{name} in {version}: off by {worst}");
        }
    }
}

#[test]
fn a_token_without_a_row_is_refused_where_it_is_used() {
    let expected = &found("5.24.0").folders["token-without-row"];
    let tokenizer = open(&folder("token-without-row")).unwrap().tokenizer.unwrap();
    assert_eq!((tokenizer.vocab_size(), tokenizer.is_real(262)), (263, true));
    assert_eq!(expected.pad_ids, [258, 262], "Python has the id, and fails when the model looks it up");
    for error in [tokenizer.encode("Mary[PAD]").err(), tokenizer.encode_with_spans("Mary[PAD]").err()] {
        let Some(TokenizeError::NoRow { token, id: 262, d_vocab: 262, .. }) = error else {
            panic!("{error:?}")
        };
        assert_eq!(token, "[PAD]");
    }
    // A vocabulary that does not fit belongs to another model, and has no BOS token.
    let dir = folder("plain");
    let config = fs::read_to_string(dir.path().join("config.json")).unwrap();
    fs::write(dir.path().join("config.json"), config.replace("\"vocab_size\":262", "\"vocab_size\":261"))
        .unwrap();
    let files = ModelFiles::folder(dir.path()).unwrap();
    let message = Tokenizer::from_files(&files, &ModelConfig::open(&files).unwrap()).unwrap_err().to_string();
    assert!(message.contains("does not fit the model"), "{message}");
}

#[test]
fn changed_readings_are_reported() {
    for (name, words) in [
        ("plain", &[][..]),
        ("bookkeeping-keys", &[]),
        ("token-without-row", &[]),
        ("wrapped-by-compile", &["model.safetensors", "every tensor's name starts with _orig_mod."]),
        ("wrapped-twice", &["every tensor's name starts with module._orig_mod."]),
        (
            "parts-beside",
            &[
                "ignored",
                "score.weight",
                "v_head.summary.bias",
                "decoder.version",
                "cos_cached",
                "and 1 more",
            ],
        ),
        ("map-beside-list", &["special_tokens_map.json", "\"!\"", "\"<|endoftext|>\", which is used"]),
        ("map-beside-config", &["tokenizer_config.json", "\"<|endoftext|>\"", "\"!\", which is used"]),
    ] {
        let info = open(&folder(name)).unwrap();
        let notes = [info.checkpoint.notes(), info.tokenizer.as_ref().unwrap().notes()].concat();
        assert_eq!(notes.len(), usize::from(!words.is_empty()), "{name}: {notes:?}");
        for word in words {
            assert!(notes[0].contains(word), "{name}: no {word:?} in {}", notes[0]);
        }
    }
}

#[test]
fn the_names_of_wrapped_weights_do_not_change_their_hash() {
    let hash = |name| open(&folder(name)).unwrap().checkpoint.weight_hash().to_owned();
    for name in ["wrapped-by-compile", "wrapped-twice", "parts-beside"] {
        assert_eq!(hash(name), hash("plain"), "{name}");
    }
}

/// Files like those that `tools/files/make.py` wrote for one case of `prefix_space`.
fn tokenizer_folder(class: Option<&str>, in_config: Option<bool>, in_json: &Value) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let mut config = json!({ "bos_token": "<|endoftext|>" });
    class.iter().for_each(|class| config["tokenizer_class"] = json!(class));
    in_config.iter().for_each(|add| config["add_prefix_space"] = json!(add));
    fs::write(dir.path().join("tokenizer_config.json"), config.to_string()).unwrap();
    let plain = fs::read(files().join("folders/plain/tokenizer.json")).unwrap();
    let mut json: Value = serde_json::from_slice(&plain).unwrap();
    if in_json == "vocab" {
        fs::write(dir.path().join("vocab.json"), json["model"]["vocab"].to_string()).unwrap();
        let merges = json["model"]["merges"].as_array().unwrap().iter().map(|m| m.as_str().unwrap());
        fs::write(dir.path().join("merges.txt"), merges.collect::<Vec<_>>().join("\n")).unwrap();
    } else {
        match in_json.as_bool() {
            Some(add) => json["pre_tokenizer"]["add_prefix_space"] = json!(add),
            None => drop(json["pre_tokenizer"].as_object_mut().unwrap().remove("add_prefix_space")),
        }
        fs::write(dir.path().join("tokenizer.json"), json.to_string()).unwrap();
    }
    dir
}

#[test]
fn a_space_is_put_before_a_text_where_transformers_puts_one() {
    let [four, five] = VERSIONS.map(|version| found(version).prefix_space);
    assert_eq!((four.len(), five.len()), (4 * 7 * 3 * 4, 4 * 7 * 3 * 4));
    let mut differ = 0;
    for ((model_type, class, in_config, in_json, by_five), (.., by_four)) in five.iter().zip(&four) {
        let case = format!("{model_type} {class:?}, config {in_config:?}, json {in_json}");
        let family = FAMILIES.iter().find(|family| family.model_type == model_type).unwrap();
        let dir = tokenizer_folder(class.as_deref(), *in_config, in_json);
        let tokenizer = Tokenizer::alone(&ModelFiles::folder(dir.path()).unwrap(), family.bos);
        if in_json.is_null() {
            // The library that both use cannot read a byte-level pre-tokenizer without the field.
            assert!(by_four.is_none() && by_five.is_none() && tokenizer.is_err(), "{case}");
            continue;
        }
        let tokenizer = tokenizer.unwrap_or_else(|error| panic!("{case}: {error}"));
        let puts = tokenizer.encode("Mary").unwrap() == tokenizer.encode(" Mary").unwrap();
        // Like Transformers 5, whenever it can read the files.
        assert_eq!(puts, by_five.unwrap_or(puts), "{case}");
        if by_four.is_some_and(|by_four| by_four != puts) {
            differ += 1;
            assert!(class.as_deref() == Some("PreTrainedTokenizerFast"), "{case}");
            assert!(tokenizer.notes()[0].contains("Transformers 5"), "{case}: {:?}", tokenizer.notes());
        } else {
            assert!(tokenizer.notes().is_empty(), "{case}: {:?}", tokenizer.notes());
        }
    }
    assert_eq!(differ, 4 * 3, "config true against no, no against true, and nothing against true");
}
