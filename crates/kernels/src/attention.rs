//! Softmax, attention of one query over gathered keys, rotary embedding.

use crate::math;
use crate::simd::{Isa, Kernel, Simd, dispatch};

/// Softmax of `scale * scores`, in place.
///
/// NaN anywhere, or positive infinity, makes every value NaN, as in PyTorch. An empty slice stays empty.
pub fn softmax_scaled(scores: &mut [f32], scale: f32) {
    dispatch(Isa::best(), Softmax { scores, scale });
}

struct Softmax<'a> {
    scores: &'a mut [f32],
    scale: f32,
}

impl Kernel for Softmax<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        softmax(s, self.scores, self.scale);
    }
}

#[inline(always)]
fn softmax<S: Simd>(s: S, x: &mut [f32], scale: f32) {
    for v in x.iter_mut() {
        *v *= scale;
    }
    let mut top = f32::NEG_INFINITY;
    for &v in x.iter() {
        top = if v > top { v } else { top };
    }
    let (n, p) = (x.len(), x.as_mut_ptr());
    let mut total = 0.0;
    for i in (0..n).step_by(S::LANES) {
        let len = S::LANES.min(n - i);
        // SAFETY: `i + len <= n`.
        unsafe {
            let v = math::exp(s, s.sub(s.load_first(p.add(i), len), s.splat(top)));
            s.store_first(p.add(i), len, v);
        }
    }
    for &v in x.iter() {
        total += v;
    }
    let inverse = 1.0 / total;
    for v in x.iter_mut() {
        *v *= inverse;
    }
}

/// Where the keys and values of a layer lie: node `j`'s key of one head is `data[j * stride + key..][..d_head]`, its value
/// `data[j * stride + value..][..d_head]`.
#[derive(Clone, Copy, Debug)]
pub struct KeyValues<'a> {
    /// All nodes' rows.
    pub data: &'a [f32],
    /// Distance between two nodes' rows.
    pub stride: usize,
    /// Where in a row the key starts.
    pub key: usize,
    /// Where in a row the value starts.
    pub value: usize,
}

/// Attention of one query of one head over the nodes in `nodes`: `pattern = softmax(scale * q K^T)`, `z = pattern V`.
///
/// Shapes: `q` and `z` `[d_head]`, `pattern` `[nodes.len()]`.
///
/// # Panics
/// If the lengths differ, or a node's key or value reaches past `kv.data`.
#[track_caller]
pub fn attention_row(
    q: &[f32],
    kv: KeyValues<'_>,
    nodes: &[u32],
    scale: f32,
    pattern: &mut [f32],
    z: &mut [f32],
) {
    assert_eq!(q.len(), z.len(), "lengths of q and z");
    assert_eq!(nodes.len(), pattern.len(), "numbers of nodes and of weights");
    dispatch(Isa::best(), Attention { q, kv, nodes, scale, pattern, z });
}

struct Attention<'a> {
    q: &'a [f32],
    kv: KeyValues<'a>,
    nodes: &'a [u32],
    scale: f32,
    pattern: &'a mut [f32],
    z: &'a mut [f32],
}

impl Kernel for Attention<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self { q, kv, nodes, scale, pattern, z } = self;
        let d = q.len();
        for (weight, &node) in pattern.iter_mut().zip(nodes) {
            let k = &kv.data[node as usize * kv.stride + kv.key..][..d];
            let mut acc = s.splat(0.0);
            for i in (0..d).step_by(S::LANES) {
                let n = S::LANES.min(d - i);
                // SAFETY: `i + n <= d`, the length of q and k.
                unsafe {
                    acc = s.mul_add(
                        s.load_first(q.as_ptr().add(i), n),
                        s.load_first(k.as_ptr().add(i), n),
                        acc,
                    );
                }
            }
            *weight = s.sum(acc);
        }
        softmax(s, pattern, scale);
        // The sum over nodes stays in a register: heads of few dimensions would spend their time on loads and stores.
        for i in (0..d).step_by(S::LANES) {
            let n = S::LANES.min(d - i);
            let mut acc = s.splat(0.0);
            for (&weight, &node) in pattern.iter().zip(nodes) {
                let v = &kv.data[node as usize * kv.stride + kv.value..][..d];
                // SAFETY: `i + n <= d`, the length of v.
                acc = s.mul_add(s.splat(weight), unsafe { s.load_first(v.as_ptr().add(i), n) }, acc);
            }
            // SAFETY: `i + n <= d`, the length of z.
            unsafe { s.store_first(z.as_mut_ptr().add(i), n, acc) };
        }
    }
}

/// Rotates `x`, the `d_rotary` leading values of a head's query or key, in the GPT-NeoX layout: value `i` pairs with value
/// `i + d_rotary / 2`. `cos` and `sin` are `[d_rotary / 2]`, of the position's angles.
///
/// # Panics
/// If `x` is not twice as long as `cos` and `sin`.
#[track_caller]
pub fn rotary(x: &mut [f32], cos: &[f32], sin: &[f32]) {
    let half = cos.len();
    assert!(x.len() == 2 * half && sin.len() == half, "x must be twice as long as cos and sin");
    let (a, b) = x.split_at_mut(half);
    for (((a, b), cos), sin) in a.iter_mut().zip(b).zip(cos).zip(sin) {
        (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
    }
}
