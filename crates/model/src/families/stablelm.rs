//! StableLM (Bellagamba et al. 2024): Llama with layer norms and rotary on a quarter of each head; some models have
//! parallel blocks.

use super::common::{HARMLESS, Result, activation, bos_token_id};
use super::family::{Bos, Description, Family, KnownModel, Parameters};
use super::llama;
use super::rotary::{Shape, Spelling, rotary};
use super::sizes::Sizes;
use crate::keys::Keys;
use crate::spec::{BlockLayout, ModelSpec, NormKind, Positions};

/// `model_type: stablelm`
pub(super) static FAMILY: Family = Family {
    model_type: "stablelm",
    name: "stablelm",
    bos: Bos::AsTokenizer,
    known_models: &[
        KnownModel::new("stablelm-2-1.6b", "stablelm-2", "stabilityai/stablelm-2-1_6b", 24, 32, 1645.0),
        KnownModel::new("stablelm-3b", "stablelm", "stabilityai/stablelm-3b-4e1t", 32, 32, 2795.0),
    ],
    tensors: llama::TENSORS,
    read,
};

const ROTARY: Spelling = Spelling { share: 0.25, partial: true, ..Spelling::STANDARD };

fn read(keys: &Keys) -> Result<Description> {
    let default = Sizes {
        d_vocab: 50304,
        d_model: 2560,
        d_mlp: 6912,
        n_layers: 32,
        n_heads: 32,
        n_kv_heads: Some(32),
        d_head: None,
        n_ctx: 4096,
    };
    let sizes = Sizes::read(keys, default)?;
    let ModelSpec { n_layers, d_head, d_vocab, n_ctx, .. } = sizes;
    let (rotary, n_ctx) = rotary(keys, &ROTARY, Shape { n_layers, d_head, n_ctx })?;
    let parallel = keys.flag("use_parallel_residual", false)?;
    if keys.flag("qk_layernorm", false)? {
        let fix = "use a StableLM without it: all except the one with 12 billion parameters";
        return Err(keys.error(
            "qk_layernorm",
            "normalises each head with its own gain, which is not supported",
            fix,
        ));
    }
    let spec = ModelSpec {
        n_ctx,
        positions: Positions::Rotary(rotary),
        block: if parallel { BlockLayout::ParallelOneNorm } else { BlockLayout::Sequential },
        norm_kind: NormKind::Layer,
        norm_eps: keys.positive(&["layer_norm_eps"], 1e-5)? as f32,
        activation: activation(keys, "hidden_act", "silu")?,
        tied_unembed: keys.flag("tie_word_embeddings", false)?,
        ..sizes
    };
    let qkv_bias = keys.flag("use_qkv_bias", false)?;
    let bos_token_id = bos_token_id(keys, d_vocab)?;
    keys.finish(&[HARMLESS, &["hidden_dropout"]])?;
    let parameters = Parameters { qkv_bias, ..Parameters::NO_BIASES };
    Ok(Description { spec, parameters, bos_token_id })
}
