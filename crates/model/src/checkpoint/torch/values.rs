//! The values in a pickle of tensors.

use safetensors::Dtype;

/// Why a pickle cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(in crate::checkpoint) enum PickleError {
    /// A global that tensors do not need.
    #[error("uses Python's {0}, which tensors do not need: rejected without running anything")]
    Global(String),
    /// An opcode that tensors do not need.
    #[error(
        "uses pickle opcode {code:#04x} at byte {at}, which tensors do not need: rejected without running anything"
    )]
    Opcode {
        /// The opcode.
        code: u8,
        /// Byte offset.
        at: usize,
    },
    /// The pickle is truncated.
    #[error("is truncated within its pickle")]
    Truncated,
    /// The pickle is inconsistent.
    #[error("has an invalid pickle: {problem} at byte {at}")]
    Malformed {
        /// What is wrong.
        problem: &'static str,
        /// Byte offset.
        at: usize,
    },
}

pub(super) type Result<T> = std::result::Result<T, PickleError>;

/// The globals that tensors need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Global {
    OrderedDict,
    /// `torch._utils._rebuild_tensor`
    RebuildTensor,
    /// `torch._utils._rebuild_tensor_v2`
    RebuildTensorV2,
    /// `torch._utils._rebuild_parameter`
    RebuildParameter,
    /// The class of a storage, such as `torch.FloatStorage`.
    Storage(Dtype),
    /// A `torch.dtype`, such as `torch.float16`.
    Dtype,
}

impl Global {
    pub(super) fn find(module: &str, name: &str) -> Result<Self> {
        Ok(match (module, name) {
            ("collections", "OrderedDict") => Global::OrderedDict,
            ("torch._utils", "_rebuild_tensor") => Global::RebuildTensor,
            ("torch._utils", "_rebuild_tensor_v2") => Global::RebuildTensorV2,
            ("torch._utils", "_rebuild_parameter") => Global::RebuildParameter,
            ("torch", "FloatStorage") => Global::Storage(Dtype::F32),
            ("torch", "DoubleStorage") => Global::Storage(Dtype::F64),
            ("torch", "HalfStorage") => Global::Storage(Dtype::F16),
            ("torch", "BFloat16Storage") => Global::Storage(Dtype::BF16),
            ("torch", "LongStorage") => Global::Storage(Dtype::I64),
            ("torch", "IntStorage") => Global::Storage(Dtype::I32),
            ("torch", "ShortStorage") => Global::Storage(Dtype::I16),
            ("torch", "CharStorage") => Global::Storage(Dtype::I8),
            ("torch", "ByteStorage") => Global::Storage(Dtype::U8),
            ("torch", "BoolStorage") => Global::Storage(Dtype::BOOL),
            ("torch", "float16" | "float32" | "float64" | "bfloat16") => Global::Dtype,
            _ => {
                // Untrusted text in a message: keep it to one short line.
                let name = format!("{}.{}", module.escape_debug(), name.escape_debug());
                return Err(PickleError::Global(name.chars().take(100).collect()));
            }
        })
    }
}

/// A storage, as described in the pickle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Storage<'a> {
    pub(super) dtype: Dtype,
    /// The name of its data in the file.
    pub(super) key: &'a str,
    pub(super) n_elements: usize,
}

/// A view of a storage, in elements.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct View<'a> {
    pub(super) storage: Storage<'a>,
    pub(super) offset: usize,
    pub(super) shape: Vec<usize>,
    pub(super) strides: Vec<usize>,
}

/// A value on the stack; mutable or large values are in an arena.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Value<'a> {
    None,
    Bool(bool),
    Int(i64),
    /// A number that is never read.
    OtherNumber,
    Text(&'a str),
    /// In [`Pickle::sequences`].
    Tuple(usize),
    /// In [`Pickle::sequences`].
    List(usize),
    /// In [`Pickle::dicts`].
    Dict(usize),
    Global(Global),
    /// In [`Pickle::storages`].
    Storage(usize),
    /// In [`Pickle::views`].
    Tensor(usize),
}

/// A pickle's result, and the arenas of its values.
#[derive(Debug)]
pub(super) struct Pickle<'a> {
    pub(super) sequences: Vec<Vec<Value<'a>>>,
    pub(super) dicts: Vec<Vec<(Value<'a>, Value<'a>)>>,
    pub(super) storages: Vec<Storage<'a>>,
    pub(super) views: Vec<View<'a>>,
    pub(super) result: Value<'a>,
}
