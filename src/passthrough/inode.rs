//! The inode table: which nodeid is which file of the source, and how often the kernel knows it.
//!
//! An inode is identified by its file handle, which includes the generation: a number that is
//! used again is another inode. Where handles are not to be had it is identified by device and
//! number, and keeps a descriptor open, which keeps the number from being used again.
//!
//! Lock order: a shard of `by_key`, then one of `by_id`, then an inode's descriptor slot.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{FileStat, SFlag, fstat};
use rustc_hash::FxBuildHasher;

use super::backing::OpenState;
use super::fds::FdCache;
use super::shard::SHARDS;
use crate::fs::{NodeId, Result};
use crate::sys::handle::FileHandle;
use crate::sys::objfd;

mod find;

/// What an inode is, for as long as it exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Key {
    Handle(FileHandle),
    Number { dev: u64, ino: u64 },
}

/// An inode that the kernel knows, or knew until a moment ago.
#[derive(Debug)]
pub(super) struct Inode {
    pub(super) nodeid: NodeId,
    key: Key,
    /// Lookups minus forgets. Changed only under the lock of the key's shard.
    nlookup: AtomicU64,
    fd: Mutex<Slot>,
    /// Used since the cache last looked (relaxed: a hint).
    used: AtomicBool,
    /// Who reads and writes its data while it is open.
    pub(super) data: Mutex<OpenState>,
}

#[derive(Debug)]
enum Slot {
    Closed,
    /// May be closed by the cache.
    Cached(Arc<OwnedFd>),
    /// Stays: the inode could not be reopened.
    Pinned(Arc<OwnedFd>),
}

/// An object of the source that was just found under some name.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) object: Object,
    pub(super) stat: FileStat,
}

/// What an object of the source was found to be.
#[derive(Debug)]
pub(super) enum Object {
    /// What this O_PATH descriptor refers to.
    Fd(OwnedFd),
    /// What this opens.
    Handle(FileHandle),
}

impl Found {
    pub(super) fn new(fd: OwnedFd) -> Result<Self> {
        let stat = fstat(&fd)?;
        Ok(Found { object: Object::Fd(fd), stat })
    }
}

/// Whether a descriptor at hand is worth keeping for what comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keep {
    /// A walk goes through here, or an open will follow.
    Fd,
    /// One of many entries of a directory.
    Nothing,
}

/// Numbers and generations that file systems give, and numbers of our own: nobody can choose them to
/// collide, so they need no keyed hash.
type Map<K> = HashMap<K, Arc<Inode>, FxBuildHasher>;

#[derive(Debug)]
pub(super) struct InodeTable {
    by_key: [Mutex<Map<Key>>; SHARDS],
    by_id: [RwLock<Map<NodeId>>; SHARDS],
    next_id: AtomicU64,
    root: Arc<Inode>,
    /// A directory of the source's file system, for open_by_handle_at; `None` without handles.
    mount: Option<OwnedFd>,
    /// Handles tell inode numbers (see `find`).
    numbered: bool,
    fds: FdCache,
}

impl InodeTable {
    pub(super) fn new(root: OwnedFd, mount: Option<OwnedFd>, fd_capacity: usize) -> Result<Self> {
        let stat = fstat(&root)?;
        let key = identify(&root, &stat, mount.is_some())?;
        let numbered = matches!(key, Key::Handle(handle) if handle.ino32().is_some());
        let inode = Inode {
            nodeid: NodeId::ROOT,
            key,
            nlookup: AtomicU64::new(1),
            fd: Mutex::new(Slot::Pinned(Arc::new(root))),
            used: AtomicBool::new(false),
            data: Mutex::default(),
        };
        let root = Arc::new(inode);
        let table = InodeTable {
            by_key: Default::default(),
            by_id: Default::default(),
            next_id: AtomicU64::new(NodeId::ROOT.0 + 1),
            root: root.clone(),
            mount,
            numbered,
            fds: FdCache::new(fd_capacity),
        };
        table.key_shard(&key).insert(key, root.clone());
        table.insert_id(root);
        Ok(table)
    }

    /// The inode of a nodeid. ESTALE for one that was forgotten, which the kernel never sends.
    pub(super) fn get(&self, nodeid: NodeId) -> Result<Arc<Inode>> {
        if nodeid == NodeId::ROOT {
            return Ok(self.root.clone());
        }
        let shard = self.by_id[id_shard(nodeid)].read().unwrap_or_else(PoisonError::into_inner);
        shard.get(&nodeid).cloned().ok_or(Errno::ESTALE)
    }

    /// The descriptor of a nodeid.
    pub(super) fn fd(&self, nodeid: NodeId) -> Result<Arc<OwnedFd>> {
        self.fd_of(&self.get(nodeid)?)
    }

    /// An O_PATH descriptor of `inode`, reopened by its handle if the cache has closed it.
    pub(super) fn fd_of(&self, inode: &Arc<Inode>) -> Result<Arc<OwnedFd>> {
        inode.used.store(true, Relaxed);
        if let Some(fd) = inode.open_fd() {
            return Ok(fd);
        }
        let fd = self.path_fd(inode)?;
        let mut slot = inode.slot();
        match &*slot {
            Slot::Closed => *slot = Slot::Cached(fd.clone()),
            // Another worker was faster.
            Slot::Cached(theirs) | Slot::Pinned(theirs) => return Ok(theirs.clone()),
        }
        drop(slot);
        self.fds.admit(inode);
        Ok(fd)
    }

    /// An O_PATH descriptor by the inode's handle.
    fn path_fd(&self, inode: &Inode) -> Result<Arc<OwnedFd>> {
        let (Key::Handle(handle), Some(mount)) = (&inode.key, &self.mount) else {
            return Err(Errno::ESTALE);
        };
        let flags = libc::O_PATH | libc::O_NOFOLLOW;
        self.fds.make_room(|| handle.open(mount.as_fd(), flags)).map(Arc::new)
    }

    /// Opens the object itself. Flags that would look up or create a name are ignored.
    pub(super) fn open(&self, inode: &Arc<Inode>, flags: OFlag) -> Result<OwnedFd> {
        let pinned = matches!(*inode.slot(), Slot::Pinned(_));
        if let (Key::Handle(handle), Some(mount), false) = (&inode.key, &self.mount, pinned) {
            // Cheaper than by its descriptor, should there be one: no walk through /proc.
            let flags = objfd::without_name(flags).bits();
            match self.fds.make_room(|| handle.open(mount.as_fd(), flags)) {
                // Deleted behind the mount; its descriptor may still be there.
                Err(Errno::ESTALE) => {}
                result => return result,
            }
        }
        let object = self.fd_of(inode)?;
        self.fds.make_room(|| objfd::reopen(object.as_fd(), flags))
    }

    /// Runs `open` with room for one more descriptor made if there is none.
    pub(super) fn make_room<T>(&self, open: impl FnMut() -> Result<T>) -> Result<T> {
        self.fds.make_room(open)
    }

    /// Counts a lookup of what was found, and gives it a nodeid if it has none yet.
    pub(super) fn acquire(&self, found: Found, keep: Keep) -> Result<Arc<Inode>> {
        let (key, fd) = match found.object {
            Object::Fd(fd) => (identify(&fd, &found.stat, self.mount.is_some())?, Some(fd)),
            Object::Handle(handle) => (Key::Handle(handle), None),
        };
        let mut shard = self.key_shard(&key);
        if let Some(inode) = shard.get(&key) {
            inode.nlookup.fetch_add(1, Relaxed);
            let inode = inode.clone();
            drop(shard);
            if let (Keep::Fd, Some(fd)) = (keep, fd)
                && inode.offer(fd)
            {
                self.fds.admit(&inode);
            }
            return Ok(inode);
        }
        let slot = match (fd, &key, keep) {
            (Some(fd), Key::Number { .. }, _) => Slot::Pinned(Arc::new(fd)),
            (Some(fd), Key::Handle(_), Keep::Fd) => Slot::Cached(Arc::new(fd)),
            (_, Key::Handle(_), _) => Slot::Closed,
            (None, Key::Number { .. }, _) => return Err(Errno::ESTALE),
        };
        let cached = matches!(slot, Slot::Cached(_));
        let inode = Arc::new(Inode {
            nodeid: NodeId(self.next_id.fetch_add(1, Relaxed)),
            key,
            nlookup: AtomicU64::new(1),
            fd: Mutex::new(slot),
            used: AtomicBool::new(false),
            data: Mutex::default(),
        });
        shard.insert(key, inode.clone());
        self.insert_id(inode.clone());
        drop(shard);
        if cached {
            self.fds.admit(&inode);
        }
        Ok(inode)
    }

    /// Takes back `nlookup` lookups; an inode without any is no longer known.
    pub(super) fn forget(&self, nodeid: NodeId, nlookup: u64) {
        if nodeid == NodeId::ROOT {
            return;
        }
        let Ok(inode) = self.get(nodeid) else { return };
        let mut shard = self.key_shard(&inode.key);
        let known = inode.nlookup.load(Relaxed);
        // More than were given would be the kernel's mistake; the inode goes all the same.
        let left = known.saturating_sub(nlookup);
        inode.nlookup.store(left, Relaxed);
        if left == 0 {
            shard.remove(&inode.key);
            let mut ids =
                self.by_id[id_shard(nodeid)].write().unwrap_or_else(PoisonError::into_inner);
            ids.remove(&nodeid);
        }
    }

    /// Counts a lookup of an inode that the kernel knows by another name. ESTALE if it does not.
    pub(super) fn count_lookup(&self, inode: &Arc<Inode>) -> Result<()> {
        let shard = self.key_shard(&inode.key);
        let known = shard.get(&inode.key).filter(|known| Arc::ptr_eq(known, inode));
        known.ok_or(Errno::ESTALE)?.nlookup.fetch_add(1, Relaxed);
        Ok(())
    }

    /// Lets go of what is kept for speed and was not used since this was last called; tells whether
    /// anything is left that will have to go.
    pub(super) fn age(&self) -> bool {
        self.fds.age()
    }

    pub(super) fn len(&self) -> u64 {
        let count = |shard: &Mutex<Map<_>>| {
            shard.lock().unwrap_or_else(PoisonError::into_inner).len() as u64
        };
        self.by_key.iter().map(count).sum()
    }

    pub(super) fn cached_fds(&self) -> u64 {
        self.fds.len()
    }

    fn key_shard(&self, key: &Key) -> MutexGuard<'_, Map<Key>> {
        // Neither the bits that choose a bucket nor those that tell its entries apart.
        let hash = FxBuildHasher.hash_one(key) >> 32;
        let shard = usize::try_from(hash % SHARDS as u64).unwrap_or(0);
        self.by_key[shard].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn insert_id(&self, inode: Arc<Inode>) {
        let shard = &self.by_id[id_shard(inode.nodeid)];
        shard.write().unwrap_or_else(PoisonError::into_inner).insert(inode.nodeid, inode);
    }
}

impl Inode {
    /// Its descriptor if it has one.
    fn open_fd(&self) -> Option<Arc<OwnedFd>> {
        match &*self.slot() {
            Slot::Cached(fd) | Slot::Pinned(fd) => Some(fd.clone()),
            Slot::Closed => None,
        }
    }

    fn slot(&self) -> MutexGuard<'_, Slot> {
        self.fd.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes `fd` into the cache if the inode has none; tells whether it did.
    fn offer(&self, fd: OwnedFd) -> bool {
        let mut slot = self.slot();
        let empty = matches!(*slot, Slot::Closed);
        if empty {
            *slot = Slot::Cached(Arc::new(fd));
        }
        empty
    }

    /// Whether it was used since this was last asked.
    pub(super) fn take_used(&self) -> bool {
        self.used.swap(false, Relaxed)
    }

    /// Closes the descriptor if it may be, and lets the backing file go if it is not in use; tells
    /// whether there was a descriptor to close.
    pub(super) fn close_cached(&self) -> bool {
        self.release_backing();
        let mut slot = self.slot();
        let cached = matches!(*slot, Slot::Cached(_));
        if cached {
            *slot = Slot::Closed;
        }
        cached
    }
}

fn identify(fd: &OwnedFd, stat: &FileStat, by_handle: bool) -> Result<Key> {
    let number = Key::Number { dev: stat.st_dev, ino: stat.st_ino };
    if !by_handle {
        return Ok(number);
    }
    match FileHandle::of(fd.as_fd()) {
        Ok(handle) => Ok(Key::Handle(handle)),
        // Another file system inside the source that has none.
        Err(Errno::EOPNOTSUPP | Errno::EOVERFLOW) => Ok(number),
        Err(errno) => Err(errno),
    }
}

fn kind(stat: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT
}

fn id_shard(nodeid: NodeId) -> usize {
    usize::try_from(nodeid.0 % SHARDS as u64).unwrap_or(0)
}

#[cfg(test)]
pub(super) mod tests;
