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

/// `exp(c x)` for some constant c, which brings its own range reduction.
struct Exponential {
    /// `c / ln 2`
    per_octave: f32,
    /// `ln 2 / c`, the first part so short that its multiples up to 300 are exact.
    octave: [f32; 2],
    /// `(exp(c x) - 1) / x` for half an octave either way.
    polynomial: [f32; 6],
}

/// `exp(x)`; relative error of the polynomial 3e-9.
const EXP: Exponential = Exponential {
    per_octave: std::f32::consts::LOG2_E,
    octave: [6.9317627e-1, -2.9088971e-5],
    polynomial: [1.0, 4.9999994e-1, 1.6666517e-1, 4.1668102e-2, 8.3691925e-3, 1.3838899e-3],
};

impl Exponential {
    /// `exp(c (x + x_low))` as `(1 + m) * 2^n`, for `|c x| < 200`.
    #[inline(always)]
    fn parts<S: Simd>(&self, s: S, x: S::F, x_low: Option<S::F>) -> (S::F, S::F) {
        let n = s.round(s.mul(x, s.splat(self.per_octave)));
        let r = s.fnma(n, s.splat(self.octave[0]), x);
        let low = match x_low {
            Some(low) => s.fnma(n, s.splat(self.octave[1]), low),
            None => s.mul(n, s.splat(-self.octave[1])),
        };
        let r = s.add(r, low);
        (s.mul(r, polynomial(s, &self.polynomial, r)), n)
    }
}

/// `exp(x)`: 0 from about -104 down, infinity from 89 up; NaN stays NaN.
#[inline(always)]
pub(crate) fn exp<S: Simd>(s: S, x: S::F) -> S::F {
    // Bounds first, `x` second: NaN comes through.
    let x = s.min(s.splat(100.0), s.max(s.splat(-120.0), x));
    let (m, n) = EXP.parts(s, x, None);
    s.scale_pow2(s.add(s.splat(1.0), m), n)
}

/// `x / (1 + exp(-x))`
#[inline(always)]
pub(crate) fn silu<S: Simd>(s: S, x: S::F) -> S::F {
    let (one, a) = (s.splat(1.0), s.min(s.splat(120.0), s.abs(x)));
    let (m, n) = EXP.parts(s, s.sub(s.splat(0.0), a), None);
    let e = s.scale_pow2(s.add(one, m), n);
    // x e / (1 + e) for negative x. `a m` is scaled last, so that a subnormal result is rounded once.
    let negative = s.scale_pow2(s.sub(s.sub(s.splat(0.0), a), s.mul(a, m)), n);
    s.div(s.select_negative(x, s.add(negative, minus_infinity(s, x)), x), s.add(one, e))
}

/// 0, or NaN if `x` is negative infinity (where PyTorch's activations compute `-inf * 0`) or NaN.
#[inline(always)]
fn minus_infinity<S: Simd>(s: S, x: S::F) -> S::F {
    s.mul(s.min(s.splat(0.0), x), s.splat(0.0))
}

/// `exp(-s / 2)`; relative error of the polynomial 3e-9.
const GAUSS: Exponential = Exponential {
    per_octave: -7.213475e-1,
    octave: [-1.3863525, 5.8177942e-5],
    polynomial: [-5.0e-1, 1.24999985e-1, -2.0833146e-2, 2.6042564e-3, -2.6153727e-4, 2.162328e-5],
};

/// `x Phi(x) = max(x, 0) - a Q(a)` with `a = |x|`, `Q(a) = erfc(a / sqrt 2) / 2`.
///
/// `a Q(a) = exp(-a^2 / 2) w P(w - 1/2)`, `w = a / (a + k)`, keeps its relative accuracy where `1 + erf` would cancel.
#[inline(always)]
pub(crate) fn gelu_erf<S: Simd>(s: S, x: S::F) -> S::F {
    const K: f32 = 2.5;
    const P: [f32; 10] = [
        1.25,
        -1.2433922,
        1.6960734e-1,
        2.9186705e-1,
        5.602518e-2,
        -1.4968526e-1,
        1.3784914e-1,
        -3.131829e-1,
        2.7963495e-1,
        -7.978295e-2,
    ];
    let a = s.min(s.splat(15.0), s.abs(x));
    let square = s.mul(a, a);
    let square_low = s.fma(a, a, s.sub(s.splat(0.0), square));
    let (m, n) = GAUSS.parts(s, square, Some(square_low));
    let w = s.div(a, s.add(a, s.splat(K)));
    let g = s.mul(w, polynomial(s, &P, w));
    let a_q = s.scale_pow2(s.fma(g, m, g), n);
    s.sub(s.add(s.max(s.splat(0.0), x), minus_infinity(s, x)), a_q)
}

/// `ln 2 / c` etc. of [`gelu_tanh`]'s `exp(-c y)`; relative error of the polynomial 4e-9.
const TANH: Exponential = Exponential {
    per_octave: -1.0294324e-1,
    octave: [-9.713867, -2.2384053e-4],
    polynomial: [-7.135482e-2, 2.5457551e-3, -6.0549417e-5, 1.0801505e-6, -1.5500413e-8, 1.8274031e-10],
};

/// `x / 2 (1 + tanh(u)) = x / (1 + exp(-2 u))` with `u = sqrt(2 / pi) (x + 0.044715 x^3)`.
///
/// `2 u = c y` with `y = x (x^2 + K)`, `K = 1 / 0.044715`: y is computed to twice float32's precision, because an error of
/// `2 u` is a relative error of the result where x is negative.
#[inline(always)]
pub(crate) fn gelu_tanh<S: Simd>(s: S, x: S::F) -> S::F {
    /// `K` in two parts, the first short enough for `d` below to be exact.
    const K: [f32; 2] = [2.2364258e1, -3.9781028e-4];
    let (zero, one) = (s.splat(0.0), s.splat(1.0));
    let a = s.min(s.splat(11.5), s.abs(x));
    let q = s.fma(a, a, s.splat(K[0]));
    let d = s.sub(s.splat(K[0]), q);
    let q_low = s.add(s.fma(a, a, d), s.splat(K[1]));
    let y = s.mul(a, q);
    let y_low = s.fma(a, q_low, s.fma(a, q, s.sub(zero, y)));
    let (m, n) = TANH.parts(s, y, Some(y_low));
    let e = s.scale_pow2(s.add(one, m), n);
    let negative = s.scale_pow2(s.sub(s.sub(zero, a), s.mul(a, m)), n);
    s.div(s.select_negative(x, s.add(negative, minus_infinity(s, x)), x), s.add(one, e))
}
