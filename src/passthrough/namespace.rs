//! Names: LOOKUP and everything that makes, moves or removes one.
//!
//! What is created belongs to the caller because it is created as the caller (file-system uid, gid
//! and umask), so that quotas, default ACLs and set-group-id directories have their native effect.

use std::ffi::CStr;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, RenameFlags, renameat2};
use nix::sys::stat::{Mode, SFlag, fstat, mkdirat, mknodat};
use nix::unistd::{UnlinkatFlags, linkat, symlinkat, unlinkat};

use super::Local;
use super::inode::{Found, Keep, Place};
use crate::abi;
use crate::fs::{Attributes, Caller, Entry, Name, NodeId, Payload, Rename, Result};
use crate::sys::caller::{self, impersonate};
use crate::sys::objfd::{self, ProcLink};

/// Longer than any target of a symbolic link.
const READLINK_MAX: usize = libc::PATH_MAX.unsigned_abs() as usize;

impl Local {
    pub(super) fn do_lookup(&self, parent: NodeId, name: Name<'_>) -> Result<Entry> {
        let dir = self.inodes.fd(parent)?;
        let place = Place { parent, dir: dir.as_fd(), name };
        match self.inodes.find(&place) {
            Err(Errno::ENOENT) => self.absent(parent),
            found => self.entry(found?, &place, Keep::Fd),
        }
    }

    /// An inode that a file handle names; only where nodeids are handles.
    pub(super) fn do_lookup_self(&self, nodeid: NodeId) -> Result<Entry> {
        if !self.settings.exports {
            return Err(Errno::ESTALE);
        }
        let entry = self.entry_without_name(self.inodes.found_by_nodeid(nodeid)?)?;
        if entry.nodeid != nodeid {
            // Nobody is told of it, and nobody will forget it.
            self.inodes.forget(entry.nodeid, 1);
            return Err(Errno::ESTALE);
        }
        Ok(entry)
    }

    pub(super) fn do_lookup_parent(&self, nodeid: NodeId) -> Result<Entry> {
        if !self.settings.exports || nodeid == NodeId::ROOT {
            return Err(Errno::ESTALE);
        }
        self.entry_without_name(self.inodes.found_parent(nodeid)?)
    }

    fn entry_without_name(&self, found: Found) -> Result<Entry> {
        let stat = found.stat;
        let keep = if stat.st_nlink > 0 { Keep::Fd } else { Keep::Pinned };
        let nodeid = self.inodes.acquire(found, None, keep)?;
        let attributes = self.attributes(nodeid, &stat);
        Ok(Entry { nodeid, generation: 0, entry_valid: Duration::ZERO, attributes })
    }

    /// The reply for what was found at `place`; counts a lookup.
    pub(super) fn entry(&self, found: Found, place: &Place<'_>, keep: Keep) -> Result<Entry> {
        let stat = found.stat;
        let nodeid = self.inodes.acquire(found, Some(place), keep)?;
        let attributes = self.attributes(nodeid, &stat);
        let entry_valid = self.trust(place.parent).entry;
        Ok(Entry { nodeid, generation: 0, entry_valid, attributes })
    }

    /// The reply for a name that is not there, if the kernel may trust that for a while.
    fn absent(&self, parent: NodeId) -> Result<Entry> {
        let entry_valid = self.trust(parent).negative;
        let attributes = Attributes { attr: abi::Attr::default(), valid: Default::default() };
        match entry_valid.is_zero() {
            true => Err(Errno::ENOENT),
            false => Ok(Entry { nodeid: NodeId(0), generation: 0, entry_valid, attributes }),
        }
    }

    /// Makes a name for an object of a `kind` by `make`, then looks it up. EEXIST if it is another's by
    /// then, upon which the kernel forgets what it knew of the name: the answer that it is a file would
    /// be EIO to who made a directory.
    fn make(
        &self,
        parent: NodeId,
        name: Name<'_>,
        kind: SFlag,
        make: impl FnOnce(&OwnedFd) -> Result<()>,
    ) -> Result<Entry> {
        let dir = self.inodes.fd(parent)?;
        make(&dir)?;
        let place = Place { parent, dir: dir.as_fd(), name };
        // What was just made is too young to be identified by its name.
        let found = self.inodes.find_open(&place)?;
        match split(found.stat.st_mode).0 == kind {
            true => self.entry(found, &place, Keep::Fd),
            false => Err(Errno::EEXIST),
        }
    }

    pub(super) fn do_symlink(
        &self,
        caller: &Caller,
        parent: NodeId,
        name: Name<'_>,
        target: &CStr,
    ) -> Result<Entry> {
        self.make(parent, name, SFlag::S_IFLNK, |parent| {
            let _as_caller = impersonate(caller.uid, caller.gid)?;
            symlinkat(target, parent, name.as_c_str())
        })
    }

    pub(super) fn do_mknod(
        &self,
        caller: &Caller,
        parent: NodeId,
        name: Name<'_>,
        args: &abi::MknodIn,
    ) -> Result<Entry> {
        self.make(parent, name, split(args.mode).0, |parent| {
            let (kind, mode) = split(args.mode);
            prepare(args.umask, args.mode);
            let _as_caller = impersonate(caller.uid, caller.gid)?;
            mknodat(parent, name.as_c_str(), kind, mode, u64::from(args.rdev))
        })
    }

    pub(super) fn do_mkdir(
        &self,
        caller: &Caller,
        parent: NodeId,
        name: Name<'_>,
        args: &abi::MkdirIn,
    ) -> Result<Entry> {
        self.make(parent, name, SFlag::S_IFDIR, |parent| {
            prepare(args.umask, args.mode);
            let _as_caller = impersonate(caller.uid, caller.gid)?;
            mkdirat(parent, name.as_c_str(), split(args.mode).1)
        })
    }

    pub(super) fn do_link(
        &self,
        nodeid: NodeId,
        newparent: NodeId,
        newname: Name<'_>,
    ) -> Result<Entry> {
        let inode = self.inodes.get(nodeid)?;
        let object = self.inodes.fd_of(&inode)?;
        let dir = self.inodes.fd(newparent)?;
        let link = ProcLink::new(object.as_fd());
        let flags = AtFlags::AT_SYMLINK_FOLLOW;
        linkat(objfd::links()?, link.name(), &*dir, newname.as_c_str(), flags)?;
        let attributes = self.attributes(nodeid, &fstat(&*object)?);
        self.inodes.count_lookup(&inode)?;
        self.inodes.named(&inode, &Place { parent: newparent, dir: dir.as_fd(), name: newname });
        let entry_valid = self.trust(newparent).entry;
        Ok(Entry { nodeid, generation: 0, entry_valid, attributes })
    }

    pub(super) fn do_remove(
        &self,
        parent: NodeId,
        name: Name<'_>,
        flags: UnlinkatFlags,
    ) -> Result<()> {
        let dir = self.inodes.fd(parent)?;
        let place = Place { parent, dir: dir.as_fd(), name };
        let doomed = self.inodes.doomed(&place);
        unlinkat(&*dir, name.as_c_str(), flags)?;
        if let Some(doomed) = doomed {
            self.inodes.pin_if_unlinked(doomed, &place);
        }
        Ok(())
    }

    pub(super) fn do_rename(&self, caller: &Caller, names: &Rename<'_>) -> Result<()> {
        let Rename { parent, name, newparent, newname, flags } = *names;
        let (dir, newdir) = (self.inodes.fd(parent)?, self.inodes.fd(newparent)?);
        let old = Place { parent, dir: dir.as_fd(), name };
        let new = Place { parent: newparent, dir: newdir.as_fd(), name: newname };
        let flags = RenameFlags::from_bits(flags).ok_or(Errno::EINVAL)?;
        let replaces =
            !flags.intersects(RenameFlags::RENAME_EXCHANGE | RenameFlags::RENAME_NOREPLACE);
        let doomed = match replaces {
            true => self.inodes.doomed(&new),
            false => None,
        };
        {
            // A whiteout is a new object that belongs to whoever renames.
            let whiteout = flags.contains(RenameFlags::RENAME_WHITEOUT);
            let _as_caller = whiteout.then(|| impersonate(caller.uid, caller.gid)).transpose()?;
            renameat2(&*dir, name.as_c_str(), &*newdir, newname.as_c_str(), flags)?;
        }
        if let Some(doomed) = doomed {
            self.inodes.pin_if_unlinked(doomed, &new);
        }
        self.inodes.moved(&new);
        if flags.contains(RenameFlags::RENAME_EXCHANGE) {
            self.inodes.moved(&old);
        }
        Ok(())
    }

    pub(super) fn do_readlink(&self, nodeid: NodeId, out: &mut Payload<'_>) -> Result<()> {
        let fd = self.inodes.fd(nodeid)?;
        let target = out.spare(READLINK_MAX);
        let room = target.len();
        let len = objfd::readlink(fd.as_fd(), target)?;
        if len == room {
            return Err(Errno::ENAMETOOLONG);
        }
        out.advance(len);
        Ok(())
    }
}

/// Sets the umask for a creation, which the source applies unless a default ACL overrides it, and
/// keeps a set-group-id bit that the kernel has let pass.
pub(super) fn prepare(umask: u32, mode: u32) {
    caller::set_umask(umask);
    caller::keep_suid(mode & libc::S_ISGID != 0);
}

/// The kind of file and the permission bits of a wire mode.
pub(super) fn split(mode: u32) -> (SFlag, Mode) {
    (SFlag::from_bits_truncate(mode) & SFlag::S_IFMT, Mode::from_bits_truncate(mode))
}
