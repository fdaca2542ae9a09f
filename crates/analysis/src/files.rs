//! Atomic writing of files.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{AnalysisError, Result};

/// Writes a file through `fill`: into `<name>.tmp` in the same folder, synced to disk, then renamed to
/// `path`.
///
/// Whatever interrupts the writing, `path` has either its old content or all of the new. The temporary name is
/// always the same, so that a killed run leaves nothing behind once it is resumed. Folders are created.
///
/// # Errors
/// [`AnalysisError::Io`] when a folder cannot be created, the disk is full, or the rename fails; the temporary file
/// is then removed.
pub fn write_atomic(path: &Path, fill: impl FnOnce(&mut dyn Write) -> std::io::Result<()>) -> Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(AnalysisError::io("create the folder", folder))?;
    }
    let temporary = temporary_path(path);
    let write = || -> std::io::Result<()> {
        let mut out = BufWriter::new(File::create(&temporary)?);
        fill(&mut out)?;
        out.into_inner().map_err(|e| e.into_error())?.sync_all()?;
        fs::rename(&temporary, path)
    };
    write().map_err(|source| {
        // The write has already failed; failing to remove the temporary file as well is not worth reporting.
        let _ = fs::remove_file(&temporary);
        AnalysisError::Io { action: "write", path: path.to_owned(), source }
    })
}

/// [`write_atomic`] for bytes in memory.
///
/// # Errors
/// See [`write_atomic`].
pub fn write_bytes(path: &Path, bytes: &[u8]) -> Result<()> {
    write_atomic(path, |out| out.write_all(bytes))
}

/// Writes a value as JSON in one line, atomically.
///
/// # Errors
/// See [`write_atomic`].
pub fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    write_atomic(path, |out| {
        serde_json::to_writer(&mut *out, value)?;
        out.write_all(b"\n")
    })
}

/// Reads a value from a JSON file; `fix` says what to do about an invalid file.
///
/// # Errors
/// [`AnalysisError::Io`] if the file cannot be read, [`AnalysisError::Format`] with line and column if it does not
/// have such a value.
pub fn read_json<T: DeserializeOwned>(path: &Path, fix: &'static str) -> Result<T> {
    let bytes = fs::read(path).map_err(AnalysisError::io("read", path))?;
    serde_json::from_slice(&bytes).map_err(AnalysisError::json(path, fix))
}

fn temporary_path(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".tmp");
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_keeps_the_old_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new/folder/t.csv");
        write_bytes(&path, b"old").unwrap();
        let failed = write_atomic(&path, |out| {
            out.write_all(b"half of the n")?;
            Err(std::io::Error::other("disk full"))
        });
        assert!(failed.unwrap_err().to_string().contains("disk full"));
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "no temporary file is left");
    }

    #[test]
    fn json_reads_back_and_a_fault_is_placed_and_mended() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("v.json");
        write_json(&path, &vec![1, 2]).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"[1,2]\n");
        assert_eq!(read_json::<Vec<u32>>(&path, "make it again").unwrap(), [1, 2]);
        fs::write(&path, "[1,\n-2]").unwrap();
        let error = read_json::<Vec<u32>>(&path, "make it again").unwrap_err().to_string();
        assert!(error.contains("v.json") && error.contains("line 2, column"), "{error}");
        assert!(error.contains("make it again"), "{error}");
        let error = read_json::<u32>(&dir.path().join("none"), "").unwrap_err().to_string();
        assert!(error.contains("cannot read"), "{error}");
    }

    #[test]
    fn a_folder_that_is_a_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("file"), b"").unwrap();
        let error = write_bytes(&dir.path().join("file/t.csv"), b"x").unwrap_err().to_string();
        assert!(error.contains("cannot create the folder"), "{error}");
    }
}
