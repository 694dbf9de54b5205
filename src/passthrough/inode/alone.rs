//! The inode table with no file system over it, for `benches/protocol.rs`, which times it alone.

use std::os::fd::OwnedFd;

use nix::fcntl::{OFlag, open};
use nix::sys::stat::{FileStat, Mode, fstat};

use super::{Access, Found, InodeTable, Keep, Object, Part};
use crate::fs::{NodeId, Result};
use crate::sys::handle::FileHandle;

/// An inode table by handles whose inodes are numbers: nothing is opened, and no file needs to exist.
/// Not for file systems, and as changeable as what it shows.
#[derive(Debug)]
pub struct TableAlone {
    table: InodeTable,
    stat: FileStat,
}

impl TableAlone {
    /// An empty table whose root is `/`, with room for `live` inodes in use at a time. Fails where `/`
    /// has no file handles.
    pub fn new(live: usize) -> Result<Self> {
        let open = |flags| open("/", flags | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty());
        let (root, mount): (OwnedFd, OwnedFd) = (open(OFlag::O_PATH)?, open(OFlag::O_RDONLY)?);
        let stat = fstat(&root)?;
        Ok(TableAlone { table: InodeTable::new(root, Access::Handles(mount), live)?, stat })
    }

    /// Counts a lookup of the inode of this number, as LOOKUP does once it has found one.
    pub fn look_up(&self, number: u32) -> Result<NodeId> {
        let object = Object::Handle(FileHandle::from_ino32(number, 1));
        let found = Found { part: Part::MAIN, object, stat: self.stat };
        self.table.acquire(found, None, Keep::Nothing)
    }

    /// Finds an inode by its nodeid, as every request does. ESTALE if it is not known.
    pub fn find(&self, nodeid: NodeId) -> Result<()> {
        self.table.get(nodeid).map(drop)
    }

    /// Takes a lookup back.
    pub fn forget(&self, nodeid: NodeId) {
        self.table.forget(nodeid, 1);
    }
}
