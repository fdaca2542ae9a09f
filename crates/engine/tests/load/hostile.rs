//! Whatever the bytes, loading gives a model or an error.

use cs_model::ModelFiles;
use cs_model::checkpoint::Checkpoint;
use cs_model::config;
use proptest::prelude::*;

use crate::checkpoint_file::{Folder, one_line};

/// Opens and, if that works, loads these bytes as the weights of a golden checkpoint.
fn try_load(name: &str, bytes: &[u8]) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("model.safetensors"), bytes).unwrap();
    let config = Folder::golden(name).config.to_string();
    let config = config::parse(config.as_bytes(), "config.json").unwrap();
    let files = ModelFiles::folder(folder.path()).unwrap();
    if let Err(error) = Checkpoint::open(&files, &config).and_then(|checkpoint| cs_engine::load(&checkpoint))
    {
        one_line(error);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        try_load("gpt2-default", &bytes);
    }

    /// Bytes of a header replaced, its length kept or not.
    #[test]
    fn mutated_headers(
        edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        digits in any::<bool>(),
    ) {
        let mut bytes = Folder::golden("opt-projected-f16").serialize();
        let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        for (at, byte) in edits {
            let at = at.index(header);
            // Digits replaced by digits: offsets and shapes that parse but are wrong.
            if !digits {
                bytes[at] = byte;
            } else if bytes[at].is_ascii_digit() {
                bytes[at] = b'0' + byte % 10;
            }
        }
        try_load("opt-projected-f16", &bytes);
    }

    #[test]
    fn truncated_and_extended(cut in any::<prop::sample::Index>(), tail in proptest::collection::vec(any::<u8>(), 0..9)) {
        let mut bytes = Folder::golden("neox-parallel").serialize();
        bytes.truncate(cut.index(bytes.len()));
        bytes.extend(tail);
        try_load("neox-parallel", &bytes);
    }

    #[test]
    fn mutated_configs(
        name in prop::sample::select(vec!["gpt2-default", "neox-parallel", "opt-postnorm", "neo-alternating"]),
        key in any::<prop::sample::Index>(),
        value in prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            any::<u64>().prop_map(Into::into),
            any::<f64>().prop_map(Into::into),
            ".{0,12}".prop_map(Into::into),
            Just(serde_json::json!([[[], u64::MAX]])),
            Just(serde_json::json!([[["local"], u64::MAX]])),
            Just(serde_json::json!({"rope_theta": -1, "type": {}})),
        ],
    ) {
        let mut folder = Folder::golden(name);
        let map = folder.config.as_object_mut().unwrap();
        let key = map.keys().nth(key.index(map.len())).unwrap().clone();
        map.insert(key, value);
        if let Err(error) = config::parse(folder.config.to_string().as_bytes(), "config.json") {
            one_line(error);
        }
    }

    #[test]
    fn random_text_as_config(text in "\\PC{0,200}", bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
        for json in [text.as_bytes(), &bytes] {
            one_line(config::parse(json, "config.json").unwrap_err());
        }
    }
}
