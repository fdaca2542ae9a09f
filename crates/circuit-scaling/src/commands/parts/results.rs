//! The results file of a unit, for `gather`: the hash of its inputs, then little-endian float64 numbers.

use std::fs;
use std::path::Path;

use cs_analysis::files::write_atomic;

use crate::digest::Digest256;
use crate::error::CliError;

/// Writes numbers.
///
/// # Errors
/// If the file cannot be written.
pub fn write(path: &Path, inputs: &Digest256, numbers: impl Iterator<Item = f64>) -> Result<(), CliError> {
    Ok(write_atomic(path, |out| {
        out.write_all(inputs.as_str().as_bytes())?;
        numbers.map(f64::to_le_bytes).try_for_each(|bytes| out.write_all(&bytes))
    })?)
}

/// The numbers of a file that was made from these inputs, if there are `n`.
pub fn read(path: &Path, inputs: &Digest256, n: usize) -> Option<Vec<f64>> {
    let bytes = fs::read(path).ok()?;
    let numbers = bytes.strip_prefix(inputs.as_str().as_bytes())?;
    let whole = numbers.len() == 8 * n;
    whole.then(|| numbers.as_chunks::<8>().0.iter().map(|&b| f64::from_le_bytes(b)).collect())
}
