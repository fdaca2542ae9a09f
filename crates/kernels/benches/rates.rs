//! GFLOP/s of the packed matrix product compared with the crates `gemm` and `matrixmultiply`, on one thread and
//! on two.
//!
//!     cargo bench --workspace --bench rates [-- --threads 2] [-- 2048x768x3072 …]
//!
//! The contenders alternate, and the fastest turn of each counts. A turn is timed by the CPU time of its slowest
//! thread, so that other processes have little influence. With two threads, each multiplies its own half of the rows.
//! Shapes are rows x k x n.

use cs_kernels::{Init, MatMut, MatRef, PackedMatrix, matmul};
use std::hint::black_box;

/// Rows x k x n: the linear layers of gpt2, gpt2-large, gpt2-xl, pythia-1b; few rows; one head's rows of `W_O`.
const SHAPES: &[&str] = &[
    "2048x768x3072",
    "2048x3072x768",
    "2048x768x768",
    "2048x768x2304",
    "256x768x3072",
    "256x3072x768",
    "64x768x3072",
    "14x768x3072",
    "14x3072x768",
    "2048x1280x5120",
    "2048x5120x1280",
    "2048x1600x6400",
    "2048x6400x1600",
    "2048x2048x8192",
    "2048x8192x2048",
    "2048x2048x2048",
    "2048x64x768",
    "256x64x768",
];

#[derive(Clone, Copy)]
struct Shape {
    rows: usize,
    k: usize,
    n: usize,
}

/// The operands of one thread.
struct Work {
    shape: Shape,
    a: Vec<f32>,
    c: Vec<f32>,
}

fn ours(work: &mut Work, _: &[f32], packed: &PackedMatrix) {
    let Shape { rows, k, n } = work.shape;
    matmul(MatRef::new(&work.a, rows, k), packed.view(), MatMut::new(&mut work.c, rows, n), Init::Zero);
}

fn gemm_crate(work: &mut Work, w: &[f32], _: &PackedMatrix) {
    let Shape { rows, k, n } = work.shape;
    // SAFETY: the strides describe row-major matrices of these shapes.
    unsafe {
        let (c, a) = (work.c.as_mut_ptr(), work.a.as_ptr());
        let (n_, k_) = (n as isize, k as isize);
        let none = gemm::Parallelism::None;
        gemm::gemm(
            rows,
            n,
            k,
            c,
            1,
            n_,
            false,
            a,
            1,
            k_,
            w.as_ptr(),
            1,
            n_,
            0.0,
            1.0,
            false,
            false,
            false,
            none,
        );
    }
}

fn matrixmultiply_crate(work: &mut Work, w: &[f32], _: &PackedMatrix) {
    let Shape { rows, k, n } = work.shape;
    // SAFETY: the strides describe row-major matrices of these shapes.
    unsafe {
        let (c, a) = (work.c.as_mut_ptr(), work.a.as_ptr());
        let (n_, k_) = (n as isize, k as isize);
        matrixmultiply::sgemm(rows, k, n, 1.0, a, k_, 1, w.as_ptr(), n_, 1, 0.0, c, n_, 1);
    }
}

type Contender = fn(&mut Work, &[f32], &PackedMatrix);

const CONTENDERS: [(&str, Contender); 3] =
    [("kernels", ours), ("gemm", gemm_crate), ("matrixmultiply", matrixmultiply_crate)];

/// CPU time of this thread in seconds.
fn cpu_seconds() -> f64 {
    let mut t = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `t` is a valid place to write to.
    assert_eq!(unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut t) }, 0);
    t.tv_sec as f64 + t.tv_nsec as f64 * 1e-9
}

/// Seconds that the slowest thread needs for `repeats` products.
fn turn(f: Contender, threads: &mut [Work], w: &[f32], packed: &PackedMatrix, repeats: usize) -> f64 {
    let timed = move |work: &mut Work| {
        let start = cpu_seconds();
        (0..repeats).for_each(|_| f(black_box(work), w, packed));
        cpu_seconds() - start
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = threads.iter_mut().map(|work| scope.spawn(move || timed(work))).collect();
        threads.into_iter().map(|t| t.join().unwrap_or(f64::NAN)).fold(0.0, f64::max)
    })
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let value =
        |name: &str| args.iter().position(|a| a == name).and_then(|i| args.get(i + 1)?.parse::<f64>().ok());
    let n_threads = value("--threads").unwrap_or(1.0) as usize;
    let turns = value("--turns").unwrap_or(20.0) as usize;
    let chosen: Vec<&str> = args.iter().map(String::as_str).filter(|a| a.contains('x')).collect();
    let shapes = if chosen.is_empty() { SHAPES } else { &chosen };

    println!("{n_threads} thread(s), GFLOP/s of the fastest turn, (ratio to gemm)");
    println!("{:>16} {:>16} {:>10} {:>16}", "rows x k x n", "kernels", "gemm", "matrixmultiply");
    for text in shapes {
        let d: Vec<usize> = text.split('x').filter_map(|d| d.parse().ok()).collect();
        let &[rows, k, n] = &d[..] else {
            panic!("{text}: a shape is written rows x k x n, as in 256x768x3072")
        };
        let w: Vec<f32> = (0..k * n).map(|i| ((i * 7919) % 1021) as f32 / 512.0 - 1.0).collect();
        let packed = PackedMatrix::from_rows(&w, k, n);
        let shape = Shape { rows: rows.div_ceil(n_threads), k, n };
        let mut work: Vec<Work> = (0..n_threads)
            .map(|_| Work {
                shape,
                a: (0..shape.rows * k).map(|i| ((i * 104_729) % 2039) as f32 / 1024.0 - 1.0).collect(),
                c: vec![0.0; shape.rows * n],
            })
            .collect();
        let flop = 2.0 * (shape.rows * n_threads * k * n) as f64;
        let repeats = (4e8 / flop).ceil() as usize; // about 2 ms at the least
        let mut best = [f64::INFINITY; CONTENDERS.len()];
        for _ in 0..turns {
            for ((_, f), best) in CONTENDERS.iter().zip(&mut best) {
                *best = best.min(turn(*f, &mut work, &w, &packed, repeats) / repeats as f64);
            }
        }
        let rate = best.map(|t| flop / t / 1e9);
        let ratio = rate.map(|r| r / rate[1]);
        println!(
            "{text:>16} {:>9.1} ({:.2}) {:>10.1} {:>9.1} ({:.2})",
            rate[0], ratio[0], rate[1], rate[2], ratio[2]
        );
    }
}
