//! What can go wrong between a model's files and its `ModelInfo`, each as one line that names the file, the
//! field and the fix.

/// A key of `config.json` that cannot be respected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}: {key:?}{} {problem}; {fix}", self.value.as_ref().map(|v| format!(": {v}")).unwrap_or_default())]
pub struct ConfigError {
    /// The file, as the user knows it.
    pub file: String,
    /// The offending key.
    pub key: String,
    /// Its value as JSON, shortened; `None` if the key is missing.
    pub value: Option<String>,
    /// What is wrong with it.
    pub problem: String,
    /// What the user can do.
    pub fix: String,
}

/// A model that cannot be loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The folder does not exist, or is not a folder.
    #[error("{path}: no such model folder; give a folder that holds config.json and model.safetensors")]
    NoSuchFolder {
        /// The path as given.
        path: String,
    },
    /// A file that every model needs is not there.
    #[error("{file}: no such file; {fix}")]
    MissingFile {
        /// The path of the missing file.
        file: String,
        /// What the user can do.
        fix: String,
    },
    /// The operating system refused.
    #[error("{file}: cannot be read: {source}; check the path and its permissions")]
    Io {
        /// The path of the file.
        file: String,
        /// The system's error.
        source: std::io::Error,
    },
    /// `config.json` asks for an unsupported computation, or contradicts itself.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A file is invalid: broken JSON, or a truncated or wrong header.
    #[error("{file}: {problem}; {fix}")]
    Malformed {
        /// The path of the file.
        file: String,
        /// What is wrong.
        problem: String,
        /// What the user can do.
        fix: String,
    },
    /// The architecture needs a parameter that the checkpoint lacks.
    #[error("{file}: tensor {tensor:?} of shape {shape:?} is missing; {fix}")]
    MissingTensor {
        /// The weight file, or the index of several.
        file: String,
        /// The expected name, without any prefix that the file uses.
        tensor: String,
        /// Its shape according to `config.json`.
        shape: Vec<usize>,
        /// What the user can do.
        fix: String,
    },
    /// The checkpoint has a parameter that the architecture lacks.
    #[error("{file}: tensor {tensor:?} has no place in {architecture}; {fix}")]
    UnexpectedTensor {
        /// The weight file.
        file: String,
        /// Its name in the file.
        tensor: String,
        /// The architecture according to `config.json`.
        architecture: &'static str,
        /// What the user can do.
        fix: String,
    },
    /// A tensor's shape disagrees with `config.json`.
    #[error(
        "{file}: tensor {tensor:?} has shape {found:?}, but config.json asks for {expected:?}; \
         use the config.json that belongs to this checkpoint"
    )]
    Shape {
        /// The weight file.
        file: String,
        /// Its name in the file.
        tensor: String,
        /// The shape in the file.
        found: Vec<usize>,
        /// The shape that follows from `config.json`.
        expected: Vec<usize>,
    },
    /// A tensor is stored in an unsupported type.
    #[error(
        "{file}: tensor {tensor:?} is stored as {dtype}, which is not supported; \
         save the checkpoint in float32, float16 or bfloat16"
    )]
    Dtype {
        /// The weight file.
        file: String,
        /// Its name in the file.
        tensor: String,
        /// The type according to the file's header.
        dtype: String,
    },
    /// The weights do not fit into memory.
    #[error(
        "{file}: loading its weights takes {} of memory, but only {} are free; \
         free some, or use a smaller model or a larger machine",
        gib(.need), gib(.available)
    )]
    Memory {
        /// The weight file, or the index of several.
        file: String,
        /// Bytes needed to load the weights.
        need: u64,
        /// Bytes of free memory.
        available: u64,
    },
    /// A parameter is not finite.
    #[error(
        "{file}: tensor {tensor:?} holds {value} at element {index}; \
         the checkpoint is damaged or its training diverged: fetch it again"
    )]
    NonFinite {
        /// The weight file.
        file: String,
        /// Its name in the file.
        tensor: String,
        /// Position in row-major order.
        index: usize,
        /// `NaN`, `inf` or `-inf`; also for a float64 beyond float32's range.
        value: f32,
    },
    /// The tokenizer's files are invalid, or do not match the model.
    #[error("{file}: {problem}; {fix}")]
    Tokenizer {
        /// The path of the file.
        file: String,
        /// What is wrong.
        problem: String,
        /// What the user can do.
        fix: String,
    },
}

/// Bytes in GiB, to one decimal.
fn gib(bytes: &u64) -> String {
    format!("{:.1} GiB", *bytes as f64 / f64::from(1 << 30))
}
