//! Nonlinearities, in place, with relative errors of about one unit in the last place (bounds: see the tests).
//!
//! Both GELUs are `x` times a probability that falls like an exponential for negative `x`. Relative accuracy there needs
//! the exponent to better than float32: it is carried as an unevaluated sum of two floats (Dekker 1971).

use crate::simd::{Isa, Kernel, Simd, dispatch};
use crate::vector::map;

/// `x Φ(x)`, with the exact normal distribution function (Hendrycks & Gimpel 2016).
pub fn gelu_erf(x: &mut [f32]) {
    gelu_erf_with(Isa::best(), x);
}

/// [`gelu_erf`] with the instructions of `isa`.
pub fn gelu_erf_with(isa: Isa, x: &mut [f32]) {
    dispatch(isa, GeluErf(x));
}

/// `x/2 (1 + tanh(√(2/π) (x + 0.044715 x³)))`, which is `x σ(2 √(2/π) (x + 0.044715 x³))`.
pub fn gelu_tanh(x: &mut [f32]) {
    gelu_tanh_with(Isa::best(), x);
}

/// [`gelu_tanh`] with the instructions of `isa`.
pub fn gelu_tanh_with(isa: Isa, x: &mut [f32]) {
    dispatch(isa, GeluTanh(x));
}

/// `x σ(x)`
pub fn silu(x: &mut [f32]) {
    silu_with(Isa::best(), x);
}

/// [`silu`] with the instructions of `isa`.
pub fn silu_with(isa: Isa, x: &mut [f32]) {
    dispatch(isa, Silu(x));
}

/// `max(x, 0)`; NaN stays NaN.
pub fn relu(x: &mut [f32]) {
    x.iter_mut().for_each(|x| *x = if *x < 0.0 { 0.0 } else { *x });
}

struct GeluErf<'a>(&'a mut [f32]);
struct GeluTanh<'a>(&'a mut [f32]);
struct Silu<'a>(&'a mut [f32]);

/// `erfc(z) exp(z²) = t p(t)` with `t = 1 / (1 + 0.4 z)`, to a relative 8e-9 for `0 <= z <= 10.2`; from
/// `tools/fit_erfcx.py`. Constant term first.
const ERFCX: [f32; 10] = [
    2.257_055_6e-1,
    2.249_782_7e-1,
    2.147_008_8e-1,
    1.306_983_8e-1,
    2.691_185_4e-1,
    -2.788_745_9e-1,
    5.408_321_6e-1,
    -4.938_604_6e-1,
    1.959_080_8e-1,
    -2.920_679_9e-2,
];

impl Kernel for GeluErf<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (one, zero) = (s.splat(1.0), s.splat(0.0));
        map(s, self.0, |_, _, x| {
            // Beyond 14.4 the result is x, or below the smallest float.
            let a = s.min(s.splat(14.4), s.abs(x));
            // t = 1 / (1 + 0.4 z), z = a / sqrt(2)
            let t = s.div(one, s.fma(a, s.splat(0.282_842_7), one));
            let mut p = s.splat(ERFCX[9]);
            for &c in ERFCX[..9].iter().rev() {
                p = s.fma(p, t, s.splat(c));
            }
            // exp(-a²/2), the square exact as a sum of two floats
            let square = s.mul(a, a);
            let rest = s.fma(a, a, s.sub(zero, square));
            let half = s.splat(-0.5);
            let (scale, n) = exp_parts(s, s.mul(half, square), s.mul(half, rest));
            // a Φ(-a) = a/2 erfc(a/√2)
            let tail = s.scale_pow2(s.mul(s.mul(s.mul(s.splat(0.5), a), s.mul(t, p)), scale), n);
            // x Φ(x) is x - a Φ(-a) for positive x and -a Φ(-a) for negative; x carries NaN and infinity.
            let positive = s.sub(x, tail);
            let negative = s.sub(zero, tail);
            keep_nan(s, x, s.select_negative(x, negative, positive))
        });
    }
}

impl Kernel for GeluTanh<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        // 2 √(2/π) and 0.044715 times it, each as a sum of two floats
        const A: f64 = 1.595_769_121_605_730_7;
        const B: f64 = 0.044_715 * A;
        let (a, a_rest) = (s.splat(A as f32), s.splat((A - A as f32 as f64) as f32));
        let (b, b_rest) = (s.splat(B as f32), s.splat((B - B as f32 as f64) as f32));
        let zero = s.splat(0.0);
        map(s, self.0, |_, _, x| {
            // Beyond 14.4 the result is x, or below the smallest float.
            let v = s.min(s.splat(14.4), s.abs(x));
            // w = v (a + b v²), with its rounding errors
            let square = s.mul(v, v);
            let square_rest = s.fma(v, v, s.sub(zero, square));
            let p = s.mul(b, square);
            let p_rest = s.fma(b, square, s.sub(zero, p));
            let p_rest = s.add(p_rest, s.fma(b_rest, square, s.mul(b, square_rest)));
            let sum = s.add(a, p);
            let back = s.sub(sum, a);
            let sum_rest = s.add(s.sub(a, s.sub(sum, back)), s.sub(p, back));
            let sum_rest = s.add(sum_rest, s.add(a_rest, p_rest));
            let w = s.mul(v, sum);
            let w_rest = s.fma(v, sum_rest, s.fma(v, sum, s.sub(zero, w)));
            gelu_from_logit(s, x, v, w, w_rest)
        });
    }
}

impl Kernel for Silu<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        map(s, self.0, |_, _, x| {
            let v = s.min(s.splat(120.0), s.abs(x));
            gelu_from_logit(s, x, v, v, s.splat(0.0))
        });
    }
}

/// `x σ(±(w + w_rest))`, with the sign of `x` and `v = |x|`, cut off where it no longer matters.
#[inline(always)]
fn gelu_from_logit<S: Simd>(s: S, x: S::F, v: S::F, w: S::F, w_rest: S::F) -> S::F {
    let (one, zero) = (s.splat(1.0), s.splat(0.0));
    let (e, n) = exp_parts(s, s.sub(zero, w), s.sub(zero, w_rest));
    let denominator = s.add(one, s.scale_pow2(e, n));
    // σ(-w) = e^-w / (1 + e^-w) and σ(w) = 1 / (1 + e^-w)
    let negative = s.sub(zero, s.scale_pow2(s.div(s.mul(v, e), denominator), n));
    let positive = s.div(x, denominator);
    keep_nan(s, x, s.select_negative(x, negative, positive))
}

/// `y`, or NaN where `x` is NaN: `x - x` is 0 for every finite `x`, and infinities come out right by themselves.
#[inline(always)]
fn keep_nan<S: Simd>(s: S, x: S::F, y: S::F) -> S::F {
    let limited = s.max(s.splat(-1e30), s.min(s.splat(1e30), x)); // an infinity becomes finite, NaN stays
    s.add(y, s.sub(limited, limited))
}

/// `exp(x + rest)` as `(m, n)` with value `m 2^n`, for `-180 <= x <= 0` and small `rest`.
#[inline(always)]
pub(crate) fn exp_parts<S: Simd>(s: S, x: S::F, rest: S::F) -> (S::F, S::F) {
    let x = s.max(s.splat(-174.0), x);
    let n = s.round(s.mul(x, s.splat(std::f32::consts::LOG2_E)));
    // ln 2 in two parts (Cody & Waite): the first has few bits, so that n times it is exact.
    let r = s.fnma(n, s.splat(0.693_359_4), x);
    let r = s.fnma(n, s.splat(-2.121_944_4e-4), r);
    let r = s.add(r, rest);
    // Taylor series: |r| <= ln(2)/2, error 5e-9
    let mut p = s.splat(1.0 / 5040.0);
    for c in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0] {
        p = s.fma(p, r, s.splat(c));
    }
    (s.fma(p, r, s.splat(1.0)), n)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn erfc(z: f64) -> f64 {
        // Continued fraction for large z, series for small: slow and plain.
        if z < 0.0 {
            2.0 - erfc(-z)
        } else if z < 2.0 {
            let (mut term, mut sum) = (z, z);
            for n in 1..200 {
                term *= -z * z / n as f64;
                sum += term / (2 * n + 1) as f64;
            }
            1.0 - 2.0 / std::f64::consts::PI.sqrt() * sum
        } else {
            let mut f = z;
            for n in (1..400).rev() {
                f = z + n as f64 / 2.0 / f;
            }
            (-z * z).exp() / f / std::f64::consts::PI.sqrt()
        }
    }

    fn gelu_erf_reference(x: f64) -> f64 {
        x * 0.5 * erfc(-x * std::f64::consts::FRAC_1_SQRT_2)
    }

    fn gelu_tanh_reference(x: f64) -> f64 {
        let w = 2.0 * (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x);
        x / (1.0 + (-w).exp())
    }

    fn silu_reference(x: f64) -> f64 {
        x / (1.0 + (-x).exp())
    }

    /// Largest relative error where the result is a normal float, over every 997th float of both signs.
    fn worst(kernel: fn(Isa, &mut [f32]), reference: fn(f64) -> f64, isa: Isa) -> (f64, f32) {
        let mut worst = (0.0, 0.0);
        let floats = (0u32..0x7f80_0000).step_by(997).map(f32::from_bits);
        let inputs: Vec<f32> = floats.flat_map(|x| [x, -x]).collect();
        let mut outputs = inputs.clone();
        kernel(isa, &mut outputs);
        for (&x, &y) in inputs.iter().zip(&outputs) {
            let exact = reference(f64::from(x));
            if exact.abs() < 1.2e-38 {
                assert!((f64::from(y) - exact).abs() < 1e-44 + 2e-7 * exact.abs() + 1.5e-45, "{x}: {y} for {exact}");
                continue;
            }
            let error = (f64::from(y) - exact).abs() / exact.abs();
            if error > worst.0 {
                worst = (error, x);
            }
        }
        worst
    }

    #[test]
    fn activations_are_accurate_to_2e_7() {
        type Case = (&'static str, fn(Isa, &mut [f32]), fn(f64) -> f64);
        let cases: [Case; 3] = [
            ("gelu_erf", gelu_erf_with, gelu_erf_reference),
            ("gelu_tanh", gelu_tanh_with, gelu_tanh_reference),
            ("silu", silu_with, silu_reference),
        ];
        for isa in Isa::available() {
            for (name, kernel, reference) in cases {
                let (error, at) = worst(kernel, reference, isa);
                println!("{name} {isa:?}: {error:.2e} at {at}");
                assert!(error <= 2e-7, "{name} {isa:?}: {error:e} at {at}");
            }
        }
    }

    #[test]
    fn extremes() {
        for isa in Isa::available() {
            for kernel in [gelu_erf_with, gelu_tanh_with, silu_with] {
                let mut x = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.0, f32::MAX, f32::MIN, 1e-42];
                kernel(isa, &mut x);
                assert!(x[0].is_nan(), "{isa:?}");
                assert_eq!(x[1], f32::INFINITY);
                assert_eq!(x[2], 0.0);
                assert_eq!((x[3], x[4], x[5]), (0.0, f32::MAX, 0.0));
            }
        }
        let mut x = [f32::NAN, -1.0, 2.0];
        relu(&mut x);
        assert!(x[0].is_nan());
        assert_eq!(x[1..], [0.0, 2.0]);
    }

    #[test]
    fn a_value_does_not_depend_on_its_place() {
        let values: Vec<f32> = (0..70).map(|i| (i as f32 - 35.0) * 0.37).collect();
        for isa in Isa::available() {
            for kernel in [gelu_erf_with, gelu_tanh_with, silu_with] {
                let mut whole = values.clone();
                kernel(isa, &mut whole);
                for (i, &x) in values.iter().enumerate() {
                    let mut one = [x];
                    kernel(isa, &mut one);
                    assert_eq!(one[0].to_bits(), whole[i].to_bits(), "{isa:?} {x}");
                }
            }
        }
    }
}
