//! The fake GPU's memory: blocks of host memory, with their bounds.

use std::alloc::{Layout, alloc, dealloc};
use std::cell::RefCell;
use std::collections::BTreeMap;

const ALIGNMENT: usize = 256;

pub struct Memory {
    pub total: usize,
    blocks: BTreeMap<u64, usize>,
    /// Blocks passed to the current kernel.
    given: RefCell<Vec<u64>>,
}

impl Memory {
    pub fn new(total: usize) -> Self {
        Self { total, blocks: BTreeMap::new(), given: RefCell::default() }
    }

    pub fn free(&self) -> usize {
        self.total - self.blocks.values().sum::<usize>()
    }

    pub fn allocate(&mut self, bytes: usize) -> Option<u64> {
        if bytes == 0 || bytes > self.free() {
            return None;
        }
        let layout = Layout::from_size_align(bytes, ALIGNMENT).ok()?;
        // SAFETY: the size is not 0.
        let block = unsafe { alloc(layout) };
        if block.is_null() {
            return None;
        }
        // SAFETY: just allocated. All ones are NaN in every format of floats.
        unsafe { block.write_bytes(0xFF, bytes) };
        self.blocks.insert(block as u64, bytes);
        Some(block as u64)
    }

    pub fn release(&mut self, address: u64) -> bool {
        let Some(bytes) = self.blocks.remove(&address) else { return false };
        let layout = Layout::from_size_align(bytes, ALIGNMENT).expect("as it was allocated");
        // SAFETY: allocated with this layout, and no longer among the blocks.
        unsafe { dealloc(address as *mut u8, layout) };
        true
    }

    /// Bytes from an address to the end of its block.
    fn to_end(&self, address: u64) -> usize {
        let block = self.blocks.range(..=address).next_back();
        block.map_or(0, |(start, bytes)| (start + *bytes as u64).saturating_sub(address) as usize)
    }

    /// The block that contains an address.
    pub fn block(&self, address: u64) -> Option<u64> {
        (self.to_end(address) > 0)
            .then(|| self.blocks.range(..=address).next_back().map(|(&start, _)| start))?
    }

    /// The blocks passed since the last call.
    pub fn given(&self) -> Vec<u64> {
        self.given.take()
    }

    pub fn bytes(&mut self, address: u64, bytes: usize) -> Option<&mut [u8]> {
        if bytes > self.to_end(address) {
            return None;
        }
        // SAFETY: within a block that lives until it is released through `&mut self`.
        Some(unsafe { std::slice::from_raw_parts_mut(address as *mut u8, bytes) })
    }

    /// The array behind a kernel's pointer: up to the end of its block; empty for a null pointer.
    pub fn view<T: Copy>(&self, address: u64) -> View<T> {
        self.given.borrow_mut().extend(self.block(address));
        View { start: address as *mut T, len: self.to_end(address) / size_of::<T>() }
    }
}

/// An array that kernels access with bounds checks. Arrays may overlap, just as a kernel's pointers may.
#[derive(Clone, Copy)]
pub struct View<T> {
    start: *mut T,
    len: usize,
}

impl<T: Copy> View<T> {
    pub fn is_aligned_to(&self, bytes: usize) -> bool {
        self.start.addr().is_multiple_of(bytes)
    }

    #[track_caller]
    pub fn get(&self, at: usize) -> T {
        assert!(at < self.len, "read of element {at} of {}", self.len);
        // SAFETY: in bounds of a live block, checked above; kernels run one after the other on one thread.
        unsafe { self.start.add(at).read_unaligned() }
    }

    #[track_caller]
    pub fn set(&self, at: usize, value: T) {
        assert!(at < self.len, "write of element {at} of {}", self.len);
        // SAFETY: as in `get`.
        unsafe { self.start.add(at).write_unaligned(value) };
    }
}
