//! Which of a repository's files a model needs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path};

use serde::Deserialize;

use crate::error::HubError;

/// Read if present.
const ALWAYS: [&str; 4] =
    ["config.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"];

/// The first complete set is the tokenizer.
const TOKENIZERS: [&[&str]; 2] = [&["tokenizer.json"], &["vocab.json", "merges.txt"]];

/// The first one present has the weights: a single file, or an index of several.
const WEIGHTS: [(&str, bool); 4] = [
    ("model.safetensors", false),
    ("model.safetensors.index.json", true),
    ("pytorch_model.bin", false),
    ("pytorch_model.bin.index.json", true),
];

/// The files to fetch: weights in one format only.
pub(crate) struct Wanted {
    /// Small files first, so that a repository without a model is recognised before weights
    /// are downloaded.
    pub(crate) files: Vec<String>,
    /// The index that lists the shards, if any.
    pub(crate) index: Option<&'static str>,
    pub(crate) has_config: bool,
    pub(crate) has_weights: bool,
}

impl Wanted {
    /// Chooses among a repository's files.
    pub(crate) fn from_names<'a>(names: impl Iterator<Item = &'a str>) -> Self {
        let names: BTreeSet<&str> = names.collect();
        let mut files: Vec<&str> = ALWAYS.into_iter().filter(|file| names.contains(file)).collect();
        let complete = |set: &&&[&str]| set.iter().all(|file| names.contains(file));
        files.extend(TOKENIZERS.iter().find(complete).copied().unwrap_or_default());
        let weights = WEIGHTS.into_iter().find(|(file, _)| names.contains(file));
        files.extend(weights.map(|(file, _)| file));
        Wanted {
            files: files.into_iter().map(str::to_owned).collect(),
            index: weights.filter(|(_, is_index)| *is_index).map(|(file, _)| file),
            has_config: names.contains("config.json"),
            has_weights: weights.is_some(),
        }
    }

    /// An error for a repository that holds no model.
    pub(crate) fn require_config(&self, id: &str) -> Result<(), HubError> {
        let missing = |file: &str| HubError::NoSuchFile { id: id.to_owned(), file: file.to_owned() };
        match (self.has_config, self.has_weights) {
            (false, _) => Err(missing("config.json")),
            (_, false) => Err(missing("model.safetensors or pytorch_model.bin")),
            _ => Ok(()),
        }
    }
}

/// The shards that an index lists, each inside the folder.
pub(crate) fn shards(id: &str, index: &str, path: &Path) -> Result<Vec<String>, HubError> {
    #[derive(Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let bytes = std::fs::read(path).map_err(|source| HubError::Cache { path: path.to_owned(), source })?;
    let wrong = |problem: String| HubError::Index { id: id.to_owned(), file: index.to_owned(), problem };
    let index: Index = serde_json::from_slice(&bytes).map_err(|e| wrong(e.to_string()))?;
    let shards: BTreeSet<String> = index.weight_map.into_values().collect();
    match shards.iter().find(|shard| !is_inside(shard)) {
        Some(outside) => Err(wrong(format!("{outside:?} is outside the repository"))),
        None => Ok(shards.into_iter().collect()),
    }
}

/// Whether a relative path stays inside its folder.
pub(crate) fn is_inside(path: &str) -> bool {
    let normal = Path::new(path).components().all(|c| matches!(c, Component::Normal(_)));
    normal && !path.is_empty() && !path.contains('\\')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(names: &[&str]) -> Vec<String> {
        Wanted::from_names(names.iter().copied()).files
    }

    #[test]
    fn one_weight_format_and_one_tokenizer() {
        let everything = [
            "README.md",
            "config.json",
            "flax_model.msgpack",
            "merges.txt",
            "model.safetensors",
            "onnx/model.onnx",
            "pytorch_model.bin",
            "tf_model.h5",
            "tokenizer.json",
            "tokenizer_config.json",
            "vocab.json",
        ];
        assert_eq!(
            wanted(&everything),
            ["config.json", "tokenizer_config.json", "tokenizer.json", "model.safetensors"]
        );
        let opt = ["config.json", "merges.txt", "pytorch_model.bin", "special_tokens_map.json", "vocab.json"];
        assert_eq!(
            wanted(&opt),
            ["config.json", "special_tokens_map.json", "vocab.json", "merges.txt", "pytorch_model.bin"]
        );
        let sharded = ["config.json", "model.safetensors.index.json", "pytorch_model.bin"];
        assert_eq!(Wanted::from_names(sharded.into_iter()).index, Some("model.safetensors.index.json"));
        assert!(!Wanted::from_names(["config.json"].into_iter()).has_weights);
    }
}
