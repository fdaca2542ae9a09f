//! What models run on: options of every command that runs one.

use clap::Args;
use cs_engine::{Compute, Device, DeviceChoice, Precision, device};

use super::parsers::one_of;
use crate::complete;
use crate::error::CliError;
use crate::progress::Display;

/// The device that models run on, and its precision.
#[derive(Debug, Args, Clone, Default)]
pub struct DeviceArgs {
    /// Device that runs models: `auto` (a usable GPU, otherwise the CPU), `cpu`, `cuda`, `cuda:1`, or
    /// `cuda:0,cuda:1`; `delta` runs the GPU algorithm on the CPU, slowly, to check it
    #[arg(long, value_name = "DEVICE", default_value = "auto", add = complete::devices())]
    pub device: DeviceChoice,
    /// How products are computed: `f32`, `split` (two half-precision parts, about as accurate) or `half` (one part); the default
    /// is f32 on the CPU, which has no other, and split on a GPU
    #[arg(long, value_name = "P", value_parser = one_of::<Precision>(["f32", "split", "half"]))]
    pub precision: Option<Precision>,
}

impl DeviceArgs {
    /// The requested device; prints which one it is if the program chose a GPU.
    ///
    /// # Errors
    /// A device that is not here or cannot be used, or a precision that it has not.
    pub fn choose(&self, display: Display) -> Result<Compute, CliError> {
        let compute = Compute::choose(&self.device, self.precision)?;
        if self.device == DeviceChoice::Auto && *compute.device() != Device::Cpu {
            display.note(&format!("models run on {} ({})", compute.device(), compute.kind()));
        }
        if self.device == DeviceChoice::Auto && *compute.device() == Device::Cpu {
            device::unused_cards().iter().for_each(|line| display.note(line));
        }
        Ok(compute)
    }

    /// The same for a plan of work on machines that have the device, which this one need not be.
    ///
    /// # Errors
    /// A precision that the device has not.
    pub fn planned(&self) -> Result<Compute, CliError> {
        Ok(Compute::planned(&self.device, self.precision)?)
    }

    /// What a study's file says of them: nothing where nothing was asked for.
    pub fn stated(&self) -> (Option<String>, Option<String>) {
        let device = (self.device != DeviceChoice::Auto).then(|| self.device.to_string());
        (device, self.precision.map(|precision| precision.to_string()))
    }
}
