//! Memory that is used again: each thread's buffers for a tile of rows, and whole stacks' activations.

use std::cell::RefCell;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};

use cs_kernels::PathAttention;

/// Rows per tile at most: enough that the weights, read once a tile, cost less than the arithmetic on them.
pub(crate) const TILE: usize = 256;

/// Rows per tile for `n_rows`: small problems are cut finer, so that every thread has some. Row results do not depend
/// on it.
pub(super) fn tile_rows(n_rows: usize) -> usize {
    n_rows.div_ceil(4 * rayon::current_num_threads()).clamp(16, TILE)
}

/// Buffers of one thread, kept from tile to tile.
#[derive(Default)]
pub(super) struct Scratch {
    pub z: Vec<f32>, // [TILE, d_attn]
    pub tile: Tile,
    pub seen: Seen,
}

/// Buffers of a tile on its way through a block.
#[derive(Default)]
pub(super) struct Tile {
    pub normed: Vec<f32>, // [TILE, d_model]
    pub branch: Vec<f32>, // [TILE, d_model]
    pub hidden: Vec<f32>, // [TILE, block of hidden columns], twice where there are gates
}

/// What a query sees, and the buffers of attention to it.
#[derive(Default)]
pub(super) struct Seen {
    pub path: Vec<u32>,   // nodes
    pub scores: Vec<f32>, // [path]
    pub attention: PathAttention,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// Lends this thread's scratch. Nothing inside `f` may start parallel work, which could come back to this thread.
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

/// Buffers that are free at present.
#[derive(Clone, Default)]
pub(super) struct Pool(Arc<Mutex<Vec<Vec<f32>>>>);

impl Pool {
    /// A buffer of `len` floats, whatever they are.
    pub fn take(&self, len: usize) -> Buffer {
        let mut floats = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default();
        floats.resize(len, 0.0);
        Buffer { floats, pool: self.clone() }
    }
}

/// Floats that go back to their pool.
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
