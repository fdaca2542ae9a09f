//! GPT-Neo (Black et al. 2021).

use serde_json::Value;

use super::common::{HARMLESS, Result, SUMMARY, activation, bos_token_id, split_heads};
use super::family::{Bos, Description, Family, KnownModel, Parameters};
use super::tensors::{MlpTensors, QkvTensors, Stored, Tensors};
use crate::keys::{Keys, shorten};
use crate::spec::{BlockLayout, ModelSpec, NormPlacement, Positions};

/// `model_type: gpt_neo`
pub(super) static FAMILY: Family = Family {
    model_type: "gpt_neo",
    name: "gpt-neo",
    bos: Bos::Always("<|endoftext|>"),
    known_models: &[
        KnownModel::new("gpt-neo-125m", "gpt-neo", "EleutherAI/gpt-neo-125m", 12, 12, 125.0)
            .formerly("EleutherAI/gpt-neo-125M"),
        KnownModel::new("gpt-neo-1.3b", "gpt-neo", "EleutherAI/gpt-neo-1.3B", 24, 16, 1300.0),
        KnownModel::new("gpt-neo-2.7b", "gpt-neo", "EleutherAI/gpt-neo-2.7B", 32, 20, 2700.0),
    ],
    tensors: Tensors {
        prefixes: &["transformer."],
        embed: "wte",
        pos_embed: "wpe",
        block: "h",
        ln1: "ln_1",
        ln1_post: "",
        qkv: QkvTensors::Separate([
            "attn.attention.q_proj",
            "attn.attention.k_proj",
            "attn.attention.v_proj",
        ]),
        q_norm: "",
        k_norm: "",
        w_o: "attn.attention.out_proj",
        ln2: "ln_2",
        ln2_post: "",
        mlp: MlpTensors::Plain(["mlp.c_fc", "mlp.c_proj"]),
        ln_final: "ln_f",
        unembed: "lm_head",
        stored: Stored::OutIn,
        buffers: &["attn.attention.bias", "attn.attention.masked_bias"],
    },
    read,
};

fn read(keys: &Keys) -> Result<Description> {
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
    let parameters = Parameters { attn_out_bias: true, mlp_bias: true, ..Parameters::NO_BIASES };
    Ok(Description { spec, parameters, bos_token_id })
}

/// GPT-Neo's pattern of global and local attention: `attention_types` is a list of `[pattern, repeats]`, and
/// `attention_layers`, where present, the same written out layer by layer.
fn windows(keys: &Keys, n_layers: usize) -> Result<Vec<Option<usize>>> {
    let window = keys.size(&["window_size"], 256)?;
    let kind = |key: &str, value: &Value| match value.as_str() {
        Some("global") => Ok(None),
        Some("local") => Ok(Some(window)),
        _ => {
            let problem = format!("names {}, which is not a kind of attention", shorten(value));
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
                    "is not a list of [pattern, repeats]",
                    "write it as in [[[\"global\", \"local\"], 6]]",
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
                // `n` is bounded here, but an empty pattern would still repeat forever.
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
        Some(_) => return Err(keys.error("attention_layers", "is not a list", "correct it")),
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
            "say which layers are global and which local, as in [[[\"global\", \"local\"], 6]]",
        )),
    }
}
