//! A study's folder while a command writes to it: locked against a second run, and with a record of what was made from
//! what, so that a step is left out whose inputs and outputs are as they were.
//!
//! The record and the steps that are under way lie in `.circuit-scaling` inside the folder.

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
use crate::progress::Display;

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

impl StudyFolder {
    /// Refuses a path that cannot be a folder, without making one.
    ///
    /// # Errors
    /// [`CliError::Out`] where the path, or a folder that it should lie in, is a file.
    pub fn check(out: &Path) -> Result<(), CliError> {
        match out.ancestors().find(|path| path.exists()) {
            Some(path) if !path.is_dir() => {
                let source = std::io::Error::from(std::io::ErrorKind::NotADirectory);
                Err(CliError::Out { path: out.to_owned(), source })
            }
            _ => Ok(()),
        }
    }

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

    /// Whether this step was ever done, with any inputs: finding out what the inputs are may take long.
    pub fn has_done(&self, step: &str) -> bool {
        self.steps.contains_key(step)
    }

    /// Records that a step is done.
    ///
    /// # Errors
    /// When an output cannot be read or the record cannot be written.
    pub fn done(&mut self, step: &str, inputs: Digest256, outputs: &[PathBuf]) -> Result<(), CliError> {
        let outputs = self.digests(self.layout.root(), outputs)?;
        self.steps.insert(step.to_owned(), Step { inputs, outputs });
        self.save()
    }

    /// Has a step write its files, and records that it is done. `make` writes them below a layout of its own and returns their
    /// paths there; they are then put into the study. What the step made another time and did not make now is taken away: it would
    /// be taken for a result of these inputs. Nothing that was written or changed by hand is lost: it is moved to [`EDITED`], which
    /// is said. Returns the paths in the study.
    ///
    /// # Errors
    /// Those of `make`; files that cannot be written.
    pub fn put(
        &mut self,
        step: &str,
        inputs: Digest256,
        display: Display,
        make: impl FnOnce(&Layout) -> Result<Vec<PathBuf>, CliError>,
    ) -> Result<Vec<PathBuf>, CliError> {
        let outputs = self.place(make, display)?;
        let before = self.steps.get(step).map(|before| before.outputs.clone()).unwrap_or_default();
        for (path, digest) in before.iter().filter(|(path, _)| !outputs.contains_key(*path)) {
            let stale = self.layout.root().join(path);
            match Digest256::of_file(&stale) {
                Some(found) if found == *digest => {
                    fs::remove_file(&stale).map_err(|source| CliError::Out { path: stale, source })?;
                }
                Some(_) => self.set_aside(path, display)?,
                None => {}
            }
        }
        let paths = outputs.keys().map(|path| self.layout.root().join(path)).collect();
        self.arrived(&outputs);
        self.steps.insert(step.to_owned(), Step { inputs, outputs });
        self.save()?;
        Ok(paths)
    }

    /// The same for a command that makes some of a study's files anew and leaves the others as they are.
    ///
    /// # Errors
    /// As [`Self::put`].
    pub fn add(
        &mut self,
        command: &str,
        display: Display,
        make: impl FnOnce(&Layout) -> Result<Vec<PathBuf>, CliError>,
    ) -> Result<Vec<PathBuf>, CliError> {
        let outputs = self.place(make, display)?;
        let paths = outputs.keys().map(|path| self.layout.root().join(path)).collect();
        self.arrived(&outputs);
        let inputs = Digest256::of(&serde_json::json!({ "command": command }));
        let of_command = self.steps.entry(format!("command {command}"));
        of_command.or_insert_with(|| Step { inputs, outputs: BTreeMap::new() }).outputs.extend(outputs);
        self.save()?;
        Ok(paths)
    }

    /// Has files written beside the study and moves them into it; returns what they hold. What they will hold is recorded
    /// before the first is moved, so that a run that is killed in between knows its own files again.
    fn place(
        &mut self,
        make: impl FnOnce(&Layout) -> Result<Vec<PathBuf>, CliError>,
        display: Display,
    ) -> Result<BTreeMap<PathBuf, Digest256>, CliError> {
        let desk = self.own(DESK);
        let fail = |path: &Path| {
            let path = path.to_owned();
            |source| CliError::Out { path, source }
        };
        let _ = fs::remove_dir_all(&desk);
        let made = make(&Layout::new(&desk)).and_then(|paths| self.digests(&desk, &paths));
        let outputs = match made {
            Ok(outputs) => outputs,
            Err(error) => {
                let _ = fs::remove_dir_all(&desk);
                return Err(error);
            }
        };
        let under_way = Step { inputs: Digest256::of(&serde_json::json!(DESK)), outputs: outputs.clone() };
        let step = (1..).map(|n| format!("{UNDER_WAY} {n}")).find(|step| !self.steps.contains_key(step));
        self.steps.insert(step.unwrap_or_default(), under_way);
        self.save()?;
        for (path, digest) in &outputs {
            let (from, to) = (desk.join(path), self.layout.root().join(path));
            match Digest256::of_file(&to) {
                Some(found) if found == *digest => continue,
                Some(found) if !self.is_own(path, &found) => self.set_aside(path, display)?,
                _ => {}
            }
            if let Some(folder) = to.parent() {
                fs::create_dir_all(folder).map_err(fail(folder))?;
            }
            fs::rename(&from, &to).map_err(fail(&to))?;
        }
        let _ = fs::remove_dir_all(&desk);
        Ok(outputs)
    }

    /// Forgets that these files are being moved: they are where they belong.
    fn arrived(&mut self, outputs: &BTreeMap<PathBuf, Digest256>) {
        self.steps.retain(|name, step| {
            if name.starts_with(UNDER_WAY) {
                step.outputs.retain(|path, _| !outputs.contains_key(path));
            }
            !name.starts_with(UNDER_WAY) || !step.outputs.is_empty()
        });
    }

    /// Whether some step wrote this content to this path.
    fn is_own(&self, path: &Path, content: &Digest256) -> bool {
        self.steps.values().any(|step| step.outputs.get(path) == Some(content))
    }

    /// Moves a file that somebody wrote or changed to where no command writes, and says so.
    fn set_aside(&self, path: &Path, display: Display) -> Result<(), CliError> {
        let root = self.layout.root();
        let (stem, extension) = (path.file_stem().unwrap_or_default(), path.extension());
        let named = |n: usize| {
            let mut name = stem.to_owned();
            if n > 1 {
                name.push(format!("-{n}"));
            }
            if let Some(extension) = extension {
                name.push(".");
                name.push(extension);
            }
            Path::new(EDITED).join(path.with_file_name(name))
        };
        let kept = (1..).map(named).find(|kept| !root.join(kept).exists()).unwrap_or_default();
        let (from, to) = (root.join(path), root.join(&kept));
        let fail = |source| CliError::Out { path: to.clone(), source };
        to.parent().map_or(Ok(()), fs::create_dir_all).map_err(fail)?;
        fs::rename(&from, &to).map_err(fail)?;
        display.warn(&format!(
            "{} was not as this program wrote it: kept as {}",
            from.display(),
            to.display()
        ));
        Ok(())
    }

    /// What files below `root` hold, by their paths there.
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
        own_file(&self.layout, name)
    }

    /// What an interrupted run on this kind of device left of a scan that has these inputs, and where to keep more of it.
    pub fn partial_scan(&self, task: &str, model: &str, inputs: &Digest256, kind: &str) -> Partial {
        let name = format!("scan_{}_{}.partial", file_safe_name(task), file_safe_name(model));
        Partial::read(&self.own(&name), inputs, kind)
    }

    /// The same for a contrast's ablated sets of a model.
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

/// Where, inside a study's folder, files are kept that were written or changed by hand and stood where the program writes.
pub const EDITED: &str = "edited";

const OWN: &str = ".circuit-scaling";
const STEPS: &str = "steps.json";
const LOCK: &str = "lock";
/// Where files are written before they are moved into the study.
const DESK: &str = "new";
/// How the names of steps begin whose files are being moved.
const UNDER_WAY: &str = "under way";

/// A file of the program's own inside a study's folder.
pub fn own_file(layout: &Layout, name: &str) -> PathBuf {
    layout.root().join(OWN).join(name)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::progress::Mode;

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

    const QUIET: Display = Display { mode: Mode::Quiet, verbose: false, whole: None, share: None };

    /// Has a step write these files.
    fn put(folder: &mut StudyFolder, step: &str, files: &[(&str, &str)]) {
        let make = |layout: &Layout| {
            let write = |(name, text): &(&str, &str)| {
                let path = layout.root().join(name);
                write_bytes(&path, text.as_bytes())?;
                Ok(path)
            };
            files.iter().map(write).collect()
        };
        folder.put(step, Digest256::of(&json!(files)), QUIET, make).unwrap();
    }

    fn text(folder: &StudyFolder, name: &str) -> Option<String> {
        fs::read_to_string(folder.layout.root().join(name)).ok()
    }

    #[test]
    fn what_a_step_no_longer_makes_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let mut folder = StudyFolder::open(dir.path()).unwrap();
        put(&mut folder, "x", &[("a", "1"), ("n/b", "1")]);
        put(&mut folder, "x", &[("a", "2")]);
        assert_eq!((text(&folder, "a").as_deref(), text(&folder, "n/b")), (Some("2"), None));
        assert!(!dir.path().join(EDITED).exists() && !folder.own(DESK).exists());
    }

    #[test]
    fn what_was_changed_by_hand_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        // A file of somebody's own lies where a step will write, another beside it.
        fs::write(dir.path().join("a"), "mine").unwrap();
        fs::write(dir.path().join("other"), "mine").unwrap();
        let mut folder = StudyFolder::open(dir.path()).unwrap();
        put(&mut folder, "x", &[("a", "1"), ("n/b.md", "1")]);
        let edit = |name: &str, content: &str| fs::write(dir.path().join(name), content).unwrap();
        edit("n/b.md", "edited");
        put(&mut folder, "x", &[("a", "1"), ("n/b.md", "2")]);
        // Edited again, and no longer made.
        edit("n/b.md", "edited again");
        put(&mut folder, "x", &[("a", "1")]);
        for (name, content) in [
            ("a", Some("1")),
            ("edited/a", Some("mine")),
            ("other", Some("mine")),
            ("n/b.md", None),
            ("edited/n/b.md", Some("edited")),
            ("edited/n/b-2.md", Some("edited again")),
        ] {
            assert_eq!(text(&folder, name).as_deref(), content, "{name}");
        }
        // What another step of the program wrote is not somebody's own.
        put(&mut folder, "y", &[("a", "3")]);
        put(&mut folder, "x", &[("a", "1")]);
        assert_eq!((text(&folder, "a").as_deref(), text(&folder, "edited/a-2")), (Some("1"), None));
    }

    #[test]
    fn files_of_a_run_that_was_killed_are_known_again() {
        let dir = tempfile::tempdir().unwrap();
        let mut folder = StudyFolder::open(dir.path()).unwrap();
        put(&mut folder, "x", &[("a", "1"), ("b", "1")]);
        // Killed after the first of two files was moved.
        let make = |layout: &Layout| {
            let paths = ["a", "b"].map(|name| layout.root().join(name));
            paths.iter().for_each(|path| write_bytes(path, b"2").unwrap());
            fs::create_dir(dir.path().join("c")).unwrap();
            write_bytes(&layout.root().join("c"), b"2").unwrap();
            Ok([&paths[..], &[layout.root().join("c")]].concat())
        };
        assert!(folder.put("x", Digest256::of(&json!(2)), QUIET, make).is_err());
        drop(folder);
        fs::remove_dir(dir.path().join("c")).unwrap();
        let mut folder = StudyFolder::open(dir.path()).unwrap();
        assert_eq!(text(&folder, "a").as_deref(), Some("2"));
        put(&mut folder, "x", &[("a", "3"), ("b", "3")]);
        assert!(!dir.path().join(EDITED).exists());
        assert_eq!(text(&folder, "b").as_deref(), Some("3"));
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
