//! 8 lanes with AVX2 and FMA.

use super::{Kernel, Simd};
use std::arch::x86_64::*;

/// Proof that the CPU has AVX2 and FMA.
#[derive(Clone, Copy)]
pub(crate) struct Avx2(());

impl Avx2 {
    #[inline]
    pub(crate) fn detect() -> Option<Self> {
        let all = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
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

/// `FIRST[8 - n..]` starts with `n` lanes of ones.
static FIRST: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];

/// Mask of the first `n <= 8` lanes.
#[inline(always)]
fn first(_: Avx2, n: usize) -> __m256i {
    debug_assert!(n <= 8);
    // SAFETY: for `n <= 8` the 8 values from `8 - n` are inside the 16 of FIRST; the token proves AVX2.
    unsafe { _mm256_loadu_si256(FIRST.as_ptr().add(8 - n).cast()) }
}

impl Simd for Avx2 {
    const LANES: usize = 8;
    const TILE_ROWS: usize = 6;
    type F = __m256;
    type D = (__m256d, __m256d);

    #[inline(always)]
    fn call<K: Kernel>(self, kernel: K) -> K::Output {
        #[inline(never)]
        #[target_feature(enable = "avx2,fma")]
        fn run<K: Kernel>(kernel: K, s: Avx2) -> K::Output {
            kernel.run(s)
        }
        isa!(run(kernel, self))
    }
    #[inline(always)]
    fn splat(self, x: f32) -> __m256 {
        isa!(_mm256_set1_ps(x))
    }
    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> __m256 {
        isa!(_mm256_loadu_ps(p))
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32, v: __m256) {
        isa!(_mm256_storeu_ps(p, v))
    }
    #[inline(always)]
    unsafe fn load_first(self, p: *const f32, n: usize) -> __m256 {
        isa!(_mm256_maskload_ps(p, first(self, n)))
    }
    #[inline(always)]
    unsafe fn store_first(self, p: *mut f32, n: usize, v: __m256) {
        isa!(_mm256_maskstore_ps(p, first(self, n), v))
    }
    #[inline(always)]
    fn add(self, a: __m256, b: __m256) -> __m256 {
        isa!(_mm256_add_ps(a, b))
    }
    #[inline(always)]
    fn sub(self, a: __m256, b: __m256) -> __m256 {
        isa!(_mm256_sub_ps(a, b))
    }
    #[inline(always)]
    fn mul(self, a: __m256, b: __m256) -> __m256 {
        isa!(_mm256_mul_ps(a, b))
    }
    #[inline(always)]
    fn div(self, a: __m256, b: __m256) -> __m256 {
        isa!(_mm256_div_ps(a, b))
    }
    #[inline(always)]
    fn mul_add(self, a: __m256, b: __m256, c: __m256) -> __m256 {
        isa!(_mm256_fmadd_ps(a, b, c))
    }
    #[inline(always)]
    fn fma(self, a: __m256, b: __m256, c: __m256) -> __m256 {
        isa!(_mm256_fmadd_ps(a, b, c))
    }
    #[inline(always)]
    fn fnma(self, a: __m256, b: __m256, c: __m256) -> __m256 {
        isa!(_mm256_fnmadd_ps(a, b, c))
    }
    #[inline(always)]
    fn max(self, a: __m256, b: __m256) -> __m256 {
        isa!(_mm256_max_ps(a, b))
    }
    #[inline(always)]
    fn min(self, a: __m256, b: __m256) -> __m256 {
        isa!(_mm256_min_ps(a, b))
    }
    #[inline(always)]
    fn neg(self, a: __m256) -> __m256 {
        isa!(_mm256_xor_ps(_mm256_set1_ps(-0.0), a))
    }
    #[inline(always)]
    fn abs(self, a: __m256) -> __m256 {
        isa!(_mm256_andnot_ps(_mm256_set1_ps(-0.0), a))
    }
    #[inline(always)]
    fn round(self, a: __m256) -> __m256 {
        isa!(_mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a))
    }
    #[inline(always)]
    fn scale_pow2(self, a: __m256, n: __m256) -> __m256 {
        isa!({
            // Two factors whose exponents stay in range; the first product is exact unless it leaves the result no
            // bits to round, so a subnormal result is rounded only once.
            let n = _mm256_cvtps_epi32(n);
            let half = _mm256_srai_epi32::<1>(n);
            let rest = _mm256_sub_epi32(n, half);
            let bias = _mm256_set1_epi32(127);
            let p = _mm256_castsi256_ps(_mm256_slli_epi32::<23>(_mm256_add_epi32(half, bias)));
            let q = _mm256_castsi256_ps(_mm256_slli_epi32::<23>(_mm256_add_epi32(rest, bias)));
            _mm256_mul_ps(_mm256_mul_ps(a, p), q)
        })
    }
    #[inline(always)]
    fn select_negative(self, x: __m256, a: __m256, b: __m256) -> __m256 {
        isa!(_mm256_blendv_ps(b, a, x))
    }
    #[inline(always)]
    fn sum(self, v: __m256) -> f32 {
        isa!({
            let v = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
            let v = _mm_add_ps(v, _mm_movehl_ps(v, v));
            _mm_cvtss_f32(_mm_add_ss(v, _mm_movehdup_ps(v)))
        })
    }
    #[inline(always)]
    fn max_lane(self, v: __m256) -> f32 {
        isa!({
            let v = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
            let v = _mm_max_ps(v, _mm_movehl_ps(v, v));
            _mm_cvtss_f32(_mm_max_ss(v, _mm_movehdup_ps(v)))
        })
    }
    #[inline(always)]
    fn zero_f64(self) -> Self::D {
        isa!((_mm256_setzero_pd(), _mm256_setzero_pd()))
    }
    #[inline(always)]
    fn add_f64(self, acc: Self::D, v: __m256) -> Self::D {
        isa!({
            let low = _mm256_cvtps_pd(_mm256_castps256_ps128(v));
            let high = _mm256_cvtps_pd(_mm256_extractf128_ps::<1>(v));
            (_mm256_add_pd(acc.0, low), _mm256_add_pd(acc.1, high))
        })
    }
    #[inline(always)]
    fn mul_add_f64(self, a: __m256, b: __m256, acc: Self::D) -> Self::D {
        isa!({
            let low = |v| _mm256_cvtps_pd(_mm256_castps256_ps128(v));
            let high = |v| _mm256_cvtps_pd(_mm256_extractf128_ps::<1>(v));
            (_mm256_fmadd_pd(low(a), low(b), acc.0), _mm256_fmadd_pd(high(a), high(b), acc.1))
        })
    }
    #[inline(always)]
    fn sum_f64(self, acc: Self::D) -> f64 {
        isa!({
            let v = _mm256_add_pd(acc.0, acc.1);
            let v = _mm_add_pd(_mm256_castpd256_pd128(v), _mm256_extractf128_pd::<1>(v));
            _mm_cvtsd_f64(_mm_add_sd(v, _mm_unpackhi_pd(v, v)))
        })
    }
}
