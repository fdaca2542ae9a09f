//! Activations in place, sums of slices, dot products.

use crate::math;
use crate::simd::{Isa, Kernel, Simd, dispatch};

/// A function of one vector of values.
trait Map {
    /// The value of each lane depends on that lane alone.
    fn apply<S: Simd>(s: S, x: S::F) -> S::F;
}

/// Replaces each `x` of a slice by `M(x)`.
struct InPlace<'a, M>(&'a mut [f32], std::marker::PhantomData<M>);

impl<M: Map> Kernel for InPlace<'_, M> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let mut chunks = self.0.chunks_exact_mut(S::LANES);
        for chunk in &mut chunks {
            let p = chunk.as_mut_ptr();
            // SAFETY: the chunk has LANES values.
            unsafe { s.store(p, M::apply(s, s.load(p))) };
        }
        let rest = chunks.into_remainder();
        let (p, n) = (rest.as_mut_ptr(), rest.len());
        // SAFETY: the remainder has n < LANES values.
        unsafe { s.store_first(p, n, M::apply(s, s.load_first(p, n))) };
    }
}

macro_rules! activations {
    ($($(#[$doc:meta])* $name:ident $with:ident $map:ident($s:ident, $x:ident) = $value:expr;)*) => {$(
        struct $map;
        impl Map for $map {
            #[inline(always)]
            fn apply<S: Simd>($s: S, $x: S::F) -> S::F {
                $value
            }
        }
        $(#[$doc])*
        pub fn $name(x: &mut [f32]) {
            $with(Isa::best(), x);
        }
        #[doc = concat!("[`", stringify!($name), "`] with the instructions of `isa`, or plain ones where this CPU lacks them.")]
        pub fn $with(isa: Isa, x: &mut [f32]) {
            dispatch(isa, InPlace::<$map>(x, std::marker::PhantomData));
        }
    )*};
}

activations! {
    /// Exact GELU in place, `x Φ(x)`; relative error at most 2e-7 wherever the result is a normal number.
    gelu_erf gelu_erf_with GeluErf(s, x) = math::gelu_erf(s, x);
    /// GELU by tanh in place, `x / 2 (1 + tanh(√(2/π) (x + 0.044715 x³)))`, also known as `gelu_new`; relative error
    /// at most 2e-7 wherever the result is a normal number. `gelu_fast` differs from it by 1e-10 in √(2/π) alone.
    gelu_tanh gelu_tanh_with GeluTanh(s, x) = math::gelu_tanh(s, x);
    /// `max(x, 0)` in place.
    relu relu_with Relu(s, x) = s.max(s.splat(0.0), x);
    /// `x / (1 + exp(-x))` in place; relative error at most 2e-7 wherever the result is a normal number.
    silu silu_with Silu(s, x) = math::silu(s, x);
}

/// A function of two slices of equal length; what is left over when they end inside a vector counts as zeros.
struct Dot<'a>(&'a [f32], &'a [f32]);

impl Kernel for Dot<'_> {
    type Output = f32;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f32 {
        let (a, b, n) = (self.0.as_ptr(), self.1.as_ptr(), self.0.len());
        let mut acc = [s.splat(0.0); 4];
        let mut i = 0;
        while i + 4 * S::LANES <= n {
            for (j, acc) in acc.iter_mut().enumerate() {
                let at = i + j * S::LANES;
                // SAFETY: both slices have n values, and `at + LANES <= n`.
                *acc = unsafe { s.mul_add(s.load(a.add(at)), s.load(b.add(at)), *acc) };
            }
            i += 4 * S::LANES;
        }
        while i < n {
            let len = S::LANES.min(n - i);
            // SAFETY: `i + len <= n`.
            acc[0] = unsafe { s.mul_add(s.load_first(a.add(i), len), s.load_first(b.add(i), len), acc[0]) };
            i += len;
        }
        s.sum(s.add(s.add(acc[0], acc[1]), s.add(acc[2], acc[3])))
    }
}

/// `y += alpha x`
struct Axpy<'a>(f32, &'a [f32], &'a mut [f32]);

impl Kernel for Axpy<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (alpha, x, y, n) = (s.splat(self.0), self.1.as_ptr(), self.2.as_mut_ptr(), self.1.len());
        let mut i = 0;
        while i + S::LANES <= n {
            // SAFETY: both slices have n values.
            unsafe { s.store(y.add(i), s.fma(alpha, s.load(x.add(i)), s.load(y.add(i)))) };
            i += S::LANES;
        }
        let rest = n - i;
        // SAFETY: both slices have `rest` values from i on.
        unsafe {
            let v = s.fma(alpha, s.load_first(x.add(i), rest), s.load_first(y.add(i), rest));
            s.store_first(y.add(i), rest, v);
        }
    }
}

/// `Σ a_i b_i`
///
/// # Panics
/// If the lengths differ.
#[track_caller]
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len(), "lengths of a and b");
    dispatch(Isa::best(), Dot(a, b))
}

/// `y += alpha x`
///
/// # Panics
/// If the lengths differ.
#[track_caller]
pub fn axpy(alpha: f32, x: &[f32], y: &mut [f32]) {
    assert_eq!(x.len(), y.len(), "lengths of x and y");
    dispatch(Isa::best(), Axpy(alpha, x, y));
}

/// `y += x`
///
/// # Panics
/// If the lengths differ.
#[track_caller]
pub fn add_assign(y: &mut [f32], x: &[f32]) {
    axpy(1.0, x, y);
}
