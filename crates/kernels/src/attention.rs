//! Softmax, attention of queries over gathered keys, rotary embedding.

use crate::math;
use crate::simd::{Isa, Kernel, Simd, dispatch};
use crate::{MatMut, MatRef};

/// Softmax of `scale * scores`, in place.
///
/// NaN anywhere, or positive infinity, makes every value NaN, as in PyTorch. An empty slice stays empty.
pub fn softmax_scaled(scores: &mut [f32], scale: f32) {
    softmax_scaled_with(Isa::best(), scores, scale);
}

/// [`softmax_scaled`] with the instructions of `isa`, or plain ones where this CPU lacks them.
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

/// Softmax of the first `n` values of `x`, whose length is `n` rounded up to whole vectors.
#[inline(always)]
fn softmax<S: Simd>(s: S, x: &mut [f32], n: usize) {
    debug_assert_eq!(x.len(), n.next_multiple_of(S::LANES));
    x[n..].fill(f32::NEG_INFINITY); // exp of it is 0
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

/// Where the keys and values of a layer lie: node `j`'s keys of all heads are `data[j * stride + key..][..d_attn]`, its values
/// `data[j * stride + value..][..d_attn]`, one head after the other.
#[derive(Clone, Copy, Debug)]
pub struct KeyValues<'a> {
    /// All nodes' rows.
    pub data: &'a [f32],
    /// Distance between two nodes' rows.
    pub stride: usize,
    /// Where in a row the keys start.
    pub key: usize,
    /// Where in a row the values start.
    pub value: usize,
}

/// Attention of one query of one head over the nodes in `nodes`: `pattern = softmax(scale * q K^T)`, `z = pattern V`.
///
/// Shapes: `q` and `z` `[d_head]`, `pattern` `[nodes.len()]`. Gives the same bits as [`PathAttention`], which is for many queries.
///
/// # Panics
/// If the lengths differ, there are no nodes, or a node's key or value reaches past `kv.data`.
#[track_caller]
pub fn attention_row(
    q: &[f32],
    kv: KeyValues<'_>,
    nodes: &[u32],
    scale: f32,
    pattern: &mut [f32],
    z: &mut [f32],
) {
    assert_eq!(nodes.len(), pattern.len(), "numbers of nodes and of weights");
    let d = q.len();
    let mut attention = PathAttention::new(1, d);
    attention.attend(MatRef::new(q, 1, d), kv, nodes, None, scale, MatMut::new(z, 1, d));
    let at = attention.first_weight;
    pattern.copy_from_slice(&attention.weights[at..at + nodes.len()]);
}

/// Attention of all heads of queries that lie on paths through a tree of nodes: `z_h = softmax(scale * q_h K_h^T) V_h`.
///
/// Keys are kept transposed, so that a vector holds one dimension of several nodes' keys: a query's scores then need no sums
/// across a vector, which would cost more than the products where heads have few dimensions. A key is transposed once as
/// long as paths come in an order in which they share their beginnings (depth first), since the keys of the path before are
/// still there.
///
/// A query's result depends on its own path, window and numbers alone, bit for bit.
#[derive(Debug)]
pub struct PathAttention {
    isa: Isa,
    n_heads: usize,
    d_head: usize,
    /// The nodes whose keys are in `keys`.
    path: Vec<u32>,
    /// `[path.len() / LANES, n_heads * d_head, LANES]`
    keys: Vec<f32>,
    /// Scores, then weights, of up to [`PathAttention::QUERIES`] queries of one head.
    weights: Vec<f32>,
    /// Where in `weights` the first query's begin.
    first_weight: usize,
}

impl Default for PathAttention {
    /// For no heads yet.
    fn default() -> Self {
        Self::new(0, 0)
    }
}

impl PathAttention {
    /// Queries whose scores are computed together, so that a key or value is loaded once for all.
    pub const QUERIES: usize = 4;

    /// For `n_heads` heads of `d_head` dimensions.
    #[must_use]
    pub fn new(n_heads: usize, d_head: usize) -> Self {
        Self::with_isa(Isa::best(), n_heads, d_head)
    }

    /// [`PathAttention::new`] with the instructions of `isa`, or plain ones where this CPU lacks them.
    #[must_use]
    pub fn with_isa(isa: Isa, n_heads: usize, d_head: usize) -> Self {
        Self { isa, n_heads, d_head, path: vec![], keys: vec![], weights: vec![], first_weight: 0 }
    }

    /// Forgets all keys, and is for other heads from now on. To be called whenever the numbers behind a node have changed.
    pub fn reset(&mut self, n_heads: usize, d_head: usize) {
        (self.n_heads, self.d_head) = (n_heads, d_head);
        self.path.clear();
    }

    /// Floats kept for paths of up to `len` nodes.
    #[must_use]
    pub fn floats(n_heads: usize, d_head: usize, len: usize) -> usize {
        const WIDEST: usize = 16;
        len.next_multiple_of(WIDEST) * n_heads * d_head + Self::QUERIES * (len + 4 * WIDEST)
    }

    /// Attention of the last `q.rows()` nodes of `path`: each sees the path up to itself, but no more than its last `window`
    /// nodes.
    ///
    /// Shapes: `q` and `z` `[n_queries, n_heads * d_head]`.
    ///
    /// # Panics
    /// If the shapes do not fit, there are more queries than nodes, the window is empty, or a node's row reaches past `kv.data`.
    #[track_caller]
    pub fn attend(
        &mut self,
        q: MatRef<'_>,
        kv: KeyValues<'_>,
        path: &[u32],
        window: Option<usize>,
        scale: f32,
        z: MatMut<'_>,
    ) {
        let d_attn = self.n_heads * self.d_head;
        assert_eq!((q.rows(), q.cols()), (z.rows(), z.cols()), "shapes of q and z");
        assert_eq!(q.cols(), d_attn, "columns of q and dimensions of all heads");
        assert!(q.rows() <= path.len(), "{} queries on a path of {} nodes", q.rows(), path.len());
        assert!(window != Some(0), "a window holds the query's own node at least");
        let row = d_attn + kv.key.max(kv.value);
        assert!(row <= kv.stride, "rows of {row} values lie {} apart", kv.stride);
        if let Some(&last) = path.iter().max() {
            let end = last as usize * kv.stride + row;
            assert!(
                end <= kv.data.len(),
                "node {last} ends at {end}, but there are {} values",
                kv.data.len()
            );
        }
        dispatch(self.isa, Attention { state: self, q, kv, path, window, scale, z });
    }
}

/// Arguments of [`PathAttention::attend`], checked.
struct Attention<'a> {
    state: &'a mut PathAttention,
    q: MatRef<'a>,
    kv: KeyValues<'a>,
    path: &'a [u32],
    window: Option<usize>,
    scale: f32,
    z: MatMut<'a>,
}

impl Kernel for Attention<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        self.transpose_keys::<S>();
        let (n, len) = (self.q.rows(), self.path.len());
        let mut first = 0;
        while first < n {
            let end = len - (n - 1 - first); // of what the first query sees
            let from = end - end.min(self.window.unwrap_or(end));
            // Where windows cut, each query has a beginning of its own.
            let together =
                if self.window.is_some_and(|w| end + PathAttention::QUERIES > w) { 1 } else { n - first };
            let group = Group { first, from, end };
            match together {
                1 => self.group::<S, 1>(s, group),
                2 => self.group::<S, 2>(s, group),
                3 => self.group::<S, 3>(s, group),
                _ => self.group::<S, 4>(s, group),
            }
            first += together.min(PathAttention::QUERIES);
        }
    }
}

/// Some queries that see the nodes `from..end`, `from..end + 1`, … of the path.
#[derive(Clone, Copy)]
struct Group {
    first: usize,
    from: usize,
    end: usize,
}

impl Attention<'_> {
    /// Brings the keys of the path into the table, but for those that are there.
    #[inline(always)]
    fn transpose_keys<S: Simd>(&mut self) {
        let (state, kv) = (&mut *self.state, self.kv);
        let d_attn = self.q.cols();
        let known = state.path.iter().zip(self.path).take_while(|(a, b)| a == b).count();
        state.path.truncate(known);
        state.path.extend_from_slice(&self.path[known..]);
        let need = self.path.len().next_multiple_of(S::LANES) * d_attn;
        if state.keys.len() < need {
            state.keys.resize(need, 0.0);
        }
        for (at, &node) in self.path.iter().enumerate().skip(known) {
            let key = &kv.data[node as usize * kv.stride + kv.key..][..d_attn];
            let vectors = state.keys[at / S::LANES * d_attn * S::LANES..].chunks_exact_mut(S::LANES);
            for (vector, value) in vectors.zip(key) {
                vector[at % S::LANES] = *value;
            }
        }
    }

    /// `Q` queries, head by head.
    #[inline(always)]
    fn group<S: Simd, const Q: usize>(&mut self, s: S, Group { first, from, end }: Group) {
        let state = &mut *self.state;
        let (d_attn, d_head, kv) = (self.q.cols(), state.d_head, self.kv);
        let (z_start, z_stride) = (self.z.as_mut_ptr(), self.z.stride());
        let last_end = end + Q - 1;
        let vectors = from / S::LANES..last_end.div_ceil(S::LANES);
        // Each query's weights begin one vector into its row, so that the first vector of scores may begin before them.
        let width = (last_end - from).next_multiple_of(S::LANES) + 3 * S::LANES;
        if state.weights.len() < Q * width {
            state.weights.resize(Q * width, 0.0);
        }
        state.first_weight = S::LANES;
        let weights = &mut state.weights[..Q * width];
        for head in 0..state.n_heads {
            let columns = head * d_head..(head + 1) * d_head;
            let q: [&[f32]; Q] = std::array::from_fn(|i| &self.q.row(first + i)[columns.clone()]);
            let mut vector = vectors.start;
            while vector < vectors.end {
                let keys = &state.keys[(vector * d_attn + columns.start) * S::LANES..];
                let to = weights[S::LANES + vector * S::LANES - from..].as_mut_ptr();
                // SAFETY: the keys of `vectors` are in the table, `d_attn` vectors apart; a row of weights has room for the
                // vectors from the one that holds `from` to the one that holds `last_end`.
                unsafe {
                    if vector + 1 < vectors.end {
                        scores::<S, Q, 2>(s, q, keys.as_ptr(), d_attn * S::LANES, self.scale, to, width);
                        vector += 2;
                    } else {
                        scores::<S, Q, 1>(s, q, keys.as_ptr(), 0, self.scale, to, width);
                        vector += 1;
                    }
                }
            }
            for (i, row) in weights.chunks_exact_mut(width).enumerate() {
                let n = end + i - from;
                softmax(s, &mut row[S::LANES..][..n.next_multiple_of(S::LANES)], n);
            }
            let mix = Mix {
                weights: &weights[S::LANES..],
                width,
                nodes: &self.path[from..last_end],
                n_shared: end - from,
            };
            let mut column = columns.start;
            while column < columns.end {
                let n = (columns.end - column).min(2 * S::LANES);
                let z: [*mut f32; Q] =
                    std::array::from_fn(|i| z_start.wrapping_add((first + i) * z_stride + column));
                // SAFETY: every node of the path has `d_attn` values at `kv.value`, every row of z as many, and
                // `column + n` is at most that.
                unsafe {
                    let values = kv.data.as_ptr().add(kv.value + column);
                    if n > S::LANES {
                        mix.run::<S, Q, 2>(s, values, kv.stride, n - S::LANES, z);
                    } else {
                        mix.run::<S, Q, 1>(s, values, kv.stride, n, z);
                    }
                }
                column += n;
            }
        }
    }
}

/// Dimensions that a score's products are summed over before they are added to the rest: one long chain of additions would
/// lose more to rounding, which unscaled scores (GPT-Neo) pass on to the pattern.
const PART: usize = 32;

/// Scores of `Q` queries on `V` vectors of keys: `to[i * width + ..] = scale * q_i K^T`, each sum in order of dimension, a part
/// at a time.
///
/// # Safety
/// `keys` must be valid for as many vectors as `q` has dimensions, and `V - 1` times `stride` values further on again; `to` for
/// `Q` rows of `V` vectors, `width` apart.
#[inline(always)]
unsafe fn scores<S: Simd, const Q: usize, const V: usize>(
    s: S,
    q: [&[f32]; Q],
    keys: *const f32,
    stride: usize,
    scale: f32,
    to: *mut f32,
    width: usize,
) {
    let mut acc = [[s.splat(0.0); V]; Q];
    let (q, n) = (q.map(<[f32]>::as_ptr), q[0].len());
    for first in (0..n).step_by(PART) {
        let mut part = [[s.splat(0.0); V]; Q];
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
            // SAFETY: the caller vouches for these rows.
            unsafe { s.store(to.add(i * width + v * S::LANES), s.mul(acc, scale)) };
        }
    }
}

/// Weighted sums of the values of `nodes`. The first query has weights for `n_shared` nodes, each further one for one more.
struct Mix<'a> {
    weights: &'a [f32], // rows of `width`
    width: usize,
    nodes: &'a [u32],
    n_shared: usize,
}

impl Mix<'_> {
    /// `V` vectors of columns, of which the last has `n_last` values: each sum in order of node.
    ///
    /// # Safety
    /// `values + node * stride` must be valid for these columns at every node, and `z` at every query.
    #[inline(always)]
    unsafe fn run<S: Simd, const Q: usize, const V: usize>(
        &self,
        s: S,
        values: *const f32,
        stride: usize,
        n_last: usize,
        z: [*mut f32; Q],
    ) {
        // SAFETY: for all of this block, the caller vouches for `values` and `z`, and the slices have been cut to size.
        unsafe {
            let load = |node: u32| -> [S::F; V] {
                let row = values.add(node as usize * stride);
                std::array::from_fn(|v| {
                    let at = row.add(v * S::LANES);
                    if v + 1 < V || n_last == S::LANES { s.load(at) } else { s.load_first(at, n_last) }
                })
            };
            let rows: [*const f32; Q] = std::array::from_fn(|i| self.weights[i * self.width..].as_ptr());
            let mut acc = [[s.splat(0.0); V]; Q];
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
                for (acc, row) in acc.iter_mut().zip(&rows).skip(j + 1) {
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
