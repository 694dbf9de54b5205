//! Attributes: GETATTR, STATX, SETATTR, ACCESS, STATFS.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use caps::Capability;
use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::stat::{FileStat, Mode, fstat};
use nix::sys::statfs::fstatfs;
use nix::unistd::{AccessFlags, Gid, Uid, faccessat, fchownat, ftruncate, truncate};

use super::Local;
use super::xattr::may;
use crate::abi::{self, SetattrValid};
use crate::coherence::Trust;
use crate::fs::{Attributes, Caller, Fh, NodeId, Result, StatxReply};
use crate::locality::Stamp;
use crate::sys::caller::{self, impersonate};
use crate::sys::objfd::{self, ProcLink};

/// What stat(2) tells, on the wire.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the wire has 64-bit two's complement seconds and 32-bit device numbers, as the kernel"
)]
pub(super) fn to_attr(stat: &FileStat) -> abi::Attr {
    abi::Attr {
        ino: stat.st_ino,
        size: stat.st_size as u64,
        blocks: stat.st_blocks as u64,
        atime: stat.st_atime as u64,
        mtime: stat.st_mtime as u64,
        ctime: stat.st_ctime as u64,
        atimensec: stat.st_atime_nsec as u32,
        mtimensec: stat.st_mtime_nsec as u32,
        ctimensec: stat.st_ctime_nsec as u32,
        mode: stat.st_mode,
        nlink: stat.st_nlink as u32,
        uid: stat.st_uid,
        gid: stat.st_gid,
        rdev: stat.st_rdev as u32,
        blksize: stat.st_blksize as u32,
        flags: 0,
    }
}

impl Local {
    pub(super) fn attributes(&self, nodeid: NodeId, stat: &FileStat) -> Attributes {
        self.tell(nodeid, || Stamp::of(stat));
        let ino = self.inodes.shown_ino(nodeid, stat.st_ino);
        let attr = abi::Attr { ino, ..to_attr(stat) };
        Attributes { attr, valid: self.attr_valid(nodeid) }
    }

    /// Remembers what the kernel is told of a file whose bytes may lie elsewhere.
    fn tell(&self, nodeid: NodeId, stamp: impl FnOnce() -> Stamp) {
        if self.replicas.any()
            && let Some(inode) = self.inodes.live(nodeid)
        {
            inode.watched.tell(stamp());
        }
    }

    /// How long the kernel may trust attributes of an inode: not for long while it may be storing
    /// through a mapping of the source's file, which moves times that it does not know of.
    fn attr_valid(&self, nodeid: NodeId) -> Duration {
        let stored_to = || self.inodes.live(nodeid).is_some_and(|inode| inode.is_stored_to());
        match self.trust(nodeid).attr {
            valid if valid > Trust::WHILE_STORED && stored_to() => Trust::WHILE_STORED,
            valid => valid,
        }
    }

    pub(super) fn do_getattr(&self, nodeid: NodeId, fh: Option<Fh>) -> Result<Attributes> {
        let stat = match fh.and_then(|fh| self.handles.file(fh).ok()?.file) {
            Some(file) => fstat(&file)?,
            None => fstat(&self.inodes.fd(nodeid)?)?,
        };
        Ok(self.attributes(nodeid, &stat))
    }

    pub(super) fn do_statx(&self, nodeid: NodeId, args: &abi::StatxIn) -> Result<StatxReply> {
        let fd = self.inodes.fd(nodeid)?;
        let flags = i32::try_from(args.sx_flags).map_err(|_| Errno::EINVAL)?;
        let mut stat = objfd::statx(fd.as_fd(), flags & libc::AT_STATX_SYNC_TYPE, args.sx_mask)?;
        self.tell(nodeid, || Stamp::of_statx(&stat));
        stat.ino = self.inodes.shown_ino(nodeid, stat.ino);
        Ok(StatxReply { stat, valid: self.attr_valid(nodeid) })
    }

    /// Each change as the call that it came from would make it; which of set-user-id and
    /// set-group-id survive is the source's decision.
    pub(super) fn do_setattr(
        &self,
        caller: &Caller,
        nodeid: NodeId,
        args: &abi::SetattrIn,
    ) -> Result<Attributes> {
        self.admit(caller)?;
        let valid = SetattrValid::from_bits_retain(args.valid);
        let fd = self.inodes.fd(nodeid)?;
        let changes = SetattrValid::MODE
            | SetattrValid::UID
            | SetattrValid::GID
            | SetattrValid::SIZE
            | SetattrValid::ATIME
            | SetattrValid::MTIME;
        let owner = SetattrValid::UID | SetattrValid::GID;
        if valid.contains(SetattrValid::MODE) {
            // The kernel has taken set-group-id out of a mode that the caller may not set.
            caller::keep_suid(args.mode & libc::S_ISGID != 0);
            objfd::set_mode(fd.as_fd(), Mode::from_bits_truncate(args.mode))?;
        }
        // No change at all is a chown to the same owner, or what fallocate and the like leave of
        // file_remove_privs() under HANDLE_KILLPRIV_V2: the same to the source.
        if valid.intersects(owner) || !valid.intersects(changes) {
            let keep = match valid.intersects(owner) {
                true => caller.uid == 0 && is_set_id(&fd)?,
                false => self.keeps_set_id(caller, nodeid, &fstat(&fd)?)?,
            };
            let uid = valid.contains(SetattrValid::UID).then(|| Uid::from_raw(args.uid));
            let gid = valid.contains(SetattrValid::GID).then(|| Gid::from_raw(args.gid));
            caller::keep_suid(keep);
            // As a member of the caller's group, who may keep set-group-id on a file of that group.
            // The user stays: only root may give files away, and whether the caller may, the kernel
            // has decided.
            let _in_group = impersonate(self.settings.daemon, caller.gid)?;
            fchownat(&*fd, c"", uid, gid, AtFlags::AT_EMPTY_PATH)?;
        }
        if valid.contains(SetattrValid::SIZE) {
            caller::keep_suid(!valid.contains(SetattrValid::KILL_SUIDGID) && is_set_id(&fd)?);
            let _as_caller = impersonate(caller.uid, caller.gid)?;
            let size = i64::try_from(args.size).map_err(|_| Errno::EFBIG)?;
            match valid.contains(SetattrValid::FH) {
                true => ftruncate(&self.file(Fh(args.fh))?.1, size)?,
                false => truncate(ProcLink::new(fd.as_fd()).path(), size)?,
            }
        }
        if valid.intersects(SetattrValid::ATIME | SetattrValid::MTIME) {
            objfd::set_times(fd.as_fd(), times(args, valid)?)?;
        }
        Ok(self.attributes(nodeid, &fstat(&fd)?))
    }

    /// Whether a change of nothing leaves set-user-id and set-group-id. It may come of writing, which takes
    /// a file that is open for that, and clears them. Else it is a chown, which clears them as well:
    /// EPERM for all but the owner, whom the kernel has not asked for.
    fn keeps_set_id(&self, caller: &Caller, nodeid: NodeId, stat: &FileStat) -> Result<bool> {
        let set_id = stat.st_mode & (libc::S_ISUID | libc::S_ISGID);
        let directory = stat.st_mode & libc::S_IFMT == libc::S_IFDIR;
        if set_id == 0 || directory || caller.uid == 0 {
            return Ok(caller.uid == 0 && set_id != 0);
        }
        if caller.uid == stat.st_uid || self.handles.is_open_to_write(nodeid) {
            return Ok(false);
        }
        // A member of the group may leave the bit of a file that the group can not execute; who is one
        // is not known here.
        let stays = set_id == libc::S_ISGID && stat.st_mode & libc::S_IXGRP == 0;
        match stays || may(caller, Capability::CAP_FOWNER) {
            true => Ok(stays),
            false => Err(Errno::EPERM),
        }
    }

    pub(super) fn do_access(&self, nodeid: NodeId, mask: u32) -> Result<()> {
        let fd = self.inodes.fd(nodeid)?;
        let mask =
            i32::try_from(mask).ok().and_then(AccessFlags::from_bits).ok_or(Errno::EINVAL)?;
        faccessat(objfd::links()?, ProcLink::new(fd.as_fd()).name(), mask, AtFlags::AT_EACCESS)
    }

    #[expect(clippy::cast_possible_truncation, reason = "the wire has 32 bits for small sizes")]
    #[expect(clippy::cast_sign_loss, reason = "sizes are not negative")]
    pub(super) fn do_statfs(&self, nodeid: NodeId) -> Result<abi::Kstatfs> {
        let stat = fstatfs(&*self.inodes.fd(nodeid)?)?;
        Ok(abi::Kstatfs {
            blocks: stat.blocks(),
            bfree: stat.blocks_free(),
            bavail: stat.blocks_available(),
            files: stat.files(),
            ffree: stat.files_free(),
            bsize: stat.optimal_transfer_size() as u32,
            namelen: stat.maximum_name_length() as u32,
            frsize: stat.block_size() as u32,
            ..abi::Kstatfs::default()
        })
    }
}

/// Whether the object has a bit that CAP_FSETID could keep; without one there is nothing to raise.
fn is_set_id(fd: &OwnedFd) -> Result<bool> {
    Ok(fstat(fd)?.st_mode & (libc::S_ISUID | libc::S_ISGID) != 0)
}

fn times(args: &abi::SetattrIn, valid: SetattrValid) -> Result<[libc::timespec; 2]> {
    let one = |set, now, seconds: u64, nanoseconds: u32| {
        let (tv_sec, tv_nsec) = match (valid.contains(set), valid.contains(now)) {
            (false, _) => (0, libc::UTIME_OMIT),
            (true, true) => (0, libc::UTIME_NOW),
            (true, false) => (seconds.cast_signed(), i64::from(nanoseconds)),
        };
        libc::timespec { tv_sec, tv_nsec }
    };
    use SetattrValid as V;
    Ok([
        one(V::ATIME, V::ATIME_NOW, args.atime, args.atimensec),
        one(V::MTIME, V::MTIME_NOW, args.mtime, args.mtimensec),
    ])
}
