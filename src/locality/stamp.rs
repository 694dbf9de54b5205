//! What tells one state of a file from another.

use std::fs::File;
use std::os::fd::AsFd;

use nix::sys::stat::{FileStat, fstat};

use crate::abi;
use crate::sys::{clock, objfd};

/// Size and times of a file as the distributed mount shows them. Nobody can set the time of change, so
/// that two states of a file which are told apart by anything differ here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Bytes.
    pub size: u64,
    /// Time of modification: seconds, nanoseconds.
    pub mtime: (i64, i64),
    /// Time of change: seconds, nanoseconds.
    pub ctime: (i64, i64),
}

impl Stamp {
    /// What `stat` says.
    pub fn of(stat: &FileStat) -> Self {
        Stamp {
            size: u64::try_from(stat.st_size).unwrap_or(0),
            mtime: (stat.st_mtime, stat.st_mtime_nsec),
            ctime: (stat.st_ctime, stat.st_ctime_nsec),
        }
    }

    /// What `stat` says.
    pub fn of_statx(stat: &abi::Statx) -> Self {
        let time = |time: abi::SxTime| (time.tv_sec, i64::from(time.tv_nsec));
        Stamp { size: stat.size, mtime: time(stat.mtime), ctime: time(stat.ctime) }
    }

    /// What whoever serves the file says of it now, whatever the kernel remembers.
    ///
    /// # Errors
    /// As statx(2).
    pub fn ask(file: &File) -> nix::Result<Self> {
        const BASIC: u32 = 0x7ff;
        let stat = objfd::statx(file.as_fd(), libc::AT_STATX_FORCE_SYNC, BASIC)?;
        Ok(Stamp::of_statx(&stat))
    }
}

/// A state of a local file, which everything that is done to it changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Local {
    /// Which file it is: numbers of its file system and of its inode.
    pub id: (u64, u64),
    /// Size and times.
    pub stamp: Stamp,
    /// Type and permissions.
    pub mode: u32,
    /// Names that it has.
    pub nlink: u64,
}

impl Local {
    /// The state of `file` now.
    ///
    /// # Errors
    /// As fstat(2).
    pub fn of(file: &File) -> nix::Result<Self> {
        let stat = fstat(file)?;
        let (id, stamp) = ((stat.st_dev, stat.st_ino), Stamp::of(&stat));
        Ok(Local { id, stamp, mode: stat.st_mode, nlink: stat.st_nlink })
    }

    /// Whether whatever is done to it from now on shows.
    ///
    /// # Errors
    /// As clock_gettime(2).
    pub fn is_settled(&self) -> nix::Result<bool> {
        clock::is_settled(self.stamp.ctime)
    }
}
