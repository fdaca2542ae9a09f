//! Random small decoders over all settings of [`ModelSpec`], and changes of their weights that cannot change a result.
#![allow(dead_code, reason = "each test that includes this uses a part of it")]

use cs_engine::Prompt;
use cs_engine::decoder::Decoder;
use cs_engine::intervention::{Branch, Edit, Replacement, Stream};
use cs_engine::weights::{LayerWeights, Linear, Mlp, Norm, Weights};
use cs_kernels::PackedMatrix;
use cs_model::spec::{
    Activation, BlockLayout, ModelSpec, NormKind, NormPlacement, Positions, QkNorm, Rotary,
    RotaryFrequencies, RotaryPairing, RotaryScaling,
};
use proptest::prelude::*;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

pub const D_VOCAB: usize = 11;
pub const N_CTX: usize = 9;

/// A random model's parameters as plain matrices, from which decoders are built.
#[derive(Clone, Debug)]
pub struct Parts {
    pub spec: ModelSpec,
    embed: Vec<f32>,
    pos_embed: Vec<f32>,
    project: Option<[Matrix; 2]>, // in, out
    layers: Vec<Block>,
    ln_final: Gains,
    unembed: Option<Vec<f32>>,
    unembed_bias: Option<Vec<f32>>,
}

/// One block's parameters.
#[derive(Clone, Debug)]
struct Block {
    ln1: Gains,
    ln1_post: Gains,
    qkv: Matrix,
    qk_norm: Option<[Vec<f32>; 2]>,
    o: Matrix,
    ln2: Gains,
    ln2_post: Gains,
    mlp: Option<(Option<Matrix>, Matrix, Matrix)>, // gate, in, out
}

/// Gain and bias of a norm.
#[derive(Clone, Debug)]
struct Gains(Option<Vec<f32>>, Option<Vec<f32>>);

/// A linear layer, `w` row-major `[d_in, d_out]`.
#[derive(Clone, Debug)]
struct Matrix {
    w: Vec<f32>,
    b: Option<Vec<f32>>,
    d_in: usize,
}

impl Matrix {
    fn d_out(&self) -> usize {
        self.w.len() / self.d_in
    }

    fn linear(&self) -> Linear {
        Linear { weight: PackedMatrix::from_rows(&self.w, self.d_in, self.d_out()), bias: self.b.clone() }
    }

    /// Sets column `to` to `times` column `from` of another matrix.
    fn set_column(&mut self, to: usize, other: &Self, from: usize, times: f32) {
        let (d_in, d_out) = (self.d_in, self.d_out());
        (0..d_in).for_each(|row| self.w[row * d_out + to] = times * other.w[row * d_out + from]);
        if let (Some(b), Some(other)) = (&mut self.b, &other.b) {
            b[to] = times * other[from];
        }
    }

    /// Sets row `to` to `times` row `from` of another matrix.
    fn set_row(&mut self, to: usize, other: &Self, from: usize, times: f32) {
        let width = self.d_out();
        (0..width).for_each(|column| self.w[to * width + column] = times * other.w[from * width + column]);
    }
}

impl Gains {
    fn norm(&self) -> Norm {
        Norm { weight: self.0.clone(), bias: self.1.clone() }
    }
}

/// Draws numbers and settings.
struct Draw(ChaCha8Rng);

impl Draw {
    fn below(&mut self, n: usize) -> usize {
        self.0.next_u32() as usize % n
    }

    fn coin(&mut self) -> bool {
        self.below(2) == 0
    }

    fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())].clone()
    }

    fn vector(&mut self, n: usize, mean: f32, sd: f32) -> Vec<f32> {
        // A sum of three uniform numbers is close enough to normal.
        let mut uniform = || f64::from(self.0.next_u32()) / 2f64.powi(31) - 1.0;
        (0..n).map(|_| mean + sd * (uniform() + uniform() + uniform()) as f32).collect()
    }

    fn matrix(&mut self, d_in: usize, d_out: usize, sd: f32, bias: bool) -> Matrix {
        Matrix { w: self.vector(d_in * d_out, 0.0, sd), b: bias.then(|| self.vector(d_out, 0.0, 0.3)), d_in }
    }

    fn gain(&mut self, spec: &ModelSpec, n: usize) -> Vec<f32> {
        self.vector(n, if spec.norm_kind == NormKind::RmsOnePlus { 0.0 } else { 1.0 }, 0.3)
    }

    fn norm(&mut self, spec: &ModelSpec) -> Gains {
        let n = spec.d_model;
        match spec.norm_kind {
            NormKind::Layer if self.below(4) == 0 => Gains(None, None),
            NormKind::Layer => Gains(Some(self.gain(spec, n)), Some(self.vector(n, 0.0, 0.3))),
            NormKind::Rms | NormKind::RmsOnePlus => Gains(Some(self.gain(spec, n)), None),
        }
    }

    fn rotary(&mut self, n_layers: usize, d_head: usize) -> Rotary {
        let n_dims = self.pick(&[2, 4, d_head]);
        let set = |draw: &mut Self| RotaryFrequencies {
            base: draw.pick(&[30.0, 100.0]),
            scaling: draw.pick(&[
                RotaryScaling::None,
                RotaryScaling::Linear { factor: 3.0 },
                RotaryScaling::Yarn {
                    factor: 4.0,
                    attention_factor: 1.2,
                    beta_fast: 2.0,
                    beta_slow: 0.5,
                    original_n_ctx: 12,
                    truncate: true,
                },
                RotaryScaling::Yarn {
                    factor: 4.0,
                    attention_factor: 1.2,
                    beta_fast: 2.0,
                    beta_slow: 0.5,
                    original_n_ctx: 12,
                    truncate: false,
                },
                RotaryScaling::Llama3 {
                    factor: 4.0,
                    low_freq_factor: 1.0,
                    high_freq_factor: 3.0,
                    original_n_ctx: 12,
                },
                RotaryScaling::LongRope {
                    short_factor: vec![1.0, 1.5, 2.5][..n_dims / 2].to_vec(),
                    attention_factor: 0.9,
                },
            ]),
        };
        let frequencies: Vec<RotaryFrequencies> = (0..1 + self.below(2)).map(|_| set(self)).collect();
        let of_layer = (0..n_layers).map(|_| self.below(frequencies.len())).collect();
        let pairing = self.pick(&[RotaryPairing::Halves, RotaryPairing::Interleaved]);
        Rotary { n_dims, pairing, frequencies, of_layer }
    }

    fn spec(&mut self) -> ModelSpec {
        let (n_layers, d_head, d_model) = (3, 6, 10);
        let (n_heads, n_kv_heads) = self.pick(&[(3, 3), (4, 2), (3, 1), (4, 4)]);
        let block =
            self.pick(&[BlockLayout::Sequential, BlockLayout::Parallel, BlockLayout::ParallelOneNorm]);
        use NormPlacement::{Branch, Post, Pre, PreAndBranch};
        let norm = if block.is_parallel() { Pre } else { self.pick(&[Pre, Post, Branch, PreAndBranch]) };
        let positions = match self.coin() {
            true => Positions::Rotary(self.rotary(n_layers, d_head)),
            false => Positions::Learned { offset: self.pick(&[0, 2]) },
        };
        let window = self.pick(&[None, Some(1), Some(2), Some(4)]);
        let d_mlp = self.pick(&[13, 13, 13, 0]);
        let tied_unembed = self.coin();
        ModelSpec {
            n_layers,
            n_heads,
            n_kv_heads,
            d_model,
            d_head,
            d_mlp,
            d_vocab: D_VOCAB,
            d_embed: self.pick(&[d_model, d_model, 7]),
            n_ctx: N_CTX,
            embed_scale: self.pick(&[None, Some(1.7)]),
            positions,
            block,
            norm_kind: self.pick(&[NormKind::Layer, NormKind::Rms, NormKind::RmsOnePlus]),
            norm,
            norm_eps: self.pick(&[1e-6, 1e-5, 1e-2]),
            qk_norm: self.pick(&[QkNorm::None, QkNorm::PerHead, QkNorm::AllHeads]),
            final_norm: self.below(4) > 0,
            activation: self.pick(&[
                Activation::GeluErf,
                Activation::GeluTanh,
                Activation::Relu,
                Activation::Silu,
            ]),
            gated_mlp: d_mlp > 0 && self.coin(),
            attn_scale: vec![0.4, 0.3, 0.5],
            attn_softcap: self.pick(&[None, Some(1.5)]),
            windows: vec![None, window, None],
            logit_softcap: self.pick(&[None, Some(8.0)]),
            tied_unembed,
        }
    }
}

impl Parts {
    /// A model with settings and weights determined by `seed`.
    pub fn random(seed: u64) -> Self {
        let mut draw = Draw(ChaCha8Rng::seed_from_u64(seed));
        let spec = draw.spec();
        let ModelSpec { d_model, d_mlp, d_embed, .. } = spec;
        let (d_attn, d_kv) = (spec.d_attn(), spec.d_kv());
        let [qkv_bias, o_bias, mlp_bias] = std::array::from_fn(|_| draw.coin());
        let block = |draw: &mut Draw| Block {
            ln1: draw.norm(&spec),
            ln1_post: draw.norm(&spec),
            qkv: draw.matrix(d_model, d_attn + 2 * d_kv, 0.5, qkv_bias),
            qk_norm: match spec.qk_norm {
                QkNorm::None => None,
                QkNorm::PerHead => Some([spec.d_head, spec.d_head].map(|n| draw.gain(&spec, n))),
                QkNorm::AllHeads => Some([d_attn, d_kv].map(|n| draw.gain(&spec, n))),
            },
            o: draw.matrix(d_attn, d_model, 0.3, o_bias),
            ln2: draw.norm(&spec),
            ln2_post: draw.norm(&spec),
            mlp: (d_mlp > 0).then(|| {
                let gate = spec.gated_mlp.then(|| draw.matrix(d_model, d_mlp, 0.4, mlp_bias));
                let w_in = draw.matrix(d_model, d_mlp, 0.4, mlp_bias);
                (gate, w_in, draw.matrix(d_mlp, d_model, 0.4, mlp_bias))
            }),
        };
        let layers = (0..spec.n_layers).map(|_| block(&mut draw)).collect();
        let project = (d_embed != d_model)
            .then(|| [draw.matrix(d_embed, d_model, 0.4, true), draw.matrix(d_model, d_embed, 0.4, false)]);
        let n_positions = match spec.positions {
            Positions::Learned { offset } => N_CTX + offset,
            Positions::Rotary(_) => 0,
        };
        Self {
            embed: draw.vector(D_VOCAB * d_embed, 0.0, 1.0),
            pos_embed: draw.vector(n_positions * d_model, 0.0, 0.5),
            project,
            layers,
            ln_final: draw.norm(&spec),
            unembed: (!spec.tied_unembed).then(|| draw.vector(D_VOCAB * d_embed, 0.0, 1.0)),
            unembed_bias: draw.coin().then(|| draw.vector(D_VOCAB, 0.0, 0.5)),
            spec,
        }
    }

    pub fn decoder(&self) -> Decoder {
        let on_branch = |gains: &Gains| self.spec.norm.has_branch_norm().then(|| gains.norm());
        let qk_gain = |block: &Block, i: usize| block.qk_norm.as_ref().map(|gains| gains[i].clone());
        let layers = self.layers.iter().map(|block| LayerWeights {
            ln1: block.ln1.norm(),
            ln1_post: on_branch(&block.ln1_post),
            w_qkv: block.qkv.linear(),
            q_norm: qk_gain(block, 0),
            k_norm: qk_gain(block, 1),
            w_o: block.o.linear(),
            ln2: block.ln2.norm(),
            ln2_post: on_branch(&block.ln2_post),
            mlp: block.mlp.as_ref().map(|(gate, w_in, w_out)| Mlp {
                w_gate: gate.as_ref().map(Matrix::linear),
                w_in: w_in.linear(),
                w_out: w_out.linear(),
            }),
        });
        let project = |i: usize| self.project.as_ref().map(|project| project[i].linear());
        let weights = Weights {
            embed: self.embed.clone().into(),
            pos_embed: self.pos_embed.clone(),
            project_in: project(0),
            layers: layers.collect(),
            ln_final: self.ln_final.norm(),
            project_out: project(1),
            unembed: self.unembed.clone().map(Into::into),
            unembed_bias: self.unembed_bias.clone(),
        };
        Decoder::new(self.spec.clone(), weights)
    }

    /// The first columns of a query head's queries, keys and values in `W_QKV`.
    fn columns(&self, head: usize) -> [usize; 3] {
        let (d_head, d_attn, d_kv) = (self.spec.d_head, self.spec.d_attn(), self.spec.d_kv());
        let of_group = head / self.spec.group_size() * d_head;
        [head * d_head, d_attn + of_group, d_attn + d_kv + of_group]
    }

    /// An order of heads that keeps groups together: groups backwards, and each group's heads backwards.
    pub fn another_order(&self) -> Vec<usize> {
        (0..self.spec.n_heads).rev().collect()
    }

    /// The same model with its heads in another order: new head `h` is old head `order[h]`.
    pub fn with_heads_permuted(&self, order: &[usize]) -> Self {
        let mut new = self.clone();
        let (d_head, group_size) = (self.spec.d_head, self.spec.group_size());
        for (new, old) in new.layers.iter_mut().zip(&self.layers) {
            for (to, &from) in order.iter().enumerate() {
                for (to, from) in self.columns(to).into_iter().zip(self.columns(from)) {
                    (0..d_head).for_each(|i| new.qkv.set_column(to + i, &old.qkv, from + i, 1.0));
                }
                (0..d_head).for_each(|i| new.o.set_row(to * d_head + i, &old.o, from * d_head + i, 1.0));
                if self.spec.qk_norm != QkNorm::AllHeads {
                    continue;
                }
                let (Some(new), Some(old)) = (&mut new.qk_norm, &old.qk_norm) else { continue };
                for (i, heads) in [1, group_size].into_iter().enumerate() {
                    let (to, from) = (to / heads * d_head, from / heads * d_head);
                    new[i][to..to + d_head].copy_from_slice(&old[i][from..from + d_head]);
                }
            }
        }
        new
    }

    /// Scales the values that a head reads by `c`, and by `1 / c` the output matrices of all heads that read them.
    pub fn with_values_scaled(&self, layer: usize, head: usize, c: f32) -> Self {
        let mut new = self.clone();
        let (d_head, values) = (self.spec.d_head, self.columns(head)[2]);
        let (block, old) = (&mut new.layers[layer], &self.layers[layer]);
        (values..values + d_head).for_each(|i| block.qkv.set_column(i, &old.qkv, i, c));
        for other in (0..self.spec.n_heads).filter(|&h| self.columns(h)[2] == values) {
            let rows = other * d_head..(other + 1) * d_head;
            rows.for_each(|i| block.o.set_row(i, &old.o, i, 1.0 / c));
        }
        new
    }

    pub fn with_no_output(&self, layer: usize, head: usize) -> Self {
        let mut new = self.clone();
        let (d_head, d_model) = (self.spec.d_head, self.spec.d_model);
        new.layers[layer].o.w[head * d_head * d_model..(head + 1) * d_head * d_model].fill(0.0);
        new
    }
}

/// A model of any settings.
pub fn any_model() -> impl Strategy<Value = Parts> {
    any::<u64>().prop_map(Parts::random)
}

/// Prompts over a tiny vocabulary, so that they share prefixes; each with a source of its length.
pub fn any_prompts() -> impl Strategy<Value = Vec<Prompt>> {
    let token = 0u32..4;
    let tokens = prop::collection::vec((token.clone(), token), 1..N_CTX);
    let prompt = tokens.prop_map(|pairs| {
        let (tokens, source): (Vec<u32>, Vec<u32>) = pairs.into_iter().unzip();
        let (group, read) = (tokens.len() as u32, (0..D_VOCAB as u32).collect());
        Prompt { tokens, source: Some(source), group, weight: 1.0, references: None, read }
    });
    prop::collection::vec(prompt, 1..7)
}

/// The number of kinds of edits: see [`any_edits`].
pub const N_KINDS: usize = KINDS.len();

/// Each stream with its valid replacements.
const KINDS: [(Stream, Replacement); 12] = [
    (Stream::Z, Replacement::Zero),
    (Stream::Z, Replacement::ValueBias),
    (Stream::Z, Replacement::GroupMean),
    (Stream::Z, Replacement::Source),
    (Stream::V, Replacement::ValueBias),
    (Stream::V, Replacement::Zero),
    (Stream::V, Replacement::Source),
    (Stream::K, Replacement::Source),
    (Stream::Q, Replacement::Source),
    (Stream::Q, Replacement::Zero),
    (Stream::Pattern, Replacement::Source),
    (Stream::Pattern, Replacement::Zero),
];

/// Edits given as layer, head and kind (below [`N_KINDS`]); only the first edit of a stream counts.
pub fn any_edits(set: &[(usize, usize, usize)]) -> Branch {
    let mut edits: Vec<Edit> = vec![];
    for &(layer, head, kind) in set {
        let (stream, replacement) = KINDS[kind];
        if !edits.iter().any(|e| (e.layer, e.head, e.stream) == (layer, head, stream)) {
            edits.push(Edit { layer, head, stream, replacement });
        }
    }
    Branch::new(edits)
}
