//! The four families' spellings of one decoder's settings.

use serde_json::Value;

use super::keys::{Keys, shorten};
use super::{Architecture, ModelConfig};
use crate::error::ConfigError;
use crate::spec::{Activation, BlockLayout, ModelSpec, NormPlacement, Positions, Rotary};

type Result<T> = std::result::Result<T, ConfigError>;

/// `nn.LayerNorm`'s own default, which OPT does not override.
const TORCH_NORM_EPS: f64 = 1e-5;

/// Keys that no forward pass in float32 depends on: bookkeeping, dropout and initialisation (training only), ids of
/// special tokens other than BOS, and the generation settings that old files mix in.
const HARMLESS: &[&str] = &[
    "architectures",
    "attention_dropout",
    "attn_implementation",
    "auto_map",
    "bad_words_ids",
    "base_model",
    "base_model_name_or_path",
    "begin_suppress_tokens",
    "bos_token",
    "chat_template",
    "chunk_size_feed_forward",
    "classifier_dropout",
    "cls_token_id",
    "custom_pipelines",
    "datasets",
    "decoder_start_token_id",
    "device_map",
    "diversity_penalty",
    "do_sample",
    "dtype",
    "early_stopping",
    "encoder_no_repeat_ngram_size",
    "eos_token",
    "eos_token_id",
    "exponential_decay_length_penalty",
    "finetuning_task",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "generation_config",
    "gradient_checkpointing",
    "hub_model_id",
    "id2label",
    "ignore_index",
    "initializer_range",
    "is_decoder",
    "label2id",
    "label_smoothing",
    "language",
    "length_penalty",
    "library_name",
    "license",
    "loss_type",
    "low_cpu_mem_usage",
    "mask_token_id",
    "max_length",
    "max_seq_length",
    "min_length",
    "model_max_length",
    "model_name",
    "name_or_path",
    "no_repeat_ngram_size",
    "num_beam_groups",
    "num_beams",
    "num_labels",
    "num_return_sequences",
    "offload_folder",
    "output_attentions",
    "output_hidden_states",
    "output_past",
    "output_scores",
    "pad_token",
    "pad_token_id",
    "pipeline_tag",
    "prefix",
    "problem_type",
    "remove_invalid_values",
    "repetition_penalty",
    "return_dict",
    "return_dict_in_generate",
    "seed",
    "sep_token_id",
    "suppress_tokens",
    "tags",
    "task_specific_params",
    "temperature",
    "tf_legacy_loss",
    "tie_encoder_decoder",
    "tokenizer_class",
    "top_k",
    "top_p",
    "torch_compile",
    "torch_dtype",
    "torchscript",
    "transformers.js_config",
    "transformers_version",
    "trust_remote_code",
    "typical_p",
    "unk_token",
    "unk_token_id",
    "unsloth_fixed",
    "unsloth_version",
    "use_bfloat16",
    "use_cache",
];

/// The pooling head of GPT-2's and GPT-Neo's multiple-choice variants, which reads the logits' input and changes none.
const SUMMARY: &[&str] = &[
    "summary_activation",
    "summary_first_dropout",
    "summary_proj_to_labels",
    "summary_type",
    "summary_use_proj",
];

pub(super) fn gpt2(keys: &Keys) -> Result<ModelConfig> {
    let n_layers = keys.layers(&["n_layer", "num_hidden_layers"], 12)?;
    let n_heads = keys.size(&["n_head", "num_attention_heads"], 12)?;
    let d_model = keys.size(&["n_embd", "hidden_size"], 768)?;
    let d_vocab = keys.size(&["vocab_size"], 50257)?;
    let d_head = split_heads(keys, d_model, n_heads, "n_embd", "n_head")?;
    let base_scale =
        if keys.flag("scale_attn_weights", true)? { (d_head as f64).sqrt().recip() } else { 1.0 };
    let by_layer = keys.flag("scale_attn_by_inverse_layer_idx", false)?;
    let attn_scale = (0..n_layers)
        .map(|layer| (base_scale / if by_layer { (layer + 1) as f64 } else { 1.0 }) as f32)
        .collect();
    let spec = ModelSpec {
        n_layers,
        n_heads,
        n_kv_heads: n_heads,
        d_model,
        d_head,
        d_mlp: keys.optional_size(&["n_inner"])?.unwrap_or(4 * d_model),
        d_vocab,
        d_embed: d_model,
        n_ctx: keys.size(&["n_positions", "max_position_embeddings"], 1024)?,
        positions: Positions::Learned { offset: 0 },
        block: BlockLayout::Sequential,
        norm: NormPlacement::Pre,
        norm_eps: keys.positive(&["layer_norm_epsilon"], 1e-5)? as f32,
        final_norm: true,
        activation: activation(keys, "activation_function", "gelu_new")?,
        attn_scale,
        windows: vec![None; n_layers],
        tied_unembed: keys.flag("tie_word_embeddings", true)?,
        ..ModelSpec::default()
    };
    let bos_token_id = bos_token_id(keys, d_vocab)?;
    // `reorder_and_upcast_attn` guards float16 against overflow. `n_ctx` once sized the mask buffer; Transformers
    // has ignored it since, and reads `n_positions`.
    const OWN: &[&str] = &[
        "attn_pdrop",
        "embd_pdrop",
        "n_ctx",
        "n_special",
        "predict_special_tokens",
        "reorder_and_upcast_attn",
        "resid_pdrop",
    ];
    keys.finish(&[HARMLESS, SUMMARY, OWN])?;
    Ok(ModelConfig {
        architecture: Architecture::Gpt2,
        spec,
        qkv_bias: true,
        attn_out_bias: true,
        mlp_bias: true,
        norm_affine: true,
        bos_token_id,
    })
}

pub(super) fn gpt_neox(keys: &Keys) -> Result<ModelConfig> {
    let n_layers = keys.layers(&["num_hidden_layers"], 44)?;
    let n_heads = keys.size(&["num_attention_heads"], 64)?;
    let d_model = keys.size(&["hidden_size"], 6144)?;
    let d_vocab = keys.size(&["vocab_size"], 50432)?;
    let d_head = split_heads(keys, d_model, n_heads, "hidden_size", "num_attention_heads")?;
    let parallel = keys.flag("use_parallel_residual", true)?;
    let attention_bias = keys.flag("attention_bias", true)?;
    let spec = ModelSpec {
        n_layers,
        n_heads,
        n_kv_heads: n_heads,
        d_model,
        d_head,
        d_mlp: keys.size(&["intermediate_size"], 24576)?,
        d_vocab,
        d_embed: d_model,
        n_ctx: keys.size(&["max_position_embeddings"], 2048)?,
        positions: Positions::Rotary(rotary(keys, d_head, n_layers)?),
        block: if parallel { BlockLayout::Parallel } else { BlockLayout::Sequential },
        norm: NormPlacement::Pre,
        norm_eps: keys.positive(&["layer_norm_eps"], 1e-5)? as f32,
        final_norm: true,
        activation: activation(keys, "hidden_act", "gelu")?,
        attn_scale: vec![(d_head as f64).sqrt().recip() as f32; n_layers],
        windows: vec![None; n_layers],
        tied_unembed: keys.flag("tie_word_embeddings", false)?,
        ..ModelSpec::default()
    };
    let bos_token_id = bos_token_id(keys, d_vocab)?;
    keys.finish(&[HARMLESS, &["hidden_dropout"]])?;
    Ok(ModelConfig {
        architecture: Architecture::GptNeoX,
        spec,
        qkv_bias: attention_bias,
        attn_out_bias: attention_bias,
        mlp_bias: true,
        norm_affine: true,
        bos_token_id,
    })
}

pub(super) fn opt(keys: &Keys) -> Result<ModelConfig> {
    let n_layers = keys.layers(&["num_hidden_layers"], 12)?;
    let n_heads = keys.size(&["num_attention_heads"], 12)?;
    let d_model = keys.size(&["hidden_size"], 768)?;
    let d_vocab = keys.size(&["vocab_size"], 50272)?;
    let d_head = split_heads(keys, d_model, n_heads, "hidden_size", "num_attention_heads")?;
    let pre_norm = keys.flag("do_layer_norm_before", true)?;
    let bias = keys.flag("enable_bias", true)?;
    let norm_affine = keys.flag("layer_norm_elementwise_affine", true)?;
    let spec = ModelSpec {
        n_layers,
        n_heads,
        n_kv_heads: n_heads,
        d_model,
        d_head,
        d_mlp: keys.size(&["ffn_dim"], 3072)?,
        d_vocab,
        d_embed: keys.optional_size(&["word_embed_proj_dim"])?.unwrap_or(d_model),
        n_ctx: keys.size(&["max_position_embeddings"], 2048)?,
        positions: Positions::Learned { offset: 2 },
        block: BlockLayout::Sequential,
        norm: if pre_norm { NormPlacement::Pre } else { NormPlacement::Post },
        norm_eps: TORCH_NORM_EPS as f32,
        final_norm: pre_norm && !keys.flag("_remove_final_layer_norm", false)?,
        activation: activation(keys, "activation_function", "relu")?,
        attn_scale: vec![(d_head as f64).sqrt().recip() as f32; n_layers],
        windows: vec![None; n_layers],
        tied_unembed: keys.flag("tie_word_embeddings", true)?,
        ..ModelSpec::default()
    };
    let bos_token_id = bos_token_id(keys, d_vocab)?;
    keys.finish(&[HARMLESS, &["activation_dropout", "dropout", "init_std", "layerdrop"]])?;
    Ok(ModelConfig {
        architecture: Architecture::Opt,
        spec,
        qkv_bias: bias,
        attn_out_bias: bias,
        mlp_bias: bias,
        norm_affine,
        bos_token_id,
    })
}

pub(super) fn gpt_neo(keys: &Keys) -> Result<ModelConfig> {
    let n_layers = keys.layers(&["num_layers", "num_hidden_layers"], 24)?;
    let n_heads = keys.size(&["num_heads", "num_attention_heads"], 16)?;
    let d_model = keys.size(&["hidden_size"], 2048)?;
    let d_vocab = keys.size(&["vocab_size"], 50257)?;
    let spec = ModelSpec {
        n_layers,
        n_heads,
        n_kv_heads: n_heads,
        d_model,
        d_head: split_heads(keys, d_model, n_heads, "hidden_size", "num_heads")?,
        d_mlp: keys.optional_size(&["intermediate_size"])?.unwrap_or(4 * d_model),
        d_vocab,
        d_embed: d_model,
        n_ctx: keys.size(&["max_position_embeddings"], 2048)?,
        positions: Positions::Learned { offset: 0 },
        block: BlockLayout::Sequential,
        norm: NormPlacement::Pre,
        norm_eps: keys.positive(&["layer_norm_epsilon"], 1e-5)? as f32,
        final_norm: true,
        activation: activation(keys, "activation_function", "gelu_new")?,
        attn_scale: vec![1.0; n_layers],
        windows: windows(keys, n_layers)?,
        tied_unembed: keys.flag("tie_word_embeddings", true)?,
        ..ModelSpec::default()
    };
    let bos_token_id = bos_token_id(keys, d_vocab)?;
    keys.finish(&[HARMLESS, SUMMARY, &["embed_dropout", "resid_dropout"]])?;
    Ok(ModelConfig {
        architecture: Architecture::GptNeo,
        spec,
        qkv_bias: false,
        attn_out_bias: true,
        mlp_bias: true,
        norm_affine: true,
        bos_token_id,
    })
}

/// `d_head`, where the heads share `d_model` evenly.
fn split_heads(keys: &Keys, d_model: usize, n_heads: usize, width: &str, heads: &str) -> Result<usize> {
    if d_model.is_multiple_of(n_heads) {
        return Ok(d_model / n_heads);
    }
    let problem = format!("does not divide {width:?} ({d_model} is no multiple of {n_heads})");
    Err(keys.error(heads, &problem, "correct either"))
}

fn activation(keys: &Keys, key: &'static str, default: &'static str) -> Result<Activation> {
    match keys.text(key, default)? {
        "gelu" | "gelu_python" => Ok(Activation::GeluErf),
        // One function written in four ways, equal up to rounding.
        "gelu_new" | "gelu_fast" | "gelu_pytorch_tanh" | "gelu_python_tanh" | "gelu_accurate" => {
            Ok(Activation::GeluTanh)
        }
        "relu" => Ok(Activation::Relu),
        "silu" | "swish" => Ok(Activation::Silu),
        _ => Err(keys.error(
            key,
            "is not a supported activation",
            "supported are gelu, gelu_new, gelu_fast, gelu_pytorch_tanh, relu and silu",
        )),
    }
}

/// `bos_token_id`; files of models with a cut-down vocabulary often keep an id beyond it, which names nothing.
fn bos_token_id(keys: &Keys, d_vocab: usize) -> Result<Option<u32>> {
    match keys.optional(&["bos_token_id"])? {
        None => Ok(None),
        Some((key, value)) => match value.as_u64().and_then(|id| u32::try_from(id).ok()) {
            Some(id) => Ok(Some(id).filter(|&id| (id as usize) < d_vocab)),
            None => Err(keys.error(key, "is not a token id", "correct it to a whole number")),
        },
    }
}

/// The rotary embedding, in Transformers 4's spelling (`rotary_pct`, `rotary_emb_base`) or 5's (`rope_parameters`).
/// Versions differ in which key wins where several are present, so these must agree.
fn rotary(keys: &Keys, d_head: usize, n_layers: usize) -> Result<Rotary> {
    let mut base: Option<(String, f64)> = None;
    let mut fraction: Option<(String, f64)> = None;
    let put = |slot: &mut Option<(String, f64)>, group: &'static str, key: &str, value: &Value| {
        let name = if group == key { key.to_owned() } else { format!("{group}.{key}") };
        let Some(x) = value.as_f64().filter(|x| x.is_finite() && *x > 0.0) else {
            return Err(keys.error(group, &format!("sets {name} to no number above 0"), "correct it"));
        };
        match slot {
            Some((earlier, y)) if *y != x => Err(keys.error(
                group,
                &format!("sets {name} to {x}, but {earlier} is {y}, which is the same setting"),
                "keep the one that the checkpoint was trained with",
            )),
            _ => {
                *slot = Some((name, x));
                Ok(())
            }
        }
    };
    for key in ["rotary_emb_base", "rope_theta"] {
        if let Some(value) = keys.raw(key) {
            put(&mut base, key, key, value)?;
        }
    }
    for key in ["rotary_pct", "partial_rotary_factor"] {
        if let Some(value) = keys.raw(key) {
            put(&mut fraction, key, key, value)?;
        }
    }
    for group in ["rope_parameters", "rope_scaling"] {
        let Some((_, value)) = keys.optional(&[group])? else { continue };
        let Value::Object(parameters) = value else {
            return Err(keys.error(group, "is no JSON object", "correct it or remove it"));
        };
        for (key, value) in parameters {
            match key.as_str() {
                "rope_theta" => put(&mut base, group, key, value)?,
                "partial_rotary_factor" => put(&mut fraction, group, key, value)?,
                "rope_type" | "type" if value == "default" => {}
                _ if value.is_null() => {}
                _ => {
                    return Err(keys.error(
                        group,
                        &format!("sets {key:?} to {}, which is not supported", shorten(value)),
                        "only the default type of rotary embedding is: use a checkpoint without scaled positions",
                    ));
                }
            }
        }
    }
    let base = base.map_or(10_000.0, |(_, x)| x);
    let (name, fraction) = fraction.unwrap_or_else(|| ("rotary_pct".to_owned(), 0.25));
    let n_dims = (d_head as f64 * fraction) as usize; // rounded down, as int() does
    if n_dims == 0 || n_dims > d_head || !n_dims.is_multiple_of(2) {
        let key = name.split('.').next().unwrap_or(&name);
        return Err(keys.error(
            key,
            &format!("rotates {n_dims} of {d_head} coordinates per head"),
            "the number must be even, above 0, and at most the head's width",
        ));
    }
    Ok(Rotary::plain(n_layers, n_dims, base))
}

/// GPT-Neo's pattern of global and local attention: `attention_types` is a list of `[pattern, repeats]`, and
/// `attention_layers`, where present, the same written out layer by layer.
fn windows(keys: &Keys, n_layers: usize) -> Result<Vec<Option<usize>>> {
    let window = keys.size(&["window_size"], 256)?;
    let kind = |key: &str, value: &Value| match value.as_str() {
        Some("global") => Ok(None),
        Some("local") => Ok(Some(window)),
        _ => {
            let problem = format!("names {}, which is no kind of attention", shorten(value));
            Err(keys.error(key, &problem, "use \"global\" and \"local\""))
        }
    };
    let wrong_count = |key: &str, n: usize| {
        keys.error(key, &format!("describes {n} layers, but the model has {n_layers}"), "correct either")
    };

    let types = match keys.raw("attention_types") {
        None => None,
        Some(types) => {
            let malformed = || {
                keys.error(
                    "attention_types",
                    "is no list of [pattern, repeats]",
                    "write it like [[[\"global\", \"local\"], 6]]",
                )
            };
            let mut windows = Vec::new();
            for item in types.as_array().ok_or_else(malformed)? {
                let [Value::Array(pattern), repeats] = item.as_array().ok_or_else(malformed)?.as_slice()
                else {
                    return Err(malformed());
                };
                let pattern =
                    pattern.iter().map(|v| kind("attention_types", v)).collect::<Result<Vec<_>>>()?;
                let repeats = repeats.as_u64().ok_or_else(malformed)?;
                let n = repeats.saturating_mul(pattern.len() as u64);
                if n > (n_layers - windows.len()) as u64 {
                    return Err(keys.error(
                        "attention_types",
                        &format!("describes more layers than the model's {n_layers}"),
                        "correct either",
                    ));
                }
                // `n` is bounded by now, but an empty pattern may still be repeated without end.
                windows.extend(pattern.iter().cycle().take(n as usize));
            }
            if windows.len() != n_layers {
                return Err(wrong_count("attention_types", windows.len()));
            }
            Some(windows)
        }
    };
    let layers = match keys.raw("attention_layers") {
        None => None,
        Some(Value::Array(layers)) if layers.len() == n_layers => {
            Some(layers.iter().map(|v| kind("attention_layers", v)).collect::<Result<Vec<_>>>()?)
        }
        Some(Value::Array(layers)) => return Err(wrong_count("attention_layers", layers.len())),
        Some(_) => return Err(keys.error("attention_layers", "is no list", "correct it")),
    };
    match (types, layers) {
        (Some(types), Some(layers)) if types != layers => Err(keys.error(
            "attention_layers",
            "contradicts \"attention_types\"",
            "keep the one that the checkpoint was trained with",
        )),
        (Some(windows), _) | (None, Some(windows)) => Ok(windows),
        // The default is 12 times global, local.
        (None, None) if n_layers == 24 => {
            Ok((0..24).map(|layer| (layer % 2 == 1).then_some(window)).collect())
        }
        (None, None) => Err(keys.error(
            "attention_types",
            "is missing",
            "say which layers are global and which local, like [[[\"global\", \"local\"], 6]]",
        )),
    }
}
