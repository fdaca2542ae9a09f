//! Layer norm (Ba et al. 2016).

use crate::simd::{Isa, Kernel, Simd, dispatch};

/// `out = (x - mean) / √(variance + eps) · weight + bias`, row by row; the variance is the biased one.
///
/// `x` and `out` are `[rows, d]`; `weight` and `bias`, where given, `[d]`. Mean and variance are summed in float64.
///
/// # Panics
/// If `d` is 0 or the shapes do not fit.
#[track_caller]
pub fn layer_norm(x: &[f32], d: usize, weight: Option<&[f32]>, bias: Option<&[f32]>, eps: f32, out: &mut [f32]) {
    layer_norm_with(Isa::best(), x, d, weight, bias, eps, out);
}

/// [`layer_norm`] with the instructions of `isa`.
#[track_caller]
pub fn layer_norm_with(
    isa: Isa,
    x: &[f32],
    d: usize,
    weight: Option<&[f32]>,
    bias: Option<&[f32]>,
    eps: f32,
    out: &mut [f32],
) {
    assert!(d > 0, "rows need at least one column");
    assert_eq!(x.len() % d, 0, "x is no whole number of rows of {d}");
    assert_eq!(x.len(), out.len(), "shapes of x and out");
    assert!(weight.is_none_or(|w| w.len() == d), "length of the weight and columns");
    assert!(bias.is_none_or(|b| b.len() == d), "length of the bias and columns");
    dispatch(isa, LayerNorm { x, d, weight, bias, eps, out });
}

struct LayerNorm<'a> {
    x: &'a [f32],
    d: usize,
    weight: Option<&'a [f32]>,
    bias: Option<&'a [f32]>,
    eps: f32,
    out: &'a mut [f32],
}

impl Kernel for LayerNorm<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let d = self.d;
        let whole = d - d % S::LANES;
        let rest = d - whole;
        let weight = self.weight.map(<[f32]>::as_ptr);
        let bias = self.bias.map(<[f32]>::as_ptr);
        for (x, out) in self.x.chunks_exact(d).zip(self.out.chunks_exact_mut(d)) {
            let (x, out) = (x.as_ptr(), out.as_mut_ptr());
            // SAFETY: rows, weight and bias have `d = whole + rest` values each, `rest < LANES`.
            unsafe {
                let mut sum = s.zero_f64();
                for at in (0..whole).step_by(S::LANES) {
                    sum = s.add_f64(sum, s.load(x.add(at)));
                }
                if rest > 0 {
                    sum = s.add_f64(sum, s.load_first(x.add(whole), rest));
                }
                let mean = s.sum_f64(sum) / d as f64;

                // Differences from the rounded mean; what the rounding leaves out is taken off the variance.
                let centre = s.splat(mean as f32);
                let mut squares = s.zero_f64();
                for at in (0..whole).step_by(S::LANES) {
                    let c = s.sub(s.load(x.add(at)), centre);
                    squares = s.add_f64(squares, s.mul(c, c));
                }
                let mut squares = s.sum_f64(squares);
                for at in whole..d {
                    let c = x.add(at).read() - mean as f32;
                    squares += f64::from(c * c);
                }
                let shift = mean - f64::from(mean as f32);
                let variance = squares / d as f64 - shift * shift;
                let scale = s.splat((1.0 / (variance + f64::from(self.eps)).sqrt()) as f32);

                let apply = |v: S::F, w: Option<S::F>, b: Option<S::F>| {
                    let v = s.mul(s.sub(v, centre), scale);
                    match (w, b) {
                        (None, None) => v,
                        (Some(w), None) => s.mul(v, w),
                        (None, Some(b)) => s.add(v, b),
                        (Some(w), Some(b)) => s.fma(v, w, b),
                    }
                };
                for at in (0..whole).step_by(S::LANES) {
                    let w = weight.map(|w| s.load(w.add(at)));
                    let b = bias.map(|b| s.load(b.add(at)));
                    s.store(out.add(at), apply(s.load(x.add(at)), w, b));
                }
                if rest > 0 {
                    let w = weight.map(|w| s.load_first(w.add(whole), rest));
                    let b = bias.map(|b| s.load_first(b.add(whole), rest));
                    s.store_first(out.add(whole), rest, apply(s.load_first(x.add(whole), rest), w, b));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_float64() {
        for d in [1, 2, 5, 16, 17, 31, 64, 77, 768] {
            let x: Vec<f32> = (0..3 * d).map(|i| ((i * 7919 % 1013) as f32 - 506.0) * 0.013 + 3.0).collect();
            let weight: Vec<f32> = (0..d).map(|i| 1.0 + 0.1 * (i % 7) as f32).collect();
            let bias: Vec<f32> = (0..d).map(|i| 0.3 - 0.05 * (i % 5) as f32).collect();
            for isa in Isa::available() {
                for (w, b) in
                    [(None, None), (Some(&weight), None), (None, Some(&bias)), (Some(&weight), Some(&bias))]
                {
                    let mut out = vec![0.0; 3 * d];
                    layer_norm_with(isa, &x, d, w.map(|w| &w[..]), b.map(|b| &b[..]), 1e-5, &mut out);
                    for (x, out) in x.chunks(d).zip(out.chunks(d)) {
                        let mean = x.iter().map(|&v| f64::from(v)).sum::<f64>() / d as f64;
                        let variance = x.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / d as f64;
                        for i in 0..d {
                            let v = (f64::from(x[i]) - mean) / (variance + 1e-5f32 as f64).sqrt();
                            let exact = v * w.map_or(1.0, |w| f64::from(w[i])) + b.map_or(0.0, |b| f64::from(b[i]));
                            assert!((f64::from(out[i]) - exact).abs() < 1e-6, "{isa:?} {d}: {} {exact}", out[i]);
                        }
                    }
                }
            }
        }
    }
}
