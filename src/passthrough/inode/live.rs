//! The few inodes of which there is more than their nodeid: those that have a descriptor, are open,
//! or are being worked on.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use nix::sys::stat::{SFlag, fstat};

use super::kind;
use super::known::Key;
use crate::fs::NodeId;
use crate::locality::Watched;
use crate::passthrough::backing::OpenState;

/// An inode that the kernel knows, or knew until a moment ago.
#[derive(Debug)]
pub(in crate::passthrough) struct Inode {
    pub(in crate::passthrough) nodeid: NodeId,
    pub(super) key: Key,
    fd: Mutex<Slot>,
    /// Used since the cache last looked (relaxed: a hint).
    used: AtomicBool,
    /// Whether a list of the cache has it.
    listed: AtomicBool,
    /// Who reads and writes its data while it is open.
    pub(in crate::passthrough) data: Mutex<OpenState>,
    /// What a replica must not be older than.
    pub(in crate::passthrough) watched: Watched,
    files: Mutex<Files>,
}

/// Open files of an inode.
#[derive(Debug, Default)]
struct Files {
    /// The last that was opened.
    last: Weak<File>,
    /// All of them, where nothing but its name leads to the inode: it may lose that.
    all: Vec<Weak<File>>,
    /// At so many entries `all` is looked through for files that were closed, and next at twice as many
    /// as are left: two looks for an open on average.
    looked_at: usize,
}

#[derive(Debug)]
pub(super) enum Slot {
    Closed,
    /// May be closed by the cache.
    Cached(Arc<OwnedFd>),
    /// Stays: the inode has no name, and could not be opened again.
    Pinned(Arc<OwnedFd>),
}

impl Inode {
    pub(super) fn new(nodeid: NodeId, key: Key, slot: Slot) -> Self {
        Inode {
            nodeid,
            key,
            fd: Mutex::new(slot),
            used: AtomicBool::new(false),
            listed: AtomicBool::new(false),
            data: Mutex::default(),
            watched: Watched::default(),
            files: Mutex::default(),
        }
    }

    /// Its number on a source that has no handles.
    pub(in crate::passthrough) fn number(&self) -> Option<u64> {
        match self.key {
            Key::Number { ino, .. } => Some(ino),
            Key::Handle(_) => None,
        }
    }

    pub(super) fn slot(&self) -> MutexGuard<'_, Slot> {
        self.fd.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its descriptor if it has one.
    pub(super) fn open_fd(&self) -> Option<Arc<OwnedFd>> {
        match &*self.slot() {
            Slot::Cached(fd) | Slot::Pinned(fd) => Some(fd.clone()),
            Slot::Closed => None,
        }
    }

    /// Takes `fd` into the cache if the inode has none, and tells the one that it has then.
    pub(super) fn offer(&self, fd: Arc<OwnedFd>) -> Arc<OwnedFd> {
        let mut slot = self.slot();
        match &*slot {
            Slot::Cached(theirs) | Slot::Pinned(theirs) => theirs.clone(),
            Slot::Closed => {
                *slot = Slot::Cached(fd.clone());
                fd
            }
        }
    }

    pub(in crate::passthrough) fn has_fd(&self) -> bool {
        !matches!(*self.slot(), Slot::Closed)
    }

    pub(super) fn is_pinned(&self) -> bool {
        matches!(*self.slot(), Slot::Pinned(_))
    }

    /// Closes its descriptor if it is pinned, has a name, and is no directory; tells whether it was.
    pub(super) fn close_named(&self) -> bool {
        let mut slot = self.slot();
        let named = |fd: &OwnedFd| {
            fstat(fd).is_ok_and(|stat| stat.st_nlink > 0 && kind(&stat) != SFlag::S_IFDIR)
        };
        let closes = matches!(&*slot, Slot::Pinned(fd) if named(fd));
        if closes {
            *slot = Slot::Closed;
        }
        closes
    }

    /// It has got a name: its descriptor may be closed like any other.
    pub(super) fn unpin(&self) {
        let mut slot = self.slot();
        if let Slot::Pinned(fd) = &*slot {
            *slot = Slot::Cached(fd.clone());
        }
    }

    pub(super) fn mark_used(&self) {
        self.used.store(true, Relaxed);
    }

    /// Whether it was used since this was last asked.
    pub(in crate::passthrough) fn take_used(&self) -> bool {
        self.used.swap(false, Relaxed)
    }

    /// A list of the cache takes it; tells whether none had it.
    pub(in crate::passthrough) fn enlist(&self) -> bool {
        !self.listed.swap(true, Relaxed)
    }

    /// A list of the cache has let go of it: closes the descriptor if it may be, and lets the backing
    /// file go if it is not in use; tells whether there was a descriptor to close.
    pub(in crate::passthrough) fn close_cached(&self) -> bool {
        // First, so that a descriptor which comes too late to be closed here has it listed again.
        self.listed.store(false, Relaxed);
        self.release_backing();
        let mut slot = self.slot();
        let cached = matches!(*slot, Slot::Cached(_));
        if cached {
            *slot = Slot::Closed;
        }
        cached
    }

    /// `file` was opened of it.
    pub(in crate::passthrough) fn opened(&self, file: &Arc<File>) {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        files.last = Arc::downgrade(file);
        if let Key::Number { .. } = self.key {
            if files.all.len() >= files.looked_at {
                files.all.retain(|file| file.strong_count() > 0);
                files.looked_at = (files.all.len() * 2).max(8);
            }
            files.all.push(Arc::downgrade(file));
        }
    }

    /// A file that is open of it, if one was told of: it takes calls that an O_PATH descriptor does not,
    /// and is there whatever became of the name.
    pub(in crate::passthrough) fn open_file(&self) -> Option<Arc<File>> {
        let files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        files.last.upgrade().or_else(|| files.all.iter().find_map(Weak::upgrade))
    }

    #[cfg(test)]
    pub(super) fn remembered_files(&self) -> usize {
        self.files.lock().unwrap_or_else(PoisonError::into_inner).all.len()
    }

    /// Whether there is nothing of it that has to be remembered.
    pub(super) fn is_idle(&self) -> bool {
        !self.has_fd() && !self.is_open()
    }
}
