//! A card in use: its context, one stream in whose order everything runs, and memory that is kept for reuse.

use std::collections::BTreeMap;
use std::ptr;
use std::rc::Rc;
use std::cell::{Cell, RefCell};

use crate::driver::{Device, Driver};
use crate::error::CudaError;
use crate::sys::{Address, Handle, Status, status};

/// `CU_STREAM_NON_BLOCKING`
const NON_BLOCKING: u32 = 1;

/// Sizes of blocks are multiples of this, so that neighbouring requests share them.
const GRANULE: usize = 512;

/// A card in use by one thread. Clones are the same one; memory, modules and functions keep it alive.
#[derive(Clone)]
pub struct Context(pub(crate) Rc<Shared>);

pub(crate) struct Shared {
    pub driver: Driver,
    pub device: Device,
    pub stream: Handle,
    /// Blocks that were let go, by size, for whoever asks next. Work is in the stream's order, so that a block's last reader
    /// is done before its next writer begins.
    pool: RefCell<BTreeMap<usize, Vec<Address>>>,
    used: Cell<usize>,
    peak: Cell<usize>,
    /// Why the context is gone, once it is.
    lost: RefCell<Option<String>>,
}

impl Context {
    /// Takes a card into use.
    ///
    /// # Errors
    /// What the driver says, [`CudaError::OutOfMemory`] where another process has taken all of it.
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
            stream: ptr::null_mut(),
            pool: RefCell::default(),
            used: Cell::new(0),
            peak: Cell::new(0),
            lost: RefCell::default(),
        };
        // SAFETY: the context was just retained.
        shared.check("cuCtxSetCurrent", unsafe { (driver.api.context_set)(context) })?;
        // SAFETY: the pointer is to a handle.
        let created = unsafe { (driver.api.stream_create)(&mut shared.stream, NON_BLOCKING) };
        shared.check("cuStreamCreate", created)?;
        Ok(Self(Rc::new(shared)))
    }

    /// The card.
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
        self.0.check("cuStreamSynchronize", unsafe { (self.0.driver.api.stream_wait)(self.0.stream) })
    }

    /// Bytes that are free now, blocks kept for reuse included, and bytes of the card.
    ///
    /// # Errors
    /// What the driver says.
    pub fn memory(&self) -> Result<(usize, usize), CudaError> {
        let (free, total) = self.0.memory_info()?;
        Ok((free + self.0.kept(), total))
    }

    /// The most bytes that were in use at once.
    pub fn peak(&self) -> usize {
        self.0.peak.get()
    }
}

impl Shared {
    /// Turns a status into an error; a context that is gone says so from then on, whatever is asked.
    pub fn check(&self, function: &'static str, status: Status) -> Result<(), CudaError> {
        if let Some(what) = &*self.lost.borrow() {
            return Err(self.lost_error(what.clone()));
        }
        if status::is_sticky(status) {
            let what = self.driver.words(status);
            *self.lost.borrow_mut() = Some(what.clone());
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
        self.check("cuMemGetInfo", unsafe { (self.driver.api.memory_info)(&mut free, &mut total) })?;
        Ok((free, total))
    }

    /// Bytes in blocks kept for reuse.
    fn kept(&self) -> usize {
        self.pool.borrow().iter().map(|(size, blocks)| size * blocks.len()).sum()
    }

    /// A block of at least so many bytes: its address and size.
    pub fn take(&self, bytes: usize) -> Result<(Address, usize), CudaError> {
        let size = bytes.max(1).next_multiple_of(GRANULE);
        // A kept block that is not much larger.
        let fitting = {
            let mut pool = self.pool.borrow_mut();
            let key = pool.range(size..=size + size / 8).find(|(_, blocks)| !blocks.is_empty()).map(|(&k, _)| k);
            key.and_then(|key| pool.get_mut(&key)?.pop().map(|address| (address, key)))
        };
        let (address, size) = match fitting {
            Some(block) => block,
            None => (self.allocate(size)?, size),
        };
        self.used.set(self.used.get() + size);
        self.peak.set(self.peak.get().max(self.used.get()));
        Ok((address, size))
    }

    fn allocate(&self, size: usize) -> Result<Address, CudaError> {
        let mut address = 0;
        // SAFETY: the pointer is to an address.
        let mut got = unsafe { (self.driver.api.alloc)(&mut address, size) };
        if got == status::OUT_OF_MEMORY {
            self.release_kept();
            // SAFETY: as above.
            got = unsafe { (self.driver.api.alloc)(&mut address, size) };
        }
        if got == status::OUT_OF_MEMORY {
            let (free, total) = self.memory_info()?;
            return Err(CudaError::OutOfMemory { needed: size, free, total });
        }
        self.check("cuMemAlloc", got)?;
        Ok(address)
    }

    /// Takes a block back.
    pub fn give_back(&self, address: Address, size: usize) {
        self.used.set(self.used.get() - size);
        self.pool.borrow_mut().entry(size).or_default().push(address);
    }

    fn release_kept(&self) {
        // `cuMemFree` waits for the work that uses the block.
        for address in std::mem::take(&mut *self.pool.borrow_mut()).into_values().flatten() {
            // SAFETY: the address came from `alloc` and nobody holds it. What goes wrong here is said by the next call.
            unsafe { (self.driver.api.free)(address) };
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.release_kept();
        // SAFETY: both are this context's own, and nothing else holds them any more.
        unsafe {
            if !self.stream.is_null() {
                (self.driver.api.stream_destroy)(self.stream);
            }
            (self.driver.api.context_release)(self.device.id);
        }
    }
}
