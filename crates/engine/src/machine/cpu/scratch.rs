//! Reused memory: each thread's buffers for a tile of rows, and stacks' activations.

use std::cell::RefCell;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};

use cs_kernels::PathAttention;

/// Maximum rows per tile: large enough that reading the weights, once per tile, costs less than the
/// arithmetic with them.
pub(crate) const TILE: usize = 256;

/// Rows per tile for `n_rows`: small problems use smaller tiles, so that every thread has some. Row results do not
/// depend on it.
pub(super) fn tile_rows(n_rows: usize) -> usize {
    n_rows.div_ceil(4 * rayon::current_num_threads()).clamp(16, TILE)
}

/// Buffers of one thread, reused across tiles.
#[derive(Default)]
pub(super) struct Scratch {
    pub z: Vec<f32>, // [TILE, d_attn]
    pub tile: Tile,
    pub seen: Seen,
}

/// Buffers for a tile in a block.
#[derive(Default)]
pub(super) struct Tile {
    pub normed: Vec<f32>, // [TILE, d_model]
    pub branch: Vec<f32>, // [TILE, d_model]
    pub hidden: Vec<f32>, // [TILE, block of hidden columns], twice with gates
}

/// The nodes that a query attends to, and buffers for attention.
#[derive(Default)]
pub(super) struct Seen {
    pub path: Vec<u32>,   // nodes
    pub scores: Vec<f32>, // [path]
    pub attention: PathAttention,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// Calls `f` with this thread's scratch. `f` must not start parallel work, which could run on this thread and
/// borrow it again.
pub(super) fn with_scratch<R>(f: impl FnOnce(&mut Scratch) -> R) -> R {
    SCRATCH.with_borrow_mut(f)
}

/// The first `len` floats of a buffer that grows as needed.
pub(super) fn grown(buffer: &mut Vec<f32>, len: usize) -> &mut [f32] {
    if buffer.len() < len {
        buffer.resize(len, 0.0);
    }
    &mut buffer[..len]
}

/// Free buffers.
#[derive(Clone, Default)]
pub(super) struct Pool(Arc<Mutex<Vec<Vec<f32>>>>);

impl Pool {
    /// A buffer of `len` floats with unspecified values.
    pub fn take(&self, len: usize) -> Buffer {
        let mut floats = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default();
        floats.resize(len, 0.0);
        Buffer { floats, pool: self.clone() }
    }
}

/// A buffer that returns to its pool when dropped.
pub(crate) struct Buffer {
    floats: Vec<f32>,
    pool: Pool,
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let floats = std::mem::take(&mut self.floats);
        self.pool.0.lock().unwrap_or_else(PoisonError::into_inner).push(floats);
    }
}

impl Deref for Buffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.floats
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.floats
    }
}
