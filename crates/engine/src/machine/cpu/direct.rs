//! Direct logit attribution of one layer's heads.

use cs_kernels::{Init, MatMut, MatRef, matmul};
use rayon::prelude::*;

use super::Layer;
use crate::block::Join;
use crate::direct::{before_norm, directions, norm_scale};
use crate::machine::row;

/// Nodes per unit of parallel work: `W_O` is read once for all of them.
const NODES_AT_ONCE: usize = 32;

/// See [`Machine::attributions`](crate::machine::Machine::attributions); `z` `[n_nodes, d_attn]`.
pub(super) fn attributions(layer: Layer<'_>, z: &[f32], nodes: &[u32], read: &[&[u32]]) -> Vec<Vec<f64>> {
    let tiles = nodes.par_chunks(NODES_AT_ONCE).zip(read.par_chunks(NODES_AT_ONCE));
    let of_tiles: Vec<Vec<Vec<f64>>> = tiles.map(|(nodes, read)| of_tile(layer, z, nodes, read)).collect();
    let of_head = |head: usize| of_tiles.iter().flat_map(|tile| &tile[head]).copied().collect();
    (0..layer.spec().n_heads).map(of_head).collect()
}

fn of_tile(layer: Layer<'_>, z: &[f32], nodes: &[u32], read: &[&[u32]]) -> Vec<Vec<f64>> {
    let (spec, w_o) = (layer.spec(), &layer.weights().w_o);
    let (n, d_model, d_attn, d_head) = (nodes.len(), spec.d_model, spec.d_attn(), spec.d_head);
    let mut directions = directions(layer.decoder, read);
    let z = |i: usize| row(z, nodes[i], d_attn);
    let mut out = vec![0.0; n * d_model];
    if let Join::AddNormed(norm) = layer.steps().attn_out {
        let z: Vec<f32> = (0..n).flat_map(z).copied().collect();
        let init = w_o.bias.as_deref().map_or(Init::Zero, Init::Bias);
        let w_o = w_o.weight.block(0..d_attn, 0..d_model);
        matmul(MatRef::new(&z, n, d_attn), w_o, MatMut::new(&mut out, n, d_model), init);
        for (i, direction) in &mut directions {
            before_norm(spec.norm_kind, norm.weight.as_deref(), direction);
            let scale = norm_scale(spec, row(&out, *i as u32, d_model));
            direction.iter_mut().for_each(|x| *x *= scale);
        }
    }
    let constant = layer.decoder.value_bias(layer.index);
    let of_head = |head: usize| {
        let columns = head * d_head..(head + 1) * d_head;
        let own = |i| z(i)[columns.clone()].iter().zip(&constant[columns.clone()]).map(|(z, c)| z - c);
        let own: Vec<f32> = (0..n).flat_map(own).collect();
        let w_o = w_o.weight.block(columns.clone(), 0..d_model);
        matmul(MatRef::new(&own, n, d_head), w_o, MatMut::new(&mut out, n, d_model), Init::Zero);
        let along = |(i, direction): &(usize, Vec<f64>)| {
            row(&out, *i as u32, d_model).iter().zip(direction).map(|(&o, d)| f64::from(o) * d).sum()
        };
        directions.iter().map(along).collect()
    };
    (0..spec.n_heads).map(of_head).collect()
}
