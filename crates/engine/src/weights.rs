//! A decoder's parameters, in the layout the forward pass reads.
//!
//! Every matrix maps row vectors, `y = x W + b`, whatever its layout in the checkpoint (GPT-2's Conv1D stores `W`,
//! `nn.Linear` stores its transpose). Matrices that activations are multiplied by are packed once for the GEMM.
//! What the [`ModelSpec`](cs_model::spec::ModelSpec) has no place for is `None`, or a norm without gain and bias.

use cs_kernels::PackedMatrix;

/// `y = x W + b`.
pub struct Linear {
    /// `W` `[d_in, d_out]`
    pub weight: PackedMatrix,
    /// `b` `[d_out]`; `None` where the model has none.
    pub bias: Option<Vec<f32>>,
}

/// A norm over the last axis, with optional gain and bias `[d_model]`; its formula is the spec's
/// [`NormKind`](cs_model::spec::NormKind).
#[derive(Clone, Debug, Default)]
pub struct Norm {
    /// Elementwise gain as it is stored: under `RmsOnePlus`, `w` and not `1 + w`. `None` stands for no gain.
    pub weight: Option<Vec<f32>>,
    /// Elementwise bias `β`; `None` stands for zeros. RMS norms have none.
    pub bias: Option<Vec<f32>>,
}

/// The layers of an MLP: `W_out(act(W_in x))`, or `W_out(act(W_gate x) · W_in x)`.
pub struct Mlp {
    /// `[d_model, d_mlp]`; `None` where the MLP has no gate.
    pub w_gate: Option<Linear>,
    /// `[d_model, d_mlp]`; with a gate, the layer that Hugging Face calls `up_proj`.
    pub w_in: Linear,
    /// `[d_mlp, d_model]`
    pub w_out: Linear,
}

/// One block's parameters.
pub struct LayerWeights {
    /// The norm before attention (`Pre`, `PreAndBranch`; of both branches in one-norm parallel blocks), or after its
    /// residual addition (`Post`). Unused under `Branch`.
    pub ln1: Norm,
    /// The norm of attention's output before it is added (`Branch`, `PreAndBranch`).
    pub ln1_post: Option<Norm>,
    /// `W_Q`, `W_K`, `W_V` side by side, `[d_model, d_attn + 2 * d_kv]`: all query heads, then all key heads, then all
    /// value heads; head `h` owns columns `h * d_head ..` of its part.
    pub w_qkv: Linear,
    /// Gain of the norm of queries, as it is stored: `[d_head]`, or `[d_attn]` where it runs over all heads.
    pub q_norm: Option<Vec<f32>>,
    /// Gain of the norm of keys: `[d_head]` or `[d_kv]`.
    pub k_norm: Option<Vec<f32>>,
    /// `W_O` of all heads stacked, `[d_attn, d_model]`: head `h` owns rows `h * d_head ..`.
    pub w_o: Linear,
    /// The norm that belongs to the MLP, as `ln1` to attention. Unused where there is no MLP, under `Branch` and in
    /// one-norm parallel blocks.
    pub ln2: Norm,
    /// The norm of the MLP's output before it is added (`Branch`, `PreAndBranch`).
    pub ln2_post: Option<Norm>,
    /// `None` in attention-only models.
    pub mlp: Option<Mlp>,
}

/// All parameters of a decoder.
pub struct Weights {
    /// Token embedding, `[d_vocab, d_embed]` row-major, before the spec's `embed_scale`.
    pub embed: Vec<f32>,
    /// Learned positions, `[n_ctx + offset, d_model]` row-major; empty with rotary positions.
    pub pos_embed: Vec<f32>,
    /// `[d_embed, d_model]`, where the two widths differ.
    pub project_in: Option<Linear>,
    /// Blocks in order.
    pub layers: Vec<LayerWeights>,
    /// The norm before the unembedding, if the spec has one.
    pub ln_final: Norm,
    /// `[d_model, d_embed]`, where the two widths differ.
    pub project_out: Option<Linear>,
    /// Unembedding, `[d_vocab, d_embed]` row-major; `None` where it is tied to [`Weights::embed`].
    pub unembed: Option<Vec<f32>>,
    /// Added to the logits, `[d_vocab]`; `None` where the model has none.
    pub unembed_bias: Option<Vec<f32>>,
}

impl Weights {
    /// The unembedding's rows, `[d_vocab, d_embed]`, tied or not.
    pub fn unembed(&self) -> &[f32] {
        self.unembed.as_deref().unwrap_or(&self.embed)
    }
}
