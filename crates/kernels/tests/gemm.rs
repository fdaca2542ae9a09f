//! The packed matrix product against a float64 loop, on every instruction set, and its row invariance.

use kernels::{Init, Isa, MatMut, MatRef, PackedMatrix, matmul_with};

/// Reproducible values in -1..1.
fn values(n: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..n)
        .map(|_| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            ((state >> 40) as f32) / (1u32 << 23) as f32 - 1.0
        })
        .collect()
}

/// `A W` in float64.
fn reference(a: &[f32], w: &[f32], rows: usize, k: usize, n: usize) -> Vec<f64> {
    let mut c = vec![0.0; rows * n];
    for i in 0..rows {
        for l in 0..k {
            for j in 0..n {
                c[i * n + j] += f64::from(a[i * k + l]) * f64::from(w[l * n + j]);
            }
        }
    }
    c
}

#[test]
fn agrees_with_float64_on_odd_shapes() {
    for isa in Isa::available() {
        for (rows, k, n) in [(1, 1, 1), (3, 5, 7), (14, 64, 32), (15, 65, 33), (29, 600, 100), (40, 1030, 48)]
        {
            let (a, w) = (values(rows * k, 1), values(k * n, 2));
            let packed = PackedMatrix::from_rows(&w, k, n);
            let mut c = vec![f32::NAN; rows * n];
            matmul_with(
                isa,
                MatRef::new(&a, rows, k),
                packed.view(),
                MatMut::new(&mut c, rows, n),
                Init::Zero,
            );
            for (i, (got, want)) in c.iter().zip(reference(&a, &w, rows, k, n)).enumerate() {
                let bound = 1e-6 * (k as f64).sqrt();
                assert!((f64::from(*got) - want).abs() < bound, "{isa:?} [{rows},{k},{n}] {i}: {got} {want}");
            }
        }
    }
}

#[test]
fn rows_do_not_depend_on_each_other() {
    let (k, n) = (1031, 75);
    let (a, w) = (values(40 * k, 3), values(k * n, 4));
    let packed = PackedMatrix::from_rows(&w, k, n);
    for isa in Isa::available() {
        let run = |a: &[f32], rows: usize| {
            let mut c = vec![f32::NAN; rows * n];
            matmul_with(
                isa,
                MatRef::new(a, rows, k),
                packed.view(),
                MatMut::new(&mut c, rows, n),
                Init::Zero,
            );
            c
        };
        let whole = run(&a, 40);
        for rows in 1..40 {
            for start in [0, 40 - rows] {
                let part = run(&a[start * k..], rows);
                assert_eq!(part, whole[start * n..][..rows * n], "{isa:?}: {rows} rows from {start}");
            }
        }
    }
}
