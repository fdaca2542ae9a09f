//! GPT-J (Wang & Komatsuzaki 2021).

use super::common::{HARMLESS, Result, SUMMARY, activation, bos_token_id, split_heads};
use super::family::{Bos, Description, Family, KnownModel, Parameters};
use super::tensors::{MlpTensors, QkvTensors, Stored, Tensors};
use crate::keys::Keys;
use crate::spec::{BlockLayout, ModelSpec, NormPlacement, Positions, Rotary, RotaryPairing};

/// `model_type: gptj`
pub(super) static FAMILY: Family = Family {
    model_type: "gptj",
    name: "gpt-j",
    bos: Bos::Always("<|endoftext|>"),
    known_models: &[KnownModel::new("gpt-j-6b", "gpt-j", "EleutherAI/gpt-j-6b", 28, 16, 6051.0)],
    tensors: Tensors {
        prefixes: &["transformer."],
        embed: "wte",
        pos_embed: "",
        block: "h",
        ln1: "ln_1",
        ln1_post: "",
        qkv: QkvTensors::Separate(["attn.q_proj", "attn.k_proj", "attn.v_proj"]),
        q_norm: "",
        k_norm: "",
        w_o: "attn.out_proj",
        ln2: "",
        ln2_post: "",
        mlp: MlpTensors::Plain(["mlp.fc_in", "mlp.fc_out"]),
        ln_final: "ln_f",
        unembed: "lm_head",
        stored: Stored::OutIn,
        buffers: &["attn.bias", "attn.masked_bias"],
    },
    read,
};

fn read(keys: &Keys) -> Result<Description> {
    let n_layers = keys.layers(&["n_layer", "num_hidden_layers"], 28)?;
    let n_heads = keys.size(&["n_head", "num_attention_heads"], 16)?;
    let d_model = keys.size(&["n_embd", "hidden_size"], 4096)?;
    let d_vocab = keys.size(&["vocab_size"], 50400)?;
    let d_head = split_heads(keys, d_model, n_heads, "n_embd", "n_head")?;
    let n_dims = keys.size(&["rotary_dim"], 64)?;
    if n_dims > d_head || !n_dims.is_multiple_of(2) {
        let problem = format!("rotates {n_dims} of {d_head} coordinates per head");
        return Err(keys.error(
            "rotary_dim",
            &problem,
            "the number must be even and at most the head's width",
        ));
    }
    // The base is not configurable in this architecture.
    let rotary = Rotary { pairing: RotaryPairing::Interleaved, ..Rotary::plain(n_layers, n_dims, 10_000.0) };
    let spec = ModelSpec {
        n_layers,
        n_heads,
        n_kv_heads: n_heads,
        d_model,
        d_head,
        d_mlp: keys.optional_size(&["n_inner"])?.unwrap_or(4 * d_model),
        d_vocab,
        d_embed: d_model,
        n_ctx: keys.size(&["n_positions", "max_position_embeddings"], 2048)?,
        positions: Positions::Rotary(rotary),
        block: BlockLayout::ParallelOneNorm,
        norm: NormPlacement::Pre,
        norm_eps: keys.positive(&["layer_norm_epsilon"], 1e-5)? as f32,
        final_norm: true,
        activation: activation(keys, "activation_function", "gelu_new")?,
        attn_scale: vec![(d_head as f64).sqrt().recip() as f32; n_layers],
        windows: vec![None; n_layers],
        tied_unembed: keys.flag("tie_word_embeddings", false)?,
        ..ModelSpec::default()
    };
    let bos_token_id = bos_token_id(keys, d_vocab)?;
    // `n_ctx` repeats `n_positions`; `rotary` and `scale_attn_weights` are switches of an early version that were never
    // off.
    const OWN: &[&str] =
        &["attn_pdrop", "embd_pdrop", "n_ctx", "resid_pdrop", "rotary", "scale_attn_weights"];
    keys.finish(&[HARMLESS, SUMMARY, OWN])?;
    let parameters = Parameters { mlp_bias: true, unembed_bias: true, ..Parameters::NO_BIASES };
    Ok(Description { spec, parameters, bos_token_id })
}
