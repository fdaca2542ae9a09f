//! Means of `z` over groups of prompts, position by position, for mean ablation.

use std::collections::{BTreeMap, BTreeSet};

use crate::decoder::Decoder;
use crate::error::EngineError;
use crate::intervention::{Branch, Replacement};
use crate::machine::{Machine, row};
use crate::plan::Chunk;
use crate::request::{Options, Prompt};

/// The mean of every head's `z` at each position of each group, for the layers that need it.
pub(crate) struct GroupMeans {
    d_attn: usize,
    first_row: BTreeMap<u32, u32>,     // group -> row of its position 0
    layers: BTreeMap<usize, Vec<f32>>, // layer -> [rows, d_attn]
}

impl GroupMeans {
    /// Mean `z` of a layer at one position of one group, `[d_attn]`.
    pub fn z(&self, layer: usize, group: u32, position: u32) -> &[f32] {
        row(&self.layers[&layer], self.first_row[&group] + position, self.d_attn)
    }

    /// Runs all prompts plainly and averages, where some branch needs it. Sums are taken in float64 in the prompts'
    /// sorted order, whatever the chunks.
    pub fn compute<M: Machine>(
        machine: &mut M,
        decoder: &Decoder,
        prompts: &[Prompt],
        branches: &[Branch],
        chunks: &[Chunk],
        options: Options,
    ) -> Result<Option<Self>, EngineError> {
        let edits = branches.iter().flat_map(Branch::edits);
        let needed: BTreeSet<usize> =
            edits.filter(|e| e.replacement == Replacement::GroupMean).map(|e| e.layer).collect();
        let Some(&last) = needed.last() else { return Ok(None) };
        let d_attn = decoder.spec().d_attn();

        let mut lengths: BTreeMap<u32, (u32, f64)> = BTreeMap::new(); // group -> length, weight
        for prompt in prompts {
            let entry = lengths.entry(prompt.group).or_insert((prompt.tokens.len() as u32, 0.0));
            entry.1 += prompt.weight;
        }
        let mut n_rows = 0;
        let mut first_row = BTreeMap::new();
        for (&group, &(len, _)) in &lengths {
            first_row.insert(group, n_rows);
            n_rows += len;
        }
        // While summing, one float64 table per layer; `compute` ends with one float32 table per layer.
        let need = n_rows as usize * d_attn * needed.len() * (8 + 4);
        if need > options.memory {
            return Err(EngineError::Memory { need, memory: options.memory });
        }
        let mut sums: BTreeMap<usize, Vec<f64>> =
            needed.iter().map(|&l| (l, vec![0.0; n_rows as usize * d_attn])).collect();
        for chunk in chunks {
            let mut plain = machine.embed(&chunk.base);
            for layer in 0..=last {
                machine.plain_layer(layer, &chunk.base, &mut plain);
                let Some(sums) = sums.get_mut(&layer) else { continue };
                let all_z = machine.plain_z(&plain);
                for (i, &prompt) in chunk.prompts.iter().enumerate() {
                    let (first, weight) = (first_row[&prompts[prompt].group], prompts[prompt].weight);
                    for (position, node) in chunk.base.path(chunk.base.end(i)).into_iter().enumerate() {
                        let at = (first as usize + position) * d_attn;
                        for (sum, &z) in sums[at..at + d_attn].iter_mut().zip(row(&all_z, node, d_attn)) {
                            *sum += weight * f64::from(z);
                        }
                    }
                }
            }
        }
        let mut layers = BTreeMap::new();
        for (layer, mut sums) in sums {
            for (group, &(len, weight)) in &lengths {
                let at = first_row[group] as usize * d_attn;
                sums[at..at + len as usize * d_attn].iter_mut().for_each(|s| *s /= weight);
            }
            layers.insert(layer, sums.into_iter().map(|s| s as f32).collect());
        }
        Ok(Some(Self { d_attn, first_row, layers }))
    }
}
