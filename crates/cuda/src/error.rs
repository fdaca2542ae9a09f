//! What goes wrong with a card, in one line each.

/// Why a card cannot be used, or no more.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum CudaError {
    /// There is no driver, or none that can be opened.
    #[error("no NVIDIA driver was found ({why}): install one")]
    NoDriver {
        /// What the system says.
        why: String,
    },
    /// A library that is not a whole driver.
    #[error("the NVIDIA driver has no function {symbol}: install a driver of 2023 or later")]
    MissingFunction {
        /// What it lacks.
        symbol: &'static str,
    },
    /// The driver does not know what this program carries.
    #[error(
        "the NVIDIA driver is of CUDA {}, but the kernels need CUDA {} or later: update the driver",
        version(*found), version(*needed)
    )]
    DriverTooOld {
        /// `1000 * major + 10 * minor`
        found: u32,
        /// Likewise.
        needed: u32,
    },
    /// A driver without a card.
    #[error("the NVIDIA driver sees no card: see nvidia-smi and CUDA_VISIBLE_DEVICES")]
    NoDevice,
    /// Fewer cards than that.
    #[error("there is no card {ordinal}: the NVIDIA driver sees {count}, numbered from 0")]
    NoSuchDevice {
        /// What was asked for.
        ordinal: usize,
        /// How many there are.
        count: usize,
    },
    /// An architecture from before the half-precision parts that are needed.
    #[error(
        "{name} has compute capability {}.{}, but the kernels need 8.0 or later",
        capability.0, capability.1
    )]
    NoKernels {
        /// The card.
        name: String,
        /// Its architecture.
        capability: (u32, u32),
    },
    /// The card's memory is full.
    #[error(
        "the card's memory is full: {} are needed at once, and {} of {} are free: free some of it",
        bytes(*needed), bytes(*free), bytes(*total)
    )]
    OutOfMemory {
        /// Bytes asked for.
        needed: usize,
        /// Bytes that were free.
        free: usize,
        /// Bytes of the card.
        total: usize,
    },
    /// The context is gone, and what was in it.
    #[error("the card was lost in the middle of the work ({what}): start again, it goes on where it stopped")]
    Lost {
        /// The card.
        name: String,
        /// The driver's words.
        what: String,
    },
    /// Anything else that the driver refuses.
    #[error("the NVIDIA driver refused {function}: {what}")]
    Driver {
        /// Which function.
        function: &'static str,
        /// The driver's words.
        what: String,
    },
    /// The kernels that the program carries are not whole.
    #[error("the kernels that the program carries cannot be read ({what}): build or install it again")]
    Archive {
        /// What is wrong.
        what: String,
    },
}

/// `12.8` of 12080.
pub(crate) fn version(number: u32) -> String {
    format!("{}.{}", number / 1000, number % 1000 / 10)
}

/// Bytes as people write them: `1.5 GiB`.
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
        assert!(full.to_string().contains("2.0 GiB are needed at once, and 5.0 MiB of 8.0 GiB"), "{full}");
    }
}
