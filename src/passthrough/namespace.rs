//! Names: LOOKUP and everything that makes, moves or removes one.
//!
//! What is created belongs to the caller because it is created as the caller (file-system uid, gid
//! and umask), so that quotas, default ACLs and set-group-id directories have their native effect.

use std::ffi::CStr;
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, RenameFlags, renameat2};
use nix::sys::stat::{Mode, SFlag, mkdirat, mknodat};
use nix::unistd::{UnlinkatFlags, linkat, symlinkat, unlinkat};

use super::inode::{Found, Keep};
use super::{Local, open_child};
use crate::abi;
use crate::fs::{Attributes, Caller, Entry, Name, NodeId, Payload, Rename, Result};
use crate::sys::caller::{self, impersonate};
use crate::sys::objfd::ProcPath;

impl Local {
    pub(super) fn do_lookup(&self, parent: NodeId, name: Name<'_>) -> Result<Entry> {
        let parent = self.inodes.fd(parent)?;
        match self.find(&parent, name) {
            Err(Errno::ENOENT) if !self.settings.negative_valid.is_zero() => Ok(self.absent()),
            found => self.entry(found?, Keep::Fd),
        }
    }

    /// Opens `name` and reads its attributes, both of the same object.
    pub(super) fn find(&self, parent: &OwnedFd, name: Name<'_>) -> Result<Found> {
        Found::new(self.inodes.make_room(|| open_child(parent, name))?)
    }

    /// The reply for what was found; counts a lookup.
    pub(super) fn entry(&self, found: Found, keep: Keep) -> Result<Entry> {
        let attributes = self.attributes(&found.stat);
        let inode = self.inodes.acquire(found, keep)?;
        let entry_valid = self.settings.entry_valid;
        Ok(Entry { nodeid: inode.nodeid, generation: 0, entry_valid, attributes })
    }

    fn absent(&self) -> Entry {
        let attributes = Attributes { attr: abi::Attr::default(), valid: Default::default() };
        let entry_valid = self.settings.negative_valid;
        Entry { nodeid: NodeId(0), generation: 0, entry_valid, attributes }
    }

    /// Makes a name by `make`, then looks it up.
    fn make(
        &self,
        parent: NodeId,
        name: Name<'_>,
        make: impl FnOnce(&OwnedFd) -> Result<()>,
    ) -> Result<Entry> {
        let parent = self.inodes.fd(parent)?;
        make(&parent)?;
        self.entry(self.find(&parent, name)?, Keep::Fd)
    }

    pub(super) fn do_symlink(
        &self,
        caller: &Caller,
        parent: NodeId,
        name: Name<'_>,
        target: &CStr,
    ) -> Result<Entry> {
        self.make(parent, name, |parent| {
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
        self.make(parent, name, |parent| {
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
        self.make(parent, name, |parent| {
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
        let object = self.inodes.fd(nodeid)?;
        self.make(newparent, newname, |parent| {
            let path = ProcPath::new(object.as_fd());
            let flags = AtFlags::AT_SYMLINK_FOLLOW;
            linkat(AT_FDCWD, path.as_c_str(), parent, newname.as_c_str(), flags)
        })
    }

    pub(super) fn do_remove(
        &self,
        parent: NodeId,
        name: Name<'_>,
        flags: UnlinkatFlags,
    ) -> Result<()> {
        let parent = self.inodes.fd(parent)?;
        let doomed = self.inodes.make_room(|| open_child(&parent, name));
        unlinkat(&*parent, name.as_c_str(), flags)?;
        if let Ok(doomed) = doomed {
            self.inodes.pin_if_unlinked(doomed);
        }
        Ok(())
    }

    pub(super) fn do_rename(&self, caller: &Caller, names: &Rename<'_>) -> Result<()> {
        let Rename { parent, name, newparent, newname, flags } = *names;
        let (parent, newparent) = (self.inodes.fd(parent)?, self.inodes.fd(newparent)?);
        let flags = RenameFlags::from_bits(flags).ok_or(Errno::EINVAL)?;
        let doomed = match flags.contains(RenameFlags::RENAME_EXCHANGE) {
            true => Err(Errno::EEXIST),
            false => self.inodes.make_room(|| open_child(&newparent, newname)),
        };
        {
            // A whiteout is a new object that belongs to whoever renames.
            let whiteout = flags.contains(RenameFlags::RENAME_WHITEOUT);
            let _as_caller = whiteout.then(|| impersonate(caller.uid, caller.gid)).transpose()?;
            renameat2(&*parent, name.as_c_str(), &*newparent, newname.as_c_str(), flags)?;
        }
        if let Ok(doomed) = doomed {
            self.inodes.pin_if_unlinked(doomed);
        }
        Ok(())
    }

    pub(super) fn do_readlink(&self, nodeid: NodeId, out: &mut Payload<'_>) -> Result<()> {
        let fd = self.inodes.fd(nodeid)?;
        let target = nix::fcntl::readlinkat(&*fd, c"")?;
        out.extend(std::os::unix::ffi::OsStrExt::as_bytes(target.as_os_str()))
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
