//! The two products of attention, for a tile of up to four rows: queries with keys, weights with values.

use crate::simd::Simd;

/// Number of dimensions that are summed before being added to the total: a single long chain of additions would lose more
/// to rounding, which matters for unscaled scores (GPT-Neo).
const PART: usize = 32;

/// Scores of `R` queries on `V` vectors of keys: `to[i * width + ..] = scale * q_i K^T`, each sum in order of dimension, a part
/// at a time.
///
/// # Safety
/// `keys` must be valid for as many vectors as `q` has dimensions, also at each of the `V - 1` further offsets of `stride`
/// values; `to` for `R` rows of `V` vectors, `width` apart.
#[inline(always)]
pub(super) unsafe fn scores<S: Simd, const R: usize, const V: usize>(
    s: S,
    q: [&[f32]; R],
    keys: *const f32,
    stride: usize,
    scale: f32,
    to: *mut f32,
    width: usize,
) {
    let mut acc = [[s.splat(0.0); V]; R];
    let (q, n) = (q.map(<[f32]>::as_ptr), q[0].len());
    for first in (0..n).step_by(PART) {
        let mut part = [[s.splat(0.0); V]; R];
        for d in first..n.min(first + PART) {
            // SAFETY: `d` is below the number of dimensions.
            unsafe {
                let k: [S::F; V] = std::array::from_fn(|v| s.load(keys.add(v * stride + d * S::LANES)));
                for (part, q) in part.iter_mut().zip(&q) {
                    let x = s.splat(*q.add(d));
                    for (part, &k) in part.iter_mut().zip(&k) {
                        *part = s.mul_add(x, k, *part);
                    }
                }
            }
        }
        for (acc, part) in acc.iter_mut().flatten().zip(part.iter().flatten()) {
            *acc = s.add(*acc, *part);
        }
    }
    let scale = s.splat(scale);
    for (i, acc) in acc.iter().enumerate() {
        for (v, &acc) in acc.iter().enumerate() {
            // SAFETY: the caller guarantees these rows.
            unsafe { s.store(to.add(i * width + v * S::LANES), s.mul(acc, scale)) };
        }
    }
}

/// Weighted sums of the values of `nodes`. The first query has weights for `n_shared` nodes, each further query for one
/// more; every query has a row for each of `n_heads` heads.
pub(super) struct Mix<'a> {
    pub weights: &'a [f32], // rows of `width`
    pub width: usize,
    pub nodes: &'a [u32],
    pub n_shared: usize,
    pub n_heads: usize,
}

impl Mix<'_> {
    /// `V` vectors of columns, the last with `n_last` values: each sum in order of node.
    ///
    /// # Safety
    /// `values + node * stride` must be valid for these columns at every node, and `z` at every row.
    #[inline(always)]
    pub unsafe fn run<S: Simd, const R: usize, const V: usize>(
        &self,
        s: S,
        values: *const f32,
        stride: usize,
        n_last: usize,
        z: [*mut f32; R],
    ) {
        // SAFETY: for all of this block, the caller guarantees `values` and `z`, and the slices have been cut to size.
        unsafe {
            let load = |node: u32| -> [S::F; V] {
                let row = values.add(node as usize * stride);
                std::array::from_fn(|v| {
                    let at = row.add(v * S::LANES);
                    if v + 1 < V || n_last == S::LANES { s.load(at) } else { s.load_first(at, n_last) }
                })
            };
            let rows: [*const f32; R] = std::array::from_fn(|i| self.weights[i * self.width..].as_ptr());
            let mut acc = [[s.splat(0.0); V]; R];
            let (shared, rest) = self.nodes.split_at(self.n_shared);
            for (j, &node) in shared.iter().enumerate() {
                let v = load(node);
                for (acc, row) in acc.iter_mut().zip(&rows) {
                    let weight = s.splat(*row.add(j));
                    for (acc, &v) in acc.iter_mut().zip(&v) {
                        *acc = s.mul_add(weight, v, *acc);
                    }
                }
            }
            for (j, &node) in rest.iter().enumerate() {
                let v = load(node);
                for (acc, row) in acc.iter_mut().zip(&rows).skip((j + 1) * self.n_heads) {
                    let weight = s.splat(*row.add(self.n_shared + j));
                    for (acc, &v) in acc.iter_mut().zip(&v) {
                        *acc = s.mul_add(weight, v, *acc);
                    }
                }
            }
            for (acc, z) in acc.iter().zip(z) {
                for (v, &acc) in acc.iter().enumerate() {
                    let at = z.add(v * S::LANES);
                    if v + 1 < V || n_last == S::LANES {
                        s.store(at, acc)
                    } else {
                        s.store_first(at, n_last, acc)
                    }
                }
            }
        }
    }
}
