//! Vectorised float32 kernels of a transformer's forward pass: the matrix product with packed weights, attention of one
//! query, layer norm, activations.
//!
//! Every kernel is single-threaded; callers share tiles of rows out among threads. **Rows are independent**: a row of a
//! result depends on the same row of the input and on the weights alone, bit for bit, whatever the number of rows, the
//! row's place among them and the thread. That is what lets a caller cut work by memory and threads without changing a
//! result.
//!
//! Each kernel is written once over a small vector abstraction and compiled for AVX-512, AVX2 and plain Rust; the widest
//! that the CPU has is chosen at run time.
//!
//! ```
//! use kernels::{Init, MatMut, MatRef, PackedMatrix, matmul};
//!
//! let w = PackedMatrix::from_rows(&[1.0, 2.0, 3.0, 4.0], 2, 2); // [k, n]
//! let mut c = [0.0; 2];
//! matmul(MatRef::new(&[1.0, 10.0], 1, 2), w.view(), MatMut::new(&mut c, 1, 2), Init::Bias(&[0.5, 0.5]));
//! assert_eq!(c, [31.5, 42.5]);
//! ```

mod activation;
mod attention;
mod gemm;
mod matrix;
mod norm;
mod rotary;
mod simd;
mod vector;

pub use activation::{gelu_erf, gelu_erf_with, gelu_tanh, gelu_tanh_with, relu, silu, silu_with};
pub use attention::{attention_row, attention_row_with};
pub use gemm::{Init, PackedMatrix, PackedRef, matmul, matmul_with};
pub use matrix::{MatMut, MatRef};
pub use norm::{layer_norm, layer_norm_with};
pub use rotary::rotary;
pub use simd::Isa;
pub use vector::{add_assign, axpy, axpy_with};
