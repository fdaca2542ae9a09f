//! Devices that execute runs, and their precision.

use std::fmt;
use std::str::FromStr;

use cs_kernels::Isa;
use cs_model::spec::ModelSpec;
use serde::{Deserialize, Serialize};

use crate::machine::trial;

use crate::machine::delta::cuda::Card;

/// A device that executes a decoder's runs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Device {
    /// The CPU.
    Cpu,
    /// The delta form on the CPU, to check it and its precision. Slow.
    Delta,
    /// NVIDIA GPUs by number, in order; they share the branches.
    Cuda(Vec<usize>),
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Delta => f.write_str("delta"),
            Self::Cuda(cards) => {
                let cards: Vec<String> = cards.iter().map(|card| format!("cuda:{card}")).collect();
                f.write_str(&cards.join(","))
            }
        }
    }
}

impl FromStr for Device {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let unknown = || format!("unknown device `{text}`: use auto, cpu, cuda, cuda:0, or cuda:0,cuda:1");
        let card = |word: &str| match word.trim() {
            "cuda" => Ok(0),
            word => word.strip_prefix("cuda:").and_then(|n| n.parse().ok()).ok_or_else(unknown),
        };
        match text.trim() {
            "cpu" => Ok(Self::Cpu),
            "delta" => Ok(Self::Delta),
            cards => {
                let cards: Vec<usize> = cards.split(',').map(card).collect::<Result<_, _>>()?;
                match (0..cards.len()).find(|&at| cards[..at].contains(&cards[at])) {
                    Some(at) => Err(format!("device `cuda:{}` is given twice", cards[at])),
                    None => Ok(Self::Cuda(cards)),
                }
            }
        }
    }
}

/// A user's choice of a device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum DeviceChoice {
    /// A usable GPU, otherwise the CPU.
    #[default]
    Auto,
    /// Only this device.
    Only(Device),
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Only(device) => device.fmt(f),
        }
    }
}

impl FromStr for DeviceChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.trim() == "auto" { Ok(Self::Auto) } else { text.parse().map(Self::Only) }
    }
}

/// How products are computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// In float32.
    F32,
    /// With each difference from the plain run in two half-precision parts, and float32 sums: about as accurate as
    /// float32.
    Split,
    /// With each difference in one half-precision part: Δ is within 0.2% of a model's largest.
    Half,
}

impl Precision {
    /// All precisions.
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

/// Why models cannot be run as requested.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum DeviceError {
    /// No such GPU, or it cannot be used.
    #[error("--device {asked}: {why}; use --device cpu, and see `circuit-scaling devices`")]
    NoCard {
        /// The request.
        asked: Device,
        /// The reason.
        why: String,
    },
    /// GPUs whose results would differ in their last digits.
    #[error(
        "--device {asked}: cuda:{} is {}, and cuda:{} is {}: a run needs GPUs of the same model",
        first.0, first.1, other.0, other.1
    )]
    DifferentCards {
        /// The request.
        asked: Device,
        /// A GPU's number and model.
        first: (usize, String),
        /// A GPU of another model.
        other: (usize, String),
    },
    /// The CPU has only one precision.
    #[error("the CPU computes in float32: --precision {precision} is for GPUs (--device cuda)")]
    Precision {
        /// The request.
        precision: Precision,
    },
}

/// A usable device and its precision.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Compute {
    device: Device,
    precision: Precision,
    name: String,
    /// Whether the program chose it, and may use the CPU for models that the device cannot run.
    is_chosen: bool,
    /// Whether this machine has the device.
    is_here: bool,
}

impl Compute {
    /// The CPU.
    pub fn cpu() -> Self {
        Self {
            device: Device::Cpu,
            precision: Precision::F32,
            name: cpu_kind().to_owned(),
            is_chosen: false,
            is_here: true,
        }
    }

    /// A GPU, for its trial.
    pub(crate) fn on_card(card: usize) -> Self {
        let (device, precision) = (Device::Cuda(vec![card]), Precision::Split);
        Self { device, precision, name: String::new(), is_chosen: false, is_here: true }
    }

    /// The same with only the first of several GPUs.
    pub(crate) fn first(&self) -> Self {
        match &self.device {
            Device::Cuda(cards) => Self { device: Device::Cuda(cards[..1].to_vec()), ..self.clone() },
            _ => self.clone(),
        }
    }

    /// The delta form on the CPU.
    pub fn delta(precision: Precision) -> Self {
        let name = format!("delta-{}", cpu_kind());
        Self { device: Device::Delta, precision, name, is_chosen: false, is_here: true }
    }

    /// The requested device, if it can be used. The default precision is float32 on the CPU, otherwise [`Precision::Split`].
    ///
    /// # Errors
    /// See [`DeviceError`].
    pub fn choose(choice: &DeviceChoice, precision: Option<Precision>) -> Result<Self, DeviceError> {
        let device = match choice {
            DeviceChoice::Only(device) => device.clone(),
            DeviceChoice::Auto => {
                let is_usable = |(at, card): &(usize, Found)| card.why_not(*at).is_none();
                match cards().into_iter().enumerate().find(is_usable) {
                    Some((card, _)) => Device::Cuda(vec![card]),
                    None => Device::Cpu,
                }
            }
        };
        match device {
            Device::Cpu => match precision {
                None | Some(Precision::F32) => Ok(Self::cpu()),
                Some(precision) => Err(DeviceError::Precision { precision }),
            },
            Device::Delta => Ok(Self::delta(precision.unwrap_or(Precision::Split))),
            Device::Cuda(asked) => {
                let found = cards();
                for &card in &asked {
                    let why = match found.get(card) {
                        None if found.is_empty() => Some(no_cards()),
                        None => Some(format!("there is no GPU {card}, only {}", found.len())),
                        Some(found) => found.why_not(card),
                    };
                    if let Some(why) = why {
                        return Err(DeviceError::NoCard { asked: Device::Cuda(asked), why });
                    }
                }
                let named = |&card: &usize| (card, found[card].name.clone());
                let first = asked.first().map(named).unwrap_or_default();
                if let Some(other) = asked.iter().map(named).find(|(_, name)| *name != first.1) {
                    return Err(DeviceError::DifferentCards { asked: Device::Cuda(asked), first, other });
                }
                let (name, precision) = (first.1, precision.unwrap_or(Precision::Split));
                let is_chosen = *choice == DeviceChoice::Auto;
                Ok(Self { device: Device::Cuda(asked), precision, name, is_chosen, is_here: true })
            }
        }
    }

    /// The same for work that is planned for other machines; this one need not have the device.
    ///
    /// # Errors
    /// [`DeviceError::Precision`]
    pub fn planned(choice: &DeviceChoice, precision: Option<Precision>) -> Result<Self, DeviceError> {
        match Self::choose(choice, precision) {
            Err(DeviceError::NoCard { asked, .. }) => {
                let (name, precision) = (asked.to_string(), precision.unwrap_or(Precision::Split));
                Ok(Self { device: asked, precision, name, is_chosen: false, is_here: false })
            }
            chosen => chosen,
        }
    }

    /// The device of results of this [kind](Self::kind) that were requested as `planned`.
    #[must_use]
    pub fn of_kind(kind: &str, planned: &Self) -> Self {
        match kind.rsplit_once(", ").map(|(name, precision)| (name, precision.parse())) {
            Some((name, Ok(precision))) => Self { precision, name: name.to_owned(), ..planned.clone() },
            _ => planned.clone(),
        }
    }

    /// Whether this machine has the device, rather than being [planned](Self::planned) for others.
    pub fn is_here(&self) -> bool {
        self.is_here
    }

    /// Whether the device is one or several GPUs, which have separate memory.
    pub fn is_card(&self) -> bool {
        matches!(self.device, Device::Cuda(_))
    }

    /// The device.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Where a model runs, and why not on this device: the CPU, if the program chose a GPU that cannot run the model.
    pub fn for_model(&self, spec: &ModelSpec) -> (Self, Option<String>) {
        match Card::cannot(spec).filter(|_| self.is_chosen) {
            None => (self.clone(), None),
            why => (Self::cpu(), why),
        }
    }

    /// The kind of CPU, or the GPU's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The precision.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// Device and precision as far as results depend on them: `cpu-avx512`, or a GPU's model and the precision. Results of
    /// different kinds agree up to rounding and are not mixed.
    pub fn kind(&self) -> String {
        match self.device {
            Device::Cpu => self.name.clone(),
            _ => format!("{}, {}", self.name, self.precision),
        }
    }

    /// The device as recorded in result files; `None` for the CPU, the default.
    pub fn recorded_device(&self) -> Option<String> {
        (self.device != Device::Cpu).then(|| self.name.clone())
    }

    /// Likewise the precision.
    pub fn recorded_precision(&self) -> Option<String> {
        (self.device != Device::Cpu).then(|| self.precision.to_string())
    }
}

/// A device of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its name on the command line: `cpu`, `cuda:0`.
    pub word: String,
    /// Its model.
    pub name: String,
    /// Why it cannot be used, if so.
    pub why_not: Option<String>,
}

impl Found {
    /// Why this GPU is not used: it cannot be, or its results differ from the CPU's.
    fn why_not(&self, card: usize) -> Option<String> {
        self.why_not.clone().or_else(|| trial::why_not(card))
    }
}

/// The devices of this machine, the CPU first; if there are no GPUs, the reason. Runs the GPUs' trials.
pub fn devices() -> (Vec<Found>, Option<String>) {
    let cpu = Found { word: "cpu".to_owned(), name: cpu_kind().to_owned(), why_not: None };
    let tried = |(at, card): (usize, Found)| Found { why_not: card.why_not(at), ..card };
    let cards: Vec<Found> = cards().into_iter().enumerate().map(tried).collect();
    let why = cards.is_empty().then(no_cards);
    (std::iter::once(cpu).chain(cards).collect(), why)
}

/// The GPUs of this machine that are not used, one line each with the reason. Runs the GPUs' trials.
pub fn unused_cards() -> Vec<String> {
    let unused = |card: Found| Some(format!("{} is not used: {}", card.word, card.why_not?));
    devices().0.into_iter().filter_map(unused).collect()
}

/// The GPUs of this machine, in order of number.
fn cards() -> Vec<Found> {
    let Ok((driver, devices)) = driver_and_devices() else { return vec![] };
    let found = |device: &cs_cuda::Device| Found {
        word: format!("cuda:{}", device.ordinal),
        name: card_name(&driver, device),
        why_not: device.check(&driver).err().map(|e| e.to_string()),
    };
    devices.iter().map(found).collect()
}

/// Why there are no GPUs.
fn no_cards() -> String {
    driver_and_devices().err().map_or_else(String::new, |e| e.to_string())
}

fn driver_and_devices() -> Result<(cs_cuda::Driver, Vec<cs_cuda::Device>), cs_cuda::CudaError> {
    let driver = cs_cuda::Driver::open()?;
    let devices = driver.devices()?;
    Ok((driver, devices))
}

/// A GPU as far as results depend on it: its model, its driver and the kernels.
fn card_name(driver: &cs_cuda::Driver, device: &cs_cuda::Device) -> String {
    let kernels = cs_cuda::Manifest::carried().map_or_else(|_| String::new(), |manifest| manifest.version());
    format!("cuda {} (driver for CUDA {}, kernels {kernels})", device.name, driver.version_text())
}

/// The kind of CPU as far as results depend on it: `cpu-avx512`, `cpu-avx2` or `cpu-plain`.
///
/// The order of sums depends on the vector width, so results of different kinds agree only up to float32 rounding.
fn cpu_kind() -> &'static str {
    match Isa::best() {
        Isa::Plain => "cpu-plain",
        Isa::Avx2 => "cpu-avx2",
        Isa::Avx512 => "cpu-avx512",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_their_words() {
        for word in ["auto", "cpu", "delta", "cuda:0", "cuda:1,cuda:0"] {
            assert_eq!(word.parse::<DeviceChoice>().unwrap().to_string(), word);
        }
        assert_eq!("cuda".parse(), Ok(Device::Cuda(vec![0])));
        for word in ["", "gpu", "cuda:", "cuda:x", "cuda:-1", "cpu,cuda", "cuda:0,", "cuda,cuda:0", "CPU"] {
            assert!(word.parse::<DeviceChoice>().is_err(), "{word}");
        }
    }

    #[test]
    fn the_processor_has_one_precision() {
        let cpu = DeviceChoice::Only(Device::Cpu);
        assert_eq!(Compute::choose(&cpu, None), Ok(Compute::cpu()));
        assert_eq!(Compute::choose(&cpu, Some(Precision::F32)), Ok(Compute::cpu()));
        let split = Compute::choose(&cpu, Some(Precision::Split));
        assert_eq!(split, Err(DeviceError::Precision { precision: Precision::Split }));
        assert_eq!(Compute::cpu().recorded_device(), None);
    }

    #[test]
    fn what_is_asked_for_is_never_taken_for_something_else() {
        let missing = Device::Cuda(vec![4096]);
        let error = Compute::choose(&DeviceChoice::Only(missing.clone()), None).unwrap_err();
        assert!(matches!(error, DeviceError::NoCard { asked, .. } if asked == missing));
    }
}
