//! Opening and closing files: OPEN, CREATE, TMPFILE, FLUSH, RELEASE.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{FileStat, fstat};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::close;

use super::backing::{Candidate, DataPath, IoMode, Preferred, STATX_ATTR_APPEND};
use super::handle::OpenFile;
use super::inode::{Found, Inode, Keep, Part, Place};
use super::namespace::{prepare, split};
use super::{Local, shared};
use crate::abi::{self, OpenFlags};
use crate::coherence::Trust;
use crate::fs::{Caller, Entry, Fh, Name, NodeId, Opened, Result};
use crate::sys::caller::{self, impersonate};
use crate::sys::objfd;

impl Local {
    pub(super) fn do_open(
        &self,
        caller: &Caller,
        nodeid: NodeId,
        args: &abi::OpenIn,
    ) -> Result<Opened> {
        if self.settings.opens_by_itself {
            return Err(Errno::ENOSYS);
        }
        let inode = self.inodes.get(nodeid)?;
        let flags = wire_flags(args.flags);
        let read_only = flags & OFlag::O_ACCMODE == OFlag::O_RDONLY;
        if read_only
            && self.settings.opens_surely
            && self.inodes.part(nodeid) == Part::MAIN
            && !flags.intersects(OFlag::O_TRUNC | OFlag::O_NONBLOCK)
            && let Some(opened) = self.open_unseen(&inode, flags)?
        {
            return Ok(opened);
        }
        self.handles.admit()?;
        let mut daemon_flags = daemon_flags(flags);
        if !caller::is_patient() {
            // Somebody's lease: EWOULDBLOCK, and a thread that may wait for its holder does it again.
            daemon_flags |= OFlag::O_NONBLOCK;
        }
        let reopen = || self.inodes.open(&inode, daemon_flags);
        let fd = match flags.contains(OFlag::O_TRUNC) {
            true => {
                if read_only {
                    // The kernel refuses it as well, but only once this has been answered.
                    await_release(|| self.handles.is_run(nodeid))?;
                    if self.handles.is_run(nodeid) {
                        return Err(Errno::ETXTBSY);
                    }
                } else if inode.is_passed_through() {
                    // Who had to wait afterwards would truncate it twice.
                    let mode = fstat(&self.inodes.fd_of(&inode)?)?.st_mode;
                    self.await_readers(&inode, self.preferred(nodeid, mode))?;
                }
                caller::keep_suid(args.open_flags & abi::OPEN_KILL_SUIDGID == 0);
                let _as_caller = impersonate(caller.uid, caller.gid)?;
                reopen()?
            }
            false => reopen()?,
        };
        let preferred = match read_only {
            true => Preferred::Passthrough,
            false => self.preferred_now(nodeid, &fd)?,
        };
        if !flags.contains(OFlag::O_TRUNC) {
            self.await_readers(&inode, preferred)?;
        }
        let opened = self.opened(inode, fd, flags, preferred, false)?;
        if !read_only && opened.backing.is_some() {
            // What the kernel was told before it trusts for longer than it may from now on.
            self.upkeep.attributes_change(nodeid);
        }
        Ok(opened)
    }

    /// Opens `inode` for reading where the kernel does all of it, so that there is no descriptor to be
    /// opened here. Somebody's lease is waited for there as well.
    fn open_unseen(&self, inode: &Arc<Inode>, flags: OFlag) -> Result<Option<Opened>> {
        let candidate = || Candidate::of(self.inodes.fd_of(inode)?);
        let Some(id) = self.data_path()?.open_unseen(inode, candidate) else { return Ok(None) };
        let (inode, mode) = (inode.clone(), IoMode::Passthrough(id));
        let open = OpenFile { file: None, inode, flags, mode, direct_alignment: 1, reader: None };
        let fh = self.handles.open_file(open);
        let flags = OpenFlags::PASSTHROUGH | OpenFlags::NOFLUSH;
        Ok(Some(Opened { fh, flags, backing: Some(id) }))
    }

    /// An open file, and a descriptor of it, which one that the kernel has opened alone gets now.
    pub(super) fn file(&self, fh: Fh) -> Result<(OpenFile, Arc<File>)> {
        let open = self.handles.file(fh)?;
        if let Some(file) = open.file.clone() {
            return Ok((open, file));
        }
        let file = shared(self.inodes.open(&open.inode, daemon_flags(open.flags))?);
        self.handles.keep(fh, &file);
        Ok((open, file))
    }

    pub(super) fn do_create(
        &self,
        caller: &Caller,
        parent: NodeId,
        name: Name<'_>,
        args: &abi::CreateIn,
    ) -> Result<(Entry, Opened)> {
        let dir = self.inodes.fd(parent)?;
        let flags = wire_flags(args.flags);
        // Always exclusive: a file that somebody else has made meanwhile must go through a lookup
        // and the permission check of an OPEN. ESTALE has the kernel do just that.
        let exclusive = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let open_flags = (daemon_flags(flags) - OFlag::O_TRUNC) | exclusive;
        let fd = self.create_as(caller, args, || {
            openat(&*dir, name.as_c_str(), open_flags, split(args.mode).1)
        });
        let fd = match fd {
            Err(Errno::EEXIST) if !flags.contains(OFlag::O_EXCL) => return Err(Errno::ESTALE),
            fd => fd?,
        };
        let found = self.inodes.found_created(parent, &fd)?;
        let place = Place { parent, dir: dir.as_fd(), name };
        self.created(fd, found, Some(&place), flags)
    }

    pub(super) fn do_tmpfile(
        &self,
        caller: &Caller,
        parent: NodeId,
        args: &abi::CreateIn,
    ) -> Result<(Entry, Opened)> {
        let dir = self.inodes.fd(parent)?;
        let flags = wire_flags(args.flags);
        let keep = OFlag::O_ACCMODE | OFlag::O_EXCL | OFlag::O_SYNC | OFlag::O_DSYNC;
        let open_flags = (flags & keep) | OFlag::O_TMPFILE | OFlag::O_CLOEXEC;
        let fd =
            self.create_as(caller, args, || openat(&*dir, c".", open_flags, split(args.mode).1))?;
        // A file that has no name can not be reopened by its handle once this descriptor is closed.
        let found = self.inodes.found_unnamed(parent, &fd)?;
        self.created(fd, found, None, flags)
    }

    fn create_as(
        &self,
        caller: &Caller,
        args: &abi::CreateIn,
        create: impl FnMut() -> Result<OwnedFd>,
    ) -> Result<OwnedFd> {
        self.handles.admit()?;
        prepare(args.umask, args.mode);
        let _as_caller = impersonate(caller.uid, caller.gid)?;
        self.inodes.make_room(create)
    }

    /// The reply for a file that was created at `place`, or nowhere.
    fn created(
        &self,
        fd: OwnedFd,
        found: Found,
        place: Option<&Place<'_>>,
        flags: OFlag,
    ) -> Result<(Entry, Opened)> {
        let stat = found.stat;
        let keep = if place.is_some() { Keep::Fd } else { Keep::Pinned };
        let nodeid = self.inodes.acquire(found, place, keep)?;
        let inode = self.inodes.get(nodeid)?;
        let preferred = self.preferred(nodeid, stat.st_mode);
        let opened = self.opened(inode, fd, flags, preferred, true)?;
        let attributes = self.attributes(nodeid, &stat);
        let entry_valid = self.trust(place.map_or(nodeid, |place| place.parent)).entry;
        Ok((Entry { nodeid, generation: 0, entry_valid, attributes }, opened))
    }

    /// The reply for a file that is open as `fd`, perhaps `made` by this very request.
    fn opened(
        &self,
        inode: Arc<Inode>,
        fd: OwnedFd,
        flags: OFlag,
        preferred: Preferred,
        made: bool,
    ) -> Result<Opened> {
        let candidate = if made { Candidate::made } else { Candidate::of };
        let file = shared(fd);
        let mode = match self.settings.holds_replicas {
            true => self.data_path()?.open_replica(&inode, self.replica(&inode, &file)?),
            false => {
                let fd = || candidate(self.inodes.fd_of(&inode)?);
                self.data_path()?.open(&inode, preferred, fd)
            }
        };
        let read_only = flags & OFlag::O_ACCMODE == OFlag::O_RDONLY;
        let (mut open_flags, backing) = match mode {
            IoMode::Passthrough(id) => (OpenFlags::PASSTHROUGH, Some(id)),
            IoMode::Direct(id) => (OpenFlags::PASSTHROUGH | OpenFlags::DIRECT_IO, Some(id)),
            IoMode::Cached => (OpenFlags::empty(), None),
            IoMode::Unmapped => (OpenFlags::DIRECT_IO, None),
        };
        // Closing a local file has nothing to tell. But bytes that were written through a mapping of
        // FUSE's page cache reach the source by the last close.
        let quiet = mode != IoMode::Cached && !self.closing_tells(inode.nodeid);
        open_flags.set(OpenFlags::NOFLUSH, read_only || quiet);
        if stores(mode, flags) {
            inode.begin_storing();
        }
        if mode == IoMode::Cached && self.trust(inode.nodeid).caches && inode.keeps_data() {
            // No error from here on: the open is counted.
            let stays = fstat(&file).is_ok_and(|stat| !self.moves_atime(&stat));
            open_flags.set(OpenFlags::KEEP_CACHE, stays);
        }
        let asked = !matches!(mode, IoMode::Passthrough(_));
        let direct_alignment = match flags.contains(OFlag::O_DIRECT) && asked {
            true => objfd::direct_alignment(file.as_fd()),
            false => 1,
        };
        inode.opened(&file);
        let reader = match self.replicas.any() && self.inodes.part(inode.nodeid) == Part::MAIN {
            true => inode.number().and_then(|number| self.replicas.reader(number)),
            false => None,
        };
        if let Some(reader) = &reader
            && mode == IoMode::Cached
        {
            open_flags.set(OpenFlags::KEEP_CACHE, reader.keeps_cache(&file, &inode.watched));
        }
        if !read_only {
            inode.watched.begin_writing();
        }
        let open = OpenFile { file: Some(file), inode, flags, mode, direct_alignment, reader };
        let fh = self.handles.open_file(open);
        Ok(Opened { fh, flags: open_flags, backing })
    }

    /// Waits a little for readers whom the kernel serves by itself, if whoever opens had better not be
    /// one of them. Where writers are never passed through there is a way beside readers who are.
    fn await_readers(&self, inode: &Inode, preferred: Preferred) -> Result<()> {
        let awaits = match preferred {
            Preferred::Passthrough => false,
            Preferred::Cached => !self.closing_tells(inode.nodeid),
            Preferred::Unmapped => true,
        };
        match awaits {
            true => await_release(|| inode.is_passed_through()),
            false => Ok(()),
        }
    }

    /// What the kernel reads by itself instead of `opened`, until it is closed.
    fn replica(&self, inode: &Inode, opened: &File) -> Result<Option<Candidate>> {
        if self.inodes.part(inode.nodeid) != Part::MAIN {
            return Ok(None);
        }
        let replica = inode.number().and_then(|number| self.replicas.find(opened, number));
        replica.map(|replica| Candidate::replica(replica.file)).transpose()
    }

    /// Whether a read would move the access time, which one from FUSE's page cache does not: that it is
    /// older than a change or a day, as `relatime` has it.
    fn moves_atime(&self, stat: &FileStat) -> bool {
        const DAY: i64 = 24 * 3600;
        let (atime, now) =
            ((stat.st_atime, stat.st_atime_nsec), clock_gettime(ClockId::CLOCK_REALTIME_COARSE));
        let changed = (stat.st_mtime, stat.st_mtime_nsec).max((stat.st_ctime, stat.st_ctime_nsec));
        let old = now.is_ok_and(|now| now.tv_sec().saturating_sub(stat.st_atime) >= DAY);
        !self.settings.noatime && (atime <= changed || old)
    }

    pub(super) fn do_flush(&self, fh: Fh) -> Result<()> {
        if self.settings.opens_by_itself {
            // Nothing is ever written: it need not tell of closing any more.
            return Err(Errno::ENOSYS);
        }
        let open = self.handles.file(fh)?;
        // The kernel has written its dirty pages before it sent this. A local file system has nothing
        // to add; what another one has to do or to say, it does at the close of a duplicate.
        let nodeid = open.inode.nodeid;
        let Some(file) = open.file.filter(|_| self.closing_tells(nodeid)) else { return Ok(()) };
        close(self.inodes.make_room(|| file.as_fd().try_clone_to_owned().map_err(raw))?)
    }

    /// What is best for writing a file that is open. One that only grows is not mapped, natively neither,
    /// though it may have been registered as a backing file before it was one.
    fn preferred_now(&self, nodeid: NodeId, fd: &OwnedFd) -> Result<Preferred> {
        let stat = objfd::statx(fd.as_fd(), 0, libc::STATX_MODE)?;
        match stat.attributes & STATX_ATTR_APPEND != 0 {
            true => Ok(Preferred::Unmapped),
            false => Ok(self.preferred(nodeid, stat.mode.into())),
        }
    }

    /// What is best for writing a file of this mode.
    fn preferred(&self, nodeid: NodeId, mode: u32) -> Preferred {
        match self.closing_tells(nodeid) || mode & (libc::S_ISUID | libc::S_ISGID) != 0 {
            true => Preferred::Cached,
            false => Preferred::Passthrough,
        }
    }

    pub(super) fn do_release(&self, fh: Fh) {
        if let Some(open) = self.handles.close_file(fh) {
            DataPath::release(&open.inode, open.mode);
            if stores(open.mode, open.flags) {
                let matters = self.trust(open.inode.nodeid).attr > Trust::WHILE_STORED;
                open.inode.end_storing(matters);
            }
            let OpenFile { file, inode, flags, .. } = open;
            // What is written may be with a distributed file system only once this is closed.
            drop(file);
            if flags & OFlag::O_ACCMODE != OFlag::O_RDONLY {
                inode.watched.end_writing();
            }
            self.inodes.settle(&inode);
        }
    }
}

/// Waits a little for opens that make a file `busy` to end: RELEASE may still be on its way for one
/// that was closed. As long as there is one, it decides.
fn await_release(busy: impl Fn() -> bool) -> Result<()> {
    const PATIENCE: Duration = Duration::from_millis(50);
    let started = Instant::now();
    while busy() && started.elapsed() < PATIENCE {
        if !caller::is_patient() {
            return Err(Errno::EWOULDBLOCK);
        }
        thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// Whether an open lets its caller store to the source's file without that FUSE's inode knows.
fn stores(mode: IoMode, flags: OFlag) -> bool {
    let behind = matches!(mode, IoMode::Passthrough(_) | IoMode::Direct(_));
    behind && flags & OFlag::O_ACCMODE != OFlag::O_RDONLY
}

fn raw(error: std::io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO))
}

/// Flags of open(2) as the kernel passes them on.
pub(super) fn wire_flags(flags: u32) -> OFlag {
    OFlag::from_bits_retain(flags.cast_signed())
}

/// The caller's flags for the daemon's own descriptor. O_DIRECT would demand aligned buffers of
/// the daemon; where the kernel passes I/O through, it applies the caller's flags itself.
fn daemon_flags(flags: OFlag) -> OFlag {
    flags - OFlag::O_DIRECT - OFlag::O_CREAT - OFlag::O_EXCL - OFlag::O_NOFOLLOW
}
