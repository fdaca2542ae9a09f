//! Checkpoints that are read, modified and written again.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use cs_engine::weights::Weights;
use cs_model::ModelFiles;
use cs_model::checkpoint::Checkpoint;
use cs_model::config::ModelConfig;
use cs_model::error::LoadError;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use tempfile::TempDir;

/// A tensor's type, shape and little-endian bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct Raw {
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    pub bytes: Vec<u8>,
}

impl Raw {
    pub fn f32(shape: &[usize], values: impl IntoIterator<Item = f32>) -> Self {
        let bytes = values.into_iter().flat_map(f32::to_le_bytes).collect();
        Raw { dtype: Dtype::F32, shape: shape.to_vec(), bytes }
    }

    /// Every element, decoded by the definition of its type.
    pub fn values(&self) -> Vec<f32> {
        let size = self.dtype.bitsize() / 8;
        self.bytes.chunks(size).map(|b| decode(self.dtype, b)).collect()
    }
}

fn decode(dtype: Dtype, b: &[u8]) -> f32 {
    match dtype {
        Dtype::F32 => f32::from_le_bytes(b.try_into().unwrap()),
        Dtype::F64 => f64::from_le_bytes(b.try_into().unwrap()) as f32,
        Dtype::BF16 => f32::from_bits(u32::from(u16::from_le_bytes(b.try_into().unwrap())) << 16),
        Dtype::F16 => {
            let bits = u16::from_le_bytes(b.try_into().unwrap());
            let (exponent, fraction) = (i32::from(bits >> 10 & 31), f32::from(bits & 1023));
            let magnitude = match exponent {
                0 => fraction * 2f32.powi(-24),
                31 => panic!("no golden value is infinite"),
                e => (1024.0 + fraction) * 2f32.powi(e - 25),
            };
            if bits >> 15 == 1 { -magnitude } else { magnitude }
        }
        other => panic!("{other}"),
    }
}

/// A model folder in memory.
#[derive(Clone)]
pub struct Folder {
    pub config: serde_json::Value,
    pub tensors: BTreeMap<String, Raw>,
}

pub fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

/// Names of all golden checkpoints except the one that is rejected for its norms.
pub fn golden_names() -> Vec<String> {
    let of = |file: &str| -> Vec<serde_json::Value> {
        serde_json::from_slice(&std::fs::read(golden(file)).unwrap()).unwrap()
    };
    let all = of("index.json").into_iter().chain(of("decoders.json"));
    let names = all.map(|c| c["name"].as_str().unwrap().to_owned());
    names.filter(|name| name != "stablelm-parallel").collect()
}

impl Folder {
    pub fn golden(name: &str) -> Self {
        let config =
            serde_json::from_slice(&std::fs::read(golden(name).join("config.json")).unwrap()).unwrap();
        let bytes = std::fs::read(golden(name).join("model.safetensors")).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let raw =
            |t: TensorView| Raw { dtype: t.dtype(), shape: t.shape().to_vec(), bytes: t.data().to_vec() };
        let tensors = file.tensors().into_iter().map(|(name, t)| (name, raw(t))).collect();
        Folder { config, tensors }
    }

    pub fn tensor(&mut self, name: &str) -> &mut Raw {
        self.tensors.get_mut(name).unwrap_or_else(|| panic!("no tensor {name}"))
    }

    pub fn serialize(&self) -> Vec<u8> {
        serialize(self.tensors.iter())
    }

    /// Writes `config.json` and `model.safetensors`.
    pub fn write(&self) -> TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("config.json"), self.config.to_string()).unwrap();
        std::fs::write(folder.path().join("model.safetensors"), self.serialize()).unwrap();
        folder
    }

    /// The weights loaded from the files of [`Folder::write`].
    pub fn load(&self) -> Result<(Checkpoint, Weights), LoadError> {
        load(self.write().path())
    }

    /// The error message of loading.
    pub fn error(&self) -> String {
        one_line(self.load().err().expect("this checkpoint must be refused"))
    }
}

pub fn serialize<'a>(tensors: impl Iterator<Item = (&'a String, &'a Raw)>) -> Vec<u8> {
    let views = tensors.map(|(name, t)| (name, TensorView::new(t.dtype, t.shape.clone(), &t.bytes).unwrap()));
    safetensors::serialize(views, None).unwrap()
}

pub fn load(folder: &Path) -> Result<(Checkpoint, Weights), LoadError> {
    let files = ModelFiles::folder(folder)?;
    let checkpoint = Checkpoint::open(&files, &ModelConfig::open(&files)?)?;
    let weights = cs_engine::load(&checkpoint)?;
    Ok((checkpoint, weights))
}

/// An error's message, which must be one line.
pub fn one_line(error: LoadError) -> String {
    let message = error.to_string();
    assert!(!message.contains('\n'), "{message}");
    message
}

/// Asserts that a message names each of `words`.
#[track_caller]
pub fn assert_names(message: &str, words: &[&str]) {
    for word in words {
        assert!(message.contains(word), "no {word:?} in: {message}");
    }
}
