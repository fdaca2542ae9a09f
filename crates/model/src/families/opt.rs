//! OPT (Zhang et al. 2022).

use super::common::{HARMLESS, Result, activation, bos_token_id, split_heads};
use super::family::{Bos, Description, Family, KnownModel, Parameters};
use super::tensors::{MlpTensors, QkvTensors, Stored, Tensors};
use crate::keys::Keys;
use crate::spec::{BlockLayout, ModelSpec, NormPlacement, Positions};

/// `nn.LayerNorm`'s own default, which OPT does not override.
const TORCH_NORM_EPS: f64 = 1e-5;

/// `model_type: opt`
pub(super) static FAMILY: Family = Family {
    model_type: "opt",
    name: "opt",
    bos: Bos::Always("</s>"),
    known_models: &[
        KnownModel::new("opt-125m", "opt", "facebook/opt-125m", 12, 12, 125.0),
        KnownModel::new("opt-350m", "opt", "facebook/opt-350m", 24, 16, 350.0),
        KnownModel::new("opt-1.3b", "opt", "facebook/opt-1.3b", 24, 32, 1300.0),
        KnownModel::new("opt-2.7b", "opt", "facebook/opt-2.7b", 32, 32, 2700.0),
    ],
    tensors: Tensors {
        prefixes: &["model.decoder.", "decoder.", "model."],
        embed: "embed_tokens",
        pos_embed: "embed_positions",
        block: "layers",
        ln1: "self_attn_layer_norm",
        ln1_post: "",
        qkv: QkvTensors::Separate(["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"]),
        q_norm: "",
        k_norm: "",
        w_o: "self_attn.out_proj",
        ln2: "final_layer_norm",
        ln2_post: "",
        mlp: MlpTensors::Plain(["fc1", "fc2"]),
        ln_final: "final_layer_norm",
        unembed: "lm_head",
        stored: Stored::OutIn,
        buffers: &[],
    },
    read,
};

fn read(keys: &Keys) -> Result<Description> {
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
    let parameters = Parameters {
        qkv_bias: bias,
        attn_out_bias: bias,
        mlp_bias: bias,
        norm_affine,
        ..Parameters::NO_BIASES
    };
    Ok(Description { spec, parameters, bos_token_id })
}
