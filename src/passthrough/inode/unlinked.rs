//! Inodes that lose a name, or get one.
//!
//! The kernel may hold one that has no name any more (a working directory, an O_PATH descriptor), and
//! nothing would open it once nobody else does: its descriptor is kept until it is forgotten.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use nix::sys::stat::{SFlag, fstat};

use super::live::Slot;
use super::{Inode, InodeTable, Key, Place, kind};
use crate::fs::NodeId;
use crate::passthrough::open_child;
use crate::sys::handle::FileHandle;

/// An inode that is about to lose a name.
#[derive(Debug)]
pub(in crate::passthrough) struct Doomed {
    nodeid: NodeId,
    fd: Arc<OwnedFd>,
}

impl InodeTable {
    /// What is at `place`, if the kernel knows it and it could become unreachable with its last name.
    /// To be asked before the name is removed.
    pub(in crate::passthrough) fn doomed(&self, place: &Place<'_>) -> Option<Doomed> {
        let part = self.part(place.parent);
        if self.is_by_name(part) {
            let fd = self.make_room(|| open_child(place.dir, place.name)).ok()?;
            let key = self.identify(part, &fd, &fstat(&fd).ok()?).ok()?;
            return Some(Doomed { nodeid: self.known(&key)?, fd: Arc::new(fd) });
        }
        let handle = FileHandle::at(place.dir, place.name.as_c_str()).ok()?;
        let nodeid = self.nodeid_of(&handle)?;
        let live = self.shards.of(nodeid).live.get(&nodeid).cloned();
        let fd = match live.and_then(|inode| inode.open_fd()) {
            Some(fd) => fd,
            // Not into the cache: what is deleted will hardly be used again.
            None => Arc::new(self.open_path(&handle).ok()?),
        };
        Some(Doomed { nodeid, fd })
    }

    /// Keeps an inode reachable if the name at `place`, which is removed now, was its last, or the last
    /// that is known where only names lead to it.
    pub(in crate::passthrough) fn pin_if_unlinked(&self, doomed: Doomed, place: &Place<'_>) {
        let Ok(stat) = fstat(&*doomed.fd) else { return };
        let mut shard = self.shards.of(doomed.nodeid);
        let lost = shard.known.way(doomed.nodeid).is_some_and(|(_, way)| *way == place.way());
        if stat.st_nlink > 0 && kind(&stat) != SFlag::S_IFDIR && !lost {
            return;
        }
        if let Ok((inode, _)) = shard.live(doomed.nodeid) {
            *inode.slot() = Slot::Pinned(doomed.fd);
        }
    }

    /// An inode has got a name at `place`: it need not be pinned.
    pub(in crate::passthrough) fn named(&self, inode: &Arc<Inode>, place: &Place<'_>) {
        if let Key::Number { .. } = inode.key {
            self.shards.of(inode.nodeid).known.set_way(inode.nodeid, place.way());
        }
        self.unpin(inode);
    }

    pub(super) fn unpin(&self, inode: &Arc<Inode>) {
        let has_name = |fd: &OwnedFd| fstat(fd).is_ok_and(|stat| stat.st_nlink > 0);
        if inode.is_pinned() && inode.open_fd().is_some_and(|fd| has_name(&fd)) {
            inode.unpin();
            self.admit(inode);
        }
    }

    /// What is at `place` was moved there.
    pub(in crate::passthrough) fn moved(&self, place: &Place<'_>) {
        let part = self.part(place.parent);
        if !self.is_by_name(part) {
            return;
        }
        let found = || {
            let fd = self.make_room(|| open_child(place.dir, place.name))?;
            self.identify(part, &fd, &fstat(&fd)?)
        };
        // Moved on already: whoever needs the inode will find that out.
        if let Some(nodeid) = found().ok().and_then(|key| self.known(&key)) {
            self.shards.of(nodeid).known.set_way(nodeid, place.way());
        }
    }
}
