//! 16 lanes with AVX-512.

use super::{Kernel, Simd};
use std::arch::x86_64::*;

/// Proof that the CPU has AVX-512 F, VL, BW and DQ (and so AVX2 and FMA).
#[derive(Clone, Copy)]
pub(crate) struct Avx512(());

impl Avx512 {
    #[inline]
    pub(crate) fn detect() -> Option<Self> {
        let all = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma");
        all.then_some(Self(()))
    }
}

/// Calls intrinsics that only need the CPU feature.
macro_rules! isa {
    ($e:expr) => {{
        // SAFETY: `self` exists only if `detect` found the CPU features.
        #[allow(unused_unsafe)]
        unsafe {
            $e
        }
    }};
}

impl Simd for Avx512 {
    const LANES: usize = 16;
    const TILE_ROWS: usize = 14;
    type F = __m512;
    type D = (__m512d, __m512d);

    #[inline(always)]
    fn call<K: Kernel>(self, kernel: K) -> K::Output {
        #[inline(never)]
        #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx2,fma")]
        fn run<K: Kernel>(kernel: K, s: Avx512) -> K::Output {
            kernel.run(s)
        }
        isa!(run(kernel, self))
    }
    #[inline(always)]
    fn splat(self, x: f32) -> __m512 {
        isa!(_mm512_set1_ps(x))
    }
    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> __m512 {
        isa!(_mm512_loadu_ps(p))
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32, v: __m512) {
        isa!(_mm512_storeu_ps(p, v))
    }
    #[inline(always)]
    unsafe fn load_first(self, p: *const f32, n: usize) -> __m512 {
        isa!(_mm512_maskz_loadu_ps(((1u32 << n) - 1) as __mmask16, p))
    }
    #[inline(always)]
    unsafe fn store_first(self, p: *mut f32, n: usize, v: __m512) {
        isa!(_mm512_mask_storeu_ps(p, ((1u32 << n) - 1) as __mmask16, v))
    }
    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        isa!(_mm512_add_ps(a, b))
    }
    #[inline(always)]
    fn sub(self, a: __m512, b: __m512) -> __m512 {
        isa!(_mm512_sub_ps(a, b))
    }
    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        isa!(_mm512_mul_ps(a, b))
    }
    #[inline(always)]
    fn div(self, a: __m512, b: __m512) -> __m512 {
        isa!(_mm512_div_ps(a, b))
    }
    #[inline(always)]
    fn mul_add(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        isa!(_mm512_fmadd_ps(a, b, c))
    }
    #[inline(always)]
    fn fma(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        isa!(_mm512_fmadd_ps(a, b, c))
    }
    #[inline(always)]
    fn fnma(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        isa!(_mm512_fnmadd_ps(a, b, c))
    }
    #[inline(always)]
    fn max(self, a: __m512, b: __m512) -> __m512 {
        isa!(_mm512_max_ps(a, b))
    }
    #[inline(always)]
    fn min(self, a: __m512, b: __m512) -> __m512 {
        isa!(_mm512_min_ps(a, b))
    }
    #[inline(always)]
    fn neg(self, a: __m512) -> __m512 {
        isa!(_mm512_xor_ps(_mm512_set1_ps(-0.0), a))
    }
    #[inline(always)]
    fn abs(self, a: __m512) -> __m512 {
        isa!(_mm512_abs_ps(a))
    }
    #[inline(always)]
    fn round(self, a: __m512) -> __m512 {
        isa!(_mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a))
    }
    #[inline(always)]
    fn scale_pow2(self, a: __m512, n: __m512) -> __m512 {
        isa!(_mm512_scalef_ps(a, n))
    }
    #[inline(always)]
    fn select_negative(self, x: __m512, a: __m512, b: __m512) -> __m512 {
        isa!(_mm512_mask_blend_ps(_mm512_movepi32_mask(_mm512_castps_si512(x)), b, a))
    }
    #[inline(always)]
    fn sum(self, v: __m512) -> f32 {
        isa!(_mm512_reduce_add_ps(v))
    }
    #[inline(always)]
    fn max_lane(self, v: __m512) -> f32 {
        isa!(_mm512_reduce_max_ps(v))
    }
    #[inline(always)]
    fn zero_f64(self) -> Self::D {
        isa!((_mm512_setzero_pd(), _mm512_setzero_pd()))
    }
    #[inline(always)]
    fn add_f64(self, acc: Self::D, v: __m512) -> Self::D {
        isa!({
            let low = _mm512_cvtps_pd(_mm512_castps512_ps256(v));
            let high = _mm512_cvtps_pd(_mm512_extractf32x8_ps::<1>(v));
            (_mm512_add_pd(acc.0, low), _mm512_add_pd(acc.1, high))
        })
    }
    #[inline(always)]
    fn mul_add_f64(self, a: __m512, b: __m512, acc: Self::D) -> Self::D {
        isa!({
            let low = |v| _mm512_cvtps_pd(_mm512_castps512_ps256(v));
            let high = |v| _mm512_cvtps_pd(_mm512_extractf32x8_ps::<1>(v));
            (_mm512_fmadd_pd(low(a), low(b), acc.0), _mm512_fmadd_pd(high(a), high(b), acc.1))
        })
    }
    #[inline(always)]
    fn sum_f64(self, acc: Self::D) -> f64 {
        isa!(_mm512_reduce_add_pd(_mm512_add_pd(acc.0, acc.1)))
    }
}
