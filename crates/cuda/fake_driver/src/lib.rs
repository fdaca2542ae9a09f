//! A CUDA driver for tests: its card is the processor, its memory the process's own, and its kernels plain loops that read
//! their arguments exactly as a card would.
//!
//! It is opened as any driver is, by the path of its library ([`library`]). What it pretends comes from the environment, read
//! when it is first initialised in a process:
//!
//! | variable | what | if unset |
//! |---|---|---|
//! | `FAKE_CUDA_VERSION` | CUDA version of the driver | 12080 |
//! | `FAKE_CUDA_DEVICES` | cards | 1 |
//! | `FAKE_CUDA_CAPABILITY` | ten times the compute capability | 90 |
//! | `FAKE_CUDA_MEMORY` | bytes of memory | 1 GiB |
//! | `FAKE_CUDA_LOST_AFTER` | launches after which the card is lost | never |
//! | `FAKE_CUDA_WRONG` | if set, products are wrong by a thousandth | right |
//!
//! New memory is full of NaN. A kernel that reads or writes beyond an array loses the card, as it does on a real one.

mod attention;
mod kernels;
mod launch;
mod memory;
mod product;
mod rows;

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use memory::Memory;

/// Where the library is that tests open, beside the test that runs.
///
/// # Panics
/// If it was not built along with the test.
pub fn library() -> PathBuf {
    let test = std::env::current_exe().expect("the running test");
    let name = format!("{}cs_fake_cuda_driver{}", std::env::consts::DLL_PREFIX, std::env::consts::DLL_SUFFIX);
    let folders =
        test.ancestors().skip(1).take(2).flat_map(|folder| [folder.to_owned(), folder.join("deps")]);
    let found = folders.map(|folder| folder.join(&name)).find(|path| path.exists());
    found.expect("the fake driver is built with the tests that depend on it")
}

const CAPABILITY: u64 = 90;
const SUCCESS: c_int = 0;
const INVALID_VALUE: c_int = 1;
const OUT_OF_MEMORY: c_int = 2;
const NO_DEVICE: c_int = 100;
const NO_BINARY: c_int = 209;
const NOT_FOUND: c_int = 500;
const ILLEGAL_ADDRESS: c_int = 700;
const LAUNCH_FAILED: c_int = 719;

struct Card {
    version: c_int,
    devices: c_int,
    capability: c_int,
    memory: Memory,
    launches_left: Option<u64>,
    lost: Option<c_int>,
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is no number")))
}

fn card() -> MutexGuard<'static, Card> {
    static CARD: OnceLock<Mutex<Card>> = OnceLock::new();
    let new = || {
        Mutex::new(Card {
            version: setting("FAKE_CUDA_VERSION").map_or(12080, |n| n as c_int),
            devices: setting("FAKE_CUDA_DEVICES").map_or(1, |n| n as c_int),
            capability: setting("FAKE_CUDA_CAPABILITY").unwrap_or(CAPABILITY) as c_int,
            memory: Memory::new(setting("FAKE_CUDA_MEMORY").map_or(1 << 30, |n| n as usize)),
            launches_left: setting("FAKE_CUDA_LOST_AFTER"),
            lost: None,
        })
    };
    CARD.get_or_init(new).lock().unwrap_or_else(PoisonError::into_inner)
}

impl Card {
    fn status(&self) -> c_int {
        self.lost.unwrap_or(SUCCESS)
    }
}

/// Writes a result where the caller wants it.
///
/// # Safety
/// `to` is valid for writing, as the driver's interface demands.
unsafe fn give<T>(to: *mut T, value: T) -> c_int {
    // SAFETY: the caller's.
    unsafe { to.write(value) };
    SUCCESS
}

macro_rules! driver {
    ($($name:ident($($arg:ident: $type:ty),*) $body:block)*) => {
        $(
            /// As the driver's function of this name.
            ///
            /// # Safety
            /// Pointers are valid, as the driver's interface demands.
            #[unsafe(no_mangle)]
            #[allow(
                non_snake_case,
                clippy::too_many_arguments,
                clippy::undocumented_unsafe_blocks,
                reason = "the driver's interface"
            )]
            pub unsafe extern "C" fn $name($($arg: $type),*) -> c_int $body
        )*
    };
}

driver! {
    cuInit(_flags: c_uint) { if card().devices == 0 { NO_DEVICE } else { SUCCESS } }
    cuDriverGetVersion(to: *mut c_int) { unsafe { give(to, card().version) } }
    cuGetErrorName(status: c_int, to: *mut *const c_char) {
        let name = match status {
            OUT_OF_MEMORY => c"CUDA_ERROR_OUT_OF_MEMORY",
            NO_BINARY => c"CUDA_ERROR_NO_BINARY_FOR_GPU",
            NOT_FOUND => c"CUDA_ERROR_NOT_FOUND",
            ILLEGAL_ADDRESS => c"CUDA_ERROR_ILLEGAL_ADDRESS",
            LAUNCH_FAILED => c"CUDA_ERROR_LAUNCH_FAILED",
            _ => c"CUDA_ERROR_INVALID_VALUE",
        };
        unsafe { give(to, name.as_ptr()) }
    }
    cuGetErrorString(_status: c_int, to: *mut *const c_char) { unsafe { give(to, c"in the fake driver".as_ptr()) } }
    cuDeviceGetCount(to: *mut c_int) { unsafe { give(to, card().devices) } }
    cuDeviceGet(to: *mut c_int, ordinal: c_int) {
        if ordinal < card().devices { unsafe { give(to, ordinal) } } else { INVALID_VALUE }
    }
    cuDeviceGetName(to: *mut c_char, length: c_int, device: c_int) {
        let name = format!("Fake card {device}");
        for (i, byte) in name.bytes().chain([0]).take(length as usize).enumerate() {
            unsafe { to.add(i).write(byte as c_char) };
        }
        SUCCESS
    }
    cuDeviceGetAttribute(to: *mut c_int, attribute: c_int, _device: c_int) {
        let value = match attribute {
            16 => 4,
            75 => card().capability / 10,
            76 => card().capability % 10,
            97 => 232_448,
            _ => 0,
        };
        unsafe { give(to, value) }
    }
    cuDeviceTotalMem_v2(to: *mut usize, _device: c_int) { unsafe { give(to, card().memory.total) } }
    cuDevicePrimaryCtxRetain(to: *mut *mut c_void, device: c_int) {
        unsafe { give(to, std::ptr::without_provenance_mut(device as usize + 1)) }
    }
    cuDevicePrimaryCtxRelease_v2(_device: c_int) { SUCCESS }
    cuCtxSetCurrent(_context: *mut c_void) { card().status() }
    cuStreamCreate(to: *mut *mut c_void, _flags: c_uint) { unsafe { give(to, std::ptr::without_provenance_mut(1)) } }
    cuStreamDestroy_v2(_stream: *mut c_void) { SUCCESS }
    cuStreamSynchronize(_stream: *mut c_void) { card().status() }
    cuMemGetInfo_v2(free: *mut usize, total: *mut usize) {
        let card = card();
        unsafe { give(total, card.memory.total); give(free, card.memory.free()) }
    }
    cuMemAlloc_v2(to: *mut u64, bytes: usize) {
        match card().memory.allocate(bytes) {
            Some(address) => unsafe { give(to, address) },
            None => OUT_OF_MEMORY,
        }
    }
    cuMemFree_v2(address: u64) { if card().memory.release(address) { SUCCESS } else { INVALID_VALUE } }
    cuMemcpyHtoDAsync_v2(to: u64, from: *const c_void, bytes: usize, _stream: *mut c_void) {
        let mut card = card();
        let Some(to) = card.memory.bytes(to, bytes) else { return INVALID_VALUE };
        to.copy_from_slice(unsafe { std::slice::from_raw_parts(from.cast(), bytes) });
        card.status()
    }
    cuMemcpyDtoHAsync_v2(to: *mut c_void, from: u64, bytes: usize, _stream: *mut c_void) {
        let mut card = card();
        let Some(from) = card.memory.bytes(from, bytes) else { return INVALID_VALUE };
        unsafe { std::slice::from_raw_parts_mut(to.cast::<u8>(), bytes) }.copy_from_slice(from);
        card.status()
    }
    cuMemcpyDtoDAsync_v2(to: u64, from: u64, bytes: usize, _stream: *mut c_void) {
        let mut card = card();
        let Some(from) = card.memory.bytes(from, bytes).map(|bytes| bytes.to_vec()) else { return INVALID_VALUE };
        let Some(to) = card.memory.bytes(to, bytes) else { return INVALID_VALUE };
        to.copy_from_slice(&from);
        card.status()
    }
    cuMemsetD8Async(to: u64, byte: u8, bytes: usize, _stream: *mut c_void) {
        let mut card = card();
        let Some(to) = card.memory.bytes(to, bytes) else { return INVALID_VALUE };
        to.fill(byte);
        card.status()
    }
    cuModuleLoadDataEx(to: *mut *mut c_void, image: *const c_void, _n: c_uint, _options: *mut c_int, _values: *mut *mut c_void) {
        let head = unsafe { std::slice::from_raw_parts(image.cast::<u8>(), 64) };
        // A cubin is ELF for CUDA (machine 190), its architecture in the flags; everything else is PTX.
        let is_cubin = head.starts_with(b"\x7fELF") && u16::from_le_bytes([head[18], head[19]]) == 190;
        let architecture = head[if head[8] < 8 { 48 } else { 49 }];
        if is_cubin && c_int::from(architecture) != card().capability {
            return NO_BINARY;
        }
        unsafe { give(to, std::ptr::without_provenance_mut(1)) }
    }
    cuModuleUnload(_module: *mut c_void) { SUCCESS }
    cuModuleGetFunction(to: *mut *mut c_void, _module: *mut c_void, name: *const c_char) {
        let name = unsafe { CStr::from_ptr(name) }.to_string_lossy();
        match kernels::index(&name) {
            Some(index) => unsafe { give(to, std::ptr::without_provenance_mut(index + 1)) },
            None => NOT_FOUND,
        }
    }
    cuFuncSetAttribute(_function: *mut c_void, attribute: c_int, value: c_int) {
        if attribute == 8 && value <= 232_448 { SUCCESS } else { INVALID_VALUE }
    }
    cuLaunchKernel(
        function: *mut c_void, grid_x: c_uint, grid_y: c_uint, grid_z: c_uint, block_x: c_uint, _block_y: c_uint,
        _block_z: c_uint, shared: c_uint, _stream: *mut c_void, arguments: *mut *mut c_void, _extra: *mut *mut c_void
    ) {
        let mut card = card();
        match &mut card.launches_left {
            Some(0) => card.lost = Some(LAUNCH_FAILED),
            Some(left) => *left -= 1,
            None => {}
        }
        if card.lost.is_some() {
            return card.status();
        }
        let grid = [grid_x, grid_y, grid_z].map(|n| n as usize);
        // SAFETY: the caller passes as many arguments as the kernel has.
        let ran = unsafe { kernels::run(function.addr() - 1, grid, (block_x, shared), arguments, &card.memory) };
        if !ran {
            // The launch itself succeeds; whatever is asked for next says that it went wrong.
            card.lost = Some(ILLEGAL_ADDRESS);
        }
        SUCCESS
    }
}
