//! Attention in plain loops.

use rayon::prelude::*;

use super::Host;
use super::halves::{Split, cut};
use crate::forest::Forest;
use crate::machine::Rows;
use crate::machine::delta::ops::{DeltaHeads, Ops, PlainHeads, Put, PutZ, Recompute, Scores, Values, Z};

/// Queries at some rows of a run, and the nodes that each attends to.
pub(crate) struct Tree {
    n_nodes: usize,
    /// The nodes that each query attends to, its own last. `[queries]`
    paths: Vec<Vec<u32>>,
    /// The plain run's row of each node. `[n_nodes]`
    own: Vec<u32>,
}

impl Tree {
    pub fn new(forest: &Forest, queries: Rows<'_>, window: Option<usize>, own: &[u32]) -> Self {
        let path = |query: usize| {
            let mut path = Vec::new();
            forest.path_into(queries.node(query) as u32, window, &mut path);
            path
        };
        let paths = (0..queries.per_run()).map(path).collect();
        Self { n_nodes: forest.n_nodes(), paths, own: own.to_vec() }
    }

    pub fn queries(&self) -> usize {
        self.paths.len()
    }

    /// The node of a query.
    fn node(&self, query: usize) -> u32 {
        *self.paths[query].last().expect("a query attends to its own node")
    }

    /// The plain run's row of a query.
    fn plain_row(&self, query: usize) -> usize {
        self.own[self.node(query) as usize] as usize
    }
}

/// `z = softmax(scores) values` of one query; `keys` and `values` `[seen, d_head]`.
fn attend_one(scores: Scores, q: &[f32], keys: &[f32], values: &[f32], z: &mut [f32]) {
    let score = |key: &[f32]| {
        let product: f32 = q.iter().zip(key).map(|(q, k)| q * k).sum();
        let score = scores.scale * product;
        scores.softcap.map_or(score, |c| c * (score / c).tanh())
    };
    let mut weights: Vec<f32> = keys.chunks_exact(q.len()).map(score).collect();
    let top = weights.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    weights.iter_mut().for_each(|w| *w = (*w - top).exp());
    let total: f32 = weights.iter().sum();
    z.fill(0.0);
    for (weight, value) in weights.iter().zip(values.chunks_exact(q.len())) {
        z.iter_mut().zip(value).for_each(|(z, v)| *z += weight / total * v);
    }
}

/// One run's queries, keys and values: the plain run's, and their differences.
#[derive(Clone, Copy)]
struct Heads<'a> {
    scores: Scores,
    tree: &'a Tree,
    plain: (&'a [f32], &'a [f32]),
    delta: Option<(&'a [f32], &'a [f32])>,
}

impl<'a> Heads<'a> {
    fn new(
        scores: Scores,
        tree: &'a Tree,
        plain: &'a PlainHeads<Host>,
        delta: Option<&'a DeltaHeads<Host>>,
    ) -> Self {
        let plain = (&plain.q[..], &plain.kv[..]);
        Self { scores, tree, plain, delta: delta.map(|delta| (&delta.q[..], &delta.kv[..])) }
    }

    fn d_attn(&self) -> usize {
        self.scores.n_heads * self.scores.d_head
    }

    fn d_kv(&self) -> usize {
        self.scores.n_kv_heads * self.scores.d_head
    }

    /// `x + δ` of `d_head` columns.
    fn sum(&self, (x, at): (&[f32], usize), delta: Option<(&[f32], usize)>) -> Vec<f32> {
        let x = &x[at..at + self.scores.d_head];
        match delta {
            None => x.to_vec(),
            Some((delta, at)) => x.iter().zip(&delta[at..]).map(|(x, d)| x + d).collect(),
        }
    }

    fn q(&self, run: usize, query: usize, head: usize) -> Vec<f32> {
        let (column, row) = (head * self.scores.d_head, run * self.tree.queries() + query);
        let delta = self.delta.map(|(q, _)| (q, row * self.d_attn() + column));
        self.sum((self.plain.0, self.tree.plain_row(query) * self.d_attn() + column), delta)
    }

    /// A head's key, or with `part` 1 its value.
    fn kv(&self, run: usize, node: u32, kv_head: usize, part: usize) -> Vec<f32> {
        let (d_kv, column) = (self.d_kv(), part * self.d_kv() + kv_head * self.scores.d_head);
        let row = run * self.tree.n_nodes + node as usize;
        let delta = self.delta.map(|(_, kv)| (kv, row * 2 * d_kv + column));
        self.sum((self.plain.1, self.tree.own[node as usize] as usize * 2 * d_kv + column), delta)
    }

    fn kv_head(&self, head: usize) -> usize {
        head / (self.scores.n_heads / self.scores.n_kv_heads)
    }

    /// All heads' `z` of all queries of `n_runs` runs. `[n_runs * queries, d_attn]`
    fn attend(&self, n_runs: usize) -> Vec<f32> {
        let mut z = vec![0.0; n_runs * self.tree.queries() * self.d_attn()];
        z.par_chunks_exact_mut(self.d_attn()).enumerate().for_each(|(row, z)| {
            let (run, query) = (row / self.tree.queries(), row % self.tree.queries());
            for (head, z) in z.chunks_exact_mut(self.scores.d_head).enumerate() {
                let seen = |part| -> Vec<f32> {
                    let kv = |&node: &u32| self.kv(run, node, self.kv_head(head), part);
                    self.tree.paths[query].iter().flat_map(kv).collect()
                };
                attend_one(self.scores, &self.q(run, query, head), &seen(0), &seen(1), z);
            }
        });
        z
    }

    /// One head's `z` at a query, with other queries, keys or values.
    fn attend_again(&self, site: &Recompute, query: usize, values: &Values<'_, Host>) -> Vec<f32> {
        let (run, head, d_head) = (site.run as usize, site.head as usize, self.scores.d_head);
        let column = self.kv_head(head) * d_head;
        let from = |put: Put, node: u32, part: usize| -> Vec<f32> {
            let source = || values.source[node as usize] as usize;
            match put {
                Put::Own => self.kv(run, node, self.kv_head(head), part),
                Put::Zero => vec![0.0; d_head],
                Put::Bias => values.bias[head * d_head..][..d_head].to_vec(),
                Put::Source => {
                    let at = source() * 2 * self.d_kv() + part * self.d_kv() + column;
                    self.plain.1[at..at + d_head].to_vec()
                }
                Put::Mean | Put::Others => unreachable!("means are only of z"),
            }
        };
        let q = match site.q {
            Put::Own => self.q(run, query, head),
            Put::Zero => vec![0.0; d_head],
            Put::Source => {
                let at =
                    values.source[self.tree.node(query) as usize] as usize * self.d_attn() + head * d_head;
                self.plain.0[at..at + d_head].to_vec()
            }
            Put::Bias | Put::Mean | Put::Others => unreachable!("queries have no value bias"),
        };
        let seen = |put, part| -> Vec<f32> {
            self.tree.paths[query].iter().flat_map(|&node| from(put, node, part)).collect()
        };
        let mut z = vec![0.0; d_head];
        attend_one(self.scores, &q, &seen(site.k, 0), &seen(site.v, 1), &mut z);
        z
    }
}

impl Host {
    pub(super) fn attend_plain(&self, tree: &Tree, scores: Scores, q: &[f32], kv: &[f32]) -> Vec<f32> {
        Heads { scores, tree, plain: (q, kv), delta: None }.attend(1)
    }

    pub(super) fn attend_stack(
        &self,
        n_runs: usize,
        tree: &Tree,
        scores: Scores,
        plain: &PlainHeads<Self>,
        delta: &DeltaHeads<Self>,
        out: &mut Z<Self>,
    ) {
        let z = Heads::new(scores, tree, plain, Some(delta)).attend(n_runs);
        let d_attn = scores.n_heads * scores.d_head;
        match out {
            Z::Full(full) => full.copy_from_slice(&z),
            Z::Delta(Split { hi, lo, .. }) => {
                let rows = hi.par_chunks_exact_mut(d_attn).zip(lo.par_chunks_exact_mut(d_attn));
                rows.zip(z.par_chunks_exact(d_attn)).enumerate().for_each(|(row, ((hi, lo), z))| {
                    let plain = &plain.z[tree.plain_row(row % tree.queries()) * d_attn..];
                    for (i, (hi, lo)) in hi.iter_mut().zip(lo).enumerate() {
                        (*hi, *lo) = cut(self.parts(), z[i] - plain[i], &self.overflow);
                    }
                });
            }
        }
    }

    pub(super) fn attend_sites(
        &self,
        tree: &Tree,
        scores: Scores,
        sites: &[Recompute],
        values: &Values<'_, Self>,
        delta: Option<&DeltaHeads<Self>>,
        out: &mut Z<Self>,
    ) {
        let heads = Heads::new(scores, tree, values.plain, delta);
        for site in sites {
            for query in 0..tree.queries() {
                let z = heads.attend_again(site, query, values);
                self.store(tree, (site.run, site.head, query), values, &z, out);
            }
        }
    }

    pub(super) fn put_values(
        &self,
        tree: &Tree,
        d_head: usize,
        sites: &[PutZ],
        values: &Values<'_, Self>,
        out: &mut Z<Self>,
    ) {
        let d_attn = values.bias.len();
        for site in sites {
            let column = site.head as usize * d_head;
            let of = |rows: &[f32], row: u32| rows[row as usize * d_attn + column..][..d_head].to_vec();
            for query in 0..tree.queries() {
                let node = tree.node(query) as usize;
                let means = || values.means.as_ref().expect("means are computed if an edit reads them");
                let mean = || of(means().z, means().row[node]);
                let value = match site.by {
                    Put::Own => unreachable!("nothing to replace"),
                    Put::Zero => vec![0.0; d_head],
                    Put::Bias => of(values.bias, 0),
                    Put::Source => of(&values.plain.z, values.source[node]),
                    Put::Mean => mean(),
                    Put::Others => {
                        let (own, step) = (of(&values.plain.z, tree.own[node]), means().step[node]);
                        mean().iter().zip(own).map(|(mean, z)| mean + step * (mean - z)).collect()
                    }
                };
                self.store(tree, (site.run, site.head, query), values, &value, out);
            }
        }
    }

    /// Writes one head's `z` at one query of one run.
    fn store(
        &self,
        tree: &Tree,
        (run, head, query): (u32, u32, usize),
        values: &Values<'_, Self>,
        z: &[f32],
        out: &mut Z<Self>,
    ) {
        let (d_attn, column) = (values.bias.len(), head as usize * z.len());
        let at = (run as usize * tree.queries() + query) * d_attn + column;
        match out {
            Z::Full(full) => full[at..at + z.len()].copy_from_slice(z),
            Z::Delta(split) => {
                let plain = &values.plain.z[tree.plain_row(query) * d_attn + column..];
                let delta: Vec<f32> = z.iter().zip(plain).map(|(z, plain)| z - plain).collect();
                split.write(self.parts(), at, &delta, &self.overflow);
            }
        }
    }
}
