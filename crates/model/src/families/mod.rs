//! The supported model families, one file each.
//!
//! A file has everything about its family: the keys of its `config.json` with the defaults of Hugging Face
//! Transformers, the keys without effect, the names and layouts of its tensors, its BOS rule, and its well-known
//! members on the Hub. To add a family, write its file and list it in [`FAMILIES`]; nothing else distinguishes
//! architectures.

mod common;
mod family;
mod gemma2;
mod gemma3;
mod gpt2;
mod gpt_neo;
mod gptj;
mod llama;
mod mistral;
mod neox;
mod olmo2;
mod opt;
mod phi3;
mod qwen2;
mod qwen3;
mod rotary;
mod sizes;
mod stablelm;
pub(crate) mod tensors;

use serde_json::Value;

use crate::error::ConfigError;
use crate::keys::Keys;
pub(crate) use family::Description;
pub use family::{Bos, Family, KnownModel, Parameters};

/// Every family.
pub static FAMILIES: [&Family; 14] = [
    &gpt2::FAMILY,
    &neox::FAMILY,
    &opt::FAMILY,
    &gpt_neo::FAMILY,
    &gptj::FAMILY,
    &llama::FAMILY,
    &mistral::FAMILY,
    &qwen2::FAMILY,
    &qwen3::FAMILY,
    &gemma2::FAMILY,
    &gemma3::FAMILY,
    &olmo2::FAMILY,
    &phi3::FAMILY,
    &stablelm::FAMILY,
];

/// Finds the family named by a `config.json` and parses the file.
pub(crate) fn read(keys: &Keys) -> Result<(&'static Family, Description), ConfigError> {
    let model_type = keys.raw("model_type").and_then(Value::as_str);
    let Some(family) = FAMILIES.into_iter().find(|family| model_type == Some(family.model_type)) else {
        let supported = FAMILIES.map(|family| family.model_type).join(", ");
        return Err(match unsupported(keys) {
            Some(what) => keys.error(
                "model_type",
                &format!("is {what}, which is not supported"),
                &format!("use a text-only decoder of one of these: {supported}"),
            ),
            None => keys.error(
                "model_type",
                "names no supported architecture",
                &format!("supported are {supported}"),
            ),
        });
    };
    Ok((family, (family.read)(keys)?))
}

/// What kind of model an unknown architecture is, if its keys tell.
fn unsupported(keys: &Keys) -> Option<&'static str> {
    let has = |names: &[&'static str]| names.iter().any(|name| keys.raw(name).is_some_and(|v| !v.is_null()));
    if has(&["vision_config", "audio_config", "text_config"]) {
        return Some("a multimodal model");
    }
    if has(&["num_experts", "num_local_experts", "n_routed_experts", "moe_intermediate_size"]) {
        return Some("a mixture of experts");
    }
    let is_set = |name| keys.raw(name).is_some_and(|value| value == true);
    is_set("is_encoder_decoder").then_some("an encoder-decoder model")
}

/// The model with this short name or Hub id, ignoring case.
pub fn known_model(name: &str) -> Option<&'static KnownModel> {
    let is_named = |m: &&KnownModel| m.name.eq_ignore_ascii_case(name) || m.hub_id.eq_ignore_ascii_case(name);
    FAMILIES.iter().flat_map(|family| family.known_models).find(is_named)
}
