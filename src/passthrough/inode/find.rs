//! Finding an object by its name: which one it is, and its attributes, both of the same object
//! whatever happens to the name meanwhile.
//!
//! Opening it answers that without a doubt, for an openat, fstat, name_to_handle_at and close. Where
//! handles hold the inode number, its handle by name and its attributes by name do as well: if both
//! name the same inode number, the object is the same unless it was deleted in between and its
//! number given to another under the same name; and then that one's change time is not in the past.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, PoisonError, RwLock};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag};
use nix::sys::stat::{FileStat, SFlag, fstat, fstatat};
use nix::time::{ClockId, clock_gettime};

use super::{Found, Inode, InodeTable, Key, Map, Object, Slot, kind};
use crate::fs::{Name, NodeId, Result};
use crate::passthrough::open_child;
use crate::sys::handle::FileHandle;
use crate::sys::objfd;

impl InodeTable {
    /// Finds `name` in `parent`.
    pub(in crate::passthrough) fn find(
        &self,
        parent: BorrowedFd<'_>,
        name: Name<'_>,
    ) -> Result<Found> {
        match self.find_named(parent, name)? {
            Some(found) => Ok(found),
            None => self.find_open(parent, name),
        }
    }

    /// Finds `name` in `parent` by opening it.
    pub(in crate::passthrough) fn find_open(
        &self,
        parent: BorrowedFd<'_>,
        name: Name<'_>,
    ) -> Result<Found> {
        Found::new(self.make_room(|| open_child(parent, name))?)
    }

    /// Finds `name` without opening it; `None` if that would leave a doubt.
    fn find_named(&self, parent: BorrowedFd<'_>, name: Name<'_>) -> Result<Option<Found>> {
        if !self.numbered {
            return Ok(None);
        }
        // The clock that file systems stamp with; reading it is no system call.
        let before = clock_gettime(ClockId::CLOCK_REALTIME_COARSE)?;
        let handle = match FileHandle::at(parent, name.as_c_str()) {
            Err(Errno::EOPNOTSUPP | Errno::EOVERFLOW) => return Ok(None),
            handle => handle?,
        };
        let known = self.known(&Key::Handle(handle));
        if let Some((inode, fd)) = known.and_then(|inode| inode.open_fd().map(|fd| (inode, fd))) {
            inode.used.store(true, Relaxed);
            let stat = fstat(&*fd)?;
            return Ok(Some(Found { object: Object::Handle(handle), stat }));
        }
        let Some(number) = handle.ino32() else { return Ok(None) };
        let stat = fstatat(parent, name.as_c_str(), AtFlags::AT_SYMLINK_NOFOLLOW)?;
        let unchanged = (stat.st_ctime, stat.st_ctime_nsec) < (before.tv_sec(), before.tv_nsec());
        let same = stat.st_ino == u64::from(number) && unchanged;
        Ok(same.then_some(Found { object: Object::Handle(handle), stat }))
    }

    /// What a file is that was just created and is open as `fd`.
    pub(in crate::passthrough) fn identify_created(&self, fd: &OwnedFd) -> Result<Object> {
        if self.mount.is_some() {
            match FileHandle::of(fd.as_fd()) {
                Err(Errno::EOPNOTSUPP | Errno::EOVERFLOW) => {}
                handle => return Ok(Object::Handle(handle?)),
            }
        }
        // The table wants a descriptor of its own, which keeps nobody from executing the file.
        let reopen = || objfd::reopen(fd.as_fd(), OFlag::O_PATH);
        Ok(Object::Fd(self.make_room(reopen)?))
    }

    /// What `name` is, if the kernel knows it and it could become unreachable with its last name.
    /// To be asked before the name is removed.
    pub(in crate::passthrough) fn doomed(
        &self,
        parent: BorrowedFd<'_>,
        name: Name<'_>,
    ) -> Option<Doomed> {
        // Without handles every inode keeps a descriptor.
        self.mount.as_ref()?;
        let handle = FileHandle::at(parent, name.as_c_str()).ok()?;
        let inode = self.known(&Key::Handle(handle))?;
        // Not into the cache: what is deleted will hardly be used again.
        let fd = inode.open_fd().map_or_else(|| self.path_fd(&inode), Ok).ok()?;
        Some(Doomed { inode, fd })
    }

    /// The nodeid of an object that the kernel knows.
    pub(in crate::passthrough) fn find_known(&self, object: &FileHandle) -> Option<NodeId> {
        self.known(&Key::Handle(*object)).map(|inode| inode.nodeid)
    }

    /// Every inode that the kernel knows.
    pub(in crate::passthrough) fn all(&self) -> Vec<NodeId> {
        let shard = |ids: &RwLock<Map<NodeId>>| -> Vec<NodeId> {
            ids.read().unwrap_or_else(PoisonError::into_inner).keys().copied().collect()
        };
        self.by_id.iter().flat_map(shard).collect()
    }

    fn known(&self, key: &Key) -> Option<Arc<Inode>> {
        self.key_shard(key).get(key).cloned()
    }
}

/// An inode that is about to lose a name.
#[derive(Debug)]
pub(in crate::passthrough) struct Doomed {
    inode: Arc<Inode>,
    fd: Arc<OwnedFd>,
}

impl Doomed {
    /// Keeps the inode reachable if that was its last name. The kernel may still hold it (a working
    /// directory, an O_PATH descriptor), and a handle would not open it once nobody else does.
    pub(in crate::passthrough) fn pin_if_unlinked(self) {
        let Ok(stat) = fstat(&*self.fd) else { return };
        if last_name_gone(&stat) {
            *self.inode.slot() = Slot::Pinned(self.fd);
        }
    }
}

fn last_name_gone(stat: &FileStat) -> bool {
    stat.st_nlink == 0 || kind(stat) == SFlag::S_IFDIR
}
