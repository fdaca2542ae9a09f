//! Compiled kernels on the card, and how they are started.

use std::ffi::{CString, c_void};
use std::ptr;
use std::rc::Rc;

use crate::context::Context;
use crate::error::CudaError;
use crate::sys::{Address, Handle, attribute};

/// Threads of a warp.
const WARP: u32 = 32;
/// What a kernel may have of shared memory without asking.
const SHARED_WITHOUT_ASKING: usize = 48 << 10;

/// Code on the card.
struct Module {
    context: Context,
    handle: Handle,
}

impl Drop for Module {
    fn drop(&mut self) {
        // SAFETY: loaded by this, and no function of it is left. A lost context has let go of it already.
        unsafe { (self.context.0.driver.api.module_unload)(self.handle) };
    }
}

/// A kernel on the card.
#[derive(Clone)]
pub struct Function {
    module: Rc<Module>,
    handle: Handle,
    warps: u32,
    shared: usize,
}

impl Context {
    /// Loads a function from a cubin of this card's architecture, or from PTX that the driver compiles (ended by a zero byte).
    ///
    /// # Errors
    /// What the driver says to the code.
    pub fn function(&self, image: &[u8], name: &str, warps: u32, shared: usize) -> Result<Function, CudaError> {
        let (api, mut module) = (&self.0.driver.api, ptr::null_mut());
        // SAFETY: the image is a whole cubin, or text that ends in a zero byte; there are no options.
        let loaded = unsafe {
            (api.module_load)(&mut module, image.as_ptr().cast(), 0, ptr::null_mut(), ptr::null_mut())
        };
        self.0.check("cuModuleLoadDataEx", loaded)?;
        let module = Rc::new(Module { context: self.clone(), handle: module });
        let c_name = CString::new(name).map_err(|_| CudaError::Archive { what: format!("kernel {name:?}") })?;
        let mut handle = ptr::null_mut();
        // SAFETY: the module was just loaded, and the name ends in a zero byte.
        let found = unsafe { (api.module_function)(&mut handle, module.handle, c_name.as_ptr()) };
        self.0.check("cuModuleGetFunction", found)?;
        if shared > SHARED_WITHOUT_ASKING {
            let attribute = attribute::FUNCTION_DYNAMIC_SHARED;
            // SAFETY: the function was just found.
            let set = unsafe { (api.function_attribute)(handle, attribute, shared as i32) };
            self.0.check("cuFuncSetAttribute", set)?;
        }
        Ok(Function { module, handle, warps, shared })
    }
}

/// Arguments of a kernel, in order.
#[derive(Default)]
pub struct Arguments(Vec<u64>);

impl Arguments {
    /// None.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the address of an array.
    #[must_use]
    pub fn address(mut self, address: Address) -> Self {
        self.0.push(address);
        self
    }

    /// Adds a 32-bit integer.
    ///
    /// # Panics
    /// If it does not fit: no matrix has so many rows or columns.
    #[must_use]
    pub fn int(mut self, value: usize) -> Self {
        let value = i32::try_from(value).expect("sizes fit 32 bits");
        self.0.push(u64::from(value as u32));
        self
    }

    /// Adds a float32.
    #[must_use]
    pub fn float(mut self, value: f32) -> Self {
        self.0.push(u64::from(value.to_bits()));
        self
    }
}

impl Function {
    /// Starts the kernel on a grid of blocks, after all work before. Nothing is started on an empty grid.
    ///
    /// Kernels of Triton end with two further pointers, to scratch memory, which those carried here do not use.
    ///
    /// # Errors
    /// [`CudaError::Lost`], also of an earlier kernel.
    ///
    /// # Safety
    /// The arguments must be those that the kernel is written for: addresses of live arrays, large enough for the sizes given.
    pub unsafe fn launch(&self, grid: [usize; 3], arguments: Arguments) -> Result<(), CudaError> {
        if grid.contains(&0) {
            return Ok(());
        }
        let shared = &self.module.context.0;
        let [x, y, z] = grid.map(|n| u32::try_from(n).expect("grids fit 32 bits"));
        let mut slots = arguments.0;
        slots.extend([0, 0]);
        // Values are little-endian, so that a slot's address is that of the value in it, whatever its width.
        let mut pointers: Vec<*mut c_void> = slots.iter_mut().map(|slot| ptr::from_mut(slot).cast()).collect();
        // SAFETY: one pointer per parameter, each to 8 bytes that live until the call returns; the rest is the caller's to hold.
        let launched = unsafe {
            (shared.driver.api.launch)(
                self.handle,
                x,
                y,
                z,
                WARP * self.warps,
                1,
                1,
                self.shared as u32,
                shared.stream,
                pointers.as_mut_ptr(),
                ptr::null_mut(),
            )
        };
        shared.check("cuLaunchKernel", launched)
    }
}

const _: () = assert!(cfg!(target_endian = "little"), "arguments are passed as little-endian slots");
