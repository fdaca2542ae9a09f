//! The decoder in plain loops: one prompt, float64, no optimizations.
//!
//! This is the model file to read first, and the reference that the engine's tests compare with: it has every setting
//! of a [`ModelSpec`] and every [`Edit`] in the simplest form. Matrices of activations are [`Rows`], one row per
//! token; heads are concatenated in a row.
//!
//! ```text
//! x = embed(tokens)                                                [n_tokens, d_model]
//! for each block: q, k, v = x W_QKV;  z = softmax(q k') v;  attn = z W_O;  mlp = W_out act(W_in x)
//! logits = ln_final(x) W_U                                         [n_tokens, d_vocab]
//! ```

mod direct;
mod maths;
mod rotary;

pub use direct::direct_attribution;

use crate::decoder::Decoder;
use crate::intervention::{Edit, Replacement, Stream};
use crate::weights::{LayerWeights, Weights};
use cs_model::spec::{BlockLayout, ModelSpec, NormPlacement, Positions, QkNorm};
use maths::{activation, add, linear, norm, scaled, softcap, softmax};

/// One row per token.
pub type Rows = Vec<Vec<f64>>;

/// All activations and logits of one prompt.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Run {
    /// `[n_tokens, d_vocab]`
    pub logits: Rows,
    /// Activations of each block.
    pub layers: Vec<Activations>,
}

/// One block's activations, edits included.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Activations {
    /// The block's input. `[n_tokens, d_model]`
    pub resid_pre: Rows,
    /// The MLP's input before its norm; `None` in parallel blocks. `[n_tokens, d_model]`
    pub resid_mid: Option<Rows>,
    /// The block's output. `[n_tokens, d_model]`
    pub resid_post: Rows,
    /// The streams of each query head.
    pub heads: Vec<Head>,
}

/// One query head's activations.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Head {
    /// Queries, normalized and rotated. `[n_tokens, d_head]`
    pub q: Rows,
    /// Keys, likewise; those of its group if unedited. `[n_tokens, d_head]`
    pub k: Rows,
    /// Values; those of its group if unedited. `[n_tokens, d_head]`
    pub v: Rows,
    /// Attention probabilities, 0 at masked keys. `[n_tokens, n_tokens]`
    pub pattern: Rows,
    /// `pattern v`. `[n_tokens, d_head]`
    pub z: Rows,
}

/// Edits to apply, and what they take values from.
#[derive(Clone, Copy, Default)]
pub struct Edits<'a> {
    /// The edits.
    pub edits: &'a [Edit],
    /// The run that [`Replacement::Source`] reads.
    pub source: Option<&'a Run>,
    /// The values that [`Replacement::GroupMean`] and [`Replacement::OthersMean`] replace `z` with: `[n_layers][n_tokens,
    /// d_attn]`.
    pub mean_z: &'a [Rows],
}

/// Runs one prompt.
///
/// # Panics
/// If an edit reads something that [`Edits`] lacks, or a token or position is beyond the model's range.
pub fn run(decoder: &Decoder, tokens: &[u32], edits: Edits<'_>) -> Run {
    let model = Model { spec: decoder.spec(), weights: decoder.weights(), edits };
    let mut x = model.embed(tokens);
    let mut layers = Vec::new();
    for layer in 0..model.spec.n_layers {
        let activations = model.block(layer, x);
        x = activations.resid_post.clone();
        layers.push(activations);
    }
    Run { logits: model.unembed(&x), layers }
}

struct Model<'a> {
    spec: &'a ModelSpec,
    weights: &'a Weights,
    edits: Edits<'a>,
}

impl Model<'_> {
    /// Token embeddings, plus position embeddings if they are learned. `[n_tokens, d_model]`
    fn embed(&self, tokens: &[u32]) -> Rows {
        let (spec, w) = (self.spec, self.weights);
        let scale = f64::from(spec.embed_scale.unwrap_or(1.0));
        let token = |&t: &u32| scaled(&w.embed.row(t as usize, spec.d_embed), scale);
        let mut x: Rows = tokens.iter().map(token).collect();
        if let Some(project) = &w.project_in {
            x = linear(project, &x);
        }
        if let Positions::Learned { offset } = spec.positions {
            for (position, x) in x.iter_mut().enumerate() {
                let learned = &w.pos_embed[(position + offset) * spec.d_model..][..spec.d_model];
                x.iter_mut().zip(learned).for_each(|(x, &p)| *x += f64::from(p));
            }
        }
        x
    }

    /// One block: `x` `[n_tokens, d_model]`.
    fn block(&self, layer: usize, x: Rows) -> Activations {
        let (spec, w) = (self.spec, &self.weights.layers[layer]);
        let heads = match spec.norm.has_input_norm() {
            true => self.heads(layer, &norm(spec, &w.ln1, &x)),
            false => self.heads(layer, &x),
        };
        let attn = self.attention_output(w, &heads);
        let ln_post = |ln: &Option<_>, x: &Rows| norm(spec, ln.as_ref().expect("a norm on the branch"), x);

        let (resid_mid, resid_post) = match (spec.block, spec.norm) {
            (BlockLayout::Parallel, _) => (None, add(&add(&x, &attn), &self.mlp(w, &norm(spec, &w.ln2, &x)))),
            (BlockLayout::ParallelOneNorm, _) => {
                (None, add(&add(&x, &attn), &self.mlp(w, &norm(spec, &w.ln1, &x))))
            }
            (BlockLayout::Sequential, NormPlacement::Pre) => {
                let mid = add(&x, &attn);
                let post = add(&mid, &self.mlp(w, &norm(spec, &w.ln2, &mid)));
                (Some(mid), post)
            }
            (BlockLayout::Sequential, NormPlacement::Post) => {
                let mid = norm(spec, &w.ln1, &add(&x, &attn));
                let post = norm(spec, &w.ln2, &add(&mid, &self.mlp(w, &mid)));
                (Some(mid), post)
            }
            (BlockLayout::Sequential, NormPlacement::Branch) => {
                let mid = add(&x, &ln_post(&w.ln1_post, &attn));
                let post = add(&mid, &ln_post(&w.ln2_post, &self.mlp(w, &mid)));
                (Some(mid), post)
            }
            (BlockLayout::Sequential, NormPlacement::PreAndBranch) => {
                let mid = add(&x, &ln_post(&w.ln1_post, &attn));
                let post = add(&mid, &ln_post(&w.ln2_post, &self.mlp(w, &norm(spec, &w.ln2, &mid))));
                (Some(mid), post)
            }
        };
        // Without an MLP, a block ends where the MLP would be.
        let resid_post = match (&w.mlp, &resid_mid) {
            (None, Some(mid)) => mid.clone(),
            _ => resid_post,
        };
        Activations { resid_pre: x, resid_mid, resid_post, heads }
    }

    /// Attention of all query heads, from their input `[n_tokens, d_model]`.
    fn heads(&self, layer: usize, x: &Rows) -> Vec<Head> {
        let (spec, w) = (self.spec, &self.weights.layers[layer]);
        let (d_attn, d_kv) = (spec.d_attn(), spec.d_kv());
        let qkv = linear(&w.w_qkv, x); // [n_tokens, d_attn + 2 d_kv]
        let part = |from: usize, width: usize| -> Rows {
            qkv.iter().map(|row| row[from..from + width].to_vec()).collect()
        };
        let (q, k, v) = (part(0, d_attn), part(d_attn, d_kv), part(d_attn + d_kv, d_kv));
        let (q, k) = (self.qk_norm(&w.q_norm, q), self.qk_norm(&w.k_norm, k));
        let one_head = |rows: &Rows, head: usize| -> Rows {
            rows.iter().map(|row| row[head * spec.d_head..][..spec.d_head].to_vec()).collect()
        };
        let head = |h: usize| {
            let of_group = h / spec.group_size();
            let q = self.edited(layer, h, Stream::Q, self.rotated(layer, one_head(&q, h)));
            let k = self.edited(layer, h, Stream::K, self.rotated(layer, one_head(&k, of_group)));
            let v = self.edited(layer, h, Stream::V, one_head(&v, of_group));
            let pattern = self.edited(layer, h, Stream::Pattern, self.pattern(layer, &q, &k));
            let mix = |weights: &Vec<f64>| -> Vec<f64> {
                (0..spec.d_head).map(|i| weights.iter().zip(&v).map(|(p, v)| p * v[i]).sum()).collect()
            };
            let z = self.edited(layer, h, Stream::Z, pattern.iter().map(mix).collect());
            Head { q, k, v, pattern, z }
        };
        (0..spec.n_heads).map(head).collect()
    }

    /// The norm of queries or keys, per head or over all heads together.
    fn qk_norm(&self, gain: &Option<Vec<f32>>, rows: Rows) -> Rows {
        let (spec, gain) = (self.spec, gain.as_deref());
        let normed = |x: &[f64]| maths::norm_row(spec, gain, None, x);
        match spec.qk_norm {
            QkNorm::None => rows,
            QkNorm::AllHeads => rows.iter().map(|row| normed(row)).collect(),
            QkNorm::PerHead => {
                rows.iter().map(|row| row.chunks(spec.d_head).flat_map(normed).collect()).collect()
            }
        }
    }

    /// One head's queries or keys, rotated by their positions.
    fn rotated(&self, layer: usize, mut rows: Rows) -> Rows {
        if let Positions::Rotary(rotary) = &self.spec.positions {
            let frequencies = &rotary.frequencies[rotary.of_layer[layer]];
            for (position, row) in rows.iter_mut().enumerate() {
                rotary::rotate(row, position, rotary.n_dims, rotary.pairing, frequencies);
            }
        }
        rows
    }

    /// `softmax(q k')` over the keys that each query attends to: its own and earlier ones, within the window.
    fn pattern(&self, layer: usize, q: &Rows, k: &Rows) -> Rows {
        let (scale, cap) = (f64::from(self.spec.attn_scale[layer]), self.spec.attn_softcap);
        let sees = |query: usize, key: usize| {
            key <= query && self.spec.windows[layer].is_none_or(|window| query - key < window)
        };
        let score = |query: usize, key: usize| {
            let product: f64 = q[query].iter().zip(&k[key]).map(|(q, k)| q * k).sum();
            if sees(query, key) { softcap(scale * product, cap) } else { f64::NEG_INFINITY }
        };
        (0..q.len()).map(|query| softmax((0..k.len()).map(|key| score(query, key)).collect())).collect()
    }

    /// All heads' `z`, concatenated, times `W_O`. `[n_tokens, d_model]`
    fn attention_output(&self, w: &LayerWeights, heads: &[Head]) -> Rows {
        let n_tokens = heads[0].z.len();
        let z: Rows = (0..n_tokens).map(|t| heads.iter().flat_map(|h| h.z[t].clone()).collect()).collect();
        linear(&w.w_o, &z)
    }

    /// `W_out(act(W_in x))`, or `W_out(act(W_gate x) · W_in x)`. `[n_tokens, d_model]`
    fn mlp(&self, w: &LayerWeights, x: &Rows) -> Rows {
        let Some(mlp) = &w.mlp else { return vec![vec![0.0; self.spec.d_model]; x.len()] };
        let mut hidden = linear(&mlp.w_in, x);
        match &mlp.w_gate {
            None => hidden.iter_mut().flatten().for_each(|x| *x = activation(self.spec.activation, *x)),
            Some(gate) => {
                let gate = linear(gate, x);
                let pairs = hidden.iter_mut().flatten().zip(gate.iter().flatten());
                pairs.for_each(|(up, &gate)| *up *= activation(self.spec.activation, gate));
            }
        }
        linear(&mlp.w_out, &hidden)
    }

    /// `[n_tokens, d_vocab]`
    fn unembed(&self, x: &Rows) -> Rows {
        let (spec, w) = (self.spec, self.weights);
        let mut x = if spec.final_norm { norm(spec, &w.ln_final, x) } else { x.clone() };
        if let Some(project) = &w.project_out {
            x = linear(project, &x);
        }
        let logit = |x: &[f64], token: usize| {
            let row = w.unembed().row(token, spec.d_embed);
            let product: f64 = x.iter().zip(&row[..]).map(|(x, &w)| x * f64::from(w)).sum();
            let bias = w.unembed_bias.as_ref().map_or(0.0, |b| f64::from(b[token]));
            softcap(product + bias, spec.logit_softcap)
        };
        x.iter().map(|x| (0..spec.d_vocab).map(|token| logit(x, token)).collect()).collect()
    }

    /// One head's stream, or its replacement by an edit.
    fn edited(&self, layer: usize, head: usize, stream: Stream, rows: Rows) -> Rows {
        let is_here = |e: &&Edit| (e.layer, e.head, e.stream) == (layer, head, stream);
        let Some(edit) = self.edits.edits.iter().find(is_here) else { return rows };
        match edit.replacement {
            Replacement::Zero => rows.iter().map(|row| vec![0.0; row.len()]).collect(),
            Replacement::ValueBias => vec![self.value_bias(layer, head); rows.len()],
            Replacement::GroupMean | Replacement::OthersMean => {
                let d_head = self.spec.d_head;
                let mean = &self.edits.mean_z[layer];
                mean.iter().map(|row| row[head * d_head..][..d_head].to_vec()).collect()
            }
            Replacement::Source => {
                let source =
                    &self.edits.source.expect("a source to take values from").layers[layer].heads[head];
                match stream {
                    Stream::Q => source.q.clone(),
                    Stream::K => source.k.clone(),
                    Stream::V => source.v.clone(),
                    Stream::Pattern => source.pattern.clone(),
                    Stream::Z => source.z.clone(),
                }
            }
        }
    }

    /// `c_h = b_V^h + β W_V^h`, the input-independent part of a head's value. `[d_head]`
    fn value_bias(&self, layer: usize, head: usize) -> Vec<f64> {
        let (spec, w) = (self.spec, &self.weights.layers[layer]);
        let first = spec.d_attn() + spec.d_kv() + head / spec.group_size() * spec.d_head;
        let beta = w.ln1.bias.as_ref().filter(|_| spec.norm.has_input_norm());
        let of_column = |j: usize| {
            let bias = w.w_qkv.bias.as_ref().map_or(0.0, |b| f64::from(b[j]));
            let normed = beta.iter().flat_map(|beta| beta.iter().enumerate());
            bias + normed.map(|(i, &b)| f64::from(b) * f64::from(w.w_qkv.weight.get(i, j))).sum::<f64>()
        };
        (first..first + spec.d_head).map(of_column).collect()
    }
}
