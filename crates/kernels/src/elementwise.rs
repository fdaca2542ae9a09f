//! Activations in place, alone or gated; soft caps.

use crate::math;
use crate::simd::{Isa, Kernel, Simd, dispatch};

/// A function of one vector of values.
pub(crate) trait Map: Copy {
    /// Each lane of the result depends only on that lane of `x`.
    fn apply<S: Simd>(self, s: S, x: S::F) -> S::F;
}

/// Replaces each `x` of a slice by `map(x)`.
pub(crate) struct InPlace<'a, M>(pub &'a mut [f32], pub M);

impl<M: Map> Kernel for InPlace<'_, M> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self(x, map) = self;
        let mut chunks = x.chunks_exact_mut(S::LANES);
        for chunk in &mut chunks {
            let p = chunk.as_mut_ptr();
            // SAFETY: the chunk has LANES values.
            unsafe { s.store(p, map.apply(s, s.load(p))) };
        }
        let rest = chunks.into_remainder();
        let (p, n) = (rest.as_mut_ptr(), rest.len());
        // SAFETY: the remainder has n < LANES values.
        unsafe { s.store_first(p, n, map.apply(s, s.load_first(p, n))) };
    }
}

/// Replaces each `x` of the first slice by `map(x)` times the corresponding value of the second slice.
struct Gate<'a, M>(&'a mut [f32], &'a [f32], M);

impl<M: Map> Kernel for Gate<'_, M> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self(gate, up, map) = self;
        let (mut gates, ups) = (gate.chunks_exact_mut(S::LANES), up.chunks_exact(S::LANES));
        let up_rest = ups.remainder();
        for (gate, up) in (&mut gates).zip(ups) {
            let p = gate.as_mut_ptr();
            // SAFETY: the chunks have LANES values.
            unsafe { s.store(p, s.mul(map.apply(s, s.load(p)), s.load(up.as_ptr()))) };
        }
        let rest = gates.into_remainder();
        let (p, n) = (rest.as_mut_ptr(), rest.len());
        debug_assert_eq!(n, up_rest.len());
        // SAFETY: the remainders, of slices of the same length, have n < LANES values.
        unsafe {
            s.store_first(p, n, s.mul(map.apply(s, s.load_first(p, n)), s.load_first(up_rest.as_ptr(), n)));
        }
    }
}

macro_rules! activations {
    ($($(#[$doc:meta])* $name:ident $with:ident $gate:ident $gate_with:ident $map:ident($s:ident, $x:ident) = $value:expr;)*) => {$(
        #[derive(Clone, Copy)]
        struct $map;
        impl Map for $map {
            #[inline(always)]
            fn apply<S: Simd>(self, $s: S, $x: S::F) -> S::F {
                $value
            }
        }
        $(#[$doc])*
        pub fn $name(x: &mut [f32]) {
            $with(Isa::best(), x);
        }
        #[doc = concat!("[`", stringify!($name), "`] with the instructions of `isa`, or plain ones where this CPU lacks them.")]
        pub fn $with(isa: Isa, x: &mut [f32]) {
            dispatch(isa, InPlace(x, $map));
        }
        #[doc = concat!("`gate ← ", stringify!($name), "(gate) · up`, elementwise: [`", stringify!($name), "`], and the product rounded to float32.")]
        ///
        /// # Panics
        /// If the lengths differ.
        #[track_caller]
        pub fn $gate(gate: &mut [f32], up: &[f32]) {
            $gate_with(Isa::best(), gate, up);
        }
        #[doc = concat!("[`", stringify!($gate), "`] with the instructions of `isa`, or plain ones where this CPU lacks them.")]
        #[track_caller]
        pub fn $gate_with(isa: Isa, gate: &mut [f32], up: &[f32]) {
            assert_eq!(gate.len(), up.len(), "lengths of gate and up");
            dispatch(isa, Gate(gate, up, $map));
        }
    )*};
}

activations! {
    /// Exact GELU in place, `x Φ(x)`; relative error at most 2e-7 wherever the result is a normal number.
    gelu_erf gelu_erf_with gelu_erf_gate gelu_erf_gate_with GeluErf(s, x) = math::gelu_erf(s, x);
    /// GELU by tanh in place, `x / 2 (1 + tanh(√(2/π) (x + 0.044715 x³)))`, also known as `gelu_new`; relative error
    /// at most 2e-7 wherever the result is a normal number. `gelu_fast` differs only by 1e-10 in √(2/π).
    gelu_tanh gelu_tanh_with gelu_tanh_gate gelu_tanh_gate_with GeluTanh(s, x) = math::gelu_tanh(s, x);
    /// `max(x, 0)` in place.
    relu relu_with relu_gate relu_gate_with Relu(s, x) = s.max(s.splat(0.0), x);
    /// `x / (1 + exp(-x))` in place; relative error at most 2e-7 wherever the result is a normal number.
    silu silu_with silu_gate silu_gate_with Silu(s, x) = math::silu(s, x);
}

/// `x -> c tanh(x / c)`
#[derive(Clone, Copy)]
pub(crate) struct SoftCap(pub f32);

impl Map for SoftCap {
    #[inline(always)]
    fn apply<S: Simd>(self, s: S, x: S::F) -> S::F {
        let c = s.splat(self.0);
        s.mul(c, math::tanh(s, s.div(x, c)))
    }
}

/// `c tanh(x / c)` in place, for positive `c`; relative error at most 3e-7 wherever result and `x / c` are normal numbers.
pub fn softcap(x: &mut [f32], c: f32) {
    softcap_with(Isa::best(), x, c);
}

/// [`softcap`] with the instructions of `isa`, or portable code if the CPU lacks them.
pub fn softcap_with(isa: Isa, x: &mut [f32], c: f32) {
    dispatch(isa, InPlace(x, SoftCap(c)));
}
