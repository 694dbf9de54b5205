//! Finding an object by its name: which one it is, and its attributes, both of the same object
//! whatever happens to the name meanwhile.
//!
//! Opening it answers that without a doubt, for an openat, fstat, name_to_handle_at and close. Where
//! handles hold the inode number, its handle by name and its attributes by name do as well: if both
//! name the same inode number, the object is the same unless it was deleted in between and its
//! number given to another under the same name; and then that one's change time is not in the past.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{Mode, fstat, fstatat};
use nix::time::{ClockId, clock_gettime};

use super::known::{Key, Scheme, Way};
use super::{Found, Inode, InodeTable, Object, Part};
use crate::fs::{Name, NodeId, Result};
use crate::passthrough::open_child;
use crate::sys::handle::FileHandle;
use crate::sys::objfd;

/// A name in a directory.
#[derive(Debug, Clone, Copy)]
pub(in crate::passthrough) struct Place<'a> {
    /// The directory.
    pub(in crate::passthrough) parent: NodeId,
    /// A descriptor of it.
    pub(in crate::passthrough) dir: BorrowedFd<'a>,
    /// The name.
    pub(in crate::passthrough) name: Name<'a>,
}

impl Place<'_> {
    pub(super) fn way(&self) -> Way {
        Way { parent: self.parent, name: self.name.as_c_str().to_owned() }
    }
}

impl InodeTable {
    /// Finds what is at `place`.
    pub(in crate::passthrough) fn find(&self, place: &Place<'_>) -> Result<Found> {
        let found = match self.find_named(place)? {
            Some(found) => found,
            None => self.find_open(place)?,
        };
        self.cross(found)
    }

    /// Finds what is at `place`, and not what may be mounted there, by opening it.
    pub(in crate::passthrough) fn find_open(&self, place: &Place<'_>) -> Result<Found> {
        let fd = self.make_room(|| open_child(place.dir, place.name))?;
        Found::new(self.part(place.parent), fd)
    }

    /// Finds what is at `place` without opening it; `None` if that would leave a doubt.
    fn find_named(&self, place: &Place<'_>) -> Result<Option<Found>> {
        if self.scheme != Scheme::Number || self.part(place.parent) != Part::MAIN {
            return Ok(None);
        }
        let found = |object, stat| Found { part: Part::MAIN, object, stat };
        // The clock that file systems stamp with; reading it is no system call.
        let before = clock_gettime(ClockId::CLOCK_REALTIME_COARSE)?;
        let handle = FileHandle::at(place.dir, place.name.as_c_str())?;
        if let Some((inode, fd)) = self.open_one(&handle) {
            inode.mark_used();
            let stat = fstat(&*fd)?;
            return Ok(Some(found(Object::Handle(handle), stat)));
        }
        let Some((number, _)) = handle.ino32() else { return Ok(None) };
        let stat = fstatat(place.dir, place.name.as_c_str(), AtFlags::AT_SYMLINK_NOFOLLOW)?;
        let unchanged = (stat.st_ctime, stat.st_ctime_nsec) < (before.tv_sec(), before.tv_nsec());
        let same = stat.st_ino == u64::from(number) && unchanged;
        Ok(same.then_some(found(Object::Handle(handle), stat)))
    }

    /// The inode of a handle with its descriptor, if it has one.
    fn open_one(&self, handle: &FileHandle) -> Option<(Arc<Inode>, Arc<OwnedFd>)> {
        let wanted = self.scheme.nodeid(&Key::Handle(*handle));
        let inode = self.shards.of(wanted).live.get(&wanted)?.clone();
        let fd = inode.open_fd()?;
        Some((inode, fd))
    }

    /// What a file is that was just created in `parent` and is open as `fd`.
    pub(in crate::passthrough) fn found_created(
        &self,
        parent: NodeId,
        fd: &OwnedFd,
    ) -> Result<Found> {
        let part = self.part(parent);
        if self.is_by_name(part) {
            return self.found_unnamed(parent, fd);
        }
        let object = Object::Handle(FileHandle::of(fd.as_fd())?);
        Ok(Found { part, object, stat: fstat(fd)? })
    }

    /// What a nodeid stands for, whether the kernel knows it or not; where nodeids are handles.
    pub(in crate::passthrough) fn found_by_nodeid(&self, nodeid: NodeId) -> Result<Found> {
        Found::new(Part::MAIN, self.fd_by_nodeid(nodeid)?)
    }

    /// The directory that a directory is in; where nodeids are handles.
    pub(in crate::passthrough) fn found_parent(&self, nodeid: NodeId) -> Result<Found> {
        let directory = self.fd_by_nodeid(nodeid)?;
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let parent = self.make_room(|| openat(&directory, c"..", flags, Mode::empty()))?;
        Found::new(Part::MAIN, parent)
    }

    fn fd_by_nodeid(&self, nodeid: NodeId) -> Result<OwnedFd> {
        // A deleted one may live on here while somebody has it open.
        if let Some(fd) = self.live(nodeid).and_then(|inode| inode.open_fd()) {
            return self.make_room(|| fd.try_clone().map_err(|_| Errno::EMFILE));
        }
        match self.scheme.is_counted(nodeid) {
            true => self.open_path(&Scheme::handle(nodeid)),
            false => Err(Errno::ESTALE),
        }
    }

    /// The same for a file that has no name.
    pub(in crate::passthrough) fn found_unnamed(
        &self,
        parent: NodeId,
        fd: &OwnedFd,
    ) -> Result<Found> {
        // The table wants a descriptor of its own, which keeps nobody from executing the file.
        let object = self.make_room(|| objfd::reopen(fd.as_fd(), OFlag::O_PATH))?;
        Found::new(self.part(parent), object)
    }
}
