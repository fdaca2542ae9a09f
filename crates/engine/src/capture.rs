//! Activation cache of the plain run.

use cs_kernels::KeyValues;
use cs_model::spec::ModelSpec;

use crate::decoder::Decoder;
use crate::error::EngineError;
use crate::forest::Forest;
use crate::machine::Machine;
use crate::machine::cpu::{self, Layer};
use crate::machine::place::{Job, carry_out};

/// Why activations cannot be captured.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// The device failed.
    #[error(transparent)]
    Device(#[from] EngineError),
    /// The model cannot read prompts this long.
    #[error("a prompt has {len} tokens, but the model reads at most {n_ctx}: shorten it")]
    TooLong {
        /// Length of the longest prompt, in tokens.
        len: usize,
        /// The model's limit.
        n_ctx: usize,
    },
    /// A token without an embedding.
    #[error("token id {token} is beyond the model's vocabulary of {d_vocab}: use its own tokenizer")]
    UnknownToken {
        /// Token id.
        token: u32,
        /// Size of the vocabulary.
        d_vocab: usize,
    },
}

/// Activations of one layer at all nodes of a forest, under TransformerLens's names.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerCache {
    /// The block's input. `[n_nodes, d_model]`
    pub resid_pre: Vec<f32>,
    /// The residual stream between attention and the MLP (after attention's norm in post-norm blocks). `None` in parallel blocks, which
    /// have no such point. `[n_nodes, d_model]`
    pub resid_mid: Option<Vec<f32>>,
    /// The block's output. `[n_nodes, d_model]`
    pub resid_post: Vec<f32>,
    /// Queries, after their norm and rotary embedding if the model has them. `[n_nodes, n_heads, d_head]`
    pub q: Vec<f32>,
    /// Keys, likewise. `[n_nodes, n_kv_heads, d_head]`
    pub k: Vec<f32>,
    /// Values. `[n_nodes, n_kv_heads, d_head]`
    pub v: Vec<f32>,
    /// Pattern-weighted values, before `W_O`. `[n_nodes, n_heads, d_head]`
    pub z: Vec<f32>,
}

/// All layers' activations of a plain run, and its logits at any node.
pub struct Cache<'a> {
    decoder: &'a Decoder,
    forest: &'a Forest,
    layers: Vec<LayerCache>,
}

impl<'a> Cache<'a> {
    /// Runs `forest` plainly and keeps all activations: about `n_layers * n_nodes * (3 d_model + 2 d_attn + 2 d_kv)`
    /// floats.
    ///
    /// # Errors
    /// If a prompt is longer than the model's context or has a token outside its vocabulary, or if the device
    /// fails.
    pub fn new(decoder: &'a Decoder, forest: &'a Forest) -> Result<Self, CaptureError> {
        let spec = decoder.spec();
        let (len, n_ctx, d_vocab) = (forest.max_len(), spec.n_ctx, spec.d_vocab);
        if len > n_ctx {
            return Err(CaptureError::TooLong { len, n_ctx });
        }
        if let Some(&token) = forest.tokens().iter().find(|&&t| t as usize >= d_vocab) {
            return Err(CaptureError::UnknownToken { token, d_vocab });
        }
        let layers = carry_out(decoder, Capture { spec, forest })?;
        Ok(Self { decoder, forest, layers })
    }

    /// Activations of one layer.
    pub fn layer(&self, layer: usize) -> &LayerCache {
        &self.layers[layer]
    }

    /// Attention probabilities of one head at a query node, over the nodes it attends to (see
    /// [`Forest::path_into`]), in order of position.
    pub fn pattern(&self, layer: usize, head: usize, node: u32) -> Vec<f32> {
        let spec = self.decoder.spec();
        let (d_attn, d_kv, d_head) = (spec.d_attn(), spec.d_kv(), spec.d_head);
        let cached = &self.layers[layer];
        let mut path = Vec::new();
        self.forest.path_into(node, spec.windows[layer], &mut path);
        let (mut scores, mut z) = (vec![0.0; path.len()], vec![0.0; d_head]);
        let q = &cached.q[node as usize * d_attn + head * d_head..][..d_head];
        let at = head / spec.group_size() * d_head;
        let kv = KeyValues { data: &cached.k, stride: d_kv, key: at, value: at }; // values are not used here
        let rule = Layer { decoder: self.decoder, index: layer }.score_rule();
        cs_kernels::attention_row(q, kv, &path, rule, &mut scores, &mut z);
        scores
    }

    /// Next-token logits at a node. `[d_vocab]`
    pub fn logits(&self, node: u32) -> Vec<f64> {
        let spec = self.decoder.spec();
        let resid = &self.layers[spec.n_layers - 1].resid_post;
        let x = cpu::normed(self.decoder, &resid[node as usize * spec.d_model..][..spec.d_model]);
        let tokens: Vec<u32> = (0..spec.d_vocab as u32).collect();
        let mut logits = vec![0.0; tokens.len()];
        cpu::logits_of(self.decoder, &x, &tokens, &mut logits);
        logits
    }
}

/// The request to the machine.
struct Capture<'a> {
    spec: &'a ModelSpec,
    forest: &'a Forest,
}

impl Job for Capture<'_> {
    type Output = Vec<LayerCache>;

    fn run<M: Machine>(self, machine: &mut M) -> Result<Self::Output, EngineError> {
        let Self { spec, forest } = self;
        let d_kv = spec.d_kv();
        let mut run = machine.embed(forest);
        let mut resid_pre = machine.plain_resid(&run).into_owned();
        let layers = (0..spec.n_layers).map(|index| {
            machine.plain_layer(index, forest, &mut run);
            let (resid_mid, resid_post) =
                (machine.plain_mid(index, &run), machine.plain_resid(&run).into_owned());
            let (q, kv) = machine.plain_qkv(&run);
            let halves = |half: usize| {
                let rows = kv.chunks_exact(2 * d_kv);
                rows.flat_map(|kv| &kv[half * d_kv..][..d_kv]).copied().collect()
            };
            let (q, k, v) = (q.into_owned(), halves(0), halves(1));
            let z = machine.plain_z(&run).into_owned();
            let resid_pre = std::mem::replace(&mut resid_pre, resid_post.clone());
            LayerCache { resid_pre, resid_mid, resid_post, q, k, v, z }
        });
        let layers = layers.collect();
        machine.status()?;
        Ok(layers)
    }
}
