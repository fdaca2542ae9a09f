//! Activations of a run without edits, prompt by prompt.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use cs_engine::forest::Forest;
use cs_engine::{Cache, LayerCache};
use cs_model::memory;
use cs_model::spec::ModelSpec;

use crate::error::CliError;
use crate::model::Model;

/// An activation, under its TransformerLens name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Activation {
    /// Each block's input. `[n_layers, n_positions, d_model]`
    ResidPre,
    /// The residual stream between attention and MLP; models with parallel blocks have none. `[n_layers, n_positions, d_model]`
    ResidMid,
    /// Each block's output. `[n_layers, n_positions, d_model]`
    ResidPost,
    /// Queries, after rotary embedding if the model has it. `[n_layers, n_positions, n_heads, d_head]`
    Q,
    /// Keys, after rotary embedding if the model has it. `[n_layers, n_positions, n_kv_heads, d_head]`
    K,
    /// Values. `[n_layers, n_positions, n_kv_heads, d_head]`
    V,
    /// Attention-weighted values, before `W_O`. `[n_layers, n_positions, n_heads, d_head]`
    Z,
    /// Attention probabilities. `[n_layers, n_heads, n_positions (query), n_positions (key)]`
    Pattern,
}

impl Activation {
    /// All of them.
    pub const ALL: [Self; 8] =
        [Self::ResidPre, Self::ResidMid, Self::ResidPost, Self::Q, Self::K, Self::V, Self::Z, Self::Pattern];

    /// The name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ResidPre => "resid_pre",
            Self::ResidMid => "resid_mid",
            Self::ResidPost => "resid_post",
            Self::Q => "q",
            Self::K => "k",
            Self::V => "v",
            Self::Z => "z",
            Self::Pattern => "pattern",
        }
    }

    /// Its values in one layer at all nodes, except for the pattern, which is not stored; `None` if the model has
    /// none.
    fn of(self, layer: &LayerCache) -> Option<&[f32]> {
        match self {
            Self::ResidPre => Some(&layer.resid_pre),
            Self::ResidMid => layer.resid_mid.as_deref(),
            Self::ResidPost => Some(&layer.resid_post),
            Self::Q => Some(&layer.q),
            Self::K => Some(&layer.k),
            Self::V => Some(&layer.v),
            Self::Z => Some(&layer.z),
            Self::Pattern => None,
        }
    }

    /// Sizes of its dimensions for one prompt.
    fn shape(self, spec: &ModelSpec, n_positions: usize) -> Vec<usize> {
        let n_layers = spec.n_layers;
        match self {
            Self::ResidPre | Self::ResidMid | Self::ResidPost => vec![n_layers, n_positions, spec.d_model],
            Self::Q | Self::Z => vec![n_layers, n_positions, spec.n_heads, spec.d_head],
            Self::K | Self::V => vec![n_layers, n_positions, spec.n_kv_heads, spec.d_head],
            Self::Pattern => vec![n_layers, spec.n_heads, n_positions, n_positions],
        }
    }
}

impl fmt::Display for Activation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Activation {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|a| a.as_str() == text).ok_or_else(|| {
            let names = Self::ALL.map(Self::as_str).join(", ");
            format!("unknown activation `{text}`: use {names}")
        })
    }
}

/// Numbers in row-major order.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    /// Sizes of its dimensions, outermost first.
    pub shape: Vec<usize>,
    /// The numbers.
    pub values: Vec<f32>,
}

/// One prompt's activations.
#[derive(Clone, Debug, PartialEq)]
pub struct PromptCache {
    /// Its token ids.
    pub tokens: Vec<u32>,
    /// The requested activations that the model has, with the shapes documented at [`Activation`].
    pub arrays: BTreeMap<Activation, Array>,
}

impl Model {
    /// Runs each prompt (token ids, including BOS) and returns the activations in `names`.
    ///
    /// # Errors
    /// No prompts; a prompt that is empty, too long or has an unknown token; too little memory.
    pub fn cache(&self, prompts: &[Vec<u32>], names: &[Activation]) -> Result<Vec<PromptCache>, CliError> {
        if prompts.is_empty() {
            return Err(cs_engine::EngineError::NoPrompts.into());
        }
        let (spec, forest) = (self.spec(), Forest::new(prompts)?);
        let need = bytes(spec, &forest, prompts, names);
        if let Some(available) = memory::available().filter(|&available| available < need) {
            return Err(CliError::CacheMemory { need, available });
        }
        let cache = Cache::new(&self.decoder, &forest)?;
        let of_prompt = |(index, tokens): (usize, &Vec<u32>)| {
            let path = forest.path(forest.end(index));
            let array = |&name: &Activation| {
                let values = values(spec, &cache, &forest, &path, name)?;
                Some((name, Array { shape: name.shape(spec, path.len()), values }))
            };
            PromptCache { tokens: tokens.clone(), arrays: names.iter().filter_map(array).collect() }
        };
        Ok(prompts.iter().enumerate().map(of_prompt).collect())
    }
}

/// One activation at the nodes of a path, layer by layer; `None` if the model has none.
fn values(
    spec: &ModelSpec,
    cache: &Cache<'_>,
    forest: &Forest,
    path: &[u32],
    name: Activation,
) -> Option<Vec<f32>> {
    let mut values = Vec::with_capacity(name.shape(spec, path.len()).iter().product());
    for layer in 0..spec.n_layers {
        if name == Activation::Pattern {
            for head in 0..spec.n_heads {
                for (query, &node) in path.iter().enumerate() {
                    let seen = cache.pattern(layer, head, node);
                    let first = query + 1 - seen.len();
                    values.resize(values.len() + first, 0.0);
                    values.extend(seen);
                    values.resize(values.len() + path.len() - query - 1, 0.0);
                }
            }
            continue;
        }
        let all = name.of(cache.layer(layer))?;
        let width = all.len() / forest.n_nodes();
        path.iter().for_each(|&node| values.extend(&all[node as usize * width..][..width]));
    }
    Some(values)
}

/// Total size in bytes of the run's activations and the arrays.
fn bytes(spec: &ModelSpec, forest: &Forest, prompts: &[Vec<u32>], names: &[Activation]) -> u64 {
    let per_node = 3 * spec.d_model + 2 * spec.d_attn() + 2 * spec.d_kv();
    let run = spec.n_layers as u64 * forest.n_nodes() as u64 * per_node as u64;
    let array =
        |len: usize, name: &Activation| name.shape(spec, len).iter().map(|&d| d as u64).product::<u64>();
    let of_prompt = |prompt: &Vec<u32>| names.iter().map(|name| array(prompt.len(), name)).sum::<u64>();
    (run + prompts.iter().map(of_prompt).sum::<u64>()) * size_of::<f32>() as u64
}
