//! A fake CUDA driver for tests: its GPU is the CPU with the process's memory, and its kernels are plain loops that read
//! their arguments exactly as on a GPU.
//!
//! It is opened like any driver, by the path of its library ([`library`]). Its settings come from the environment, read when
//! it is first initialised in a process:
//!
//! | variable | what | if unset |
//! |---|---|---|
//! | `FAKE_CUDA_VERSION` | CUDA version of the driver | 12080 |
//! | `FAKE_CUDA_DEVICES` | number of GPUs, each with separate memory | 1 |
//! | `FAKE_CUDA_MIXED` | if set, every GPU is a different model | the same model |
//! | `FAKE_CUDA_CAPABILITY` | ten times the compute capability | 90 |
//! | `FAKE_CUDA_MEMORY` | bytes of memory | 1 GiB |
//! | `FAKE_CUDA_LOST_AFTER` | launches after which a GPU is lost | never |
//! | `FAKE_CUDA_LOST_CARD` | the only GPU that is lost | each |
//! | `FAKE_CUDA_SLEEP` | milliseconds more for each of the last 50 launches before a card is lost | none |
//! | `FAKE_CUDA_PINNED` | bytes of host memory that may be registered | unlimited |
//! | `FAKE_CUDA_WRONG` | if set, products are wrong by a thousandth | right |
//!
//! New memory is filled with NaN. A kernel that reads or writes beyond an array loses the GPU, as on a real one; so does
//! work of two streams on one array that do not wait for each other.

mod attention;
mod kernels;
mod launch;
mod memory;
mod product;
mod rows;
mod streams;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use memory::Memory;
use streams::Streams;

/// The path of the library, next to the running test.
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
const INVALID_CONTEXT: c_int = 201;
const OUT_OF_MEMORY: c_int = 2;
const NO_DEVICE: c_int = 100;
const NO_BINARY: c_int = 209;
const NOT_FOUND: c_int = 500;
const ILLEGAL_ADDRESS: c_int = 700;
const LAUNCH_FAILED: c_int = 719;

/// Properties of all GPUs.
struct Machine {
    version: c_int,
    capability: c_int,
    is_mixed: bool,
    cards: Vec<Mutex<Card>>,
}

struct Card {
    memory: Memory,
    streams: Streams,
    n_streams: usize,
    launches_left: Option<u64>,
    lost: Option<c_int>,
}

thread_local! {
    /// The GPU whose context is current in this thread; -1: none.
    static CURRENT: Cell<c_int> = const { Cell::new(-1) };
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is not a number")))
}

fn machine() -> &'static Machine {
    static MACHINE: OnceLock<Machine> = OnceLock::new();
    let card = |device: u64| {
        let is_lost = setting("FAKE_CUDA_LOST_CARD").is_none_or(|lost| lost == device);
        Mutex::new(Card {
            memory: Memory::new(setting("FAKE_CUDA_MEMORY").map_or(1 << 30, |n| n as usize)),
            streams: Streams::default(),
            n_streams: 0,
            launches_left: setting("FAKE_CUDA_LOST_AFTER").filter(|_| is_lost),
            lost: None,
        })
    };
    let new = || Machine {
        version: setting("FAKE_CUDA_VERSION").map_or(12080, |n| n as c_int),
        capability: setting("FAKE_CUDA_CAPABILITY").unwrap_or(CAPABILITY) as c_int,
        is_mixed: setting("FAKE_CUDA_MIXED").is_some(),
        cards: (0..setting("FAKE_CUDA_DEVICES").unwrap_or(1)).map(card).collect(),
    };
    MACHINE.get_or_init(new)
}

fn lock(device: c_int) -> Option<MutexGuard<'static, Card>> {
    let card = machine().cards.get(usize::try_from(device).ok()?)?;
    Some(card.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Runs `what` on the GPU of the calling thread's context.
fn on_current(what: impl FnOnce(&mut Card) -> c_int) -> c_int {
    lock(CURRENT.get()).map_or(INVALID_CONTEXT, |mut card| what(&mut card))
}

/// The same for work in a stream, which must belong to that context. Work that may conflict with other work loses the
/// GPU.
fn in_stream(stream: *mut c_void, blocks: &[u64], what: impl FnOnce(&mut Card) -> c_int) -> c_int {
    if of_handle(stream) != CURRENT.get() {
        return INVALID_CONTEXT;
    }
    on_current(|card| {
        let blocks: Vec<u64> = blocks.iter().filter_map(|&address| card.memory.block(address)).collect();
        card.touch(stream, &blocks);
        what(card)
    })
}

/// Handles of contexts and streams have the GPU's number, from 1, in their lower half; streams have theirs in the
/// upper half.
fn handle(device: c_int, stream: usize) -> *mut c_void {
    std::ptr::without_provenance_mut((device as usize + 1) | (stream << 16))
}

fn of_handle(handle: *mut c_void) -> c_int {
    (handle.addr() & 0xFFFF) as c_int - 1
}

impl Card {
    fn status(&self) -> c_int {
        self.lost.unwrap_or(SUCCESS)
    }

    fn touch(&mut self, stream: *mut c_void, blocks: &[u64]) {
        if !self.streams.touch(stream.addr(), blocks) {
            eprintln!("fake driver: two streams access the same block at the same time");
            self.lost = Some(ILLEGAL_ADDRESS);
        }
    }
}

/// Registered ranges of host memory, by start address.
fn registered() -> MutexGuard<'static, BTreeMap<usize, usize>> {
    static REGISTERED: Mutex<BTreeMap<usize, usize>> = Mutex::new(BTreeMap::new());
    REGISTERED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Writes a result to the caller's pointer.
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
            /// Same as the driver's function of this name.
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
    cuInit(_flags: c_uint) { if machine().cards.is_empty() { NO_DEVICE } else { SUCCESS } }
    cuDriverGetVersion(to: *mut c_int) { unsafe { give(to, machine().version) } }
    cuGetErrorName(status: c_int, to: *mut *const c_char) {
        let name = match status {
            OUT_OF_MEMORY => c"CUDA_ERROR_OUT_OF_MEMORY",
            NO_BINARY => c"CUDA_ERROR_NO_BINARY_FOR_GPU",
            NOT_FOUND => c"CUDA_ERROR_NOT_FOUND",
            ILLEGAL_ADDRESS => c"CUDA_ERROR_ILLEGAL_ADDRESS",
            LAUNCH_FAILED => c"CUDA_ERROR_LAUNCH_FAILED",
            INVALID_CONTEXT => c"CUDA_ERROR_INVALID_CONTEXT",
            _ => c"CUDA_ERROR_INVALID_VALUE",
        };
        unsafe { give(to, name.as_ptr()) }
    }
    cuGetErrorString(_status: c_int, to: *mut *const c_char) { unsafe { give(to, c"in the fake driver".as_ptr()) } }
    cuDeviceGetCount(to: *mut c_int) { unsafe { give(to, machine().cards.len() as c_int) } }
    cuDeviceGet(to: *mut c_int, ordinal: c_int) {
        if lock(ordinal).is_some() { unsafe { give(to, ordinal) } } else { INVALID_VALUE }
    }
    cuDeviceGetName(to: *mut c_char, length: c_int, device: c_int) {
        let name = if machine().is_mixed { format!("Fake card {device}") } else { "Fake card".to_owned() };
        for (i, byte) in name.bytes().chain([0]).take(length as usize).enumerate() {
            unsafe { to.add(i).write(byte as c_char) };
        }
        SUCCESS
    }
    cuDeviceGetAttribute(to: *mut c_int, attribute: c_int, _device: c_int) {
        let value = match attribute {
            16 => 4,
            75 => machine().capability / 10,
            76 => machine().capability % 10,
            97 => 232_448,
            _ => 0,
        };
        unsafe { give(to, value) }
    }
    cuDeviceTotalMem_v2(to: *mut usize, device: c_int) {
        lock(device).map_or(INVALID_VALUE, |card| unsafe { give(to, card.memory.total) })
    }
    cuDevicePrimaryCtxRetain(to: *mut *mut c_void, device: c_int) { unsafe { give(to, handle(device, 0)) } }
    cuDevicePrimaryCtxRelease_v2(_device: c_int) { SUCCESS }
    cuCtxSetCurrent(context: *mut c_void) {
        CURRENT.set(of_handle(context));
        on_current(|card| card.status())
    }
    cuStreamCreate(to: *mut *mut c_void, _flags: c_uint) {
        on_current(|card| {
            card.n_streams += 1;
            unsafe { give(to, handle(CURRENT.get(), card.n_streams)) }
        })
    }
    cuStreamDestroy_v2(_stream: *mut c_void) { SUCCESS }
    cuStreamSynchronize(stream: *mut c_void) {
        in_stream(stream, &[], |card| {
            card.streams.synchronize(stream.addr());
            card.status()
        })
    }
    cuStreamWaitEvent(stream: *mut c_void, event: *mut c_void, _flags: c_uint) {
        in_stream(stream, &[], |card| {
            card.streams.wait(stream.addr(), event.addr());
            card.status()
        })
    }
    cuEventCreate(to: *mut *mut c_void, _flags: c_uint) {
        on_current(|card| unsafe { give(to, std::ptr::without_provenance_mut(card.streams.new_event())) })
    }
    cuEventDestroy_v2(event: *mut c_void) {
        on_current(|card| {
            card.streams.destroy(event.addr());
            SUCCESS
        })
    }
    cuEventRecord(event: *mut c_void, stream: *mut c_void) {
        in_stream(stream, &[], |card| {
            card.streams.record(event.addr(), stream.addr());
            card.status()
        })
    }
    cuMemHostRegister_v2(start: *mut c_void, bytes: usize, _flags: c_uint) {
        let (mut registered, start) = (registered(), start.addr());
        let before = registered.range(..start + bytes).next_back();
        if bytes == 0 || before.is_some_and(|(at, n)| at + n > start) {
            return INVALID_VALUE;
        }
        if setting("FAKE_CUDA_PINNED").is_some_and(|most| registered.values().sum::<usize>() + bytes > most as usize) {
            return OUT_OF_MEMORY;
        }
        registered.insert(start, bytes);
        SUCCESS
    }
    cuMemHostUnregister(start: *mut c_void) {
        if registered().remove(&start.addr()).is_some() { SUCCESS } else { INVALID_VALUE }
    }
    cuMemGetInfo_v2(free: *mut usize, total: *mut usize) {
        on_current(|card| unsafe { give(total, card.memory.total); give(free, card.memory.free()) })
    }
    cuMemAlloc_v2(to: *mut u64, bytes: usize) {
        on_current(|card| match card.memory.allocate(bytes) {
            Some(address) => unsafe { give(to, address) },
            None => OUT_OF_MEMORY,
        })
    }
    cuMemFree_v2(address: u64) {
        on_current(|card| {
            card.streams.free(address);
            if card.memory.release(address) { SUCCESS } else { INVALID_VALUE }
        })
    }
    cuMemcpyHtoDAsync_v2(to: u64, from: *const c_void, bytes: usize, stream: *mut c_void) {
        in_stream(stream, &[to], |card| {
            let Some(to) = card.memory.bytes(to, bytes) else { return INVALID_VALUE };
            to.copy_from_slice(unsafe { std::slice::from_raw_parts(from.cast(), bytes) });
            card.status()
        })
    }
    cuMemcpyDtoHAsync_v2(to: *mut c_void, from: u64, bytes: usize, stream: *mut c_void) {
        in_stream(stream, &[from], |card| {
            let Some(from) = card.memory.bytes(from, bytes) else { return INVALID_VALUE };
            unsafe { std::slice::from_raw_parts_mut(to.cast::<u8>(), bytes) }.copy_from_slice(from);
            card.status()
        })
    }
    cuMemcpyDtoDAsync_v2(to: u64, from: u64, bytes: usize, stream: *mut c_void) {
        in_stream(stream, &[to, from], |card| {
            let Some(from) = card.memory.bytes(from, bytes).map(|bytes| bytes.to_vec()) else { return INVALID_VALUE };
            let Some(to) = card.memory.bytes(to, bytes) else { return INVALID_VALUE };
            to.copy_from_slice(&from);
            card.status()
        })
    }
    cuMemsetD8Async(to: u64, byte: u8, bytes: usize, stream: *mut c_void) {
        in_stream(stream, &[to], |card| {
            let Some(to) = card.memory.bytes(to, bytes) else { return INVALID_VALUE };
            to.fill(byte);
            card.status()
        })
    }
    cuModuleLoadDataEx(to: *mut *mut c_void, image: *const c_void, _n: c_uint, _options: *mut c_int, _values: *mut *mut c_void) {
        let head = unsafe { std::slice::from_raw_parts(image.cast::<u8>(), 64) };
        // A cubin is ELF for CUDA (machine 190), with its architecture in the flags; everything else is PTX.
        let is_cubin = head.starts_with(b"\x7fELF") && u16::from_le_bytes([head[18], head[19]]) == 190;
        let architecture = head[if head[8] < 8 { 48 } else { 49 }];
        if is_cubin && c_int::from(architecture) != machine().capability {
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
        _block_z: c_uint, shared: c_uint, stream: *mut c_void, arguments: *mut *mut c_void, _extra: *mut *mut c_void
    ) {
        in_stream(stream, &[], |card| {
            match &mut card.launches_left {
                Some(0) => card.lost = Some(LAUNCH_FAILED),
                Some(left) => *left -= 1,
                None => {}
            }
            if card.lost.is_some() {
                return card.status();
            }
            let is_ending = card.launches_left.is_some_and(|left| left < 50);
            if let Some(more) = setting("FAKE_CUDA_SLEEP").filter(|_| is_ending) {
                std::thread::sleep(std::time::Duration::from_millis(more));
            }
            let grid = [grid_x, grid_y, grid_z].map(|n| n as usize);
            // SAFETY: the caller passes as many arguments as the kernel has.
            let ran = unsafe { kernels::run(function.addr() - 1, grid, (block_x, shared), arguments, &card.memory) };
            let given = card.memory.given();
            card.touch(stream, &given);
            if !ran {
                // The launch itself succeeds; the next call reports the error.
                card.lost = Some(ILLEGAL_ADDRESS);
            }
            SUCCESS
        })
    }
}
