//! The library's interface: models in memory, edits, stopping, and the same numbers from every source.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use circuit_scaling::prelude::*;
use cs_engine::EngineError;
use cs_model::checkpoint::Dtype;
use cs_model::{InMemory, InMemoryTensor, ModelFiles};

const IOI: &str = "When John and Mary went to the store, John gave a gift to";

/// A bundled model as another library would pass it: small files, and the bytes of each tensor.
fn in_memory(change: impl FnOnce(&mut InMemory)) -> ModelFiles {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/mini-gpt2-s");
    let file = |name: &str| std::fs::read(folder.join(name)).unwrap();
    let files: BTreeMap<String, Vec<u8>> = ["config.json", "tokenizer.json", "tokenizer_config.json"]
        .map(|name| (name.to_owned(), file(name)))
        .into();
    let weights = file("model.safetensors");
    let start = 8 + u64::from_le_bytes(weights[..8].try_into().unwrap()) as usize;
    let header: serde_json::Value = serde_json::from_slice(&weights[8..start]).unwrap();
    let tensor = |(name, entry): (&String, &serde_json::Value)| {
        let list = |key: &str| -> Vec<usize> { serde_json::from_value(entry[key].clone()).unwrap() };
        let range = list("data_offsets");
        assert_eq!(entry["dtype"], "F16");
        InMemoryTensor {
            name: name.clone(),
            dtype: Dtype::F16,
            shape: list("shape"),
            bytes: Arc::new(weights[start + range[0]..start + range[1]].to_vec()),
        }
    };
    let tensors = header.as_object().unwrap().iter().filter(|(name, _)| *name != "__metadata__");
    let mut model = InMemory { name: "lent".to_owned(), files, tensors: tensors.map(tensor).collect() };
    change(&mut model);
    ModelFiles::Memory(Arc::new(model))
}

fn logits(model: &Model, edits: &[HeadEdit]) -> Result<Vec<Vec<f64>>, Error> {
    model.logits(&[model.tokens(IOI)?], edits, None, Options::default(), &mut silent)
}

#[test]
fn a_model_in_memory_is_the_one_on_disk() {
    let mut owners = Vec::new();
    let lent = in_memory(|model| owners = model.tensors.iter().map(|t| Arc::downgrade(&t.bytes)).collect());
    let (mine, shipped) = (Model::from_files(&lent).unwrap(), Model::load("mini-gpt2-s").unwrap());
    assert_eq!(logits(&mine, &[]).unwrap(), logits(&shipped, &[]).unwrap());
    assert_eq!((mine.weight_hash(), mine.n_params()), (shipped.weight_hash(), shipped.n_params()));
    assert_eq!((mine.name(), mine.hf_name()), ("lent", "in-memory/lent"));
    drop(lent);
    assert!(owners.iter().all(|bytes| bytes.upgrade().is_none()), "the model holds on to what it was lent");
}

#[test]
fn a_parameter_is_whole_or_an_error() {
    let cut = in_memory(|model| {
        model.tensors[0].bytes = Arc::new(vec![0u8; 6]);
        model.tensors[0].name = "cut".to_owned();
    });
    let error = Model::from_files(&cut).err().unwrap().to_string();
    assert!(error.contains("lent: tensor \"cut\"") && error.contains("6 bytes"), "{error}");
    let overflow = in_memory(|model| model.tensors[0].shape = vec![usize::MAX, 2]);
    assert!(Model::from_files(&overflow).is_err());
    let missing = in_memory(|model| drop(model.tensors.remove(0)));
    assert!(Model::from_files(&missing).err().unwrap().to_string().contains("is missing"));
}

#[test]
fn token_ids_do_without_a_tokenizer() {
    let bare = in_memory(|model| model.files.retain(|name, _| name == "config.json"));
    let (bare, whole) = (Model::from_files(&bare).unwrap(), Model::load("mini-gpt2-s").unwrap());
    let run =
        |model: &Model| model.logits(&[vec![3, 1, 4]], &[], None, Options::default(), &mut silent).unwrap();
    assert_eq!(run(&bare), run(&whole));
    assert!(matches!(bare.tokens(IOI), Err(Error::NoTokenizer { .. })));
    let scan = bare.scan(&Setup::of("ioi").unwrap(), None, &mut silent);
    assert!(matches!(scan, Err(Error::NoTokenizer { .. })));
}

#[test]
fn a_run_stops_on_request() {
    let model = Model::load("mini-gpt2-m").unwrap();
    let setup = Setup::of("ioi").unwrap();
    let mut calls = 0;
    let mut third = |_: Progress| {
        calls += 1;
        if calls == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    let stopped = model.scan(&setup, None, &mut third).unwrap_err();
    let Error::Scan { source, .. } = stopped else { panic!("{stopped}") };
    assert!(source.to_string() == EngineError::Stopped.to_string() && calls == 3);
}

#[test]
fn edits_that_do_not_fit_are_errors() {
    let model = Model::load("mini-gpt2-s").unwrap();
    let [a, b] = [HeadId { layer: 0, head: 0 }, HeadId { layer: 0, head: 1 }];
    let (own, other) = (model.tokens(IOI).unwrap(), model.tokens("Alice met Bob.").unwrap());
    let says = |edits: &[HeadEdit], words: &str| {
        let error = logits(&model, edits).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    };
    says(&[zero(HeadId { layer: 9, head: 0 })], "there is no head L9H0");
    says(
        &[patch(Stream::V, a, vec![own.clone(), own.clone()])],
        "edit of L0H0: it has 2 source prompts for 1",
    );
    says(&[patch(Stream::V, a, vec![])], "edit of L0H0: it has 0 source prompts for 1");
    says(&[patch(Stream::V, a, vec![other.clone()])], "equal lengths");
    says(&[mean(a, vec![other.clone()])], "none of its 1 reference prompts has");
    says(&[resample(a, vec![own.clone()]), resample(b, vec![other])], "edit of L0H1: its source prompts");
    // Replacing a stream by its own value changes nothing.
    let plain = logits(&model, &[]).unwrap();
    let same = logits(&model, &[resample(a, vec![own.clone()]), mean(b, vec![own])]).unwrap();
    let worst = plain[0].iter().zip(&same[0]).map(|(x, y)| (x - y).abs()).fold(0.0, f64::max);
    assert!(worst < 1e-4, "{worst}");
}
