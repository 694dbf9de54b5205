//! What a figure was measured on. Owns the reading of /proc and /sys; records no host name and no
//! path of this machine.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde::{Deserialize, Serialize};

use crate::metrics::snapshot::{Data, Negotiated, Snapshot, Transport};

/// The environment of a run, as kept in `environment.json`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Environment {
    /// When it began, UTC, as `2026-01-31T12:00:00Z`.
    pub began: String,
    /// How long it took.
    pub duration_seconds: f64,
    /// The command, absolute paths shortened to their last component.
    pub command: Vec<String>,
    /// Version of fusewire.
    pub fusewire: String,
    /// The commit of the checkout that the program lies in, if it does; `-dirty` if that has changes.
    pub commit: Option<String>,
    /// fio's version.
    pub fio: String,
    /// fio's engine for O_DIRECT.
    pub direct_engine: String,
    /// Kernel release.
    pub kernel: String,
    /// Parameters of the fuse module.
    pub fuse_parameters: BTreeMap<String, String>,
    /// Processor, and how many this process may use.
    pub cpu: String,
    /// CPUs online.
    pub cpus: usize,
    /// Frequency governor, if the kernel shows one.
    pub governor: Option<String>,
    /// Whether the machine is a guest.
    pub virtual_machine: bool,
    /// Memory.
    pub memory_mib: u64,
    /// Load average over one minute when it began.
    pub load_average: f64,
    /// CPU time taken away by the hypervisor during the run, per cent of all.
    pub steal_percent: f64,
    /// What was measured upon.
    pub backing: Backing,
    /// What the daemon said was in force at the end; `None` without a daemon.
    pub in_force: Option<InForce>,
    /// FUSE over io_uring was off, and the demo has switched it on for as long as it took.
    #[serde(default)]
    pub uring_switched_on: bool,
}

/// What was measured upon.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Backing {
    /// What it is, in words.
    pub description: String,
    /// Type of the native file system.
    pub fstype: String,
    /// Its mount options.
    pub mount_options: String,
    /// mkfs options, if it was made for this run.
    pub mkfs_options: Option<String>,
    /// Type of the file system under the image, if there is one.
    pub image_on: Option<String>,
    /// I/O scheduler of the device, if it has one.
    pub scheduler: Option<String>,
}

/// What the daemon said was in force.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct InForce {
    /// `owner` or `shared`.
    pub profile: String,
    /// How requests arrive.
    pub transport: Transport,
    /// Who moves the bytes.
    pub data: Data,
    /// What keeps the kernel's caches true: `watch`, `exclusive` or `timeout=SECONDS`; empty in results
    /// from before it was recorded, and of a file system that is no source.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub coherence: String,
    /// What INIT agreed on.
    pub negotiated: Negotiated,
}

impl From<&Snapshot> for InForce {
    fn from(snapshot: &Snapshot) -> Self {
        InForce {
            profile: snapshot.profile.clone(),
            transport: snapshot.transport.clone(),
            data: snapshot.data.clone(),
            coherence: snapshot.coherence.mode.clone(),
            negotiated: snapshot.negotiated.clone(),
        }
    }
}

impl Environment {
    /// What can be known of this machine now; the run fills in the rest.
    pub fn capture() -> Self {
        let cpuinfo = read("/proc/cpuinfo");
        Environment {
            began: timestamp(now_seconds()),
            command: std::env::args().enumerate().map(|(i, word)| shorten(i, &word)).collect(),
            fusewire: env!("CARGO_PKG_VERSION").to_owned(),
            commit: commit(),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            fuse_parameters: fuse_parameters(),
            cpu: field(&cpuinfo, "model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
            governor: optional("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
            virtual_machine: field(&cpuinfo, "flags")
                .is_some_and(|flags| flags.split(' ').any(|flag| flag == "hypervisor")),
            memory_mib: field(&read("/proc/meminfo"), "MemTotal")
                .and_then(|value| value.split(' ').next()?.parse::<u64>().ok())
                .unwrap_or(0)
                / 1024,
            load_average: read("/proc/loadavg")
                .split(' ')
                .next()
                .and_then(|value| value.parse().ok())
                .unwrap_or(0.0),
            ..Environment::default()
        }
    }

    /// A label of the machine for names of folders: processor kind and CPU count.
    pub fn machine(&self) -> String {
        let mut words = Vec::new();
        let model = self.cpu.split('@').next().unwrap_or("");
        let model = model.replace("(R)", " ").replace("(TM)", " ").replace("(tm)", " ");
        for word in model.split(|c: char| !c.is_ascii_alphanumeric()) {
            if !word.is_empty() && !["CPU", "Processor", "processor"].contains(&word) {
                words.push(word.to_ascii_lowercase());
            }
        }
        words.truncate(4);
        words.push(format!("{}cpu", self.cpus));
        words.join("-")
    }
}

/// CPU time of the whole machine, in ticks: stolen, and all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CpuTicks {
    stolen: u64,
    all: u64,
}

impl CpuTicks {
    /// Since boot.
    pub fn now() -> Self {
        CpuTicks::parse(&read("/proc/stat"))
    }

    fn parse(stat: &str) -> Self {
        let ticks: Vec<u64> = stat
            .lines()
            .next()
            .unwrap_or("")
            .split_whitespace()
            .skip(1)
            // Guest time is part of user time already.
            .take(8)
            .map(|value| value.parse().unwrap_or(0))
            .collect();
        CpuTicks { stolen: ticks.get(7).copied().unwrap_or(0), all: ticks.iter().sum() }
    }

    /// Share stolen since `earlier`, per cent.
    pub fn steal_percent_since(self, earlier: CpuTicks) -> f64 {
        let all = self.all.saturating_sub(earlier.all).max(1);
        super::sample::count(self.stolen.saturating_sub(earlier.stolen)) * 100.0
            / super::sample::count(all)
    }
}

/// The scheduler of the block device of `path`, the active one.
pub(crate) fn scheduler(path: &Path) -> Option<String> {
    use std::os::unix::fs::MetadataExt;
    let device = fs::metadata(path).ok()?.dev();
    let (major, minor) = (nix::sys::stat::major(device), nix::sys::stat::minor(device));
    let link = format!("/sys/dev/block/{major}:{minor}");
    let queue = ["queue/scheduler", "../queue/scheduler"]
        .iter()
        .find_map(|relative| fs::read_to_string(Path::new(&link).join(relative)).ok())?;
    Some(queue.split(['[', ']']).nth(1).unwrap_or(queue.trim()).to_owned())
}

/// Seconds since 1970.
pub(crate) fn now_seconds() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |elapsed| elapsed.as_secs())
}

/// `2026-01-31T12:00:00Z`. Days to a civil date: the era arithmetic of Howard Hinnant's
/// `civil_from_days`.
pub(crate) fn timestamp(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400 + 719_468, seconds % 86_400);
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn optional(path: &str) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

/// The value of the first `name : value` line.
fn field(text: &str, name: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name).then(|| value.trim().to_owned())
    })
}

fn fuse_parameters() -> BTreeMap<String, String> {
    let Ok(entries) = fs::read_dir("/sys/module/fuse/parameters") else {
        return BTreeMap::new();
    };
    entries
        .flatten()
        .filter_map(|entry| {
            let value = fs::read_to_string(entry.path()).ok()?;
            Some((entry.file_name().to_string_lossy().into_owned(), value.trim().to_owned()))
        })
        .collect()
}

/// The commit of the checkout that this program lies in, if it does: wherever it is started, and whatever
/// checkout is there.
fn commit() -> Option<String> {
    let program = std::env::current_exe().ok()?;
    let git = |arguments: &[&str]| {
        let output =
            Command::new("git").arg("-C").arg(program.parent()?).args(arguments).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let head = git(&["rev-parse", "--short=12", "HEAD"])?;
    let changed = git(&["status", "--porcelain", "--untracked-files=no"])?;
    Some(if changed.is_empty() { head } else { format!("{head}-dirty") })
}

/// A word of the command line without the directories of this machine.
fn shorten(index: usize, word: &str) -> String {
    let path = Path::new(word);
    match path.file_name() {
        Some(name) if index == 0 || path.is_absolute() => name.to_string_lossy().into_owned(),
        _ => word.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_are_civil_dates() {
        assert_eq!(timestamp(0), "1970-01-01T00:00:00Z");
        assert_eq!(timestamp(951_782_399), "2000-02-28T23:59:59Z");
        assert_eq!(timestamp(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(timestamp(1_767_225_599), "2025-12-31T23:59:59Z");
        assert_eq!(timestamp(1_767_225_600), "2026-01-01T00:00:00Z");
    }

    #[test]
    fn machines_are_named_by_processor_and_count() {
        let label = |cpu: &str| {
            Environment { cpu: cpu.into(), cpus: 2, ..Environment::default() }.machine()
        };
        assert_eq!(label("Intel(R) Xeon(R) Processor @ 2.60GHz"), "intel-xeon-2cpu");
        assert_eq!(label("AMD EPYC 7B13"), "amd-epyc-7b13-2cpu");
    }

    #[test]
    fn steal_is_a_share_of_all_time() {
        let before = CpuTicks::parse("cpu  10 0 10 80 0 0 0 0 5 5\ncpu0 1");
        let after = CpuTicks::parse("cpu  20 0 20 150 0 0 0 10 5 5\n");
        assert_eq!(after.steal_percent_since(before), 10.0);
        assert_eq!(CpuTicks::parse("").all, 0);
    }

    #[test]
    fn paths_of_this_machine_are_shortened() {
        assert_eq!(shorten(0, "target/release/fusewire"), "fusewire");
        assert_eq!(shorten(2, "/home/someone/disk"), "disk");
        assert_eq!(shorten(3, "rel/dir"), "rel/dir");
        assert_eq!(shorten(3, "--data"), "--data");
    }

    #[test]
    fn this_machine_can_be_captured() {
        let environment = Environment::capture();
        assert!(environment.cpus >= 1 && environment.memory_mib > 0);
        assert!(environment.kernel.contains('.'), "{}", environment.kernel);
    }
}
