//! A decoder's parameters on a device.

use std::ops::Range;

use cs_model::spec::{ModelSpec, NormKind, Positions, QkNorm};

use super::ops::{HeadsRule, NormWeights, Ops, Rotation};
use crate::block::{Block, Norms};
use crate::decoder::Decoder;
use crate::weights::{Linear, Mlp, Norm};

/// A linear layer on a device.
pub(super) struct LinearOn<O: Ops> {
    pub weight: O::Matrix,
    pub bias: Option<O::Floats>,
}

/// An MLP on a device.
pub(super) struct MlpOn<O: Ops> {
    pub gate: Option<LinearOn<O>>,
    pub w_in: LinearOn<O>,
    pub w_out: LinearOn<O>,
}

/// One block on a device.
pub(super) struct LayerOn<O: Ops> {
    ln1: NormWeights<O>,
    ln1_post: Option<NormWeights<O>>,
    ln2: NormWeights<O>,
    ln2_post: Option<NormWeights<O>>,
    pub w_qkv: LinearOn<O>,
    pub q_norm: Option<NormWeights<O>>,
    pub k_norm: Option<NormWeights<O>>,
    pub w_o: LinearOn<O>,
    pub mlp: Option<MlpOn<O>>,
    /// The constant part of each query head's values. `[d_attn]`
    pub value_bias: O::Floats,
}

impl<O: Ops> LayerOn<O> {
    /// The steps that the block consists of.
    pub fn steps(&self, spec: &ModelSpec) -> Block<'_, NormWeights<O>> {
        let Self { ln1, ln1_post, ln2, ln2_post, .. } = self;
        Block::with(spec, Norms { ln1, ln1_post, ln2, ln2_post })
    }
}

/// A device with a model's parameters on it.
pub(crate) struct ModelOn<O: Ops> {
    pub ops: O,
    pub(super) parameters: Parameters<O>,
}

/// All parameters that a device needs: embeddings stay with the processor, which embeds and picks the tokens to read.
pub(super) struct Parameters<O: Ops> {
    pub layers: Vec<LayerOn<O>>,
    pub ln_final: NormWeights<O>,
    pub project_out: Option<LinearOn<O>>,
    /// Cosines and sines, `[n_ctx, half]`, of each set of frequencies.
    rotary: Vec<(O::Floats, O::Floats)>,
}

impl<O: Ops> ModelOn<O> {
    /// Copies a decoder's parameters to a device.
    pub fn new(mut ops: O, decoder: &Decoder) -> Self {
        let (spec, weights) = (decoder.spec(), decoder.weights());
        let layers = (0..spec.n_layers).map(|layer| layer_on(&mut ops, decoder, layer)).collect();
        let ln_final = norm_on(&mut ops, spec, &weights.ln_final);
        let project_out = weights.project_out.as_ref().map(|linear| linear_on(&mut ops, linear));
        let rotary = rotary_on(&mut ops, decoder);
        Self { ops, parameters: Parameters { layers, ln_final, project_out, rotary } }
    }
}

impl<O: Ops> Parameters<O> {
    /// What becomes of a layer's queries (or keys) after their product. `position`: of each row of a run.
    pub fn heads_rule<'a>(
        &'a self,
        spec: &ModelSpec,
        layer: usize,
        is_key: bool,
        position: &'a O::Ints,
    ) -> HeadsRule<'a, O> {
        let of_layer = &self.layers[layer];
        let (turned, norm) =
            if is_key { (spec.d_kv(), &of_layer.k_norm) } else { (spec.d_attn(), &of_layer.q_norm) };
        let width = if spec.qk_norm == QkNorm::AllHeads { turned } else { spec.d_head };
        let rotary = match &spec.positions {
            Positions::Learned { .. } => None,
            Positions::Rotary(rotary) => {
                let (cos, sin) = &self.rotary[rotary.of_layer[layer]];
                let (pairing, half) = (rotary.pairing, rotary.n_dims / 2);
                Some(Rotation { pairing, half, cos, sin, position })
            }
        };
        HeadsRule { d_head: spec.d_head, turned, norm: norm.as_ref().map(|norm| (norm, width)), rotary }
    }
}

fn layer_on<O: Ops>(ops: &mut O, decoder: &Decoder, layer: usize) -> LayerOn<O> {
    let (spec, weights) = (decoder.spec(), &decoder.weights().layers[layer]);
    let mlp = |ops: &mut O, mlp: &Mlp| MlpOn {
        gate: mlp.w_gate.as_ref().map(|linear| linear_on(ops, linear)),
        w_in: linear_on(ops, &mlp.w_in),
        w_out: linear_on(ops, &mlp.w_out),
    };
    let gain = |gain: &Vec<f32>| Norm { weight: Some(gain.clone()), bias: None };
    let is_normed = spec.qk_norm != QkNorm::None;
    let (q_norm, k_norm) = (weights.q_norm.as_ref(), weights.k_norm.as_ref());
    LayerOn {
        ln1: norm_on(ops, spec, &weights.ln1),
        ln1_post: weights.ln1_post.as_ref().map(|norm| norm_on(ops, spec, norm)),
        ln2: norm_on(ops, spec, &weights.ln2),
        ln2_post: weights.ln2_post.as_ref().map(|norm| norm_on(ops, spec, norm)),
        w_qkv: linear_on(ops, &weights.w_qkv),
        q_norm: q_norm.filter(|_| is_normed).map(|w| norm_on(ops, spec, &gain(w))),
        k_norm: k_norm.filter(|_| is_normed).map(|w| norm_on(ops, spec, &gain(w))),
        w_o: linear_on(ops, &weights.w_o),
        mlp: weights.mlp.as_ref().map(|weights| mlp(ops, weights)),
        value_bias: ops.upload(decoder.value_bias(layer)),
    }
}

fn linear_on<O: Ops>(ops: &mut O, linear: &Linear) -> LinearOn<O> {
    let (d_in, d_out) = (linear.weight.k(), linear.weight.n());
    let mut fill = |rows: Range<usize>, out: &mut [f32]| {
        rows.zip(out.chunks_exact_mut(d_out)).for_each(|(row, out)| linear.weight.copy_row(row, out));
    };
    let weight = ops.matrix(d_in, d_out, &mut fill);
    LinearOn { weight, bias: linear.bias.as_ref().map(|bias| ops.upload(bias)) }
}

fn norm_on<O: Ops>(ops: &mut O, spec: &ModelSpec, norm: &Norm) -> NormWeights<O> {
    let one = if spec.norm_kind == NormKind::RmsOnePlus { 1.0 } else { 0.0 };
    let gain = norm.weight.as_ref().map(|gain| gain.iter().map(|w| one + w).collect::<Vec<f32>>());
    NormWeights {
        centred: spec.norm_kind == NormKind::Layer,
        eps: spec.norm_eps,
        gain: gain.map(|gain| ops.upload(&gain)),
        bias: norm.bias.as_ref().map(|bias| ops.upload(bias)),
    }
}

fn rotary_on<O: Ops>(ops: &mut O, decoder: &Decoder) -> Vec<(O::Floats, O::Floats)> {
    let Positions::Rotary(rotary) = &decoder.spec().positions else { return vec![] };
    let first_layer = |set| rotary.of_layer.iter().position(|&of| of == set);
    let tables = (0..rotary.frequencies.len()).map(|set| {
        let (mut cos, mut sin) = (vec![], vec![]);
        // A set that no layer uses needs no table.
        if let Some(layer) = first_layer(set) {
            for position in 0..decoder.spec().n_ctx {
                let (_, of_position_cos, of_position_sin) =
                    decoder.rotary(layer, position).expect("rotary positions");
                cos.extend_from_slice(of_position_cos);
                sin.extend_from_slice(of_position_sin);
            }
        }
        (ops.upload(&cos), ops.upload(&sin))
    });
    tables.collect()
}
