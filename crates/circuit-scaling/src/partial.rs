//! What a step has found so far, kept on disk.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use cs_analysis::files::write_atomic;

use crate::digest::Digest256;
use crate::error::CliError;
use crate::stop;

/// What a step has found so far (of a scan, `cs_circuits::scan::Underway::ablated`), kept on disk so that a killed run goes on
/// where it was.
///
/// The file is the hash of the step's inputs as text, then the numbers as little-endian float32.
pub struct Partial {
    path: PathBuf,
    inputs: Digest256,
    /// What is known already; empty if nothing is.
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
    fn what_was_found_with_other_inputs_is_no_start() {
        let dir = tempfile::tempdir().unwrap();
        let [inputs, others] = [1, 2].map(|seed| Digest256::of(&json!(seed)));
        let read = |inputs| Partial::read(dir.path().join("x.partial"), inputs);
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
}
