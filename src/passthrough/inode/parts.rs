//! The parts of a source: its own file system, and those that are mounted inside it.
//!
//! Nobody walks from one into another. Each is reached through a private clone of its mount, in which
//! nothing shows that is mounted inside; whoever finds a directory on which another part is mounted
//! has found the root of that part.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use nix::errno::Errno;
use nix::sys::stat::{SFlag, fstat};

use super::known::{Key, Map};
use super::{Access, Found, InodeTable, Object, kind, reach};
use crate::fs::{Name, NodeId, Result};
use crate::passthrough::open_child;
use crate::sys::caller;
use crate::sys::handle::FileHandle;

/// Above the inode numbers that file systems give.
const NUMBER_BITS: u32 = 56;

/// A part of the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::passthrough) struct Part(u8);

impl Part {
    /// The source's own file system.
    pub(in crate::passthrough) const MAIN: Part = Part(0);
    /// How many others there may be.
    pub(in crate::passthrough) const OTHERS_MAX: usize = 200;
}

/// The parts beside the main one.
#[derive(Debug, Default)]
pub(super) struct Parts {
    others: Vec<Other>,
    /// The directories that are mounted on.
    covered: Map<Key, Part>,
}

/// What is mounted inside the source, as a part is made of it.
#[derive(Debug)]
pub(in crate::passthrough) struct Mounted {
    /// O_PATH descriptor of its root.
    pub(in crate::passthrough) root: OwnedFd,
    /// Whether it tells of each object when it was made.
    pub(in crate::passthrough) keeps_birth: bool,
    /// Whether somebody else has a say in when it answers.
    pub(in crate::passthrough) may_wait: bool,
}

#[derive(Debug)]
struct Other {
    /// O_PATH descriptor of its root.
    root: Arc<OwnedFd>,
    key: Key,
    keeps_birth: bool,
    may_wait: bool,
    /// Whether its inode numbers are given by the main part, too.
    is_foreign: bool,
}

impl Parts {
    fn get(&self, part: Part) -> Option<&Other> {
        self.others.get(usize::from(part.0).checked_sub(1)?)
    }

    /// The root of a part, if `key` is one.
    pub(super) fn root(&self, key: &Key) -> Option<Arc<OwnedFd>> {
        let other = self.get(key.part()).filter(|other| other.key == *key)?;
        Some(other.root.clone())
    }
}

impl InodeTable {
    /// Adds as a part what is mounted on the directory `path` of the part `on`.
    pub(in crate::passthrough) fn attach(
        &mut self,
        on: Part,
        path: &Path,
        mounted: Mounted,
    ) -> Result<Part> {
        let Mounted { root, keeps_birth, may_wait } = mounted;
        let number = u8::try_from(self.parts.others.len() + 1).map_err(|_| Errno::ENFILE)?;
        let part = Part(number);
        let above = match self.parts.get(on) {
            Some(other) => other.root.clone(),
            None => self.fd(NodeId::ROOT)?,
        };
        let mut covered = above.try_clone().map_err(|_| Errno::EMFILE)?;
        for component in path.components() {
            let name = CString::new(component.as_os_str().as_bytes()).map_err(|_| Errno::EINVAL)?;
            let name = Name::new(&name).ok_or(Errno::EINVAL)?;
            covered = open_child(covered.as_fd(), name)?;
        }
        let covered = self.identify(on, &covered, &fstat(&covered)?)?;
        let stat = fstat(&root)?;
        let key = reach::number(part, &root, &stat, keeps_birth)?;
        let is_foreign = stat.st_dev != fstat(&*self.fd(NodeId::ROOT)?)?.st_dev;
        let root = Arc::new(root);
        self.parts.others.push(Other { root, key, keeps_birth, may_wait, is_foreign });
        self.parts.covered.insert(covered, part);
        Ok(part)
    }

    /// Whether there is no part but the main one.
    pub(in crate::passthrough) fn is_whole(&self) -> bool {
        self.parts.others.is_empty()
    }

    /// Whether an object of the main part may show in another part, too.
    pub(in crate::passthrough) fn has_twins(&self) -> bool {
        self.parts.others.iter().any(|other| !other.is_foreign)
    }

    /// The part that an inode lies in.
    pub(in crate::passthrough) fn part(&self, nodeid: NodeId) -> Part {
        if self.is_whole() || nodeid == NodeId::ROOT || self.scheme.is_counted(nodeid) {
            return Part::MAIN;
        }
        self.shards.of(nodeid).known.key(nodeid).map_or(Part::MAIN, |key| key.part())
    }

    /// The inode number that is shown for `ino` of the part that `nodeid` lies in: FUSE has one device
    /// number for all of them.
    pub(in crate::passthrough) fn shown_ino(&self, nodeid: NodeId, ino: u64) -> u64 {
        let part = self.part(nodeid);
        match self.parts.get(part) {
            Some(other) if other.is_foreign && ino >> NUMBER_BITS == 0 => {
                ino | u64::from(part.0) << NUMBER_BITS
            }
            _ => ino,
        }
    }

    /// Descriptors of the roots of all parts but the main one.
    pub(in crate::passthrough) fn other_roots(&self) -> impl Iterator<Item = &OwnedFd> {
        self.parts.others.iter().map(|other| &*other.root)
    }

    /// Whether nothing but names leads to what lies in `part`.
    pub(super) fn is_by_name(&self, part: Part) -> bool {
        part != Part::MAIN || matches!(self.access, Access::Names { .. })
    }

    /// What the object behind `fd` is.
    pub(super) fn identify(
        &self,
        part: Part,
        fd: &OwnedFd,
        stat: &nix::sys::stat::FileStat,
    ) -> Result<Key> {
        match (&self.access, self.parts.get(part)) {
            (_, Some(other)) => reach::number(part, fd, stat, other.keeps_birth),
            (Access::Handles(_), None) => Ok(Key::Handle(FileHandle::of(fd.as_fd())?)),
            (Access::Names { keeps_birth }, None) => reach::number(part, fd, stat, *keeps_birth),
        }
    }

    /// `found`, or what is mounted on it. EWOULDBLOCK for a thread that others wait for, if that may not
    /// answer at once.
    pub(super) fn cross(&self, found: Found) -> Result<Found> {
        if self.is_whole() || kind(&found.stat) != SFlag::S_IFDIR {
            return Ok(found);
        }
        let key = match &found.object {
            Object::Fd(fd) => self.identify(found.part, fd, &found.stat)?,
            Object::Handle(handle) => Key::Handle(*handle),
        };
        let Some(part) = self.parts.covered.get(&key) else { return Ok(found) };
        let other = self.parts.get(*part).ok_or(Errno::ESTALE)?;
        if other.may_wait && !caller::is_patient() {
            return Err(Errno::EWOULDBLOCK);
        }
        let root = self.make_room(|| other.root.try_clone().map_err(|_| Errno::EMFILE))?;
        Found::new(*part, root)
    }
}
