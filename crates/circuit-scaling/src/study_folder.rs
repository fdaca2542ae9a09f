//! A study's folder while a command writes to it: locked against a second run, and with a record of what was made from
//! what, so that a step is left out whose inputs and outputs are as they were.
//!
//! The record and the steps that are under way lie in `.circuit-scaling` inside the folder.

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cs_analysis::contrast::Contrast;
use cs_analysis::file_name::file_safe_name;
use cs_analysis::files::{write_atomic, write_bytes};
use cs_analysis::layout::Layout;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::CliError;
use crate::measured::Measured;
use crate::stop;

/// A folder that this process alone writes to.
pub struct StudyFolder {
    /// Where things lie in it.
    pub layout: Layout,
    /// What was found of it on other machines.
    pub measured: Measured,
    steps: BTreeMap<String, Step>,
    _lock: Option<File>,
}

/// What a finished step was made from, and what it made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Step {
    inputs: Digest256,
    /// Path within the folder, and content.
    outputs: BTreeMap<PathBuf, Digest256>,
}

/// A SHA-256 in hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Digest256(String);

impl Digest256 {
    /// Of everything that a step's result depends on.
    pub fn of(inputs: &serde_json::Value) -> Self {
        Self::of_bytes(inputs.to_string().as_bytes())
    }

    /// Of a file; `None` where it cannot be read.
    pub fn of_file(path: &Path) -> Option<Self> {
        fs::read(path).ok().map(|bytes| Self::of_bytes(&bytes))
    }

    fn of_bytes(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl StudyFolder {
    /// Makes the folder if need be, proves that it can be written, and locks it until this value is dropped or the
    /// process ends, however it ends.
    ///
    /// # Errors
    /// A folder that cannot be written; another run in it.
    pub fn open(out: &Path) -> Result<Self, CliError> {
        Self::open_or(out, |source| Err(CliError::Out { path: out.to_owned(), source }))
    }

    /// The same; `without_locks` says whether to go on where the file system has no locks.
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
        fs::create_dir_all(layout.results()).map_err(fail)?;
        // A record that cannot be read says nothing: everything is made anew.
        let steps = fs::read(own.join(STEPS))
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .unwrap_or_default();
        Ok(Self { layout, measured: Measured::default(), steps, _lock: lock })
    }

    /// Whether this step was done with these inputs, and what it made is still there, unchanged.
    pub fn is_done(&self, step: &str, inputs: &Digest256) -> bool {
        self.steps.get(step).is_some_and(|done| {
            let is_unchanged = |(path, digest): (&PathBuf, &Digest256)| {
                Digest256::of_file(&self.layout.root().join(path)).as_ref() == Some(digest)
            };
            done.inputs == *inputs && done.outputs.iter().all(is_unchanged)
        })
    }

    /// Whether this step was ever done, with whatever inputs: what the inputs are may be long to find out.
    pub fn has_done(&self, step: &str) -> bool {
        self.steps.contains_key(step)
    }

    /// Records that a step is done. What it made another time and did not make now is removed: it would be taken for a
    /// result of these inputs.
    ///
    /// # Errors
    /// When an output cannot be read or the record not be written.
    pub fn done(&mut self, step: &str, inputs: Digest256, outputs: &[PathBuf]) -> Result<(), CliError> {
        let root = self.layout.root();
        let outputs = outputs.iter().map(|path| {
            let bytes = fs::read(path).map_err(|source| CliError::Out { path: path.clone(), source })?;
            Ok((path.strip_prefix(root).unwrap_or(path).to_owned(), Digest256::of_bytes(&bytes)))
        });
        let outputs = outputs.collect::<Result<BTreeMap<_, _>, CliError>>()?;
        for path in self.steps.get(step).into_iter().flat_map(|before| before.outputs.keys()) {
            if !outputs.contains_key(path) {
                let stale = root.join(path);
                match fs::remove_file(&stale) {
                    Err(error) if error.kind() != ErrorKind::NotFound => {
                        return Err(CliError::Out { path: stale, source: error });
                    }
                    _ => {}
                }
            }
        }
        self.steps.insert(step.to_owned(), Step { inputs, outputs });
        let text = serde_json::to_string_pretty(&self.steps).unwrap_or_default();
        Ok(write_bytes(&self.own(STEPS), text.as_bytes())?)
    }

    /// Removes all results and all record of them.
    ///
    /// # Errors
    /// When something cannot be removed.
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
        self.layout.root().join(OWN).join(name)
    }

    /// The part of a scan that an interrupted run left, if it has these inputs, and where to keep more of it.
    pub fn partial_scan(&self, task: &str, model: &str, inputs: &Digest256) -> Partial {
        Partial::read(
            self.own(&format!("scan_{}_{}.partial", file_safe_name(task), file_safe_name(model))),
            inputs,
        )
    }

    /// The same for a contrast's ablated sets of a model.
    pub fn partial_ablation(&self, contrast: &Contrast, model: &str, inputs: &Digest256) -> Partial {
        let name = format!("ablate_{}.partial", file_safe_name(model));
        let path = contrast.folder().map_or_else(|| self.own(&name), |folder| self.own(&folder).join(&name));
        Partial::read(path, inputs)
    }
}

const OWN: &str = ".circuit-scaling";
const STEPS: &str = "steps.json";
const LOCK: &str = "lock";

/// What a step has found so far (of a scan, `cs_circuits::scan::Underway::ablated`), kept on disk so that a killed run goes on
/// where it was.
///
/// The file is the hash of the step's inputs as text, then the numbers as little-endian float32.
pub struct Partial {
    path: PathBuf,
    inputs: Digest256,
    /// What is known already; empty where nothing is.
    pub known: Vec<f32>,
    next_write: Instant,
}

impl Partial {
    /// What is known under these inputs, in this file.
    pub fn read(path: PathBuf, inputs: &Digest256) -> Self {
        let bytes = fs::read(&path).unwrap_or_default();
        let known = match bytes.strip_prefix(inputs.as_str().as_bytes()) {
            Some(numbers) => numbers.as_chunks::<4>().0.iter().map(|&b| f32::from_le_bytes(b)).collect(),
            None => vec![],
        };
        Self { path, inputs: inputs.clone(), known, next_write: Instant::now() + Duration::from_millis(500) }
    }

    /// Writes what is known now, unless it was written a moment ago: at most a fiftieth of the time goes into it.
    pub fn keep(&mut self, found: &[f32]) {
        let start = Instant::now();
        if self.is_due() {
            // A disk that is full now may have room when the step is done; that write reports what goes wrong.
            let _ = self.save(found);
            self.next_write = Instant::now() + (50 * start.elapsed()).max(Duration::from_millis(500));
        }
    }

    /// Whether it is time to write again, or the program is about to end.
    pub fn is_due(&self) -> bool {
        Instant::now() >= self.next_write || stop::asked().is_some()
    }

    /// Writes what is known now.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self, found: &[f32]) -> Result<(), CliError> {
        Ok(write_atomic(&self.path, |out| {
            out.write_all(self.inputs.as_str().as_bytes())?;
            found.iter().try_for_each(|x| out.write_all(&x.to_le_bytes()))
        })?)
    }

    /// Removes the file: the result itself is on disk.
    pub fn finish(self) {
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_step_is_done_until_its_inputs_or_outputs_change() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("results/x.csv");
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
    fn what_a_step_no_longer_makes_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let mut folder = StudyFolder::open(dir.path()).unwrap();
        let paths = ["a", "b"].map(|name| dir.path().join(name));
        paths.iter().for_each(|path| fs::write(path, "x").unwrap());
        folder.done("x", Digest256::of(&json!(1)), &paths).unwrap();
        folder.done("x", Digest256::of(&json!(2)), &paths[..1]).unwrap();
        assert!(paths[0].exists() && !paths[1].exists());
    }

    #[test]
    fn one_run_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let first = StudyFolder::open(dir.path()).unwrap();
        assert!(matches!(StudyFolder::open(dir.path()), Err(CliError::InUse { .. })));
        drop(first);
        assert!(StudyFolder::open(dir.path()).is_ok());
    }

    #[test]
    fn a_partial_scan_of_other_inputs_is_no_start() {
        let dir = tempfile::tempdir().unwrap();
        let folder = StudyFolder::open(dir.path()).unwrap();
        let [inputs, others] = [1, 2].map(|seed| Digest256::of(&json!(seed)));
        let mut partial = folder.partial_scan("ioi", "m", &inputs);
        assert!(partial.known.is_empty());
        partial.next_write = Instant::now();
        partial.keep(&[1.5, f32::NAN, -2.0]);
        let again = folder.partial_scan("ioi", "m", &inputs);
        assert!(again.known.len() == 3 && again.known[0] == 1.5 && again.known[1].is_nan());
        assert!(folder.partial_scan("ioi", "m", &others).known.is_empty());
        again.finish();
        assert!(folder.partial_scan("ioi", "m", &inputs).known.is_empty());
    }
}
