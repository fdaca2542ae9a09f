//! Which tensor becomes which parameter: every name and shape is settled before the first weight is read.

use std::collections::BTreeMap;

use super::names::{self, Names, Stored};
use super::tensors::{Tensor, TensorId, TensorStore, is_supported};
use crate::config::ModelConfig;
use crate::error::LoadError;
use crate::spec::{ModelSpec, Positions};

/// How `W` `[d_in, d_out]` lies in its tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// As it is: one tensor `[d_in, d_out]`.
    Rows,
    /// Transposed: tensors `[d_out / n, d_in]`, one after the other.
    Columns,
    /// Transposed, the columns in the order `[n_heads, 3, d_head]` instead of `[3, n_heads, d_head]`.
    ColumnsPerHead {
        /// Heads of the layer.
        n_heads: usize,
        /// Width of a head.
        d_head: usize,
    },
}

/// `y = x W + b`
pub struct LinearPlan {
    /// Width of `x`.
    pub d_in: usize,
    /// Width of `y`.
    pub d_out: usize,
    /// The tensors that hold `W`.
    pub weight: Vec<TensorId>,
    /// How `W` lies in them.
    pub order: Order,
    /// As many as there are weights, or none.
    pub bias: Vec<TensorId>,
}

impl LinearPlan {
    /// Where output column `j` comes from: the tensor among [`LinearPlan::weight`] (or `bias`), and the row (or
    /// element) there. For [`Order::Rows`], this holds for the bias alone.
    pub fn column(&self, j: usize) -> (usize, usize) {
        if let Order::ColumnsPerHead { n_heads, d_head } = self.order {
            let (third, head, coordinate) = (j / (n_heads * d_head), j / d_head % n_heads, j % d_head);
            return (0, (head * 3 + third) * d_head + coordinate);
        }
        let per_tensor = self.d_out / self.weight.len();
        (j / per_tensor, j % per_tensor)
    }

    fn tensors(&self) -> impl Iterator<Item = TensorId> {
        self.weight.iter().chain(&self.bias).copied()
    }
}

/// Gain and bias of a layer norm; `None` where it has neither.
pub type NormPlan = Option<(TensorId, TensorId)>;

/// Where one block's parameters are.
pub struct LayerPlan {
    /// The norm that belongs to attention.
    pub ln1: NormPlan,
    /// `W_Q`, `W_K`, `W_V` side by side.
    pub w_qkv: LinearPlan,
    /// `W_O` of all heads stacked.
    pub w_o: LinearPlan,
    /// The norm that belongs to the MLP.
    pub ln2: NormPlan,
    /// The MLP's first layer.
    pub w_in: LinearPlan,
    /// The MLP's second layer.
    pub w_out: LinearPlan,
}

/// Where all of a model's parameters are.
pub struct Plan {
    /// Token embedding.
    pub embed: TensorId,
    /// Learned positions.
    pub pos_embed: Option<TensorId>,
    /// From the embedding's width to the model's, where they differ.
    pub project_in: Option<LinearPlan>,
    /// Blocks in order.
    pub layers: Vec<LayerPlan>,
    /// The norm before the unembedding.
    pub ln_final: NormPlan,
    /// From the model's width to the unembedding's, where they differ.
    pub project_out: Option<LinearPlan>,
    /// The unembedding, where it is not tied.
    pub unembed: Option<TensorId>,
    /// A stored unembedding that `config.json` ties to the embedding: it must be equal.
    pub tied_copy: Option<TensorId>,
    /// All parameters, by canonical name.
    pub parameters: BTreeMap<String, TensorId>,
    /// What a user should know of the names, a line each.
    pub notes: Vec<String>,
}

impl Plan {
    /// Finds every parameter that `config` calls for.
    ///
    /// # Errors
    /// A tensor that is missing, misshapen, of an unsupported type, present twice under two prefixes, or that
    /// has no place in the architecture and might change the result.
    pub fn new(store: &TensorStore, config: &ModelConfig) -> Result<Self, LoadError> {
        let spec = &config.spec;
        let names = Names::of(config.architecture);
        let mut finder = Finder::new(store, names)?;
        let ModelSpec { d_model, d_embed, d_vocab, d_mlp, .. } = *spec;
        let d_attn = spec.d_attn();

        let embed = finder.take(&format!("{}.weight", names.embed), &[d_vocab, d_embed])?;
        let pos_embed = match spec.positions {
            Positions::Learned { offset } => {
                Some(finder.take(&format!("{}.weight", names.pos_embed), &[spec.n_ctx + offset, d_model])?)
            }
            Positions::Rotary(_) => None,
        };
        let projected = d_embed != d_model;
        let projection = |finder: &mut Finder, name: &str, d_in, d_out| {
            projected
                .then(|| finder.linear(&[name.to_owned()], d_in, d_out, Order::Columns, false))
                .transpose()
        };
        let project_in = projection(&mut finder, "project_in", d_embed, d_model)?;

        let order = match names.stored {
            Stored::InOut => Order::Rows,
            Stored::OutIn => Order::Columns,
        };
        let qkv_order = match names.qkv_per_head {
            true => Order::ColumnsPerHead { n_heads: spec.n_heads, d_head: spec.d_head },
            false => order,
        };
        let mut layers = Vec::with_capacity(spec.n_layers);
        for layer in 0..spec.n_layers {
            let full = |part: &str| format!("{}.{layer}.{part}", names.block);
            let qkv: Vec<String> = names.qkv.iter().map(|part| full(part)).collect();
            layers.push(LayerPlan {
                ln1: finder.norm(&full(names.ln1), d_model, config.norm_affine)?,
                w_qkv: finder.linear(&qkv, d_model, 3 * d_attn, qkv_order, config.qkv_bias)?,
                w_o: finder.linear(&[full(names.w_o)], d_attn, d_model, order, config.attn_out_bias)?,
                ln2: finder.norm(&full(names.ln2), d_model, config.norm_affine)?,
                w_in: finder.linear(&[full(names.w_in)], d_model, d_mlp, order, config.mlp_bias)?,
                w_out: finder.linear(&[full(names.w_out)], d_mlp, d_model, order, config.mlp_bias)?,
            });
        }
        let ln_final = match spec.final_norm {
            true => finder.norm(names.ln_final, d_model, config.norm_affine)?,
            false => None,
        };
        let project_out = projection(&mut finder, "project_out", d_model, d_embed)?;

        let unembed_name = format!("{}.weight", names.unembed);
        let unembed_shape = [d_vocab, d_embed];
        let (unembed, tied_copy) = match spec.tied_unembed {
            false => (Some(finder.take(&unembed_name, &unembed_shape)?), None),
            true => (None, finder.take_copy(&unembed_name, &unembed_shape)?),
        };
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
            parameters,
            notes,
        })
    }

    /// Every tensor that one layer is made of.
    pub fn layer_tensors(&self, layer: usize) -> impl Iterator<Item = TensorId> {
        let LayerPlan { w_qkv, w_o, w_in, w_out, .. } = &self.layers[layer];
        [w_qkv, w_o, w_in, w_out].into_iter().flat_map(LinearPlan::tensors)
    }
}

/// How many ignored tensors a note names.
const MOST_NAMED: usize = 5;

/// Hands out tensors by canonical name, each once.
struct Finder<'a> {
    store: &'a TensorStore,
    names: &'static Names,
    left: BTreeMap<&'a str, TensorId>,
    taken: BTreeMap<String, TensorId>,
    notes: Vec<String>,
}

impl<'a> Finder<'a> {
    fn new(store: &'a TensorStore, names: &'static Names) -> Result<Self, LoadError> {
        let mut left = BTreeMap::new();
        let wrapper = names::wrapper(store.tensors.iter().map(|tensor| tensor.name.as_str()));
        let mut notes = Vec::new();
        if !wrapper.is_empty() {
            notes.push(format!(
                "{}: every tensor is named {wrapper}…, as a wrapped model saves itself; read without it",
                store.label
            ));
        }
        for (id, tensor) in store.tensors.iter().enumerate() {
            if let Some(earlier) = left.insert(names.canonical(&tensor.name[wrapper.len()..]), id) {
                let other = &store.tensors[earlier].name;
                return Err(LoadError::Malformed {
                    file: store.file_of(tensor).to_owned(),
                    problem: format!("holds one parameter under two names, {other:?} and {:?}", tensor.name),
                    mend: "save the checkpoint with one of them".to_owned(),
                });
            }
        }
        Ok(Finder { store, names, left, taken: BTreeMap::new(), notes })
    }

    /// A parameter that must be there.
    fn take(&mut self, name: &str, shape: &[usize]) -> Result<TensorId, LoadError> {
        let Some(id) = self.left.remove(name) else {
            return Err(LoadError::MissingTensor {
                file: self.store.label.clone(),
                tensor: name.to_owned(),
                shape: shape.to_vec(),
                mend: "use the config.json that belongs to this checkpoint, or fetch the checkpoint again"
                    .to_owned(),
            });
        };
        self.check(id, shape)?;
        self.taken.insert(name.to_owned(), id);
        Ok(id)
    }

    /// A further copy of a parameter, which may be there.
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

    fn norm(&mut self, name: &str, width: usize, affine: bool) -> Result<NormPlan, LoadError> {
        if !affine {
            return Ok(None);
        }
        let weight = self.take(&format!("{name}.weight"), &[width])?;
        Ok(Some((weight, self.take(&format!("{name}.bias"), &[width])?)))
    }

    fn linear(
        &mut self,
        parts: &[String],
        d_in: usize,
        d_out: usize,
        order: Order,
        bias: bool,
    ) -> Result<LinearPlan, LoadError> {
        let per_part = d_out / parts.len();
        let shape = if order == Order::Rows { [d_in, per_part] } else { [per_part, d_in] };
        let weight = parts
            .iter()
            .map(|name| self.take(&format!("{name}.weight"), &shape))
            .collect::<Result<_, _>>()?;
        let bias = match bias {
            true => parts
                .iter()
                .map(|name| self.take(&format!("{name}.bias"), &[per_part]))
                .collect::<Result<_, _>>()?,
            false => Vec::new(),
        };
        Ok(LinearPlan { d_in, d_out, weight, order, bias })
    }

    /// All parameters and notes; an error if the checkpoint holds more than known constants and what stands beside the
    /// decoder.
    fn finish(mut self) -> Result<(BTreeMap<String, TensorId>, Vec<String>), LoadError> {
        self.left.retain(|name, _| !self.names.is_buffer(name));
        match self.left.iter().find(|(name, _)| !self.names.is_beside(name)) {
            None => {
                let ignored: Vec<&str> =
                    self.left.values().map(|&id| self.store.tensors[id].name.as_str()).collect();
                if let Some((shown, more)) = ignored.split_at_checked(ignored.len().min(MOST_NAMED))
                    && !shown.is_empty()
                {
                    let more = if more.is_empty() { String::new() } else { format!(" and {} more", more.len()) };
                    self.notes.push(format!(
                        "{}: ignored, since {} has no such part: {}{more}",
                        self.store.label,
                        self.names.model_type,
                        shown.join(", ")
                    ));
                }
                Ok((self.taken, self.notes))
            }
            Some((name, &id)) => {
                let tensor: &Tensor = &self.store.tensors[id];
                let mend = if name.contains("lora") || name.contains("adapter") {
                    "merge the adapter into the weights and save them as one model"
                } else {
                    "use the config.json that belongs to this checkpoint, or save the checkpoint without it"
                };
                Err(LoadError::UnexpectedTensor {
                    file: self.store.file_of(tensor).to_owned(),
                    tensor: tensor.name.clone(),
                    architecture: self.names.model_type,
                    mend: mend.to_owned(),
                })
            }
        }
    }
}
