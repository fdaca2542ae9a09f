//! Parsers for keys shared by several families.

use serde_json::Value;

use crate::error::ConfigError;
use crate::keys::{Keys, shorten};
use crate::spec::Activation;

pub(super) type Result<T> = std::result::Result<T, ConfigError>;

/// Keys that do not affect a float32 forward pass: bookkeeping, dropout and initialisation (training only), ids of
/// special tokens other than BOS, and generation settings that old files include.
pub(super) const HARMLESS: &[&str] = &[
    "architectures",
    "attention_dropout",
    "attn_implementation",
    "auto_map",
    "bad_words_ids",
    "base_model",
    "base_model_name_or_path",
    "begin_suppress_tokens",
    "bos_token",
    "cache_implementation",
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

/// The pooling head of GPT-2's and GPT-Neo's multiple-choice variants, which reads the final residual stream and does
/// not affect the logits.
pub(super) const SUMMARY: &[&str] = &[
    "summary_activation",
    "summary_first_dropout",
    "summary_proj_to_labels",
    "summary_type",
    "summary_use_proj",
];

/// `d_head`, if `d_model` is divided evenly among the heads.
pub(super) fn split_heads(
    keys: &Keys,
    d_model: usize,
    n_heads: usize,
    width: &str,
    heads: &str,
) -> Result<usize> {
    if d_model.is_multiple_of(n_heads) {
        return Ok(d_model / n_heads);
    }
    let problem = format!("does not divide {width:?} ({d_model} is not a multiple of {n_heads})");
    Err(keys.error(heads, &problem, "correct either"))
}

/// The MLP's nonlinearity.
pub(super) fn activation(keys: &Keys, key: &'static str, default: &'static str) -> Result<Activation> {
    match keys.text(key, default)? {
        "gelu" | "gelu_python" => Ok(Activation::GeluErf),
        // Names of the same function, equal up to rounding.
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

/// `bos_token_id`; files of models with a reduced vocabulary often keep an id beyond it, which is ignored.
pub(super) fn bos_token_id(keys: &Keys, d_vocab: usize) -> Result<Option<u32>> {
    match keys.optional(&["bos_token_id"])? {
        None => Ok(None),
        Some((key, value)) => match value.as_u64().and_then(|id| u32::try_from(id).ok()) {
            Some(id) => Ok(Some(id).filter(|&id| (id as usize) < d_vocab)),
            None => Err(keys.error(key, "is not a token id", "correct it to a whole number")),
        },
    }
}

/// Which layers are windowed, according to `layer_types`, or to `default` if that is absent.
pub(super) fn sliding_layers(
    keys: &Keys,
    n_layers: usize,
    default: impl Fn(usize) -> bool,
) -> Result<Vec<bool>> {
    const KEY: &str = "layer_types";
    let Some((_, value)) = keys.optional(&[KEY])? else { return Ok((0..n_layers).map(default).collect()) };
    let Some(types) = value.as_array() else { return Err(keys.error(KEY, "is not a list", "correct it")) };
    if types.len() != n_layers {
        let problem = format!("describes {} layers, but the model has {n_layers}", types.len());
        return Err(keys.error(KEY, &problem, "correct either"));
    }
    let is_sliding = |value: &Value| match value.as_str() {
        Some("full_attention") => Ok(false),
        Some("sliding_attention") => Ok(true),
        _ => {
            let problem = format!("names {}, which is not a supported kind of attention", shorten(value));
            Err(keys.error(KEY, &problem, "supported are \"full_attention\" and \"sliding_attention\""))
        }
    };
    types.iter().map(is_sliding).collect()
}

/// Windows of `window` tokens in the layers that are windowed.
pub(super) fn windows(keys: &Keys, sliding: &[bool], window: Option<usize>) -> Result<Vec<Option<usize>>> {
    if window.is_none() && sliding.contains(&true) {
        let fix =
            "give the number of tokens that a query in such a layer attends to, or make all layers full";
        return Err(keys.error("sliding_window", "is not set, but some layers are windowed", fix));
    }
    Ok(sliding.iter().map(|&is_sliding| window.filter(|_| is_sliding)).collect())
}

/// `sliding_window`; `null` means none, and an absent key means `default`.
pub(super) fn window_size(keys: &Keys, default: usize) -> Result<Option<usize>> {
    match keys.raw("sliding_window") {
        Some(value) if value.is_null() => Ok(None),
        _ => keys.size(&["sliding_window"], default).map(Some),
    }
}

/// `c` of `c tanh(x / c)`; `null` means no soft cap.
pub(super) fn softcap(keys: &Keys, key: &'static str, default: Option<f32>) -> Result<Option<f32>> {
    match keys.raw(key) {
        None => Ok(default),
        Some(value) if value.is_null() => Ok(None),
        Some(_) => Ok(Some(keys.positive(&[key], 1.0)? as f32)),
    }
}
