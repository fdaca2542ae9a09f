//! Partial results of a step, kept on disk.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cs_analysis::file_name::file_safe_name;
use cs_analysis::files::write_atomic;

use crate::digest::Digest256;
use crate::error::CliError;
use crate::stop;

/// Partial results of a step (for a scan, `cs_circuits::scan::Underway::ablated`), kept on disk so that a killed run can
/// resume.
///
/// Every kind of device has its own file, so that results of different kinds are not mixed, and none are lost if a run
/// continues on another device. A file has the hash of the step's inputs as text and the kind, one line each, then the numbers
/// as little-endian float32.
pub struct Partial {
    path: PathBuf,
    head: String,
    kind: String,
    /// The known results; empty if there are none.
    pub known: Vec<f32>,
    /// Results of the same step on other kinds of devices: the kind, and the finished share.
    elsewhere: Vec<(String, f64)>,
    next_write: Instant,
}

/// The character before the kind of device in a file's name; it does not occur in names of models or tasks.
const KIND: char = '~';

impl Partial {
    /// The known results for these inputs, which do not include the device, on this [kind](cs_engine::Compute::kind) of device.
    /// `path` is the files' path without the kind.
    pub fn read(path: &Path, inputs: &Digest256, kind: &str) -> Self {
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        let own = path.with_file_name(format!("{stem}{KIND}{}.partial", file_safe_name(kind)));
        let head = format!("{}\n{kind}\n", inputs.as_str());
        let known = fs::read(&own).ok().and_then(|bytes| Some(numbers(bytes.strip_prefix(head.as_bytes())?)));
        let of_other = |path: PathBuf| {
            let bytes = fs::read(path).ok()?;
            let rest = bytes.strip_prefix(inputs.as_str().as_bytes())?.strip_prefix(b"\n")?;
            let end = rest.iter().position(|&byte| byte == b'\n')?;
            let known = numbers(&rest[end + 1..]);
            let share = known.iter().filter(|x| x.is_finite()).count() as f64 / known.len().max(1) as f64;
            (share > 0.0).then_some((String::from_utf8(rest[..end].to_vec()).ok()?, share))
        };
        let elsewhere = siblings(&own).filter(|path| *path != own).filter_map(of_other).collect();
        let next_write = Instant::now() + Duration::from_millis(500);
        Self {
            path: own,
            head,
            kind: kind.to_owned(),
            known: known.unwrap_or_default(),
            elsewhere,
            next_write,
        }
    }

    /// One line about each device's results that are not used here, and how to continue with them.
    pub fn notes(&self) -> impl Iterator<Item = String> {
        self.elsewhere.iter().map(|(kind, share)| {
            format!(
                "{:.0}% was done on {kind}, but this run computes on {} and starts from scratch; to continue those results, which \
                 are kept until this run is done, use {}",
                100.0 * share,
                self.kind,
                options(kind)
            )
        })
    }

    /// Writes the current results, unless that was done a moment ago: it takes at most a fiftieth of the time.
    pub fn keep(&mut self, found: &[f32]) {
        let start = Instant::now();
        if self.is_due() {
            // A full disk may have room when the step is done; that write reports any error.
            let _ = self.save(found);
            self.next_write = Instant::now() + (50 * start.elapsed()).max(Duration::from_millis(500));
        }
    }

    /// Whether it is time to write again, or the program is about to end.
    pub fn is_due(&self) -> bool {
        Instant::now() >= self.next_write || stop::asked().is_some()
    }

    /// Writes the current results.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn save(&self, found: &[f32]) -> Result<(), CliError> {
        Ok(write_atomic(&self.path, |out| {
            out.write_all(self.head.as_bytes())?;
            found.iter().try_for_each(|x| out.write_all(&x.to_le_bytes()))
        })?)
    }

    /// Removes the files of all devices: the result itself is on disk.
    pub fn finish(self) {
        siblings(&self.path).for_each(|path| drop(fs::remove_file(path)));
    }
}

/// The options for computing on a kind of device, on a machine that has it.
pub fn options(kind: &str) -> String {
    let of_device = |device: &str| match kind.rsplit_once(", ") {
        Some((_, precision)) => format!("--device {device} --precision {precision}"),
        None => format!("--device {device} on a CPU of that kind"),
    };
    match kind.split([' ', '-']).next() {
        Some(device @ ("cuda" | "delta")) => of_device(device),
        _ => of_device("cpu"),
    }
}

fn numbers(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<4>().0.iter().map(|&b| f32::from_le_bytes(b)).collect()
}

/// The files of one step for all devices.
fn siblings(path: &Path) -> impl Iterator<Item = PathBuf> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let prefix = name.split_inclusive(KIND).next().unwrap_or_default().to_owned();
    let is_one = move |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with(&prefix) && name.ends_with(".partial")
    };
    let folder = path.parent().and_then(|folder| fs::read_dir(folder).ok());
    folder.into_iter().flatten().flatten().map(|entry| entry.path()).filter(is_one)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn results_for_other_inputs_are_not_used() {
        let dir = tempfile::tempdir().unwrap();
        let [inputs, others] = [1, 2].map(|seed| Digest256::of(&json!(seed)));
        let read = |inputs| Partial::read(&dir.path().join("x.partial"), inputs, "cpu-plain");
        let mut partial = read(&inputs);
        assert!(partial.known.is_empty());
        partial.next_write = Instant::now();
        partial.keep(&[1.5, f32::NAN, -2.0]);
        let again = read(&inputs);
        assert!(again.known.len() == 3 && again.known[0] == 1.5 && again.known[1].is_nan());
        assert!(read(&others).known.is_empty());
        again.finish();
        assert!(read(&inputs).known.is_empty());
    }

    #[test]
    fn results_of_another_device_are_neither_used_nor_lost() {
        let dir = tempfile::tempdir().unwrap();
        let [inputs, others] = [1, 2].map(|seed| Digest256::of(&json!(seed)));
        let read = |inputs, kind| Partial::read(&dir.path().join("x.partial"), inputs, kind);
        let card = "cuda Card, 80 GiB (driver for CUDA 12.8), half";
        read(&inputs, card).save(&[1.0, f32::NAN, 2.0, f32::NAN]).unwrap();
        read(&inputs, "cpu-avx2").save(&[3.0, 4.0]).unwrap();
        // From another step.
        Partial::read(&dir.path().join("xy.partial"), &inputs, "cpu-plain").save(&[5.0]).unwrap();

        let here = read(&inputs, "cpu-avx512");
        assert!(here.known.is_empty());
        let mut notes: Vec<String> = here.notes().collect();
        notes.sort();
        assert_eq!(notes.len(), 2, "{notes:?}");
        assert!(
            notes[0].starts_with("100% was done on cpu-avx2")
                && notes[0].contains("--device cpu on a CPU of that kind")
        );
        assert!(notes[1].starts_with("50% was done on cuda Card, 80 GiB") && notes[1].contains("cpu-avx512"));
        assert!(notes[1].ends_with("use --device cuda --precision half"), "{notes:?}");
        assert_eq!(read(&others, "cpu-avx512").notes().count(), 0, "of other inputs");
        assert_eq!(read(&inputs, card).known.len(), 4, "kept");
        here.finish();
        assert!(read(&inputs, card).known.is_empty(), "until the step is done");
        let others = Partial::read(&dir.path().join("xy.partial"), &inputs, "cpu-plain");
        assert_eq!(others.known, [5.0], "another step's stays");
    }
}
