//! Arrays in the card's memory, and the way there and back.

use std::marker::PhantomData;
use std::ops::Range;

use crate::context::Context;
use crate::error::CudaError;
use crate::sys::Address;

/// What an array on the card may hold: plain numbers, any bytes of which are a value.
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

/// An array in the card's memory. It starts at a multiple of 256 bytes.
pub struct Array<T> {
    context: Context,
    address: Address,
    size: usize, // bytes of the block
    len: usize,
    element: PhantomData<T>,
}

impl Context {
    /// An array of `len` elements that hold anything.
    ///
    /// # Errors
    /// [`CudaError::OutOfMemory`]
    pub fn array<T: Element>(&self, len: usize) -> Result<Array<T>, CudaError> {
        let (address, size) = self.0.take(len * size_of::<T>())?;
        Ok(Array { context: self.clone(), address, size, len, element: PhantomData })
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
    /// Elements.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Where it starts, for kernels.
    pub fn address(&self) -> Address {
        self.address
    }

    /// Where element `at` is, for kernels.
    ///
    /// # Panics
    /// If it lies beyond the end.
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
        // SAFETY: the block holds so many bytes, and is this array's own.
        let filled = unsafe { (shared.api().fill)(self.address, byte, bytes, shared.stream()) };
        shared.check("cuMemsetD8Async", filled)
    }

    /// Writes values from `at` on. They may be let go once this returns.
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
        // SAFETY: both sides hold as many bytes, and `values` are borrowed until the stream has been waited for.
        let copied = unsafe {
            (shared.api().upload)(to, values.as_ptr().cast(), size_of_val(values), shared.stream())
        };
        shared.check("cuMemcpyHtoDAsync", copied)?;
        // Where a card reads the process's memory itself, the call returns before it has done so.
        self.context.wait()
    }

    /// A copy of some elements in the program's memory, once all work before is done.
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
            // SAFETY: both sides hold as many bytes, and `values` is not touched before the stream has been waited for.
            let copied =
                unsafe { (shared.api().download)(values.as_mut_ptr().cast(), from, bytes, shared.stream()) };
            shared.check("cuMemcpyDtoHAsync", copied)?;
            self.context.wait()?;
        }
        Ok(values)
    }

    /// All of it.
    ///
    /// # Errors
    /// As [`Array::read`].
    pub fn to_vec(&self) -> Result<Vec<T>, CudaError> {
        self.read(0..self.len)
    }

    /// Copies `range` of another array to where `at` is.
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
        // SAFETY: both sides hold so many bytes; two arrays never overlap.
        let copied = unsafe { (shared.api().copy)(to, from, bytes, shared.stream()) };
        shared.check("cuMemcpyDtoDAsync", copied)
    }
}

impl<T> Drop for Array<T> {
    fn drop(&mut self) {
        self.context.0.give_back(self.address, self.size);
    }
}
