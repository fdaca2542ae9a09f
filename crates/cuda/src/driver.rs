//! Opens the driver and lists its GPUs.

use std::error::Error;
use std::ffi::{CStr, c_char};
use std::path::Path;
use std::ptr;
use std::sync::Arc;

use libloading::Library;

use crate::error::CudaError;
use crate::sys::{self, Api, DeviceId, Status, attribute, status};

/// Environment variable with the path of the driver's library, for containers that keep it in an unusual
/// place.
pub const DRIVER_VARIABLE: &str = "CIRCUIT_SCALING_CUDA_DRIVER";

#[cfg(windows)]
const LIBRARIES: [&str; 1] = ["nvcuda.dll"];
#[cfg(not(windows))]
const LIBRARIES: [&str; 2] = ["libcuda.so.1", "libcuda.so"];

/// An open driver. Clones share it.
#[derive(Clone)]
pub struct Driver {
    pub(crate) api: Arc<Api>,
    version: u32,
}

/// A GPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its number, from 0.
    pub ordinal: usize,
    /// The vendor's name for it.
    pub name: String,
    /// Compute capability: major, minor.
    pub capability: (u32, u32),
    /// Bytes of memory.
    pub memory: usize,
    /// Multiprocessors.
    pub multiprocessors: usize,
    /// Maximum shared memory of a thread block, in bytes.
    pub shared_memory: usize,
    pub(crate) id: DeviceId,
}

impl Driver {
    /// Opens the driver: the library given by [`DRIVER_VARIABLE`], otherwise the system's.
    ///
    /// # Errors
    /// [`CudaError::NoDriver`], [`CudaError::MissingFunction`], [`CudaError::NoDevice`].
    pub fn open() -> Result<Self, CudaError> {
        match std::env::var_os(DRIVER_VARIABLE).filter(|path| !path.is_empty()) {
            Some(path) => Self::open_at(Path::new(&path)),
            None => {
                let mut why = String::new();
                for name in LIBRARIES {
                    match Self::open_at(Path::new(name)) {
                        Err(CudaError::NoDriver { why: w }) if why.is_empty() => why = w,
                        Err(CudaError::NoDriver { .. }) => {}
                        found => return found,
                    }
                }
                Err(CudaError::NoDriver { why })
            }
        }
    }

    /// Opens the driver from this library.
    ///
    /// # Errors
    /// As [`Driver::open`].
    pub fn open_at(library: &Path) -> Result<Self, CudaError> {
        let none = |e: libloading::Error| {
            let of_system = e.source().map(ToString::to_string);
            CudaError::NoDriver { why: one_line(&of_system.unwrap_or_else(|| e.to_string())) }
        };
        // SAFETY: loading a driver runs its initialisers, as in every program that uses it.
        let library = unsafe { Library::new(library) }.map_err(none)?;
        // SAFETY: a library of this name, or that the user names as the driver, has the driver's functions.
        let api = unsafe { Api::of(library) }.map_err(|symbol| CudaError::MissingFunction { symbol })?;
        let mut driver = Self { api: Arc::new(api), version: 0 };
        // SAFETY: the only valid argument is 0.
        let initialised = unsafe { (driver.api.init)(0) };
        match initialised {
            status::NO_DEVICE => return Err(CudaError::NoDevice),
            status::DRIVER_MISMATCH => {
                let why = driver.words(initialised);
                return Err(CudaError::NoDriver { why });
            }
            _ => driver.check("cuInit", initialised)?,
        }
        let mut version = 0;
        // SAFETY: the pointer is to an int.
        driver.check("cuDriverGetVersion", unsafe { (driver.api.driver_version)(&mut version) })?;
        driver.version = version as u32;
        Ok(driver)
    }

    /// The driver's CUDA version, `1000 * major + 10 * minor`.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// `12.8`
    pub fn version_text(&self) -> String {
        crate::error::version(self.version)
    }

    /// All GPUs.
    ///
    /// # Errors
    /// [`CudaError::NoDevice`] if there is none.
    pub fn devices(&self) -> Result<Vec<Device>, CudaError> {
        let mut count = 0;
        // SAFETY: the pointer is to an int.
        self.check("cuDeviceGetCount", unsafe { (self.api.device_count)(&mut count) })?;
        if count == 0 {
            return Err(CudaError::NoDevice);
        }
        (0..count as usize).map(|ordinal| self.device(ordinal)).collect()
    }

    fn device(&self, ordinal: usize) -> Result<Device, CudaError> {
        let mut id = 0;
        // SAFETY: the pointer is to a device's number.
        self.check("cuDeviceGet", unsafe { (self.api.device)(&mut id, ordinal as i32) })?;
        let mut name: [c_char; 256] = [0; 256];
        // SAFETY: the buffer has the given length, and its last byte stays 0.
        let named = unsafe { (self.api.device_name)(name.as_mut_ptr(), name.len() as i32 - 1, id) };
        self.check("cuDeviceGetName", named)?;
        let mut memory = 0;
        // SAFETY: the pointer is to a size.
        self.check("cuDeviceTotalMem", unsafe { (self.api.device_memory)(&mut memory, id) })?;
        let attribute = |which: i32| -> Result<usize, CudaError> {
            let mut value = 0;
            // SAFETY: the pointer is to an int.
            let got = unsafe { (self.api.device_attribute)(&mut value, which, id) };
            self.check("cuDeviceGetAttribute", got)?;
            Ok(value.max(0) as usize)
        };
        let capability =
            (attribute(attribute::CAPABILITY_MAJOR)? as u32, attribute(attribute::CAPABILITY_MINOR)? as u32);
        Ok(Device {
            ordinal,
            // SAFETY: a string that ends in 0 within the buffer.
            name: unsafe { CStr::from_ptr(name.as_ptr()) }.to_string_lossy().into_owned(),
            capability,
            memory,
            multiprocessors: attribute(attribute::MULTIPROCESSORS)?,
            shared_memory: attribute(attribute::SHARED_PER_BLOCK)?,
            id,
        })
    }

    pub(crate) fn check(&self, function: &'static str, status: Status) -> Result<(), CudaError> {
        if status == 0 { Ok(()) } else { Err(CudaError::Driver { function, what: self.words(status) }) }
    }

    /// The driver's name and description of a status.
    pub(crate) fn words(&self, status: Status) -> String {
        let of = |function: unsafe extern "C" fn(Status, *mut *const c_char) -> sys::Status| {
            let mut text: *const c_char = ptr::null();
            // SAFETY: the pointer is to a string pointer; the string lives as long as the driver.
            let got = unsafe { function(status, &mut text) };
            // SAFETY: as above.
            (got == 0 && !text.is_null())
                .then(|| unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned())
        };
        match (of(self.api.error_name), of(self.api.error_text)) {
            (Some(name), Some(text)) => format!("{name}, {text}"),
            (Some(name), None) => name,
            _ => format!("error {status}"),
        }
    }
}

fn one_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().trim().to_owned()
}
