//! What is done in a cell of a study, as data: everything a run needs to know, resolved. It is the
//! `workload` of a cell in `study.json`.

use serde::{Deserialize, Serialize};

/// State of the caches when the timing starts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cache {
    /// Read or looked up once through the measured system.
    #[default]
    Warm,
    /// Mounted anew, and all caches of the machine dropped.
    Cold,
}

/// What is done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Work {
    /// A fio job.
    Fio(Fio),
    /// One operation, again and again.
    Operation(Operations),
    /// One of the mixes of FAST'17.
    Personality(Personality),
    /// A whole job of other programs.
    Job(Job),
}

/// A fio job over the shared test file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Fio {
    /// fio's `rw`.
    pub rw: String,
    /// Bytes of one operation.
    pub block_bytes: u64,
    /// fio's `ioengine`.
    pub engine: String,
    /// Operations in flight with O_DIRECT; `None` goes through the page cache.
    pub depth: Option<u32>,
    /// Jobs at once; of sequential ones each has a part of the file.
    pub jobs: u32,
    /// Sync after so many writes; 0 is never.
    pub fsync: u32,
    /// Whether files are opened with O_DSYNC.
    pub dsync: bool,
    /// How long.
    pub seconds: f64,
    /// Size of the test file.
    pub size_mib: u32,
    /// Whether it ends, before its time, when all of the file was read: what is read a second time is
    /// no longer cold.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_once: bool,
}

/// An open loop is given up after so many times the time in which its operations arrive.
pub(crate) const GIVE_UP: f64 = 3.0;

/// Operations of the load generator.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Operations {
    /// Which.
    pub operation: Operation,
    /// Files of one thread.
    pub files: usize,
    /// Threads.
    pub threads: usize,
    /// Whether all threads work in one directory.
    pub is_shared: bool,
    /// How long; what uses its files up is one pass over them instead.
    pub seconds: f64,
    /// So many passes over the files instead of a time.
    pub passes: Option<usize>,
    /// No more operations of a thread than this, however long is left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_most: Option<u64>,
    /// Arrivals at this share of native's peak, per cent, whether or not the ones before have been
    /// answered; `None` is one after the other.
    pub load_percent: Option<u32>,
    /// What that share is, operations a second; found before the first round.
    pub rate_per_second: Option<f64>,
}

/// An operation of the load generator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Operation {
    /// stat of an existing file.
    Stat,
    /// stat of a name that does not exist.
    StatNegative,
    /// statx with AT_STATX_FORCE_SYNC: no cache may answer.
    StatForced,
    /// open for reading, close.
    OpenClose,
    /// open, read 4 KiB, close.
    OpenReadClose,
    /// create, write 4 KiB, close.
    Create,
    /// open the directory, list all of it, close.
    Readdir,
    /// The same, and stat every entry.
    ReaddirPlus,
    /// rename within the directory.
    Rename,
    /// unlink.
    Unlink,
    /// mkdir, rmdir.
    MkdirRmdir,
    /// symlink.
    Symlink,
    /// readlink.
    Readlink,
    /// getxattr of an attribute that exists.
    Getxattr,
    /// getxattr of one that does not.
    GetxattrMissing,
    /// setxattr.
    Setxattr,
    /// pread of 4 KiB at a random offset of the test file, O_DIRECT.
    ReadDirect,
}

/// One of the mixes of FAST'17, scaled.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Personality {
    /// Which.
    pub mix: Mix,
    /// Files at the start, of all threads.
    pub files: usize,
    /// Their mean size, KiB.
    pub mean_kib: usize,
    /// Threads.
    pub threads: usize,
    /// Operations of all threads.
    pub operations: usize,
}

/// The mixes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mix {
    /// Create and write, append, read whole, delete, stat.
    FileServer,
    /// Delete; create, append, fsync; read, append, fsync; read.
    MailServer,
    /// Read ten whole files, append to a log.
    WebServer,
    /// Create files of 4 KiB.
    FilesCreate,
    /// Read small files whole, in random order.
    FilesRead,
    /// Delete files.
    FilesDelete,
}

/// A whole job of other programs on a tree of source code.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// Which.
    pub task: Task,
    /// Files of the tree.
    pub files: usize,
    /// Size of the tree, MiB.
    pub mib: usize,
}

/// The jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Task {
    /// tar xf.
    Untar,
    /// cp -r.
    Copy,
    /// grep -r.
    Grep,
    /// find that stats every file.
    Walk,
    /// git init, git add.
    GitAdd,
    /// git status of an unchanged work tree.
    GitStatus,
    /// rm -rf.
    Remove,
    /// make of a small C program.
    Build,
}

impl Operation {
    /// Whether it uses its files up, so that the work is one pass and not a time.
    pub fn is_consuming(self) -> bool {
        matches!(self, Operation::Create | Operation::Unlink | Operation::Symlink)
    }
}
