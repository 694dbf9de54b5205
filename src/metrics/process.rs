//! What the daemon's process has consumed and holds, as the kernel accounts it.

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;

use super::snapshot::Process;

/// CPU time and context switches since the process started.
pub fn consumed() -> Process {
    let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) else { return Process::default() };
    let micros = |time: TimeVal| count(time.tv_sec() * 1_000_000 + time.tv_usec());
    Process {
        user_cpu_us: micros(usage.user_time()),
        system_cpu_us: micros(usage.system_time()),
        voluntary_switches: count(usage.voluntary_context_switches()),
        involuntary_switches: count(usage.involuntary_context_switches()),
    }
}

/// Open descriptors of the process.
pub fn open_descriptors() -> u64 {
    // The listing itself is one of them.
    std::fs::read_dir("/proc/self/fd").map_or(0, |list| list.count().saturating_sub(1) as u64)
}

/// Resident memory, bytes.
pub fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or(0) * 4096
}

fn count(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}
