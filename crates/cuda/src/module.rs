//! Compiled kernels on the GPU, and their launch.

use std::ffi::{CString, c_void};
use std::ptr;
use std::sync::Arc;

use crate::context::{Context, Sent};
use crate::error::CudaError;
use crate::memory::{Array, Element};
use crate::sys::attribute;

/// Threads of a warp.
const WARP: u32 = 32;
/// Shared memory that a kernel may use without opting in, in bytes.
const SHARED_WITHOUT_ASKING: usize = 48 << 10;

/// Code on the GPU.
struct Module {
    context: Context,
    handle: Sent,
}

impl Drop for Module {
    fn drop(&mut self) {
        // SAFETY: loaded here, and no function of it is left. A lost context has already unloaded it.
        unsafe { (self.context.0.api().module_unload)(self.handle.0) };
    }
}

/// A kernel on the GPU.
pub(crate) struct Function {
    module: Arc<Module>,
    handle: Sent,
    warps: u32,
    shared: usize,
}

impl Context {
    /// Loads a function from a cubin for this GPU's architecture, or from PTX that the driver compiles (terminated by a zero
    /// byte).
    pub(crate) fn function(
        &self,
        image: &[u8],
        name: &str,
        warps: u32,
        shared: usize,
    ) -> Result<Function, CudaError> {
        let (api, mut module) = (self.0.api(), ptr::null_mut());
        // SAFETY: the image is a complete cubin, or text terminated by a zero byte; there are no options.
        let loaded = unsafe {
            (api.module_load)(&mut module, image.as_ptr().cast(), 0, ptr::null_mut(), ptr::null_mut())
        };
        self.0.check("cuModuleLoadDataEx", loaded)?;
        let module = Arc::new(Module { context: self.clone(), handle: Sent(module) });
        let c_name =
            CString::new(name).map_err(|_| CudaError::Archive { what: format!("kernel {name:?}") })?;
        let mut handle = ptr::null_mut();
        // SAFETY: the module was just loaded, and the name is terminated by a zero byte.
        let found = unsafe { (api.module_function)(&mut handle, module.handle.0, c_name.as_ptr()) };
        self.0.check("cuModuleGetFunction", found)?;
        if shared > SHARED_WITHOUT_ASKING {
            let attribute = attribute::FUNCTION_DYNAMIC_SHARED;
            // SAFETY: the function was just found.
            let set = unsafe { (api.function_attribute)(handle, attribute, shared as i32) };
            self.0.check("cuFuncSetAttribute", set)?;
        }
        Ok(Function { module, handle: Sent(handle), warps, shared })
    }
}

/// Arguments of a kernel, in order.
#[derive(Default)]
pub struct Arguments {
    kinds: String,
    slots: Vec<u64>,
}

impl Arguments {
    /// No arguments.
    pub fn new() -> Self {
        Self::default()
    }

    fn with(mut self, kind: char, slot: u64) -> Self {
        self.kinds.push(kind);
        self.slots.push(slot);
        self
    }

    /// Adds an array, from its first element on; `None` if the kernel does not read it.
    #[must_use]
    pub fn array<'a, T: Element>(self, array: impl Into<Option<&'a Array<T>>>) -> Self {
        let address = array.into().map_or(0, Array::address);
        self.with('p', address)
    }

    /// Adds an array from element `at` on.
    ///
    /// # Panics
    /// If that is beyond its end.
    #[must_use]
    pub fn array_from<T: Element>(self, array: &Array<T>, at: usize) -> Self {
        self.with('p', array.address_of(at))
    }

    /// Adds a 32-bit integer.
    ///
    /// # Panics
    /// If it does not fit; no matrix has that many rows or columns.
    #[must_use]
    pub fn int(self, value: usize) -> Self {
        let value = i32::try_from(value).expect("sizes fit 32 bits");
        self.with('i', u64::from(value as u32))
    }

    /// Adds several integers.
    #[must_use]
    pub fn ints<const N: usize>(self, values: [usize; N]) -> Self {
        values.into_iter().fold(self, Self::int)
    }

    /// Adds 1 or 0.
    #[must_use]
    pub fn flag(self, value: bool) -> Self {
        self.int(usize::from(value))
    }

    /// Adds a float32.
    #[must_use]
    pub fn float(self, value: f32) -> Self {
        self.with('f', u64::from(value.to_bits()))
    }
}

impl Function {
    pub fn context(&self) -> &Context {
        &self.module.context
    }

    /// Launches the kernel on a grid of blocks, after all earlier work. An empty grid launches nothing.
    ///
    /// `parameters` are the kinds of the kernel's parameters. Triton's kernels have two more pointers, to scratch memory, which
    /// these kernels do not use.
    pub fn launch(&self, parameters: &str, grid: [usize; 3], arguments: Arguments) -> Result<(), CudaError> {
        assert_eq!(arguments.kinds, parameters, "kinds of arguments");
        if grid.contains(&0) {
            return Ok(());
        }
        let shared = &self.module.context.0;
        let [x, y, z] = grid.map(|n| u32::try_from(n).expect("grids fit 32 bits"));
        let mut slots = arguments.slots;
        slots.extend([0, 0]);
        // Values are little-endian, so that a slot's address is its value's address for any width.
        let mut pointers: Vec<*mut c_void> =
            slots.iter_mut().map(|slot| ptr::from_mut(slot).cast()).collect();
        // SAFETY: one pointer per parameter, as checked, each to 8 bytes that live until the call returns. The kernel only accesses
        // GPU memory, not this process's: beyond an array it finds other arrays, or the GPU is lost.
        let launched = unsafe {
            (shared.api().launch)(
                self.handle.0,
                x,
                y,
                z,
                WARP * self.warps,
                1,
                1,
                self.shared as u32,
                shared.stream(),
                pointers.as_mut_ptr(),
                ptr::null_mut(),
            )
        };
        shared.check("cuLaunchKernel", launched)
    }
}

const _: () = assert!(cfg!(target_endian = "little"), "arguments are passed as little-endian slots");
