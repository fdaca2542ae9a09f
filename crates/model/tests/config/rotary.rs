//! Rotary embeddings: both notations, every kind of scaling, and where versions of Transformers differ.

use cs_model::spec::{Positions, Rotary, RotaryFrequencies, RotaryPairing, RotaryScaling};
use serde_json::{Value, json};

use super::{config, refused, with};

fn neox() -> Value {
    json!({
        "model_type": "gpt_neox", "num_hidden_layers": 2, "num_attention_heads": 3, "hidden_size": 48,
        "intermediate_size": 20, "vocab_size": 50,
    })
}

/// `d_head` 16, `n_ctx` 64.
fn llama() -> Value {
    json!({
        "model_type": "llama", "num_hidden_layers": 2, "num_attention_heads": 2, "hidden_size": 32,
        "intermediate_size": 20, "vocab_size": 50, "max_position_embeddings": 64,
    })
}

fn phi3() -> Value {
    with(&llama(), json!({ "model_type": "phi3", "original_max_position_embeddings": 64 }))
}

fn rotary(value: &Value) -> (Rotary, usize) {
    let spec = config(value).spec;
    let Positions::Rotary(rotary) = spec.positions else { panic!("{:?}", spec.positions) };
    (rotary, spec.n_ctx)
}

/// The scaling, which must be the same in both notations, and `n_ctx`.
#[track_caller]
fn scaling(base: &Value, group: Value) -> (RotaryScaling, usize) {
    let (of_4, n_ctx) = rotary(&with(base, json!({ "rope_scaling": group, "rope_theta": 777.0 })));
    let mut both = group.as_object().unwrap().clone();
    both.insert("rope_theta".to_owned(), json!(777));
    let of_5 = rotary(&with(base, json!({ "rope_parameters": both })));
    assert_eq!(of_5, (of_4.clone(), n_ctx));
    let [RotaryFrequencies { base, scaling }] = of_4.frequencies.as_slice() else { panic!("{of_4:?}") };
    assert_eq!((*base, of_4.of_layer.as_slice(), of_4.pairing), (777.0, &[0, 0][..], RotaryPairing::Halves));
    (scaling.clone(), n_ctx)
}

#[test]
fn share_and_base_in_both_notations() {
    let of = |changes| rotary(&with(&neox(), changes)).0; // d_head is 16
    let old = of(json!({ "rotary_pct": 0.5, "rotary_emb_base": 500 }));
    assert_eq!(old, Rotary::plain(2, 8, 500.0));
    assert_eq!(of(json!({})), Rotary::plain(2, 4, 10_000.0));
    let saved_by_4 = json!({
        "rotary_pct": 0.5, "partial_rotary_factor": 0.5, "rotary_emb_base": 500, "rope_theta": 500, "rope_scaling": null,
    });
    assert_eq!(of(saved_by_4), old);
    let saved_by_5 = json!({ "rope_parameters": { "rope_theta": 500, "rope_type": "default", "partial_rotary_factor": 0.5 } });
    assert_eq!(of(saved_by_5), old);
    assert_eq!(
        of(json!({ "rope_scaling": { "type": "default" }, "rotary_pct": 0.5, "rope_theta": 500.0 })),
        old
    );
    assert_eq!(of(json!({ "rotary_pct": 1.0 })), Rotary::plain(2, 16, 10_000.0));

    let error = |changes, words: &[&str]| refused(&with(&neox(), changes), words);
    let words = ["rope_theta", "500", "rotary_emb_base", "10000"];
    error(json!({ "rotary_emb_base": 10000, "rope_theta": 500 }), &words);
    let both = json!({ "rotary_pct": 1.0, "rope_parameters": { "partial_rotary_factor": 0.5 } });
    error(both, &["rope_parameters", "rotary_pct"]);
    error(json!({ "rotary_pct": 0.2 }), &["rotary_pct", "0.2", "rotates 3 of 16", "even"]);
    error(json!({ "rotary_pct": 1.5 }), &["rotary_pct", "rotates 24 of 16"]);
    error(json!({ "rotary_pct": 0.0 }), &["rotary_pct", "not a number above 0"]);
    error(json!({ "rotary_emb_base": -1 }), &["rotary_emb_base", "-1"]);
    error(json!({ "rotary_emb_base": null }), &["rotary_emb_base", "null"]);
    error(json!({ "rope_parameters": 3 }), &["rope_parameters", "not a JSON object"]);
    error(json!({ "rope_scaling": { "mrope_section": [8, 8] } }), &["mrope_section", "not supported"]);

    refused(&with(&llama(), json!({ "partial_rotary_factor": 0.5 })), &["rotates 8 of 16", "rotates all"]);
    refused(&with(&llama(), json!({ "head_dim": 7 })), &["head_dim", "rotates 7 of 7", "even"]);
    assert_eq!(rotary(&with(&phi3(), json!({ "partial_rotary_factor": 0.75 }))).0.n_dims, 12);
}

#[test]
fn every_kind_of_scaling() {
    let of = |group| scaling(&llama(), group);
    assert_eq!(of(json!({ "rope_type": "default" })), (RotaryScaling::None, 64));
    assert_eq!(of(json!({ "type": "linear", "factor": 4 })), (RotaryScaling::Linear { factor: 4.0 }, 64));
    // Up to `max_position_embeddings`, which is `n_ctx`.
    assert_eq!(of(json!({ "rope_type": "dynamic", "factor": 2.0 })), (RotaryScaling::None, 64));
    let llama3 = json!({
        "rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    });
    let expected = RotaryScaling::Llama3 {
        factor: 32.0,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_n_ctx: 8192,
    };
    assert_eq!(of(llama3), (expected, 64));
}

#[test]
fn yarn_with_the_attention_factor_of_transformers() {
    let of = |changes: Value| {
        let group = with(&json!({ "rope_type": "yarn", "factor": 4.0 }), changes);
        match scaling(&llama(), group) {
            (
                RotaryScaling::Yarn {
                    attention_factor, beta_fast, beta_slow, original_n_ctx, truncate, ..
                },
                64,
            ) => (attention_factor, beta_fast, beta_slow, original_n_ctx, truncate),
            other => panic!("{other:?}"),
        }
    };
    // `attention_scaling` of both versions' `LlamaRotaryEmbedding`.
    assert_eq!(of(json!({})), (1.138629436111989, 32.0, 1.0, 64, true));
    assert_eq!(of(json!({ "mscale": 0.707, "mscale_all_dim": 0.5 })).0, 1.0268361529030026);
    assert_eq!(of(json!({ "mscale": 0.707 })).0, 1.138629436111989);
    assert_eq!(of(json!({ "factor": 1.0, "mscale": 0.707, "mscale_all_dim": 1.0 })).0, 1.0);
    assert_eq!(of(json!({ "attention_factor": 1.5, "mscale": 2.0, "mscale_all_dim": 3.0 })).0, 1.5);
    let given = json!({
        "beta_fast": 16, "beta_slow": 2, "original_max_position_embeddings": 32, "truncate": false, "finetuned": true,
    });
    assert_eq!(of(given), (1.138629436111989, 16.0, 2.0, 32, false));
    assert_eq!(
        of(json!({ "beta_fast": 0, "beta_slow": 0 })),
        of(json!({})),
        "0 counts as absent, because of Python's `or`"
    );
}

#[test]
fn longrope_up_to_the_original_length() {
    let short: Vec<f64> = (0..8).map(|i| 1.0 + f64::from(i) / 8.0).collect();
    let group = json!({ "type": "longrope", "short_factor": short, "long_factor": [2, 2, 2, 2, 2, 2, 2, 2] });
    let of = |changes: Value, group: &Value| {
        let (scaling, n_ctx) = scaling(&with(&phi3(), changes), group.clone());
        let RotaryScaling::LongRope { short_factor, attention_factor } = scaling else {
            panic!("{scaling:?}")
        };
        assert_eq!(short_factor, short);
        (attention_factor, n_ctx)
    };
    // `attention_scaling` of `Phi3RotaryEmbedding`.
    assert_eq!(of(json!({ "max_position_embeddings": 256 }), &group), (1.1547005383792517, 64));
    let phi_3_5 = json!({ "max_position_embeddings": 131_072, "original_max_position_embeddings": 4096 });
    assert_eq!(of(phi_3_5.clone(), &group), (1.1902380714238083, 4096));
    assert_eq!(of(json!({}), &group), (1.0, 64), "as long as before");
    for alias in ["su", "yarn"] {
        assert_eq!(of(phi_3_5.clone(), &with(&group, json!({ "type": alias }))).1, 4096, "{alias}");
    }
    let given = with(&group, json!({ "attention_factor": 1.25 }));
    assert_eq!(of(phi_3_5.clone(), &given), (1.25, 4096));
    let agreeing = with(&group, json!({ "factor": 32.0 }));
    assert_eq!(of(phi_3_5.clone(), &agreeing), (1.1902380714238083, 4096));

    let error = |changes: Value, group: Value, words: &[&str]| {
        refused(&with(&with(&phi3(), changes), json!({ "rope_scaling": group })), words);
    };
    error(phi_3_5, with(&group, json!({ "factor": 8.0 })), &["factor", "8", "ratio is 32", "4 and 5 differ"]);
    error(json!({}), with(&group, json!({ "short_factor": [1, 1] })), &["short_factor", "list of 8 numbers"]);
    error(json!({}), with(&group, json!({ "long_factor": "x" })), &["long_factor", "list of 8 numbers"]);
    error(json!({ "partial_rotary_factor": 0.75 }), group, &["short_factor", "list of 6 numbers"]);
}

#[test]
fn settings_that_are_missing_wrong_or_out_of_place() {
    let error = |group: Value, words: &[&str]| {
        refused(&with(&llama(), json!({ "rope_scaling": group })), words);
        refused(&with(&llama(), json!({ "rope_parameters": group })), &words[1..]);
    };
    error(json!({ "type": "linear" }), &["rope_scaling", "linear", "needs \"factor\""]);
    error(json!({ "type": "linear", "factor": 0.5 }), &["rope_scaling", "factor", "below 1"]);
    error(json!({ "type": "linear", "factor": "4" }), &["rope_scaling", "factor", "not a number above 0"]);
    error(
        json!({ "type": "linear", "factor": 2, "beta_fast": 3 }),
        &["rope_scaling", "beta_fast", "does not apply"],
    );
    error(
        json!({ "rope_type": "proportional" }),
        &["rope_scaling", "proportional", "not supported", "llama3"],
    );
    error(json!({ "rope_type": 3 }), &["rope_scaling", "rope_type", "no text"]);
    error(json!({ "rope_type": "yarn", "type": "linear", "factor": 2 }), &["rope_scaling", "same setting"]);
    error(
        json!({ "type": "yarn", "factor": 2, "truncate": 1 }),
        &["rope_scaling", "truncate", "neither true"],
    );
    let llama3 = json!({ "type": "llama3", "factor": 8, "low_freq_factor": 4, "high_freq_factor": 4 });
    error(llama3, &["rope_scaling", "high_freq_factor", "not above low_freq_factor"]);
    let original = json!({ "type": "yarn", "factor": 2, "original_max_position_embeddings": 0.5 });
    error(original, &["rope_scaling", "original_max_position_embeddings", "not a valid length"]);

    // Transformers 4 reads only one of the places, 5 both.
    let yarn =
        json!({ "original_max_position_embeddings": 32, "rope_scaling": { "type": "yarn", "factor": 2 } });
    refused(&with(&llama(), yarn), &["rope_scaling", "original_max_position_embeddings", "into both"]);
}

#[test]
fn gemma_3_has_one_for_each_kind_of_layer() {
    let base = json!({ "model_type": "gemma3_text", "num_hidden_layers": 7, "vocab_size": 50 });
    let frequencies = |base, scaling| RotaryFrequencies { base, scaling };
    let (plain, _) = rotary(&base);
    assert_eq!(plain.of_layer, [1, 1, 1, 1, 1, 0, 1]);
    let none = RotaryScaling::None;
    assert_eq!(plain.frequencies, [frequencies(1e6, none.clone()), frequencies(1e4, none.clone())]);

    let of_4 = json!({
        "rope_theta": 500.0, "rope_local_base_freq": 50, "rope_scaling": { "rope_type": "linear", "factor": 8.0 },
    });
    let (scaled, n_ctx) = rotary(&with(&base, of_4));
    let linear = RotaryScaling::Linear { factor: 8.0 };
    assert_eq!(scaled.frequencies, [frequencies(500.0, linear), frequencies(50.0, none)]);
    assert_eq!(n_ctx, 131_072);
    let of_5 = json!({ "rope_parameters": {
        "full_attention": { "rope_type": "linear", "factor": 8.0, "rope_theta": 500.0 },
        "sliding_attention": { "rope_type": "default", "rope_theta": 50 },
    } });
    assert_eq!(rotary(&with(&base, of_5)).0, scaled);

    let error = |changes, words: &[&str]| refused(&with(&base, changes), words);
    let flat = json!({ "rope_parameters": { "rope_theta": 5.0 } });
    error(flat, &["rope_parameters", "rope_theta", "full_attention"]);
    let twice = json!({ "rope_theta": 1e6, "rope_parameters": { "full_attention": { "rope_theta": 5.0 } } });
    error(twice, &["rope_parameters.full_attention.rope_theta", "same setting"]);
    error(
        json!({ "rope_parameters": { "sliding_attention": 3 } }),
        &["sliding_attention", "not a JSON object"],
    );
}
