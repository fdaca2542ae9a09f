//! `config.json` → spec: published files, defaults, both notations, and everything that must be rejected.

mod decoders;
mod defaults;
mod published;
mod rotary;

use cs_model::config::{ModelConfig, parse};
use serde_json::Value;

fn config(value: &Value) -> ModelConfig {
    parse(value.to_string().as_bytes(), "m/config.json").unwrap()
}

#[track_caller]
fn refused(value: &Value, words: &[&str]) {
    let message =
        parse(value.to_string().as_bytes(), "m/config.json").expect_err("must be refused").to_string();
    assert!(!message.contains('\n'), "{message}");
    for word in ["m/config.json"].iter().chain(words) {
        assert!(message.contains(word), "no {word:?} in: {message}");
    }
}

/// `base` with some keys changed or added.
fn with(base: &Value, changes: Value) -> Value {
    let mut all = base.as_object().unwrap().clone();
    all.extend(changes.as_object().unwrap().clone());
    Value::Object(all)
}
