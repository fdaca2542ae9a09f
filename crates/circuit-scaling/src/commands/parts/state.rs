//! The state of a part, from its folder.

use std::fs;
use std::path::Path;
use std::time::Duration;

use cs_analysis::files::write_json;
use serde::{Deserialize, Serialize};

use super::heartbeat::Sign;
use crate::digest::Digest256;
use crate::error::CliError;

/// The device and inputs with which a part was started: `made.json`. Results of another plan, version or device are not
/// resumed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Made {
    /// The part's task and inputs.
    pub plan: Digest256,
    /// The program.
    pub program_version: String,
    /// The device that computed it.
    pub device: String,
}

/// The end of a part: `done.json`, or `failed.json` with an error.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct End {
    /// Seconds since the last start.
    pub seconds: f64,
    /// What went wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

const MADE: &str = "made.json";
const DONE: &str = "done.json";
const FAILED: &str = "failed.json";

/// The state of a part.
#[derive(Debug, Clone, PartialEq)]
pub enum State {
    /// Not started.
    Waiting,
    /// Running, with its last heartbeat and its age.
    Running(Sign, Duration),
    /// Started but ended before it was done, with its last heartbeat and its age.
    Stopped(Sign, Duration),
    /// Ended with an error.
    Failed(String),
    /// Complete, after this many seconds.
    Done(f64),
}

fn read<T: for<'a> Deserialize<'a>>(folder: &Path, name: &str) -> Option<T> {
    serde_json::from_slice(&fs::read(folder.join(name)).ok()?).ok()
}

impl Made {
    /// Reads it from a part's folder, if the part was started.
    pub fn read(folder: &Path) -> Option<Self> {
        read(folder, MADE)
    }

    /// Starts a part: it is neither done nor failed.
    ///
    /// # Errors
    /// If the folder cannot be written.
    pub fn write(&self, folder: &Path) -> Result<(), CliError> {
        [DONE, FAILED].iter().for_each(|name| drop(fs::remove_file(folder.join(name))));
        Ok(write_json(&folder.join(MADE), self)?)
    }
}

impl End {
    /// Writes the end of a part.
    ///
    /// # Errors
    /// If the folder cannot be written.
    pub fn write(&self, folder: &Path) -> Result<(), CliError> {
        let name = if self.error.is_some() { FAILED } else { DONE };
        Ok(write_json(&folder.join(name), self)?)
    }
}

impl State {
    /// Reads it from a part's folder.
    pub fn read(folder: &Path) -> Self {
        if let Some(done) = read::<End>(folder, DONE) {
            return Self::Done(done.seconds);
        }
        if let Some(error) = read::<End>(folder, FAILED).and_then(|end| end.error) {
            return Self::Failed(error);
        }
        match Sign::read(folder) {
            Some((sign, age)) if sign.is_alive(age) => Self::Running(sign, age),
            Some((sign, age)) => Self::Stopped(sign, age),
            None => Self::Waiting,
        }
    }

    /// The fraction that is done.
    pub fn share(&self) -> f64 {
        match self {
            Self::Waiting | Self::Failed(_) => 0.0,
            Self::Running(sign, _) | Self::Stopped(sign, _) => sign.share,
            Self::Done(_) => 1.0,
        }
    }

    /// In words.
    pub fn describe(&self) -> String {
        match self {
            Self::Waiting => "not started".to_owned(),
            Self::Running(sign, age) => {
                format!("running, {:.0}% done {}", 100.0 * sign.share, sign.describe(*age))
            }
            Self::Stopped(sign, age) => {
                format!("stopped at {:.0}% {}", 100.0 * sign.share, sign.describe(*age))
            }
            Self::Failed(error) => format!("failed: {error}"),
            Self::Done(seconds) => format!("done in {}", super::super::plan::duration(*seconds)),
        }
    }
}

/// Numbers of parts as ranges: `1-3,7`.
pub fn ranges(parts: &[usize]) -> String {
    let runs = parts.chunk_by(|a, b| a + 1 == *b);
    let text = |run: &[usize]| match run {
        [one] => one.to_string(),
        [first, .., last] => format!("{first}-{last}"),
        [] => String::new(),
    };
    runs.map(text).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::ranges;

    #[test]
    fn numbers_in_few_characters() {
        assert_eq!(ranges(&[1, 2, 3, 7, 9, 10]), "1-3,7,9-10");
        assert_eq!(ranges(&[5]), "5");
    }
}
