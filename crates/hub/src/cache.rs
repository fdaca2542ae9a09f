//! The cache, with the same layout as that of Python's `huggingface_hub`:
//!
//! ```text
//! models--openai-community--gpt2/
//!   refs/main                        the commit that the branch was at
//!   blobs/<etag>                     contents, named by sha-256 (large files) or git's sha-1 (others)
//!   blobs/<etag>.incomplete          a download in progress or interrupted
//!   snapshots/<commit>/config.json   → ../../blobs/<etag>
//! .locks/models--openai-community--gpt2/<etag>.lock
//! ```
//!
//! Since version 2, Python stores files downloaded in pieces (Xet) once for all models, in `blobs/<2 hex>/<64 hex>` next to
//! the models' folders; a model's `blobs/<etag>` is then a link to that file. Such files are read here, but never created.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use crate::Snapshot;
use crate::error::HubError;
use crate::files::{self, Wanted, is_inside};

/// One model's part of the cache, for one revision.
pub(crate) struct Repo {
    pub(crate) id: String,
    pub(crate) revision: String,
    folder: PathBuf,
    locks: PathBuf,
}

impl Repo {
    pub(crate) fn new(cache: &Path, id: &str, revision: &str) -> Result<Self, HubError> {
        let good_part = |part: &str| {
            let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
            !part.is_empty()
                && part.len() <= 96
                && part.chars().all(plain)
                && !part.contains("..")
                && !part.contains("--")
        };
        let parts: Vec<&str> = id.split('/').collect();
        if parts.len() > 2 || !parts.iter().all(|part| good_part(part)) {
            return Err(HubError::BadId { id: id.to_owned() });
        }
        // A branch's name may have slashes (`refs/pr/1`), and becomes a path under `refs`.
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/');
        let inside = is_inside(revision) && revision.len() <= 200;
        if !inside || !revision.chars().all(plain) {
            return Err(HubError::BadRevision { revision: revision.to_owned() });
        }
        let name = format!("models--{}", id.replace('/', "--"));
        Ok(Repo {
            id: id.to_owned(),
            revision: revision.to_owned(),
            folder: cache.join(&name),
            locks: cache.join(".locks").join(name),
        })
    }

    /// Whether the cache has a folder for the model.
    pub(crate) fn exists(&self) -> bool {
        self.folder.is_dir()
    }

    /// The folder of a commit's files.
    pub(crate) fn snapshot(&self, commit: &str) -> PathBuf {
        self.folder.join("snapshots").join(commit)
    }

    /// The path of a file's content.
    pub(crate) fn blob(&self, etag: &str) -> PathBuf {
        self.folder.join("blobs").join(etag)
    }

    /// The revision's commit, if the cache has every file that a model needs.
    pub(crate) fn cached(&self) -> Result<Option<Snapshot>, HubError> {
        let commit = match is_commit(&self.revision) {
            true => self.revision.clone(),
            false => {
                let path = self.folder.join("refs").join(&self.revision);
                match fs::read_to_string(&path) {
                    Ok(commit) => commit.trim().to_owned(),
                    Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
                    Err(e) => return Err(HubError::Cache { path, source: e }),
                }
            }
        };
        if !is_commit(&commit) {
            return Ok(None);
        }
        let folder = self.snapshot(&commit);
        let Ok(entries) = fs::read_dir(&folder) else { return Ok(None) };
        // `exists` follows links, so dangling ones do not count.
        let names: Vec<String> = entries
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|name| folder.join(name).exists())
            .collect();
        let wanted = Wanted::from_names(names.iter().map(String::as_str));
        let shards = match wanted.index {
            Some(index) => files::shards(&self.id, index, &folder.join(index))?,
            None => Vec::new(),
        };
        let complete =
            wanted.has_config && wanted.has_weights && shards.iter().all(|shard| folder.join(shard).exists());
        Ok(complete.then_some(Snapshot { folder, commit }))
    }

    /// Records the revision's commit.
    pub(crate) fn write_ref(&self, commit: &str) -> Result<(), HubError> {
        if self.revision == commit {
            return Ok(());
        }
        let path = self.folder.join("refs").join(&self.revision);
        make_parent(&path)?;
        let temporary = path.with_extension(format!("tmp{}", std::process::id()));
        let written = fs::write(&temporary, commit).and_then(|()| fs::rename(&temporary, &path));
        written.map_err(|source| HubError::Cache { path, source })
    }

    /// Links a blob under its file name in a snapshot.
    pub(crate) fn link(&self, commit: &str, file: &str, etag: &str) -> Result<PathBuf, HubError> {
        let path = self.snapshot(commit).join(file);
        make_parent(&path)?;
        let fail = |source| HubError::Cache { path: path.clone(), source };
        if !path.exists() {
            // Remove a dangling link.
            match fs::remove_file(&path) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(fail(e)),
                _ => {}
            }
            // From snapshots/<commit>/ up to the repository; weights are never in a subfolder.
            let up: PathBuf = Path::new(file).components().map(|_| "..").collect();
            let target = up.join("..").join("blobs").join(etag);
            place(&target, &self.blob(etag), &path).map_err(fail)?;
        }
        Ok(path)
    }

    /// Waits until no other process is downloading this content, Python's included.
    pub(crate) fn lock(&self, etag: &str) -> Result<File, HubError> {
        let path = self.locks.join(format!("{etag}.lock"));
        make_parent(&path)?;
        let locked = File::options().create(true).truncate(false).write(true).open(&path).and_then(|file| {
            file.lock()?;
            Ok(file)
        });
        locked.map_err(|source| HubError::Cache { path, source })
    }
}

#[cfg(unix)]
fn place(target: &Path, _blob: &Path, path: &Path) -> io::Result<()> {
    match std::os::unix::fs::symlink(target, path) {
        // Another process created it first.
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

/// On other systems links need a privilege; like Python's, the cache then holds the file itself.
#[cfg(not(unix))]
fn place(_target: &Path, blob: &Path, path: &Path) -> io::Result<()> {
    fs::rename(blob, path)
}

pub(crate) fn make_parent(path: &Path) -> Result<(), HubError> {
    let Some(parent) = path.parent() else { return Ok(()) };
    fs::create_dir_all(parent).map_err(|source| HubError::Cache { path: parent.to_owned(), source })
}

/// A full commit hash.
pub(crate) fn is_commit(text: &str) -> bool {
    text.len() == 40 && is_hex(text)
}

pub(crate) fn is_hex(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}
