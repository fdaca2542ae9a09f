//! Attention of queries over gathered keys, one key head shared by a group of query heads.

mod products;

use crate::elementwise::{InPlace, SoftCap};
use crate::simd::{Isa, Kernel, Simd, dispatch};
use crate::softmax::softmax;
use crate::{MatMut, MatRef};
use products::{Mix, scores};

/// Memory layout of a layer's keys and values: node `j`'s keys of all key heads are `data[j * stride + key..][..d_kv]`,
/// its values `data[j * stride + value..][..d_kv]`, one head after the other, `d_kv = n_kv_heads * d_head`.
#[derive(Clone, Copy, Debug)]
pub struct KeyValues<'a> {
    /// All nodes' rows.
    pub data: &'a [f32],
    /// Distance between two nodes' rows.
    pub stride: usize,
    /// Offset of the keys in a row.
    pub key: usize,
    /// Offset of the values in a row.
    pub value: usize,
}

/// The attention score of a query and a key: `scale * q k`, or with a soft cap `c`, `c tanh(scale * q k / c)`
/// as in Gemma 2.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ScoreRule {
    /// Factor of the products.
    pub scale: f32,
    /// The soft cap `c > 0`, which bounds the absolute value of scores.
    pub softcap: Option<f32>,
}

/// Attention of one query of one head over the nodes in `nodes`: `pattern = softmax(scores)`, `z = pattern V`.
///
/// Shapes: `q` and `z` `[d_head]`, `pattern` `[nodes.len()]`; `kv.key` and `kv.value` are the offsets of this head. Bit-identical
/// to [`PathAttention`], which handles many queries.
///
/// # Panics
/// If the lengths differ, there are no nodes, a node's key or value reaches past `kv.data`, or the cap is not positive.
#[track_caller]
pub fn attention_row(
    q: &[f32],
    kv: KeyValues<'_>,
    nodes: &[u32],
    rule: ScoreRule,
    pattern: &mut [f32],
    z: &mut [f32],
) {
    assert_eq!(nodes.len(), pattern.len(), "number of nodes and of weights");
    let d = q.len();
    let mut attention = PathAttention::new(1, 1, d);
    attention.attend(MatRef::new(q, 1, d), kv, nodes, None, rule, MatMut::new(z, 1, d));
    let at = attention.first_weight;
    pattern.copy_from_slice(&attention.weights[at..at + nodes.len()]);
}

/// Attention of all heads of queries on paths through a tree of nodes: `z_h = softmax(scores of q_h and K_g) V_g`, where
/// query head `h` reads key and value head `g = h / (n_heads / n_kv_heads)`.
///
/// Keys are stored transposed, so that a vector holds one dimension of several nodes' keys: a query's scores then need no
/// sums across a vector, which would cost more than the products if heads have few dimensions. If paths arrive in depth-first
/// order, so that consecutive ones share prefixes, each key is transposed only once, since the keys of the previous path are
/// still there. All query heads of a group are processed while its keys and values are in the cache, several at a time if
/// there are fewer queries than rows in a tile.
///
/// A query's result depends only on its own path, window and values, bit for bit.
#[derive(Debug)]
pub struct PathAttention {
    isa: Isa,
    n_heads: usize,
    n_kv_heads: usize,
    d_head: usize,
    /// The nodes whose keys are in `keys`.
    path: Vec<u32>,
    /// `[path.len() / LANES, n_kv_heads * d_head, LANES]`
    keys: Vec<f32>,
    /// Scores, then weights, of a tile's rows.
    weights: Vec<f32>,
    /// Offset of the first row in `weights`.
    first_weight: usize,
}

impl Default for PathAttention {
    /// Without any heads yet.
    fn default() -> Self {
        Self::new(0, 0, 0)
    }
}

impl PathAttention {
    /// Rows of a tile: queries, or query heads of a group, that are computed together, so that each key or value is
    /// loaded once for all of them.
    pub const QUERIES: usize = 4;

    /// For `n_heads` query heads and `n_kv_heads` key and value heads of `d_head` dimensions.
    ///
    /// # Panics
    /// If `n_heads` is not a multiple of `n_kv_heads`.
    #[must_use]
    #[track_caller]
    pub fn new(n_heads: usize, n_kv_heads: usize, d_head: usize) -> Self {
        Self::with_isa(Isa::best(), n_heads, n_kv_heads, d_head)
    }

    /// [`PathAttention::new`] with the instructions of `isa`, or portable code if the CPU lacks them.
    #[must_use]
    #[track_caller]
    pub fn with_isa(isa: Isa, n_heads: usize, n_kv_heads: usize, d_head: usize) -> Self {
        let (path, keys, weights) = (vec![], vec![], vec![]);
        let mut new =
            Self { isa, n_heads: 0, n_kv_heads: 0, d_head: 0, path, keys, weights, first_weight: 0 };
        new.reset(n_heads, n_kv_heads, d_head);
        new
    }

    /// Forgets all keys and sets new numbers of heads. Call it whenever the values of a node have changed.
    ///
    /// # Panics
    /// If `n_heads` is not a multiple of `n_kv_heads`.
    #[track_caller]
    pub fn reset(&mut self, n_heads: usize, n_kv_heads: usize, d_head: usize) {
        assert!(
            n_heads.is_multiple_of(n_kv_heads),
            "{n_heads} query heads cannot share {n_kv_heads} key heads equally"
        );
        (self.n_heads, self.n_kv_heads, self.d_head) = (n_heads, n_kv_heads, d_head);
        self.path.clear();
    }

    /// Number of floats stored for paths of up to `len` nodes.
    #[must_use]
    pub fn floats(n_kv_heads: usize, d_head: usize, len: usize) -> usize {
        const WIDEST: usize = 16;
        len.next_multiple_of(WIDEST) * n_kv_heads * d_head + Self::QUERIES * (len + 4 * WIDEST)
    }

    /// Attention of the last `q.rows()` nodes of `path`: each attends to the path up to itself, limited to the last `window`
    /// nodes.
    ///
    /// Shapes: `q` and `z` `[n_queries, n_heads * d_head]`.
    ///
    /// # Panics
    /// If the shapes do not fit, there are more queries than nodes, the window is empty, a node's row reaches past `kv.data`, or
    /// the cap is not positive.
    #[track_caller]
    pub fn attend(
        &mut self,
        q: MatRef<'_>,
        kv: KeyValues<'_>,
        path: &[u32],
        window: Option<usize>,
        rule: ScoreRule,
        z: MatMut<'_>,
    ) {
        let (d_attn, d_kv) = (self.n_heads * self.d_head, self.n_kv_heads * self.d_head);
        assert_eq!((q.rows(), q.cols()), (z.rows(), z.cols()), "shapes of q and z");
        assert_eq!(q.cols(), d_attn, "columns of q and dimensions of all query heads");
        assert!(q.rows() <= path.len(), "{} queries on a path of {} nodes", q.rows(), path.len());
        assert!(window != Some(0), "a window contains at least the query's own node");
        assert!(rule.softcap.is_none_or(|c| c > 0.0), "a cap of {:?} is not positive", rule.softcap);
        let row = d_kv + kv.key.max(kv.value);
        assert!(row <= kv.stride, "rows of {row} values at a stride of {}", kv.stride);
        if let Some(&last) = path.iter().max() {
            let end = last as usize * kv.stride + row;
            assert!(
                end <= kv.data.len(),
                "node {last} ends at {end}, but there are {} values",
                kv.data.len()
            );
        }
        dispatch(self.isa, Attention { state: self, q, kv, path, window, rule, z });
    }
}

/// The checked arguments of [`PathAttention::attend`].
struct Attention<'a> {
    state: &'a mut PathAttention,
    q: MatRef<'a>,
    kv: KeyValues<'a>,
    path: &'a [u32],
    window: Option<usize>,
    rule: ScoreRule,
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
            // If a window limits them, each query has its own first node.
            let together =
                if self.window.is_some_and(|w| end + PathAttention::QUERIES > w) { 1 } else { n - first };
            let n = together.min(PathAttention::QUERIES);
            self.heads(s, Queries { first, n, from, end });
            first += n;
        }
    }
}

/// `n` queries that see the nodes `from..end`, `from..end + 1`, … of the path.
#[derive(Clone, Copy)]
struct Queries {
    first: usize,
    n: usize,
    from: usize,
    end: usize,
}

/// Some queries of some query heads of a group, query by query.
#[derive(Clone, Copy)]
struct Tile {
    queries: Queries,
    kv_head: usize,
    first_head: usize,
    n_heads: usize,
}

impl Tile {
    /// Each row's query, counted from the tile's first, and query head.
    #[inline(always)]
    fn rows<const R: usize>(&self) -> [(usize, usize); R] {
        let mut next = (0, self.first_head);
        std::array::from_fn(|_| {
            let row = next;
            next.1 += 1;
            if next.1 == self.first_head + self.n_heads {
                next = (row.0 + 1, self.first_head);
            }
            row
        })
    }
}

impl Attention<'_> {
    /// Adds the path's keys to the table, except those already there.
    #[inline(always)]
    fn transpose_keys<S: Simd>(&mut self) {
        let (state, kv) = (&mut *self.state, self.kv);
        let d_kv = state.n_kv_heads * state.d_head;
        let known = state.path.iter().zip(self.path).take_while(|(a, b)| a == b).count();
        state.path.truncate(known);
        state.path.extend_from_slice(&self.path[known..]);
        let need = self.path.len().next_multiple_of(S::LANES) * d_kv;
        if state.keys.len() < need {
            state.keys.resize(need, 0.0);
        }
        for (at, &node) in self.path.iter().enumerate().skip(known) {
            let key = &kv.data[node as usize * kv.stride + kv.key..][..d_kv];
            let vectors = state.keys[at / S::LANES * d_kv * S::LANES..].chunks_exact_mut(S::LANES);
            for (vector, value) in vectors.zip(key) {
                vector[at % S::LANES] = *value;
            }
        }
    }

    /// Computes all heads of some queries, group by group.
    #[inline(always)]
    fn heads<S: Simd>(&mut self, s: S, queries: Queries) {
        let PathAttention { n_heads, n_kv_heads, .. } = *self.state;
        let at_once = PathAttention::QUERIES / queries.n;
        let group = n_heads.checked_div(n_kv_heads).unwrap_or(0);
        for kv_head in 0..n_kv_heads {
            let (mut first_head, end) = (kv_head * group, (kv_head + 1) * group);
            while first_head < end {
                let n_heads = at_once.min(end - first_head);
                let tile = Tile { queries, kv_head, first_head, n_heads };
                match queries.n * n_heads {
                    1 => self.tile::<S, 1>(s, tile),
                    2 => self.tile::<S, 2>(s, tile),
                    3 => self.tile::<S, 3>(s, tile),
                    _ => self.tile::<S, 4>(s, tile),
                }
                first_head += n_heads;
            }
        }
    }

    /// Computes a tile of `R` rows.
    #[inline(always)]
    fn tile<S: Simd, const R: usize>(&mut self, s: S, tile: Tile) {
        let state = &mut *self.state;
        let (d_head, kv, rule) = (state.d_head, self.kv, self.rule);
        let d_kv = state.n_kv_heads * d_head;
        let Queries { first, n: n_queries, from, end } = tile.queries;
        let rows = tile.rows::<R>();
        let last_end = end + n_queries - 1;
        let vectors = from / S::LANES..last_end.div_ceil(S::LANES);
        // Each row's weights start at an offset of one vector, so that the first vector of scores may start
        // before them.
        let width = (last_end - from).next_multiple_of(S::LANES) + 3 * S::LANES;
        if state.weights.len() < R * width {
            state.weights.resize(R * width, 0.0);
        }
        state.first_weight = S::LANES;
        let weights = &mut state.weights[..R * width];

        let q: [&[f32]; R] = std::array::from_fn(|r| {
            let (query, head) = rows[r];
            &self.q.row(first + query)[head * d_head..][..d_head]
        });
        let mut vector = vectors.start;
        while vector < vectors.end {
            let keys = &state.keys[(vector * d_kv + tile.kv_head * d_head) * S::LANES..];
            let to = weights[S::LANES + vector * S::LANES - from..].as_mut_ptr();
            // SAFETY: the keys of `vectors` are in the table, `d_kv` vectors apart; a row of weights has room for the
            // vectors from the one that holds `from` to the one that holds `last_end`.
            unsafe {
                if vector + 1 < vectors.end {
                    scores::<S, R, 2>(s, q, keys.as_ptr(), d_kv * S::LANES, rule.scale, to, width);
                    vector += 2;
                } else {
                    scores::<S, R, 1>(s, q, keys.as_ptr(), 0, rule.scale, to, width);
                    vector += 1;
                }
            }
        }
        for ((query, _), row) in rows.into_iter().zip(weights.chunks_exact_mut(width)) {
            let (n, row) = (end + query - from, &mut row[S::LANES..]);
            if let Some(c) = rule.softcap {
                InPlace(&mut row[..n], SoftCap(c)).run(s);
            }
            softmax(s, &mut row[..n.next_multiple_of(S::LANES)], n);
        }

        let mix = Mix {
            weights: &weights[S::LANES..],
            width,
            nodes: &self.path[from..last_end],
            n_shared: end - from,
            n_heads: tile.n_heads,
        };
        let (z_start, z_stride) = (self.z.as_mut_ptr(), self.z.stride());
        for column in (0..d_head).step_by(2 * S::LANES) {
            let n = (d_head - column).min(2 * S::LANES);
            let z: [*mut f32; R] = std::array::from_fn(|r| {
                let (query, head) = rows[r];
                z_start.wrapping_add((first + query) * z_stride + head * d_head + column)
            });
            // SAFETY: every node of the path has `d_kv` values at `kv.value`, every row of z has `d_head` for each query head,
            // and `column + n` is at most `d_head`.
            unsafe {
                let values = kv.data.as_ptr().add(kv.value + tile.kv_head * d_head + column);
                if n > S::LANES {
                    mix.run::<S, R, 2>(s, values, kv.stride, n - S::LANES, z);
                } else {
                    mix.run::<S, R, 1>(s, values, kv.stride, n, z);
                }
            }
        }
    }
}
