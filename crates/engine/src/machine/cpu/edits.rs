//! Applies edits: replaces a head's streams at a node.
//!
//! An edit of `z` overwrites it. Edits of what attention reads (`q`, `k`, `v`) and of its pattern recompute attention for
//! the edited head only, so that the other heads of its group are unchanged.

use std::ops::Range;

use cs_kernels::KeyValues;

use super::layer::Layer;
use super::plain::Streams;
use super::scratch::{Seen, with_scratch};
use crate::intervention::{Edit, Replacement, Stream};
use crate::machine::{Stage, row};
use cs_model::spec::ModelSpec;

/// All edits of one run at one head of one layer.
pub(super) struct EditSite<'a> {
    layer: Layer<'a>,
    stage: Stage<'a, Streams>,
    /// The plain run's streams in this layer; may be `None` if no edit reads them.
    plain: Option<&'a Streams>,
    /// The head, from 0.
    pub head: usize,
    edits: &'a [Edit],
    /// The head's `z` if attention is recomputed. `[rows of a run, d_head]`
    new_z: Option<Vec<f32>>,
}

/// A run's queries, keys and values in a layer before edits.
#[derive(Clone, Copy)]
pub(super) enum Unedited<'a> {
    /// The plain run's, at the nodes of the same prefixes.
    Plain(&'a Streams),
    /// `q` `[rows of the run, d_attn]`, `kv` `[n_nodes, 2 * d_kv]`
    Own { q: &'a [f32], kv: &'a [f32] },
}

impl<'a> EditSite<'a> {
    /// Groups a layer's edits, which are sorted by head, by head.
    pub fn of_layer(
        layer: Layer<'a>,
        stage: Stage<'a, Streams>,
        plain: Option<&'a Streams>,
        edits: &'a [Edit],
    ) -> Vec<Self> {
        let by_head = edits.chunk_by(|a, b| a.head == b.head);
        let site = |edits: &'a [Edit]| Self { layer, stage, plain, head: edits[0].head, edits, new_z: None };
        by_head.map(site).collect()
    }

    fn edit(&self, stream: Stream) -> Option<Replacement> {
        self.edits.iter().find(|e| e.stream == stream).map(|e| e.replacement)
    }

    fn spec(&self) -> &'a ModelSpec {
        self.layer.spec()
    }

    /// The head's columns in a matrix of all query heads.
    pub fn columns(&self) -> Range<usize> {
        let d_head = self.spec().d_head;
        self.head * d_head..(self.head + 1) * d_head
    }

    /// The columns of the head's key and value in a row with all key heads, then all value heads.
    fn kv_columns(&self) -> (Range<usize>, Range<usize>) {
        let (d_head, d_kv) = (self.spec().d_head, self.spec().d_kv());
        let key = self.head / self.spec().group_size() * d_head;
        (key..key + d_head, d_kv + key..d_kv + key + d_head)
    }

    fn plain(&self) -> &'a Streams {
        self.plain.expect("the plain run is kept if an edit reads it")
    }

    /// Writes the replacement of `stream` at a branch node to `out` `[d_head]`.
    fn value(&self, stream: Stream, replacement: Replacement, node: usize, out: &mut [f32]) {
        let (spec, chunk) = (self.spec(), self.stage.chunk);
        let (d_attn, d_kv) = (spec.d_attn(), spec.d_kv());
        match replacement {
            Replacement::Zero => out.fill(0.0),
            Replacement::ValueBias => {
                out.copy_from_slice(&self.layer.decoder.value_bias(self.layer.index)[self.columns()]);
            }
            Replacement::GroupMean => {
                let position = chunk.branch.positions()[node];
                let means = self.stage.means.expect("means are computed whenever a branch uses them");
                let mean = means.z(self.layer.index, chunk.group[node], position);
                out.copy_from_slice(&mean[self.columns()]);
            }
            Replacement::OthersMean => {
                let (group, position) = (chunk.group[node], chunk.branch.positions()[node]);
                let means = self.stage.means.expect("means are computed whenever a branch uses them");
                let mean = &means.z(self.layer.index, group, position)[self.columns()];
                let own = &row(&self.plain().z, chunk.own[node], d_attn)[self.columns()];
                // (W mean − z) / (W − 1) as a step from z, which is accurate if the two are close.
                let step = (1.0 / (means.weight(group) - 1.0)) as f32;
                for ((out, &mean), &z) in out.iter_mut().zip(mean).zip(own) {
                    *out = mean + step * (mean - z);
                }
            }
            Replacement::Source => {
                let (plain, source) = (self.plain(), chunk.source[node]);
                let (key, value) = self.kv_columns();
                let from = match stream {
                    Stream::Q => &row(&plain.q, source, d_attn)[self.columns()],
                    Stream::K => &row(&plain.kv, source, 2 * d_kv)[key],
                    Stream::V => &row(&plain.kv, source, 2 * d_kv)[value],
                    Stream::Z => &row(&plain.z, source, d_attn)[self.columns()],
                    Stream::Pattern => unreachable!("patterns have no width of d_head"),
                };
                out.copy_from_slice(from);
            }
        }
    }

    /// Writes the head's edited `z` at a row of the run to `out` `[d_head]`, if it is edited.
    pub fn replace_z(&self, row_of_run: usize, out: &mut [f32]) {
        if let Some(z) = &self.new_z {
            out.copy_from_slice(row(z, row_of_run as u32, out.len()));
        } else if let Some(replacement) = self.edit(Stream::Z) {
            self.value(Stream::Z, replacement, self.stage.rows.node(row_of_run), out);
        }
    }

    /// Recomputes the head's attention if `q`, `k`, `v` or `pattern` is edited and `z` is not.
    pub fn attend_again(&mut self, unedited: Unedited<'_>) {
        if self.edits.iter().all(|e| e.stream != Stream::Z) {
            self.new_z = Some(with_scratch(|scratch| self.new_z(unedited, &mut scratch.seen)));
        }
    }

    /// Whether its `z` comes from recomputed attention.
    pub fn is_attended_again(&self) -> bool {
        self.new_z.is_some()
    }

    /// The head's `z` with the edits of what attention reads. `[rows of a run, d_head]`
    fn new_z(&self, unedited: Unedited<'_>, seen: &mut Seen) -> Vec<f32> {
        let (rows, forest, d_head) = (self.stage.rows, &self.stage.chunk.branch, self.spec().d_head);
        let mut z = vec![0.0; rows.per_run() * d_head];
        let kv = self.edited_kv(unedited);
        if let Some(replacement) = self.edit(Stream::Pattern) {
            for (r, z) in z.chunks_exact_mut(d_head).enumerate() {
                self.pattern(replacement, rows.node(r), seen);
                for (&p, &ancestor) in seen.scores.iter().zip(&seen.path) {
                    cs_kernels::axpy(p, &row(&kv, ancestor, 2 * d_head)[d_head..], z);
                }
            }
        } else {
            let q = self.edited_q(unedited);
            self.layer.attend(forest, rows, 0..rows.per_run(), &q, (&kv, 1), &mut z, seen);
        }
        z
    }

    /// The head's keys and values at all nodes. `[n_nodes, 2 * d_head]`
    fn edited_kv(&self, unedited: Unedited<'_>) -> Vec<f32> {
        let (chunk, d_head, d_kv) = (self.stage.chunk, self.spec().d_head, self.spec().d_kv());
        let (key, value) = self.kv_columns();
        let mut kv = vec![0.0; chunk.branch.n_nodes() * 2 * d_head];
        for (node, kv) in kv.chunks_exact_mut(2 * d_head).enumerate() {
            let all_heads = match unedited {
                Unedited::Plain(streams) => row(&streams.kv, chunk.own[node], 2 * d_kv),
                Unedited::Own { kv, .. } => row(kv, node as u32, 2 * d_kv),
            };
            let (k, v) = kv.split_at_mut(d_head);
            for (stream, columns, out) in [(Stream::K, &key, k), (Stream::V, &value, v)] {
                match self.edit(stream) {
                    None => out.copy_from_slice(&all_heads[columns.clone()]),
                    Some(replacement) => self.value(stream, replacement, node, out),
                }
            }
        }
        kv
    }

    /// The head's queries at the needed rows. `[rows of a run, d_head]`
    fn edited_q(&self, unedited: Unedited<'_>) -> Vec<f32> {
        let (rows, d_head, d_attn) = (self.stage.rows, self.spec().d_head, self.spec().d_attn());
        let mut q = vec![0.0; rows.per_run() * d_head];
        for (r, q) in q.chunks_exact_mut(d_head).enumerate() {
            let node = rows.node(r);
            match (self.edit(Stream::Q), unedited) {
                (Some(replacement), _) => self.value(Stream::Q, replacement, node, q),
                (None, Unedited::Plain(streams)) => {
                    q.copy_from_slice(&row(&streams.q, self.stage.chunk.own[node], d_attn)[self.columns()]);
                }
                (None, Unedited::Own { q: all_heads, .. }) => {
                    q.copy_from_slice(&row(all_heads, r as u32, d_attn)[self.columns()]);
                }
            }
        }
        q
    }

    /// Writes to `seen` the branch's nodes that a query at `node` attends to, and the pattern that replaces the head's
    /// there.
    fn pattern(&self, replacement: Replacement, node: usize, seen: &mut Seen) {
        let (spec, chunk) = (self.spec(), self.stage.chunk);
        let (d_kv, window) = (spec.d_kv(), spec.windows[self.layer.index]);
        let Seen { path, scores, .. } = seen;
        scores.clear();
        if replacement == Replacement::Source {
            let (plain, source) = (self.plain(), chunk.source[node]);
            chunk.base.path_into(source, window, path);
            scores.resize(path.len(), 0.0);
            let q = &row(&plain.q, source, spec.d_attn())[self.columns()];
            let (key, value) = self.kv_columns();
            let mut z = vec![0.0; spec.d_head];
            let kv = KeyValues { data: &plain.kv, stride: 2 * d_kv, key: key.start, value: value.start };
            cs_kernels::attention_row(q, kv, path, self.layer.score_rule(), scores, &mut z);
        }
        chunk.branch.path_into(node as u32, window, path);
        scores.resize(path.len(), 0.0);
    }
}
