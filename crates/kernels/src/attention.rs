//! Attention of one query over the keys and values that it sees, which may lie anywhere in a matrix.

use crate::activation::exp_parts;
use crate::simd::{Isa, Kernel, Simd, dispatch};
use crate::vector::map;

/// Scores `q · k · scale`, their softmax, and the mean of values that it weights, for one query of one head.
///
/// `q` and `z` are `[d_head]`. The key of the `j`-th node seen is `kv[nodes[j] * stride + k_at ..][..d_head]`, its value
/// the same with `v_at`. On return `pattern` `[nodes]` holds the attention probabilities and `z` their mean of values.
///
/// # Panics
/// If there are no nodes, lengths do not fit, or a node lies outside `kv`.
#[track_caller]
#[expect(clippy::too_many_arguments, reason = "a strided gather has many parts")]
pub fn attention_row(
    q: &[f32],
    kv: &[f32],
    k_at: usize,
    v_at: usize,
    stride: usize,
    nodes: &[u32],
    scale: f32,
    pattern: &mut [f32],
    z: &mut [f32],
) {
    attention_row_with(Isa::best(), q, kv, k_at, v_at, stride, nodes, scale, pattern, z);
}

/// [`attention_row`] with the instructions of `isa`.
#[track_caller]
#[expect(clippy::too_many_arguments, reason = "a strided gather has many parts")]
pub fn attention_row_with(
    isa: Isa,
    q: &[f32],
    kv: &[f32],
    k_at: usize,
    v_at: usize,
    stride: usize,
    nodes: &[u32],
    scale: f32,
    pattern: &mut [f32],
    z: &mut [f32],
) {
    assert!(!nodes.is_empty(), "a query sees at least itself");
    assert_eq!(pattern.len(), nodes.len(), "length of the pattern and nodes seen");
    assert_eq!(q.len(), z.len(), "widths of q and z");
    let last = nodes.iter().copied().max().unwrap_or(0) as usize;
    let reach = k_at.max(v_at) + q.len();
    assert!(last * stride + reach <= kv.len(), "node {last} lies outside keys and values");
    dispatch(isa, AttentionRow { q, kv, k_at, v_at, stride, nodes, scale, pattern, z });
}

struct AttentionRow<'a> {
    q: &'a [f32],
    kv: &'a [f32],
    k_at: usize,
    v_at: usize,
    stride: usize,
    nodes: &'a [u32],
    scale: f32,
    pattern: &'a mut [f32],
    z: &'a mut [f32],
}

impl Kernel for AttentionRow<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let d = self.q.len();
        let whole = d - d % S::LANES;
        let rest = d - whole;
        let (q, kv) = (self.q.as_ptr(), self.kv.as_ptr());

        let mut highest = f32::NEG_INFINITY;
        for (&node, score) in self.nodes.iter().zip(self.pattern.iter_mut()) {
            // SAFETY: every node's key and value lie inside `kv`: checked by the caller.
            let dot = unsafe {
                let k = kv.add(node as usize * self.stride + self.k_at);
                let mut sum = s.splat(0.0);
                for at in (0..whole).step_by(S::LANES) {
                    sum = s.mul_add(s.load(q.add(at)), s.load(k.add(at)), sum);
                }
                if rest > 0 {
                    let (q, k) = (s.load_first(q.add(whole), rest), s.load_first(k.add(whole), rest));
                    sum = s.mul_add(q, k, sum);
                }
                s.sum(sum)
            };
            *score = dot * self.scale;
            highest = highest.max(*score);
        }

        let (zero, shift) = (s.splat(0.0), s.splat(highest));
        let mut total = s.splat(0.0);
        let lanes: [f32; 16] = std::array::from_fn(|i| i as f32);
        map(s, self.pattern, |_, n, score| {
            let (e, power) = exp_parts(s, s.sub(score, shift), zero);
            let e = s.scale_pow2(e, power);
            // Lanes past the end hold no score and must not count.
            // SAFETY: `LANES` is at most 16.
            let past_end = unsafe { s.sub(s.load(lanes.as_ptr()), s.splat(n as f32 - 0.5)) };
            total = s.add(total, s.select_negative(past_end, e, zero));
            e
        });
        let inverse = s.splat(1.0 / s.sum(total));
        map(s, self.pattern, |_, _, e| s.mul(e, inverse));

        // Four vectors of z at a time stay in registers while the values go by.
        let z = self.z.as_mut_ptr();
        let value = |node: u32, at: usize| {
            // SAFETY: as above; `at < d`.
            unsafe { kv.add(node as usize * self.stride + self.v_at + at) }
        };
        let mut at = 0;
        while at + 4 * S::LANES <= whole {
            let mut sums = [s.splat(0.0); 4];
            for (&node, &p) in self.nodes.iter().zip(&*self.pattern) {
                let (v, p) = (value(node, at), s.splat(p));
                for (i, sum) in sums.iter_mut().enumerate() {
                    // SAFETY: four vectors from `at` on lie inside the head.
                    *sum = unsafe { s.mul_add(p, s.load(v.add(i * S::LANES)), *sum) };
                }
            }
            for (i, sum) in sums.into_iter().enumerate() {
                // SAFETY: likewise.
                unsafe { s.store(z.add(at + i * S::LANES), sum) };
            }
            at += 4 * S::LANES;
        }
        while at < d {
            let n = S::LANES.min(d - at);
            let mut sum = s.splat(0.0);
            for (&node, &p) in self.nodes.iter().zip(&*self.pattern) {
                let v = value(node, at);
                // SAFETY: `n` values from `at` on lie inside the head.
                let v = unsafe { if n == S::LANES { s.load(v) } else { s.load_first(v, n) } };
                sum = s.mul_add(s.splat(p), v, sum);
            }
            // SAFETY: likewise.
            unsafe { if n == S::LANES { s.store(z.add(at), sum) } else { s.store_first(z.add(at), n, sum) } };
            at += n;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_float64() {
        for d in [1, 3, 5, 7, 8, 12, 16, 20, 64, 80, 100, 128] {
            for n_seen in [1usize, 2, 7, 16, 17, 33] {
                let (n_nodes, stride) = (40, 2 * d + 3);
                let value = |i: usize| ((i * 2_654_435_761) % 1009) as f32 / 504.0 - 1.0;
                let kv: Vec<f32> = (0..n_nodes * stride).map(value).collect();
                let q: Vec<f32> = (0..d).map(|i| value(i + 77)).collect();
                let nodes: Vec<u32> = (0..n_seen).map(|j| (j * 7 % n_nodes) as u32).collect();
                let row = |at: usize, n: u32| kv[n as usize * stride + at..][..d].iter().map(|&v| f64::from(v));
                let scores: Vec<f64> = nodes
                    .iter()
                    .map(|&n| 0.7f32 as f64 * q.iter().zip(row(1, n)).map(|(&q, k)| f64::from(q) * k).sum::<f64>())
                    .collect();
                let total: f64 = scores.iter().map(|s| s.exp()).sum();
                for isa in Isa::available() {
                    let (mut pattern, mut z) = (vec![0.0; n_seen], vec![0.0; d]);
                    attention_row_with(isa, &q, &kv, 1, d + 2, stride, &nodes, 0.7, &mut pattern, &mut z);
                    for (&p, s) in pattern.iter().zip(&scores) {
                        assert!((f64::from(p) - s.exp() / total).abs() < 1e-6, "{isa:?} {d} {n_seen}");
                    }
                    for i in 0..d {
                        let exact: f64 =
                            nodes.iter().zip(&scores).map(|(&n, s)| s.exp() / total * row(d + 2, n).nth(i).unwrap()).sum();
                        assert!((f64::from(z[i]) - exact).abs() < 2e-6, "{isa:?} {d} {n_seen}: {} {exact}", z[i]);
                    }
                }
            }
        }
    }
}
