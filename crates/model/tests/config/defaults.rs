//! Defaults of absent keys, compared with the configs that Transformers 4 and 5 create without arguments.

use std::collections::BTreeMap;
use std::path::Path;

use cs_model::config::parse;
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
fn an_empty_config_has_the_defaults_of_transformers() {
    for version in VERSIONS {
        let defaults = defaults(version);
        for family in FAMILIES {
            // The default BOS comes from the tokenizer.
            let nothing = json!({ "model_type": family.model_type, "bos_token_id": null });
            let written_out = &with(&defaults[family.model_type], json!({ "bos_token_id": null }));
            assert!(written_out.as_object().unwrap().len() > 12);
            assert_eq!(config(&nothing), config(written_out), "{} by {version}", family.model_type);
        }
        assert_eq!(defaults.len(), FAMILIES.len());
    }
}

#[test]
fn no_default_is_ignored() {
    // Training, tokens, another output head; sizes without effect at the other defaults; lists, which other tests
    // change.
    const PLAY_NO_PART: &[&str] = &[
        "attention_layers",
        "attention_types",
        "is_decoder",
        "layer_types",
        "max_window_layers",
        "original_max_position_embeddings",
        "pretraining_tp",
        "reorder_and_upcast_attn",
        "rope_parameters",
        "sliding_window",
        "use_sliding_window",
    ];
    let plays_no_part = |key: &str| {
        let ends = ["dropout", "_pdrop", "token_id", "_range", "init_std", "layerdrop", "_window_pattern"];
        let is_summary = key.starts_with("summary_");
        PLAY_NO_PART.contains(&key) || is_summary || ends.iter().any(|end| key.ends_with(end))
    };
    for version in VERSIONS {
        let defaults = defaults(version);
        // Keys that all families have are settings of the base class.
        let in_all = |key: &str| {
            !["vocab_size", "tie_word_embeddings"].contains(&key)
                && defaults.values().all(|settings| settings.get(key).is_some())
        };
        for (model_type, settings) in &defaults {
            let mut n_changed = 0;
            for (key, value) in settings.as_object().unwrap() {
                if plays_no_part(key) || in_all(key) {
                    continue;
                }
                let other = match value {
                    Value::Bool(b) => json!(!b),
                    Value::Number(n) if n.is_u64() => json!(2 * n.as_u64().unwrap()),
                    Value::Number(n) => json!(2.0 * n.as_f64().unwrap()),
                    Value::String(name) => json!(if name == "relu" { "silu" } else { "relu" }),
                    other => panic!("{model_type}: {key}: {other}"),
                };
                let changed = with(settings, json!({ key: other }));
                let after = parse(changed.to_string().as_bytes(), "config.json");
                let is_seen = after.is_err() || after.is_ok_and(|after| after != config(settings));
                assert!(is_seen, "{model_type} by {version}: {key} is ignored");
                n_changed += 1;
            }
            assert!(n_changed >= 9, "{model_type} by {version}: {n_changed}");
        }
    }
}
