//! What a decoder-only transformer computes, as data.
//!
//! All families are one decoder with different settings. [`ModelSpec`] holds those settings; a
//! [family](crate::families) fills it in from a Hugging Face `config.json`, and the forward pass reads nothing else. One
//! block is, with `x` the residual stream and `attn` and `mlp` its two branches:
//!
//! ```text
//! sequential, Pre           x += attn(ln1(x));              x += mlp(ln2(x))                 GPT-2, GPT-Neo, OPT, Llama, Qwen, …
//! sequential, Post          x = ln1(x + attn(x));           x = ln2(x + mlp(x))              opt-350m
//! sequential, Branch        x += ln1_post(attn(x));         x += ln2_post(mlp(x))            OLMo 2
//! sequential, PreAndBranch  x += ln1_post(attn(ln1(x)));    x += ln2_post(mlp(ln2(x)))       Gemma 2, Gemma 3
//! parallel,   Pre           x += attn(ln1(x)) + mlp(ln2(x))                                  Pythia
//! parallel, one norm        x += attn(ln1(x)) + mlp(ln1(x))                                  GPT-J
//! ```

use serde::{Deserialize, Serialize};

/// How a token's position enters the computation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Positions {
    /// A learned vector per position is added to the token embedding: position `p` reads row `p + offset`.
    Learned {
        /// 0, or 2 in OPT, whose first two rows are unused.
        offset: usize,
    },
    /// Queries and keys are rotated by position.
    Rotary(Rotary),
}

/// Rotary position embedding (Su et al. 2021) of the first `n_dims` coordinates of each query and key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rotary {
    /// Rotated coordinates per head, even and at most `d_head`.
    pub n_dims: usize,
    /// How coordinates are paired.
    pub pairing: RotaryPairing,
    /// The sets of frequencies that layers use: one, or two where global and local layers differ (Gemma 3).
    pub frequencies: Vec<RotaryFrequencies>,
    /// Which of `frequencies` each layer uses. `[n_layers]`
    pub of_layer: Vec<usize>,
}

impl Rotary {
    /// Unscaled frequencies with one base for all layers, in the half-split layout.
    pub fn plain(n_layers: usize, n_dims: usize, base: f64) -> Self {
        Self {
            n_dims,
            pairing: RotaryPairing::Halves,
            frequencies: vec![RotaryFrequencies { base, scaling: RotaryScaling::None }],
            of_layer: vec![0; n_layers],
        }
    }
}

/// How coordinates are paired for rotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RotaryPairing {
    /// Coordinate `i` with `i + n_dims / 2`.
    Halves,
    /// Coordinate `2i` with `2i + 1` (GPT-J).
    Interleaved,
}

/// The angles per position of rotary pairs: `base^(-2i / n_dims)` for pair `i`, rescaled.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RotaryFrequencies {
    /// Base of the geometric sequence, `rope_theta`.
    pub base: f64,
    /// How the sequence is rescaled for longer contexts.
    pub scaling: RotaryScaling,
}

/// Rescaling of rotary frequencies for contexts longer than the original training context, as defined by Hugging Face
/// Transformers (`modeling_rope_utils.py`).
///
/// Kinds whose frequencies depend on the sequence length beyond some length are supported up to that length:
/// [`ModelSpec::n_ctx`] is set to it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum RotaryScaling {
    /// Unchanged; also `dynamic` up to `max_position_embeddings`.
    None,
    /// All frequencies divided by `factor`.
    Linear {
        /// At least 1.
        factor: f64,
    },
    /// YaRN (Peng et al. 2023): low frequencies divided by `factor`, high ones kept, with a ramp in between; cosines
    /// and sines multiplied by `attention_factor`.
    Yarn {
        /// Divisor of low frequencies.
        factor: f64,
        /// Factor of cosines and sines.
        attention_factor: f64,
        /// Frequencies with at least this many rotations over the original context are kept.
        beta_fast: f64,
        /// Frequencies with fewer rotations over the original context are divided.
        beta_slow: f64,
        /// The original training context.
        original_n_ctx: usize,
        /// Whether the ramp's ends are rounded to whole dimensions.
        truncate: bool,
    },
    /// Llama 3: like YaRN in terms of wavelengths, without a factor on cosines and sines.
    Llama3 {
        /// Divisor of low frequencies.
        factor: f64,
        /// Wavelengths above `original_n_ctx / low_freq_factor` are divided.
        low_freq_factor: f64,
        /// Wavelengths below `original_n_ctx / high_freq_factor` are kept.
        high_freq_factor: f64,
        /// The original training context.
        original_n_ctx: usize,
    },
    /// LongRoPE (Ding et al. 2024) up to the original context: each frequency divided by its own factor, cosines and
    /// sines multiplied by `attention_factor`.
    LongRope {
        /// Divisors, one per pair. `[n_dims / 2]`
        short_factor: Vec<f64>,
        /// Factor of cosines and sines.
        attention_factor: f64,
    },
}

/// Whether a block's attention and MLP run sequentially, or in parallel on the same input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BlockLayout {
    /// The MLP reads the residual stream after attention has written to it.
    Sequential,
    /// Attention and MLP both read the block's input, each through its own norm.
    Parallel,
    /// Attention and MLP both read the block's input through one norm, `ln1`.
    ParallelOneNorm,
}

impl BlockLayout {
    /// Whether the MLP reads the block's input rather than the stream after attention.
    pub fn is_parallel(self) -> bool {
        self != Self::Sequential
    }
}

/// The formula of all norms of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NormKind {
    /// `(x − mean) / √(var + ε) · w + b`
    Layer,
    /// `x / √(mean(x²) + ε) · w` (Zhang & Sennrich 2019)
    Rms,
    /// `x / √(mean(x²) + ε) · (1 + w)` (Gemma)
    RmsOnePlus,
}

/// Where the norms of a block's branch `f` are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NormPlacement {
    /// `x + f(norm(x))`
    Pre,
    /// `norm(x + f(x))`
    Post,
    /// `x + norm(f(x))`
    Branch,
    /// `x + norm_post(f(norm(x)))`
    PreAndBranch,
}

impl NormPlacement {
    /// Whether a branch reads the residual stream through a norm.
    pub fn has_input_norm(self) -> bool {
        matches!(self, Self::Pre | Self::PreAndBranch)
    }

    /// Whether a branch's output is normalised before it is added.
    pub fn has_branch_norm(self) -> bool {
        matches!(self, Self::Branch | Self::PreAndBranch)
    }
}

/// Norms of queries and keys (before rotary embedding).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum QkNorm {
    /// None.
    None,
    /// Each head's query and key separately, with one gain `[d_head]` for all heads (Qwen 3, Gemma 3).
    PerHead,
    /// All heads' queries together, and all keys together, with gains `[d_attn]` and `[d_kv]` (OLMo 2).
    AllHeads,
}

/// The MLP's nonlinearity, applied elementwise.
#[derive(Clone, Copy, Debug, PartialEq, Hash, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// `x Φ(x)` with the exact normal distribution function; Hugging Face's `gelu`.
    GeluErf,
    /// `x/2 (1 + tanh(√(2/π) (x + 0.044715 x³)))`; Hugging Face's `gelu_new`, `gelu_fast`, `gelu_pytorch_tanh`.
    GeluTanh,
    /// `max(x, 0)`
    Relu,
    /// `x σ(x)`; Hugging Face's `silu` and `swish`.
    Silu,
}

/// Everything that determines a decoder's computation, except its weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelSpec {
    /// Number of blocks.
    pub n_layers: usize,
    /// Query heads per block.
    pub n_heads: usize,
    /// Key/value heads per block, a divisor of `n_heads`: query head `h` reads key/value head `h / (n_heads /
    /// n_kv_heads)`.
    pub n_kv_heads: usize,
    /// Width of the residual stream.
    pub d_model: usize,
    /// Width of one head's query, key, value and `z`.
    pub d_head: usize,
    /// Width of the MLP's hidden layer; 0 for an attention-only model.
    pub d_mlp: usize,
    /// Rows of the embedding and unembedding, padding included.
    pub d_vocab: usize,
    /// Width of token embedding and unembedding; if it differs from `d_model`, `project_in` and `project_out`
    /// convert (opt-350m).
    pub d_embed: usize,
    /// Maximum sequence length, including BOS.
    pub n_ctx: usize,
    /// Factor of the token embeddings (Gemma: `√d_model`).
    pub embed_scale: Option<f32>,
    /// Learned or rotary positions.
    pub positions: Positions,
    /// Sequential or parallel blocks.
    pub block: BlockLayout,
    /// The formula of all norms.
    pub norm_kind: NormKind,
    /// Where a block's norms are.
    pub norm: NormPlacement,
    /// Added to the variance, or mean square, in every norm.
    pub norm_eps: f32,
    /// Norms of queries and keys.
    pub qk_norm: QkNorm,
    /// Whether there is a norm before the unembedding.
    pub final_norm: bool,
    /// Nonlinearity of the MLP.
    pub activation: Activation,
    /// Whether the MLP is `W_out(act(W_gate x) · W_in x)` rather than `W_out(act(W_in x))`.
    pub gated_mlp: bool,
    /// Factor of the attention scores `q · k` in each layer: usually `1/√d_head`, 1 in GPT-Neo.
    pub attn_scale: Vec<f32>, // [n_layers]
    /// Soft cap `c`, if scaled scores become `c tanh(score / c)` before the softmax (Gemma 2).
    pub attn_softcap: Option<f32>,
    /// Number of tokens that a query attends to, including itself, in each layer; `None` without a limit.
    pub windows: Vec<Option<usize>>, // [n_layers]
    /// Soft cap `c`, if logits become `c tanh(logit / c)` (Gemma 2).
    pub logit_softcap: Option<f32>,
    /// Whether the unembedding is the embedding matrix.
    pub tied_unembed: bool,
}

impl ModelSpec {
    /// `n_heads * d_head`: the width of all query heads' `z` concatenated.
    pub fn d_attn(&self) -> usize {
        self.n_heads * self.d_head
    }

    /// `n_kv_heads * d_head`: the width of all key heads concatenated, and of all value heads.
    pub fn d_kv(&self) -> usize {
        self.n_kv_heads * self.d_head
    }

    /// Number of query heads per key/value head.
    pub fn group_size(&self) -> usize {
        self.n_heads / self.n_kv_heads
    }

    /// Query heads of the whole model.
    pub fn n_heads_total(&self) -> usize {
        self.n_layers * self.n_heads
    }
}

/// GPT-2 small.
impl Default for ModelSpec {
    fn default() -> Self {
        Self {
            n_layers: 12,
            n_heads: 12,
            n_kv_heads: 12,
            d_model: 768,
            d_head: 64,
            d_mlp: 3072,
            d_vocab: 50257,
            d_embed: 768,
            n_ctx: 1024,
            embed_scale: None,
            positions: Positions::Learned { offset: 0 },
            block: BlockLayout::Sequential,
            norm_kind: NormKind::Layer,
            norm: NormPlacement::Pre,
            norm_eps: 1e-5,
            qk_norm: QkNorm::None,
            final_norm: true,
            activation: Activation::GeluTanh,
            gated_mlp: false,
            attn_scale: vec![0.125; 12],
            attn_softcap: None,
            windows: vec![None; 12],
            logit_softcap: None,
            tied_unembed: true,
        }
    }
}
