//! NVIDIA GPUs, for a program that is built without CUDA and starts without a GPU.
//!
//! The driver is opened at run time ([`Driver`]) and lists the GPUs ([`Device`]). An open GPU is a [`Context`], with memory as [`Array`]s,
//! and [`Kernels`], which are compiled ahead of time by `tools/gpu_kernels`, embedded in the program, and launched by [`Kernel::launch`].
//! Everything runs in the order in which it is queued, except [asynchronous copies](Array::write_aside). No CUDA library is needed besides
//! the driver.
//!
//! ```no_run
//! use cs_cuda::{Arguments, Context, Driver, Kernels};
//!
//! let driver = Driver::open()?;
//! let card = &driver.devices()?[0];
//! card.check(&driver)?;
//! let context = Context::new(&driver, card)?;
//! let x = context.upload(&[1.0f32, 2.0])?;
//! let y = context.upload(&[10.0f32, 20.0])?;
//! let add = Kernels::new(&context)?.get("add")?;
//! add.launch([1, 1, 1], Arguments::new().array(&x).array(&y).int(2))?;
//! assert_eq!(x.to_vec()?, [11.0, 22.0]);
//! # Ok::<(), cs_cuda::CudaError>(())
//! ```

mod context;
mod driver;
mod error;
mod kernels;
mod memory;
mod module;
mod sys;
mod tiles;

pub use context::Context;
pub use driver::{DRIVER_VARIABLE, Device, Driver};
pub use error::{CudaError, bytes};
pub use kernels::{Kernel, Kernels, Manifest, Part, Shape, TIMES_VARIABLE};
pub use memory::{Array, Element, Pinned};
pub use module::Arguments;
pub use sys::Address;
pub use tiles::ProductShape;
