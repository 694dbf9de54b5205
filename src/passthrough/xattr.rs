//! Extended attributes, POSIX ACLs among them: SETXATTR, GETXATTR, LISTXATTR, REMOVEXATTR.

use std::ffi::CStr;
use std::os::fd::AsFd;

use caps::{CapSet, Capability};
use nix::errno::Errno;
use nix::sys::stat::{Mode, fstat};

use super::Local;
use crate::fs::{Caller, NodeId, Result, SetXattr};
use crate::sys::{caller, objfd};

impl Local {
    pub(super) fn do_setxattr(&self, nodeid: NodeId, xattr: &SetXattr<'_>) -> Result<()> {
        let fd = self.inodes.fd(nodeid)?;
        let flags = i32::try_from(xattr.flags).map_err(|_| Errno::EINVAL)?;
        // Whether an ACL takes set-group-id away depends on the caller, which the kernel knows.
        caller::keep_suid(true);
        objfd::setxattr(fd.as_fd(), xattr.name, xattr.value, flags)?;
        if xattr.kill_sgid {
            let mode = fstat(&fd)?.st_mode;
            if mode & libc::S_ISGID != 0 {
                let mode = Mode::from_bits_truncate(mode & !libc::S_ISGID);
                objfd::set_mode(fd.as_fd(), mode)?;
            }
        }
        self.mode_may_change(nodeid, xattr.name);
        Ok(())
    }

    /// Where FUSE leaves ACLs to the file system it goes on telling the mode that one has changed
    /// (`fuse_set_acl()`).
    fn mode_may_change(&self, nodeid: NodeId, xattr: &CStr) {
        if !self.settings.kernel_checks && xattr == c"system.posix_acl_access" {
            self.upkeep.attributes_changed(nodeid);
        }
    }

    pub(super) fn do_getxattr(
        &self,
        nodeid: NodeId,
        name: &CStr,
        value: &mut [u8],
    ) -> Result<usize> {
        let inode = self.inodes.get(nodeid)?;
        // The kernel asks for security.capability at a file's first write, and whenever it is given
        // away: without a walk to the file, if it is open.
        match inode.open_file() {
            Some(file) => objfd::fgetxattr(&file, name, value),
            None => objfd::getxattr(self.inodes.fd_of(&inode)?.as_fd(), name, value),
        }
    }

    pub(super) fn do_listxattr(
        &self,
        caller: &Caller,
        nodeid: NodeId,
        list: &mut [u8],
    ) -> Result<usize> {
        let fd = self.inodes.fd(nodeid)?;
        let (mut few, mut many) = ([0; 1024], Vec::new());
        let all = match objfd::listxattr(fd.as_fd(), &mut few) {
            Ok(len) => &few[..len],
            Err(Errno::ERANGE) => {
                many.resize(objfd::listxattr(fd.as_fd(), &mut [])?, 0);
                let len = objfd::listxattr(fd.as_fd(), &mut many)?;
                &many[..len]
            }
            Err(errno) => return Err(errno),
        };
        // The source shows us names that it hides from most.
        let is_trusted = |name: &[u8]| name.starts_with(b"trusted.");
        let names = || all.split_inclusive(|byte| *byte == 0);
        let hides = names().any(is_trusted) && !may(caller, Capability::CAP_SYS_ADMIN);
        let mut filled = 0;
        for name in names().filter(|name| !(hides && is_trusted(name))) {
            if !list.is_empty() {
                let room = list.get_mut(filled..filled + name.len()).ok_or(Errno::ERANGE)?;
                room.copy_from_slice(name);
            }
            filled += name.len();
        }
        Ok(filled)
    }

    pub(super) fn do_removexattr(&self, nodeid: NodeId, name: &CStr) -> Result<()> {
        objfd::removexattr(self.inodes.fd(nodeid)?.as_fd(), name)?;
        self.mode_may_change(nodeid, name);
        Ok(())
    }
}

/// Whether a caller has a capability where the daemon has it, and not only in a user namespace of its
/// own. One that can not be seen from here has not.
pub(super) fn may(caller: &Caller, capability: Capability) -> bool {
    let Ok(pid) = i32::try_from(caller.pid) else { return false };
    let users = |process: &str| std::fs::read(format!("/proc/{process}/uid_map")).ok();
    pid > 0
        && caps::has_cap(Some(pid), CapSet::Effective, capability).unwrap_or(false)
        && users("self").is_some_and(|ours| users(&pid.to_string()) == Some(ours))
}
