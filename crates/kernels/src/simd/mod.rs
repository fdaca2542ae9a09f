//! A small vector abstraction: every kernel is written once over [`Simd`] and compiled three times.
//!
//! A value of a type that implements [`Simd`] is a *token*: it exists only if the CPU has the instructions, so its
//! methods are safe. [`dispatch`] picks the token and enters a function compiled with the matching target features;
//! everything called from there is `#[inline(always)]`, so that the intrinsics end up in that function.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod plain;

#[cfg(target_arch = "x86_64")]
pub(crate) use avx2::Avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) use avx512::Avx512;
pub(crate) use plain::Plain;

use std::sync::OnceLock;

/// The instruction sets a kernel can be run with. [`Isa::best`] is what the safe functions of this crate use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Isa {
    /// Portable Rust that the compiler vectorises for the target's baseline (SSE2, NEON).
    Plain,
    /// AVX2 with FMA: 8 lanes, 16 registers.
    Avx2,
    /// AVX-512 F, VL, BW and DQ: 16 lanes, 32 registers.
    Avx512,
}

impl Isa {
    /// The widest instruction set of this CPU, detected once per process.
    pub fn best() -> Isa {
        static BEST: OnceLock<Isa> = OnceLock::new();
        *BEST.get_or_init(|| Isa::available().into_iter().max().unwrap_or(Isa::Plain))
    }

    /// Every instruction set that this CPU supports, narrowest first; tests run with all of them.
    pub fn available() -> Vec<Isa> {
        let mut all = vec![Isa::Plain];
        #[cfg(target_arch = "x86_64")]
        {
            all.extend(Avx2::detect().map(|_| Isa::Avx2));
            all.extend(Avx512::detect().map(|_| Isa::Avx512));
        }
        all
    }
}

/// A computation that can be compiled for any [`Simd`] token. Implementations of `run` must be `#[inline(always)]`,
/// and so must every function they call that handles vectors.
pub(crate) trait Kernel {
    /// What the computation returns.
    type Output;
    /// Runs it with the vectors of `S`.
    fn run<S: Simd>(self, s: S) -> Self::Output;
}

/// Runs `kernel` with the instructions of `isa`, or with portable code if the CPU lacks them.
#[inline]
pub(crate) fn dispatch<K: Kernel>(isa: Isa, kernel: K) -> K::Output {
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 if let Some(s) = Avx512::detect() => s.call(kernel),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 if let Some(s) = Avx2::detect() => s.call(kernel),
        _ => Plain.call(kernel),
    }
}

/// Columns of a panel of packed weights: two AVX-512 vectors, four AVX2 vectors.
pub(crate) const NR: usize = 32;

/// Vectors of `LANES` float32 values. Each lane of a result depends only on that lane of the operands, except for `sum` and
/// `max_lane`.
///
/// Loads and stores take raw pointers and are unsafe: the caller guarantees the memory; alignment is not
/// required.
pub(crate) trait Simd: Copy {
    /// Number of float32 lanes.
    const LANES: usize;
    /// Rows of a tile of the matrix product: with two vectors per row, its sums fit into the registers.
    const TILE_ROWS: usize;
    /// Pairs of vectors in a panel of packed weights.
    const STRIPS: usize = NR / (2 * Self::LANES);
    /// A vector of `LANES` float32 values.
    type F: Copy;
    /// `LANES` running sums in float64.
    type D: Copy;

    /// Runs `kernel` in a separate function; [`Kernel::run`] itself would be inlined.
    fn call<K: Kernel>(self, kernel: K) -> K::Output;

    /// All lanes `x`.
    fn splat(self, x: f32) -> Self::F;
    /// Reads `LANES` values.
    ///
    /// # Safety
    /// `p` must be valid for reading `LANES` values.
    unsafe fn load(self, p: *const f32) -> Self::F;
    /// Writes `LANES` values.
    ///
    /// # Safety
    /// `p` must be valid for writing `LANES` values.
    unsafe fn store(self, p: *mut f32, v: Self::F);
    /// Reads the first `n < LANES` values and fills the rest with zeros.
    ///
    /// # Safety
    /// `p` must be valid for reading `n` values.
    unsafe fn load_first(self, p: *const f32, n: usize) -> Self::F;
    /// Writes the first `n < LANES` values.
    ///
    /// # Safety
    /// `p` must be valid for writing `n` values.
    unsafe fn store_first(self, p: *mut f32, n: usize, v: Self::F);

    /// Prefetches the cache line at `p`, which need not be valid, into the L2 cache.
    #[inline(always)]
    fn prefetch(self, p: *const f32) {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: a prefetch of any address is harmless, and SSE is part of every x86-64.
        unsafe {
            use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
            _mm_prefetch::<_MM_HINT_T1>(p.cast());
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = p;
    }
    /// Prefetches the cache line at `p`, which need not be valid, for writing.
    #[inline(always)]
    fn prefetch_to_write(self, p: *const f32) {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        unsafe {
            use std::arch::x86_64::{_MM_HINT_ET0, _mm_prefetch};
            _mm_prefetch::<_MM_HINT_ET0>(p.cast());
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = p;
    }

    /// `a + b`
    fn add(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a - b`
    fn sub(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a * b`
    fn mul(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a / b`
    fn div(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a * b + c`, with the product rounded only if the machine has no FMA: for long sums.
    fn mul_add(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    /// `a * b + c` rounded once on every machine: for approximations that rely on it.
    fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    /// `c - a * b` rounded once.
    fn fnma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    /// The larger of two; `b` if either is NaN.
    fn max(self, a: Self::F, b: Self::F) -> Self::F;
    /// The smaller of two; `b` if either is NaN.
    fn min(self, a: Self::F, b: Self::F) -> Self::F;
    /// `-a`
    fn neg(self, a: Self::F) -> Self::F;
    /// `|a|`
    fn abs(self, a: Self::F) -> Self::F;
    /// The nearest integer (ties to even), for `|a| < 2^22`.
    fn round(self, a: Self::F) -> Self::F;
    /// `a * 2^n` for integer-valued `-252 <= n <= 252`; rounded once if the result is subnormal.
    fn scale_pow2(self, a: Self::F, n: Self::F) -> Self::F;
    /// Per lane: `a` if the sign bit of `x` is set, else `b`.
    fn select_negative(self, x: Self::F, a: Self::F, b: Self::F) -> Self::F;

    /// Sum of all lanes, in a fixed order.
    fn sum(self, v: Self::F) -> f32;
    /// The largest lane; any lane if the vector has a NaN.
    fn max_lane(self, v: Self::F) -> f32;

    /// Float64 sums, all zero.
    fn zero_f64(self) -> Self::D;
    /// Adds each lane of `v` to its float64 sum.
    fn add_f64(self, acc: Self::D, v: Self::F) -> Self::D;
    /// Adds each lane of `a * b`, which float64 holds exactly, to its float64 sum.
    fn mul_add_f64(self, a: Self::F, b: Self::F, acc: Self::D) -> Self::D;
    /// Sum of all float64 lanes, in a fixed order.
    fn sum_f64(self, acc: Self::D) -> f64;
}
