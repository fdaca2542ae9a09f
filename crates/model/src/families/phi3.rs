//! Phi 3, 3.5 and 4 mini (Abdin et al. 2024): Llama with fused projections.

use super::common::{HARMLESS, Result, bos_token_id};
use super::family::{Bos, Description, Family, KnownModel, Parameters};
use super::llama;
use super::rotary::Spelling;
use super::sizes::Sizes;
use super::tensors::{MlpTensors, QkvTensors, Tensors};
use crate::keys::Keys;
use crate::spec::ModelSpec;

/// `model_type: phi3`
pub(super) static FAMILY: Family = Family {
    model_type: "phi3",
    name: "phi3",
    bos: Bos::AsTokenizer,
    known_models: &[
        KnownModel::new("phi-3.5-mini", "phi-3", "microsoft/Phi-3.5-mini-instruct", 32, 32, 3821.0),
        KnownModel::new("phi-4-mini", "phi-4", "microsoft/Phi-4-mini-instruct", 32, 24, 3836.0),
    ],
    tensors: Tensors {
        qkv: QkvTensors::Fused("self_attn.qkv_proj"),
        mlp: MlpTensors::FusedGate(["mlp.gate_up_proj", "mlp.down_proj"]),
        ..llama::TENSORS
    },
    read,
};

/// Early files call LongRoPE `su`, or `yarn`.
const ROTARY: Spelling = Spelling {
    partial: true,
    aliases: &[("su", "longrope"), ("yarn", "longrope")],
    original_n_ctx: Some(4096),
    ..Spelling::STANDARD
};

fn read(keys: &Keys) -> Result<Description> {
    let default = Sizes {
        d_vocab: 32064,
        d_model: 3072,
        d_mlp: 8192,
        n_layers: 32,
        n_heads: 32,
        n_kv_heads: None,
        d_head: None,
        n_ctx: 4096,
    };
    let spec = llama::spec(keys, default, &ROTARY, 1e-5)?;
    let window = keys.optional_size(&["sliding_window"])?;
    let spec = ModelSpec { windows: vec![window; spec.n_layers], ..spec };
    let bos_token_id = bos_token_id(keys, spec.d_vocab)?;
    // Phi-4-mini's file has two settings of its authors' own code, at values without effect.
    const OWN: &[&str] = &["embd_pdrop", "full_attn_mod", "interpolate_factor", "resid_pdrop"];
    keys.finish(&[HARMLESS, OWN])?;
    let parameters = Parameters::NO_BIASES;
    Ok(Description { spec, parameters, bos_token_id })
}
