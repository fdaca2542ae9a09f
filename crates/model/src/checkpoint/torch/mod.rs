//! `pytorch_model.bin`: locates the tensors in a file written by `torch.save`.
//!
//! Since 1.6, PyTorch writes a zip archive of stored (never compressed) entries: `data.pkl`, which describes the
//! tensors, and one entry per storage. Older files are a sequence of pickles followed by the storages. In both
//! cases the storages are read in place from the mapped file.

mod pickle;
mod values;

use std::collections::HashMap;
use std::io::{Cursor, Read};
use std::ops::Range;

use safetensors::Dtype;
use zip::{CompressionMethod, ZipArchive};

pub(super) use values::PickleError;
use values::{Pickle, Storage, Value, View};

/// Why a file that should be from `torch.save` cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum TorchError {
    /// Neither of the two formats.
    #[error("is not a torch.save file")]
    NotTorch,
    /// The archive is damaged.
    #[error("is a damaged or truncated archive ({0})")]
    Zip(String),
    /// The archive is not from `torch.save`.
    #[error("is a zip archive, but not from torch.save: {0}")]
    Archive(String),
    /// The pickle, which is untrusted.
    #[error(transparent)]
    Pickle(#[from] PickleError),
    /// The saved object is not a state dict.
    #[error("contains {0} instead of a state dict of tensors")]
    NoStateDict(String),
    /// A tensor extends beyond its storage, or a storage beyond the file.
    #[error("describes a tensor {tensor:?} that does not match its data: {problem}")]
    Tensor {
        /// The tensor's name.
        tensor: String,
        /// What does not match.
        problem: String,
    },
}

type Result<T> = std::result::Result<T, TorchError>;

/// A tensor in a file.
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) shape: Vec<usize>,
    /// Strides in elements, by dimension; `None` if the tensor is in row-major order.
    pub(super) strides: Option<Vec<usize>>,
    pub(super) dtype: Dtype,
    /// The bytes between its first and last element.
    pub(super) range: Range<usize>,
}

/// The first bytes of a file from before PyTorch 1.6: a pickle of the number 0x1950a86a20f9469cfc6c.
const LEGACY: &[u8] = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.";

/// Maximum size of a pickle: those of real checkpoints are below a megabyte. Reading one takes up to a hundred times its
/// size in memory.
const MAX_PICKLE: u64 = 16 << 20;

/// The tensors of a file, in saved order.
pub(super) fn read(bytes: &[u8]) -> Result<Vec<Entry>> {
    if bytes.starts_with(b"PK") {
        zipped(bytes)
    } else if bytes.starts_with(LEGACY) {
        legacy(bytes)
    } else {
        Err(TorchError::NotTorch)
    }
}

fn zipped(bytes: &[u8]) -> Result<Vec<Entry>> {
    let damaged = |e: zip::result::ZipError| TorchError::Zip(e.to_string());
    let mut archive = ZipArchive::new(Cursor::new(bytes)).map_err(damaged)?;
    let root = archive
        .file_names()
        .find_map(|name| {
            let name = name.ok()?;
            name.strip_suffix("/data.pkl").filter(|root| !root.contains('/')).map(str::to_owned)
        })
        .ok_or_else(|| TorchError::Archive("it has no data.pkl".to_owned()))?;

    let mut small = |name: &str| -> Result<Option<Vec<u8>>> {
        let Some(index) = archive.index_for_name(&format!("{root}/{name}")) else { return Ok(None) };
        let file = archive.by_index(index).map_err(damaged)?;
        let mut content = Vec::new();
        // One byte more than allowed, to detect larger pickles.
        let n = file.take(MAX_PICKLE + 1).read_to_end(&mut content);
        let n = n.map_err(|e| TorchError::Zip(e.to_string()))?;
        if n as u64 > MAX_PICKLE {
            return Err(TorchError::Archive(format!("its {name} is too large for a checkpoint")));
        }
        Ok(Some(content))
    };
    let pickle = small("data.pkl")?.unwrap_or_default();
    if small("byteorder")?.is_some_and(|order| order.trim_ascii() == b"big") {
        return Err(TorchError::Archive("it is big-endian".to_owned()));
    }
    let pickle = pickle::read(&pickle, &mut 0)?;

    let mut places = HashMap::new();
    for storage in &pickle.storages {
        if places.contains_key(storage.key) {
            continue;
        }
        let name = format!("{root}/data/{}", storage.key);
        let Some(index) = archive.index_for_name(&name) else {
            return Err(TorchError::Archive(format!("it has no entry {name:?}")));
        };
        // Finds the start of the data without reading it.
        let file = archive.by_index_raw(index).map_err(damaged)?;
        if file.compression() != CompressionMethod::Stored || file.encrypted() {
            return Err(TorchError::Archive(format!("entry {name:?} is compressed or encrypted")));
        }
        let place = file
            .data_start()
            .and_then(|start| Some(usize::try_from(start).ok()?..usize::try_from(start + file.size()).ok()?))
            .filter(|range| range.end <= bytes.len())
            .ok_or_else(|| TorchError::Zip(format!("entry {name:?} extends beyond the end of the file")))?;
        places.insert(storage.key, place);
    }
    entries(&pickle, &places)
}

/// The legacy format: magic number, protocol version, the system's sizes, state dict and storage keys, each a pickle;
/// then, for each key, the number of elements (8 bytes) and the elements.
fn legacy(bytes: &[u8]) -> Result<Vec<Entry>> {
    let mut at = LEGACY.len();
    // The storages that follow may be of any size.
    let pickles = &bytes[..bytes.len().min(MAX_PICKLE as usize)];
    let version = pickle::read(pickles, &mut at)?.result;
    if version != Value::Int(1001) {
        return Err(TorchError::Archive("its protocol version is not 1001".to_owned()));
    }
    let system = pickle::read(pickles, &mut at)?;
    let little =
        |&(key, value): &(Value, Value)| (key, value) == (Value::Text("little_endian"), Value::Bool(false));
    if system.dicts.iter().flatten().any(little) {
        return Err(TorchError::Archive("it is big-endian".to_owned()));
    }
    let state = pickle::read(pickles, &mut at)?;
    let keys = pickle::read(pickles, &mut at)?;
    let Value::List(list) = keys.result else {
        return Err(TorchError::Archive("it lists no storages".to_owned()));
    };
    let by_key: HashMap<&str, &Storage> = state.storages.iter().map(|s| (s.key, s)).collect();
    let mut places = HashMap::new();
    for key in &keys.sequences[list] {
        let Value::Text(key) = *key else {
            return Err(TorchError::Archive("a storage's key is not text".to_owned()));
        };
        let storage = by_key
            .get(key)
            .ok_or_else(|| TorchError::Archive(format!("it has a storage {key:?} without a tensor")))?;
        let short = || TorchError::Zip(format!("storage {key:?} extends beyond the end of the file"));
        let counted = bytes[at..].first_chunk().map(|n| u64::from_le_bytes(*n)).ok_or_else(short)?;
        if counted != storage.n_elements as u64 {
            return Err(TorchError::Archive(format!(
                "storage {key:?} has {counted} elements instead of {}",
                storage.n_elements
            )));
        }
        let start = at + 8;
        let end = storage.n_elements.checked_mul(size(storage.dtype)).and_then(|n| start.checked_add(n));
        let end = end.filter(|&end| end <= bytes.len()).ok_or_else(short)?;
        places.insert(key, start..end);
        at = end;
    }
    entries(&state, &places)
}

/// Bytes per element.
fn size(dtype: Dtype) -> usize {
    dtype.bitsize() / 8
}

/// The name and place of every tensor of the state dict.
fn entries(pickle: &Pickle, places: &HashMap<&str, Range<usize>>) -> Result<Vec<Entry>> {
    let Value::Dict(dict) = pickle.result else {
        return Err(TorchError::NoStateDict(kind(pickle.result).to_owned()));
    };
    let mut out = Vec::with_capacity(pickle.dicts[dict].len());
    for &(key, value) in &pickle.dicts[dict] {
        let Value::Text(name) = key else {
            return Err(TorchError::NoStateDict(format!("a dict with {} among its keys", kind(key))));
        };
        let Value::Tensor(view) = value else {
            return Err(TorchError::NoStateDict(format!("{} under {name:?}", kind(value))));
        };
        out.push(entry(name, &pickle.views[view], places)?);
    }
    Ok(out)
}

fn entry(name: &str, view: &View, places: &HashMap<&str, Range<usize>>) -> Result<Entry> {
    let wrong = |problem: String| TorchError::Tensor { tensor: name.to_owned(), problem };
    let &View { storage: Storage { dtype, key, n_elements }, offset, ref shape, ref strides } = view;
    let place = places.get(key).ok_or_else(|| wrong(format!("the file has no storage {key:?}")))?;
    if n_elements.checked_mul(size(dtype)) != Some(place.len()) {
        return Err(wrong(format!(
            "storage {key:?} has {} bytes instead of {n_elements} elements of {dtype}",
            place.len()
        )));
    }
    // The number of elements, and the distance from the first to past the last.
    let extent = || -> Option<(usize, usize)> {
        let n = shape.iter().try_fold(1usize, |n, &size| n.checked_mul(size))?;
        if n == 0 {
            return Some((0, 0));
        }
        let last = shape
            .iter()
            .zip(strides)
            .try_fold(0usize, |at, (&size, &stride)| at.checked_add((size - 1).checked_mul(stride)?))?;
        Some((n, last.checked_add(1)?))
    };
    let (n, extent) = extent().ok_or_else(|| wrong(format!("shape {shape:?}, strides {strides:?}")))?;
    let end = offset.checked_add(extent).filter(|&end| end <= n_elements);
    let end = end.ok_or_else(|| {
        wrong(format!("shape {shape:?}, strides {strides:?} at {offset} in a storage of {n_elements}"))
    })?;
    // With a stride of zero, a small file could describe any amount of memory.
    if n > n_elements {
        return Err(wrong(format!("shape {shape:?} repeats a storage of {n_elements} elements")));
    }
    // Without elements any strides are contiguous, and the other sizes may be arbitrary.
    let contiguous = n == 0 || {
        let mut expected = 1;
        shape.iter().zip(strides).rev().all(|(&size, &stride)| {
            // The stride of a dimension of one element is never used.
            let fits = size == 1 || stride == expected;
            expected *= size;
            fits
        })
    };
    Ok(Entry {
        name: name.to_owned(),
        shape: shape.clone(),
        strides: (!contiguous).then(|| strides.clone()),
        dtype,
        range: place.start + offset * size(dtype)..place.start + end * size(dtype),
    })
}

/// A value's name in messages.
fn kind(value: Value) -> &'static str {
    match value {
        Value::None => "None",
        Value::Bool(_) => "a boolean",
        Value::Int(_) | Value::OtherNumber => "a number",
        Value::Text(_) => "a text",
        Value::Tuple(_) => "a tuple",
        Value::List(_) => "a list",
        Value::Dict(_) => "a dict",
        Value::Global(_) => "a class or type",
        Value::Storage(_) => "a bare storage",
        Value::Tensor(_) => "a single tensor",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_without_elements_do_not_multiply_beyond_the_machine() {
        let storage = Storage { dtype: Dtype::F32, key: "0", n_elements: 1 };
        let places = HashMap::from([("0", 0..4)]);
        let view = |shape: &[usize], strides: &[usize]| View {
            storage,
            offset: 0,
            shape: shape.to_vec(),
            strides: strides.to_vec(),
        };
        // Contiguous according to its strides, which are products of sizes.
        let empty = entry("w", &view(&[0, 1 << 40, 1 << 40], &[0, 1 << 40, 1]), &places).unwrap();
        assert_eq!((empty.range, empty.strides), (0..0, None));
        assert!(entry("w", &view(&[1 << 40, 1 << 40, 0], &[0, 1 << 40, 1]), &places).is_err());
        assert!(entry("w", &view(&[1 << 40, 1 << 40], &[1 << 40, 1]), &places).is_err());
    }
}
