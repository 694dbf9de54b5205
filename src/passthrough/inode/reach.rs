//! Reaching an inode: its O_PATH descriptor, and opening it.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{FileStat, fstat};

use super::known::Key;
use super::{Access, Inode, InodeTable, Part, kind};
use crate::fs::{Name, NodeId, Result};
use crate::passthrough::open_child;
use crate::sys::handle::FileHandle;
use crate::sys::objfd;

/// More directories above each other than a path can name.
const DEPTH_MAX: usize = 1 << 16;

impl InodeTable {
    /// The descriptor of a nodeid.
    pub(in crate::passthrough) fn fd(&self, nodeid: NodeId) -> Result<Arc<OwnedFd>> {
        self.fd_of(&self.get(nodeid)?)
    }

    /// An O_PATH descriptor of `inode`, opened again if the cache has closed it. ESTALE if it is no
    /// longer to be had.
    pub(in crate::passthrough) fn fd_of(&self, inode: &Arc<Inode>) -> Result<Arc<OwnedFd>> {
        inode.mark_used();
        if let Some(fd) = inode.open_fd() {
            return Ok(fd);
        }
        let fd = inode.offer(Arc::new(self.path_fd(inode)?));
        self.admit(inode);
        Ok(fd)
    }

    fn path_fd(&self, inode: &Inode) -> Result<OwnedFd> {
        match &inode.key {
            Key::Handle(handle) => self.open_path(handle),
            Key::Number { .. } => self.walk_to(inode.nodeid).or_else(|errno| {
                // Whatever became of the name, an open file leads there.
                let file = inode.open_file().ok_or(errno)?;
                self.make_room(|| objfd::reopen(file.as_fd(), OFlag::O_PATH))
            }),
        }
    }

    /// An O_PATH descriptor of a handle.
    pub(super) fn open_path(&self, handle: &FileHandle) -> Result<OwnedFd> {
        let Access::Handles(mount) = &self.access else { return Err(Errno::ESTALE) };
        let flags = libc::O_PATH | libc::O_NOFOLLOW;
        let fd = self.make_room(|| handle.open(mount.as_fd(), flags))?;
        match handle.is_vague() && FileHandle::of(fd.as_fd())? != *handle {
            true => Err(Errno::ESTALE),
            false => Ok(fd),
        }
    }

    /// Opens the object itself. Flags that would look up or create a name are ignored.
    pub(in crate::passthrough) fn open(&self, inode: &Arc<Inode>, flags: OFlag) -> Result<OwnedFd> {
        inode.mark_used();
        if let (Key::Handle(handle), Access::Handles(mount)) = (&inode.key, &self.access)
            && !handle.is_vague()
            && !inode.is_pinned()
        {
            // Cheaper than by its descriptor, should there be one: no walk through /proc.
            let flags = objfd::without_name(flags).bits();
            match self.make_room(|| handle.open(mount.as_fd(), flags)) {
                // Deleted behind the mount; its descriptor may still be there.
                Err(Errno::ESTALE) => {}
                result => return result,
            }
        }
        let object = self.fd_of(inode)?;
        self.make_room(|| objfd::reopen(object.as_fd(), flags))
    }

    /// Goes to an inode by the names under which it and the directories above it were last seen,
    /// from the nearest that has a descriptor. ESTALE if another object is there now.
    fn walk_to(&self, nodeid: NodeId) -> Result<OwnedFd> {
        let (mut steps, mut at) = (Vec::new(), nodeid);
        let near = loop {
            if at == NodeId::ROOT {
                break self.root.open_fd().ok_or(Errno::ESTALE)?;
            }
            let shard = self.shards.of(at);
            let live = shard.live.get(&at).filter(|_| at != nodeid);
            if let Some(fd) = live.and_then(|inode| inode.open_fd()) {
                break fd;
            }
            if let Some(root) = shard.known.key(at).and_then(|key| self.parts.root(&key)) {
                break root;
            }
            let (key, way) = shard.known.way(at).ok_or(Errno::ESTALE)?;
            steps.push((key, way.name.clone()));
            at = way.parent;
            // Names that are out of date may lead round in a circle.
            if steps.len() > DEPTH_MAX {
                return Err(Errno::ESTALE);
            }
        };
        let part = self.part(nodeid);
        let mut reached: Option<OwnedFd> = None;
        for (key, name) in steps.iter().rev() {
            let name = Name::new(name).ok_or(Errno::ESTALE)?;
            let parent = reached.as_ref().map_or(near.as_fd(), OwnedFd::as_fd);
            let fd = self.make_room(|| open_child(parent, name)).map_err(|errno| match errno {
                Errno::ENOENT | Errno::ENOTDIR => Errno::ESTALE,
                errno => errno,
            })?;
            if self.identify(part, &fd, &fstat(&fd)?)? != *key {
                return Err(Errno::ESTALE);
            }
            reached = Some(fd);
        }
        match reached {
            Some(fd) => Ok(fd),
            // The root of a part.
            None => self.make_room(|| near.try_clone().map_err(|_| Errno::EMFILE)),
        }
    }
}

/// What an inode is where there are no handles. Its number may be given to another once it is
/// deleted, whose kind or time of birth will hardly be the same.
pub(super) fn number(part: Part, fd: &OwnedFd, stat: &FileStat, keeps_birth: bool) -> Result<Key> {
    const STATX_BTIME: u32 = 0x800;
    let mut born = u64::from(kind(stat).bits());
    if keeps_birth {
        let stat = objfd::statx(fd.as_fd(), libc::AT_STATX_DONT_SYNC, STATX_BTIME)?;
        if stat.mask & STATX_BTIME != 0 {
            let seconds = stat.btime.tv_sec.cast_unsigned();
            born ^= seconds << 34 ^ u64::from(stat.btime.tv_nsec);
        }
    }
    Ok(Key::Number { part, dev: stat.st_dev, ino: stat.st_ino, born })
}
