//! Checkpoints: maps the tensors of a model's files to parameters, and reads their values.
//!
//! [`Checkpoint::open`] only reads headers and assigns tensors to parameters ([`Plan`]); the engine then reads them from the
//! [`TensorStore`]. Tensors that are not parameters of the model are an error if they might change the result; constants
//! saved by older versions of Transformers (causal masks, rotary frequencies) are ignored, and so are other parts outside the
//! decoder (such as a classification head), with a note.

mod elements;
mod faults;
mod plan;
mod tensors;
mod torch;

use std::fmt;
use std::sync::OnceLock;

pub use plan::{LayerPlan, LinearPlan, MlpPlan, NormPlan, Order, Part, Plan};
pub use safetensors::Dtype;
pub use tensors::{Tensor, TensorId, TensorStore};

use rayon::prelude::*;
use sha2::{Digest, Sha256};

use crate::config::ModelConfig;
use crate::error::LoadError;
use crate::files::ModelFiles;
use crate::hex::hex;
use crate::memory;

/// A checkpoint whose names, shapes and types match its `config.json`; its weights stay on disk.
pub struct Checkpoint {
    store: TensorStore,
    plan: Plan,
    hash: OnceLock<String>,
}

impl Checkpoint {
    /// Reads the headers of `model.safetensors`, or of the shards that `model.safetensors.index.json` lists; if there is
    /// neither, those of `pytorch_model.bin` or its shards.
    ///
    /// # Errors
    /// No weight file, a broken one, or one with missing or unexpected parameters for `config`.
    pub fn open(files: &ModelFiles, config: &ModelConfig) -> Result<Self, LoadError> {
        let store = TensorStore::open(files)?;
        let plan = Plan::new(&store, config)?;
        Ok(Checkpoint { store, plan, hash: OnceLock::new() })
    }

    /// Remarks for the user about the files, one line each: names read without a prefix, ignored tensors.
    pub fn notes(&self) -> &[String] {
        &self.plan.notes
    }

    /// The tensor of each parameter.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The tensors and their values.
    pub fn store(&self) -> &TensorStore {
        &self.store
    }

    /// Checks that `need` bytes, which loading the weights takes, are free now, if the system reports it.
    ///
    /// # Errors
    /// [`LoadError::Memory`]
    pub fn check_memory(&self, need: u64) -> Result<(), LoadError> {
        match memory::available() {
            Some(available) if available < need => {
                Err(LoadError::Memory { file: self.store.label.clone(), need, available })
            }
            _ => Ok(()),
        }
    }

    /// Number of parameters; a tied unembedding counts once, and stored masks do not count.
    pub fn n_params(&self) -> usize {
        self.plan.parameters.values().map(|&id| self.store.tensors[id].n_elements()).sum()
    }

    /// The stored types of parameters, such as `F32`, sorted.
    pub fn dtypes(&self) -> Vec<String> {
        let mut dtypes: Vec<_> =
            self.plan.parameters.values().map(|&id| self.store.tensors[id].dtype.to_string()).collect();
        dtypes.sort_unstable();
        dtypes.dedup();
        dtypes
    }

    /// Memory for the loaded weights as float32, in bytes; the peak while loading is at most 1.2 times this
    /// (plus the largest block, in models with few blocks).
    pub fn weight_bytes(&self) -> usize {
        self.n_params() * size_of::<f32>()
    }

    /// SHA-256 of the parameters, in hexadecimal: over the lines `name dtype shape sha256-of-bytes` in order of
    /// name, without a file's prefix. The same weights have the same hash however they are split into files. The
    /// first call reads the files.
    pub fn weight_hash(&self) -> &str {
        self.hash.get_or_init(|| {
            let parameters: Vec<_> = self.plan.parameters.iter().collect();
            let lines: Vec<String> = parameters
                .into_par_iter()
                .map(|(name, &id)| {
                    let tensor = &self.store.tensors[id];
                    let mut digest = Sha256::new();
                    self.store.stream(tensor, |bytes| digest.update(bytes));
                    format!("{name} {} {:?} {}\n", tensor.dtype, tensor.shape, hex(&digest.finalize()))
                })
                .collect();
            hex(&Sha256::digest(lines.concat()))
        })
    }

    /// Releases the values after they have been loaded and hashed, so that their owner can free the memory; names,
    /// shapes and [`Self::weight_hash`] stay available.
    pub fn release_values(&mut self) {
        self.weight_hash();
        self.store.release_values();
    }
}

impl fmt::Debug for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.debug_struct("Checkpoint").field("file", &self.store.label).finish_non_exhaustive()
    }
}
