//! Direct logit attribution: the direct contribution of each head's output to a logit, in the plain run.
//!
//! At a prompt's last token, with `x` the residual stream after the last block:
//!
//! ```text
//! o_h = (z_h − c_h) W_O^h                        [d_model]; c_h: Decoder::value_bias
//! o_h = o_h through attention's output norm      if there is one (OLMo 2, Gemma 2 and 3)
//! a_h = s · o_h through the final norm · W_U     one number per token read
//! ```
//!
//! Norms are applied with their scale frozen at the plain run's value, `1 / √(var + ε)` of `x` or of attention's whole output, and without
//! bias: they are linear, so heads' attributions add up. If logits are soft-capped, `s` is the slope of the cap at the plain run's logit,
//! `1 − (logit / cap)²`; otherwise it is 1. Effects through later blocks are not included.
//!
//! In post-norm models, norms on the residual stream itself rescale it at every block, so there is no direct path and no
//! attribution.

use cs_model::spec::{ModelSpec, NormKind, NormPlacement};

use crate::cost::{Cost, cost};
use crate::decoder::Decoder;
use crate::error::EngineError;
use crate::machine::cpu;
use crate::machine::place::{Job, carry_out};
use crate::machine::{Machine, row};
use crate::plan;
use crate::request::{Options, Prompt};

/// Every head's direct contribution to the logits of each prompt's [`Prompt::read`] tokens: `[n_heads_total]` of `[sum of read
/// lengths]`, heads in order of layer, tokens in order of prompt. `None` for post-norm models (see the module).
///
/// It takes one plain run, and a product with `W_O` at the prompts' last tokens. Results are bit-identical for any number
/// of threads and any memory bound.
///
/// # Errors
/// See [`EngineError`]; everything is checked before the first layer is computed.
pub fn direct_attribution(
    decoder: &Decoder,
    prompts: &[Prompt],
    options: Options,
) -> Result<Option<Vec<Vec<f64>>>, EngineError> {
    let spec = decoder.spec();
    plan::check(spec, prompts, &[])?;
    if spec.norm == NormPlacement::Post {
        return Ok(None);
    }
    carry_out(decoder, Attribution { decoder, prompts, options }).map(Some)
}

/// The request to the machine.
struct Attribution<'a> {
    decoder: &'a Decoder,
    prompts: &'a [Prompt],
    options: Options,
}

impl Job for Attribution<'_> {
    type Output = Vec<Vec<f64>>;

    fn run<M: Machine>(self, machine: &mut M) -> Result<Self::Output, EngineError> {
        let Self { decoder, prompts, options } = self;
        let spec = decoder.spec();
        let mut n_read = 0;
        let first_read = |prompt: &Prompt| {
            let first = n_read;
            n_read += prompt.read.len();
            first
        };
        let first_read: Vec<usize> = prompts.iter().map(first_read).collect();
        let mut found = vec![vec![f64::NAN; n_read]; spec.n_heads_total()];

        let options = Options { memory: machine.memory(options) };
        let limits = machine.limits(&[], plan::longest(prompts));
        for chunk in plan::chunks(prompts, &[], limits, options)? {
            let mut run = machine.embed(&chunk.base);
            let read: Vec<&[u32]> = chunk.prompts.iter().map(|&p| &prompts[p].read[..]).collect();
            for index in 0..spec.n_layers {
                machine.plain_layer(index, &chunk.base, &mut run);
                let of_layer = machine.attributions(index, &run, &chunk.base.ends()[..read.len()], &read);
                machine.status()?;
                for (found, head) in found[index * spec.n_heads..].iter_mut().zip(of_layer) {
                    let mut rest = &head[..];
                    for &prompt in &chunk.prompts {
                        let (own, others) = rest.split_at(prompts[prompt].read.len());
                        found[first_read[prompt]..][..own.len()].copy_from_slice(own);
                        rest = others;
                    }
                }
            }
            let resid = machine.plain_resid(&run);
            machine.status()?;
            for (&prompt, &end) in chunk.prompts.iter().zip(chunk.base.ends()) {
                let slopes = slopes(decoder, row(&resid, end, spec.d_model), &prompts[prompt].read);
                for (slope, at) in slopes.into_iter().zip(first_read[prompt]..) {
                    found.iter_mut().for_each(|head| head[at] *= slope);
                }
            }
        }
        Ok(found)
    }
}

/// What [`direct_attribution`] costs on a model of this shape, without running it.
///
/// # Errors
/// As [`direct_attribution`].
pub fn direct_attribution_cost(
    spec: &ModelSpec,
    prompts: &[Prompt],
    options: Options,
) -> Result<Cost, EngineError> {
    let mut total = cost(spec, prompts, &[], options)?;
    if spec.norm == NormPlacement::Post {
        return Ok(Cost::default());
    }
    let products = if spec.norm.has_branch_norm() { 2 } else { 1 };
    total.dense += (2 * products * spec.n_layers * spec.d_attn() * spec.d_model * prompts.len()) as f64;
    Ok(total)
}

/// For each token of `read`, the index of its prompt, and the gradient of its logit with respect to the last residual stream, up to
/// the final norm's scale.
pub(crate) fn directions(decoder: &Decoder, read: &[&[u32]]) -> Vec<(usize, Vec<f64>)> {
    let tokens =
        read.iter().copied().enumerate().flat_map(|(i, of_prompt)| of_prompt.iter().map(move |&t| (i, t)));
    tokens.map(|(i, token)| (i, unembed_direction(decoder, token))).collect()
}

/// The gradient of a token's logit with respect to the last residual stream, up to the final norm's scale. `[d_model]`
fn unembed_direction(decoder: &Decoder, token: u32) -> Vec<f64> {
    let (spec, weights) = (decoder.spec(), decoder.weights());
    let unembed = weights.unembed().row(token as usize, spec.d_embed);
    let unembed = unembed.iter().map(|&w| f64::from(w));
    let mut direction: Vec<f64> = match &weights.project_out {
        None => unembed.collect(),
        Some(project) => {
            let unembed: Vec<f64> = unembed.collect();
            let product = |i| (0..).zip(&unembed).map(|(j, u)| f64::from(project.weight.get(i, j)) * u).sum();
            (0..spec.d_model).map(product).collect()
        }
    };
    if spec.final_norm {
        before_norm(spec.norm_kind, weights.ln_final.weight.as_deref(), &mut direction);
    }
    direction
}

/// Pulls a direction after a norm of this kind and gain back to before it, without the norm's scale: the transpose of gain and
/// centring.
pub(crate) fn before_norm(kind: NormKind, gain: Option<&[f32]>, direction: &mut [f64]) {
    if let Some(gain) = gain {
        let one = if kind == NormKind::RmsOnePlus { 1.0 } else { 0.0 };
        direction.iter_mut().zip(gain).for_each(|(d, &w)| *d *= one + f64::from(w));
    }
    if kind == NormKind::Layer {
        let mean = direction.iter().sum::<f64>() / direction.len() as f64;
        direction.iter_mut().for_each(|d| *d -= mean);
    }
}

/// A norm's scale of a row: `1 / √(var + ε)`, or with the mean square.
pub(crate) fn norm_scale(spec: &ModelSpec, x: &[f32]) -> f64 {
    let n = x.len() as f64;
    let mean = match spec.norm_kind {
        NormKind::Layer => x.iter().map(|&x| f64::from(x)).sum::<f64>() / n,
        NormKind::Rms | NormKind::RmsOnePlus => 0.0,
    };
    let square = x.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / n;
    1.0 / (square + f64::from(spec.norm_eps)).sqrt()
}

/// The factor of each token's direction: the final norm's scale of the last residual stream `x`, times the slope of the soft cap at
/// the plain run's logit.
fn slopes(decoder: &Decoder, x: &[f32], read: &[u32]) -> Vec<f64> {
    let spec = decoder.spec();
    let scale = if spec.final_norm { norm_scale(spec, x) } else { 1.0 };
    let Some(cap) = spec.logit_softcap.map(f64::from) else { return vec![scale; read.len()] };
    let mut logits = vec![0.0; read.len()];
    cpu::logits_of(decoder, &cpu::normed(decoder, x), read, &mut logits);
    logits.into_iter().map(|logit| scale * (1.0 - (logit / cap).powi(2))).collect()
}
