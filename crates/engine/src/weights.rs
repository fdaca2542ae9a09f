//! A decoder's parameters, in the layout the forward pass reads.
//!
//! Every matrix maps row vectors, `y = x W + b`, whatever its layout in the checkpoint (GPT-2's Conv1D stores `W`,
//! `nn.Linear` stores its transpose). Matrices that activations are multiplied by are packed once for the GEMM.

use cs_kernels::PackedMatrix;

/// `y = x W + b`.
pub struct Linear {
    /// `W` `[d_in, d_out]`
    pub weight: PackedMatrix,
    /// `b` `[d_out]`; `None` where the model has none.
    pub bias: Option<Vec<f32>>,
}

/// Layer norm over the last axis, with optional gain and bias `[d_model]`.
#[derive(Clone, Debug, Default)]
pub struct LayerNorm {
    /// Elementwise gain; `None` stands for ones.
    pub weight: Option<Vec<f32>>,
    /// Elementwise bias `β`; `None` stands for zeros.
    pub bias: Option<Vec<f32>>,
}

/// The two layers of an MLP.
pub struct Mlp {
    /// `[d_model, d_mlp]`
    pub w_in: Linear,
    /// `[d_mlp, d_model]`
    pub w_out: Linear,
}

/// One block's parameters.
pub struct LayerWeights {
    /// The norm that belongs to attention: its input (pre-norm) or after its residual addition (post-norm).
    pub ln1: LayerNorm,
    /// `W_Q`, `W_K`, `W_V` side by side, `[d_model, 3 * d_attn]`: all heads' queries, then keys, then values; head
    /// `h` owns columns `h * d_head ..` of each third.
    pub w_qkv: Linear,
    /// `W_O` of all heads stacked, `[d_attn, d_model]`: head `h` owns rows `h * d_head ..`.
    pub w_o: Linear,
    /// The norm that belongs to the MLP. Unused where there is no MLP.
    pub ln2: LayerNorm,
    /// `None` in attention-only models.
    pub mlp: Option<Mlp>,
}

/// All parameters of a decoder.
pub struct Weights {
    /// Token embedding, `[d_vocab, d_embed]` row-major.
    pub embed: Vec<f32>,
    /// Learned positions, `[n_ctx + offset, d_model]` row-major; empty with rotary positions.
    pub pos_embed: Vec<f32>,
    /// `[d_embed, d_model]`, where the two widths differ.
    pub project_in: Option<Linear>,
    /// Blocks in order.
    pub layers: Vec<LayerWeights>,
    /// The norm before the unembedding, if the spec has one.
    pub ln_final: LayerNorm,
    /// `[d_model, d_embed]`, where the two widths differ.
    pub project_out: Option<Linear>,
    /// Unembedding, `[d_vocab, d_embed]` row-major; `None` where it is tied to [`Weights::embed`].
    pub unembed: Option<Vec<f32>>,
}

impl Weights {
    /// The unembedding's rows, `[d_vocab, d_embed]`, tied or not.
    pub fn unembed(&self) -> &[f32] {
        self.unembed.as_deref().unwrap_or(&self.embed)
    }
}
