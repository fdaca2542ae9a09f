//! Layer norm and RMS norm.

use crate::simd::{Isa, Kernel, Simd, dispatch};
use crate::{MatMut, MatRef};

/// Layer norm of each row of `x`, `[rows, d]`, into `out`: `(x - mean) / sqrt(var + eps) * weight + bias`, where `var` is
/// the mean squared deviation. `weight` and `bias` are `[d]`; without them the row is only centred and scaled.
///
/// Mean and variance take two passes and are summed in float64.
///
/// # Panics
/// If the shapes differ.
#[track_caller]
pub fn layer_norm(x: MatRef<'_>, weight: Option<&[f32]>, bias: Option<&[f32]>, eps: f32, out: MatMut<'_>) {
    layer_norm_with(Isa::best(), x, weight, bias, eps, out);
}

/// [`layer_norm`] with the instructions of `isa`, or portable code if the CPU lacks them.
#[track_caller]
pub fn layer_norm_with(
    isa: Isa,
    x: MatRef<'_>,
    weight: Option<&[f32]>,
    bias: Option<&[f32]>,
    eps: f32,
    out: MatMut<'_>,
) {
    let d = x.cols();
    assert_eq!((x.rows(), d), (out.rows(), out.cols()), "shapes of x and out");
    for (name, v) in [("weight", weight), ("bias", bias)] {
        assert!(v.is_none_or(|v| v.len() == d), "length of the layer norm's {name}");
    }
    let affine = Affine { weight, one_plus: false, bias };
    dispatch(isa, Norm { x, is_centred: true, affine, eps, out });
}

/// RMS norm of each row of `x`, `[rows, d]`, into `out`: `x / sqrt(mean(x²) + eps) * gain`; with `one_plus`,
/// `gain` counts as `1 + gain` (Gemma). `gain` is `[d]`. Queries and keys are normalised per head, as rows of `d_head` values.
///
/// The squares are summed in float64; products round to float32 as in Hugging Face Transformers.
///
/// # Panics
/// If the shapes differ.
#[track_caller]
pub fn rms_norm(x: MatRef<'_>, gain: &[f32], one_plus: bool, eps: f32, out: MatMut<'_>) {
    rms_norm_with(Isa::best(), x, gain, one_plus, eps, out);
}

/// [`rms_norm`] with the instructions of `isa`, or portable code if the CPU lacks them.
#[track_caller]
pub fn rms_norm_with(isa: Isa, x: MatRef<'_>, gain: &[f32], one_plus: bool, eps: f32, out: MatMut<'_>) {
    assert_eq!((x.rows(), x.cols()), (out.rows(), out.cols()), "shapes of x and out");
    assert_eq!(gain.len(), x.cols(), "length of the RMS norm's gain");
    let affine = Affine { weight: Some(gain), one_plus, bias: None };
    dispatch(isa, Norm { x, is_centred: false, affine, eps, out });
}

/// The affine step after a row is centred and scaled: `x * weight + bias`, or `x * (1 + weight) + bias`.
#[derive(Clone, Copy)]
struct Affine<'a> {
    weight: Option<&'a [f32]>,
    one_plus: bool,
    bias: Option<&'a [f32]>,
}

/// Scales each row to a variance of 1 around its mean, or around 0 if it is not centred.
struct Norm<'a> {
    x: MatRef<'a>,
    is_centred: bool,
    affine: Affine<'a>,
    eps: f32,
    out: MatMut<'a>,
}

impl Kernel for Norm<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let d = self.x.cols() as f64;
        for i in 0..self.x.rows() {
            let row = self.x.row(i);
            let mean = if self.is_centred { (sum(s, row) / d) as f32 } else { 0.0 };
            let variance = squares(s, row, mean) / d;
            let scale = (1.0 / (variance + f64::from(self.eps)).sqrt()) as f32;
            write(s, row, mean, scale, self.affine, self.out.row_mut(i));
        }
    }
}

#[inline(always)]
fn sum<S: Simd>(s: S, x: &[f32]) -> f64 {
    let mut acc = s.zero_f64();
    let chunks = x.chunks_exact(S::LANES);
    let rest = chunks.remainder();
    for chunk in chunks {
        // SAFETY: the chunk has LANES values.
        acc = s.add_f64(acc, unsafe { s.load(chunk.as_ptr()) });
    }
    // SAFETY: the remainder has fewer than LANES values; the zeros after it add nothing.
    acc = s.add_f64(acc, unsafe { s.load_first(rest.as_ptr(), rest.len()) });
    s.sum_f64(acc)
}

#[inline(always)]
fn squares<S: Simd>(s: S, x: &[f32], mean: f32) -> f64 {
    let mut acc = s.zero_f64();
    let chunks = x.chunks_exact(S::LANES);
    let rest = chunks.remainder();
    for chunk in chunks {
        // SAFETY: the chunk has LANES values.
        let v = s.sub(unsafe { s.load(chunk.as_ptr()) }, s.splat(mean));
        acc = s.add_f64(acc, s.mul(v, v));
    }
    let mut total = s.sum_f64(acc);
    for x in rest {
        let v = x - mean;
        total += f64::from(v * v);
    }
    total
}

#[inline(always)]
fn write<S: Simd>(s: S, x: &[f32], mean: f32, scale: f32, affine: Affine<'_>, out: &mut [f32]) {
    let d = x.len();
    let (mean, scale) = (s.splat(mean), s.splat(scale));
    for i in (0..d).step_by(S::LANES) {
        let n = S::LANES.min(d - i);
        // SAFETY: x, weight, bias and out have d values, and `i + n <= d`.
        unsafe {
            let load =
                |p: *const f32| if n == S::LANES { s.load(p.add(i)) } else { s.load_first(p.add(i), n) };
            let mut v = s.mul(s.sub(load(x.as_ptr()), mean), scale);
            if let Some(w) = affine.weight {
                let w = load(w.as_ptr());
                v = s.mul(v, if affine.one_plus { s.add(s.splat(1.0), w) } else { w });
            }
            if let Some(b) = affine.bias {
                v = s.add(v, load(b.as_ptr()));
            }
            let to = out.as_mut_ptr().add(i);
            if n == S::LANES { s.store(to, v) } else { s.store_first(to, n, v) }
        }
    }
}
