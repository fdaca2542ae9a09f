//! What runs are computed on, and how precisely.

use std::fmt;
use std::str::FromStr;

use cs_kernels::Isa;
use serde::{Deserialize, Serialize};

/// The kind of processor, as far as results depend on it: `cpu-avx512`, `cpu-avx2` or `cpu-plain`.
///
/// Sums over the lanes of a vector run in an order of their own for each width, so results of different kinds agree to
/// float32's rounding and no further.
pub fn cpu() -> &'static str {
    match Isa::best() {
        Isa::Plain => "cpu-plain",
        Isa::Avx2 => "cpu-avx2",
        Isa::Avx512 => "cpu-avx512",
    }
}

/// How products are computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// In float32.
    F32,
    /// In two half-precision parts of each difference from the plain run, with float32 sums: about as exact as float32.
    Split,
    /// In one half-precision part: effects are off by up to a thousandth.
    Half,
}

impl Precision {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::F32, Self::Split, Self::Half];

    /// Name on the command line and in files.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Split => "split",
            Self::Half => "half",
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Precision {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|precision| precision.as_str() == text);
        found.ok_or_else(|| format!("unknown precision `{text}`: use f32, split or half"))
    }
}
