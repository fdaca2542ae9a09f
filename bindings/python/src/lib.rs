//! The native half of the Python module `circuit_scaling`: the engine behind numpy arrays. The public interface, with its
//! names and types, is written in Python (`python/circuit_scaling`); this is the part that has to be fast.

#![deny(unsafe_code)]

mod arguments;
mod background;
mod errors;
#[expect(unsafe_code, reason = "parameters are read in place from another library's memory")]
mod lent;
mod model;

use std::ffi::OsString;

use pyo3::prelude::*;

/// Native half of `circuit_scaling`.
#[pymodule(gil_used = true)]
mod _native {
    #[pymodule_export]
    use super::errors::{CircuitScalingError, InputError, ModelError, StudyError, TaskError};
    #[pymodule_export]
    use super::model::{Model, head_map};
    #[pymodule_export]
    use super::{run_program, version};
}

/// Runs the program with these arguments (the first is its name), and returns its exit code.
#[pyfunction]
fn run_program(py: Python<'_>, args: Vec<OsString>) -> u8 {
    py.detach(|| circuit_scaling::run_with(args))
}

/// The program's version.
#[pyfunction]
fn version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}
