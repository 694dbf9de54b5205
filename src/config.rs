//! What the user asked for, resolved: the one value that the session is built from.

use std::fmt;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;

/// Everything that decides how a mount behaves.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The directory to show.
    pub source: PathBuf,
    /// Where to show it.
    pub mountpoint: PathBuf,
    /// Options of the mount itself, as `mount` and /proc/self/mountinfo show them.
    pub mount: MountOptions,
    /// Who moves the bytes of files.
    pub data: DataMode,
    /// How requests come.
    pub transport: Transport,
    /// How /dev/fuse is read and written.
    pub dev_io: DevIo,
    /// How the threads that serve are scheduled.
    pub sched: Sched,
    /// Worker threads of /dev/fuse; `None` is one per CPU that this process may run on.
    pub workers: Option<NonZeroUsize>,
    /// Bind worker N to the Nth of those CPUs, for good.
    pub pin: bool,
    /// Largest READ and WRITE, bytes, a multiple of the page size; `None` is what suits the transport.
    pub max_write: Option<u32>,
    /// What the mount is for.
    pub profile: Profile,
    /// Extended attributes can be read and set. Without them the kernel asks for none, not even for
    /// the capabilities of a file before it is written to.
    pub xattr: bool,
    /// What is mounted inside the source does not show.
    pub one_file_system: bool,
    /// Where the bytes of a distributed file system's files are read.
    pub locality: Locality,
    /// How long a local file that holds the bytes of another is trusted once it was found.
    pub replica: ReplicaTrust,
    /// Gfarm's storage node on this machine.
    pub gfarm: Gfarm,
    /// What keeps the kernel's caches true to a source that others change, too.
    pub coherence: Coherence,
    /// The program whose `notify` command tells the kernel what it may have to wait for: this one.
    /// Without it the source can not be watched.
    pub notifier: Option<PathBuf>,
    /// How long the kernel may trust a name; `None` is as the coherence has it.
    pub entry_timeout: Option<Duration>,
    /// How long the kernel may trust attributes; `None` is as the coherence has it.
    pub attr_timeout: Option<Duration>,
    /// How long the kernel may trust that a name does not exist; `None` is as the coherence has it.
    pub negative_timeout: Option<Duration>,
    /// Descriptors kept open only to avoid reopening an inode, at most a quarter of RLIMIT_NOFILE;
    /// `None` is that quarter.
    pub fd_cache: Option<NonZeroUsize>,
}

impl Config {
    /// The defaults for showing `source` at `mountpoint`.
    pub fn new(source: impl Into<PathBuf>, mountpoint: impl Into<PathBuf>) -> Self {
        Config {
            source: source.into(),
            mountpoint: mountpoint.into(),
            mount: MountOptions::default(),
            data: DataMode::Auto,
            transport: Transport::Auto,
            dev_io: DevIo::Read,
            sched: Sched::Auto,
            workers: None,
            pin: false,
            max_write: None,
            profile: Profile::General,
            xattr: true,
            one_file_system: false,
            locality: Locality::Off,
            replica: ReplicaTrust::Checked,
            gfarm: Gfarm::default(),
            coherence: Coherence::Auto,
            notifier: None,
            entry_timeout: None,
            attr_timeout: None,
            negative_timeout: None,
            fd_cache: None,
        }
    }
}

/// Reads a length of time, in seconds: `0`, `0.5` or `3600`.
pub(crate) fn seconds(text: &str) -> Option<Duration> {
    Duration::try_from_secs_f64(text.parse().ok()?).ok()
}

/// Options of the mount itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MountOptions {
    /// The device name that `mount` and `df` show; `None` is the source's path.
    pub fsname: Option<String>,
    /// The type is `fuse.SUBTYPE`; `None` is `fusewire`.
    pub subtype: Option<String>,
    /// Users other than the one who mounts may enter. Implies `default_permissions`.
    pub allow_other: bool,
    /// The kernel checks permissions from modes and ACLs before it sends a request.
    pub default_permissions: bool,
    /// Read-only.
    pub ro: bool,
    /// Set-user-id and set-group-id bits are not honoured.
    pub nosuid: bool,
    /// Devices are not honoured.
    pub nodev: bool,
    /// Nothing is executed.
    pub noexec: bool,
    /// Reads do not change access times.
    pub noatime: bool,
}

impl MountOptions {
    /// These options, tightened by whatever `source` has on.
    pub fn inheriting(&self, source: &MountOptions) -> Self {
        MountOptions {
            ro: self.ro || source.ro,
            nosuid: self.nosuid || source.nosuid,
            nodev: self.nodev || source.nodev,
            noexec: self.noexec || source.noexec,
            noatime: self.noatime || source.noatime,
            ..self.clone()
        }
    }

    /// Those that are on, by their names of `-o`.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        let default_permissions = self.default_permissions || self.allow_other;
        [
            (self.ro, "ro"),
            (self.nosuid, "nosuid"),
            (self.nodev, "nodev"),
            (self.noexec, "noexec"),
            (self.noatime, "noatime"),
            (self.allow_other, "allow_other"),
            (default_permissions, "default_permissions"),
        ]
        .into_iter()
        .filter_map(|(on, name)| on.then_some(name))
    }
}

/// What a mount is for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Profile {
    /// Everything.
    #[default]
    General,
    /// Reading what seldom changes: read-only, and the kernel opens files by itself and reads them
    /// through its page cache, so that it asks for nothing that it has seen.
    ReadMostly,
}

/// What keeps the kernel's caches true to a source that others change, too.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Coherence {
    /// Watched where that can be had, else names and attributes are trusted for a second.
    #[default]
    Auto,
    /// The daemon watches the source, and tells the kernel of every change that others make; fails to
    /// mount where it can not.
    Watch,
    /// Nothing: the user promises that the source is changed through the mount only.
    Exclusive,
    /// Names and attributes are trusted for so long, and asked for again.
    Timeout(Duration),
}

impl fmt::Display for Coherence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Coherence::Auto => f.write_str("auto"),
            Coherence::Watch => f.write_str("watch"),
            Coherence::Exclusive => f.write_str("exclusive"),
            Coherence::Timeout(timeout) => write!(f, "timeout={}", timeout.as_secs_f64()),
        }
    }
}

/// Where the bytes of a distributed file system's files are read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Locality {
    /// Where the source says, as of any source.
    #[default]
    Off,
    /// On this machine, if the source is a system that is known here and has files on it.
    Auto,
    /// On bricks of this machine; fails to mount if the source is not GlusterFS or has none.
    Gluster,
    /// In the spool of this machine's storage node; fails to mount if the source is not Gfarm, or the
    /// node is not as `gfarm` of the configuration has it.
    Gfarm,
}

impl fmt::Display for Locality {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Locality::Off => "off",
            Locality::Auto => "auto",
            Locality::Gluster => "gluster",
            Locality::Gfarm => "gfarm",
        })
    }
}

/// Gfarm's storage node on this machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Gfarm {
    /// Where it keeps what files contain. Absolute.
    pub spool: Option<PathBuf>,
    /// The name that it has in Gfarm; `None` is the machine's.
    pub host: Option<String>,
    /// Gfarm's configuration, if it is not where Gfarm looks for it. Absolute.
    pub configuration: Option<PathBuf>,
}

/// How long a local file that holds the bytes of another is trusted once it was found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum ReplicaTrust {
    /// For one READ.
    #[default]
    Checked,
    /// Until it is closed: the kernel reads it by itself. The user promises that no storage is lost, moved
    /// or rebalanced while files are open. On read-only mounts.
    Held,
}

/// How requests come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Transport {
    /// io_uring where the kernel and this process allow it, else /dev/fuse; the latter also if workers
    /// or pinning are asked for, which io_uring leaves no choice of.
    #[default]
    Auto,
    /// Reads and writes of /dev/fuse, one cloned channel per worker.
    Dev,
    /// One io_uring queue per CPU; fails to mount where it can not be had.
    Uring,
    /// The session loop of the crate fuser: a baseline to compare with, which copies all data.
    Fuser,
}

/// How /dev/fuse is read and written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum DevIo {
    /// By read(2) and writev(2).
    #[default]
    Read,
    /// By reads and writes of an io_uring: a baseline to compare with, without splice.
    Uring,
}

/// How the threads that serve are scheduled.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Sched {
    /// SCHED_IDLE, so that a client stays on its CPU, for as long as that starves nobody.
    #[default]
    Auto,
    /// As every other thread.
    Normal,
}

/// Who moves the bytes of files.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum DataMode {
    /// Passthrough where the kernel grants it, else copy, or on /dev/fuse splice where that is faster.
    #[default]
    Auto,
    /// The kernel reads and writes the source itself; fails to mount where it can not.
    Passthrough,
    /// The daemon, which answers READs by splice from the source's file to /dev/fuse, and takes large
    /// WRITEs likewise; small ones are copied.
    Splice,
    /// The daemon reads and writes through pooled buffers.
    Copy,
}
