//! The families with grouped-query attention, RMS norms and gates: published files, their variants, and what is rejected.

use cs_model::families::{FAMILIES, known_model};
use cs_model::spec::{
    Activation, BlockLayout, ModelSpec, NormKind, NormPlacement, Positions, QkNorm, RotaryPairing,
    RotaryScaling,
};
use serde_json::{Value, json};

use super::{config, refused, with};

/// Known models as their files describe them: name, `model_type`, and the keys that determine the size.
fn published() -> Vec<(&'static str, Value)> {
    let sizes =
        |model_type: &str, v: u64, d: u64, mlp: u64, layers: u64, heads: u64, kv: u64, more: Value| {
            let base = json!({
                "model_type": model_type, "vocab_size": v, "hidden_size": d, "intermediate_size": mlp,
                "num_hidden_layers": layers, "num_attention_heads": heads, "num_key_value_heads": kv,
            });
            with(&base, more)
        };
    let tied = || json!({ "tie_word_embeddings": true });
    vec![
        ("smollm2-135m", sizes("llama", 49152, 576, 1536, 30, 9, 3, tied())),
        ("smollm2-360m", sizes("llama", 49152, 960, 2560, 32, 15, 5, tied())),
        ("smollm2-1.7b", sizes("llama", 49152, 2048, 8192, 24, 32, 32, tied())),
        ("tinyllama-1.1b", sizes("llama", 32000, 2048, 5632, 22, 32, 4, json!({}))),
        ("llama-3.2-1b", sizes("llama", 128_256, 2048, 8192, 16, 32, 8, tied())),
        ("llama-3.2-3b", sizes("llama", 128_256, 3072, 8192, 28, 24, 8, tied())),
        ("llama-3.1-8b", sizes("llama", 128_256, 4096, 14336, 32, 32, 8, json!({}))),
        ("mistral-7b-v0.1", sizes("mistral", 32000, 4096, 14336, 32, 32, 8, json!({}))),
        (
            "mistral-7b-v0.3",
            sizes("mistral", 32768, 4096, 14336, 32, 32, 8, json!({ "sliding_window": null })),
        ),
        ("qwen2.5-0.5b", sizes("qwen2", 151_936, 896, 4864, 24, 14, 2, tied())),
        ("qwen2.5-1.5b", sizes("qwen2", 151_936, 1536, 8960, 28, 12, 2, tied())),
        ("qwen2.5-3b", sizes("qwen2", 151_936, 2048, 11008, 36, 16, 2, tied())),
        ("qwen2.5-7b", sizes("qwen2", 152_064, 3584, 18944, 28, 28, 4, json!({}))),
        ("qwen3-0.6b", sizes("qwen3", 151_936, 1024, 3072, 28, 16, 8, tied())),
        ("qwen3-1.7b", sizes("qwen3", 151_936, 2048, 6144, 28, 16, 8, tied())),
        ("qwen3-4b", sizes("qwen3", 151_936, 2560, 9728, 36, 32, 8, tied())),
        ("qwen3-8b", sizes("qwen3", 151_936, 4096, 12288, 36, 32, 8, json!({}))),
        ("gemma-2-2b", sizes("gemma2", 256_000, 2304, 9216, 26, 8, 4, json!({}))),
        ("gemma-2-9b", sizes("gemma2", 256_000, 3584, 14336, 42, 16, 8, json!({}))),
        ("gemma-3-270m", sizes("gemma3_text", 262_144, 640, 2048, 18, 4, 1, json!({}))),
        ("gemma-3-1b", sizes("gemma3_text", 262_144, 1152, 6912, 26, 4, 1, json!({}))),
        ("olmo-2-1b", sizes("olmo2", 100_352, 2048, 8192, 16, 16, 16, json!({}))),
        ("olmo-2-7b", sizes("olmo2", 100_352, 4096, 11008, 32, 32, 32, json!({}))),
        ("phi-3.5-mini", sizes("phi3", 32064, 3072, 8192, 32, 32, 32, json!({}))),
        ("phi-4-mini", sizes("phi3", 200_064, 3072, 8192, 32, 24, 8, tied())),
        (
            "stablelm-2-1.6b",
            sizes("stablelm", 100_352, 2048, 5632, 24, 32, 32, json!({ "use_qkv_bias": true })),
        ),
        ("stablelm-3b", sizes("stablelm", 50304, 2560, 6912, 32, 32, 32, json!({}))),
        ("gpt-j-6b", json!({ "model_type": "gptj" })),
        ("gpt2", json!({ "model_type": "gpt2" })),
        ("gpt2-xl", json!({ "model_type": "gpt2", "n_layer": 48, "n_head": 25, "n_embd": 1600 })),
    ]
}

/// Parameters of the large matrices, in millions.
fn matrices_m(spec: &ModelSpec) -> f64 {
    let block = spec.d_model * (2 * spec.d_attn() + 2 * spec.d_kv())
        + (2 + usize::from(spec.gated_mlp)) * spec.d_model * spec.d_mlp;
    let embeddings = if spec.tied_unembed { 1 } else { 2 };
    (spec.n_layers * block + embeddings * spec.d_vocab * spec.d_embed) as f64 / 1e6
}

#[test]
fn known_models_have_the_sizes_of_their_files() {
    for (name, file) in published() {
        let known = known_model(name).unwrap_or_else(|| panic!("{name} is not known"));
        let config = config(&file);
        let spec = &config.spec;
        assert!(config.family.known_models.contains(known), "{name}");
        assert_eq!((spec.n_layers, spec.n_heads), (known.n_layers, known.n_heads), "{name}");
        let m = matrices_m(spec);
        assert!(
            (m / known.params_m - 1.0).abs() < 0.02,
            "{name}: {m} M in matrices, {} in total",
            known.params_m
        );
    }
}

#[test]
fn every_known_model_has_its_size_above() {
    // Two models represent the published study's families.
    let of_study = ["gpt2", "gpt_neox", "opt", "gpt_neo"];
    let published = published();
    for family in FAMILIES.into_iter().filter(|family| !of_study.contains(&family.model_type)) {
        for known in family.known_models {
            assert!(published.iter().any(|(name, _)| *name == known.name), "{}", known.name);
        }
    }
}

#[test]
fn names_of_known_models_are_distinct() {
    let known: Vec<_> = FAMILIES.iter().flat_map(|family| family.known_models).collect();
    for model in &known {
        assert_eq!(known_model(&model.name.to_uppercase()), Some(*model));
        assert_eq!(known_model(model.hub_id), Some(*model));
        assert!(model.hub_id.split_once('/').is_some_and(|(org, name)| !org.is_empty() && !name.is_empty()));
    }
    assert_eq!(known_model("llama"), None);
    let types: std::collections::BTreeSet<_> = FAMILIES.iter().map(|family| family.model_type).collect();
    assert_eq!(types.len(), FAMILIES.len());
}

fn rotary_dims(spec: &ModelSpec) -> usize {
    let Positions::Rotary(rotary) = &spec.positions else { panic!("{:?}", spec.positions) };
    rotary.n_dims
}

#[test]
fn llama_3_2_1b_as_published() {
    let c = config(&json!({
        "architectures": ["LlamaForCausalLM"], "attention_bias": false, "attention_dropout": 0.0, "bos_token_id": 128_000,
        "eos_token_id": 128_001, "head_dim": 64, "hidden_act": "silu", "hidden_size": 2048, "initializer_range": 0.02,
        "intermediate_size": 8192, "max_position_embeddings": 131_072, "mlp_bias": false, "model_type": "llama",
        "num_attention_heads": 32, "num_hidden_layers": 16, "num_key_value_heads": 8, "pretraining_tp": 1,
        "rms_norm_eps": 1e-05, "rope_scaling": { "factor": 32.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0,
        "original_max_position_embeddings": 8192, "rope_type": "llama3" }, "rope_theta": 500_000.0,
        "tie_word_embeddings": true, "torch_dtype": "bfloat16", "transformers_version": "4.45.0.dev0", "use_cache": true,
        "vocab_size": 128_256,
    }));
    let s = &c.spec;
    assert_eq!((s.n_layers, s.n_heads, s.n_kv_heads, s.d_model, s.d_head), (16, 32, 8, 2048, 64));
    assert_eq!((s.d_mlp, s.d_vocab, s.n_ctx, s.group_size()), (8192, 128_256, 131_072, 4));
    assert_eq!(
        (s.norm_kind, s.norm, s.norm_eps, s.qk_norm),
        (NormKind::Rms, NormPlacement::Pre, 1e-5, QkNorm::None)
    );
    assert_eq!((s.block, s.activation, s.gated_mlp), (BlockLayout::Sequential, Activation::Silu, true));
    assert_eq!((s.attn_scale[15], s.attn_softcap, s.logit_softcap, s.embed_scale), (0.125, None, None, None));
    assert!(s.tied_unembed && s.final_norm && s.windows.iter().all(Option::is_none));
    let p = c.parameters;
    assert!(!p.qkv_bias && !p.attn_out_bias && !p.mlp_bias && !p.unembed_bias && p.norm_affine);
}

#[test]
fn gemma_2_2b_as_published() {
    let c = config(&json!({
        "architectures": ["Gemma2ForCausalLM"], "attention_bias": false, "attention_dropout": 0.0,
        "attn_logit_softcapping": 50.0, "bos_token_id": 2, "cache_implementation": "hybrid", "eos_token_id": 1,
        "final_logit_softcapping": 30.0, "head_dim": 256, "hidden_act": "gelu_pytorch_tanh",
        "hidden_activation": "gelu_pytorch_tanh", "hidden_size": 2304, "initializer_range": 0.02,
        "intermediate_size": 9216, "max_position_embeddings": 8192, "model_type": "gemma2", "num_attention_heads": 8,
        "num_hidden_layers": 26, "num_key_value_heads": 4, "pad_token_id": 0, "query_pre_attn_scalar": 224,
        "rms_norm_eps": 1e-06, "rope_theta": 10000.0, "sliding_window": 4096, "sliding_window_size": 4096,
        "torch_dtype": "float32", "transformers_version": "4.42.4", "use_cache": true, "vocab_size": 256_000,
    }));
    let s = &c.spec;
    assert_eq!((s.d_head, s.d_attn(), s.d_kv(), s.d_model), (256, 2048, 1024, 2304));
    assert_eq!((s.norm_kind, s.norm), (NormKind::RmsOnePlus, NormPlacement::PreAndBranch));
    assert_eq!((s.embed_scale, s.attn_softcap, s.logit_softcap), (Some(48.0), Some(50.0), Some(30.0)));
    assert_eq!((s.attn_scale[0], s.activation), (224f64.sqrt().recip() as f32, Activation::GeluTanh));
    assert!(s.windows.iter().enumerate().all(|(i, w)| *w == (i % 2 == 0).then_some(4096)));
    assert!(s.tied_unembed);

    let changed =
        |changes| config(&with(&json!({ "model_type": "gemma2", "num_hidden_layers": 3 }), changes)).spec;
    assert_eq!(
        changed(json!({ "final_logit_softcapping": null, "attn_logit_softcapping": null })).attn_softcap,
        None
    );
    let types = json!({ "layer_types": ["full_attention", "full_attention", "sliding_attention"], "sliding_window": 7 });
    assert_eq!(changed(types).windows, [None, None, Some(7)]);
}

#[test]
fn gemma_3_1b_as_published() {
    let c = config(&json!({
        "architectures": ["Gemma3ForCausalLM"], "attention_bias": false, "attention_dropout": 0.0,
        "attn_logit_softcapping": null, "bos_token_id": 2, "cache_implementation": "hybrid", "eos_token_id": [1, 106],
        "final_logit_softcapping": null, "head_dim": 256, "hidden_activation": "gelu_pytorch_tanh", "hidden_size": 1152,
        "initializer_range": 0.02, "intermediate_size": 6912, "max_position_embeddings": 32768,
        "model_type": "gemma3_text", "num_attention_heads": 4, "num_hidden_layers": 26, "num_key_value_heads": 1,
        "pad_token_id": 0, "query_pre_attn_scalar": 256, "rms_norm_eps": 1e-06, "rope_local_base_freq": 10000,
        "rope_scaling": null, "rope_theta": 1_000_000, "sliding_window": 512, "sliding_window_pattern": 6,
        "torch_dtype": "bfloat16", "transformers_version": "4.50.0.dev0", "use_cache": true, "vocab_size": 262_144,
    }));
    let s = &c.spec;
    assert_eq!((s.n_kv_heads, s.group_size(), s.qk_norm, s.attn_scale[25]), (1, 4, QkNorm::PerHead, 0.0625));
    assert_eq!((s.windows[4], s.windows[5], s.windows[25]), (Some(512), None, Some(512)));
    assert_eq!(s.embed_scale, Some(1152f64.sqrt() as f32));

    let base = json!({ "model_type": "gemma3_text", "num_hidden_layers": 2 });
    refused(&with(&base, json!({ "sliding_window": null })), &["sliding_window", "some layers are windowed"]);
    refused(&with(&base, json!({ "use_bidirectional_attention": true })), &["use_bidirectional_attention"]);
    refused(
        &with(&base, json!({ "layer_types": ["chunked_attention", "x"] })),
        &["chunked_attention", "full_attention"],
    );
    refused(
        &with(&base, json!({ "layer_types": ["full_attention"] })),
        &["layer_types", "describes 1 layers", "has 2"],
    );
}

#[test]
fn qwen_windows_biases_and_norms() {
    let qwen2 = json!({
        "model_type": "qwen2", "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2,
        "hidden_size": 32, "sliding_window": 131_072, "max_window_layers": 21, "use_sliding_window": false,
    });
    let c = config(&qwen2);
    assert!(c.parameters.qkv_bias && !c.parameters.attn_out_bias && !c.parameters.mlp_bias);
    assert_eq!((c.spec.d_head, c.spec.windows.as_slice(), c.bos_token_id), (8, &[None; 3][..], None));
    let on = json!({ "use_sliding_window": true, "sliding_window": 5, "max_window_layers": 1 });
    for model_type in ["qwen2", "qwen3"] {
        let changed = with(&with(&qwen2, on.clone()), json!({ "model_type": model_type }));
        assert_eq!(config(&changed).spec.windows, [None, Some(5), Some(5)]);
        let all = with(&changed, json!({ "max_window_layers": 0 }));
        assert_eq!(config(&all).spec.windows, [Some(5); 3]);
        let off = json!({ "use_sliding_window": false, "layer_types": vec!["sliding_attention"; 3] });
        refused(&with(&changed, off), &["sliding_window", "windowed"]);
    }
    let qwen3 =
        json!({ "model_type": "qwen3", "num_hidden_layers": 1, "hidden_size": 1024, "attention_bias": true });
    let c = config(&qwen3);
    assert_eq!((c.spec.d_head, c.spec.d_attn(), c.spec.qk_norm), (128, 4096, QkNorm::PerHead));
    assert!(c.parameters.qkv_bias && c.parameters.attn_out_bias);
    refused(&with(&qwen2, json!({ "num_key_value_heads": 3 })), &["num_key_value_heads", "4 over 3"]);
    refused(&with(&qwen2, json!({ "dual_chunk_attention_config": { "chunk_size": 1 } })), &["dual_chunk"]);
}

#[test]
fn mistral_olmo2_phi3_and_gptj() {
    let mistral = json!({ "model_type": "mistral", "num_hidden_layers": 2 });
    assert_eq!(config(&mistral).spec.windows, [Some(4096); 2], "the default is a window");
    assert_eq!(config(&with(&mistral, json!({ "sliding_window": null }))).spec.windows, [None; 2]);
    assert_eq!(config(&with(&mistral, json!({ "head_dim": 96 }))).spec.d_head, 96);
    assert_eq!(config(&with(&mistral, json!({ "head_dim": null }))).spec.d_head, 128);
    assert_eq!(config(&with(&mistral, json!({ "num_key_value_heads": null }))).spec.n_kv_heads, 32);

    let olmo2 = config(&json!({ "model_type": "olmo2", "bos_token_id": null, "attention_bias": true }));
    assert_eq!((olmo2.spec.norm, olmo2.spec.qk_norm), (NormPlacement::Branch, QkNorm::AllHeads));
    assert!(olmo2.parameters.attn_out_bias && !olmo2.parameters.mlp_bias);

    // Phi-4-mini's shape.
    let factors = vec![1.0; 48];
    let phi4 = config(&json!({
        "model_type": "phi3", "attention_bias": false, "auto_map": { "AutoConfig": "x" }, "embd_pdrop": 0.0,
        "full_attn_mod": 1, "hidden_size": 3072, "intermediate_size": 8192, "interpolate_factor": 1, "lm_head_bias": false,
        "max_position_embeddings": 131_072, "mlp_bias": false, "num_attention_heads": 24, "num_hidden_layers": 32,
        "num_key_value_heads": 8, "original_max_position_embeddings": 4096, "partial_rotary_factor": 0.75,
        "resid_pdrop": 0.0, "rope_scaling": { "long_factor": factors, "short_factor": factors, "type": "longrope" },
        "rope_theta": 10000.0, "sliding_window": 262_144, "tie_word_embeddings": true, "vocab_size": 200_064,
    }));
    let s = &phi4.spec;
    assert_eq!((s.d_head, rotary_dims(s), s.n_ctx, s.windows[31]), (128, 96, 4096, Some(262_144)));
    let Positions::Rotary(rotary) = &s.positions else { panic!() };
    assert!(matches!(rotary.frequencies[0].scaling, RotaryScaling::LongRope { .. }));

    let gptj = config(&json!({
        "model_type": "gptj", "activation_function": "gelu_new", "attn_pdrop": 0.0, "bos_token_id": 50256, "embd_pdrop": 0.0,
        "gradient_checkpointing": false, "initializer_range": 0.02, "layer_norm_epsilon": 1e-05, "n_embd": 4096,
        "n_head": 16, "n_inner": null, "n_layer": 28, "n_positions": 2048, "resid_pdrop": 0.0, "rotary": true,
        "rotary_dim": 64, "scale_attn_weights": true, "summary_type": "cls_index", "tie_word_embeddings": false,
        "vocab_size": 50400,
    }));
    let s = &gptj.spec;
    assert_eq!((s.block, s.norm_kind, s.gated_mlp), (BlockLayout::ParallelOneNorm, NormKind::Layer, false));
    assert_eq!((s.d_head, rotary_dims(s), s.d_mlp), (256, 64, 16384));
    let Positions::Rotary(rotary) = &s.positions else { panic!() };
    assert_eq!(rotary.pairing, RotaryPairing::Interleaved);
    let p = gptj.parameters;
    assert!(p.unembed_bias && p.mlp_bias && !p.qkv_bias && !p.attn_out_bias);
    refused(&json!({ "model_type": "gptj", "rotary_dim": 63 }), &["rotary_dim", "rotates 63 of 256"]);
    refused(&json!({ "model_type": "gptj", "rotary_dim": null }), &["rotary_dim", "null"]);
}

#[test]
fn stablelm_variants() {
    let base = json!({ "model_type": "stablelm", "num_hidden_layers": 1, "use_qkv_bias": true });
    let c = config(&base);
    assert_eq!((c.spec.d_head, rotary_dims(&c.spec), c.spec.norm_kind), (80, 20, NormKind::Layer));
    assert!(c.parameters.qkv_bias && c.parameters.norm_affine && c.spec.gated_mlp);
    let parallel = config(&with(&base, json!({ "use_parallel_residual": true }))).spec;
    assert_eq!(parallel.block, BlockLayout::ParallelOneNorm);
    refused(&with(&base, json!({ "qk_layernorm": true })), &["qk_layernorm", "its own gain", "12 billion"]);
}

#[test]
fn other_architectures_end_in_one_clear_error() {
    for (file, words) in [
        (json!({ "model_type": "mixtral", "num_local_experts": 8 }), "a mixture of experts"),
        (json!({ "model_type": "qwen3_moe", "num_experts": 128 }), "a mixture of experts"),
        (json!({ "model_type": "deepseek_v3", "n_routed_experts": 256 }), "a mixture of experts"),
        (json!({ "model_type": "gemma3", "text_config": {}, "vision_config": {} }), "a multimodal model"),
        (json!({ "model_type": "t5", "is_encoder_decoder": true }), "an encoder-decoder model"),
        (json!({ "model_type": "bert" }), "names no supported architecture"),
    ] {
        let model_type = file["model_type"].to_string();
        refused(&file, &["model_type", &model_type, words, "gpt2", "gemma3_text", "phi3"]);
    }
    for family in FAMILIES {
        let base = json!({ "model_type": family.model_type });
        for (key, value) in
            [("num_experts", json!(8)), ("vision_config", json!({ "a": 1 })), ("my_option", json!("on"))]
        {
            refused(&with(&base, json!({ key: value })), &[key, "might change the result"]);
        }
    }
}
