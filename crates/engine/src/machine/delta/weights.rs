//! A decoder's parameters on a device.

use std::ops::Deref;

use cs_model::spec::{ModelSpec, NormKind, Positions, QkNorm};

use super::blocks::Blocks;
use super::filling::Arriving;
use super::ops::{HeadsRule, NormWeights, Ops, Rotation};
use crate::block::{Block, Norms};
use crate::rotary::RotaryTable;
use crate::weights::Norm;

/// A device with a model's parameters on it.
pub(crate) struct ModelOn<O: Ops> {
    pub ops: O,
    pub(super) parameters: Parameters<O>,
}

/// All parameters that a device needs: embeddings stay on the host, which embeds tokens and looks up the unembedding
/// of the tokens to read.
pub(super) struct Parameters<O: Ops> {
    pub layers: Vec<LayerOn<O>>,
    pub blocks: Blocks<O>,
    pub ln_final: NormWeights<O>,
    pub project_out: Option<(O::Matrix, Option<O::Floats>)>,
    /// Cosines and sines, `[n_ctx, half]`, per set of frequencies.
    pub rotary: Vec<(O::Floats, O::Floats)>,
}

/// One block's parameters without its matrices.
pub(super) struct LayerOn<O: Ops> {
    ln1: NormWeights<O>,
    ln1_post: Option<NormWeights<O>>,
    ln2: NormWeights<O>,
    ln2_post: Option<NormWeights<O>>,
    q_norm: Option<NormWeights<O>>,
    k_norm: Option<NormWeights<O>>,
    /// Biases, in order of the matrices.
    biases: Vec<Option<O::Floats>>,
    /// The input-independent part of each query head's values. `[d_attn]`
    pub value_bias: O::Floats,
}

/// A linear layer of a block.
pub(super) struct LinearRef<'a, O: Ops> {
    pub weight: &'a O::Matrix,
    pub bias: Option<&'a O::Floats>,
}

/// An MLP of a block.
pub(super) struct MlpRef<'a, O: Ops> {
    pub gate: Option<LinearRef<'a, O>>,
    pub w_in: LinearRef<'a, O>,
    pub w_out: LinearRef<'a, O>,
}

/// One block with its matrices.
pub(super) struct LayerRef<'a, O: Ops> {
    layer: &'a LayerOn<O>,
    pub w_qkv: LinearRef<'a, O>,
    pub w_o: LinearRef<'a, O>,
    pub mlp: Option<MlpRef<'a, O>>,
}

impl<O: Ops> Deref for LayerRef<'_, O> {
    type Target = LayerOn<O>;

    fn deref(&self) -> &LayerOn<O> {
        self.layer
    }
}

impl<O: Ops> LayerOn<O> {
    /// The steps of the block.
    pub fn steps(&self, spec: &ModelSpec) -> Block<'_, NormWeights<O>> {
        let Self { ln1, ln1_post, ln2, ln2_post, .. } = self;
        Block::with(spec, Norms { ln1, ln1_post, ln2, ln2_post })
    }

    /// Copies an arriving block's small parameters.
    pub fn new(ops: &mut O, spec: &ModelSpec, arriving: &Arriving) -> Self {
        let small = &arriving.small;
        let optional = |ops: &mut O, norm: &Option<Norm>| norm.as_ref().map(|norm| norm_on(ops, spec, norm));
        let gain = |ops: &mut O, gain: &Option<Vec<f32>>| {
            let gain = gain.as_ref().filter(|_| spec.qk_norm != QkNorm::None);
            gain.map(|gain| norm_on(ops, spec, &Norm { weight: Some(gain.clone()), bias: None }))
        };
        Self {
            ln1: norm_on(ops, spec, &small.ln1),
            ln1_post: optional(ops, &small.ln1_post),
            ln2: norm_on(ops, spec, &small.ln2),
            ln2_post: optional(ops, &small.ln2_post),
            q_norm: gain(ops, &small.q_norm),
            k_norm: gain(ops, &small.k_norm),
            biases: small.linears().map(|linear| linear.bias.as_ref().map(|bias| ops.upload(bias))).collect(),
            value_bias: ops.upload(&arriving.value_bias),
        }
    }
}

impl<O: Ops> Parameters<O> {
    /// Makes a block's matrices available, and starts copying those of the next.
    pub fn fetch(&mut self, ops: &mut O, layer: usize) {
        self.blocks.fetch(ops, layer);
    }

    /// A fetched block.
    pub fn layer(&self, index: usize) -> LayerRef<'_, O> {
        let (layer, matrices) = (&self.layers[index], self.blocks.at(index));
        let linear = |at: usize| LinearRef { weight: &matrices[at], bias: layer.biases[at].as_ref() };
        let mlp = match matrices.len() {
            2 => None,
            4 => Some(MlpRef { gate: None, w_in: linear(2), w_out: linear(3) }),
            _ => Some(MlpRef { gate: Some(linear(2)), w_in: linear(3), w_out: linear(4) }),
        };
        LayerRef { layer, w_qkv: linear(0), w_o: linear(1), mlp }
    }

    /// The norm and rotation of a layer's queries (or keys) after their product. `position`: the position of
    /// each row of a run.
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

pub(super) fn norm_on<O: Ops>(ops: &mut O, spec: &ModelSpec, norm: &Norm) -> NormWeights<O> {
    let one = if spec.norm_kind == NormKind::RmsOnePlus { 1.0 } else { 0.0 };
    let gain = norm.weight.as_ref().map(|gain| gain.iter().map(|w| one + w).collect::<Vec<f32>>());
    NormWeights {
        centred: spec.norm_kind == NormKind::Layer,
        eps: spec.norm_eps,
        gain: gain.map(|gain| ops.upload(&gain)),
        bias: norm.bias.as_ref().map(|bias| ops.upload(bias)),
    }
}

pub(super) fn rotary_on<O: Ops>(
    ops: &mut O,
    spec: &ModelSpec,
    tables: &[RotaryTable],
) -> Vec<(O::Floats, O::Floats)> {
    let Positions::Rotary(rotary) = &spec.positions else { return vec![] };
    let table = |(set, table): (usize, &RotaryTable)| {
        let (mut cos, mut sin) = (vec![], vec![]);
        // Sets that no layer uses need no table.
        if rotary.of_layer.contains(&set) {
            for position in 0..spec.n_ctx {
                let (of_position_cos, of_position_sin) = table.at(position);
                cos.extend_from_slice(of_position_cos);
                sin.extend_from_slice(of_position_sin);
            }
        }
        (ops.upload(&cos), ops.upload(&sin))
    };
    tables.iter().enumerate().map(table).collect()
}
