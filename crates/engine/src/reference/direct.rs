//! Direct logit attribution.

use super::maths::frozen_norm;
use super::{Edits, Model, Rows, Run};
use crate::decoder::Decoder;
use cs_model::spec::NormPlacement;

/// The direct contribution of each head's output to a token's logit at the last position of a plain run:
/// `[n_layers][n_heads]`.
///
/// `(z_h − c_h) W_O^h` passes through the norms with their scale in the run, and is projected onto the token's
/// unembedding; a soft cap contributes its slope at the run's logit. `None` for post-norm models.
pub fn direct_attribution(decoder: &Decoder, run: &Run, token: usize) -> Option<Rows> {
    let (spec, w) = (decoder.spec(), decoder.weights());
    if spec.norm == NormPlacement::Post {
        return None;
    }
    let model = Model { spec, weights: w, edits: Edits::default() };
    let resid = run.layers.last()?.resid_post.last()?;
    let slope = match spec.logit_softcap {
        None => 1.0,
        Some(cap) => 1.0 - (run.logits.last()?[token] / f64::from(cap)).powi(2),
    };
    let logit = |mut x: Vec<f64>| -> f64 {
        if spec.final_norm {
            x = frozen_norm(spec, &w.ln_final, resid, &x);
        }
        if let Some(project) = &w.project_out {
            let (d_in, d_out) = (project.weight.k(), project.weight.n());
            let product = |j| (0..d_in).map(|i| x[i] * f64::from(project.weight.get(i, j))).sum();
            x = (0..d_out).map(product).collect();
        }
        let unembed = w.unembed().row(token, spec.d_embed);
        slope * x.iter().zip(&unembed[..]).map(|(x, &u)| x * f64::from(u)).sum::<f64>()
    };
    let head = |layer: usize, head: usize| {
        let (of_layer, heads) = (&w.layers[layer], &run.layers[layer].heads);
        let z = heads[head].z.last().expect("a token");
        let own: Vec<f64> = z.iter().zip(model.value_bias(layer, head)).map(|(z, c)| z - c).collect();
        let first = head * spec.d_head;
        let output = |j| {
            let product = |(i, z): (usize, &f64)| z * f64::from(of_layer.w_o.weight.get(first + i, j));
            own.iter().enumerate().map(product).sum()
        };
        let output: Vec<f64> = (0..spec.d_model).map(output).collect();
        logit(match &of_layer.ln1_post {
            None => output,
            Some(norm) => {
                let of_all = model.attention_output(of_layer, heads).pop().expect("a token");
                frozen_norm(spec, norm, &of_all, &output)
            }
        })
    };
    let layer = |layer| (0..spec.n_heads).map(|h| head(layer, h)).collect();
    Some((0..spec.n_layers).map(layer).collect())
}
