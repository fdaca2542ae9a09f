//! A study's folder while a command writes to it: locked against a second run, with a record of every step's inputs
//! and outputs, so that up-to-date steps are skipped.
//!
//! The record and unfinished steps are in `.circuit-scaling` inside the folder.

mod put;

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use cs_analysis::contrast::Contrast;
use cs_analysis::file_name::file_safe_name;
use cs_analysis::files::write_bytes;
use cs_analysis::layout::Layout;
use serde::{Deserialize, Serialize};

use crate::digest::Digest256;
use crate::error::CliError;
use crate::measured::Measured;
use crate::partial::Partial;

/// A folder that only this process writes to.
pub struct StudyFolder {
    /// The paths in it.
    pub layout: Layout,
    /// Results from other machines.
    pub measured: Measured,
    steps: BTreeMap<String, Step>,
    _lock: Option<File>,
}

/// The inputs and outputs of a finished step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Step {
    inputs: Digest256,
    /// Path within the folder, and content.
    outputs: BTreeMap<PathBuf, Digest256>,
}

impl StudyFolder {
    /// Rejects a path that cannot be a folder, without creating anything.
    ///
    /// # Errors
    /// [`CliError::Out`] if the path, or one of its parents, is a file.
    pub fn check(out: &Path) -> Result<(), CliError> {
        match out.ancestors().find(|path| path.exists()) {
            Some(path) if !path.is_dir() => {
                let source = std::io::Error::from(std::io::ErrorKind::NotADirectory);
                Err(CliError::Out { path: out.to_owned(), source })
            }
            _ => Ok(()),
        }
    }

    /// Creates the folder if necessary, checks that it is writable, and locks it until this value is dropped or
    /// the process ends in any way.
    ///
    /// # Errors
    /// A folder that cannot be written; another run in it.
    pub fn open(out: &Path) -> Result<Self, CliError> {
        Self::open_or(out, |source| Err(CliError::Out { path: out.to_owned(), source }))
    }

    /// The same; `without_locks` decides whether to continue if the file system has no locks.
    ///
    /// # Errors
    /// As [`Self::open`], and those of `without_locks`.
    pub fn open_or(
        out: &Path,
        without_locks: impl FnOnce(std::io::Error) -> Result<(), CliError>,
    ) -> Result<Self, CliError> {
        let fail = |source| CliError::Out { path: out.to_owned(), source };
        let own = out.join(OWN);
        fs::create_dir_all(&own).map_err(fail)?;
        let lock =
            File::options().create(true).truncate(false).write(true).open(own.join(LOCK)).map_err(fail)?;
        let lock = match lock.try_lock() {
            Ok(()) => Some(lock),
            Err(TryLockError::WouldBlock) => return Err(CliError::InUse { path: out.to_owned() }),
            Err(TryLockError::Error(source)) => {
                without_locks(source)?;
                None
            }
        };
        let layout = Layout::new(out);
        // If the record cannot be read, everything is redone.
        let steps = fs::read(own.join(STEPS))
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or_default();
        Ok(Self { layout, measured: Measured::default(), steps, _lock: lock })
    }

    /// Whether this step was done with these inputs, and its outputs still exist unchanged.
    pub fn is_done(&self, step: &str, inputs: &Digest256) -> bool {
        self.steps.get(step).is_some_and(|done| {
            let is_unchanged = |(path, digest): (&PathBuf, &Digest256)| {
                Digest256::of_file(&self.layout.root().join(path)).as_ref() == Some(digest)
            };
            done.inputs == *inputs && done.outputs.iter().all(is_unchanged)
        })
    }

    /// Whether this step was ever done, with any inputs, which is quicker to check than the inputs.
    pub fn has_done(&self, step: &str) -> bool {
        self.steps.contains_key(step)
    }

    /// Records that a step is done.
    ///
    /// # Errors
    /// If an output cannot be read or the record cannot be written.
    pub fn done(&mut self, step: &str, inputs: Digest256, outputs: &[PathBuf]) -> Result<(), CliError> {
        let outputs = self.digests(self.layout.root(), outputs)?;
        self.steps.insert(step.to_owned(), Step { inputs, outputs });
        self.save()
    }

    /// Hashes of the files below `root`, by relative path.
    fn digests(&self, root: &Path, paths: &[PathBuf]) -> Result<BTreeMap<PathBuf, Digest256>, CliError> {
        let digest = |path: &PathBuf| {
            let bytes = fs::read(path).map_err(|source| CliError::Out { path: path.clone(), source })?;
            Ok((path.strip_prefix(root).unwrap_or(path).to_owned(), Digest256::of_bytes(&bytes)))
        };
        paths.iter().map(digest).collect()
    }

    fn save(&self) -> Result<(), CliError> {
        let text = serde_json::to_string_pretty(&self.steps).unwrap_or_default();
        Ok(write_bytes(&self.own(STEPS), text.as_bytes())?)
    }

    /// Removes all results and their records.
    ///
    /// # Errors
    /// If something cannot be removed.
    pub fn forget(&mut self) -> Result<(), CliError> {
        let root = self.layout.root();
        let fail = |path: &Path| {
            let path = path.to_owned();
            |source| CliError::Out { path, source }
        };
        for folder in [root.to_owned(), root.join(OWN)] {
            for entry in fs::read_dir(&folder).map_err(fail(&folder))? {
                let path = entry.map_err(fail(&folder))?.path();
                let stays = path.ends_with(OWN) || path.ends_with(Path::new(OWN).join(LOCK));
                let removed = match (stays, path.is_dir()) {
                    (true, _) => Ok(()),
                    (_, true) => fs::remove_dir_all(&path),
                    (_, false) => fs::remove_file(&path),
                };
                removed.map_err(fail(&path))?;
            }
        }
        self.steps.clear();
        Ok(())
    }

    /// A file of the program's own inside the folder.
    pub fn own(&self, name: &str) -> PathBuf {
        own_file(&self.layout, name)
    }

    /// The partial scan left by an interrupted run, if it has these inputs, and where to save more of it.
    pub fn partial_scan(&self, task: &str, model: &str, inputs: &Digest256, kind: &str) -> Partial {
        let name = format!("scan_{}_{}.partial", file_safe_name(task), file_safe_name(model));
        Partial::read(&self.own(&name), inputs, kind)
    }

    /// The same for a contrast's set ablation of a model.
    pub fn partial_ablation(
        &self,
        contrast: &Contrast,
        model: &str,
        inputs: &Digest256,
        kind: &str,
    ) -> Partial {
        let name = format!("ablate_{}.partial", file_safe_name(model));
        let path = contrast.folder().map_or_else(|| self.own(&name), |folder| self.own(&folder).join(&name));
        Partial::read(&path, inputs, kind)
    }
}

const OWN: &str = ".circuit-scaling";
const STEPS: &str = "steps.json";
const LOCK: &str = "lock";

/// A file of the program's own inside a study's folder.
pub fn own_file(layout: &Layout, name: &str) -> PathBuf {
    layout.root().join(OWN).join(name)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_step_is_done_until_its_inputs_or_outputs_change() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.csv");
        let inputs = Digest256::of(&json!({"seed": 1}));
        {
            let mut folder = StudyFolder::open(dir.path()).unwrap();
            assert!(!folder.is_done("x", &inputs));
            fs::write(&path, "1").unwrap();
            folder.done("x", inputs.clone(), std::slice::from_ref(&path)).unwrap();
        }
        let folder = StudyFolder::open(dir.path()).unwrap();
        assert!(folder.is_done("x", &inputs));
        assert!(!folder.is_done("x", &Digest256::of(&json!({"seed": 2}))));
        assert!(!folder.is_done("y", &inputs));
        fs::write(&path, "2").unwrap();
        assert!(!folder.is_done("x", &inputs));
        fs::remove_file(&path).unwrap();
        assert!(!folder.is_done("x", &inputs));
    }

    #[test]
    fn a_file_is_not_a_folder_for_a_study() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(StudyFolder::check(&file).is_err() && StudyFolder::check(&file.join("a/b")).is_err());
        assert!(StudyFolder::check(&dir.path().join("a/b")).is_ok() && !dir.path().join("a").exists());
    }

    #[test]
    fn one_run_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let first = StudyFolder::open(dir.path()).unwrap();
        assert!(matches!(StudyFolder::open(dir.path()), Err(CliError::InUse { .. })));
        drop(first);
        assert!(StudyFolder::open(dir.path()).is_ok());
    }
}
