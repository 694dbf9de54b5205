//! Open files and directories, by the `fh` that the kernel names them with.

use std::collections::HashMap;
use std::fs::File;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use nix::errno::Errno;
use nix::fcntl::OFlag;

use super::backing::IoMode;
use super::dir::DirStream;
use super::inode::Inode;
use crate::fs::{Fh, Result};

const SHARDS: usize = 16;

/// An open file: a descriptor of the source, opened as the caller asked.
#[derive(Debug)]
pub(super) struct OpenFile {
    pub(super) file: Arc<File>,
    pub(super) inode: Arc<Inode>,
    pub(super) flags: OFlag,
    pub(super) mode: IoMode,
    /// What direct I/O of the source demands of offsets and sizes, bytes; 1 where the kernel sees
    /// to it.
    pub(super) direct_alignment: u32,
}

impl OpenFile {
    /// EINVAL for a misaligned transfer of a file that is open with O_DIRECT: the daemon, which
    /// reads and writes without it, would grant what the source refuses.
    pub(super) fn check_alignment(&self, flags: u32, offset: u64, size: u32) -> Result<()> {
        let direct = OFlag::from_bits_retain(flags.cast_signed()).contains(OFlag::O_DIRECT);
        let mask = u64::from(self.direct_alignment) - 1;
        match direct && (offset | u64::from(size)) & mask != 0 {
            true => Err(Errno::EINVAL),
            false => Ok(()),
        }
    }
}

/// An open directory.
#[derive(Debug)]
pub(super) struct OpenDir {
    pub(super) stream: Mutex<DirStream>,
}

type Shards<T> = [RwLock<HashMap<u64, Arc<T>>>; SHARDS];

#[derive(Debug)]
pub(super) struct HandleTable {
    files: Shards<OpenFile>,
    dirs: Shards<OpenDir>,
    next: AtomicU64,
    /// Open files and directories (relaxed: a few more or less than the limit do not matter).
    open: AtomicU64,
    limit: u64,
}

impl HandleTable {
    /// A table of at most `limit` open files and directories.
    pub(super) fn new(limit: u64) -> Self {
        let (files, dirs) = (Shards::default(), Shards::default());
        HandleTable { files, dirs, next: AtomicU64::new(0), open: AtomicU64::new(0), limit }
    }

    /// ENFILE if no more may be opened: each costs the daemon a descriptor, of which everything
    /// else must keep some.
    pub(super) fn admit(&self) -> Result<()> {
        if self.open.load(Relaxed) < self.limit { Ok(()) } else { Err(Errno::ENFILE) }
    }

    pub(super) fn open_file(&self, file: OpenFile) -> Fh {
        self.insert(&self.files, file)
    }

    pub(super) fn open_dir(&self, dir: OpenDir) -> Fh {
        self.insert(&self.dirs, dir)
    }

    pub(super) fn file(&self, fh: Fh) -> Result<Arc<OpenFile>> {
        find(&self.files, fh)
    }

    pub(super) fn dir(&self, fh: Fh) -> Result<Arc<OpenDir>> {
        find(&self.dirs, fh)
    }

    pub(super) fn close_file(&self, fh: Fh) -> Option<Arc<OpenFile>> {
        let closed = remove(&self.files, fh);
        self.open.fetch_sub(closed.is_some().into(), Relaxed);
        closed
    }

    pub(super) fn close_dir(&self, fh: Fh) {
        let closed = remove(&self.dirs, fh).is_some();
        self.open.fetch_sub(closed.into(), Relaxed);
    }

    /// Open files and open directories.
    pub(super) fn counts(&self) -> (u64, u64) {
        (count(&self.files), count(&self.dirs))
    }

    fn insert<T>(&self, shards: &Shards<T>, value: T) -> Fh {
        self.open.fetch_add(1, Relaxed);
        let fh = self.next.fetch_add(1, Relaxed);
        let mut shard = shards[index(fh)].write().unwrap_or_else(PoisonError::into_inner);
        shard.insert(fh, Arc::new(value));
        Fh(fh)
    }
}

fn index(fh: u64) -> usize {
    usize::try_from(fh % SHARDS as u64).unwrap_or(0)
}

fn find<T>(shards: &Shards<T>, fh: Fh) -> Result<Arc<T>> {
    let shard = shards[index(fh.0)].read().unwrap_or_else(PoisonError::into_inner);
    shard.get(&fh.0).cloned().ok_or(Errno::EBADF)
}

fn remove<T>(shards: &Shards<T>, fh: Fh) -> Option<Arc<T>> {
    shards[index(fh.0)].write().unwrap_or_else(PoisonError::into_inner).remove(&fh.0)
}

fn count<T>(shards: &Shards<T>) -> u64 {
    let len = |shard: &RwLock<HashMap<_, _>>| {
        shard.read().unwrap_or_else(PoisonError::into_inner).len() as u64
    };
    shards.iter().map(len).sum()
}
