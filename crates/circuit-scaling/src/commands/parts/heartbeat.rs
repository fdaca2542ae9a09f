//! Heartbeats of a running part, for `status`, and to prevent starting it twice on file systems without locks.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use cs_analysis::files::write_json;
use serde::{Deserialize, Serialize};

use crate::progress::Share;

/// Time between two heartbeats.
const BEAT: Duration = Duration::from_secs(3);
/// A part without a heartbeat for this long is no longer running.
const SILENCE: Duration = Duration::from_secs(60);

/// A heartbeat: `progress.json` in the part's folder, whose age counts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sign {
    /// The fraction of the part that is done.
    pub share: f64,
    /// The machine.
    pub host: String,
    /// The process on it.
    pub pid: u32,
    /// Seconds since it began.
    pub seconds: f64,
    /// Whether it is the last one: the process has ended, with the part done or not.
    pub ended: bool,
}

impl Sign {
    /// The last heartbeat in a part's folder, and its age.
    pub fn read(folder: &Path) -> Option<(Self, Duration)> {
        let path = path(folder);
        let age = SystemTime::now().duration_since(fs::metadata(&path).ok()?.modified().ok()?);
        Some((serde_json::from_slice(&fs::read(path).ok()?).ok()?, age.unwrap_or_default()))
    }

    /// Whether the part is running.
    pub fn is_alive(&self, age: Duration) -> bool {
        !self.ended && age < SILENCE
    }

    /// The process, and the age of its last heartbeat.
    pub fn describe(&self, age: Duration) -> String {
        format!("by process {} on {}, last heard of {} s ago", self.pid, self.host, age.as_secs())
    }
}

fn path(folder: &Path) -> PathBuf {
    folder.join("progress.json")
}

/// This machine's name.
pub fn host() -> String {
    fs::read_to_string("/proc/sys/kernel/hostname")
        .ok()
        .or_else(|| std::env::var("HOSTNAME").ok())
        .map_or_else(|| "an unnamed machine".to_owned(), |name| name.trim().to_owned())
}

/// Writes heartbeats until it is dropped.
pub struct Heartbeat {
    folder: PathBuf,
    end: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Heartbeat {
    /// Starts the heartbeat; `share` gives the progress.
    pub fn start(folder: &Path, share: &'static Share) -> Self {
        let (end, ended) = channel();
        let begun = Instant::now();
        let (host, pid) = (host(), std::process::id());
        let to = path(folder);
        let thread = std::thread::spawn(move || {
            loop {
                let sign = Sign {
                    share: share.get(),
                    host: host.clone(),
                    pid,
                    seconds: begun.elapsed().as_secs_f64(),
                    ended: false,
                };
                // No result depends on it.
                let _ = write_json(&to, &sign);
                if ended.recv_timeout(BEAT) != Err(RecvTimeoutError::Timeout) {
                    // Final progress of the part.
                    let _ = write_json(&to, &Sign { share: share.get(), ended: true, ..sign });
                    return;
                }
            }
        });
        Self { folder: folder.to_owned(), end: Some(end), thread: Some(thread) }
    }
}

impl Drop for Heartbeat {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        let _ = fs::remove_file(claim_path(&self.folder));
    }
}

fn claim_path(folder: &Path) -> PathBuf {
    folder.join("claim")
}

/// Claims a part on a file system without locks: creates a file exclusively, which counts as long as there are heartbeats.
///
/// # Errors
/// Who has it, and when last heard of.
pub fn claim(folder: &Path) -> Result<(), String> {
    let claim = claim_path(folder);
    match File::options().write(true).create_new(true).open(&claim) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            let age = |path: &Path| fs::metadata(path).ok()?.modified().ok()?.elapsed().ok();
            match Sign::read(folder) {
                Some((sign, age)) if sign.is_alive(age) => return Err(sign.describe(age)),
                // Claimed a moment ago, before the first heartbeat.
                None if age(&claim).is_some_and(|age| age < SILENCE) => {
                    return Err("since a moment ago".into());
                }
                _ => {}
            }
            // Reset the age of the claim.
            let _ = File::create(&claim);
            Ok(())
        }
        // A folder that is not writable is reported with the first result.
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_locks_a_part_is_taken_once_until_its_signs_end() {
        let dir = tempfile::tempdir().unwrap();
        claim(dir.path()).unwrap();
        assert!(claim(dir.path()).is_err(), "claimed a moment ago");
        let heartbeat = Heartbeat::start(dir.path(), Box::leak(Box::default()));
        while Sign::read(dir.path()).is_none() {
            std::thread::sleep(Duration::from_millis(5));
        }
        let by = claim(dir.path()).unwrap_err();
        assert!(by.contains(&format!("process {}", std::process::id())), "{by}");
        // A killed process leaves its claim and its last heartbeat.
        std::mem::forget(heartbeat);
        let long_ago = SystemTime::now() - 2 * SILENCE;
        for path in [path(dir.path()), claim_path(dir.path())] {
            File::options().write(true).open(path).unwrap().set_modified(long_ago).unwrap();
        }
        claim(dir.path()).unwrap();
    }
}
