//! The C functions of the driver that are used, looked up by name in a library opened at run time.
//!
//! Nothing is linked. Types are those of `cuda.h`: handles are pointers, device memory is a 64-bit address, every function
//! returns a status. Names are those of the library's symbols, with `_v2` where the header maps the plain name to it.

use std::ffi::{c_char, c_int, c_uint, c_void};
use std::mem::ManuallyDrop;

use libloading::Library;

/// A function's result: 0, or an error code.
pub type Status = c_int;
/// A device's number.
pub type DeviceId = c_int;
/// An address in GPU memory.
pub type Address = u64;
/// A driver handle: context, stream, event, module or function.
pub type Handle = *mut c_void;

/// `cuDeviceGetAttribute`
pub mod attribute {
    /// `CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT`
    pub const MULTIPROCESSORS: i32 = 16;
    /// `CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR`
    pub const CAPABILITY_MAJOR: i32 = 75;
    /// `CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR`
    pub const CAPABILITY_MINOR: i32 = 76;
    /// `CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN`
    pub const SHARED_PER_BLOCK: i32 = 97;
    /// `CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES`, of `cuFuncSetAttribute`
    pub const FUNCTION_DYNAMIC_SHARED: i32 = 8;
}

/// Statuses that are distinguished.
pub mod status {
    /// `CUDA_ERROR_OUT_OF_MEMORY`
    pub const OUT_OF_MEMORY: i32 = 2;
    /// `CUDA_ERROR_NO_DEVICE`
    pub const NO_DEVICE: i32 = 100;
    /// `CUDA_ERROR_SYSTEM_DRIVER_MISMATCH`
    pub const DRIVER_MISMATCH: i32 = 803;

    /// Whether the context is unusable after this status: memory errors of kernels, hardware errors, removal of the GPU.
    pub fn is_sticky(status: i32) -> bool {
        matches!(status, 46 | 214 | 220 | 226 | 700 | 702 | 709 | 710 | 714..=719 | 721 | 999)
    }
}

macro_rules! driver {
    ($($(#[$meta:meta])* $field:ident = $symbol:literal ($($arg:ty),*);)*) => {
        /// The driver's functions.
        pub struct Api {
            $($(#[$meta])* pub $field: unsafe extern "C" fn($($arg),*) -> Status,)*
            /// Never closed, since the driver's threads keep running.
            _library: ManuallyDrop<Library>,
        }

        impl Api {
            /// Looks up all functions.
            ///
            /// # Errors
            /// The name of the first missing function.
            ///
            /// # Safety
            /// The library must be a CUDA driver, or have functions with the same names and types.
            pub unsafe fn of(library: Library) -> Result<Self, &'static str> {
                Ok(Self {
                    // SAFETY: the caller vouches for the types; the library is kept as long as the pointers.
                    $($field: *unsafe { library.get(concat!($symbol, "\0").as_bytes()) }.map_err(|_| $symbol)?,)*
                    _library: ManuallyDrop::new(library),
                })
            }
        }
    };
}

driver! {
    init = "cuInit" (c_uint);
    driver_version = "cuDriverGetVersion" (*mut c_int);
    error_name = "cuGetErrorName" (Status, *mut *const c_char);
    error_text = "cuGetErrorString" (Status, *mut *const c_char);
    device_count = "cuDeviceGetCount" (*mut c_int);
    device = "cuDeviceGet" (*mut DeviceId, c_int);
    device_name = "cuDeviceGetName" (*mut c_char, c_int, DeviceId);
    device_attribute = "cuDeviceGetAttribute" (*mut c_int, c_int, DeviceId);
    device_memory = "cuDeviceTotalMem_v2" (*mut usize, DeviceId);
    context_retain = "cuDevicePrimaryCtxRetain" (*mut Handle, DeviceId);
    context_release = "cuDevicePrimaryCtxRelease_v2" (DeviceId);
    context_set = "cuCtxSetCurrent" (Handle);
    stream_create = "cuStreamCreate" (*mut Handle, c_uint);
    stream_destroy = "cuStreamDestroy_v2" (Handle);
    stream_wait = "cuStreamSynchronize" (Handle);
    stream_wait_event = "cuStreamWaitEvent" (Handle, Handle, c_uint);
    event_create = "cuEventCreate" (*mut Handle, c_uint);
    event_destroy = "cuEventDestroy_v2" (Handle);
    event_record = "cuEventRecord" (Handle, Handle);
    host_register = "cuMemHostRegister_v2" (*mut c_void, usize, c_uint);
    host_unregister = "cuMemHostUnregister" (*mut c_void);
    memory_info = "cuMemGetInfo_v2" (*mut usize, *mut usize);
    alloc = "cuMemAlloc_v2" (*mut Address, usize);
    free = "cuMemFree_v2" (Address);
    upload = "cuMemcpyHtoDAsync_v2" (Address, *const c_void, usize, Handle);
    download = "cuMemcpyDtoHAsync_v2" (*mut c_void, Address, usize, Handle);
    copy = "cuMemcpyDtoDAsync_v2" (Address, Address, usize, Handle);
    fill = "cuMemsetD8Async" (Address, u8, usize, Handle);
    module_load = "cuModuleLoadDataEx" (*mut Handle, *const c_void, c_uint, *mut c_int, *mut *mut c_void);
    module_unload = "cuModuleUnload" (Handle);
    module_function = "cuModuleGetFunction" (*mut Handle, Handle, *const c_char);
    function_attribute = "cuFuncSetAttribute" (Handle, c_int, c_int);
    /// Function, grid, block, shared bytes, stream, parameters, extra.
    launch = "cuLaunchKernel" (
        Handle, c_uint, c_uint, c_uint, c_uint, c_uint, c_uint, c_uint, Handle, *mut *mut c_void, *mut *mut c_void
    );
}
