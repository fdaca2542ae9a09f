//! What a decoder-only transformer computes, as data.
//!
//! GPT-2, GPT-NeoX (Pythia), OPT and GPT-Neo are one decoder with different settings. [`ModelSpec`] holds those
//! settings; [`crate::config`] fills it in from a Hugging Face `config.json`, and the forward pass reads nothing
//! else. One block is, with `x` the residual stream:
//!
//! ```text
//! sequential, pre-norm    x += attn(ln1(x));  x += mlp(ln2(x))           GPT-2, GPT-Neo, OPT
//! parallel,   pre-norm    x += attn(ln1(x)) + mlp(ln2(x))                Pythia
//! sequential, post-norm   x = ln1(x + attn(x));  x = ln2(x + mlp(x))     opt-350m
//! ```

use serde::{Deserialize, Serialize};

/// The architecture a checkpoint names in its `config.json`. It decides how keys and tensors are *named*; what is
/// computed is decided by the other fields of [`ModelSpec`] alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Architecture {
    /// `model_type: gpt2`
    Gpt2,
    /// `model_type: gpt_neox` (Pythia)
    GptNeoX,
    /// `model_type: opt`
    Opt,
    /// `model_type: gpt_neo`
    GptNeo,
}

/// How a token's position enters the computation.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Positions {
    /// A learned vector per position is added to the token embedding: position `p` reads row `p + offset`.
    Learned {
        /// 0, or 2 in OPT, whose first two rows are unused.
        offset: usize,
    },
    /// The first `n_dims` coordinates of each query and key are rotated by position (Su et al. 2021), in the
    /// half-split layout: coordinate `i` pairs with `i + n_dims / 2`.
    Rotary {
        /// Rotated coordinates per head, even and at most `d_head`.
        n_dims: usize,
        /// Base of the geometric sequence of frequencies, usually 10,000.
        base: f64,
    },
}

/// Whether attention and MLP of a block run after one another or side by side on the same input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BlockLayout {
    /// The MLP reads the residual stream after attention has written to it.
    Sequential,
    /// Attention and MLP both read the block's input.
    Parallel,
}

/// Whether layer norms stand at the input of attention and MLP or after the residual addition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NormPlacement {
    /// `x + f(norm(x))`
    Pre,
    /// `norm(x + f(x))`
    Post,
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

/// Everything that decides what a decoder computes, apart from its weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelSpec {
    /// Which naming of keys and tensors the checkpoint uses.
    pub architecture: Architecture,
    /// Number of blocks.
    pub n_layers: usize,
    /// Attention heads per block.
    pub n_heads: usize,
    /// Width of the residual stream.
    pub d_model: usize,
    /// Width of one head's query, key, value and `z`.
    pub d_head: usize,
    /// Width of the MLP's hidden layer; 0 for an attention-only model.
    pub d_mlp: usize,
    /// Rows of the embedding and unembedding, padding included.
    pub d_vocab: usize,
    /// Width of token embedding and unembedding; where it differs from `d_model`, `project_in` and `project_out`
    /// stand between (opt-350m).
    pub d_embed: usize,
    /// Longest sequence the model can read, BOS included.
    pub n_ctx: usize,
    /// Learned or rotary positions.
    pub positions: Positions,
    /// Sequential or parallel blocks.
    pub block: BlockLayout,
    /// Pre- or post-norm blocks.
    pub norm: NormPlacement,
    /// Added to the variance in every layer norm.
    pub norm_eps: f32,
    /// Whether a layer norm stands before the unembedding.
    pub final_norm: bool,
    /// Nonlinearity of the MLP.
    pub activation: Activation,
    /// What attention scores `q · k` are multiplied by, layer by layer: usually `1/√d_head`, 1 in GPT-Neo.
    pub attn_scale: Vec<f32>, // [n_layers]
    /// How many tokens back a query sees, itself included, layer by layer; `None` where it sees all.
    pub windows: Vec<Option<usize>>, // [n_layers]
    /// Whether the unembedding is the embedding matrix.
    pub tied_unembed: bool,
}

impl ModelSpec {
    /// `n_heads * d_head`: the width of all heads' `z` side by side.
    pub fn d_attn(&self) -> usize {
        self.n_heads * self.d_head
    }

    /// Heads of the whole model.
    pub fn n_heads_total(&self) -> usize {
        self.n_layers * self.n_heads
    }
}
