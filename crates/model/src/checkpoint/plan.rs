//! Assigns tensors to parameters: every name and shape is checked before any weight is read.

use std::collections::BTreeMap;
use std::ops::Range;

use super::elements::is_supported;
use super::tensors::{Tensor, TensorId, TensorStore};
use crate::config::ModelConfig;
use crate::error::LoadError;
use crate::families::tensors::{self, MlpTensors, QkvTensors, Stored};
use crate::spec::{BlockLayout, ModelSpec, NormKind, NormPlacement, Positions, QkNorm};

/// The layout of `W` `[d_in, d_out]` in its tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Not transposed: one tensor `[d_in, d_out]`.
    Rows,
    /// Transposed: each column is a row of a tensor.
    Columns,
    /// Transposed, in one tensor with rows in the order `[n_heads, 3, d_head]` instead of `[3, n_heads, d_head]`.
    ColumnsPerHead {
        /// Number of heads.
        n_heads: usize,
        /// Width of a head.
        d_head: usize,
    },
}

/// Consecutive columns of `W` in one tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The tensor with the columns.
    pub weight: TensorId,
    /// The tensor with their biases, if the layer has any.
    pub bias: Option<TensorId>,
    /// The range of the tensor's rows (with [`Order::Rows`], of its columns).
    pub rows: Range<usize>,
}

/// `y = x W + b`
pub struct LinearPlan {
    /// Width of `x`.
    pub d_in: usize,
    /// Width of `y`.
    pub d_out: usize,
    /// The layout of `W` in its tensors.
    pub order: Order,
    /// The places of its columns, from first to last.
    pub parts: Vec<Part>,
}

impl LinearPlan {
    /// The source of output column `j`: the part, and the row (or element of the bias) in its tensor. With
    /// [`Order::Rows`], this only applies to the bias.
    pub fn column(&self, j: usize) -> (usize, usize) {
        if let Order::ColumnsPerHead { n_heads, d_head } = self.order {
            let (third, head, coordinate) = (j / (n_heads * d_head), j / d_head % n_heads, j % d_head);
            return (0, (head * 3 + third) * d_head + coordinate);
        }
        let mut first = 0;
        for (i, part) in self.parts.iter().enumerate() {
            if j - first < part.rows.len() {
                return (i, part.rows.start + j - first);
            }
            first += part.rows.len();
        }
        panic!("column {j} of {}", self.d_out)
    }

    fn tensors(&self) -> impl Iterator<Item = TensorId> {
        self.parts.iter().flat_map(|part| [Some(part.weight), part.bias]).flatten()
    }
}

/// Gain and bias of a norm, if it has them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NormPlan {
    /// Elementwise gain.
    pub weight: Option<TensorId>,
    /// Elementwise bias.
    pub bias: Option<TensorId>,
}

/// The layers of an MLP.
pub struct MlpPlan {
    /// The gate: the layer that the activation is applied to before multiplying with `w_in`'s output.
    pub w_gate: Option<LinearPlan>,
    /// The first layer.
    pub w_in: LinearPlan,
    /// The second layer.
    pub w_out: LinearPlan,
}

/// The tensors of one block's parameters. Norms that the block lacks have neither gain nor bias.
pub struct LayerPlan {
    /// The norm of attention's input, or after its residual addition.
    pub ln1: NormPlan,
    /// The norm of attention's output before it is added.
    pub ln1_post: Option<NormPlan>,
    /// `W_Q`, `W_K`, `W_V`, concatenated.
    pub w_qkv: LinearPlan,
    /// Gain of the norm of queries.
    pub q_norm: Option<TensorId>,
    /// Gain of the norm of keys.
    pub k_norm: Option<TensorId>,
    /// `W_O` of all heads stacked.
    pub w_o: LinearPlan,
    /// The norm of the MLP's input, or after its residual addition.
    pub ln2: NormPlan,
    /// The norm of the MLP's output before it is added.
    pub ln2_post: Option<NormPlan>,
    /// The MLP.
    pub mlp: MlpPlan,
}

/// The tensors of all of a model's parameters.
pub struct Plan {
    /// Token embedding.
    pub embed: TensorId,
    /// Learned positions.
    pub pos_embed: Option<TensorId>,
    /// From the embedding's width to the model's, if they differ.
    pub project_in: Option<LinearPlan>,
    /// Blocks in order.
    pub layers: Vec<LayerPlan>,
    /// The norm before the unembedding.
    pub ln_final: NormPlan,
    /// From the model's width to the unembedding's, if they differ.
    pub project_out: Option<LinearPlan>,
    /// The unembedding, if it is not tied.
    pub unembed: Option<TensorId>,
    /// A stored unembedding that `config.json` ties to the embedding: it must be equal.
    pub tied_copy: Option<TensorId>,
    /// The unembedding's bias.
    pub unembed_bias: Option<TensorId>,
    /// All parameters, by canonical name.
    pub parameters: BTreeMap<String, TensorId>,
    /// Remarks for the user about the names, one line each.
    pub notes: Vec<String>,
}

impl Plan {
    /// Finds every parameter that `config` requires.
    ///
    /// # Errors
    /// A tensor that is missing, has the wrong shape or an unsupported type, is present under two prefixes,
    /// or is not part of the architecture and might change the result.
    pub fn new(store: &TensorStore, config: &ModelConfig) -> Result<Self, LoadError> {
        let spec = &config.spec;
        let names = &config.family.tensors;
        let mut finder = Finder::new(store, config)?;
        let ModelSpec { d_model, d_embed, d_vocab, .. } = *spec;

        let embed = finder.take(&format!("{}.weight", names.embed), &[d_vocab, d_embed])?;
        let pos_embed = match spec.positions {
            Positions::Learned { offset } => {
                Some(finder.take(&format!("{}.weight", names.pos_embed), &[spec.n_ctx + offset, d_model])?)
            }
            Positions::Rotary(_) => None,
        };
        let projected = d_embed != d_model;
        let projection = |finder: &mut Finder, name: &str, d_in, d_out| {
            projected.then(|| finder.linear(&[(name, d_out)], d_in, Order::Columns, false)).transpose()
        };
        let project_in = projection(&mut finder, "project_in", d_embed, d_model)?;
        let layers = (0..spec.n_layers).map(|layer| finder.layer(layer)).collect::<Result<_, _>>()?;
        let ln_final = match spec.final_norm {
            true => finder.norm(names.ln_final)?,
            false => NormPlan::default(),
        };
        let project_out = projection(&mut finder, "project_out", d_model, d_embed)?;

        let unembed_name = format!("{}.weight", names.unembed);
        let unembed_shape = [d_vocab, d_embed];
        let (unembed, tied_copy) = match spec.tied_unembed {
            false => (Some(finder.take(&unembed_name, &unembed_shape)?), None),
            true => (None, finder.take_copy(&unembed_name, &unembed_shape)?),
        };
        let unembed_bias = config
            .parameters
            .unembed_bias
            .then(|| finder.take(&format!("{}.bias", names.unembed), &[d_vocab]))
            .transpose()?;
        let (parameters, notes) = finder.finish()?;
        Ok(Plan {
            embed,
            pos_embed,
            project_in,
            layers,
            ln_final,
            project_out,
            unembed,
            tied_copy,
            unembed_bias,
            parameters,
            notes,
        })
    }

    /// The tensors of one layer's matrices.
    pub fn layer_tensors(&self, layer: usize) -> impl Iterator<Item = TensorId> {
        self.layers[layer].matrices().flat_map(LinearPlan::tensors)
    }
}

impl LayerPlan {
    /// The block's matrices, in this order: `W_Q W_K W_V`, `W_O`, the MLP's gate, first and second layer.
    pub fn matrices(&self) -> impl Iterator<Item = &LinearPlan> {
        let Self { w_qkv, w_o, mlp: MlpPlan { w_gate, w_in, w_out }, .. } = self;
        [Some(w_qkv), Some(w_o), w_gate.as_ref(), Some(w_in), Some(w_out)].into_iter().flatten()
    }
}

/// Maximum number of ignored tensors that a note names.
const MOST_NAMED: usize = 5;

/// Looks up tensors by canonical name, each once.
struct Finder<'a> {
    store: &'a TensorStore,
    config: &'a ModelConfig,
    left: BTreeMap<&'a str, TensorId>,
    taken: BTreeMap<String, TensorId>,
    notes: Vec<String>,
}

impl<'a> Finder<'a> {
    fn new(store: &'a TensorStore, config: &'a ModelConfig) -> Result<Self, LoadError> {
        let names = &config.family.tensors;
        let mut left = BTreeMap::new();
        let wrapper = tensors::wrapper(store.tensors.iter().map(|tensor| tensor.name.as_str()));
        let mut notes = Vec::new();
        if !wrapper.is_empty() {
            notes.push(format!(
                "{}: every tensor's name starts with {wrapper}, as in checkpoints of wrapped models; read without it",
                store.label
            ));
        }
        for (id, tensor) in store.tensors.iter().enumerate() {
            if let Some(earlier) = left.insert(names.canonical(&tensor.name[wrapper.len()..]), id) {
                let other = &store.tensors[earlier].name;
                return Err(LoadError::Malformed {
                    file: store.file_of(tensor).to_owned(),
                    problem: format!("has one parameter under two names, {other:?} and {:?}", tensor.name),
                    fix: "save the checkpoint with only one of them".to_owned(),
                });
            }
        }
        Ok(Finder { store, config, left, taken: BTreeMap::new(), notes })
    }

    /// A required parameter.
    fn take(&mut self, name: &str, shape: &[usize]) -> Result<TensorId, LoadError> {
        let Some(id) = self.left.remove(name) else {
            return Err(LoadError::MissingTensor {
                file: self.store.label.clone(),
                tensor: name.to_owned(),
                shape: shape.to_vec(),
                fix: "use the config.json that belongs to this checkpoint, or fetch the checkpoint again"
                    .to_owned(),
            });
        };
        self.check(id, shape)?;
        self.taken.insert(name.to_owned(), id);
        Ok(id)
    }

    /// An optional copy of a parameter.
    fn take_copy(&mut self, name: &str, shape: &[usize]) -> Result<Option<TensorId>, LoadError> {
        let id = self.left.remove(name);
        if let Some(id) = id {
            self.check(id, shape)?;
        }
        Ok(id)
    }

    fn check(&self, id: TensorId, expected: &[usize]) -> Result<(), LoadError> {
        let tensor = &self.store.tensors[id];
        let file = || self.store.file_of(tensor).to_owned();
        if tensor.shape != expected {
            return Err(LoadError::Shape {
                file: file(),
                tensor: tensor.name.clone(),
                found: tensor.shape.clone(),
                expected: expected.to_vec(),
            });
        }
        if !is_supported(tensor.dtype) {
            return Err(LoadError::Dtype {
                file: file(),
                tensor: tensor.name.clone(),
                dtype: tensor.dtype.to_string(),
            });
        }
        Ok(())
    }

    fn norm(&mut self, name: &str) -> Result<NormPlan, LoadError> {
        let d_model = self.config.spec.d_model;
        let take = |finder: &mut Self, what: &str, is_there: bool| {
            is_there.then(|| finder.take(&format!("{name}.{what}"), &[d_model])).transpose()
        };
        let affine = self.config.parameters.norm_affine;
        let weight = take(self, "weight", affine)?;
        let bias = take(self, "bias", affine && self.config.spec.norm_kind == NormKind::Layer)?;
        Ok(NormPlan { weight, bias })
    }

    /// A matrix from one tensor, or from several that hold consecutive columns, each with its width.
    fn linear(
        &mut self,
        tensors: &[(&str, usize)],
        d_in: usize,
        order: Order,
        bias: bool,
    ) -> Result<LinearPlan, LoadError> {
        let mut parts = Vec::with_capacity(tensors.len());
        for &(name, width) in tensors {
            let shape = if order == Order::Rows { [d_in, width] } else { [width, d_in] };
            let weight = self.take(&format!("{name}.weight"), &shape)?;
            let bias = bias.then(|| self.take(&format!("{name}.bias"), &[width])).transpose()?;
            parts.push(Part { weight, bias, rows: 0..width });
        }
        let d_out = parts.iter().map(|part| part.rows.len()).sum();
        Ok(LinearPlan { d_in, d_out, order, parts })
    }

    /// Every parameter of a block.
    fn layer(&mut self, layer: usize) -> Result<LayerPlan, LoadError> {
        let ModelConfig { family, spec, parameters, .. } = self.config;
        let names = &family.tensors;
        let (d_model, d_attn, d_kv, d_head) = (spec.d_model, spec.d_attn(), spec.d_kv(), spec.d_head);
        let full = |part: &str| format!("{}.{layer}.{part}", names.block);
        let order = match names.stored {
            Stored::InOut => Order::Rows,
            Stored::OutIn => Order::Columns,
        };
        let has_ln1 = spec.norm != NormPlacement::Branch;
        let has_ln2 = has_ln1 && spec.block != BlockLayout::ParallelOneNorm;
        let has_post = spec.norm.has_branch_norm();
        let norm = |finder: &mut Self, name: &str, is_there: bool| {
            is_there.then(|| finder.norm(&full(name))).transpose()
        };
        let ln1 = norm(self, names.ln1, has_ln1)?.unwrap_or_default();
        let ln1_post = norm(self, names.ln1_post, has_post)?;

        let bias = parameters.qkv_bias;
        let d_qkv = d_attn + 2 * d_kv;
        let w_qkv = match names.qkv {
            QkvTensors::Fused(name) => self.linear(&[(&full(name), d_qkv)], d_model, order, bias)?,
            QkvTensors::FusedPerHead(name) => {
                let order = Order::ColumnsPerHead { n_heads: spec.n_heads, d_head };
                self.linear(&[(&full(name), d_qkv)], d_model, order, bias)?
            }
            QkvTensors::Separate(qkv) => {
                let [q, k, v] = qkv.map(full);
                self.linear(&[(&q, d_attn), (&k, d_kv), (&v, d_kv)], d_model, order, bias)?
            }
        };
        let widths = match spec.qk_norm {
            QkNorm::None => None,
            QkNorm::PerHead => Some([d_head, d_head]),
            QkNorm::AllHeads => Some([d_attn, d_kv]),
        };
        let gain = |finder: &mut Self, name: &str, i: usize| {
            widths.map(|widths| finder.take(&full(&format!("{name}.weight")), &[widths[i]])).transpose()
        };
        let q_norm = gain(self, names.q_norm, 0)?;
        let k_norm = gain(self, names.k_norm, 1)?;
        let w_o = self.linear(&[(&full(names.w_o), d_model)], d_attn, order, parameters.attn_out_bias)?;

        let ln2 = norm(self, names.ln2, has_ln2)?.unwrap_or_default();
        let ln2_post = norm(self, names.ln2_post, has_post)?;
        let mlp = self.mlp(names.mlp, full, order)?;
        Ok(LayerPlan { ln1, ln1_post, w_qkv, q_norm, k_norm, w_o, ln2, ln2_post, mlp })
    }

    fn mlp(
        &mut self,
        names: MlpTensors,
        full: impl Fn(&str) -> String,
        order: Order,
    ) -> Result<MlpPlan, LoadError> {
        let ModelSpec { d_model, d_mlp, .. } = self.config.spec;
        let bias = self.config.parameters.mlp_bias;
        let mut linear = |name: &str, d_in, d_out| self.linear(&[(&full(name), d_out)], d_in, order, bias);
        Ok(match names {
            MlpTensors::Plain([w_in, w_out]) => MlpPlan {
                w_gate: None,
                w_in: linear(w_in, d_model, d_mlp)?,
                w_out: linear(w_out, d_mlp, d_model)?,
            },
            MlpTensors::Gated([w_gate, w_in, w_out]) => MlpPlan {
                w_gate: Some(linear(w_gate, d_model, d_mlp)?),
                w_in: linear(w_in, d_model, d_mlp)?,
                w_out: linear(w_out, d_mlp, d_model)?,
            },
            MlpTensors::FusedGate([both, w_out]) => {
                let both = linear(both, d_model, 2 * d_mlp)?;
                let rows = |rows: Range<usize>| {
                    let parts = both.parts.iter().map(|part| Part { rows: rows.clone(), ..part.clone() });
                    LinearPlan { d_in: d_model, d_out: d_mlp, order, parts: parts.collect() }
                };
                MlpPlan {
                    w_gate: Some(rows(0..d_mlp)),
                    w_in: rows(d_mlp..2 * d_mlp),
                    w_out: linear(w_out, d_mlp, d_model)?,
                }
            }
        })
    }

    /// All parameters and notes; an error if other tensors remain than known constants and parts outside the decoder.
    fn finish(mut self) -> Result<(BTreeMap<String, TensorId>, Vec<String>), LoadError> {
        let Self { config, .. } = self;
        let names = &config.family.tensors;
        self.left.retain(|name, _| !names.is_buffer(name));
        match self.left.iter().find(|(name, _)| !names.is_outside_decoder(name)) {
            None => {
                let ignored: Vec<&str> =
                    self.left.values().map(|&id| self.store.tensors[id].name.as_str()).collect();
                if let Some((shown, more)) = ignored.split_at_checked(ignored.len().min(MOST_NAMED))
                    && !shown.is_empty()
                {
                    let more =
                        if more.is_empty() { String::new() } else { format!(" and {} more", more.len()) };
                    self.notes.push(format!(
                        "{}: ignored, since {} has no such part: {}{more}",
                        self.store.label,
                        config.family.model_type,
                        shown.join(", ")
                    ));
                }
                Ok((self.taken, self.notes))
            }
            Some((name, &id)) => {
                let tensor: &Tensor = &self.store.tensors[id];
                let fix = if name.contains("lora") || name.contains("adapter") {
                    "merge the adapter into the weights and save them as one model"
                } else {
                    "use the config.json that belongs to this checkpoint, or save the checkpoint without it"
                };
                Err(LoadError::UnexpectedTensor {
                    file: self.store.file_of(tensor).to_owned(),
                    tensor: tensor.name.clone(),
                    architecture: config.family.model_type,
                    fix: fix.to_owned(),
                })
            }
        }
    }
}
