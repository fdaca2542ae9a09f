//! Defaults of absent keys, against the configs that Transformers 4 and 5 make of nothing.

use std::collections::BTreeMap;
use std::path::Path;

use cs_model::families::FAMILIES;
use serde_json::{Value, json};

use super::{config, with};

const VERSIONS: [&str; 2] = ["4.57.6", "5.24.0"];

fn defaults(version: &str) -> BTreeMap<String, Value> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let file = folder.join(format!("config-defaults-{version}.json"));
    serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap()
}

#[test]
fn a_config_of_nothing_is_the_one_that_transformers_writes_out() {
    for version in VERSIONS {
        let defaults = defaults(version);
        for family in FAMILIES {
            // The BOS of an absent key is the tokenizer's business.
            let nothing = json!({ "model_type": family.model_type, "bos_token_id": null });
            let written_out = &with(&defaults[family.model_type], json!({ "bos_token_id": null }));
            assert!(written_out.as_object().unwrap().len() > 12);
            assert_eq!(config(&nothing), config(written_out), "{} by {version}", family.model_type);
        }
        assert_eq!(defaults.len(), FAMILIES.len());
    }
}

#[test]
fn every_default_is_read_and_not_ignored() {
    // Settings that no number depends on: other sizes of dropout, tokens, caches.
    let may_change = |key: &str| {
        let ends = ["dropout", "_pdrop", "token_id", "_range", "init_std", "layerdrop", "_window_pattern"];
        let names = [
            "dtype",
            "is_decoder",
            "summary_type",
            "use_cache",
            "transformers_version",
            "chunk_size_feed_forward",
            "return_dict",
            "output_attentions",
            "id2label",
            "label2id",
            "pretraining_tp",
            "summary_proj_to_labels",
            "summary_use_proj",
            "problem_type",
            "architectures",
            "length_penalty",
            "max_length",
            "num_beam_groups",
            "num_beams",
            "num_return_sequences",
            "repetition_penalty",
            "temperature",
            "top_k",
            "top_p",
            "typical_p",
            "max_window_layers",
            "original_max_position_embeddings",
            "sliding_window",
            "attention_types",
            "model_type",
            "reorder_and_upcast_attn",
            "rope_parameters",
            "layer_types",
            "attention_layers",
            "summary_first_dropout",
        ];
        let is_note = key.starts_with('_') && key != "_remove_final_layer_norm";
        is_note || ends.iter().any(|end| key.ends_with(end)) || names.contains(&key)
    };
    for version in VERSIONS {
        for (model_type, settings) in defaults(version) {
            let before = config(&settings);
            for (key, value) in settings.as_object().unwrap() {
                if may_change(key) {
                    continue;
                }
                let other = match value {
                    Value::Bool(b) => json!(!b),
                    Value::Number(n) if n.is_u64() => json!(2 * n.as_u64().unwrap()),
                    Value::Number(n) => json!(2.0 * n.as_f64().unwrap()),
                    Value::String(_) => json!("relu"),
                    other => panic!("{model_type}: {key}: {other}"),
                };
                let mut changed = settings.clone();
                changed[key] = other;
                let after = cs_model::config::parse(changed.to_string().as_bytes(), "config.json");
                let is_seen = after.is_err() || after.is_ok_and(|after| after != before);
                assert!(is_seen || value == "relu", "{model_type} by {version}: {key} is ignored");
            }
        }
    }
}
