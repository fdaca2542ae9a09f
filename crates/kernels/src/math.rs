//! Approximations of exp and of the functions built on it, one vector at a time.
//!
//! All coefficients come from `tools/minimax.py`.

use crate::simd::Simd;

/// `p(x)` by Horner's rule, lowest coefficient first.
#[inline(always)]
fn polynomial<S: Simd, const N: usize>(s: S, coefficients: &[f32; N], x: S::F) -> S::F {
    let mut p = s.splat(coefficients[N - 1]);
    for i in (0..N - 1).rev() {
        p = s.fma(p, x, s.splat(coefficients[i]));
    }
    p
}

/// `exp(x - rest)` as `(1 + m) * 2^n`, for `|x| < 200` and small `rest`.
#[inline(always)]
fn exp_parts<S: Simd>(s: S, x: S::F, rest: S::F) -> (S::F, S::F) {
    /// ln 2 in two parts, the first with so few bits that its multiples up to 2^9 are exact.
    const LN_2: [f32; 2] = [6.9317627e-1, -2.9088971e-5];
    /// `(exp(r) - 1 - r) / r^2`; relative error of exp 3e-9.
    const Q: [f32; 5] = [4.9999994e-1, 1.6666517e-1, 4.1668102e-2, 8.3691925e-3, 1.3838899e-3];
    let n = s.round(s.mul(x, s.splat(std::f32::consts::LOG2_E)));
    let r = s.sub(s.fnma(n, s.splat(LN_2[0]), x), s.fma(n, s.splat(LN_2[1]), rest));
    (s.fma(s.mul(r, r), polynomial(s, &Q, r), r), n)
}

/// `exp(x)`: 0 from about -104 down, infinity from 89 up; NaN stays NaN.
#[inline(always)]
pub(crate) fn exp<S: Simd>(s: S, x: S::F) -> S::F {
    // With `x` as the second argument, NaN propagates.
    let x = s.min(s.splat(100.0), s.max(s.splat(-120.0), x));
    let (m, n) = exp_parts(s, x, s.splat(0.0));
    s.scale_pow2(s.add(s.splat(1.0), m), n)
}

/// `tanh(x) = -sign(x) E / (2 + E)` with `E = exp(-2 |x|) - 1`, which keeps its relative accuracy for small x.
#[inline(always)]
pub(crate) fn tanh<S: Simd>(s: S, x: S::F) -> S::F {
    // From 10 on the result is 1.
    let a = s.min(s.splat(10.0), s.abs(x));
    let (m, n) = exp_parts(s, s.mul(a, s.splat(-2.0)), s.splat(0.0));
    // (1 + m) 2^n - 1
    let e = s.add(s.sub(s.scale_pow2(s.splat(1.0), n), s.splat(1.0)), s.scale_pow2(m, n));
    let size = s.div(s.neg(e), s.add(s.splat(2.0), e));
    s.select_negative(x, s.neg(size), size)
}

/// `x / (1 + exp(-x))`
#[inline(always)]
pub(crate) fn silu<S: Simd>(s: S, x: S::F) -> S::F {
    let a = s.min(s.splat(120.0), s.abs(x));
    let (m, n) = exp_parts(s, s.neg(a), s.splat(0.0));
    times_logistic(s, x, a, m, n)
}

/// `x / (1 + e)` for positive and `x e / (1 + e)` for negative `x`, where `e = (1 + m) * 2^n <= 1`; `a = |x|`, or less
/// where `x e` is zero anyway.
#[inline(always)]
fn times_logistic<S: Simd>(s: S, x: S::F, a: S::F, m: S::F, n: S::F) -> S::F {
    let one = s.splat(1.0);
    let e = s.scale_pow2(s.add(one, m), n);
    // `a (1 + m)` is scaled last, so that a subnormal result is rounded only once.
    let negative = s.scale_pow2(s.fnma(a, m, s.neg(a)), n);
    s.div(s.select_negative(x, s.add(negative, minus_infinity(s, x)), x), s.add(one, e))
}

/// 0, or NaN if `x` is negative infinity (where PyTorch's activations compute `-inf * 0`) or NaN.
#[inline(always)]
fn minus_infinity<S: Simd>(s: S, x: S::F) -> S::F {
    s.mul(s.min(s.splat(0.0), x), s.splat(0.0))
}

/// `x Phi(x) = max(x, 0) - a Q(a)` with `a = |x|`, `Q(a) = erfc(a / sqrt 2) / 2`.
///
/// `a Q(a) = exp(-a^2 / 2) w P(w - 1/2)`, `w = a / (a + k)`, keeps its relative accuracy where `1 + erf` would cancel.
#[inline(always)]
pub(crate) fn gelu_erf<S: Simd>(s: S, x: S::F) -> S::F {
    const K: f32 = 2.550_781_2;
    const P_0: f32 = 7.0937073e-1;
    const P_REST: [f32; 9] = [
        -8.849142e-1,
        5.695346e-1,
        3.5995122e-2,
        -2.7018884e-1,
        -2.012193e-2,
        1.6988902e-1,
        6.479334e-2,
        -9.248903e-2,
        -7.654181e-2,
    ];
    let a = s.min(s.splat(15.0), s.abs(x));
    let half = s.mul(a, s.splat(-0.5));
    let exponent = s.mul(half, a);
    let (m, n) = exp_parts(s, exponent, s.fnma(half, a, exponent));
    // w + w_low = a / (d + d_low), where d + d_low = a + k exactly
    let d = s.add(a, s.splat(K));
    let d_low = s.sub(a, s.sub(d, s.splat(K)));
    let inverse = s.div(s.splat(1.0), d);
    let w = s.mul(a, inverse);
    let w_low = s.mul(s.fnma(w, d_low, s.fnma(w, d, a)), inverse);
    // p + p_low = P(v), its last step without rounding
    let v = s.add(s.sub(w, s.splat(0.5)), w_low);
    let (p0, rest) = (s.splat(P_0), polynomial(s, &P_REST, v));
    let p = s.fma(v, rest, p0);
    let p_low = s.fma(v, rest, s.sub(p0, p));
    // (w + w_low) (p + p_low) (1 + m), its parts added from smallest to largest
    let g = s.mul(w, p);
    let low = s.sub(s.fma(g, m, s.fma(w, p_low, s.mul(w_low, p))), s.fnma(w, p, g));
    let a_q = s.scale_pow2(s.add(g, low), n);
    s.sub(s.add(s.max(s.splat(0.0), x), minus_infinity(s, x)), a_q)
}

/// `x / 2 (1 + tanh(u)) = x / (1 + exp(-2 u))` with `u = sqrt(2 / pi) (x + 0.044715 x^3)`.
///
/// `2 u = c y` with `y = x (x^2 + K)`, `K = 1 / 0.044715`: y is computed to twice float32's precision, because for
/// negative x an error in `2 u` is a relative error of the result.
#[inline(always)]
pub(crate) fn gelu_tanh<S: Simd>(s: S, x: S::F) -> S::F {
    /// `K` in two parts, the first short enough for `d` below to be exact.
    const K: [f32; 2] = [2.2364258e1, -3.9781028e-4];
    /// `-c / ln 2`, and its inverse in two parts, the first with so few bits that its multiples up to 2^9 are
    /// exact.
    const OCTAVES: f32 = -1.0294324e-1;
    const OCTAVE: [f32; 2] = [-9.713867, -2.2384053e-4];
    /// `(exp(-c r) - 1) / r`; relative error of exp 4e-9.
    const P: [f32; 6] =
        [-7.135482e-2, 2.5457551e-3, -6.0549417e-5, 1.0801505e-6, -1.5500413e-8, 1.8274031e-10];
    let a = s.min(s.splat(11.5), s.abs(x));
    let q = s.fma(a, a, s.splat(K[0]));
    let d = s.sub(s.splat(K[0]), q);
    let q_low = s.add(s.fma(a, a, d), s.splat(K[1]));
    let y = s.mul(a, q);
    let minus_y_low = s.fnma(a, q_low, s.fnma(a, q, y));
    let n = s.round(s.mul(y, s.splat(OCTAVES)));
    let r = s.sub(s.fnma(n, s.splat(OCTAVE[0]), y), s.fma(n, s.splat(OCTAVE[1]), minus_y_low));
    let m = s.mul(r, polynomial(s, &P, r));
    times_logistic(s, x, a, m, n)
}
