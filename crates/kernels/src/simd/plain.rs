//! 8 lanes in plain Rust, for the compiler to vectorise with the target's baseline instructions (SSE2, NEON).

use super::{Kernel, Simd};

/// Needs no particular CPU features.
#[derive(Clone, Copy)]
pub(crate) struct Plain;

const LANES: usize = 8;

/// Eight float32 values.
#[derive(Clone, Copy)]
#[repr(C, align(32))]
pub(crate) struct V([f32; LANES]);

#[inline(always)]
fn map2(a: V, b: V, f: impl Fn(f32, f32) -> f32) -> V {
    let mut out = a;
    for i in 0..LANES {
        out.0[i] = f(a.0[i], b.0[i]);
    }
    out
}

#[inline(always)]
fn map3(a: V, b: V, c: V, f: impl Fn(f32, f32, f32) -> f32) -> V {
    let mut out = a;
    for i in 0..LANES {
        out.0[i] = f(a.0[i], b.0[i], c.0[i]);
    }
    out
}

/// Whether `f32::mul_add` is an instruction; elsewhere it is a slow library call.
const HAS_FMA: bool = cfg!(any(target_arch = "aarch64", target_feature = "fma"));

/// `a * b + c` rounded once. In float64 the product is exact and the sum nearly so.
#[inline(always)]
fn fma(a: f32, b: f32, c: f32) -> f32 {
    if HAS_FMA { a.mul_add(b, c) } else { (f64::from(a) * f64::from(b) + f64::from(c)) as f32 }
}

/// `2^n` for `-126 <= n <= 127`.
#[inline(always)]
fn pow2(n: i32) -> f32 {
    f32::from_bits(((n + 127) as u32) << 23)
}

impl Simd for Plain {
    const LANES: usize = LANES;
    const TILE_ROWS: usize = 2;
    type F = V;
    type D = [f64; LANES];

    #[inline(always)]
    fn call<K: Kernel>(self, kernel: K) -> K::Output {
        #[inline(never)]
        fn run<K: Kernel>(kernel: K) -> K::Output {
            kernel.run(Plain)
        }
        run(kernel)
    }
    #[inline(always)]
    fn splat(self, x: f32) -> V {
        V([x; LANES])
    }
    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> V {
        // SAFETY: the caller guarantees LANES readable values.
        V(unsafe { p.cast::<[f32; LANES]>().read_unaligned() })
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32, v: V) {
        // SAFETY: the caller guarantees LANES writable values.
        unsafe { p.cast::<[f32; LANES]>().write_unaligned(v.0) }
    }
    #[inline(always)]
    unsafe fn load_first(self, p: *const f32, n: usize) -> V {
        let mut v = V([0.0; LANES]);
        for (i, x) in v.0.iter_mut().enumerate().take(n) {
            // SAFETY: the caller guarantees `n` readable values.
            *x = unsafe { p.add(i).read() };
        }
        v
    }
    #[inline(always)]
    unsafe fn store_first(self, p: *mut f32, n: usize, v: V) {
        for (i, x) in v.0.iter().enumerate().take(n) {
            // SAFETY: the caller guarantees `n` writable values.
            unsafe { p.add(i).write(*x) };
        }
    }
    #[inline(always)]
    fn add(self, a: V, b: V) -> V {
        map2(a, b, |a, b| a + b)
    }
    #[inline(always)]
    fn sub(self, a: V, b: V) -> V {
        map2(a, b, |a, b| a - b)
    }
    #[inline(always)]
    fn mul(self, a: V, b: V) -> V {
        map2(a, b, |a, b| a * b)
    }
    #[inline(always)]
    fn div(self, a: V, b: V) -> V {
        map2(a, b, |a, b| a / b)
    }
    #[inline(always)]
    fn mul_add(self, a: V, b: V, c: V) -> V {
        map3(a, b, c, |a, b, c| if HAS_FMA { a.mul_add(b, c) } else { a * b + c })
    }
    #[inline(always)]
    fn fma(self, a: V, b: V, c: V) -> V {
        map3(a, b, c, fma)
    }
    #[inline(always)]
    fn fnma(self, a: V, b: V, c: V) -> V {
        map3(a, b, c, |a, b, c| fma(-a, b, c))
    }
    // Not `f32::max` and `f32::min`, which drop NaN.
    #[inline(always)]
    fn max(self, a: V, b: V) -> V {
        map2(a, b, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    fn min(self, a: V, b: V) -> V {
        map2(a, b, |a, b| if a < b { a } else { b })
    }
    #[inline(always)]
    fn neg(self, a: V) -> V {
        map2(a, a, |a, _| -a)
    }
    #[inline(always)]
    fn abs(self, a: V) -> V {
        map2(a, a, |a, _| a.abs())
    }
    #[inline(always)]
    fn round(self, a: V) -> V {
        // Adding 1.5 * 2^23 leaves no bits below one: the addition itself rounds to nearest even.
        const SHIFT: f32 = 12_582_912.0;
        map2(a, a, |a, _| (a + SHIFT) - SHIFT)
    }
    #[inline(always)]
    fn scale_pow2(self, a: V, n: V) -> V {
        map2(a, n, |a, n| {
            // NaN becomes 0 here, but propagates through `a`.
            let n = n as i32;
            let half = n >> 1;
            a * pow2(half) * pow2(n - half)
        })
    }
    #[inline(always)]
    fn select_negative(self, x: V, a: V, b: V) -> V {
        map3(x, a, b, |x, a, b| if x.is_sign_negative() { a } else { b })
    }
    #[inline(always)]
    fn sum(self, v: V) -> f32 {
        let v = v.0;
        ((v[0] + v[4]) + (v[2] + v[6])) + ((v[1] + v[5]) + (v[3] + v[7]))
    }
    #[inline(always)]
    fn max_lane(self, v: V) -> f32 {
        v.0.into_iter().fold(f32::NEG_INFINITY, |top, x| if x > top { x } else { top })
    }
    #[inline(always)]
    fn zero_f64(self) -> Self::D {
        [0.0; LANES]
    }
    #[inline(always)]
    fn add_f64(self, mut acc: Self::D, v: V) -> Self::D {
        acc.iter_mut().zip(v.0).for_each(|(acc, v)| *acc += f64::from(v));
        acc
    }
    #[inline(always)]
    fn mul_add_f64(self, a: V, b: V, mut acc: Self::D) -> Self::D {
        acc.iter_mut()
            .zip(a.0.iter().zip(b.0))
            .for_each(|(acc, (&a, b))| *acc += f64::from(a) * f64::from(b));
        acc
    }
    #[inline(always)]
    fn sum_f64(self, acc: Self::D) -> f64 {
        ((acc[0] + acc[4]) + (acc[2] + acc[6])) + ((acc[1] + acc[5]) + (acc[3] + acc[7]))
    }
}
