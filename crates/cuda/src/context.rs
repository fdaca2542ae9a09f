//! An open GPU: its context, a stream for work, a second stream for copies, and freed memory that is kept for reuse.

use std::collections::BTreeMap;
use std::ptr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::driver::{Device, Driver};
use crate::error::CudaError;
use crate::sys::{Address, Api, Handle, Status, status};

/// `CU_STREAM_NON_BLOCKING`
const NON_BLOCKING: u32 = 1;

/// `CU_EVENT_DISABLE_TIMING`
const NO_TIMES: u32 = 2;

/// Block sizes are multiples of this, so that requests of similar size can reuse them.
const GRANULE: usize = 512;

/// An open GPU. Clones share it; arrays and kernels keep it alive.
#[derive(Clone)]
pub struct Context(pub(crate) Arc<Shared>);

pub(crate) struct Shared {
    pub driver: Driver,
    pub device: Device,
    handle: Sent,
    stream: Sent,
    /// Second stream: copies of data for later work.
    copies: Sent,
    memory: Mutex<Memory>,
    /// Why the context was lost, if it was.
    lost: Mutex<Option<String>>,
}

/// A driver handle that any thread may use.
#[derive(Clone, Copy)]
pub(crate) struct Sent(pub Handle);

// SAFETY: the driver's functions may be called from any thread; a handle is only passed back to them.
unsafe impl Send for Sent {}
// SAFETY: as above.
unsafe impl Sync for Sent {}

#[derive(Default)]
struct Memory {
    /// Freed blocks, by size, for reuse. Work runs in stream order, so a block's last reader is done before its next writer
    /// starts.
    kept: BTreeMap<usize, Vec<Address>>,
    used: usize,
    peak: usize,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Context {
    /// Opens a GPU.
    ///
    /// # Errors
    /// Errors of the driver; [`CudaError::OutOfMemory`] if other processes use all of the memory.
    pub fn new(driver: &Driver, device: &Device) -> Result<Self, CudaError> {
        let mut context: Handle = ptr::null_mut();
        // SAFETY: the pointer is to a handle.
        let got = unsafe { (driver.api.context_retain)(&mut context, device.id) };
        if got == status::OUT_OF_MEMORY {
            return Err(CudaError::OutOfMemory { needed: 0, free: 0, total: device.memory });
        }
        driver.check("cuDevicePrimaryCtxRetain", got)?;
        let mut shared = Shared {
            driver: driver.clone(),
            device: device.clone(),
            handle: Sent(context),
            stream: Sent(ptr::null_mut()),
            copies: Sent(ptr::null_mut()),
            memory: Mutex::default(),
            lost: Mutex::default(),
        };
        shared.stream = Sent(shared.new_stream()?);
        shared.copies = Sent(shared.new_stream()?);
        Ok(Self(Arc::new(shared)))
    }

    /// The GPU.
    pub fn device(&self) -> &Device {
        &self.0.device
    }

    /// The driver.
    pub fn driver(&self) -> &Driver {
        &self.0.driver
    }

    /// Waits until all work is done.
    ///
    /// # Errors
    /// [`CudaError::Lost`] if some of it failed.
    pub fn wait(&self) -> Result<(), CudaError> {
        // SAFETY: the stream lives as long as `self`.
        self.0.check("cuStreamSynchronize", unsafe { (self.0.api().stream_wait)(self.0.stream()) })
    }

    /// Makes all later work wait for the copies of [`Array::write_aside`](crate::Array::write_aside).
    ///
    /// # Errors
    /// Errors of the driver.
    pub fn join(&self) -> Result<(), CudaError> {
        self.0.order(self.0.copies.0, self.0.stream.0)
    }

    /// Free bytes, including blocks kept for reuse, and total bytes of the GPU.
    ///
    /// # Errors
    /// Errors of the driver.
    pub fn memory(&self) -> Result<(usize, usize), CudaError> {
        let (free, total) = self.0.memory_info()?;
        Ok((free + self.0.kept(), total))
    }

    /// Peak memory use in bytes.
    pub fn peak(&self) -> usize {
        lock(&self.0.memory).peak
    }
}

impl Shared {
    /// The driver's functions, after making this context current in the calling thread.
    pub fn api(&self) -> &Api {
        // SAFETY: retained until `self` is dropped. An error here is reported by the next call.
        unsafe { (self.driver.api.context_set)(self.handle.0) };
        &self.driver.api
    }

    pub fn stream(&self) -> Handle {
        self.stream.0
    }

    /// The stream for copies.
    pub fn copies(&self) -> Handle {
        self.copies.0
    }

    fn new_stream(&self) -> Result<Handle, CudaError> {
        let mut stream: Handle = ptr::null_mut();
        // SAFETY: the pointer is to a handle.
        let created = unsafe { (self.api().stream_create)(&mut stream, NON_BLOCKING) };
        self.check("cuStreamCreate", created)?;
        Ok(stream)
    }

    /// Makes later work in one stream wait for earlier work in another.
    pub fn order(&self, before: Handle, after: Handle) -> Result<(), CudaError> {
        let mut event: Handle = ptr::null_mut();
        // SAFETY: the pointer is to a handle.
        let created = unsafe { (self.api().event_create)(&mut event, NO_TIMES) };
        self.check("cuEventCreate", created)?;
        // SAFETY: event and streams belong to this context; an event may be destroyed while a stream waits for it.
        let (recorded, waits) = unsafe {
            let api = self.api();
            let recorded = (api.event_record)(event, before);
            let waits = (api.stream_wait_event)(after, event, 0);
            (api.event_destroy)(event);
            (recorded, waits)
        };
        self.check("cuEventRecord", recorded)?;
        self.check("cuStreamWaitEvent", waits)
    }

    /// Waits until all copies are done.
    pub fn wait_for_copies(&self) {
        // SAFETY: the stream lives as long as `self`. An error here is reported by the next call.
        unsafe { (self.api().stream_wait)(self.copies.0) };
    }

    /// Turns a status into an error; after the context is lost, every call returns that error.
    pub fn check(&self, function: &'static str, status: Status) -> Result<(), CudaError> {
        if let Some(what) = &*lock(&self.lost) {
            return Err(self.lost_error(what.clone()));
        }
        if status::is_sticky(status) {
            let what = self.driver.words(status);
            *lock(&self.lost) = Some(what.clone());
            return Err(self.lost_error(what));
        }
        self.driver.check(function, status)
    }

    fn lost_error(&self, what: String) -> CudaError {
        CudaError::Lost { name: self.device.name.clone(), what }
    }

    fn memory_info(&self) -> Result<(usize, usize), CudaError> {
        let (mut free, mut total) = (0, 0);
        // SAFETY: the pointers are to sizes.
        self.check("cuMemGetInfo", unsafe { (self.api().memory_info)(&mut free, &mut total) })?;
        Ok((free, total))
    }

    /// Bytes in blocks kept for reuse.
    fn kept(&self) -> usize {
        lock(&self.memory).kept.iter().map(|(size, blocks)| size * blocks.len()).sum()
    }

    /// A block of at least `bytes` bytes: its address and size.
    pub fn take(&self, bytes: usize) -> Result<(Address, usize), CudaError> {
        let size = bytes.max(1).next_multiple_of(GRANULE);
        // A kept block that is not much larger.
        let fitting = {
            let kept = &mut lock(&self.memory).kept;
            let key =
                kept.range(size..=size + size / 8).find(|(_, blocks)| !blocks.is_empty()).map(|(&k, _)| k);
            key.and_then(|key| kept.get_mut(&key)?.pop().map(|address| (address, key)))
        };
        let (address, size) = match fitting {
            Some(block) => block,
            None => (self.allocate(size)?, size),
        };
        let memory = &mut lock(&self.memory);
        memory.used += size;
        memory.peak = memory.peak.max(memory.used);
        Ok((address, size))
    }

    fn allocate(&self, size: usize) -> Result<Address, CudaError> {
        let mut address = 0;
        // SAFETY: the pointer is to an address.
        let mut got = unsafe { (self.api().alloc)(&mut address, size) };
        if got == status::OUT_OF_MEMORY {
            self.release_kept();
            // SAFETY: as above.
            got = unsafe { (self.api().alloc)(&mut address, size) };
        }
        if got == status::OUT_OF_MEMORY {
            let (free, total) = self.memory_info()?;
            return Err(CudaError::OutOfMemory { needed: size, free, total });
        }
        self.check("cuMemAlloc", got)?;
        Ok(address)
    }

    /// Returns a block for reuse.
    pub fn give_back(&self, address: Address, size: usize) {
        let memory = &mut lock(&self.memory);
        memory.used -= size;
        memory.kept.entry(size).or_default().push(address);
    }

    fn release_kept(&self) {
        // `cuMemFree` waits for the work that uses the block.
        let kept = std::mem::take(&mut lock(&self.memory).kept);
        for address in kept.into_values().flatten() {
            // SAFETY: the address came from `alloc` and is not in use. An error here is reported by the next call.
            unsafe { (self.api().free)(address) };
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.release_kept();
        // SAFETY: all belong to this context, and nothing else uses them any more.
        unsafe {
            for stream in [self.stream(), self.copies()].into_iter().filter(|stream| !stream.is_null()) {
                (self.api().stream_destroy)(stream);
            }
            (self.driver.api.context_release)(self.device.id);
        }
    }
}
