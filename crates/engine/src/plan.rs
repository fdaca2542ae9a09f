//! Splits prompts into chunks that fit the memory bound, and builds each chunk's forests.

use std::collections::HashMap;

use crate::error::EngineError;
use crate::forest::{Forest, ForestError};
use crate::intervention::{Branch, Replacement, Stream};
use crate::machine::Limits;
use crate::request::{Options, Prompt};
use cs_model::spec::ModelSpec;

/// Prompts that are run together.
pub(crate) struct Chunk {
    /// Indices into the caller's prompts.
    pub prompts: Vec<usize>,
    /// What the plain run computes: the prompts, then their sources.
    pub base: Forest,
    /// What branches compute. Prompts share a node only if their sources and groups agree as well.
    pub branch: Forest,
    /// For each branch node, the base node of the same prefix. `[n_branch_nodes]`
    pub own: Vec<u32>,
    /// For each branch node, the base node that [`Replacement::Source`] reads; empty if no branch reads
    /// sources.
    pub source: Vec<u32>,
    /// For each branch node, its prompts' group; empty if no branch reads means.
    pub group: Vec<u32>,
    /// Nodes of the branch forest at which prompts end, ascending, once each.
    pub ends: Vec<u32>,
    /// For each prompt of the chunk, the index of its last node in `ends`.
    pub end_of: Vec<u32>,
}

impl Chunk {
    fn new(prompts: &[Prompt], indices: &[usize], needs: Needs) -> Result<Self, ForestError> {
        let own: Vec<&[u32]> = indices.iter().map(|&i| &prompts[i].tokens[..]).collect();
        let sources = indices.iter().map(|&i| source_tokens(&prompts[i]));
        let sources: Vec<&[u32]> = if needs.source { sources.collect() } else { vec![] };
        let base = Forest::new(&[&own[..], &sources[..]].concat())?;

        let branch = if needs.source || needs.groups {
            let mut interned: HashMap<(u32, u32), u32> = HashMap::new();
            let mut key = |group, token| {
                let next = interned.len() as u32;
                *interned.entry((group, token)).or_insert(next)
            };
            let keys: Vec<Vec<u32>> = indices
                .iter()
                .map(|&i| {
                    let group = if needs.groups { prompts[i].group } else { 0 };
                    (0..prompts[i].tokens.len())
                        .map(|p| key(group, if needs.source { source_tokens(&prompts[i])[p] } else { 0 }))
                        .collect()
                })
                .collect();
            Forest::keyed(&own, &keys)?
        } else {
            base.clone()
        };

        let mut chunk = Chunk {
            prompts: indices.to_vec(),
            own: vec![0; branch.n_nodes()],
            source: if needs.source { vec![0; branch.n_nodes()] } else { vec![] },
            group: if needs.groups { vec![0; branch.n_nodes()] } else { vec![] },
            ends: branch.ends().to_vec(),
            end_of: vec![],
            base,
            branch,
        };
        chunk.ends.sort_unstable();
        chunk.ends.dedup();
        for (i, &prompt) in indices.iter().enumerate() {
            let end = chunk.branch.end(i);
            chunk.end_of.push(chunk.ends.partition_point(|&e| e < end) as u32);
            let path = chunk.branch.path(end);
            for (&node, own) in path.iter().zip(chunk.base.path(chunk.base.end(i))) {
                chunk.own[node as usize] = own;
            }
            if needs.source {
                for (&node, source) in path.iter().zip(chunk.base.path(chunk.base.end(indices.len() + i))) {
                    chunk.source[node as usize] = source;
                }
            }
            if needs.groups {
                path.iter().for_each(|&node| chunk.group[node as usize] = prompts[prompt].group);
            }
        }
        Ok(chunk)
    }
}

fn source_tokens(prompt: &Prompt) -> &[u32] {
    prompt.source.as_deref().unwrap_or(&prompt.tokens)
}

/// What branches read from other runs.
#[derive(Clone, Copy)]
struct Needs {
    source: bool,
    /// Means, with or without the prompt itself.
    groups: bool,
    /// Means without the prompt itself.
    others: bool,
}

impl Needs {
    fn of(branches: &[Branch]) -> Self {
        let uses = |r| branches.iter().any(|b| b.uses(r));
        let others = uses(Replacement::OthersMean);
        Self { source: uses(Replacement::Source), groups: others || uses(Replacement::GroupMean), others }
    }
}

/// Length of the longest prompt, in tokens.
pub(crate) fn longest(prompts: &[Prompt]) -> usize {
    prompts.iter().map(|p| p.tokens.len()).max().unwrap_or(0)
}

/// Sorts prompts, so that shared prefixes are adjacent, and splits them into chunks whose plain run and at least
/// one branch fit the memory bound.
pub(crate) fn chunks(
    prompts: &[Prompt],
    branches: &[Branch],
    limits: Limits,
    options: Options,
) -> Result<Vec<Chunk>, EngineError> {
    let needs = Needs::of(branches);
    let mut order: Vec<usize> = (0..prompts.len()).collect();
    order.sort_by_key(|&i| (&prompts[i].tokens, &prompts[i].source, prompts[i].group, i));

    // Sources are also run plainly.
    let per_node = limits.plain_node * if needs.source { 2 } else { 1 } + limits.run_node;
    let per_end = limits.run_end;
    let available = options.memory.saturating_sub(limits.scratch);
    let need = longest(prompts) * per_node + per_end;
    if available < need {
        return Err(EngineError::Memory { need: limits.scratch + need, memory: options.memory });
    }

    let mut chunks = Vec::new();
    let (mut from, mut bytes) = (0, 0);
    for at in 0..order.len() {
        let tokens = &prompts[order[at]].tokens;
        let shared = if at == from || needs.source || needs.groups {
            0 // keyed nodes may share less than tokens do: count every token
        } else {
            let before = &prompts[order[at - 1]].tokens;
            before.iter().zip(tokens).take_while(|(a, b)| a == b).count()
        };
        let of_prompt = |n_nodes| n_nodes * per_node + per_end;
        if bytes + of_prompt(tokens.len() - shared) > available {
            chunks.push(Chunk::new(prompts, &order[from..at], needs)?);
            (from, bytes) = (at, of_prompt(tokens.len()));
        } else {
            bytes += of_prompt(tokens.len() - shared);
        }
    }
    chunks.push(Chunk::new(prompts, &order[from..], needs)?);
    Ok(chunks)
}

/// Checks prompts and branches against the model and each other.
pub(crate) fn check(spec: &ModelSpec, prompts: &[Prompt], branches: &[Branch]) -> Result<(), EngineError> {
    if prompts.is_empty() {
        return Err(EngineError::NoPrompts);
    }
    let needs = Needs::of(branches);
    for (index, prompt) in prompts.iter().enumerate() {
        let len = prompt.tokens.len();
        if len == 0 {
            return Err(ForestError::EmptyPrompt { index }.into());
        }
        if len > spec.n_ctx {
            return Err(EngineError::TooLong { index, len, n_ctx: spec.n_ctx });
        }
        let d_vocab = spec.d_vocab;
        let others = prompt.source.iter().chain(prompt.references.iter().flatten()).flatten();
        let mut tokens = prompt.tokens.iter().chain(&prompt.read).chain(others);
        if let Some(&token) = tokens.find(|&&t| t as usize >= d_vocab) {
            return Err(EngineError::UnknownToken { index, token, d_vocab });
        }
        if let Some(source) = &prompt.source
            && source.len() != len
        {
            return Err(EngineError::SourceLength { index, len, source_len: source.len() });
        }
        if needs.source && prompt.source.is_none() {
            return Err(EngineError::NoSource { index });
        }
    }
    if needs.groups {
        check_groups(prompts, needs.others)?;
    }
    branches.iter().enumerate().try_for_each(|(index, branch)| check_branch(spec, index, branch))
}

/// Checks that every group has references to average; if `others`, also without one draw of each of its prompts.
fn check_groups(prompts: &[Prompt], others: bool) -> Result<(), EngineError> {
    let mut groups: HashMap<u32, (usize, f64)> = HashMap::new(); // group -> length, weight of its references
    for (index, prompt) in prompts.iter().enumerate() {
        let (len, weight, group) = (prompt.tokens.len(), prompt.weight, prompt.group);
        if !weight.is_finite() || weight < f64::from(u8::from(others)) {
            return Err(EngineError::Weight { index, weight });
        }
        if others && prompt.references.is_some() {
            return Err(EngineError::NotItsOwnReference { index });
        }
        let of_group = groups.entry(group).or_insert((len, 0.0));
        if of_group.0 != len {
            return Err(EngineError::GroupLength { group, a: of_group.0, b: len });
        }
        for reference in prompt.references() {
            if reference.len() != len {
                return Err(EngineError::ReferenceLength { index, len, reference_len: reference.len() });
            }
            of_group.1 += weight;
        }
    }
    let is_empty = |prompt: &&Prompt| {
        let left_out = if others { prompt.weight } else { 0.0 };
        groups[&prompt.group].1 <= left_out
    };
    match prompts.iter().find(is_empty) {
        None => Ok(()),
        Some(prompt) => Err(EngineError::NothingToAverage { group: prompt.group }),
    }
}

fn check_branch(spec: &ModelSpec, index: usize, branch: &Branch) -> Result<(), EngineError> {
    for edit in branch.edits() {
        let (layer, head) = (edit.layer, edit.head);
        let (n_layers, n_heads) = (spec.n_layers, spec.n_heads);
        if layer >= n_layers || head >= n_heads {
            return Err(EngineError::NoSuchHead { branch: index, layer, head, n_layers, n_heads });
        }
        let why = match (edit.stream, edit.replacement) {
            (Stream::Z, _) | (_, Replacement::Source | Replacement::Zero) => None,
            (Stream::V, Replacement::ValueBias) => None,
            (_, Replacement::ValueBias) => Some("a value bias can replace values and z only"),
            (_, Replacement::GroupMean | Replacement::OthersMean) => Some("means are kept of z only"),
        };
        if let Some(why) = why {
            let (stream, replacement) = (edit.stream, edit.replacement);
            return Err(EngineError::BadEdit { branch: index, layer, head, stream, replacement, why });
        }
    }
    for pair in branch.edits().windows(2) {
        let site = |e: &crate::intervention::Edit| (e.layer, e.head, e.stream);
        if site(&pair[0]) == site(&pair[1]) {
            let (layer, head, stream) = site(&pair[1]);
            let why = "the branch already replaces it by something else";
            let replacement = pair[1].replacement;
            return Err(EngineError::BadEdit { branch: index, layer, head, stream, replacement, why });
        }
    }
    Ok(())
}
