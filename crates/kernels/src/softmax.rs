//! Softmax.

use crate::math;
use crate::simd::{Isa, Kernel, Simd, dispatch};

/// Softmax of `scale * scores`, in place.
///
/// NaN anywhere, or positive infinity, makes every value NaN, as in PyTorch. An empty slice stays empty.
pub fn softmax_scaled(scores: &mut [f32], scale: f32) {
    softmax_scaled_with(Isa::best(), scores, scale);
}

/// [`softmax_scaled`] with the instructions of `isa`, or portable code if the CPU lacks them.
pub fn softmax_scaled_with(isa: Isa, scores: &mut [f32], scale: f32) {
    dispatch(isa, Softmax { scores, scale });
}

struct Softmax<'a> {
    scores: &'a mut [f32],
    scale: f32,
}

impl Kernel for Softmax<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let n = self.scores.len();
        let mut whole: Vec<f32> = self.scores.iter().map(|score| score * self.scale).collect();
        whole.resize(n.next_multiple_of(S::LANES), 0.0);
        softmax(s, &mut whole, n);
        self.scores.copy_from_slice(&whole[..n]);
    }
}

/// Softmax of the first `n` values of `x`, whose length is `n` rounded up to a whole number of vectors.
#[inline(always)]
pub(crate) fn softmax<S: Simd>(s: S, x: &mut [f32], n: usize) {
    debug_assert_eq!(x.len(), n.next_multiple_of(S::LANES));
    x[n..].fill(f32::NEG_INFINITY); // its exp is 0
    let mut top = s.splat(f32::NEG_INFINITY);
    for v in x.chunks_exact(S::LANES) {
        // SAFETY: the chunk has LANES values.
        top = s.max(top, unsafe { s.load(v.as_ptr()) });
    }
    let (top, mut total) = (s.splat(s.max_lane(top)), s.splat(0.0));
    for v in x.chunks_exact_mut(S::LANES) {
        // SAFETY: the chunk has LANES values.
        unsafe {
            let e = math::exp(s, s.sub(s.load(v.as_ptr()), top));
            s.store(v.as_mut_ptr(), e);
            total = s.add(total, e);
        }
    }
    let inverse = s.splat(1.0 / s.sum(total));
    for v in x.chunks_exact_mut(S::LANES) {
        // SAFETY: the chunk has LANES values.
        unsafe { s.store(v.as_mut_ptr(), s.mul(s.load(v.as_ptr()), inverse)) };
    }
}
