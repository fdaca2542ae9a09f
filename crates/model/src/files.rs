//! The source of a model's files: a folder, files compiled into the program, or a model in memory.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::ops::{Deref, Range};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use safetensors::Dtype;

use crate::error::LoadError;

/// A model's files by name.
#[derive(Clone, Debug)]
pub enum ModelFiles {
    /// A folder in the layout of a Hugging Face repository.
    Folder(PathBuf),
    /// Files compiled into the program.
    Embedded {
        /// The model's name.
        name: &'static str,
        /// File names and contents.
        files: &'static [(&'static str, &'static [u8])],
    },
    /// A model in memory, such as one that another library has just trained.
    Memory(Arc<InMemory>),
}

/// A model in memory: its small files, as they would be in a folder, and its parameters in the caller's memory.
#[derive(Clone, Debug)]
pub struct InMemory {
    /// The model's name.
    pub name: String,
    /// `config.json`, `tokenizer.json` and the like, by name.
    pub files: BTreeMap<String, Vec<u8>>,
    /// The parameters.
    pub tensors: Vec<InMemoryTensor>,
}

/// A parameter in memory.
#[derive(Clone)]
pub struct InMemoryTensor {
    /// Its name in a checkpoint.
    pub name: String,
    /// Type of its elements.
    pub dtype: Dtype,
    /// Sizes of its dimensions, outermost first.
    pub shape: Vec<usize>,
    /// Its elements, row-major and little-endian. Tensors with the same bytes share a parameter.
    pub bytes: Arc<dyn AsRef<[u8]> + Send + Sync>,
}

impl fmt::Debug for InMemoryTensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?} {:?}", self.name, self.dtype, self.shape)
    }
}

impl ModelFiles {
    /// The files of an existing folder.
    ///
    /// # Errors
    /// [`LoadError::NoSuchFolder`]
    pub fn folder(path: impl Into<PathBuf>) -> Result<Self, LoadError> {
        let path = path.into();
        if path.is_dir() {
            Ok(ModelFiles::Folder(path))
        } else {
            Err(LoadError::NoSuchFolder { path: path.display().to_string() })
        }
    }

    /// Files compiled into the program.
    pub fn embedded(name: &'static str, files: &'static [(&'static str, &'static [u8])]) -> Self {
        ModelFiles::Embedded { name, files }
    }

    /// The folder's own name, or the embedded model's.
    pub fn name(&self) -> String {
        match self {
            ModelFiles::Folder(path) => {
                let last = |p: &Path| p.file_name().map(|n| n.to_string_lossy().into_owned());
                // `.` and `..` are not names.
                last(path)
                    .or_else(|| last(&path.canonicalize().ok()?))
                    .unwrap_or_else(|| path.display().to_string())
            }
            ModelFiles::Embedded { name, .. } => (*name).to_owned(),
            ModelFiles::Memory(model) => model.name.clone(),
        }
    }

    /// The name of one of this model's files in messages.
    pub fn label(&self, file: &str) -> String {
        match self {
            ModelFiles::Folder(path) => path.join(file).display().to_string(),
            ModelFiles::Embedded { name, .. } => format!("{name}/{file}"),
            ModelFiles::Memory(model) => format!("{}/{file}", model.name),
        }
    }

    /// Whether there is such a file.
    pub fn has(&self, file: &str) -> bool {
        match self {
            ModelFiles::Folder(path) => path.join(file).is_file(),
            ModelFiles::Embedded { .. } => self.embedded_bytes(file).is_some(),
            ModelFiles::Memory(model) => model.files.contains_key(file),
        }
    }

    /// A file's content, or `None` if it does not exist.
    ///
    /// # Errors
    /// [`LoadError::Io`]
    pub fn read(&self, file: &str) -> Result<Option<Cow<'static, [u8]>>, LoadError> {
        match self {
            ModelFiles::Folder(_) => {
                let Some((mut open, len)) = self.open(file)? else { return Ok(None) };
                let mut content = Vec::with_capacity(len);
                open.read_to_end(&mut content).map_err(|e| self.io_error(file, e))?;
                Ok(Some(Cow::Owned(content)))
            }
            ModelFiles::Embedded { .. } => Ok(self.embedded_bytes(file).map(Cow::Borrowed)),
            ModelFiles::Memory(model) => Ok(model.files.get(file).cloned().map(Cow::Owned)),
        }
    }

    /// A file's content, memory-mapped if it is on disk, or `None` if it does not exist.
    pub(crate) fn map(&self, file: &str) -> Result<Option<FileBytes>, LoadError> {
        match self {
            ModelFiles::Folder(_) => {
                let Some((open, len)) = self.open(file)? else { return Ok(None) };
                // An empty range cannot be mapped.
                if len == 0 {
                    return Ok(Some(FileBytes::Static(&[])));
                }
                // SAFETY: the map is read-only. It cannot be checked that no other process truncates or rewrites the
                // file meanwhile, but checkpoints are written once (and replaced by renaming, which leaves the mapped
                // file intact).
                let map = unsafe { memmap2::Mmap::map(&open) }.map_err(|e| self.io_error(file, e))?;
                Ok(Some(FileBytes::Mapped(map)))
            }
            ModelFiles::Embedded { .. } => Ok(self.embedded_bytes(file).map(FileBytes::Static)),
            // Weights in memory are not files: see `in_memory`.
            ModelFiles::Memory(_) => Ok(None),
        }
    }

    /// The parameters, if they are in memory.
    pub(crate) fn in_memory(&self) -> Option<&InMemory> {
        match self {
            ModelFiles::Memory(model) => Some(model),
            _ => None,
        }
    }

    /// Opens a regular file of the folder and returns its length. Links are followed if [`is_at_home`] allows.
    fn open(&self, file: &str) -> Result<Option<(File, usize)>, LoadError> {
        let ModelFiles::Folder(folder) = self else { return Ok(None) };
        let path = folder.join(file);
        // Checked before opening: a pipe would block, and a device might never end.
        match path.metadata() {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(self.io_error(file, e)),
            Ok(meta) if !meta.is_file() => {
                return Err(self.io_error(file, io::Error::other("it is not a regular file")));
            }
            Ok(_) => {}
        }
        let real = path.canonicalize().map_err(|e| self.io_error(file, e))?;
        if !is_at_home(&real, folder).map_err(|e| self.io_error(file, e))? {
            return Err(LoadError::Malformed {
                file: self.label(file),
                problem: format!("is a link to {}, outside the model's folder", real.display()),
                fix: "put the file itself into the folder, or give the folder that it is in".to_owned(),
            });
        }
        let open = File::open(&real).map_err(|e| self.io_error(file, e))?;
        let len = open.metadata().map_err(|e| self.io_error(file, e))?.len();
        let len = usize::try_from(len).map_err(|e| self.io_error(file, io::Error::other(e)))?;
        Ok(Some((open, len)))
    }

    fn io_error(&self, file: &str, source: io::Error) -> LoadError {
        LoadError::Io { file: self.label(file), source }
    }

    fn embedded_bytes(&self, file: &str) -> Option<&'static [u8]> {
        let ModelFiles::Embedded { files, .. } = self else { return None };
        files.iter().find(|(name, _)| *name == file).map(|(_, bytes)| *bytes)
    }
}

/// Whether a file, after following all links, is in the model's folder or in the Hub's cache. A link in a downloaded
/// folder could point to any file on the machine.
///
/// For a snapshot, `<cache>/models--…/snapshots/<commit>`, this means anywhere in its own cache; for other folders, the
/// targets of a cache's links: `models--…/blobs/<etag>`, or the shared `blobs/<2 hex digits>/<64 hex digits>`.
fn is_at_home(real: &Path, folder: &Path) -> io::Result<bool> {
    let name = |path: &Path| path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
    let is_repository = |path: &Path| name(path).starts_with("models--");
    let folder = folder.canonicalize()?;
    let snapshots = folder.parent().filter(|path| name(path) == "snapshots");
    let cache = snapshots.and_then(Path::parent).filter(|path| is_repository(path)).and_then(Path::parent);
    if real.starts_with(&folder) || cache.is_some_and(|cache| real.starts_with(cache)) {
        return Ok(true);
    }
    let Some(parent) = real.parent() else { return Ok(false) };
    if name(parent) == "blobs" {
        return Ok(parent.parent().is_some_and(is_repository));
    }
    let is_hex = |text: &str, n: usize| text.len() == n && text.bytes().all(|b| b.is_ascii_hexdigit());
    let is_shared = |blobs: &Path| name(blobs) == "blobs" && blobs.join(SHARED_BLOBS).is_file();
    Ok(is_hex(&name(real), 64) && is_hex(&name(parent), 2) && parent.parent().is_some_and(is_shared))
}

/// The file that marks a folder of blobs shared by a cache's repositories.
const SHARED_BLOBS: &str = ".huggingface-shared-blobs";

/// The content of a file that may be larger than memory.
pub(crate) enum FileBytes {
    Mapped(memmap2::Mmap),
    Static(&'static [u8]),
    Shared(Arc<dyn AsRef<[u8]> + Send + Sync>),
}

impl Deref for FileBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            FileBytes::Mapped(map) => map,
            FileBytes::Static(bytes) => bytes,
            FileBytes::Shared(bytes) => (**bytes).as_ref(),
        }
    }
}

impl FileBytes {
    /// Asks the system to start reading a range that is needed soon.
    pub(crate) fn prefetch(&self, range: Range<usize>) {
        #[cfg(unix)]
        if let FileBytes::Mapped(map) = self {
            // Only advice: if the system refuses, reading is merely slower.
            let _ = map.advise_range(memmap2::Advice::WillNeed, range.start, range.len());
        }
        #[cfg(not(unix))]
        let _ = range;
    }

    /// Drops a range from the process's memory once it has been converted; reading it again loads it again.
    pub(crate) fn release(&self, range: Range<usize>) {
        #[cfg(unix)]
        if let FileBytes::Mapped(map) = self {
            // SAFETY: the map is a read-only view of a file, so dropped pages come back with the same content.
            let _ = unsafe {
                map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, range.start, range.len())
            };
        }
        #[cfg(not(unix))]
        let _ = range;
    }
}
