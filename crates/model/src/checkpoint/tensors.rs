//! The tensors of a checkpoint in its files: safetensors, or from `torch.save`.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Component, Path};

use rayon::prelude::*;
use safetensors::{Dtype, SafeTensors};
use serde::Deserialize;

use super::elements::{decode, gather};
use super::faults::{header_error, torch_error};
use super::torch;
use crate::error::LoadError;
use crate::files::{FileBytes, InMemory, ModelFiles};

/// Index of a tensor in [`TensorStore::tensors`].
pub type TensorId = usize;

/// One weight file, mapped.
struct WeightFile {
    label: String,
    bytes: FileBytes,
}

/// A tensor's place in its file.
pub struct Tensor {
    /// The name in the file, prefix included.
    pub name: String,
    /// Sizes of its dimensions, outermost first.
    pub shape: Vec<usize>,
    /// The type of its stored elements.
    pub dtype: Dtype,
    file: usize,
    /// Byte range in the file, from the first element to past the last.
    range: Range<usize>,
    /// Strides in elements, by dimension; `None` if the tensor is in row-major order.
    strides: Option<Vec<usize>>,
}

impl Tensor {
    /// Product of the shape.
    pub fn n_elements(&self) -> usize {
        self.shape.iter().product() // the header's checks rule out overflow
    }
}

/// All tensors of a checkpoint, in one file or several.
pub struct TensorStore {
    files: Vec<WeightFile>,
    /// File by file, in file order.
    pub tensors: Vec<Tensor>,
    /// The checkpoint's file name in messages: that of the weights, or of the index of their shards.
    pub label: String,
}

/// A format of weight files.
#[derive(Clone, Copy)]
struct Format {
    /// The single file with all weights.
    single: &'static str,
    /// The index of several files.
    index: &'static str,
    add_file: fn(&mut TensorStore, String, FileBytes) -> Result<(), LoadError>,
}

/// In order of preference.
const FORMATS: [Format; 2] = [
    Format {
        single: "model.safetensors",
        index: "model.safetensors.index.json",
        add_file: TensorStore::add_safetensors,
    },
    Format {
        single: "pytorch_model.bin",
        index: "pytorch_model.bin.index.json",
        add_file: TensorStore::add_torch,
    },
];

/// The needed part of an index of shards.
#[derive(Deserialize)]
struct ShardIndex {
    weight_map: BTreeMap<String, String>,
}

impl TensorStore {
    /// Maps a model's weight files and reads their headers.
    pub fn open(files: &ModelFiles) -> Result<Self, LoadError> {
        let mut store = TensorStore { files: Vec::new(), tensors: Vec::new(), label: String::new() };
        if let Some(model) = files.in_memory() {
            store.add_in_memory(model)?;
            return Ok(store);
        }
        for format in FORMATS {
            if let Some(bytes) = files.map(format.single)? {
                store.label = files.label(format.single);
                (format.add_file)(&mut store, files.label(format.single), bytes)?;
                return Ok(store);
            }
            if let Some(index) = files.read(format.index)? {
                store.label = files.label(format.index);
                store.add_shards(files, format, &index)?;
                return Ok(store);
            }
        }
        Err(LoadError::MissingFile {
            file: files.label(FORMATS[0].single),
            fix: "a model's folder holds config.json and model.safetensors or pytorch_model.bin (or shards and \
                   their index)"
                .to_owned(),
        })
    }

    /// Adds the parameters of a model in memory, each as a separate file; those that share bytes share a file.
    fn add_in_memory(&mut self, model: &InMemory) -> Result<(), LoadError> {
        self.label.clone_from(&model.name);
        let mut file_at: BTreeMap<(usize, usize), usize> = BTreeMap::new();
        for tensor in &model.tensors {
            let bytes = FileBytes::Shared(tensor.bytes.clone());
            let size = tensor.shape.iter().try_fold(tensor.dtype.bitsize() / 8, |n, &d| n.checked_mul(d));
            if size != Some(bytes.len()) {
                return Err(LoadError::Malformed {
                    file: model.name.clone(),
                    problem: format!(
                        "tensor {:?} of type {} and shape {:?} has {} bytes",
                        tensor.name,
                        tensor.dtype,
                        tensor.shape,
                        bytes.len()
                    ),
                    fix: "pass each parameter as a whole".to_owned(),
                });
            }
            let range = 0..bytes.len();
            let file = *file_at.entry((bytes.as_ptr().addr(), bytes.len())).or_insert(self.files.len());
            if file == self.files.len() {
                self.files.push(WeightFile { label: model.name.clone(), bytes });
            }
            let (name, shape, dtype) = (tensor.name.clone(), tensor.shape.clone(), tensor.dtype);
            self.tensors.push(Tensor { name, shape, dtype, file, range, strides: None });
        }
        Ok(())
    }

    /// Releases all values; none may be read afterwards.
    pub(crate) fn release_values(&mut self) {
        self.files.iter_mut().for_each(|file| file.bytes = FileBytes::Static(&[]));
    }

    fn add_shards(&mut self, files: &ModelFiles, format: Format, index: &[u8]) -> Result<(), LoadError> {
        let label = self.label.clone();
        let malformed = |problem: String| LoadError::Malformed {
            file: label.clone(),
            problem,
            fix: "fetch the file again".to_owned(),
        };
        let index: ShardIndex = serde_json::from_slice(index)
            .map_err(|e| malformed(format!("is not an index of shards with a \"weight_map\" ({e})")))?;
        let shards: BTreeSet<&str> = index.weight_map.values().map(String::as_str).collect();
        for shard in shards {
            // A path with a root, a drive or `..` could name any file of the machine.
            let inside = Path::new(shard).components().all(|c| matches!(c, Component::Normal(_)));
            if !inside || shard.is_empty() || shard.contains('\\') {
                return Err(malformed(format!(
                    "names the shard {shard:?}, which is outside the model's folder"
                )));
            }
            let Some(bytes) = files.map(shard)? else {
                return Err(LoadError::MissingFile {
                    file: files.label(shard),
                    fix: format!("{} lists it: fetch it too", format.index),
                });
            };
            (format.add_file)(self, files.label(shard), bytes)?;
        }
        let mut present = BTreeSet::new();
        for tensor in &self.tensors {
            if !present.insert(tensor.name.as_str()) {
                return Err(malformed(format!("lists shards that both contain tensor {:?}", tensor.name)));
            }
        }
        match index.weight_map.iter().find(|(name, _)| !present.contains(name.as_str())) {
            Some((name, shard)) => {
                Err(malformed(format!("places tensor {name:?} in {shard:?}, which does not contain it")))
            }
            None => Ok(()),
        }
    }

    /// Reads a safetensors header; the `safetensors` crate checks that the tensors' byte ranges agree with their
    /// shapes, do not overlap, and cover the file to its last byte.
    fn add_safetensors(&mut self, label: String, bytes: FileBytes) -> Result<(), LoadError> {
        let (header_len, header) =
            SafeTensors::read_metadata(&bytes).map_err(|e| header_error(&label, &bytes, &e))?;
        let data_start = 8 + header_len;
        for (name, info) in header.tensors() {
            let (start, end) = info.data_offsets;
            self.tensors.push(Tensor {
                name,
                shape: info.shape.clone(),
                dtype: info.dtype,
                file: self.files.len(),
                range: data_start + start..data_start + end,
                strides: None,
            });
        }
        // The header is parsed into a hash map; sorting by file order, which is unique, makes messages reproducible.
        self.tensors.sort_by(|a, b| (a.file, a.range.start, &a.name).cmp(&(b.file, b.range.start, &b.name)));
        self.files.push(WeightFile { label, bytes });
        Ok(())
    }

    /// Adds the tensors of a file from `torch.save`.
    fn add_torch(&mut self, label: String, bytes: FileBytes) -> Result<(), LoadError> {
        let file = self.files.len();
        let entries = torch::read(&bytes).map_err(|e| torch_error(&label, &bytes, &e))?;
        self.tensors.extend(entries.into_iter().map(|entry| {
            let torch::Entry { name, shape, strides, dtype, range } = entry;
            Tensor { name, shape, dtype, file, range, strides }
        }));
        self.files.push(WeightFile { label, bytes });
        Ok(())
    }

    /// The path of a tensor's file.
    pub fn file_of(&self, tensor: &Tensor) -> &str {
        &self.files[tensor.file].label
    }

    /// Whether two tensors are views of the same data, such as a tied unembedding in files from `torch.save`.
    pub fn is_same(&self, a: usize, b: usize) -> bool {
        let place = |id: usize| {
            let Tensor { shape, dtype, file, range, strides, .. } = &self.tensors[id];
            (shape, dtype, file, range, strides)
        };
        place(a) == place(b)
    }

    /// The bytes of elements `start..start + n` (row-major): borrowed from the file, or gathered by strides.
    fn bytes(&self, tensor: &Tensor, start: usize, n: usize) -> Cow<'_, [u8]> {
        let size = tensor.dtype.bitsize() / 8;
        let bytes = &self.files[tensor.file].bytes[tensor.range.clone()];
        match &tensor.strides {
            None => Cow::Borrowed(&bytes[start * size..(start + n) * size]),
            Some(strides) => Cow::Owned(gather(bytes, size, &tensor.shape, strides, start, n)),
        }
    }

    /// Passes a tensor's bytes in row-major order to `visit`, in pieces so that little of it is in memory at a
    /// time.
    pub fn stream(&self, tensor: &Tensor, mut visit: impl FnMut(&[u8])) {
        const PIECE: usize = 1 << 20; // elements
        let n = tensor.n_elements();
        let size = tensor.dtype.bitsize() / 8;
        let file = &self.files[tensor.file].bytes;
        for start in (0..n).step_by(PIECE) {
            let end = n.min(start + PIECE);
            if tensor.strides.is_some() {
                visit(&self.bytes(tensor, start, end - start));
                continue;
            }
            let piece = tensor.range.start + start * size..tensor.range.start + end * size;
            file.prefetch(piece.clone());
            visit(&file[piece.clone()]);
            file.release(piece);
        }
        self.release(tensor);
    }

    /// Asks the system to prefetch a tensor.
    pub fn prefetch(&self, tensor: &Tensor) {
        self.files[tensor.file].bytes.prefetch(tensor.range.clone());
    }

    /// Releases a tensor's mapped pages after it has been converted.
    pub fn release(&self, tensor: &Tensor) {
        self.files[tensor.file].bytes.release(tensor.range.clone());
    }

    /// The same for the elements from `start` on, so that of a large tensor little is mapped at a time.
    pub fn release_part(&self, tensor: &Tensor, start: usize, n: usize) {
        if tensor.strides.is_none() {
            let (first, size) = (tensor.range.start, tensor.dtype.bitsize() / 8);
            self.files[tensor.file].bytes.release(first + start * size..first + (start + n) * size);
        }
    }

    /// Decodes the elements from `start` on (row-major) into `out`; the error is the index of the first
    /// non-finite element.
    pub fn decode(&self, tensor: &Tensor, start: usize, out: &mut [f32]) -> Result<(), usize> {
        decode(tensor.dtype, &self.bytes(tensor, start, out.len()), out);
        // Summing the flags instead of stopping early keeps this loop vectorised.
        if out.iter().fold(0u32, |bad, x| bad + u32::from(!x.is_finite())) == 0 {
            return Ok(());
        }
        Err(start + out.iter().position(|x| !x.is_finite()).unwrap_or(0))
    }

    /// Reads a whole tensor as float32, row-major, on all threads, into `out` of its length.
    ///
    /// # Errors
    /// [`LoadError::NonFinite`], naming the first element that is not finite.
    pub fn read(&self, tensor: &Tensor, out: &mut [f32]) -> Result<(), LoadError> {
        const CHUNK: usize = 1 << 18;
        let bad = out
            .par_chunks_mut(CHUNK)
            .enumerate()
            .filter_map(|(i, chunk)| {
                let decoded = self.decode(tensor, i * CHUNK, chunk);
                self.release_part(tensor, i * CHUNK, chunk.len());
                decoded.err()
            })
            .min();
        self.release(tensor);
        match bad {
            Some(index) => Err(self.non_finite(tensor, index)),
            None => Ok(()),
        }
    }

    /// The error for a tensor whose element `index` is not finite.
    pub fn non_finite(&self, tensor: &Tensor, index: usize) -> LoadError {
        let mut value = [0.0];
        let _ = self.decode(tensor, index, &mut value);
        LoadError::NonFinite {
            file: self.file_of(tensor).to_owned(),
            tensor: tensor.name.clone(),
            index,
            value: value[0],
        }
    }
}
