//! The embedded kernels, compiled ahead of time by `tools/gpu_kernels`, in one archive for all architectures.
//!
//! Cubins only run on the architecture that they are compiled for. Other GPUs with compute capability 8.0 or later get PTX,
//! which the driver compiles when a kernel is first used.

use std::collections::{BTreeMap, HashMap};
use std::io::Read;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use serde::Deserialize;

use crate::context::Context;
use crate::driver::{Device, Driver};
use crate::error::CudaError;
use crate::module::{Arguments, Function};
use crate::tiles::{self, ProductShape, Tiles};

const MANIFEST: &str = include_str!("../carried/manifest.json");
const ARCHIVE: &[u8] = include_bytes!("../carried/kernels.zst");

/// If this environment variable is set, every kernel is waited for and timed, and a table of the times and the peak memory is
/// printed to standard error at the end.
pub const TIMES_VARIABLE: &str = "CIRCUIT_SCALING_CUDA_TIMES";

/// The contents of the archive.
#[derive(Deserialize)]
pub struct Manifest {
    /// The compiler's version.
    pub triton: String,
    /// The CUDA version that a driver must support, `1000 * major + 10 * minor`.
    pub needs_cuda: u32,
    /// SHA-256 of the kernels' sources, by name.
    pub sources: HashMap<String, String>,
    /// SHA-256 of the archive.
    pub archive: String,
    /// One part per architecture.
    pub parts: Vec<Part>,
}

/// All kernels for one architecture.
#[derive(Deserialize)]
pub struct Part {
    /// Ten times the compute capability.
    pub architecture: u32,
    /// Whether it is PTX rather than machine code.
    pub ptx: bool,
    start: usize,
    bytes: usize,
    /// Its kernels, in the archive's order.
    pub kernels: Vec<Shape>,
}

/// A kernel's shape, which a caller needs to divide its work into programs.
#[derive(Clone, Debug, Deserialize)]
pub struct Shape {
    /// The function's name.
    pub name: String,
    /// Warps of a program.
    pub warps: u32,
    /// Shared memory in bytes.
    pub shared: usize,
    /// Kinds of its parameters: `p`ointers, 32-bit `i`ntegers, `f`loat32.
    pub parameters: String,
    /// Rows of a product's tile.
    #[serde(default)]
    pub bm: usize,
    /// Columns of a product's tile.
    #[serde(default)]
    pub bn: usize,
    /// Queries of an attention tile.
    #[serde(default)]
    pub bq: usize,
    /// Rows per program, in kernels that write heads.
    #[serde(default)]
    pub br: usize,
    /// Elements per program, in elementwise kernels.
    #[serde(default)]
    pub b: usize,
}

impl Manifest {
    /// The embedded manifest.
    ///
    /// # Errors
    /// [`CudaError::Archive`]
    pub fn carried() -> Result<Self, CudaError> {
        serde_json::from_str(MANIFEST).map_err(|e| CudaError::Archive { what: e.to_string() })
    }

    /// Eight hexadecimal digits that identify the kernels and the tiles chosen for products.
    pub fn version(&self) -> String {
        format!("{:08x}", tiles::fingerprint(&self.archive))
    }

    fn part(&self, device: &Device) -> Result<&Part, CudaError> {
        let (major, minor) = device.capability;
        let own = self.parts.iter().find(|part| !part.ptx && part.architecture == 10 * major + minor);
        let ptx = self.parts.iter().find(|part| part.ptx && part.architecture <= 10 * major + minor);
        let none = || CudaError::NoKernels { name: device.name.clone(), capability: device.capability };
        own.or(ptx).ok_or_else(none)
    }
}

impl Device {
    /// Checks that the embedded kernels run on this GPU with this driver.
    ///
    /// # Errors
    /// [`CudaError::DriverTooOld`] or [`CudaError::NoKernels`] if they do not.
    pub fn check(&self, driver: &Driver) -> Result<(), CudaError> {
        let manifest = Manifest::carried()?;
        if driver.version() < manifest.needs_cuda {
            return Err(CudaError::DriverTooOld { found: driver.version(), needed: manifest.needs_cuda });
        }
        manifest.part(self).map(|_| ())
    }
}

/// The kernels of a GPU, each loaded on first use.
pub struct Kernels {
    context: Context,
    images: HashMap<String, (Shape, Vec<u8>)>,
    architecture: u32,
    tiles: Tiles,
    loaded: Mutex<HashMap<String, Arc<Kernel>>>,
    times: Option<Times>,
}

/// Launches and seconds of each kernel.
type Times = Arc<Mutex<BTreeMap<String, (u64, f64)>>>;

/// A loaded kernel.
pub struct Kernel {
    /// Its shape.
    pub shape: Shape,
    function: Function,
    times: Option<Times>,
}

impl Kernel {
    /// Launches it on a grid of programs, after all earlier work. An empty grid launches nothing.
    ///
    /// # Errors
    /// [`CudaError::Lost`], also if an earlier kernel failed.
    ///
    /// # Panics
    /// If the kinds of the arguments do not match its parameters.
    pub fn launch(&self, grid: [usize; 3], arguments: Arguments) -> Result<(), CudaError> {
        let launch = || self.function.launch(&self.shape.parameters, grid, arguments);
        let Some(times) = &self.times else { return launch() };
        self.function.context().wait()?;
        let start = Instant::now();
        launch()?;
        self.function.context().wait()?;
        let mut times = times.lock().unwrap_or_else(PoisonError::into_inner);
        let of_kernel = times.entry(self.shape.name.clone()).or_default();
        *of_kernel = (of_kernel.0 + 1, of_kernel.1 + start.elapsed().as_secs_f64());
        Ok(())
    }
}

impl Kernels {
    /// Unpacks the kernels for a GPU.
    ///
    /// # Errors
    /// As [`Device::check`]; [`CudaError::Archive`].
    pub fn new(context: &Context) -> Result<Self, CudaError> {
        context.device().check(context.driver())?;
        let manifest = Manifest::carried()?;
        let part = manifest.part(context.device())?;
        let images = part.images()?.into_iter().map(|(shape, image)| (shape.name.clone(), (shape, image)));
        let times = std::env::var_os(TIMES_VARIABLE).map(|_| Times::default());
        let tiles = Tiles::new(part.architecture, part.kernels.iter().map(|shape| shape.name.as_str()));
        let (context, images, architecture) = (context.clone(), images.collect(), part.architecture);
        Ok(Self { context, images, architecture, tiles, loaded: Mutex::default(), times })
    }

    /// A product by its name without tile, with the fastest tile for its shape.
    ///
    /// # Errors
    /// As [`Kernels::get`].
    pub fn tiled(&self, name: &str, shape: ProductShape) -> Result<Arc<Kernel>, CudaError> {
        self.get(self.tiles.nearest(name, shape).unwrap_or(name))
    }

    /// The names of all kernels that only differ from it in their tile, in order.
    pub fn candidates(&self, name: &str) -> Vec<String> {
        let is_tiled =
            |of: &&String| of.rsplit_once('_').is_some_and(|(n, tile)| n == name && tiles::is_tile(tile));
        let mut names: Vec<String> = self.images.keys().filter(is_tiled).cloned().collect();
        names.sort();
        names
    }

    /// The architecture that they are compiled for, ten times the compute capability.
    pub fn architecture(&self) -> u32 {
        self.architecture
    }

    /// A kernel by its name.
    ///
    /// # Errors
    /// Errors of the driver; [`CudaError::Archive`] if there is no kernel with that name.
    pub fn get(&self, name: &str) -> Result<Arc<Kernel>, CudaError> {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kernel) = loaded.get(name) {
            return Ok(kernel.clone());
        }
        let missing = || CudaError::Archive { what: format!("there is no kernel {name}") };
        let (shape, image) = self.images.get(name).ok_or_else(missing)?;
        let function = self.context.function(image, name, shape.warps, shape.shared)?;
        let kernel = Arc::new(Kernel { shape: shape.clone(), function, times: self.times.clone() });
        loaded.insert(name.to_owned(), kernel.clone());
        Ok(kernel)
    }
}

impl Drop for Kernels {
    fn drop(&mut self) {
        let Some(times) = &self.times else { return };
        let times = times.lock().unwrap_or_else(PoisonError::into_inner);
        let total: f64 = times.values().map(|(_, seconds)| seconds).sum();
        for (name, (launches, seconds)) in &*times {
            eprintln!("{name:28} {launches:8} launches {seconds:9.3} s {:5.1}%", 100.0 * seconds / total);
        }
        let peak = self.context.peak() as f64 / f64::from(1 << 30);
        eprintln!("all kernels {total:.3} s; memory in use at most {peak:.2} GiB");
    }
}

impl Part {
    /// Every kernel with its code.
    ///
    /// # Errors
    /// [`CudaError::Archive`]
    pub fn images(&self) -> Result<Vec<(Shape, Vec<u8>)>, CudaError> {
        let bad = |what: String| CudaError::Archive { what };
        let end = self.start.saturating_add(self.bytes);
        let packed = ARCHIVE.get(self.start..end).ok_or_else(|| bad("it is too short".to_owned()))?;
        let mut raw = Vec::new();
        ruzstd::decoding::StreamingDecoder::new(packed)
            .map_err(|e| bad(e.to_string()))?
            .read_to_end(&mut raw)
            .map_err(|e| bad(e.to_string()))?;
        let mut rest = &raw[..];
        let mut take = |n: usize| {
            let (taken, left) =
                rest.split_at_checked(n).ok_or_else(|| bad("a kernel is truncated".to_owned()))?;
            rest = left;
            Ok::<_, CudaError>(taken)
        };
        let mut image = |shape: &Shape| {
            let len = take(4)?.iter().rev().fold(0, |n, &byte| n << 8 | usize::from(byte));
            Ok((shape.clone(), take(len)?.to_vec()))
        };
        self.kernels.iter().map(&mut image).collect()
    }
}
