//! A circuit's heads at random places of an attention-only model, among heads of weak noise.

use cs_engine::decoder::Decoder;
use cs_engine::weights::{LayerWeights, Linear, Norm, Weights};
use cs_kernels::PackedMatrix;
use cs_model::spec::ModelSpec;

use super::circuits::{LOGITS, Role, Wiring};
use super::features::{Basis, Feature, N_CTX};
use super::random::Random;
use super::world::World;

/// Layers of every planted model.
pub const N_LAYERS: usize = 4;
/// Heads per layer.
pub const N_HEADS: usize = 6;

/// Standard deviation of a noise head's entries of `W_Q` and `W_K`: its scores differ by about ±1, so that its
/// attention is spread out.
const NOISE_QK: f64 = 0.03;
/// Standard deviation of a noise head's entries of `W_V` and `W_O`: some thousandths of a logit.
const NOISE_OV: f64 = 0.005;

/// A role and its head.
pub struct Placed {
    /// The role.
    pub role: Role,
    /// Its layer.
    pub layer: usize,
    /// Its head within the layer.
    pub head: usize,
}

/// A model with a planted circuit.
pub struct Planted {
    /// The model.
    pub decoder: Decoder,
    /// The circuit; every other head is noise.
    pub heads: Vec<Placed>,
}

impl Planted {
    /// Puts `circuit` at random places, and draws the noise and the directions of the residual stream.
    pub fn new(world: &World, circuit: Vec<Role>, seed: u64) -> Self {
        let mut random = Random::new(seed);
        let heads = place(circuit, &mut random);
        let decoder = build(world, &heads, &mut random);
        Self { decoder, heads }
    }

    /// The head with a role.
    pub fn head(&self, role: &str) -> (usize, usize) {
        let placed =
            self.heads.iter().find(|placed| placed.role.name == role).expect("a role of the circuit");
        (placed.layer, placed.head)
    }

    /// The role of a head, if any.
    pub fn role(&self, layer: usize, head: usize) -> Option<&Role> {
        let placed = self.heads.iter().find(|placed| (placed.layer, placed.head) == (layer, head));
        placed.map(|placed| &placed.role)
    }
}

/// Uniform over all placements in which every role is in a later layer than those it reads from.
fn place(circuit: Vec<Role>, random: &mut Random) -> Vec<Placed> {
    let mut slots: Vec<(usize, usize)> =
        (0..N_LAYERS * N_HEADS).map(|i| (i / N_HEADS, i % N_HEADS)).collect();
    let layer_of = |slots: &[(usize, usize)], name: &str| {
        circuit
            .iter()
            .position(|role| role.name == name)
            .map(|at| slots[at].0)
            .expect("a role of the circuit")
    };
    loop {
        random.shuffle(&mut slots);
        let in_order = circuit
            .iter()
            .zip(&slots)
            .all(|(role, slot)| role.after.iter().all(|name| layer_of(&slots, name) < slot.0));
        if in_order {
            let placed =
                circuit.into_iter().zip(slots).map(|(role, (layer, head))| Placed { role, layer, head });
            return placed.collect();
        }
    }
}

fn build(world: &World, heads: &[Placed], random: &mut Random) -> Decoder {
    let basis = Basis::new(world, random);
    let d_model = basis.d_model();
    let widest = |wiring: &Wiring| wiring.attend.len().max(wiring.copy.len() + wiring.value_bias.len());
    let d_head =
        heads.iter().map(|placed| widest(&placed.role.wiring)).max().expect("a circuit of some heads");

    let mut layers: Vec<LayerBuilder> = (0..N_LAYERS).map(|_| LayerBuilder::new(d_model, d_head)).collect();
    for (layer, builder) in layers.iter_mut().enumerate() {
        for head in 0..N_HEADS {
            match heads.iter().find(|placed| (placed.layer, placed.head) == (layer, head)) {
                Some(placed) => builder.wire(head, &placed.role.wiring, &basis),
                None => builder.noise(head, random),
            }
        }
    }

    let rows = |vectors: Vec<Vec<f64>>| vectors.concat().into_iter().map(|x| x as f32).collect::<Vec<f32>>();
    let is_name = |token| f64::from(u8::from(world.names().contains(&token)));
    let token =
        |token| sum(&basis.write(Feature::Token(token), 1.0), &basis.write(Feature::IsName, is_name(token)));
    let position = |p| sum(&basis.write(Feature::Position(p), 1.0), &basis.write(Feature::Constant, 1.0));
    let weights = Weights {
        embed: rows((0..world.d_vocab()).map(token).collect()).into(),
        pos_embed: rows((0..N_CTX).map(position).collect()),
        project_in: None,
        layers: layers.into_iter().map(LayerBuilder::finish).collect(),
        ln_final: Norm::default(),
        project_out: None,
        unembed: Some(
            rows((0..world.d_vocab()).map(|t| basis.write(Feature::Answer(t), LOGITS)).collect()).into(),
        ),
        unembed_bias: None,
    };
    let spec = ModelSpec {
        n_layers: N_LAYERS,
        n_heads: N_HEADS,
        n_kv_heads: N_HEADS,
        d_model,
        d_head,
        d_mlp: 0,
        d_vocab: world.d_vocab(),
        d_embed: d_model,
        n_ctx: N_CTX,
        final_norm: false,
        attn_scale: vec![1.0; N_LAYERS],
        windows: vec![None; N_LAYERS],
        tied_unembed: false,
        ..ModelSpec::default()
    };
    Decoder::new(spec, weights)
}

fn sum(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| a + b).collect()
}

/// The weights of one layer, head by head.
struct LayerBuilder {
    d_model: usize,
    d_head: usize,
    w_qkv: Vec<f32>, // [d_model, 3 * d_attn]
    b_qkv: Vec<f32>, // [3 * d_attn]
    w_o: Vec<f32>,   // [d_attn, d_model]
    b_o: Vec<f32>,   // [d_model]
}

/// Thirds of `W_QKV`.
const QUERY: usize = 0;
const KEY: usize = 1;
const VALUE: usize = 2;

impl LayerBuilder {
    fn new(d_model: usize, d_head: usize) -> Self {
        let d_attn = N_HEADS * d_head;
        Self {
            d_model,
            d_head,
            w_qkv: vec![0.0; d_model * 3 * d_attn],
            b_qkv: vec![0.0; 3 * d_attn],
            w_o: vec![0.0; d_attn * d_model],
            b_o: vec![0.0; d_model],
        }
    }

    /// One dimension of the head per line of the wiring.
    fn wire(&mut self, head: usize, wiring: &Wiring, basis: &Basis) {
        for (i, &(query, key, score)) in wiring.attend.iter().enumerate() {
            let query: Vec<f64> = basis.read(query).into_iter().map(|x| x * score).collect();
            self.set_input(QUERY, head, i, &query);
            self.set_input(KEY, head, i, &basis.read(key));
        }
        for (i, &(from, to, strength)) in wiring.copy.iter().enumerate() {
            self.set_input(VALUE, head, i, &basis.read(from));
            self.set_output(head, i, &basis.write(to, strength));
        }
        for (i, &(to, strength)) in (wiring.copy.len()..).zip(&wiring.value_bias) {
            let output = basis.write(to, strength);
            let column = self.column(VALUE, head, i);
            self.b_qkv[column] = 1.0;
            self.set_output(head, i, &output);
            self.b_o.iter_mut().zip(&output).for_each(|(b, x)| *b -= *x as f32);
        }
    }

    fn noise(&mut self, head: usize, random: &mut Random) {
        let mut vector = |size: f64| (0..self.d_model).map(|_| size * random.normal()).collect::<Vec<f64>>();
        let drawn: Vec<[Vec<f64>; 4]> =
            (0..self.d_head).map(|_| [NOISE_QK, NOISE_QK, NOISE_OV, NOISE_OV].map(&mut vector)).collect();
        for (i, [q, k, v, o]) in drawn.iter().enumerate() {
            self.set_input(QUERY, head, i, q);
            self.set_input(KEY, head, i, k);
            self.set_input(VALUE, head, i, v);
            self.set_output(head, i, o);
        }
    }

    fn column(&self, third: usize, head: usize, i: usize) -> usize {
        (third * N_HEADS + head) * self.d_head + i
    }

    fn set_input(&mut self, third: usize, head: usize, i: usize, vector: &[f64]) {
        let (column, width) = (self.column(third, head, i), 3 * N_HEADS * self.d_head);
        for (row, &x) in self.w_qkv.chunks_exact_mut(width).zip(vector) {
            row[column] = x as f32;
        }
    }

    fn set_output(&mut self, head: usize, i: usize, vector: &[f64]) {
        let row = &mut self.w_o[(head * self.d_head + i) * self.d_model..][..self.d_model];
        row.iter_mut().zip(vector).for_each(|(w, &x)| *w = x as f32);
    }

    fn finish(self) -> LayerWeights {
        let d_attn = N_HEADS * self.d_head;
        let packed = |w: &[f32], k, n| PackedMatrix::from_rows(w, k, n);
        LayerWeights {
            ln1: Norm::default(),
            ln1_post: None,
            w_qkv: Linear { weight: packed(&self.w_qkv, self.d_model, 3 * d_attn), bias: Some(self.b_qkv) },
            q_norm: None,
            k_norm: None,
            w_o: Linear { weight: packed(&self.w_o, d_attn, self.d_model), bias: Some(self.b_o) },
            ln2: Norm::default(),
            ln2_post: None,
            mlp: None,
        }
    }
}
