//! GFLOP/s of faer's matrix product compared with `kernels` and the `gemm` crate, on one thread.
//!
//!     cargo run --release -- [2048x768x3072 …]
//!
//! The contenders alternate, and the fastest of 20 turns of each counts. Shapes are rows x k x n.

use std::hint::black_box;
use std::time::Instant;

use faer::linalg::matmul::matmul as faer_matmul;
use faer::{Accum, Mat, Par};
use cs_kernels::{Init, MatMut, MatRef, PackedMatrix, matmul};

const TURNS: usize = 20;
const SHAPES: [&str; 6] =
    ["2048x768x3072", "2048x3072x768", "256x768x3072", "256x96x288", "256x384x96", "2048x64x768"];

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let shapes: Vec<&str> =
        if args.is_empty() { SHAPES.to_vec() } else { args.iter().map(String::as_str).collect() };
    println!("{:>16} {:>8} {:>8} {:>8}", "rows x k x n", "kernels", "gemm", "faer");
    for text in shapes {
        let sizes: Vec<usize> = text.split('x').filter_map(|size| size.parse().ok()).collect();
        let &[rows, k, n] = &sizes[..] else { panic!("{text}: a shape is written 256x768x3072") };
        let value = |i: usize| ((i * 7919) % 1021) as f32 / 512.0 - 1.0;
        let a: Vec<f32> = (0..rows * k).map(value).collect();
        let w: Vec<f32> = (0..k * n).map(value).collect();
        let mut c = vec![0.0; rows * n];
        let packed = PackedMatrix::from_rows(&w, k, n);
        // faer's own layout, column by column.
        let (faer_a, faer_w) =
            (Mat::from_fn(rows, k, |i, j| a[i * k + j]), Mat::from_fn(k, n, |i, j| w[i * n + j]));
        let mut faer_c = Mat::<f32>::zeros(rows, n);
        let repeats = (200_000_000 / (rows * k * n)).max(1);
        let mut best = [f64::INFINITY; 3];
        for _ in 0..TURNS {
            for (contender, best) in best.iter_mut().enumerate() {
                let start = Instant::now();
                for _ in 0..repeats {
                    match contender {
                        0 => matmul(
                            MatRef::new(&a, rows, k),
                            packed.view(),
                            MatMut::new(&mut c, rows, n),
                            Init::Zero,
                        ),
                        // SAFETY: the strides describe row-major matrices of these shapes.
                        1 => unsafe {
                            let (c, a, w) = (c.as_mut_ptr(), a.as_ptr(), w.as_ptr());
                            let (k_stride, n_stride, none) = (k as isize, n as isize, gemm::Parallelism::None);
                            gemm::gemm(
                                rows, n, k, c, 1, n_stride, false, a, 1, k_stride, w, 1, n_stride, 0.0, 1.0, false,
                                false, false, none,
                            );
                        },
                        _ => faer_matmul(&mut faer_c, Accum::Replace, &faer_a, &faer_w, 1.0, Par::Seq),
                    }
                    black_box((&mut c, &mut faer_c));
                }
                *best = best.min(start.elapsed().as_secs_f64() / repeats as f64);
            }
        }
        // All three computed the same product.
        let error = (0..n).map(|j| (c[j] - faer_c[(0, j)]).abs()).fold(0.0, f32::max);
        assert!(error < 1e-3 * (k as f32).sqrt(), "{text}: products differ by {error}");
        let [ours, gemm, faer] = best.map(|seconds| 2.0 * (rows * k * n) as f64 / seconds / 1e9);
        println!("{text:>16} {ours:8.0} {gemm:8.0} {faer:8.0}");
    }
}
