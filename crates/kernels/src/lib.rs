//! Vectorised float32 kernels for transformer inference: a matrix product with packed weights, activations and gates, layer
//! norm and RMS norm, softmax, grouped-query attention over gathered keys, rotary embedding. Independent of any model.
//!
//! Everything runs on the calling thread; callers distribute tiles of rows over threads (see [`MatMut::row_tiles`]).
//! The instruction set is chosen at run time ([`Isa::best`]): AVX-512, AVX2 with FMA, or portable code.
//!
//! **Each output row depends only on its own input row and on the weights**, bit for bit, regardless of the number of rows
//! in a call, a row's position among them, or the thread. NaN and infinity propagate from inputs to outputs.

mod attention;
mod elementwise;
mod gemm;
mod linear;
mod math;
mod matrix;
mod norm;
mod pages;
mod rotary;
mod simd;
mod softmax;

pub use attention::{KeyValues, PathAttention, ScoreRule, attention_row};
pub use elementwise::{
    gelu_erf, gelu_erf_gate, gelu_erf_gate_with, gelu_erf_with, gelu_tanh, gelu_tanh_gate,
    gelu_tanh_gate_with, gelu_tanh_with, relu, relu_gate, relu_gate_with, relu_with, silu, silu_gate,
    silu_gate_with, silu_with, softcap, softcap_with,
};
pub use gemm::{Init, PackedMatrix, PackedRef, PanelMut, UnfilledPanel, matmul, matmul_with};
pub use linear::{add_assign, axpy, dot_rows, dot_rows_with};
pub use matrix::{MatMut, MatRef};
pub use norm::{layer_norm, layer_norm_with, rms_norm, rms_norm_with};
pub use pages::prefer_huge_pages;
pub use rotary::{rotary, rotary_interleaved};
pub use simd::Isa;
pub use softmax::{softmax_scaled, softmax_scaled_with};
