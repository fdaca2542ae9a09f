//! Means of `z` over the references of groups of prompts, position by position, for mean ablation.

use std::collections::{BTreeMap, BTreeSet};

use crate::decoder::Decoder;
use crate::error::EngineError;
use crate::intervention::{Branch, Edit, Replacement};
use crate::machine::{Limits, Machine, row};
use crate::plan::{self, Chunk};
use crate::request::{Options, Prompt};

/// The mean of every head's `z` at each position of each group, for the layers that need it.
pub(crate) struct GroupMeans {
    d_attn: usize,
    groups: BTreeMap<u32, Group>,
    layers: BTreeMap<usize, Vec<f32>>, // layer -> [rows, d_attn]
}

/// One group's rows in every layer's table.
#[derive(Default)]
struct Group {
    /// Row of its position 0.
    first_row: u32,
    /// Positions.
    len: u32,
    /// Number of draws in its mean.
    weight: f64,
}

impl GroupMeans {
    /// Mean `z` of a layer at one position of one group, `[d_attn]`.
    pub fn z(&self, layer: usize, group: u32, position: u32) -> &[f32] {
        row(self.table(layer), self.row(group, position), self.d_attn)
    }

    /// Mean `z` of a layer at every position of every group. `[rows, d_attn]`
    pub fn table(&self, layer: usize) -> &[f32] {
        &self.layers[&layer]
    }

    /// The row of one position of one group in the tables.
    pub fn row(&self, group: u32, position: u32) -> u32 {
        self.groups[&group].first_row + position
    }

    /// Number of draws in a group's mean.
    pub fn weight(&self, group: u32) -> f64 {
        self.groups[&group].weight
    }

    /// Runs all references plainly and averages, if some branch needs it. Sums are in float64, in the references' sorted
    /// order, independent of the chunks.
    pub fn compute<M: Machine>(
        machine: &mut M,
        decoder: &Decoder,
        prompts: &[Prompt],
        branches: &[Branch],
        options: Options,
    ) -> Result<Option<Self>, EngineError> {
        let needed = layers_read(branches);
        let Some(&last) = needed.last() else { return Ok(None) };
        let d_attn = decoder.spec().d_attn();

        let references = references(prompts);
        let mut groups: BTreeMap<u32, Group> = BTreeMap::new();
        for reference in &references {
            let group = groups.entry(reference.group).or_default();
            group.len = reference.tokens.len() as u32;
            group.weight += reference.weight;
        }
        let mut n_rows = 0;
        for group in groups.values_mut() {
            group.first_row = n_rows;
            n_rows += group.len;
        }
        // While summing, one float64 table per layer; `compute` ends with one float32 table per layer.
        let need = n_rows as usize * d_attn * needed.len() * (8 + 4);
        if need > options.memory {
            return Err(EngineError::Memory { need, memory: options.memory });
        }
        let mut sums: BTreeMap<usize, Vec<f64>> =
            needed.iter().map(|&l| (l, vec![0.0; n_rows as usize * d_attn])).collect();
        let limits = machine.limits(&[], plan::longest(&references));
        for chunk in plan::chunks(&references, &[], limits, options)? {
            let mut plain = machine.embed(&chunk.base);
            for layer in 0..=last {
                machine.plain_layer(layer, &chunk.base, &mut plain);
                let Some(sums) = sums.get_mut(&layer) else { continue };
                let all_z = machine.plain_z(&plain);
                for (i, &reference) in chunk.prompts.iter().enumerate() {
                    let Prompt { group, weight, .. } = references[reference];
                    let first = groups[&group].first_row as usize;
                    for (position, node) in chunk.base.path(chunk.base.end(i)).into_iter().enumerate() {
                        let at = (first + position) * d_attn;
                        for (sum, &z) in sums[at..at + d_attn].iter_mut().zip(row(&all_z, node, d_attn)) {
                            *sum += weight * f64::from(z);
                        }
                    }
                }
            }
        }
        let mut layers = BTreeMap::new();
        for (layer, mut sums) in sums {
            for group in groups.values() {
                let at = group.first_row as usize * d_attn;
                sums[at..at + group.len as usize * d_attn].iter_mut().for_each(|s| *s /= group.weight);
            }
            layers.insert(layer, sums.into_iter().map(|s| s as f32).collect());
        }
        Ok(Some(Self { d_attn, groups, layers }))
    }
}

/// The layers at which branches read means.
fn layers_read(branches: &[Branch]) -> BTreeSet<usize> {
    let edits = branches.iter().flat_map(Branch::edits);
    let reads = |e: &&Edit| matches!(e.replacement, Replacement::GroupMean | Replacement::OthersMean);
    edits.filter(reads).map(|e| e.layer).collect()
}

/// The references of all prompts, as separate prompts.
fn references(prompts: &[Prompt]) -> Vec<Prompt> {
    let of_prompt = |prompt: &Prompt| {
        let (group, weight) = (prompt.group, prompt.weight);
        let alone = |tokens: &Vec<u32>| Prompt { tokens: tokens.clone(), group, weight, ..Prompt::default() };
        prompt.references().iter().map(alone).collect::<Vec<_>>()
    };
    prompts.iter().flat_map(of_prompt).collect()
}

/// What [`GroupMeans::compute`] runs: the chunks of the references, and the number of layers. `limits` gives the machine's
/// limits for prompts of at most that many tokens, without branches.
pub(crate) fn work(
    prompts: &[Prompt],
    branches: &[Branch],
    limits: impl FnOnce(usize) -> Limits,
    options: Options,
) -> Result<(Vec<Chunk>, usize), EngineError> {
    let Some(&last) = layers_read(branches).last() else { return Ok((vec![], 0)) };
    let references = references(prompts);
    let limits = limits(plan::longest(&references));
    Ok((plan::chunks(&references, &[], limits, options)?, last + 1))
}
