//! Files on their way into a study: written next to it and moved, so that a killed run leaves no partial files, and never over what
//! somebody wrote or changed by hand.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use cs_analysis::layout::Layout;

use super::{Step, StudyFolder};
use crate::digest::Digest256;
use crate::error::CliError;
use crate::progress::Display;

/// The folder, inside a study's folder, for files that were created or changed by hand at paths that the program writes.
pub const EDITED: &str = "edited";

/// The temporary folder for files before they are moved into the study.
const DESK: &str = "new";
/// Prefix of the names of steps whose files are being moved.
const UNDER_WAY: &str = "under way";

impl StudyFolder {
    /// Runs a step that writes files, and records that it is done. `make` writes them to a temporary layout and returns their paths
    /// there; they are then moved into the study. Earlier outputs of the step that it did not write again are removed, since they
    /// would be mistaken for results of these inputs. Nothing that was created or changed by hand is lost: it is moved to
    /// [`EDITED`], with a message. Returns the paths in the study.
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

    /// The same for a command that rewrites some of a study's files and leaves the others unchanged.
    ///
    /// # Errors
    /// See [`Self::put`].
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

    /// Moves temporary files into the study and returns their hashes. The hashes are recorded before the first file is
    /// moved, so that after a kill in between, the next run recognises the files as its own.
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

    /// Records that these files have been moved.
    fn arrived(&mut self, outputs: &BTreeMap<PathBuf, Digest256>) {
        self.steps.retain(|name, step| {
            if name.starts_with(UNDER_WAY) {
                step.outputs.retain(|path, _| !outputs.contains_key(path));
            }
            !name.starts_with(UNDER_WAY) || !step.outputs.is_empty()
        });
    }

    /// Whether a step wrote this content to this path.
    fn is_own(&self, path: &Path, content: &Digest256) -> bool {
        self.steps.values().any(|step| step.outputs.get(path) == Some(content))
    }

    /// Moves a file that was created or changed by hand to a folder that no command writes to, with a
    /// message.
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
        display.warn(&format!("{} was edited by hand: kept as {}", from.display(), to.display()));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use cs_analysis::files::write_bytes;
    use serde_json::json;

    use super::*;
    use crate::progress::Mode;

    const QUIET: Display = Display { mode: Mode::Quiet, verbose: false, whole: None, share: None };

    /// Runs a step that writes these files.
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
        // A user's file is at a path that a step will write, another one next to it.
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
        // Output of another step is not a user's file.
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
}
