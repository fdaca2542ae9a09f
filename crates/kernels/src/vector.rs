//! Sums of vectors.

use crate::simd::{Isa, Kernel, Simd, dispatch};

/// `x += y`
///
/// # Panics
/// If the lengths differ.
#[track_caller]
pub fn add_assign(x: &mut [f32], y: &[f32]) {
    assert_eq!(x.len(), y.len(), "lengths of x and y");
    x.iter_mut().zip(y).for_each(|(x, y)| *x += y);
}

/// `y += a x`
///
/// # Panics
/// If the lengths differ.
#[track_caller]
pub fn axpy(a: f32, x: &[f32], y: &mut [f32]) {
    axpy_with(Isa::best(), a, x, y);
}

/// [`axpy`] with the instructions of `isa`.
#[track_caller]
pub fn axpy_with(isa: Isa, a: f32, x: &[f32], y: &mut [f32]) {
    assert_eq!(x.len(), y.len(), "lengths of x and y");
    dispatch(isa, Axpy { a, x, y });
}

struct Axpy<'a> {
    a: f32,
    x: &'a [f32],
    y: &'a mut [f32],
}

impl Kernel for Axpy<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let a = s.splat(self.a);
        let x = self.x.as_ptr();
        // SAFETY: `x` is as long as the slice that `map` walks, and `at` and `n` stay inside that.
        unsafe {
            map(s, self.y, |at, n, y| {
                let x = if n == S::LANES { s.load(x.add(at)) } else { s.load_first(x.add(at), n) };
                s.mul_add(a, x, y)
            });
        }
    }
}

/// Replaces `y` by `f(y)`, a vector at a time: `f(at, n, v)` gets the `n` values from index `at` on, the rest of the lanes
/// zero. Lanes do not mix, so a value does not depend on where in the slice it stands.
#[inline(always)]
pub(crate) fn map<S: Simd>(s: S, y: &mut [f32], mut f: impl FnMut(usize, usize, S::F) -> S::F) {
    let (len, p) = (y.len(), y.as_mut_ptr());
    let whole = len - len % S::LANES;
    // SAFETY: `at + LANES <= len`, and the rest is `len - whole < LANES` values from `whole` on.
    unsafe {
        for at in (0..whole).step_by(S::LANES) {
            let v = f(at, S::LANES, s.load(p.add(at)));
            s.store(p.add(at), v);
        }
        if whole < len {
            let n = len - whole;
            let v = f(whole, n, s.load_first(p.add(whole), n));
            s.store_first(p.add(whole), n, v);
        }
    }
}
