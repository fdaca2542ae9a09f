//! GPT-2 (Radford et al. 2019).

use super::common::{HARMLESS, Result, SUMMARY, activation, bos_token_id, split_heads};
use super::family::{Bos, Description, Family, KnownModel, Parameters};
use super::tensors::{MlpTensors, QkvTensors, Stored, Tensors};
use crate::keys::Keys;
use crate::spec::{BlockLayout, ModelSpec, NormPlacement, Positions};

/// `model_type: gpt2`
pub(super) static FAMILY: Family = Family {
    model_type: "gpt2",
    name: "gpt2",
    bos: Bos::Always("<|endoftext|>"),
    known_models: &[
        KnownModel::new("gpt2", "gpt2", "openai-community/gpt2", 12, 12, 124.0).formerly("gpt2"),
        KnownModel::new("gpt2-medium", "gpt2", "openai-community/gpt2-medium", 24, 16, 355.0)
            .formerly("gpt2-medium"),
        KnownModel::new("gpt2-large", "gpt2", "openai-community/gpt2-large", 36, 20, 774.0)
            .formerly("gpt2-large"),
        KnownModel::new("gpt2-xl", "gpt2", "openai-community/gpt2-xl", 48, 25, 1558.0).formerly("gpt2-xl"),
    ],
    tensors: Tensors {
        prefixes: &["transformer."],
        embed: "wte",
        pos_embed: "wpe",
        block: "h",
        ln1: "ln_1",
        ln1_post: "",
        qkv: QkvTensors::Fused("attn.c_attn"),
        q_norm: "",
        k_norm: "",
        w_o: "attn.c_proj",
        ln2: "ln_2",
        ln2_post: "",
        mlp: MlpTensors::Plain(["mlp.c_fc", "mlp.c_proj"]),
        ln_final: "ln_f",
        unembed: "lm_head",
        stored: Stored::InOut,
        buffers: &["attn.bias", "attn.masked_bias"],
    },
    read,
};

fn read(keys: &Keys) -> Result<Description> {
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
    // `reorder_and_upcast_attn` guards float16 against overflow. `n_ctx` used to be the size of the mask buffer;
    // Transformers now ignores it and reads `n_positions`.
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
    let parameters =
        Parameters { qkv_bias: true, attn_out_bias: true, mlp_bias: true, ..Parameters::NO_BIASES };
    Ok(Description { spec, parameters, bos_token_id })
}
