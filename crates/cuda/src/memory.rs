//! Arrays in GPU memory, and copies to and from it.

use std::marker::PhantomData;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use crate::context::Context;
use crate::error::CudaError;
use crate::sys::Address;

/// Element types of arrays: plain numbers for which all bytes are valid.
///
/// # Safety
/// The type has no padding, no pointers, and no invalid values.
pub unsafe trait Element: Copy + Default + 'static {}
// SAFETY: plain numbers.
unsafe impl Element for f32 {}
// SAFETY: plain numbers.
unsafe impl Element for f64 {}
// SAFETY: plain numbers.
unsafe impl Element for u16 {}
// SAFETY: plain numbers.
unsafe impl Element for i32 {}
// SAFETY: plain numbers.
unsafe impl Element for u32 {}

/// Values in pinned host memory, which GPUs can read directly, in parallel with other work.
///
/// If the system does not allow so much pinned memory, copies are slower but still correct.
pub struct Pinned<T> {
    values: Vec<T>,
    context: Context,
    is_registered: bool,
    /// GPUs that may be reading them.
    readers: Mutex<Vec<Context>>,
}

/// `CU_MEMHOSTREGISTER_PORTABLE`: for all GPUs.
const PORTABLE: u32 = 1;

/// An array in GPU memory, aligned to 256 bytes.
pub struct Array<T> {
    context: Context,
    address: Address,
    size: usize, // bytes of the block
    len: usize,
    /// Whether asynchronous copies may be writing to it.
    aside: bool,
    element: PhantomData<T>,
}

impl Context {
    /// Pins the pages of some values.
    pub fn pin<T: Element>(&self, mut values: Vec<T>) -> Pinned<T> {
        let bytes = size_of_val(&values[..]);
        // SAFETY: the memory belongs to the vector, and is neither moved nor freed before it is unregistered.
        let registered = unsafe { (self.0.api().host_register)(values.as_mut_ptr().cast(), bytes, PORTABLE) };
        Pinned { values, context: self.clone(), is_registered: registered == 0, readers: Mutex::default() }
    }

    /// An array of `len` elements with unspecified values.
    ///
    /// # Errors
    /// [`CudaError::OutOfMemory`]
    pub fn array<T: Element>(&self, len: usize) -> Result<Array<T>, CudaError> {
        let (address, size) = self.0.take(len * size_of::<T>())?;
        Ok(Array { context: self.clone(), address, size, len, aside: false, element: PhantomData })
    }

    /// An array of zeros.
    ///
    /// # Errors
    /// [`CudaError::OutOfMemory`]
    pub fn zeros<T: Element>(&self, len: usize) -> Result<Array<T>, CudaError> {
        let mut array = self.array(len)?;
        array.fill_bytes(0)?;
        Ok(array)
    }

    /// An array with these values.
    ///
    /// # Errors
    /// [`CudaError::OutOfMemory`]
    pub fn upload<T: Element>(&self, values: &[T]) -> Result<Array<T>, CudaError> {
        let mut array = self.array(values.len())?;
        array.write(0, values)?;
        Ok(array)
    }
}

impl<T: Element> Array<T> {
    /// Number of elements.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Its address, for kernels.
    pub fn address(&self) -> Address {
        self.address
    }

    /// The address of element `at`, for kernels.
    ///
    /// # Panics
    /// If it is beyond the end.
    pub fn address_of(&self, at: usize) -> Address {
        assert!(at <= self.len, "element {at} of {}", self.len);
        self.address + (at * size_of::<T>()) as Address
    }

    /// Sets every byte.
    ///
    /// # Errors
    /// [`CudaError::Lost`]
    pub fn fill_bytes(&mut self, byte: u8) -> Result<(), CudaError> {
        let (shared, bytes) = (&self.context.0, self.len * size_of::<T>());
        if bytes == 0 {
            return Ok(());
        }
        // SAFETY: the block has this many bytes and belongs to this array.
        let filled = unsafe { (shared.api().fill)(self.address, byte, bytes, shared.stream()) };
        shared.check("cuMemsetD8Async", filled)
    }

    /// Writes values starting at `at`. They may be dropped after this returns.
    ///
    /// # Errors
    /// [`CudaError::Lost`]
    ///
    /// # Panics
    /// If they do not fit.
    pub fn write(&mut self, at: usize, values: &[T]) -> Result<(), CudaError> {
        assert!(at + values.len() <= self.len, "{} values from {at} on into {}", values.len(), self.len);
        if values.is_empty() {
            return Ok(());
        }
        let (shared, to) = (&self.context.0, self.address_of(at));
        // SAFETY: both sides have this many bytes, and `values` is borrowed until the stream has been waited for.
        let copied = unsafe {
            (shared.api().upload)(to, values.as_ptr().cast(), size_of_val(values), shared.stream())
        };
        shared.check("cuMemcpyHtoDAsync", copied)?;
        // If the GPU reads host memory directly, the call returns before the copy is done.
        self.context.wait()
    }

    /// Overwrites all elements, after all earlier work, and in parallel with work queued until [`Context::join`].
    ///
    /// # Errors
    /// [`CudaError::Lost`]
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn write_aside(&mut self, values: &Pinned<T>) -> Result<(), CudaError> {
        assert_eq!(values.values.len(), self.len, "values of an array");
        if self.len == 0 {
            return Ok(());
        }
        let shared = &self.context.0;
        shared.order(shared.stream(), shared.copies())?;
        {
            let mut readers = values.readers.lock().unwrap_or_else(PoisonError::into_inner);
            if !readers.iter().any(|reader| Arc::ptr_eq(&reader.0, shared)) {
                readers.push(self.context.clone());
            }
        }
        self.aside = true;
        let (from, bytes) = (values.values.as_ptr().cast(), size_of_val(&values.values[..]));
        // SAFETY: both sides have this many bytes. Neither is freed before the copy is done: see their `drop`.
        let copied = unsafe { (shared.api().upload)(self.address, from, bytes, shared.copies()) };
        shared.check("cuMemcpyHtoDAsync", copied)
    }

    /// A copy of some elements in host memory, after all earlier work.
    ///
    /// # Errors
    /// [`CudaError::Lost`] if some of that work failed.
    ///
    /// # Panics
    /// If the range is not within the array.
    pub fn read(&self, range: Range<usize>) -> Result<Vec<T>, CudaError> {
        assert!(range.start <= range.end && range.end <= self.len, "{range:?} of {}", self.len);
        let mut values = vec![T::default(); range.len()];
        if !values.is_empty() {
            let (shared, from) = (&self.context.0, self.address_of(range.start));
            let bytes = size_of_val(&values[..]);
            // SAFETY: both sides have this many bytes, and `values` is not used before the stream has been waited for.
            let copied =
                unsafe { (shared.api().download)(values.as_mut_ptr().cast(), from, bytes, shared.stream()) };
            shared.check("cuMemcpyDtoHAsync", copied)?;
            self.context.wait()?;
        }
        Ok(values)
    }

    /// All elements.
    ///
    /// # Errors
    /// As [`Array::read`].
    pub fn to_vec(&self) -> Result<Vec<T>, CudaError> {
        self.read(0..self.len)
    }

    /// Copies `range` of another array to position `at`.
    ///
    /// # Errors
    /// [`CudaError::Lost`]
    ///
    /// # Panics
    /// If either is out of bounds.
    pub fn copy_from(&mut self, at: usize, from: &Self, range: Range<usize>) -> Result<(), CudaError> {
        assert!(range.end <= from.len && at + range.len() <= self.len, "copy of {range:?} to {at}");
        if range.is_empty() {
            return Ok(());
        }
        let (shared, bytes) = (&self.context.0, range.len() * size_of::<T>());
        let (to, from) = (self.address_of(at), from.address_of(range.start));
        // SAFETY: both sides have this many bytes; two arrays never overlap.
        let copied = unsafe { (shared.api().copy)(to, from, bytes, shared.stream()) };
        shared.check("cuMemcpyDtoDAsync", copied)
    }
}

impl<T> Drop for Pinned<T> {
    fn drop(&mut self) {
        let readers = self.readers.get_mut().unwrap_or_else(PoisonError::into_inner);
        readers.iter().for_each(|reader| reader.0.wait_for_copies());
        if self.is_registered {
            // SAFETY: registered with this address, and no GPU reads it any more.
            unsafe { (self.context.0.api().host_unregister)(self.values.as_mut_ptr().cast()) };
        }
    }
}

impl<T> Drop for Array<T> {
    fn drop(&mut self) {
        if self.aside {
            self.context.0.wait_for_copies();
        }
        self.context.0.give_back(self.address, self.size);
    }
}
