//! A model that a command works on: from the name a user gives to a checkpoint ready to load.

use std::cell::OnceCell;
use std::path::Path;

use cs_circuits::prompts::{Token, Tokenize, TokenizeError};
use cs_circuits::scan::ScanOptions;
use cs_engine::decoder::Decoder;
use cs_engine::{Compute, Halves, Options};
use cs_model::ModelFiles;
use cs_model::ModelInfo;
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
    /// The commit on the Hub that its files belong to.
    pub commit: Option<String>,
    /// Its files, read as far as their headers.
    pub info: ModelInfo,
    /// What it runs on: the processor, unless a command says otherwise.
    pub compute: Compute,
    tokenizer: Option<Tokenizer>,
}

impl ModelHandle {
    /// How the `hf_name` of a shipped miniature begins.
    pub const BUILT_IN: &str = "built-in/";
    /// How the `hf_name` of a model that the caller had in memory begins.
    pub const IN_MEMORY: &str = "in-memory/";

    /// The model of this name: a shipped miniature, else a folder, else a model of the Hub that is in the cache
    /// ([`crate::downloads::fetch`] brings it there).
    ///
    /// # Errors
    /// An unknown name, a model that is not in the cache, or files that do not hold a checkpoint of a supported architecture.
    pub fn open(name: &str, display: Display) -> Result<Self, CliError> {
        let handle = Self::find(name)?;
        handle.tokenizer()?;
        handle.notes().for_each(|note| display.note(&one_line(note)));
        Ok(handle)
    }

    /// What a user should know about the files, a line each.
    pub fn notes(&self) -> impl Iterator<Item = &String> {
        self.info.checkpoint.notes().iter().chain(self.tokenizer.iter().flat_map(Tokenizer::notes))
    }

    /// As [`Self::open`], but for a model that need not have a tokenizer, and without showing its notes.
    ///
    /// # Errors
    /// As [`Self::open`].
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
        // The folder is called after the commit.
        handle.name = on_hub.name();
        handle.commit = Some(snapshot.commit);
        Ok(handle)
    }

    /// The model of these files; `family` is the one in tables where it is not the architecture's own.
    ///
    /// # Errors
    /// Files that do not hold a checkpoint of a supported architecture.
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
            tokenizer,
        })
    }

    /// The names in tables of several models, which must be different; without any, the shipped ones. No file is read for it.
    ///
    /// # Errors
    /// A name that is neither a model's nor a folder's; two models of one name.
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

    /// The name that [`Self::find`] gives a model.
    fn name_of(name: &str) -> Result<String, CliError> {
        if let Some(miniature) = miniatures::find(name) {
            return Ok(miniature.name.to_owned());
        }
        if Path::new(name).is_dir() {
            return Ok(ModelFiles::folder(name)?.name());
        }
        Ok(on_hub(name)?.name())
    }

    /// Opens several models, which must have different names; without any names, the shipped ones.
    ///
    /// # Errors
    /// As [`Self::open`] and [`Self::names`].
    pub fn open_all(given: &[String], display: Display) -> Result<Vec<Self>, CliError> {
        let names = Self::names(given)?;
        let given = if given.is_empty() { &names } else { given };
        given.iter().map(|name| Self::open(name, display)).collect()
    }

    /// The same, downloaded if need be, once those that are here have been found to be models.
    ///
    /// # Errors
    /// As [`Self::open_all`]; a model that cannot be had.
    pub fn fetch_all(given: &[String], display: Display) -> Result<Vec<Self>, CliError> {
        Self::names(given)?;
        if given.iter().any(|name| HubName::parse(name).is_some()) {
            let mut here = given.iter().filter(|name| HubName::parse(name).is_none());
            here.try_for_each(|name| Self::find(name)?.tokenizer().map(drop))?;
        }
        downloads::fetch(given, display)?;
        Self::open_all(given, display)
    }

    /// Says what models run on from now on, and which of them a card that the program chose does not take.
    pub fn run_on(handles: &mut [Self], compute: &Compute, display: Display) {
        for handle in handles {
            let (compute, why) = compute.for_model(handle.spec());
            if let Some(why) = why {
                display.note(&format!("{} runs on the processor: {why}", handle.name));
            }
            handle.compute = compute;
        }
    }

    /// How heads are ablated, where the memory that may be used is the device's: what is free on a card bounds a run there, and
    /// nothing else does.
    pub fn scan_options(&self, options: ScanOptions) -> ScanOptions {
        match self.compute.is_card() {
            true => ScanOptions { engine: Options { memory: usize::MAX >> 8 }, ..options },
            false => options,
        }
    }

    /// What its checkpoint stores numbers as.
    pub fn halves(&self) -> Halves {
        match &self.info.checkpoint.dtypes()[..] {
            [dtype] if dtype == "F16" => Halves::F16,
            [dtype] if dtype == "BF16" => Halves::Bf16,
            _ => Halves::None,
        }
    }

    /// Bytes of its weights where it runs: halves stay halves on a card, and float32 is as large in two parts of them.
    pub fn weight_bytes(&self) -> usize {
        let each = if self.compute.is_card() && self.halves() != Halves::None { 2 } else { 4 };
        each * self.info.checkpoint.n_params()
    }

    /// Loads the weights to where the model runs.
    ///
    /// # Errors
    /// Weights that are not finite, a file that can no longer be read, or a device that does not take them.
    pub fn load(&self) -> Result<Decoder, CliError> {
        let decoder = Decoder::new(self.spec().clone(), cs_engine::load(&self.info.checkpoint)?);
        Ok(decoder.on(&self.compute)?)
    }

    /// The weights, loaded when they are first asked for.
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
    /// As [`ModelHandle::load`].
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
