//! Direct logit attribution: what each head's output adds to a logit by itself, in the plain run.
//!
//! At a prompt's last token, with `x` the residual stream after the last block:
//!
//! ```text
//! o_h = (z_h − c_h) W_O^h                        [d_model]; c_h: Decoder::value_bias
//! o_h = o_h through the branch's norm            where attention's output passes one (OLMo 2, Gemma 2 and 3)
//! a_h = s · o_h through the final norm · W_U     one number for each token read
//! ```
//!
//! A norm that is gone through has its scale frozen at the plain run's value, `1 / √(var + ε)` of `x`, or of the whole
//! branch's output, and lends no bias: it is linear, so heads' attributions add up. Where logits are capped, `s` is the slope of the cap at
//! the plain run's logit, `1 − (logit / cap)²`; elsewhere it is 1. Later blocks do not see what is added.
//!
//! Norms that stand on the residual stream itself (post-norm) rescale all that came before at every block; there is no such
//! path then, and no attribution.

use cs_kernels::{Init, MatMut, MatRef, matmul};
use cs_model::spec::{ModelSpec, NormKind, NormPlacement};
use rayon::prelude::*;

use crate::block::Join;
use crate::cost::{Cost, cost};
use crate::decoder::Decoder;
use crate::error::EngineError;
use crate::machine::cpu::{self, Layer};
use crate::machine::place::{Job, carry_out};
use crate::machine::{Machine, row};
use crate::plan;
use crate::request::{Options, Prompt};
use crate::weights::Norm;

/// Prompts per unit of parallel work: `W_O` is read once for as many.
const PROMPTS_AT_ONCE: usize = 32;

/// What every head adds to the logits of each prompt's [`Prompt::read`] tokens by itself: `[n_heads_total]` of `[sum of read lengths]`,
/// heads in order of layer, tokens in order of prompt. `None` for post-norm models (see the module).
///
/// It takes one plain run, and a product with `W_O` at the prompts' last tokens. Neither threads nor memory change a bit.
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

/// What is asked of the machine.
struct Attribution<'a> {
    decoder: &'a Decoder,
    prompts: &'a [Prompt],
    options: Options,
}

impl Job for Attribution<'_> {
    type Output = Result<Vec<Vec<f64>>, EngineError>;

    fn run<M: Machine>(self, machine: &mut M) -> Self::Output {
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
            let tiles = || {
                chunk.prompts.par_chunks(PROMPTS_AT_ONCE).zip(chunk.base.ends().par_chunks(PROMPTS_AT_ONCE))
            };
            for index in 0..spec.n_layers {
                let layer = Layer { decoder, index };
                machine.plain_layer(index, &chunk.base, &mut run);
                let z = machine.plain_z(&run);
                machine.status()?;
                let of_tile = |(tile, ends): (&[usize], &[u32])| {
                    let read: Vec<&[u32]> = tile.iter().map(|&p| &prompts[p].read[..]).collect();
                    of_layer(layer, &z, ends, &read)
                };
                let of_tiles: Vec<Vec<Vec<f64>>> = tiles().map(of_tile).collect();
                for (tile, heads) in chunk.prompts.chunks(PROMPTS_AT_ONCE).zip(of_tiles) {
                    for (found, head) in found[index * spec.n_heads..].iter_mut().zip(heads) {
                        let mut rest = &head[..];
                        for &prompt in tile {
                            let (own, others) = rest.split_at(prompts[prompt].read.len());
                            found[first_read[prompt]..][..own.len()].copy_from_slice(own);
                            rest = others;
                        }
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

/// The attributions of one layer's heads at some prompts' ends, but for the final norm's scale and the cap: `[n_heads]` of
/// `[tokens read, prompt after prompt]`.
fn of_layer(layer: Layer<'_>, z: &[f32], ends: &[u32], read: &[&[u32]]) -> Vec<Vec<f64>> {
    let (spec, w_o) = (layer.spec(), &layer.weights().w_o);
    let (n, d_model, d_attn, d_head) = (ends.len(), spec.d_model, spec.d_attn(), spec.d_head);
    let tokens =
        read.iter().copied().enumerate().flat_map(|(i, of_prompt)| of_prompt.iter().map(move |&t| (i, t)));
    // For each token read, its prompt's place and the direction of `o_h` that it reads.
    let mut directions: Vec<(usize, Vec<f64>)> =
        tokens.map(|(i, token)| (i, unembed_direction(layer.decoder, token))).collect();
    let z = |i: usize| row(z, ends[i], d_attn);
    let mut out = vec![0.0; n * d_model];
    if let Join::AddNormed(norm) = layer.steps().attn_out {
        let z: Vec<f32> = (0..n).flat_map(z).copied().collect();
        let init = w_o.bias.as_deref().map_or(Init::Zero, Init::Bias);
        let w_o = w_o.weight.block(0..d_attn, 0..d_model);
        matmul(MatRef::new(&z, n, d_attn), w_o, MatMut::new(&mut out, n, d_model), init);
        for (i, direction) in &mut directions {
            before_norm(spec, norm, direction);
            let scale = norm_scale(spec, row(&out, *i as u32, d_model));
            direction.iter_mut().for_each(|x| *x *= scale);
        }
    }
    let constant = layer.decoder.value_bias(layer.index);
    let of_head = |head: usize| {
        let columns = head * d_head..(head + 1) * d_head;
        let own = |i| z(i)[columns.clone()].iter().zip(&constant[columns.clone()]).map(|(z, c)| z - c);
        let own: Vec<f32> = (0..n).flat_map(own).collect();
        let w_o = w_o.weight.block(columns.clone(), 0..d_model);
        matmul(MatRef::new(&own, n, d_head), w_o, MatMut::new(&mut out, n, d_model), Init::Zero);
        let along = |(i, direction): &(usize, Vec<f64>)| {
            row(&out, *i as u32, d_model).iter().zip(direction).map(|(&o, d)| f64::from(o) * d).sum()
        };
        directions.iter().map(along).collect()
    };
    (0..spec.n_heads).map(of_head).collect()
}

/// The direction in the last residual stream that a token's logit grows along, but for the final norm's scale. `[d_model]`
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
        before_norm(spec, &weights.ln_final, &mut direction);
    }
    direction
}

/// The direction before a norm, its scale left out, for one after it: what its gain and centring do to products with it.
fn before_norm(spec: &ModelSpec, norm: &Norm, direction: &mut [f64]) {
    if let Some(gain) = &norm.weight {
        let one = if spec.norm_kind == NormKind::RmsOnePlus { 1.0 } else { 0.0 };
        direction.iter_mut().zip(gain).for_each(|(d, &w)| *d *= one + f64::from(w));
    }
    if spec.norm_kind == NormKind::Layer {
        let mean = direction.iter().sum::<f64>() / direction.len() as f64;
        direction.iter_mut().for_each(|d| *d -= mean);
    }
}

/// What a norm multiplies a row by: `1 / √(var + ε)`, or of the mean square.
fn norm_scale(spec: &ModelSpec, x: &[f32]) -> f64 {
    let n = x.len() as f64;
    let mean = match spec.norm_kind {
        NormKind::Layer => x.iter().map(|&x| f64::from(x)).sum::<f64>() / n,
        NormKind::Rms | NormKind::RmsOnePlus => 0.0,
    };
    let square = x.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / n;
    1.0 / (square + f64::from(spec.norm_eps)).sqrt()
}

/// For each token read, what its logit is multiplied by after the last residual stream `x`: the final norm's scale, and the slope of
/// the cap at the plain run's logit.
fn slopes(decoder: &Decoder, x: &[f32], read: &[u32]) -> Vec<f64> {
    let spec = decoder.spec();
    let scale = if spec.final_norm { norm_scale(spec, x) } else { 1.0 };
    let Some(cap) = spec.logit_softcap.map(f64::from) else { return vec![scale; read.len()] };
    let mut logits = vec![0.0; read.len()];
    cpu::logits_of(decoder, &cpu::normed(decoder, x), read, &mut logits);
    logits.into_iter().map(|logit| scale * (1.0 - (logit / cap).powi(2))).collect()
}
