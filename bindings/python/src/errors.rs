//! Errors as Python exceptions, with the same one-line messages that the program prints.

use circuit_scaling::error::{CliError, one_line};
use circuit_scaling::prelude::Error;
use pyo3::PyErr;
use pyo3::create_exception;
use pyo3::exceptions::PyException;

create_exception!(
    circuit_scaling,
    CircuitScalingError,
    PyException,
    "Base class of all errors; the message is one line that says what to do."
);
create_exception!(
    circuit_scaling,
    ModelError,
    CircuitScalingError,
    "A model that does not exist, cannot be fetched or cannot be loaded."
);
create_exception!(
    circuit_scaling,
    TaskError,
    CircuitScalingError,
    "A task that does not exist or does not fit the model."
);
create_exception!(
    circuit_scaling,
    InputError,
    CircuitScalingError,
    "Prompts, heads, edits or options that do not fit the model or each other."
);
create_exception!(
    circuit_scaling,
    StudyError,
    CircuitScalingError,
    "A study that does not exist or is closed."
);

/// An error about an argument.
pub fn input(message: impl Into<String>) -> PyErr {
    InputError::new_err(message.into())
}

/// The exception for an error of the library.
pub fn exception(error: Error) -> PyErr {
    let line = one_line(&error);
    match error {
        CliError::Load(_)
        | CliError::Hub(_)
        | CliError::UnknownModel { .. }
        | CliError::ModelIsFile { .. }
        | CliError::NoTokenizer { .. } => ModelError::new_err(line),
        CliError::Task(_) | CliError::Prompts(_) => TaskError::new_err(line),
        CliError::Scan { .. }
        | CliError::Trace { .. }
        | CliError::Ablate { .. }
        | CliError::Tokenize(_)
        | CliError::Capture(_)
        | CliError::Device(_)
        | CliError::Engine(_)
        | CliError::Edit { .. }
        | CliError::CacheMemory { .. }
        | CliError::Forest(_) => InputError::new_err(line),
        _ => CircuitScalingError::new_err(line),
    }
}
