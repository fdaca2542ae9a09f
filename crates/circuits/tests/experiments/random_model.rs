//! Decoders with random weights, in the planted models' language.

use cs_engine::decoder::Decoder;
use cs_engine::weights::{LayerWeights, Linear, Mlp, Norm, Weights};
use cs_kernels::PackedMatrix;
use cs_model::spec::ModelSpec;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::planted::World;

/// Shape of a random model.
#[derive(Clone, Copy)]
pub struct Shape {
    pub n_layers: usize,
    pub n_heads: usize,
    pub d_model: usize,
}

/// A pre-norm decoder with random weights: no head has a function.
pub fn random_model(world: &World, shape: Shape, seed: u64) -> Decoder {
    let Shape { n_layers, n_heads, d_model } = shape;
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    // The sum of twelve uniform numbers is nearly normal.
    let mut normal = || (0..12).map(|_| f64::from(rng.next_u32()) / 2f64.powi(32)).sum::<f64>() - 6.0;
    let (d_mlp, n_ctx) = (4 * d_model, 16);
    let mut vector = |n: usize, sd: f64| (0..n).map(|_| (sd * normal()) as f32).collect::<Vec<f32>>();
    let by_width = 1.0 / (d_model as f64).sqrt();
    let mut linear = |d_in: usize, d_out: usize| Linear {
        weight: PackedMatrix::from_rows(&vector(d_in * d_out, 1.0 / (d_in as f64).sqrt()), d_in, d_out),
        bias: Some(vector(d_out, 0.1)),
    };
    let layers = (0..n_layers)
        .map(|_| LayerWeights {
            ln1: Norm::default(),
            ln1_post: None,
            w_qkv: linear(d_model, 3 * d_model),
            q_norm: None,
            k_norm: None,
            w_o: linear(d_model, d_model),
            ln2: Norm::default(),
            ln2_post: None,
            mlp: Some(Mlp { w_gate: None, w_in: linear(d_model, d_mlp), w_out: linear(d_mlp, d_model) }),
        })
        .collect();
    let weights = Weights {
        embed: vector(world.d_vocab() * d_model, 1.0).into(),
        pos_embed: vector(n_ctx * d_model, 0.5),
        project_in: None,
        layers,
        ln_final: Norm::default(),
        project_out: None,
        unembed: Some(vector(world.d_vocab() * d_model, by_width).into()),
        unembed_bias: None,
    };
    let spec = ModelSpec {
        n_layers,
        n_heads,
        n_kv_heads: n_heads,
        d_model,
        d_head: d_model / n_heads,
        d_mlp,
        d_vocab: world.d_vocab(),
        d_embed: d_model,
        n_ctx,
        attn_scale: vec![1.0 / ((d_model / n_heads) as f32).sqrt(); n_layers],
        windows: vec![None; n_layers],
        tied_unembed: false,
        ..ModelSpec::default()
    };
    Decoder::new(spec, weights)
}
