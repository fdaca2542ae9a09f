//! Direct effects: the change from removing a head's output if no later head or MLP reacted.
//!
//! A head's direct effect on a prompt is minus the direct contribution of its output to logit(correct) −
//! logit(distractor) ([`cs_engine::direct_attribution`]), so that it is comparable with Δ. See
//! [`cs_analysis::direct`] for its use.

use cs_analysis::head_id::HeadId;
use cs_engine::decoder::Decoder;
use cs_engine::{Cost, EngineError, direct_attribution, direct_attribution_cost};
use cs_model::spec::ModelSpec;

use crate::prompts::TokenizedPrompts;
use crate::scan::{ScanOptions, engine_prompts};

/// The direct effect of each of `heads` on each prompt, in logits: `[n_heads, n_prompts]`. `None` for post-norm models.
///
/// # Errors
/// See [`EngineError`].
///
/// # Panics
/// For a head that the model does not have.
pub fn direct_effects(
    decoder: &Decoder,
    prompts: &TokenizedPrompts,
    heads: &[HeadId],
    options: cs_engine::Options,
) -> Result<Option<Vec<f32>>, EngineError> {
    let asked = engine_prompts(prompts, ScanOptions::default());
    let Some(added) = direct_attribution(decoder, &asked, options)? else { return Ok(None) };
    let n_heads = decoder.spec().n_heads;
    let of_head = |id: &HeadId| {
        // Contributions to the correct and to the distractor's logit, prompt by prompt.
        let (added, _) = added[id.layer as usize * n_heads + id.head as usize].as_chunks::<2>();
        added.iter().map(|[correct, distractor]| (distractor - correct) as f32)
    };
    Ok(Some(heads.iter().flat_map(of_head).collect()))
}

/// The cost of [`direct_effects`] on a model of this shape, without running it: about one plain run.
///
/// # Errors
/// See [`EngineError`].
pub fn cost(
    spec: &ModelSpec,
    prompts: &TokenizedPrompts,
    options: cs_engine::Options,
) -> Result<Cost, EngineError> {
    direct_attribution_cost(spec, &engine_prompts(prompts, ScanOptions::default()), options)
}
