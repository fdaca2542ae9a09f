//! Available memory.

use std::fs;

/// Bytes of memory available to this process; `None` if unknown.
pub fn available() -> Option<u64> {
    let info = fs::read_to_string("/proc/meminfo").ok()?;
    let free = field(&info, "MemAvailable:")? + field(&info, "SwapFree:").unwrap_or(0);
    // A container may be allowed less than the machine has.
    let limit =
        fs::read_to_string("/sys/fs/cgroup/memory.max").ok().and_then(|limit| limit.trim().parse().ok());
    Some(limit.map_or(free, |limit: u64| free.min(limit)))
}

/// A field of `/proc/meminfo` in bytes.
fn field(info: &str, name: &str) -> Option<u64> {
    let line = info.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}
