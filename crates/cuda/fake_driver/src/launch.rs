//! A launch as a kernel sees it: its grid and its arguments.

use std::ffi::c_void;

use half::{bf16, f16};

use crate::memory::{Memory, View};

pub struct Launch<'a> {
    pub grid: [usize; 3],
    /// Tile shapes and other sizes from the manifest, by name.
    pub shape: &'a serde_json::Value,
    /// The suffix of the kernel's name after its function.
    pub variant: &'a str,
    arguments: *mut *mut c_void,
    memory: &'a Memory,
    next: usize,
}

/// Halves in one of the two formats, and the scale of their second part.
#[derive(Clone, Copy)]
pub struct Halves {
    pub bits: View<u16>,
    pub is_brain: bool,
}

pub fn widen(bits: u16, is_brain: bool) -> f32 {
    if is_brain { bf16::from_bits(bits).to_f32() } else { f16::from_bits(bits).to_f32() }
}

/// `d` in two parts of a format.
pub fn parts(d: f32, is_brain: bool) -> (u16, u16) {
    if is_brain {
        let hi = bf16::from_f32(d);
        (hi.to_bits(), bf16::from_f32(d - hi.to_f32()).to_bits())
    } else {
        let hi = f16::from_f32(d);
        (hi.to_bits(), f16::from_f32((d - hi.to_f32()) * 2048.0).to_bits())
    }
}

impl Halves {
    #[track_caller]
    pub fn get(self, at: usize) -> f32 {
        widen(self.bits.get(at), self.is_brain)
    }
}

impl<'a> Launch<'a> {
    /// # Safety
    /// `arguments` points to as many pointers as the kernel has parameters.
    pub unsafe fn new(
        grid: [usize; 3],
        shape: &'a serde_json::Value,
        variant: &'a str,
        arguments: *mut *mut c_void,
        memory: &'a Memory,
    ) -> Self {
        Self { grid, shape, variant, arguments, memory, next: 0 }
    }

    fn slot(&mut self) -> *const c_void {
        // SAFETY: the caller of `new` vouches for the number of parameters.
        let slot = unsafe { *self.arguments.add(self.next) };
        self.next += 1;
        slot
    }

    pub fn array<T: Copy>(&mut self) -> View<T> {
        // SAFETY: the slot points to a pointer's value.
        let address = unsafe { self.slot().cast::<u64>().read() };
        self.memory.view(address)
    }

    pub fn halves(&mut self, is_brain: bool) -> Halves {
        Halves { bits: self.array(), is_brain }
    }

    pub fn int(&mut self) -> usize {
        // SAFETY: the slot points to a 32-bit integer.
        let value = unsafe { self.slot().cast::<i32>().read() };
        usize::try_from(value).expect("no negative sizes")
    }

    pub fn flag(&mut self) -> bool {
        self.int() != 0
    }

    pub fn float(&mut self) -> f32 {
        // SAFETY: the slot points to a float32.
        unsafe { self.slot().cast::<f32>().read() }
    }

    pub fn tile(&self, name: &str) -> usize {
        self.shape[name].as_u64().unwrap_or_else(|| panic!("no {name} in the manifest")) as usize
    }
}

/// The output of a kernel: float32 or halves, according to its `mode`
/// (`tools/gpu_kernels/kernels/common.py`).
#[derive(Clone, Copy)]
pub struct Output {
    pub out: View<f32>,
    pub hi: View<u16>,
    pub lo: View<u16>,
    pub mode: usize,
}

impl Output {
    #[track_caller]
    pub fn put(self, at: usize, d: f32) {
        if self.mode == 0 {
            return self.out.set(at, d);
        }
        let (hi, lo) = parts(d, self.mode.is_multiple_of(2));
        self.hi.set(at, hi);
        if self.mode <= 2 {
            self.lo.set(at, lo);
        }
    }
}
