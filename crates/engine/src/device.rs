//! What this process computes on.

use cs_kernels::Isa;

/// The kind of device, as far as results depend on it: `cpu-avx512`, `cpu-avx2` or `cpu-plain`.
///
/// Sums over the lanes of a vector run in an order of their own for each width, so results of different kinds agree to
/// float32's rounding and no further.
pub fn device() -> &'static str {
    match Isa::best() {
        Isa::Plain => "cpu-plain",
        Isa::Avx2 => "cpu-avx2",
        Isa::Avx512 => "cpu-avx512",
    }
}
