//! The inode table: which nodeid is which file of the source, and how often the kernel knows it.
//!
//! An inode is identified by its file handle, which includes the generation: a number that is
//! used again is another inode. Where handles are not to be had it is identified by number and time
//! of birth, and opened again by the name under which it was last seen, as are all that lie on another
//! file system which is mounted inside the source (`parts`). What is remembered of an
//! inode that nobody uses is a count of lookups (`known`); all else is there only as long as it is
//! open or was used a moment ago (`live`), and so is its descriptor.
//!
//! Lock order: a list of the cache, a shard, an inode's `data`, its descriptor slot.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crossbeam_utils::CachePadded;
use nix::errno::Errno;
use nix::sys::stat::{FileStat, SFlag, fstat};

use super::fds::FdCache;
use super::shard::SHARDS;
use crate::fs::{NodeId, Result};
use crate::sys::handle::FileHandle;

pub(super) mod alone;
mod find;
mod known;
mod live;
mod parts;
mod reach;
mod unlinked;

use known::{Key, Known, Map, Scheme};
use live::Slot;
use parts::Parts;

pub(super) use find::Place;
pub(super) use live::Inode;
pub(super) use parts::{Mounted, Part};

/// An object of the source that was just found under some name.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) part: Part,
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
    pub(super) fn new(part: Part, fd: OwnedFd) -> Result<Self> {
        let stat = fstat(&fd)?;
        Ok(Found { part, object: Object::Fd(fd), stat })
    }
}

/// What a descriptor at hand is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keep {
    /// A walk goes through here, or an open will follow.
    Fd,
    /// The inode has no name: it could not be opened again.
    Pinned,
    /// One of many entries of a directory.
    Nothing,
}

/// How the source's inodes are told apart and opened again.
#[derive(Debug)]
pub(super) enum Access {
    /// By handles; with a directory of their file system, for open_by_handle_at.
    Handles(OwnedFd),
    /// By names.
    Names {
        /// Whether an inode keeps its time of birth, which then is part of its identity.
        keeps_birth: bool,
    },
}

/// The inodes of a source, in shards by nodeid.
#[derive(Debug)]
pub(super) struct InodeTable {
    shards: Shards,
    root: Arc<Inode>,
    access: Access,
    parts: Parts,
    scheme: Scheme,
    fds: FdCache,
}

#[derive(Debug)]
pub(super) struct Shards([CachePadded<Mutex<Shard>>; SHARDS]);

#[derive(Debug)]
struct Shard {
    known: Known,
    live: Map<NodeId, Arc<Inode>>,
}

impl Shards {
    fn of(&self, nodeid: NodeId) -> MutexGuard<'_, Shard> {
        self.0[known::shard(nodeid)].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn all(&self) -> impl Iterator<Item = MutexGuard<'_, Shard>> {
        self.0.iter().map(|shard| shard.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Closes what is pinned though it has a name left, by which a lookup finds it again: it had lost
    /// the one that led to it. Tells whether anything was closed.
    pub(super) fn let_go_of_named(&self) -> bool {
        let mut closed = false;
        for index in 0..SHARDS {
            let shard = self.0[index].lock().unwrap_or_else(PoisonError::into_inner);
            let pinned: Vec<_> =
                shard.live.values().filter(|inode| inode.is_pinned()).cloned().collect();
            drop(shard);
            for inode in pinned {
                if inode.close_named() {
                    closed = true;
                    self.retire(&inode);
                }
            }
        }
        closed
    }

    /// Forgets what else there is of an inode if it is nothing worth remembering and nobody but the
    /// caller works on it.
    pub(super) fn retire(&self, inode: &Arc<Inode>) {
        let mut shard = self.of(inode.nodeid);
        let ours = shard.live.get(&inode.nodeid).is_some_and(|live| Arc::ptr_eq(live, inode));
        // The table's reference and the caller's: nobody gets another while the shard is locked.
        if ours && Arc::strong_count(inode) == 2 && inode.is_idle() {
            shard.live.remove(&inode.nodeid);
        }
    }
}

impl Shard {
    /// The inode of a nodeid, and whether it was not live yet.
    fn live(&mut self, nodeid: NodeId) -> Result<(Arc<Inode>, bool)> {
        if let Some(inode) = self.live.get(&nodeid) {
            return Ok((inode.clone(), false));
        }
        let key = self.known.key(nodeid).ok_or(Errno::ESTALE)?;
        let inode = Arc::new(Inode::new(nodeid, key, Slot::Closed));
        self.live.insert(nodeid, inode.clone());
        Ok((inode, true))
    }
}

impl InodeTable {
    pub(super) fn new(root: OwnedFd, access: Access, fd_capacity: usize) -> Result<Self> {
        let stat = fstat(&root)?;
        let key = match &access {
            Access::Handles(_) => Key::Handle(FileHandle::of(root.as_fd())?),
            Access::Names { keeps_birth } => reach::number(Part::MAIN, &root, &stat, *keeps_birth)?,
        };
        let scheme = match key {
            Key::Handle(handle) if handle.ino32().is_some() => Scheme::Number,
            _ => Scheme::Hash,
        };
        let shard = || {
            CachePadded::new(Mutex::new(Shard { known: Known::new(scheme), live: Map::default() }))
        };
        Ok(InodeTable {
            shards: Shards(std::array::from_fn(|_| shard())),
            root: Arc::new(Inode::new(NodeId::ROOT, key, Slot::Pinned(Arc::new(root)))),
            access,
            parts: Parts::default(),
            scheme,
            fds: FdCache::new(fd_capacity),
        })
    }

    /// The inode of a nodeid. ESTALE for one that is not known, which the kernel never sends.
    pub(super) fn get(&self, nodeid: NodeId) -> Result<Arc<Inode>> {
        if nodeid == NodeId::ROOT {
            return Ok(self.root.clone());
        }
        let (inode, new) = self.shards.of(nodeid).live(nodeid)?;
        if new {
            self.admit(&inode);
        }
        Ok(inode)
    }

    /// The nodeid of a handle, if the kernel knows it.
    pub(super) fn nodeid_of(&self, handle: &FileHandle) -> Option<NodeId> {
        self.known(&Key::Handle(*handle))
    }

    fn known(&self, key: &Key) -> Option<NodeId> {
        if *key == self.root.key {
            return Some(NodeId::ROOT);
        }
        let wanted = self.scheme.nodeid(key);
        self.shards.of(wanted).known.find(key, wanted)
    }

    /// Counts a lookup of what was found at `place`, and tells its nodeid.
    pub(super) fn acquire(
        &self,
        found: Found,
        place: Option<&Place<'_>>,
        keep: Keep,
    ) -> Result<NodeId> {
        let (key, fd) = match found.object {
            Object::Fd(fd) => (self.identify(found.part, &fd, &found.stat)?, Some(fd)),
            Object::Handle(handle) => (Key::Handle(handle), None),
        };
        if key == self.root.key {
            return Ok(NodeId::ROOT);
        }
        let way = match key {
            Key::Number { .. } => {
                if found.stat.st_nlink > 0 {
                    self.part_from_predecessor(&key, fd.as_ref());
                }
                place.map(Place::way)
            }
            Key::Handle(_) => None,
        };
        let wanted = self.scheme.nodeid(&key);
        let mut shard = self.shards.of(wanted);
        let nodeid = shard.known.add(&key, wanted, way);
        let kept = fd.filter(|_| keep != Keep::Nothing);
        let inode = match kept {
            Some(_) => Some(shard.live(nodeid)?.0),
            None => shard.live.get(&nodeid).filter(|inode| inode.is_pinned()).cloned(),
        };
        drop(shard);
        let Some(inode) = inode else { return Ok(nodeid) };
        match (keep, kept) {
            (Keep::Pinned, Some(fd)) => *inode.slot() = Slot::Pinned(Arc::new(fd)),
            (_, Some(fd)) => drop(inode.offer(Arc::new(fd))),
            (_, None) => {}
        }
        if place.is_some() {
            self.unpin(&inode);
        }
        self.admit(&inode);
        Ok(nodeid)
    }

    /// An object with a name was found to be `key`. If the one that is known as that has none left, it
    /// was deleted behind our back and its number used again: behind another FUSE mount a descriptor
    /// does not hold a number. Nor does it hold the object where the server knows files by their names:
    /// it shows what has the name now, of another number than `found`. It stays what it is for those who
    /// have it open.
    fn part_from_predecessor(&self, key: &Key, found: Option<&OwnedFd>) {
        let known = self.known(key).filter(|nodeid| *nodeid != NodeId::ROOT);
        let Some(inode) = known.and_then(|nodeid| self.live(nodeid)) else { return };
        let fd = inode.open_fd();
        let stat = match (&fd, inode.open_file()) {
            (Some(fd), _) => fstat(&**fd),
            (None, Some(file)) => fstat(&*file),
            (None, None) => return,
        };
        let gone = match stat {
            Ok(stat) => {
                let differs = |found: FileStat| found.st_ino != stat.st_ino;
                // Asked only where it could: what was found has the number of `key`.
                let moved = !matches!(key, Key::Number { ino, .. } if *ino == stat.st_ino);
                let found = found.filter(|_| moved);
                stat.st_nlink == 0 || found.is_some_and(|found| fstat(found).is_ok_and(differs))
            }
            Err(errno) => [Errno::ESTALE, Errno::ENOENT].contains(&errno),
        };
        if !gone {
            return;
        }
        let mut shard = self.shards.of(inode.nodeid);
        // Not one that has been given the nodeid meanwhile.
        let same = shard.live.get(&inode.nodeid).is_some_and(|live| Arc::ptr_eq(live, &inode));
        if same && shard.known.key(inode.nodeid) == Some(*key) {
            shard.known.estrange(inode.nodeid);
            if let Some(fd) = fd {
                *inode.slot() = Slot::Pinned(fd);
            }
        }
    }

    /// Takes back `nlookup` lookups; an inode without any is no longer known.
    pub(super) fn forget(&self, nodeid: NodeId, nlookup: u64) {
        let mut shard = self.shards.of(nodeid);
        if shard.known.take(nodeid, nlookup) {
            let inode = shard.live.remove(&nodeid);
            // Closing what it holds may take a while.
            drop(shard);
            drop(inode);
        }
    }

    /// Counts a lookup of an inode that the kernel knows by another name. ESTALE if it does not.
    pub(super) fn count_lookup(&self, inode: &Inode) -> Result<()> {
        match self.shards.of(inode.nodeid).known.add_to(inode.nodeid) {
            true => Ok(()),
            false => Err(Errno::ESTALE),
        }
    }

    /// An open of `inode` is over, and it may be let go of.
    pub(super) fn settle(&self, inode: &Arc<Inode>) {
        self.admit(inode);
    }

    /// Lets go of what is kept for speed and was not used since this was last called; tells whether
    /// anything is left that will have to go.
    pub(super) fn age(&self) -> bool {
        self.fds.age(&self.shards)
    }

    /// Runs `open` with room for one more descriptor made if there is none.
    pub(super) fn make_room<T>(&self, open: impl FnMut() -> Result<T>) -> Result<T> {
        self.fds.make_room(&self.shards, open)
    }

    fn admit(&self, inode: &Arc<Inode>) {
        if inode.nodeid != NodeId::ROOT && inode.enlist() {
            self.fds.admit(&self.shards, inode);
        }
    }

    /// What is remembered of an inode beyond its being known, if anything is.
    pub(super) fn live(&self, nodeid: NodeId) -> Option<Arc<Inode>> {
        if nodeid == NodeId::ROOT {
            return Some(self.root.clone());
        }
        self.shards.of(nodeid).live.get(&nodeid).cloned()
    }

    /// Whether a nodeid tells which inode it stands for, be it known or not.
    pub(super) fn are_handles(&self) -> bool {
        self.scheme == Scheme::Number
    }

    /// Every inode that the kernel knows.
    pub(super) fn all(&self) -> Vec<NodeId> {
        let mut all = vec![NodeId::ROOT];
        self.shards.all().for_each(|shard| all.extend(shard.known.nodeids()));
        all
    }

    /// Inodes that the kernel knows, the root among them.
    pub(super) fn len(&self) -> u64 {
        1 + self.shards.all().map(|shard| shard.known.len() as u64).sum::<u64>()
    }

    pub(super) fn cached_fds(&self) -> u64 {
        self.fds.len()
    }
}

fn kind(stat: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT
}

#[cfg(test)]
pub(super) mod tests;
