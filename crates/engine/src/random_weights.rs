//! Random weights, for the trial of a GPU and for timing models of a given shape.

use cs_kernels::PackedMatrix;
use cs_model::spec::{ModelSpec, NormKind, Positions, QkNorm};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use rayon::prelude::*;

use crate::weights::{LayerWeights, Linear, Mlp, Norm, Weights};

impl Weights {
    /// Deterministic random weights for a spec. `stored` rounds a number as a checkpoint would. Products preserve the magnitude
    /// of their inputs, and layers whose norm has a bias have biases too.
    #[must_use]
    pub fn random(spec: &ModelSpec, stored: fn(f32) -> f32) -> Self {
        let (d_model, d_embed) = (spec.d_model, spec.d_embed);
        let mut draw = Draw::new(0, spec, stored);
        let projects = d_model != d_embed;
        Self {
            embed: draw.vector(spec.d_vocab * d_embed).into(),
            pos_embed: match spec.positions {
                Positions::Learned { offset } => draw.vector((spec.n_ctx + offset) * d_model),
                Positions::Rotary(_) => vec![],
            },
            project_in: projects.then(|| draw.linear(d_embed, d_model)),
            layers: (0..spec.n_layers)
                .into_par_iter()
                .map(|l| Draw::new(1 + l as u64, spec, stored).layer())
                .collect(),
            ln_final: draw.norm(),
            project_out: projects.then(|| draw.linear(d_model, d_embed)),
            unembed: (!spec.tied_unembed).then(|| draw.vector(spec.d_vocab * d_embed).into()),
            unembed_bias: None,
        }
    }
}

/// Random numbers between -1 and 1, and parameters made from them.
struct Draw<'a> {
    random: ChaCha8Rng,
    spec: &'a ModelSpec,
    stored: fn(f32) -> f32,
}

impl<'a> Draw<'a> {
    fn new(stream: u64, spec: &'a ModelSpec, stored: fn(f32) -> f32) -> Self {
        Self { random: ChaCha8Rng::seed_from_u64(stream), spec, stored }
    }

    fn next(&mut self) -> f32 {
        (self.random.next_u32() >> 8) as f32 / (1u32 << 23) as f32 - 1.0
    }

    fn vector(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| (self.stored)(self.next())).collect()
    }

    fn has_biases(&self) -> bool {
        self.spec.norm_kind == NormKind::Layer
    }

    fn linear(&mut self, d_in: usize, d_out: usize) -> Linear {
        let size = 2.0 * (d_in as f32).powf(-0.5);
        let fill =
            |_: usize, row: &mut [f32]| row.iter_mut().for_each(|x| *x = (self.stored)(self.next() * size));
        let weight = PackedMatrix::pack_rows(d_in, d_out, fill);
        Linear { weight, bias: self.has_biases().then(|| self.vector(d_out)) }
    }

    /// Gains between 0.5 and 1.5, as stored.
    fn gain(&mut self, width: usize) -> Vec<f32> {
        let one = if self.spec.norm_kind == NormKind::RmsOnePlus { 0.0 } else { 1.0 };
        (0..width).map(|_| one + self.next() / 2.0).collect()
    }

    fn norm(&mut self) -> Norm {
        let d_model = self.spec.d_model;
        Norm { weight: Some(self.gain(d_model)), bias: self.has_biases().then(|| self.vector(d_model)) }
    }

    fn layer(mut self) -> LayerWeights {
        let spec = self.spec;
        let (d_model, d_attn, d_kv, d_mlp) = (spec.d_model, spec.d_attn(), spec.d_kv(), spec.d_mlp);
        let has_post = spec.norm.has_branch_norm();
        let (of_q, of_k) = match spec.qk_norm {
            QkNorm::None => (None, None),
            QkNorm::PerHead => (Some(spec.d_head), Some(spec.d_head)),
            QkNorm::AllHeads => (Some(d_attn), Some(d_kv)),
        };
        LayerWeights {
            ln1: self.norm(),
            ln1_post: has_post.then(|| self.norm()),
            w_qkv: self.linear(d_model, d_attn + 2 * d_kv),
            q_norm: of_q.map(|width| self.gain(width)),
            k_norm: of_k.map(|width| self.gain(width)),
            w_o: self.linear(d_attn, d_model),
            ln2: self.norm(),
            ln2_post: has_post.then(|| self.norm()),
            mlp: (d_mlp > 0).then(|| Mlp {
                w_gate: spec.gated_mlp.then(|| self.linear(d_model, d_mlp)),
                w_in: self.linear(d_model, d_mlp),
                w_out: self.linear(d_mlp, d_model),
            }),
        }
    }
}
