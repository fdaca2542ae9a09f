//! A loaded model: tokens, logits with edits, and activations. [`crate::experiment`] runs tasks on it.

use std::ops::ControlFlow;

use cs_analysis::head_id::HeadId;
use cs_circuits::scan::check_heads;
use cs_engine::decoder::Decoder;
use cs_engine::device::unused_cards;
use cs_engine::intervention::Branch;
use cs_engine::{Compute, Device, DeviceChoice, Options, Precision, Progress, Reading, Receiver};
use cs_model::ModelFiles;
use cs_model::spec::ModelSpec;
use cs_model::tokenizer::Tokenizer;

use crate::downloads;
use crate::edit::{self, HeadEdit};
use crate::error::CliError;
use crate::handle::ModelHandle;
use crate::progress::{Display, Mode};

/// Receives the progress of a computation and may stop it.
pub type Observer<'a> = &'a mut dyn FnMut(Progress) -> ControlFlow<()>;

/// An [`Observer`] that does nothing: `&mut silent`.
pub fn silent(_: Progress) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// A model in memory, ready to run.
pub struct Model {
    pub(crate) handle: ModelHandle,
    pub(crate) decoder: Decoder,
    device_notes: Vec<String>,
}

impl Model {
    /// The model with this name, on the CPU: a bundled miniature, a checkpoint folder, a published model or a Hugging Face id,
    /// optionally with `@` and a revision. Downloads it if it is not in the Hugging Face cache.
    ///
    /// # Errors
    /// An unknown name, a failed download, or files that are not a checkpoint of a supported architecture.
    pub fn load(name: &str) -> Result<Self, CliError> {
        Self::load_on(name, &DeviceChoice::Only(Device::Cpu), None)
    }

    /// Like [`Self::load`], on a device: parameters go there straight from their files. Without a precision, the device's default.
    ///
    /// # Errors
    /// As [`Self::load`]; a device that is unavailable or cannot hold the model, or an unsupported precision.
    pub fn load_on(
        name: &str,
        device: &DeviceChoice,
        precision: Option<Precision>,
    ) -> Result<Self, CliError> {
        // Download bars are only shown on terminals.
        downloads::fetch(
            &[name.to_owned()],
            Display { mode: Mode::Bars, verbose: false, whole: None, share: None },
        )?;
        Self::place(ModelHandle::find(name)?, device, precision)
    }

    /// Loads a model to a device.
    fn place(
        mut handle: ModelHandle,
        device: &DeviceChoice,
        precision: Option<Precision>,
    ) -> Result<Self, CliError> {
        let compute = Compute::choose(device, precision)?;
        let unused = *device == DeviceChoice::Auto && !compute.is_card();
        let mut device_notes = if unused { unused_cards() } else { vec![] };
        device_notes.extend(handle.choose(&compute));
        let decoder = handle.load()?;
        device_notes.extend(decoder.note().map(str::to_owned));
        Ok(Self { handle, decoder, device_notes })
    }

    /// A model on the CPU from the caller's files or parameters, which it does not retain.
    ///
    /// # Errors
    /// Files that are not a checkpoint of a supported architecture.
    pub fn from_files(files: &ModelFiles) -> Result<Self, CliError> {
        Self::from_files_on(files, &DeviceChoice::Only(Device::Cpu), None)
    }

    /// Like [`Self::from_files`], on a device. Without a precision, the device's default.
    ///
    /// # Errors
    /// As [`Self::from_files`]; a device that is unavailable or cannot hold the model, or an unsupported precision.
    pub fn from_files_on(
        files: &ModelFiles,
        device: &DeviceChoice,
        precision: Option<Precision>,
    ) -> Result<Self, CliError> {
        let hf_name = format!("{}{}", ModelHandle::IN_MEMORY, files.name());
        let mut model = Self::place(ModelHandle::from_files(files, hf_name, None)?, device, precision)?;
        model.handle.info.checkpoint.release_values();
        Ok(model)
    }

    /// The device it runs on.
    pub fn compute(&self) -> &Compute {
        self.decoder.compute()
    }

    /// Name in tables and files.
    pub fn name(&self) -> &str {
        &self.handle.name
    }

    /// Hugging Face id, the folder, or `built-in/` or `in-memory/` and the name.
    pub fn hf_name(&self) -> &str {
        &self.handle.hf_name
    }

    /// Family in tables.
    pub fn family(&self) -> &str {
        &self.handle.family
    }

    /// Number of parameters; a tied unembedding counts once.
    pub fn n_params(&self) -> usize {
        self.handle.info.checkpoint.n_params()
    }

    /// SHA-256 of the parameters, in hexadecimal.
    pub fn weight_hash(&self) -> &str {
        self.handle.info.checkpoint.weight_hash()
    }

    /// Remarks for the user about the model's files, one line each.
    pub fn notes(&self) -> impl Iterator<Item = &String> {
        self.handle.notes()
    }

    /// Remarks about where it runs, one line each: why a GPU is not used, or how much of the model is streamed.
    pub fn device_notes(&self) -> &[String] {
        &self.device_notes
    }

    /// What it computes.
    pub fn spec(&self) -> &ModelSpec {
        self.decoder.spec()
    }

    /// Its tokenizer, which is not needed for prompts given as token ids.
    ///
    /// # Errors
    /// A model without one.
    pub fn tokenizer(&self) -> Result<&Tokenizer, CliError> {
        self.handle.tokenizer()
    }

    /// All heads, ordered by layer and head.
    pub fn heads(&self) -> Vec<HeadId> {
        HeadId::all(self.spec().n_layers as u32, self.spec().n_heads as u32).collect()
    }

    /// Token ids of a text, starting with one BOS if the model has one.
    ///
    /// # Errors
    /// A text that the tokenizer rejects, or a model without a tokenizer.
    pub fn tokens(&self, text: &str) -> Result<Vec<u32>, CliError> {
        Ok(self.tokenizer()?.encode_with_bos(text)?)
    }

    /// Logits at each prompt's last token, with all `edits` applied: `[n_prompts]` of `[n_read]`, in the order of `read`
    /// (token ids), or of the whole vocabulary. Prompts are token ids, including BOS, as from [`Self::tokens`].
    ///
    /// # Errors
    /// No prompts; a head, token or edit that the model does not have; sources or references that do not match the
    /// prompts.
    pub fn logits(
        &self,
        prompts: &[Vec<u32>],
        edits: &[HeadEdit],
        read: Option<&[u32]>,
        options: Options,
        observe: Observer<'_>,
    ) -> Result<Vec<Vec<f64>>, CliError> {
        self.check_heads(edits.iter().map(|edit| edit.head))?;
        let (mut asked, branch) = edit::branch(prompts, edits)?;
        let whole: Vec<u32> = (0..self.spec().d_vocab as u32).collect();
        let read = read.unwrap_or(&whole);
        asked.iter_mut().for_each(|prompt| prompt.read = read.to_vec());
        // Without edits there is only the plain run.
        let branches: Vec<Branch> = if edits.is_empty() { vec![] } else { vec![branch] };
        let branch = branches.first().map(|_| 0);
        let of = vec![Vec::new(); prompts.len()];
        let mut logits = LogitsOf { branch, n_read: read.len(), of, observe };
        cs_engine::run(&self.decoder, &asked, &branches, options, &mut logits)?;
        Ok(logits.of)
    }

    /// Rejects heads that the model does not have.
    ///
    /// # Errors
    /// The first of them.
    pub fn check_heads(&self, heads: impl IntoIterator<Item = HeadId>) -> Result<(), CliError> {
        let heads: Vec<HeadId> = heads.into_iter().collect();
        check_heads(self.spec(), &heads)
            .map_err(|source| CliError::Scan { model: self.name().to_owned(), source })
    }
}

/// Records one run's logits and ignores the others.
struct LogitsOf<'a> {
    branch: Option<usize>,
    n_read: usize,
    of: Vec<Vec<f64>>, // [n_prompts] of [n_read]
    observe: Observer<'a>,
}

impl Receiver for LogitsOf<'_> {
    fn reading(&mut self, reading: Reading<'_>) {
        if reading.branch != self.branch || self.n_read == 0 {
            return;
        }
        for (&prompt, logits) in reading.prompts.iter().zip(reading.logits.chunks_exact(self.n_read)) {
            self.of[prompt] = logits.to_vec();
        }
    }

    fn progress(&mut self, progress: Progress) -> ControlFlow<()> {
        (self.observe)(progress)
    }
}
