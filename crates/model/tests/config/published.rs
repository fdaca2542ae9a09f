//! GPT-2, GPT-NeoX, OPT and GPT-Neo as published, their variants, and invalid values.

use cs_model::config::parse;
use cs_model::spec::{Activation, BlockLayout, NormPlacement, Positions, Rotary};
use serde_json::{Value, json};

use super::{config, refused, with};

/// Small models that set only their sizes, so that all other values are defaults.
fn gpt2() -> Value {
    json!({ "model_type": "gpt2", "n_layer": 2, "n_head": 3, "n_embd": 12, "vocab_size": 50 })
}

fn neox() -> Value {
    json!({
        "model_type": "gpt_neox", "num_hidden_layers": 2, "num_attention_heads": 3, "hidden_size": 48,
        "intermediate_size": 20, "vocab_size": 50,
    })
}

fn opt() -> Value {
    json!({
        "model_type": "opt", "num_hidden_layers": 2, "num_attention_heads": 3, "hidden_size": 12, "ffn_dim": 20,
        "vocab_size": 50,
    })
}

fn neo() -> Value {
    json!({
        "model_type": "gpt_neo", "num_layers": 4, "num_heads": 3, "hidden_size": 12, "vocab_size": 50,
        "attention_types": [[["global", "local"], 2]],
    })
}

#[test]
fn gpt2_as_published() {
    // gpt2-xl, with the keys of files from that time.
    let c = config(&json!({
        "activation_function": "gelu_new", "architectures": ["GPT2LMHeadModel"], "attn_pdrop": 0.1,
        "bos_token_id": 50256, "embd_pdrop": 0.1, "eos_token_id": 50256, "initializer_range": 0.02,
        "layer_norm_epsilon": 1e-05, "model_type": "gpt2", "n_ctx": 1024, "n_embd": 1600, "n_head": 25, "n_layer": 48,
        "n_positions": 1024, "n_special": 0, "output_past": true, "predict_special_tokens": true, "resid_pdrop": 0.1,
        "summary_activation": null, "summary_first_dropout": 0.1, "summary_proj_to_labels": true,
        "summary_type": "cls_index", "summary_use_proj": true,
        "task_specific_params": { "text-generation": { "do_sample": true, "max_length": 50 } }, "vocab_size": 50257,
    }));
    let s = &c.spec;
    assert_eq!(c.family.model_type, "gpt2");
    assert_eq!((s.n_layers, s.n_heads, s.d_model, s.d_head, s.d_mlp), (48, 25, 1600, 64, 6400));
    assert_eq!((s.d_vocab, s.d_embed, s.n_ctx), (50257, 1600, 1024));
    assert_eq!(
        (s.positions.clone(), s.block, s.norm),
        (Positions::Learned { offset: 0 }, BlockLayout::Sequential, NormPlacement::Pre)
    );
    assert_eq!((s.activation, s.norm_eps, s.final_norm), (Activation::GeluTanh, 1e-5, true));
    assert_eq!((s.attn_scale.as_slice(), s.windows.as_slice()), (&[0.125; 48][..], &[None; 48][..]));
    assert!(
        s.tied_unembed
            && c.parameters.qkv_bias
            && c.parameters.attn_out_bias
            && c.parameters.mlp_bias
            && c.parameters.norm_affine
    );
    assert_eq!(c.bos_token_id, Some(50256));
}

#[test]
fn pythia_as_published() {
    // pythia-1b
    let c = config(&json!({
        "architectures": ["GPTNeoXForCausalLM"], "bos_token_id": 0, "eos_token_id": 0, "hidden_act": "gelu",
        "hidden_size": 2048, "initializer_range": 0.02, "intermediate_size": 8192, "layer_norm_eps": 1e-05,
        "max_position_embeddings": 2048, "model_type": "gpt_neox", "num_attention_heads": 8, "num_hidden_layers": 16,
        "rotary_emb_base": 10000, "rotary_pct": 0.25, "tie_word_embeddings": false, "torch_dtype": "float16",
        "transformers_version": "4.24.0", "use_cache": true, "use_parallel_residual": true, "vocab_size": 50304,
    }));
    let s = &c.spec;
    assert_eq!((s.n_layers, s.n_heads, s.d_model, s.d_head, s.d_mlp), (16, 8, 2048, 256, 8192));
    assert_eq!(
        (s.positions.clone(), s.block),
        (Positions::Rotary(Rotary::plain(16, 64, 10_000.0)), BlockLayout::Parallel)
    );
    assert_eq!((s.activation, s.tied_unembed, s.attn_scale[0]), (Activation::GeluErf, false, 0.0625));
    assert!(c.parameters.qkv_bias && c.parameters.attn_out_bias && c.parameters.mlp_bias);
    assert_eq!(c.bos_token_id, Some(0));
}

#[test]
fn opt_350m_as_published() {
    let c = config(&json!({
        "_name_or_path": "opt-350m", "_remove_final_layer_norm": false, "activation_dropout": 0.0,
        "activation_function": "relu", "architectures": ["OPTForCausalLM"], "attention_dropout": 0.0,
        "bos_token_id": 2, "do_layer_norm_before": false, "dropout": 0.1, "eos_token_id": 2, "ffn_dim": 4096,
        "hidden_size": 1024, "init_std": 0.02, "layerdrop": 0.0, "max_position_embeddings": 2048, "model_type": "opt",
        "num_attention_heads": 16, "num_hidden_layers": 24, "pad_token_id": 1, "prefix": "</s>",
        "torch_dtype": "float16", "transformers_version": "4.20.0.dev0", "use_cache": true, "vocab_size": 50272,
        "word_embed_proj_dim": 512,
    }));
    let s = &c.spec;
    assert_eq!((s.d_model, s.d_embed, s.d_mlp, s.d_head, s.n_ctx), (1024, 512, 4096, 64, 2048));
    assert_eq!(
        (s.norm, s.final_norm, s.positions.clone()),
        (NormPlacement::Post, false, Positions::Learned { offset: 2 })
    );
    assert_eq!((s.activation, s.norm_eps), (Activation::Relu, 1e-5));
    assert!(s.tied_unembed && c.parameters.qkv_bias && c.parameters.mlp_bias && c.parameters.norm_affine);
    assert_eq!(c.bos_token_id, Some(2));
}

#[test]
fn gpt_neo_as_published() {
    // gpt-neo-2.7B
    let layers: Vec<_> = ["global", "local"].into_iter().cycle().take(32).collect();
    let c = config(&json!({
        "activation_function": "gelu_new", "architectures": ["GPTNeoForCausalLM"], "attention_dropout": 0,
        "attention_layers": layers, "attention_types": [[["global", "local"], 16]], "bos_token_id": 50256,
        "embed_dropout": 0, "eos_token_id": 50256, "gradient_checkpointing": false, "hidden_size": 2560,
        "initializer_range": 0.02, "intermediate_size": null, "layer_norm_epsilon": 1e-05,
        "max_position_embeddings": 2048, "model_type": "gpt_neo", "num_heads": 20, "num_layers": 32,
        "resid_dropout": 0, "summary_activation": null, "summary_first_dropout": 0.1, "summary_proj_to_labels": true,
        "summary_type": "cls_index", "summary_use_proj": true,
        "task_specific_params": { "text-generation": { "do_sample": true, "max_length": 50, "temperature": 0.9 } },
        "tokenizer_class": "GPT2Tokenizer", "transformers_version": "4.9.0.dev0", "use_cache": true,
        "vocab_size": 50257, "window_size": 256,
    }));
    let s = &c.spec;
    assert_eq!((s.n_layers, s.n_heads, s.d_head, s.d_mlp), (32, 20, 128, 10240));
    assert_eq!(s.attn_scale, [1.0; 32]);
    assert!(s.windows.iter().enumerate().all(|(i, w)| *w == (i % 2 == 1).then_some(256)));
    assert!(!c.parameters.qkv_bias && c.parameters.attn_out_bias && c.parameters.mlp_bias && s.tied_unembed);
}

#[test]
fn gpt2_variants() {
    let attn_scale = |changes| config(&with(&gpt2(), changes)).spec.attn_scale;
    assert_eq!(attn_scale(json!({})), [0.5, 0.5]);
    assert_eq!(attn_scale(json!({ "scale_attn_weights": false })), [1.0, 1.0]);
    assert_eq!(attn_scale(json!({ "scale_attn_by_inverse_layer_idx": true })), [0.5, 0.25]);
    let both = json!({ "scale_attn_weights": 0, "scale_attn_by_inverse_layer_idx": 1 });
    assert_eq!(attn_scale(both), [1.0, 0.5]);
    assert_eq!(config(&with(&gpt2(), json!({ "n_inner": 7 }))).spec.d_mlp, 7);
    assert_eq!(config(&with(&gpt2(), json!({ "n_inner": null }))).spec.d_mlp, 48);
    assert_eq!(config(&with(&gpt2(), json!({ "reorder_and_upcast_attn": true }))), config(&gpt2()));
    assert_eq!(config(&with(&gpt2(), json!({ "max_position_embeddings": 99 }))).spec.n_ctx, 99);
    assert!(
        (config(&with(&gpt2(), json!({ "layer_norm_epsilon": 1e-3 }))).spec.norm_eps - 1e-3).abs() < 1e-9
    );
    assert!(!config(&with(&gpt2(), json!({ "tie_word_embeddings": false }))).spec.tied_unembed);
}

#[test]
fn activations() {
    for (name, expected) in [
        ("gelu", Activation::GeluErf),
        ("gelu_new", Activation::GeluTanh),
        ("gelu_fast", Activation::GeluTanh),
        ("gelu_pytorch_tanh", Activation::GeluTanh),
        ("relu", Activation::Relu),
        ("silu", Activation::Silu),
        ("swish", Activation::Silu),
    ] {
        for (base, key) in [
            (gpt2(), "activation_function"),
            (neox(), "hidden_act"),
            (opt(), "activation_function"),
            (neo(), "activation_function"),
        ] {
            assert_eq!(config(&with(&base, json!({ key: name }))).spec.activation, expected);
            refused(&with(&base, json!({ key: "quick_gelu" })), &[key, "\"quick_gelu\"", "gelu_new"]);
        }
    }
}

#[test]
fn neox_variants() {
    let c = config(&with(
        &neox(),
        json!({ "use_parallel_residual": false, "attention_bias": false, "tie_word_embeddings": true }),
    ));
    assert_eq!((c.spec.block, c.spec.tied_unembed), (BlockLayout::Sequential, true));
    assert!(
        !c.parameters.qkv_bias && !c.parameters.attn_out_bias && c.parameters.mlp_bias,
        "attention_bias does not affect the MLP"
    );
    refused(&with(&neox(), json!({ "head_dim": 32 })), &["head_dim", "32", "might change the result"]);
}

#[test]
fn opt_variants() {
    let c = config(&with(&opt(), json!({ "enable_bias": false, "layer_norm_elementwise_affine": false })));
    assert!(
        !c.parameters.qkv_bias
            && !c.parameters.attn_out_bias
            && !c.parameters.mlp_bias
            && !c.parameters.norm_affine
    );
    assert!(!config(&with(&opt(), json!({ "_remove_final_layer_norm": true }))).spec.final_norm);
    let post =
        config(&with(&opt(), json!({ "do_layer_norm_before": false, "_remove_final_layer_norm": false })))
            .spec;
    assert_eq!((post.norm, post.final_norm), (NormPlacement::Post, false));
    assert_eq!(config(&with(&opt(), json!({ "word_embed_proj_dim": 5 }))).spec.d_embed, 5);
}

#[test]
fn gpt_neo_windows() {
    let windows = |changes| config(&with(&neo(), changes)).spec.windows;
    assert_eq!(windows(json!({ "window_size": 7 })), [None, Some(7), None, Some(7)]);
    let uneven = json!({ "attention_types": [[["local"], 1], [["global", "global", "local"], 1]] });
    assert_eq!(windows(uneven), [Some(256), None, None, Some(256)]);
    let mut by_layers = neo();
    by_layers.as_object_mut().unwrap().remove("attention_types");
    let by_layers = with(&by_layers, json!({ "attention_layers": ["local", "global", "global", "global"] }));
    assert_eq!(config(&by_layers).spec.windows, [Some(256), None, None, None]);

    let error = |changes, words: &[&str]| refused(&with(&neo(), changes), words);
    let contradiction = json!({ "attention_layers": ["local", "global", "local", "global"] });
    error(contradiction, &["attention_layers", "contradicts", "attention_types"]);
    error(json!({ "attention_types": [[["global", "local"], 3]] }), &["attention_types", "more layers", "4"]);
    error(
        json!({ "attention_types": [[["global"], 3]] }),
        &["attention_types", "describes 3 layers", "has 4"],
    );
    error(
        json!({ "attention_types": [[["sparse"], 4]] }),
        &["attention_types", "\"sparse\"", "global", "local"],
    );
    error(
        json!({ "attention_types": [["global", 4]] }),
        &["attention_types", "not a list of [pattern, repeats]"],
    );
    error(
        json!({ "attention_types": [[["global"], -4]] }),
        &["attention_types", "not a list of [pattern, repeats]"],
    );
    error(json!({ "attention_types": [[[], u64::MAX]] }), &["attention_types", "describes 0 layers"]);
    error(json!({ "attention_types": [[["local"], u64::MAX]] }), &["attention_types", "more layers"]);
    error(json!({ "attention_types": null }), &["attention_types", "not a list"]);
    error(json!({ "attention_layers": ["global"] }), &["attention_layers", "describes 1 layers", "has 4"]);
    error(json!({ "window_size": 0 }), &["window_size", "0"]);
    let mut missing = neo();
    missing.as_object_mut().unwrap().remove("attention_types");
    refused(&missing, &["attention_types", "missing"]);
}

#[test]
fn settings_that_would_change_the_result() {
    for base in [gpt2(), neox(), opt(), neo()] {
        for (key, value) in [
            ("quantization_config", json!({ "load_in_8bit": true })),
            ("is_encoder_decoder", json!(true)),
            ("add_cross_attention", json!(true)),
            ("pruned_heads", json!({ "0": [1] })),
            ("attn_logit_softcapping", json!(50.0)),
            ("final_logit_softcapping", json!(30.0)),
            ("my_new_option", json!("on")),
        ] {
            refused(&with(&base, json!({ key: value })), &[key, "might change the result", "remove it"]);
        }
        for (key, off) in [
            ("quantization_config", json!(null)),
            ("add_cross_attention", json!(false)),
            ("pruned_heads", json!({})),
            ("my_new_option", json!(0)),
        ] {
            assert_eq!(config(&with(&base, json!({ key: off }))), config(&base), "{key} is off");
        }
    }
}

#[test]
fn impossible_sizes() {
    refused(&with(&gpt2(), json!({ "n_head": 5 })), &["n_head", "5", "n_embd", "12 is not a multiple of 5"]);
    refused(
        &with(&neox(), json!({ "num_attention_heads": 7 })),
        &["num_attention_heads", "48 is not a multiple of 7"],
    );
    for (base, keys) in [
        (gpt2(), &["n_layer", "n_head", "n_embd", "n_inner", "n_positions", "vocab_size"][..]),
        (
            neox(),
            &[
                "num_hidden_layers",
                "num_attention_heads",
                "hidden_size",
                "intermediate_size",
                "max_position_embeddings",
            ],
        ),
        (opt(), &["num_hidden_layers", "ffn_dim", "word_embed_proj_dim", "vocab_size"]),
        (neo(), &["num_layers", "num_heads", "intermediate_size"]),
    ] {
        for key in keys {
            for bad in
                [json!(0), json!(-3), json!(1.5), json!("12"), json!(1u64 << 60), json!(u64::MAX), json!([1])]
            {
                refused(&with(&base, json!({ *key: bad })), &[key, &bad.to_string(), "not a whole number"]);
            }
        }
    }
    refused(&with(&gpt2(), json!({ "n_layer": 100_000 })), &["n_layer", "100000", "layers"]);
    refused(&with(&gpt2(), json!({ "n_layer": null })), &["n_layer", "null"]);
    for bad in [json!(0), json!(-1e-5), json!("1e-5"), json!(null)] {
        refused(
            &with(&gpt2(), json!({ "layer_norm_epsilon": bad })),
            &["layer_norm_epsilon", "no", "above 0"],
        );
    }
}

#[test]
fn values_of_the_wrong_kind() {
    refused(
        &with(&gpt2(), json!({ "scale_attn_weights": "yes" })),
        &["scale_attn_weights", "\"yes\"", "true nor false"],
    );
    // Python takes null for false; a reader would expect the default.
    refused(&with(&gpt2(), json!({ "tie_word_embeddings": null })), &["tie_word_embeddings", "null"]);
    refused(
        &with(&gpt2(), json!({ "activation_function": ["gelu"] })),
        &["activation_function", "not a string"],
    );
    refused(&with(&gpt2(), json!({ "bos_token_id": "x" })), &["bos_token_id", "\"x\"", "token id"]);
    refused(
        &with(&gpt2(), json!({ "hidden_size": 24 })),
        &["hidden_size", "24", "contradicts \"n_embd\": 12"],
    );
    assert_eq!(config(&with(&gpt2(), json!({ "hidden_size": 12 }))), config(&gpt2()));
    assert_eq!(
        config(&with(&gpt2(), json!({ "bos_token_id": 50256 }))).bos_token_id,
        None,
        "beyond the vocabulary"
    );

    refused(&json!({ "model_type": "bert" }), &["model_type", "\"bert\"", "gpt2, gpt_neox, opt, gpt_neo"]);
    refused(&json!({}), &["model_type", "names no supported architecture"]);
    refused(&json!([1]), &["not hold a JSON object"]);
    let long = json!({ "model_type": "x\n".repeat(10_000) });
    let message = parse(long.to_string().as_bytes(), "m").unwrap_err().to_string();
    assert!(message.len() < 400 && !message.contains('\n'), "{message}");
}
