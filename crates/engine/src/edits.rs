//! Carrying out edits: what replaces a head's streams at a node.

use cs_kernels::KeyValues;

use crate::baseline::Streams;
use crate::branches::row;
use crate::intervention::{Edit, Replacement, Stream};
use crate::layer::{Layer, Rows, Seen, with_scratch};
use crate::means::GroupMeans;
use crate::plan::Chunk;

/// All edits of one branch at one head of one layer.
pub(crate) struct EditSite<'a> {
    layer: Layer<'a>,
    chunk: &'a Chunk,
    means: Option<&'a GroupMeans>,
    /// The head, from 0.
    pub head: usize,
    edits: &'a [Edit],
}

impl<'a> EditSite<'a> {
    /// Groups a layer's edits, which are in order of head, by head.
    pub fn of_layer(
        layer: Layer<'a>,
        chunk: &'a Chunk,
        means: Option<&'a GroupMeans>,
        edits: &'a [Edit],
    ) -> Vec<Self> {
        let by_head = edits.chunk_by(|a, b| a.head == b.head);
        by_head.map(|edits| Self { layer, chunk, means, head: edits[0].head, edits }).collect()
    }

    fn edit(&self, stream: Stream) -> Option<Replacement> {
        self.edits.iter().find(|e| e.stream == stream).map(|e| e.replacement)
    }

    /// The head's columns in a matrix of all heads side by side.
    fn columns(&self) -> std::ops::Range<usize> {
        let d_head = self.layer.spec().d_head;
        self.head * d_head..(self.head + 1) * d_head
    }

    /// Writes what replaces `stream` at a branch node into `out` `[d_head]`. `base` are the plain run's streams in
    /// this layer; they may be missing where nothing is read from a source.
    fn value(
        &self,
        stream: Stream,
        replacement: Replacement,
        base: Option<&Streams>,
        node: usize,
        out: &mut [f32],
    ) {
        let spec = self.layer.spec();
        let (d_attn, columns) = (spec.d_attn(), self.columns());
        match replacement {
            Replacement::Zero => out.fill(0.0),
            Replacement::ValueBias => {
                out.copy_from_slice(&self.layer.decoder.value_bias(self.layer.index)[columns]);
            }
            Replacement::GroupMean => {
                let position = self.chunk.branch.positions()[node];
                let means = self.means.expect("means are computed whenever a branch uses them");
                out.copy_from_slice(&means.z(self.layer.index, self.chunk.group[node], position)[columns]);
            }
            Replacement::Source => {
                let base = base.expect("the plain run is kept wherever an edit reads it");
                let source = self.chunk.source[node];
                let from = match stream {
                    Stream::Q => &row(&base.q, source, d_attn)[columns],
                    Stream::K => &row(&base.kv, source, 2 * d_attn)[..d_attn][columns],
                    Stream::V => &row(&base.kv, source, 2 * d_attn)[d_attn..][columns],
                    Stream::Z => &row(&base.z, source, d_attn)[columns],
                    Stream::Pattern => unreachable!("patterns have no width of d_head"),
                };
                out.copy_from_slice(from);
            }
        }
    }

    /// The head's edited `z` at a node, where `z` itself is edited.
    pub fn replace_z(&self, base: &Streams, node: usize, out: &mut [f32]) {
        if let Some(replacement) = self.edit(Stream::Z) {
            self.value(Stream::Z, replacement, Some(base), node, out);
        }
    }

    /// Carries out edits of `q`, `k` and `v` on one run's rows: `q` `[rows of the run, d_attn]`, `kv`
    /// `[n_nodes, 2 * d_attn]`.
    pub fn replace_inputs(&self, base: Option<&Streams>, rows: Rows<'_>, q: &mut [f32], kv: &mut [f32]) {
        let (d_attn, columns) = (self.layer.spec().d_attn(), self.columns());
        if let Some(replacement) = self.edit(Stream::Q) {
            for (r, q) in q.chunks_exact_mut(d_attn).enumerate() {
                self.value(Stream::Q, replacement, base, rows.locate(r).1, &mut q[columns.clone()]);
            }
        }
        for (stream, half) in [(Stream::K, 0..d_attn), (Stream::V, d_attn..2 * d_attn)] {
            let Some(replacement) = self.edit(stream) else { continue };
            for (node, kv) in kv.chunks_exact_mut(2 * d_attn).enumerate() {
                self.value(stream, replacement, base, node, &mut kv[half.clone()][columns.clone()]);
            }
        }
    }

    /// Carries out edits of `pattern` and `z` at one node: `kv` `[n_nodes, 2 * d_attn]` are the run's, `z` `[d_attn]`
    /// the node's.
    pub fn replace_outputs(
        &self,
        base: Option<&Streams>,
        node: usize,
        kv: &[f32],
        z: &mut [f32],
        seen: &mut Seen,
    ) {
        let (d_attn, columns) = (self.layer.spec().d_attn(), self.columns());
        let z = &mut z[columns.clone()];
        if let Some(replacement) = self.edit(Stream::Z) {
            self.value(Stream::Z, replacement, base, node, z);
        } else if let Some(replacement) = self.edit(Stream::Pattern) {
            self.pattern(replacement, base, node, seen);
            z.fill(0.0);
            for (&p, &ancestor) in seen.scores.iter().zip(&seen.path) {
                cs_kernels::axpy(p, &row(kv, ancestor, 2 * d_attn)[d_attn..][columns.clone()], z);
            }
        }
    }

    /// Leaves in `seen` the branch's nodes that a query at `node` sees, and the pattern that replaces the head's there.
    fn pattern(&self, replacement: Replacement, base: Option<&Streams>, node: usize, seen: &mut Seen) {
        let spec = self.layer.spec();
        let (d_attn, d_head, window) = (spec.d_attn(), spec.d_head, spec.windows[self.layer.index]);
        let Seen { path, scores, .. } = seen;
        scores.clear();
        if replacement == Replacement::Source {
            let base = base.expect("the plain run is kept wherever an edit reads it");
            let source = self.chunk.source[node];
            self.chunk.base.path_into(source, window, path);
            scores.resize(path.len(), 0.0);
            let q = &row(&base.q, source, d_attn)[self.columns()];
            let (k_at, scale) = (self.head * d_head, spec.attn_scale[self.layer.index]);
            let mut z = vec![0.0; d_head];
            let kv = KeyValues { data: &base.kv, stride: 2 * d_attn, key: k_at, value: d_attn + k_at };
            cs_kernels::attention_row(q, kv, path, scale, scores, &mut z);
        }
        self.chunk.branch.path_into(node as u32, window, path);
        scores.resize(path.len(), 0.0);
    }

    /// The head's `z` in its first edited layer, `[rows of a run, d_head]`, where `q`, `k`, `v` or `pattern` is edited
    /// and `z` is not: attention over again, from the plain run's streams with the edits in their place.
    pub fn attend_again(&self, base: &Streams, rows: Rows<'_>) -> Option<Vec<f32>> {
        if self.edit(Stream::Z).is_some() {
            return None;
        }
        let spec = self.layer.spec();
        let (d_attn, d_head, columns) = (spec.d_attn(), spec.d_head, self.columns());
        let forest = &self.chunk.branch;

        let mut kv = vec![0.0; forest.n_nodes() * 2 * d_head]; // this head's keys and values, [n_nodes, 2 * d_head]
        for (node, kv) in kv.chunks_exact_mut(2 * d_head).enumerate() {
            let own = row(&base.kv, self.chunk.own[node], 2 * d_attn);
            for (stream, half, out) in
                [(Stream::K, &own[..d_attn], 0..d_head), (Stream::V, &own[d_attn..], d_head..2 * d_head)]
            {
                match self.edit(stream) {
                    None => kv[out].copy_from_slice(&half[columns.clone()]),
                    Some(replacement) => self.value(stream, replacement, Some(base), node, &mut kv[out]),
                }
            }
        }
        let mut new_z = vec![0.0; rows.per_run() * d_head];
        with_scratch(|scratch| {
            let seen = scratch.split().3;
            if let Some(replacement) = self.edit(Stream::Pattern) {
                for (r, z) in new_z.chunks_exact_mut(d_head).enumerate() {
                    self.pattern(replacement, Some(base), rows.locate(r).1, seen);
                    for (&p, &ancestor) in seen.scores.iter().zip(&seen.path) {
                        cs_kernels::axpy(p, &row(&kv, ancestor, 2 * d_head)[d_head..], z);
                    }
                }
                return;
            }
            let mut q = vec![0.0; new_z.len()]; // [rows of a run, d_head]
            for (r, q) in q.chunks_exact_mut(d_head).enumerate() {
                let node = rows.locate(r).1;
                match self.edit(Stream::Q) {
                    None => {
                        q.copy_from_slice(&row(&base.q, self.chunk.own[node], d_attn)[columns.clone()]);
                    }
                    Some(replacement) => self.value(Stream::Q, replacement, Some(base), node, q),
                }
            }
            self.layer.attend(forest, rows, 0..rows.per_run(), (&q, &kv), &mut new_z, seen);
        });
        Some(new_z)
    }
}
