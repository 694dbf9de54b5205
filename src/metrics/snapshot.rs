//! The document that `fusewire stats --json` prints: one serializable picture of a live mount.
//!
//! It is the only contract between the daemon and everything that watches it (the `stats`
//! command, the demo, scripts). Fields are added, never renamed; units are in the names.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One picture of a live mount.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Version of the daemon, as in `fusewire --version`.
    pub version: String,
    /// Process id of the daemon.
    pub pid: u32,
    /// Seconds since the mount became ready.
    pub uptime_seconds: f64,
    /// The directory that is shown.
    pub source: String,
    /// Where it is shown.
    pub mountpoint: String,
    /// `owner` (no allow_other) or `shared` (allow_other with default_permissions), and
    /// `, read-mostly` behind it.
    pub profile: String,
    /// Options of the mount itself, by their names of `-o`, as they were when it was made.
    #[serde(default)]
    pub options: Vec<String>,
    /// How requests arrive.
    pub transport: Transport,
    /// Who moves the bytes of files.
    pub data: Data,
    /// What keeps the kernel's caches true to the source.
    #[serde(default)]
    pub coherence: Coherence,
    /// Where the bytes of a distributed file system's files are read.
    #[serde(default)]
    pub locality: Locality,
    /// What INIT agreed on.
    pub negotiated: Negotiated,
    /// Per opcode, by its kernel name without `FUSE_` (`LOOKUP`, `GETATTR`, ...). Only opcodes seen.
    pub requests: BTreeMap<String, Opcode>,
    /// Sums over all opcodes.
    pub totals: Totals,
    /// What is alive in the daemon now.
    pub live: Live,
    /// What the daemon has consumed since it started.
    pub process: Process,
    /// What the daemon may do.
    #[serde(default)]
    pub privileges: Privileges,
}

impl Snapshot {
    /// Requests served since an earlier picture of the same daemon, by opcode.
    pub fn served_since(&self, earlier: &Snapshot) -> BTreeMap<String, u64> {
        let before = |opcode: &str| earlier.requests.get(opcode).map_or(0, |figures| figures.count);
        let served = |(opcode, now): (&String, &Opcode)| {
            let count = now.count.saturating_sub(before(opcode));
            (count > 0).then(|| (opcode.clone(), count))
        };
        self.requests.iter().filter_map(served).collect()
    }
}

/// How requests arrive.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Transport {
    /// `uring`, `dev`, `dev-uring` (`dev` with `--dev-io uring`) or `fuser`.
    pub name: String,
    /// Worker threads.
    pub workers: usize,
    /// Descriptors of /dev/fuse: as many as workers if the kernel allowed FUSE_DEV_IOC_CLONE, else 1.
    pub channels: usize,
    /// Whether each worker is bound to one CPU.
    pub pinned: bool,
    /// Why it is so, if it is not what was asked for.
    pub reason: Option<String>,
}

/// Who moves the bytes of files.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Data {
    /// What is in force: `passthrough`, `splice` (for READs, see `DataMode::Auto`) or `copy`.
    pub mode: String,
    /// What was asked for: `auto`, `passthrough`, `splice` or `copy`.
    pub requested: String,
    /// Why it is so, if it is not the best there is.
    pub reason: Option<String>,
}

/// What keeps the kernel's caches true to the source.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Coherence {
    /// What is in force: `watch`, `exclusive` or `timeout=SECONDS`.
    pub mode: String,
    /// What was asked for: one of these, or `auto`.
    pub requested: String,
    /// Why it is so, if it is not the best there is.
    pub reason: Option<String>,
    /// Changes of the source's file system that were read, the daemon's own among them.
    pub events: u64,
    /// What the kernel was told because of them.
    pub notifications: u64,
    /// Times that changes came faster than they were read, and everything expired.
    pub overflows: u64,
    /// Times that every name expired, for that or another reason.
    pub expirations: u64,
}

/// Where the bytes of a distributed file system's files are read.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Locality {
    /// What is in force: `off` or the system, as `gluster`.
    pub mode: String,
    /// What was asked for: one of these, or `auto`.
    pub requested: String,
    /// Why it is so, if it is not what was asked for; or why nothing is read from there all the same.
    pub reason: Option<String>,
    /// READs that were answered from a file on this machine's disk.
    pub replica_reads: u64,
    /// Bytes of these.
    pub replica_bytes: u64,
    /// READs that went through the source.
    pub mount_reads: u64,
    /// Opens that gave such a file to the kernel, which reads it without a READ.
    #[serde(default)]
    pub held_opens: u64,
    /// Times that it was looked whether there is such a file, and whether it may be read.
    pub checks: u64,
    /// Of these, those that found none, by what was the matter.
    pub misses: BTreeMap<String, u64>,
}

/// What INIT agreed on.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Negotiated {
    /// Protocol version, as `7.45`.
    pub protocol: String,
    /// Flags in force, by their kernel name without `FUSE_`.
    pub flags: Vec<String>,
    /// Flags the kernel offered and fusewire refused, each with the reason.
    pub refused: BTreeMap<String, String>,
    /// Largest WRITE, bytes.
    pub max_write_bytes: u32,
    /// Largest readahead, bytes.
    pub max_readahead_bytes: u32,
    /// Background requests the kernel may have in flight.
    pub max_background: u16,
    /// File-system stacking depth for passthrough; 0 without it.
    pub max_stack_depth: u32,
}

/// Figures of one opcode.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Opcode {
    /// Requests served.
    pub count: u64,
    /// Requests answered with an error, by errno name (`ENOENT`, ...).
    pub errors: BTreeMap<String, u64>,
    /// Time from the request's arrival in the daemon to the end of its reply.
    pub latency_ns: Latency,
}

/// A latency distribution, nanoseconds. Percentiles are upper bounds of their bucket (3 % wide).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// Median.
    pub p50: u64,
    /// 99th percentile.
    pub p99: u64,
    /// 99.9th percentile.
    pub p999: u64,
    /// Largest.
    pub max: u64,
}

/// Sums over all opcodes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Totals {
    /// Requests served, FORGETs included.
    pub requests: u64,
    /// Requests answered with an error.
    pub errors: u64,
    /// Requests whose header or body lied about itself.
    pub malformed: u64,
    /// Bytes answered to READ.
    pub read_bytes: u64,
    /// Those of them that went from the file through a pipe.
    #[serde(default)]
    pub spliced_bytes: u64,
    /// Bytes accepted from WRITE.
    pub written_bytes: u64,
}

/// What is alive in the daemon now.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Live {
    /// Inodes the kernel may refer to.
    pub inodes: u64,
    /// Open files.
    pub open_files: u64,
    /// Open directories.
    pub open_dirs: u64,
    /// Inodes with a passthrough backing id.
    pub backing_ids: u64,
    /// Descriptors kept only to avoid reopening an inode.
    pub cached_fds: u64,
    /// All descriptors of the process.
    pub fds: u64,
    /// Resident memory, bytes.
    pub rss_bytes: u64,
}

/// What the daemon has consumed since it started.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Process {
    /// CPU time in user mode, microseconds.
    pub user_cpu_us: u64,
    /// CPU time in the kernel, microseconds.
    pub system_cpu_us: u64,
    /// Voluntary context switches.
    pub voluntary_switches: u64,
    /// Involuntary context switches.
    pub involuntary_switches: u64,
}

/// What the daemon may do.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Privileges {
    /// Its capabilities (`CAP_CHOWN`, ...), in alphabetical order.
    pub capabilities: Vec<String>,
    /// Whether it can gain none by executing a program.
    pub no_new_privs: bool,
}
