//! Direct logit attribution of one layer's heads.

use cs_model::spec::NormKind;

use super::Delta;
use super::ops::Ops;
use super::plain::Plain;
use super::weights::ModelOn;
use crate::block::Join;
use crate::direct::{before_norm, directions, norm_scale};
use crate::machine::row;

/// Nodes processed on the device at a time.
const NODES_AT_ONCE: usize = 128;

impl<O: Ops> Delta<'_, O> {
    /// See [`Machine::attributions`](crate::machine::Machine::attributions). Every head's output is a separate product with all of
    /// `W_O`, with the other heads' `z` set to zero.
    pub(super) fn attributions_of(
        &mut self,
        index: usize,
        plain: &Plain<O>,
        nodes: &[u32],
        read: &[&[u32]],
    ) -> Vec<Vec<f64>> {
        let mut found = vec![vec![]; self.spec().n_heads];
        for (nodes, read) in nodes.chunks(NODES_AT_ONCE).zip(read.chunks(NODES_AT_ONCE)) {
            let of_tile = self.attributions_of_tile(index, plain, nodes, read);
            found.iter_mut().zip(of_tile).for_each(|(found, of_tile)| found.extend(of_tile));
        }
        found
    }

    fn attributions_of_tile(
        &mut self,
        index: usize,
        plain: &Plain<O>,
        nodes: &[u32],
        read: &[&[u32]],
    ) -> Vec<Vec<f64>> {
        let (decoder, spec) = (self.decoder, self.spec());
        let (n, n_heads, d_model, d_attn, d_head) =
            (nodes.len(), spec.n_heads, spec.d_model, spec.d_attn(), spec.d_head);
        let ModelOn { ops, parameters } = &mut *self.model;
        let layer = parameters.layer(index);
        let last = plain.last.as_ref().expect("a layer has been computed");
        let mut directions = directions(decoder, read);
        let nodes = ops.upload_ints(nodes);
        let z = ops.gather(&last.heads.z, d_attn, n, Some(&nodes));
        if let Join::AddNormed(norm) = layer.steps(spec).attn_out {
            let mut out = ops.floats(n * d_model, false);
            let bias = layer.w_o.bias;
            ops.plain_product(n, &z, layer.w_o.weight, 0..d_model, bias, false, &mut out);
            let out = ops.download(&out);
            // Gains on the device are factors, however the checkpoint stores them.
            let kind = if norm.centred { NormKind::Layer } else { NormKind::Rms };
            let gain = norm.gain.as_ref().map(|gain| ops.download(gain));
            for (i, direction) in &mut directions {
                before_norm(kind, gain.as_deref(), direction);
                let scale = norm_scale(spec, row(&out, *i as u32, d_model));
                direction.iter_mut().for_each(|x| *x *= scale);
            }
        }
        let (z, constant) = (ops.download(&z), decoder.value_bias(index));
        let mut own = vec![0.0; n_heads * n * d_attn];
        for (r, own) in own.chunks_exact_mut(d_attn).enumerate() {
            let (head, z) = (r / n, row(&z, (r % n) as u32, d_attn));
            for i in head * d_head..(head + 1) * d_head {
                own[i] = z[i] - constant[i];
            }
        }
        let own = ops.upload(&own);
        let mut out = ops.floats(n_heads * n * d_model, false);
        ops.plain_product(n_heads * n, &own, layer.w_o.weight, 0..d_model, None, false, &mut out);
        let table: Vec<f32> = directions.iter().flat_map(|(_, d)| d).map(|&x| x as f32).collect();
        let table = ops.upload(&table);
        let pairs: Vec<(u32, u32)> = (0..).zip(&directions).map(|(at, (i, _))| (*i as u32, at)).collect();
        let along = ops.dots((n_heads, n, d_model), &out, &table, &pairs);
        along.chunks(pairs.len().max(1)).map(<[f64]>::to_vec).collect()
    }
}
