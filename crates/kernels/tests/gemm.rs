//! The packed matrix product and the float64 products of rows against float64 loops, on every instruction set, and their
//! row invariance.

use cs_kernels::{Init, Isa, MatMut, MatRef, PackedMatrix, dot_rows_with, matmul_with};

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

#[test]
fn products_of_rows_agree_with_float64_and_are_independent() {
    for isa in Isa::available() {
        for d in [1, 7, 8, 16, 96, 101] {
            let (x, mut table) = (values(d, 5), values(9 * d, 6));
            table[3 * d] = f32::NAN;
            let rows = [8, 0, 3, 3, 5, 1, 7];
            let mut out = [0.0; 7];
            dot_rows_with(isa, &x, &table, &rows, &mut out);
            for (&row, &got) in rows.iter().zip(&out) {
                let of_row = &table[row as usize * d..][..d];
                let want: f64 = x.iter().zip(of_row).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
                let right = (got - want).abs() < 1e-13 || (got.is_nan() && want.is_nan());
                assert!(right, "{isa:?} [{d}] row {row}: {got} {want}");
                let mut alone = [0.0];
                dot_rows_with(isa, &x, &table, &[row], &mut alone);
                assert_eq!(alone[0].to_bits(), got.to_bits(), "{isa:?} [{d}] row {row}");
            }
        }
    }
}

#[test]
#[should_panic(expected = "a row past the table's 2")]
fn products_with_missing_rows_are_rejected() {
    dot_rows_with(Isa::best(), &[1.0; 3], &[1.0; 7], &[1, 2], &mut [0.0; 2]);
}
