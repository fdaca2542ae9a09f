//! Parameters owned by another library, read in place.

use numpy::{PyArray1, PyArrayMethods};
use pyo3::prelude::*;

/// The bytes of a numpy array, which is kept alive.
pub struct Lent {
    start: *const u8,
    len: usize,
    _array: Py<PyArray1<u8>>,
}

impl Lent {
    /// Borrows an array's bytes; `None` if they are not contiguous.
    pub fn new(array: &Bound<'_, PyArray1<u8>>) -> Option<Self> {
        let view = array.try_readonly().ok()?;
        let bytes = view.as_slice().ok()?;
        let (start, len) = (bytes.as_ptr(), bytes.len());
        Some(Self { start, len, _array: array.clone().unbind() })
    }
}

// SAFETY: the pointer is only read from, and the array that it points into is kept alive only by its reference count, which
// may be decremented on any thread.
unsafe impl Send for Lent {}
// SAFETY: as above; shared references only read.
unsafe impl Sync for Lent {}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: `new` took pointer and length from a slice of this array, whose memory lives and does not move as long as
        // `_array` does. That nobody writes to parameters while a model is built from them cannot be checked, just as it cannot be checked
        // that nobody rewrites a mapped file; `from_transformers` says so.
        unsafe { std::slice::from_raw_parts(self.start, self.len) }
    }
}
