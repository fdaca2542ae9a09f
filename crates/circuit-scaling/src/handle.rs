//! A command's model: from the user's name for it to a checkpoint that is ready to load.

use std::cell::OnceCell;
use std::path::Path;

use cs_circuits::prompts::{Token, Tokenize, TokenizeError};
use cs_circuits::scan::ScanOptions;
use cs_engine::decoder::Decoder;
use cs_engine::{Compute, EngineError, Halves, Options};
use cs_model::ModelFiles;
use cs_model::ModelInfo;
#[cfg(doc)]
use cs_model::error::LoadError;
use cs_model::spec::ModelSpec;
use cs_model::tokenizer::Tokenizer;

use crate::downloads::{self, HubName};
use crate::error::{CliError, one_line};
use crate::miniatures::{self, MINIATURES};
use crate::progress::Display;

/// A checkpoint whose headers, config and tokenizer have been read, but not its weights.
pub struct ModelHandle {
    /// Name in tables and files.
    pub name: String,
    /// Hugging Face id, or the folder.
    pub hf_name: String,
    /// Family in tables.
    pub family: String,
    /// The commit of its files on the Hub.
    pub commit: Option<String>,
    /// Its files, with headers read.
    pub info: ModelInfo,
    /// The device it runs on: the CPU, unless a command says otherwise.
    pub compute: Compute,
    /// Where remarks about its place on the device are shown.
    display: Option<Display>,
    tokenizer: Option<Tokenizer>,
}

impl ModelHandle {
    /// Prefix of a bundled miniature's `hf_name`.
    pub const BUILT_IN: &str = "built-in/";
    /// Prefix of the `hf_name` of a model from the caller's memory.
    pub const IN_MEMORY: &str = "in-memory/";

    /// The model with this name: a bundled miniature, else a folder, else a Hub model in the cache
    /// ([`crate::downloads::fetch`] downloads it).
    ///
    /// # Errors
    /// An unknown name, a model that is not in the cache, or files that are not a checkpoint of a supported architecture.
    pub fn open(name: &str, display: Display) -> Result<Self, CliError> {
        let handle = Self::find(name)?;
        handle.tokenizer()?;
        handle.notes().for_each(|note| display.note(&one_line(note)));
        Ok(handle)
    }

    /// Remarks for the user about the files, one line each.
    pub fn notes(&self) -> impl Iterator<Item = &String> {
        self.info.checkpoint.notes().iter().chain(self.tokenizer.iter().flat_map(Tokenizer::notes))
    }

    /// Like [`Self::open`], but the model need not have a tokenizer, and its notes are not shown.
    ///
    /// # Errors
    /// See [`Self::open`].
    pub fn find(name: &str) -> Result<Self, CliError> {
        if let Some(miniature) = miniatures::find(name) {
            let hf_name = format!("{}{}", Self::BUILT_IN, miniature.name);
            return Self::from_files(&miniature.files(), hf_name, Some(miniature.family));
        }
        if Path::new(name).is_dir() {
            return Self::from_files(&ModelFiles::folder(name)?, name.to_owned(), None);
        }
        let on_hub = on_hub(name)?;
        let snapshot = on_hub.cached()?;
        let files = ModelFiles::folder(&snapshot.folder)?;
        let family = on_hub.known.map(|known| known.family);
        let mut handle = Self::from_files(&files, on_hub.id.to_owned(), family)?;
        // The folder is named after the commit.
        handle.name = on_hub.name();
        handle.commit = Some(snapshot.commit);
        Ok(handle)
    }

    /// The model with these files; `family` overrides the architecture's family name in tables.
    ///
    /// # Errors
    /// Files that are not a checkpoint of a supported architecture.
    pub fn from_files(files: &ModelFiles, hf_name: String, family: Option<&str>) -> Result<Self, CliError> {
        let mut info = ModelInfo::open(files)?;
        let tokenizer = info.tokenizer.take();
        let family = family.unwrap_or(info.config.family.name);
        Ok(Self {
            name: info.name.clone(),
            hf_name,
            family: family.to_owned(),
            commit: None,
            info,
            compute: Compute::cpu(),
            display: None,
            tokenizer,
        })
    }

    /// The names in tables of several models, which must be different; by default the bundled ones. Reads no file.
    ///
    /// # Errors
    /// A name that is neither a model nor a folder; two models with the same name.
    pub fn names(given: &[String]) -> Result<Vec<String>, CliError> {
        if given.is_empty() {
            return Ok(MINIATURES.iter().map(|m| m.name.to_owned()).collect());
        }
        let names: Vec<String> = given.iter().map(|name| Self::name_of(name)).collect::<Result<_, _>>()?;
        match names.iter().enumerate().find(|(at, name)| names[..*at].contains(name)) {
            Some((_, name)) => Err(CliError::SameName { name: name.clone() }),
            None => Ok(names),
        }
    }

    /// A model's name as from [`Self::find`].
    fn name_of(name: &str) -> Result<String, CliError> {
        if let Some(miniature) = miniatures::find(name) {
            return Ok(miniature.name.to_owned());
        }
        if Path::new(name).is_dir() {
            return Ok(ModelFiles::folder(name)?.name());
        }
        Ok(on_hub(name)?.name())
    }

    /// Opens several models, which must have different names; by default the bundled ones.
    ///
    /// # Errors
    /// As [`Self::open`] and [`Self::names`].
    pub fn open_all(given: &[String], display: Display) -> Result<Vec<Self>, CliError> {
        let names = Self::names(given)?;
        let given = if given.is_empty() { &names } else { given };
        given.iter().map(|name| Self::open(name, display)).collect()
    }

    /// The same, but downloads missing models after checking the local ones.
    ///
    /// # Errors
    /// As [`Self::open_all`]; a model that cannot be downloaded.
    pub fn fetch_all(given: &[String], display: Display) -> Result<Vec<Self>, CliError> {
        Self::names(given)?;
        if given.iter().any(|name| HubName::parse(name).is_some()) {
            let mut here = given.iter().filter(|name| HubName::parse(name).is_none());
            here.try_for_each(|name| Self::find(name)?.tokenizer().map(drop))?;
        }
        downloads::fetch(given, display)?;
        Self::open_all(given, display)
    }

    /// Sets the device of models, and reports which of them run on the CPU because the GPU that the program
    /// chose cannot run them.
    pub fn run_on(handles: &mut [Self], compute: &Compute, display: Display) {
        for handle in handles {
            handle.choose(compute).iter().for_each(|line| display.note(line));
            handle.display = Some(display);
        }
    }

    /// Sets the model's device; returns a remark if that is the CPU because the GPU that the program chose cannot run the model.
    pub fn choose(&mut self, compute: &Compute) -> Option<String> {
        let (compute, why) = compute.for_model(self.spec());
        self.compute = compute;
        why.map(|why| format!("{} runs on the CPU: {why}", self.name))
    }

    /// Scan options for the model's device: on a GPU, a run is only limited by free GPU memory.
    pub fn scan_options(&self, options: ScanOptions) -> ScanOptions {
        match self.compute.is_card() {
            true => ScanOptions { engine: Options { memory: usize::MAX >> 8 }, ..options },
            false => options,
        }
    }

    /// The half-precision type of its checkpoint's weights, if any.
    pub fn halves(&self) -> Halves {
        match &self.info.checkpoint.dtypes()[..] {
            [dtype] if dtype == "F16" => Halves::F16,
            [dtype] if dtype == "BF16" => Halves::Bf16,
            _ => Halves::None,
        }
    }

    /// Memory for its weights on its device, in bytes: halves stay halves on a GPU, and float32 weights become two
    /// halves.
    pub fn weight_bytes(&self) -> usize {
        let each = if self.compute.is_card() && self.halves() != Halves::None { 2 } else { 4 };
        each * self.info.checkpoint.n_params()
    }

    /// Checks that enough host memory is free to load the weights onto the model's device.
    ///
    /// # Errors
    /// [`LoadError::Memory`]
    pub fn check_memory(&self) -> Result<(), CliError> {
        Ok(cs_engine::check_memory(&self.info.checkpoint, &self.compute)?)
    }

    /// Loads the weights onto the model's device.
    ///
    /// # Errors
    /// Weights that are not finite, a file that can no longer be read, or a device that cannot hold them.
    pub fn load(&self) -> Result<Decoder, CliError> {
        let loaded = Decoder::load(self.spec().clone(), &self.info.checkpoint, &self.compute);
        let decoder = loaded.map_err(|error| match error {
            EngineError::Load(error) => CliError::Load(*error),
            error => error.into(),
        })?;
        if let (Some(display), Some(note)) = (self.display, decoder.note()) {
            display.note(&format!("{}: {note}", self.name));
        }
        Ok(decoder)
    }

    /// The weights, loaded on first use.
    pub fn lazy(&self) -> LazyDecoder<'_> {
        LazyDecoder { handle: self, loaded: OnceCell::new() }
    }

    /// What the model computes.
    pub fn spec(&self) -> &ModelSpec {
        &self.info.config.spec
    }

    /// The tokenizer itself.
    ///
    /// # Errors
    /// A model without one.
    pub fn tokenizer(&self) -> Result<&Tokenizer, CliError> {
        self.tokenizer.as_ref().ok_or_else(|| CliError::NoTokenizer { model: self.hf_name.clone() })
    }
}

/// A model of the Hub by its name.
fn on_hub(name: &str) -> Result<HubName<'_>, CliError> {
    if Path::new(name).is_file() {
        return Err(CliError::ModelIsFile { name: name.into() });
    }
    HubName::parse(name).ok_or_else(|| {
        let miniatures = MINIATURES.iter().map(|m| m.name).collect::<Vec<_>>().join(", ");
        CliError::UnknownModel { name: name.into(), miniatures }
    })
}

/// A model whose weights may never be needed.
pub struct LazyDecoder<'a> {
    handle: &'a ModelHandle,
    loaded: OnceCell<Decoder>,
}

impl LazyDecoder<'_> {
    /// The loaded model.
    ///
    /// # Errors
    /// See [`ModelHandle::load`].
    pub fn get(&self) -> Result<&Decoder, CliError> {
        match self.loaded.get() {
            Some(decoder) => Ok(decoder),
            None => {
                let decoder = self.handle.load()?;
                Ok(self.loaded.get_or_init(|| decoder))
            }
        }
    }
}

impl Tokenize for ModelHandle {
    fn model(&self) -> &str {
        &self.name
    }

    fn hash(&self) -> &str {
        self.tokenizer.as_ref().map_or("", Tokenizer::hash)
    }

    fn bos_id(&self) -> Option<u32> {
        self.tokenizer.as_ref().and_then(Tokenizer::bos_id)
    }

    fn encode(&self, text: &str) -> Result<Vec<Token>, TokenizeError> {
        Ok(self.tokenizer()?.encode_with_spans(text)?)
    }

    fn decode(&self, ids: &[u32]) -> Result<String, TokenizeError> {
        Ok(self.tokenizer()?.decode(ids)?)
    }
}
