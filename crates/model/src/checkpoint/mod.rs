//! Checkpoints: which tensor of a model's files is which parameter, and its values.
//!
//! [`Checkpoint::open`] reads headers only and settles which tensor becomes which parameter ([`Plan`]); what runs the
//! model then reads them from the [`TensorStore`]. What a file holds beyond the model's parameters is an error where it might
//! change the result; constants (causal masks, rotary frequencies) that older versions of Transformers saved along are left
//! out, and other parts beside the decoder (a classifier's head) are left out and named.

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

/// A checkpoint whose names, shapes and types agree with its `config.json`; its weights stay on disk.
pub struct Checkpoint {
    store: TensorStore,
    plan: Plan,
    hash: OnceLock<String>,
}

impl Checkpoint {
    /// Reads the headers of `model.safetensors`, or of the shards that `model.safetensors.index.json` lists; where there
    /// is neither, those of `pytorch_model.bin` or its shards.
    ///
    /// # Errors
    /// No weight file, a broken one, or one that lacks a parameter that `config` calls for or holds one that it denies.
    pub fn open(files: &ModelFiles, config: &ModelConfig) -> Result<Self, LoadError> {
        let store = TensorStore::open(files)?;
        let plan = Plan::new(&store, config)?;
        Ok(Checkpoint { store, plan, hash: OnceLock::new() })
    }

    /// What a user should know of the files, a line each: names that were read without a prefix, tensors that were left out.
    pub fn notes(&self) -> &[String] {
        &self.plan.notes
    }

    /// Which tensor becomes which parameter.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The tensors and their values.
    pub fn store(&self) -> &TensorStore {
        &self.store
    }

    /// Whether so many bytes, which loading the weights takes, are free now, where the system tells.
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

    /// Number of parameters; a tied unembedding counts once, stored masks not at all.
    pub fn n_params(&self) -> usize {
        self.plan.parameters.values().map(|&id| self.store.tensors[id].n_elements()).sum()
    }

    /// The types that parameters are stored in, such as `F32`, sorted.
    pub fn dtypes(&self) -> Vec<String> {
        let mut dtypes: Vec<_> =
            self.plan.parameters.values().map(|&id| self.store.tensors[id].dtype.to_string()).collect();
        dtypes.sort_unstable();
        dtypes.dedup();
        dtypes
    }

    /// Bytes of memory that the loaded weights take, as float32; loading peaks at no more than 1.2 times this
    /// (plus the largest block, in models of a few blocks).
    pub fn weight_bytes(&self) -> usize {
        self.n_params() * size_of::<f32>()
    }

    /// SHA-256, in hexadecimal, of the parameters: over the lines `name dtype shape sha256-of-bytes` in order of
    /// name, without the prefix that a file may use. The same weights have the same hash however they are split
    /// into files. The files are read once more for it, on the first call.
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

    /// Lets go of the values once they are loaded and hashed, so that their owner can have the memory back; names,
    /// shapes and [`Self::weight_hash`] stay.
    pub fn let_go(&mut self) {
        self.weight_hash();
        self.store.let_go();
    }
}

impl fmt::Debug for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.debug_struct("Checkpoint").field("file", &self.store.label).finish_non_exhaustive()
    }
}
