//! Errors of GPUs, in one line each.

/// Why a GPU cannot be used, or no longer.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum CudaError {
    /// No driver could be opened.
    #[error("no NVIDIA driver was found ({why}): install one")]
    NoDriver {
        /// The system's message.
        why: String,
    },
    /// The library lacks a function of the driver.
    #[error("the NVIDIA driver has no function {symbol}: install a driver from 2023 or later")]
    MissingFunction {
        /// The missing function.
        symbol: &'static str,
    },
    /// The driver is too old for the program's kernels.
    #[error(
        "the NVIDIA driver supports CUDA {}, but the kernels need CUDA {} or later: update the driver",
        version(*found), version(*needed)
    )]
    DriverTooOld {
        /// `1000 * major + 10 * minor`
        found: u32,
        /// Likewise.
        needed: u32,
    },
    /// A driver without a GPU.
    #[error("the NVIDIA driver finds no GPU: check nvidia-smi and CUDA_VISIBLE_DEVICES")]
    NoDevice,
    /// No GPU with this number.
    #[error("there is no GPU {ordinal}: the NVIDIA driver finds {count}, numbered from 0")]
    NoSuchDevice {
        /// The requested GPU.
        ordinal: usize,
        /// The number of GPUs.
        count: usize,
    },
    /// An architecture without the required half-precision units.
    #[error(
        "{name} has compute capability {}.{}, but the kernels need 8.0 or later",
        capability.0, capability.1
    )]
    NoKernels {
        /// The GPU.
        name: String,
        /// Its compute capability.
        capability: (u32, u32),
    },
    /// The GPU's memory is full.
    #[error(
        "the GPU's memory is full: {} are needed, but only {} of {} are free: free some of it",
        bytes(*needed), bytes(*free), bytes(*total)
    )]
    OutOfMemory {
        /// Requested bytes.
        needed: usize,
        /// Free bytes.
        free: usize,
        /// The GPU's total bytes.
        total: usize,
    },
    /// The context and its memory are lost.
    #[error("the GPU was lost during the run ({what}): run the same command again to resume")]
    Lost {
        /// The GPU.
        name: String,
        /// The driver's message.
        what: String,
    },
    /// Any other error of the driver.
    #[error("the NVIDIA driver failed in {function}: {what}")]
    Driver {
        /// The function.
        function: &'static str,
        /// The driver's message.
        what: String,
    },
    /// The program's kernels are damaged.
    #[error("the program's GPU kernels cannot be read ({what}): build or install the program again")]
    Archive {
        /// The problem.
        what: String,
    },
}

/// `12.8` of 12080.
pub(crate) fn version(number: u32) -> String {
    format!("{}.{}", number / 1000, number % 1000 / 10)
}

/// Human-readable size: `1.5 GiB`.
pub fn bytes(n: usize) -> String {
    const MIB: f64 = (1u64 << 20) as f64;
    let mib = n as f64 / MIB;
    if mib >= 1024.0 { format!("{:.1} GiB", mib / 1024.0) } else { format!("{mib:.1} MiB") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_as_people_write_them() {
        assert_eq!(version(12080), "12.8");
        assert_eq!(bytes(3 << 29), "1.5 GiB");
        let full = CudaError::OutOfMemory { needed: 1 << 31, free: 5 << 20, total: 8 << 30 };
        assert!(full.to_string().contains("2.0 GiB are needed, but only 5.0 MiB of 8.0 GiB"), "{full}");
    }
}
