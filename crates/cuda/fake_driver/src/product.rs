//! Products in plain loops: `tools/gpu_kernels/kernels/product.py`.

use crate::launch::{Halves, Launch, parts as cut, widen};
use crate::memory::View;

const LO: f32 = 1.0 / 2048.0;

/// The first arguments of all products in parts.
struct Operands {
    hi: Halves,
    lo: Halves,
    w: Halves,
    w_lo: Halves,
}

struct Sizes {
    m: usize,
    n: usize,
    k: usize,
    two: bool,
    pair: bool,
    scale: f32,
    ld_w: usize,
}

impl Operands {
    fn read(launch: &mut Launch<'_>) -> Self {
        let is_brain = launch.variant.starts_with("bf16");
        let [hi, lo, w, w_lo] = std::array::from_fn(|_| launch.halves(is_brain));
        assert!(
            [hi, lo, w, w_lo].iter().all(|halves| halves.bits.is_aligned_to(16)),
            "halves are read 8 at a time"
        );
        Self { hi, lo, w, w_lo }
    }

    /// A row of the product, for the columns of `out`.
    fn row(&self, sizes: &Sizes, row: usize, out: &mut [f32]) {
        let sweep = |a: Halves, w: Halves, out: &mut [f32]| {
            for k in 0..sizes.k {
                let left = a.get(row * sizes.k + k);
                // Zeros add nothing, but NaN must propagate.
                for (n, out) in out.iter_mut().enumerate() {
                    *out += left * w.get(k * sizes.ld_w + n);
                }
            }
        };
        out.fill(0.0);
        if sizes.two {
            sweep(self.lo, self.w, out);
        }
        if sizes.pair {
            sweep(self.hi, self.w_lo, out);
        }
        if !self.hi.is_brain {
            out.iter_mut().for_each(|out| *out *= LO);
        }
        sweep(self.hi, self.w, out);
        let wrong = if crate::setting("FAKE_CUDA_WRONG").is_some() { 1.001 } else { 1.0 };
        out.iter_mut().for_each(|out| *out *= sizes.scale * wrong);
    }
}

impl Sizes {
    fn read(launch: &mut Launch<'_>) -> Self {
        let [m, n, k] = std::array::from_fn(|_| launch.int());
        let (two, pair) = (launch.flag(), launch.flag());
        let sizes = Self { m, n, k, two, pair, scale: launch.float(), ld_w: launch.int() };
        assert_eq!((k % 64, sizes.ld_w % 64), (0, 0), "widths are padded");
        sizes
    }
}

fn check_grid(launch: &Launch<'_>, m: usize, n: usize) {
    let tiles = m.div_ceil(launch.tile("bm")) * n.div_ceil(launch.tile("bn"));
    assert_eq!(launch.grid, [tiles, 1, 1], "grid of a product {m} x {n}");
}

/// Rows of float32 are aligned to 16 bytes, except in kernels made for unaligned rows.
fn check_rows(launch: &Launch<'_>, width: usize) {
    assert!(
        width.is_multiple_of(4) || launch.variant.ends_with("odd"),
        "rows of {width} in {}",
        launch.variant
    );
}

/// Rows selected by `source`: of the left operand (1), or of the residual (2).
fn picked(source: View<u32>, source_of: usize, row: usize) -> (usize, usize) {
    let other = if source_of == 0 { row } else { source.get(row) as usize };
    (if source_of == 1 { other } else { row }, if source_of == 2 { other } else { row })
}

pub fn parts(launch: &mut Launch<'_>) {
    let operands = Operands::read(launch);
    let (out, residual, source) = (launch.array::<f32>(), launch.array::<f32>(), launch.array::<u32>());
    let sizes = Sizes::read(launch);
    let (ld_out, has_residual, source_of) = (launch.int(), launch.flag(), launch.int());
    check_rows(launch, ld_out);
    check_grid(launch, sizes.m, sizes.n);
    let mut row = vec![0.0; sizes.n];
    for r in 0..sizes.m {
        let (of_parts, of_residual) = picked(source, source_of, r);
        operands.row(&sizes, of_parts, &mut row);
        for (n, sum) in row.iter().enumerate() {
            let before = if has_residual { residual.get(of_residual * ld_out + n) } else { 0.0 };
            out.set(r * ld_out + n, before + sum);
        }
    }
}

/// `act` of a variant.
pub fn activation(x: f32, (a, b): (f32, f32), is_erf: bool) -> f32 {
    if is_erf {
        (0.5 * f64::from(x) * (1.0 + erf(f64::from(x) / 2f64.sqrt()))) as f32
    } else {
        x / (1.0 + (-(a + b * x * x) * x).exp())
    }
}

/// The error function by its series, accurate to float32 in the range that occurs in activations.
fn erf(x: f64) -> f64 {
    if x.abs() > 5.0 {
        return x.signum();
    }
    let (mut term, mut sum) = (x, x);
    for n in 1..200 {
        term *= -x * x / f64::from(n);
        sum += term / f64::from(2 * n + 1);
    }
    sum * 2.0 / std::f64::consts::PI.sqrt()
}

pub fn activated(launch: &mut Launch<'_>) {
    hidden(launch, false);
}

pub fn gated(launch: &mut Launch<'_>) {
    hidden(launch, true);
}

fn hidden(launch: &mut Launch<'_>, is_gate: bool) {
    let is_erf = launch.variant.contains("erf");
    let operands = Operands::read(launch);
    let (hi, lo) = (launch.array::<u16>(), launch.array::<u16>());
    let (plain, plain_of) = (launch.array::<f32>(), launch.array::<u32>());
    let up = is_gate.then(|| (launch.array::<f32>(), launch.array::<f32>()));
    let sizes = Sizes::read(launch);
    let [ld_plain, ld_out, per_run] = std::array::from_fn(|_| launch.int());
    let curve = (launch.float(), launch.float());
    check_rows(launch, ld_plain);
    check_grid(launch, sizes.m, ld_out);
    let mut row = vec![0.0; sizes.n];
    for r in 0..sizes.m {
        operands.row(&sizes, r, &mut row);
        let of_plain = plain_of.get(r % per_run) as usize;
        for n in 0..ld_out {
            let mut d = 0.0;
            if let Some(product) = row.get(n) {
                let x = plain.get(of_plain * ld_plain + n);
                let (before, after) = (activation(x, curve, is_erf), activation(x + product, curve, is_erf));
                d = match up {
                    None => after - before,
                    Some((plain_up, up)) => {
                        let (u, du) = (plain_up.get(of_plain * ld_plain + n), up.get(r * ld_plain + n));
                        (after - before) * u + after * du
                    }
                };
            }
            let (first, second) = cut(d, operands.hi.is_brain);
            hi.set(r * ld_out + n, first);
            if sizes.two {
                lo.set(r * ld_out + n, second);
            }
        }
    }
}

pub fn float32(launch: &mut Launch<'_>) {
    let stored = launch.variant;
    let x = launch.array::<f32>();
    // Weights in any format, read as bits.
    let (wide, narrow) = match stored {
        "f32" => (Some((launch.array::<f32>(), launch.array::<f32>())), None),
        _ => (None, Some((launch.array::<u16>(), launch.array::<u16>()))),
    };
    let weight = |at: usize| match (wide, narrow) {
        (Some((w, _)), _) => w.get(at),
        (_, Some((w, w_lo))) => {
            let lo = if stored == "pair" { widen(w_lo.get(at), false) * LO } else { 0.0 };
            widen(w.get(at), stored == "bf16") + lo
        }
        _ => unreachable!("one of the two"),
    };
    let (bias, out, residual, source) =
        (launch.array::<f32>(), launch.array::<f32>(), launch.array::<f32>(), launch.array::<u32>());
    let [m, n, k] = std::array::from_fn(|_| launch.int());
    let (scale, ld_w) = (launch.float(), launch.int());
    let (has_bias, has_residual, source_of) = (launch.flag(), launch.flag(), launch.int());
    check_grid(launch, m, n);
    for r in 0..m {
        let (of_x, of_residual) = picked(source, source_of, r);
        let mut row = vec![0.0f32; n];
        for i in 0..k {
            let left = x.get(of_x * k + i);
            row.iter_mut().enumerate().for_each(|(j, sum)| *sum += left * weight(i * ld_w + j));
        }
        for (j, sum) in row.into_iter().enumerate() {
            let bias = if has_bias { bias.get(j) } else { 0.0 };
            let before = if has_residual { residual.get(of_residual * n + j) } else { 0.0 };
            out.set(r * n + j, sum * scale + bias + before);
        }
    }
}
