//! Who reads and writes an open file: the kernel on the source's own file, or the daemon.
//!
//! The kernel's mixing rules (`fs/fuse/iomode.c`, `fs/fuse/passthrough.c`) turn a wrong answer to
//! OPEN into the caller's EIO: while an inode is open through a backing file, every open must name
//! the same backing id; while it is open through the page cache, none may name one. Hence one id per
//! inode, for as long as the kernel knows the inode, and a mode that the first of several
//! overlapping opens decides for the rest.
//!
//! The counts here lag behind the kernel's, because RELEASE is sent after the fact. They lag on the
//! safe side: a file that seems still open gets the mode it had.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, MutexGuard, PoisonError};

use nix::errno::Errno;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::stat::fstat;
use nix::unistd::Uid;
use tracing::{info, warn};

use super::inode::Inode;
use crate::abi::InitFlags;
use crate::config::DataMode;
use crate::fs::{BackingId, Kernel, Negotiated};
use crate::sys::{caller, objfd};

/// A user and group of whom nobody has heard: a file system's reserve may be 65534's.
pub(super) const NOBODY: u32 = u32::MAX - 2;

pub(super) const STATX_ATTR_APPEND: u64 = 0x20;
/// Files that ext4 and its like may refuse to open though they are there: encrypted, with verity.
const STATX_ATTR_GUARDED: u64 = 0x800 | 0x10_0000;

/// How one open of a file does its I/O.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum IoMode {
    /// The kernel, on this backing file.
    Passthrough(BackingId),
    /// READ and WRITE requests past FUSE's page cache, while others use this backing file. The kernel
    /// maps that file all the same.
    Direct(BackingId),
    /// READ and WRITE requests, through FUSE's page cache.
    Cached,
    /// READ and WRITE requests past it. The kernel maps nothing that is shared.
    Unmapped,
}

/// What is best for an open that is the first of its inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Preferred {
    Passthrough,
    /// By requests, where the kernel's own writes to the backing file will not do: they all carry the
    /// registrar's credentials, and so can not tell who may keep set-user-id and set-group-id; and
    /// they are another open file of the source, whose close is not the writer's.
    Cached,
    /// By requests, and without a mapping, through which more would be possible.
    Unmapped,
}

/// How the opens of one inode do their I/O at the moment.
#[derive(Debug, Default)]
pub(super) struct OpenState {
    passthrough: u32,
    cached: u32,
    /// What FUSE's page cache keeps of cached opens is the file's data still.
    kept: bool,
    /// Who may store to the file without that FUSE's inode knows.
    storers: Storers,
    backing: Option<Backing>,
}

/// Passthrough opens for writing, and mappings that they leave behind: FUSE forgets its open file with
/// the last descriptor, the source's lasts as long as it is mapped.
#[derive(Debug, Default)]
struct Storers {
    opens: u32,
    /// Opens have ended, and the source's file may be mapped yet.
    linger: bool,
    /// A file of the source was closed while there were opens.
    closed: bool,
}

/// A registered backing file, released with the inode that it belongs to.
#[derive(Debug)]
struct Backing {
    id: BackingId,
    /// The kernel can not fail to open it for reading.
    opens: bool,
    /// Which file it is, if it is not the inode's own.
    replica: Option<Identity>,
    registrar: Arc<Registrar>,
}

/// Device and number of a file.
pub(super) type Identity = (u64, u64);

/// A file that may be registered.
#[derive(Debug)]
pub(super) struct Candidate {
    /// An O_PATH descriptor: one that is open for writing would keep the file from being executed,
    /// and the source from becoming read-only, for as long as it is registered.
    pub(super) object: Arc<OwnedFd>,
    /// `stx_attributes` of statx(2).
    pub(super) attributes: u64,
    /// Which file it is, if it is not the inode's own.
    pub(super) replica: Option<Identity>,
}

impl Candidate {
    /// The file behind an O_PATH descriptor.
    pub(super) fn of(object: Arc<OwnedFd>) -> Result<Self, Errno> {
        let attributes = objfd::statx(object.as_fd(), 0, 0)?.attributes;
        Ok(Candidate { object, attributes, replica: None })
    }

    /// A file that holds the bytes of another.
    pub(super) fn replica(file: File) -> Result<Self, Errno> {
        let stat = fstat(&file)?;
        let candidate = Candidate::of(Arc::new(file.into()))?;
        Ok(Candidate { replica: Some((stat.st_dev, stat.st_ino)), ..candidate })
    }

    /// A file that was just made, which has no attributes: none of them is inherited.
    pub(super) fn made(object: Arc<OwnedFd>) -> Result<Self, Errno> {
        Ok(Candidate { object, attributes: 0, replica: None })
    }
}

/// Registers backing files with the kernel.
#[derive(Debug)]
pub(super) struct Registrar {
    kernel: Kernel,
    /// As whom the kernel writes.
    writer: Writer,
    registered: AtomicU64,
    warned: AtomicBool,
}

/// As whom the kernel reads and writes backing files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Writer {
    /// The daemon, on a mount that nobody else can enter.
    Daemon,
    /// The daemon's user without its group.
    Groupless,
    /// A user to whom no blocks are reserved. Permission was checked when the file was opened.
    Nobody,
}

impl OpenState {
    /// Whether an open as `preferred` would need a backing file that is not there.
    fn lacks_backing(&self, preferred: Preferred) -> bool {
        self.backing.is_none() && self.cached == 0 && preferred == Preferred::Passthrough
    }

    /// One more open: as those that there are, else as `preferred`. `register` is asked for a
    /// backing file if one is needed for the first time.
    fn open(&mut self, preferred: Preferred, register: impl FnOnce() -> Option<Backing>) -> IoMode {
        if preferred == Preferred::Unmapped && self.passthrough == 0 {
            // Nor is it read through what was registered before it had to be so.
            self.backing = None;
            return IoMode::Unmapped;
        }
        let decided_otherwise = preferred == Preferred::Cached && self.passthrough == 0;
        if self.cached == 0 && !decided_otherwise {
            if self.backing.is_none() {
                self.backing = register();
            }
            if let Some(backing) = &self.backing {
                self.passthrough += 1;
                self.kept = false;
                return match preferred {
                    Preferred::Passthrough => IoMode::Passthrough(backing.id),
                    _ => IoMode::Direct(backing.id),
                };
            }
        }
        self.cached += 1;
        IoMode::Cached
    }

    /// One more open by passthrough, which nobody but the kernel has to open; `None` if there are
    /// others through the page cache, or if the kernel could fail to.
    fn open_unseen(&mut self, register: impl FnOnce() -> Option<Backing>) -> Option<BackingId> {
        if self.cached > 0 {
            return None;
        }
        if self.backing.is_none() {
            self.backing = register();
        }
        let id = self.backing.as_ref().filter(|backing| backing.opens)?.id;
        self.passthrough += 1;
        Some(id)
    }

    /// An open that was made with `mode` is over.
    fn release(&mut self, mode: IoMode) {
        match mode {
            IoMode::Passthrough(_) | IoMode::Direct(_) => self.passthrough -= 1,
            IoMode::Cached => self.cached -= 1,
            IoMode::Unmapped => {}
        }
    }
}

impl Storers {
    fn any(&self) -> bool {
        self.opens > 0 || self.linger
    }
}

impl Drop for Backing {
    fn drop(&mut self) {
        self.registrar.registered.fetch_sub(1, Relaxed);
        if let Err(errno) = self.registrar.kernel.backing_close(self.id) {
            // After an unmount the connection and its ids are gone already.
            tracing::debug!(%errno, "release a backing id");
        }
    }
}

/// What the mount as a whole can do.
#[derive(Debug)]
pub(super) struct DataPath {
    registrar: Option<Arc<Registrar>>,
    reason: Option<String>,
}

impl DataPath {
    /// Settles `mode` with what INIT and this process allow; fails where passthrough was demanded
    /// and is not to be had.
    pub(super) fn choose(
        mode: DataMode,
        negotiated: &Negotiated,
        registrar: Registrar,
    ) -> io::Result<Self> {
        let missing = match mode {
            DataMode::Copy | DataMode::Splice => {
                return Ok(DataPath { registrar: None, reason: None });
            }
            _ if !negotiated.flags.contains(InitFlags::PASSTHROUGH) => Some(
                "this kernel offers no FUSE passthrough (Linux 6.9 with CONFIG_FUSE_PASSTHROUGH)"
                    .to_owned(),
            ),
            _ => registrar.probe().err().map(|errno| match errno {
                Errno::EPERM => {
                    "registering a backing file needs CAP_SYS_ADMIN in the initial user \
                                 namespace: mount as root"
                        .to_owned()
                }
                errno => format!("register a backing file: {errno}"),
            }),
        };
        match missing {
            None => Ok(DataPath { registrar: Some(Arc::new(registrar)), reason: None }),
            Some(reason) if mode == DataMode::Passthrough => Err(io::Error::other(format!(
                "--data passthrough can not be had: {reason}; --data auto would copy instead"
            ))),
            Some(reason) => {
                info!("data goes by copy: {reason}");
                Ok(DataPath { registrar: None, reason: Some(reason) })
            }
        }
    }

    /// Decides how a new open of `inode` does its I/O: as the others do if it is open already, else
    /// as `preferred` if that is to be had. `candidate` is asked for the file the first time.
    pub(super) fn open(
        &self,
        inode: &Inode,
        preferred: Preferred,
        candidate: impl FnOnce() -> Result<Candidate, Errno>,
    ) -> IoMode {
        let (mut state, at_hand) = self.prepare(inode, preferred, candidate);
        state.open(preferred, || self.register(at_hand?))
    }

    /// Decides how a new open of `inode` does its I/O where the kernel reads nothing but replicas: from
    /// this one, unless others have it read another; then, or without one, by requests.
    pub(super) fn open_replica(&self, inode: &Inode, replica: Option<Candidate>) -> IoMode {
        let mut state = inode.data.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = replica.as_ref().and_then(|candidate| candidate.replica);
        let preferred = match &state.backing {
            Some(backing) if state.passthrough > 0 && backing.replica != wanted => {
                Preferred::Cached
            }
            _ if wanted.is_none() => Preferred::Cached,
            _ => Preferred::Passthrough,
        };
        if state.passthrough == 0 {
            // It may be another file by now.
            state.backing = None;
        }
        state.open(preferred, || self.register(Ok(replica?)))
    }

    /// Opens `inode` for somebody who reads, and whom the kernel serves by itself: it opens the source's
    /// file, and can not fail to, so that nobody else has to. `None` if that is not so.
    pub(super) fn open_unseen(
        &self,
        inode: &Inode,
        candidate: impl FnOnce() -> Result<Candidate, Errno>,
    ) -> Option<BackingId> {
        self.registrar.as_ref()?;
        let (mut state, at_hand) = self.prepare(inode, Preferred::Passthrough, candidate);
        state.open_unseen(|| self.register(at_hand?))
    }

    /// The state of `inode`, with what a new open needs to be registered.
    fn prepare<'i>(
        &self,
        inode: &'i Inode,
        preferred: Preferred,
        candidate: impl FnOnce() -> Result<Candidate, Errno>,
    ) -> (MutexGuard<'i, OpenState>, Option<Result<Candidate, Errno>>) {
        let state = || inode.data.lock().unwrap_or_else(PoisonError::into_inner);
        let locked = state();
        if self.registrar.is_none() || !locked.lacks_backing(preferred) {
            return (locked, None);
        }
        // Not under the lock: making room for a descriptor may close this very inode.
        drop(locked);
        let at_hand = candidate();
        (state(), Some(at_hand))
    }

    /// An open that was made with `mode` is over.
    pub(super) fn release(inode: &Inode, mode: IoMode) {
        let mut state = inode.data.lock().unwrap_or_else(PoisonError::into_inner);
        state.release(mode);
    }

    fn register(&self, candidate: Result<Candidate, Errno>) -> Option<Backing> {
        let registrar = self.registrar.as_ref()?;
        let opens = |attributes| attributes & STATX_ATTR_GUARDED == 0;
        let register = |file: Candidate| {
            Ok((registrar.register(&file)?, opens(file.attributes), file.replica))
        };
        match candidate.and_then(register) {
            Ok((Some(id), opens, replica)) => {
                Some(Backing { id, opens, replica, registrar: registrar.clone() })
            }
            Ok((None, ..)) => None,
            Err(errno) => {
                if !registrar.warned.swap(true, Relaxed) {
                    warn!(%errno, "a file can not be passed through and is copied (said once)");
                }
                None
            }
        }
    }

    /// Whether the kernel reads and writes what it can by itself.
    pub(super) fn passes_through(&self) -> bool {
        self.registrar.is_some()
    }

    /// `passthrough` or `copy`, and why not the former.
    pub(super) fn describe(&self) -> (&'static str, Option<String>) {
        let mode = if self.registrar.is_some() { "passthrough" } else { "copy" };
        (mode, self.reason.clone())
    }

    /// Backing files registered now.
    pub(super) fn registered(&self) -> u64 {
        self.registrar.as_ref().map_or(0, |registrar| registrar.registered.load(Relaxed))
    }
}

impl Registrar {
    pub(super) fn new(kernel: Kernel, writer: Writer) -> Self {
        let (registered, warned) = (AtomicU64::new(0), AtomicBool::new(false));
        Registrar { kernel, writer, registered, warned }
    }

    /// Registers a file; `None` for one that may only be appended to, which no write path of the
    /// source checks once it is open: FUSE's inode does not know, WRITE requests go through a
    /// descriptor that does.
    ///
    /// The kernel writes with the credentials of this very moment: without CAP_FSETID the source
    /// clears set-user-id and set-group-id bits as it does for an ordinary user's write, and as
    /// nobody's group not even a set-group-id of the daemon's own group stays. Each change of an
    /// identity costs as much as a system call of the real work.
    fn register(&self, file: &Candidate) -> Result<Option<BackingId>, Errno> {
        if file.attributes & STATX_ATTR_APPEND != 0 {
            return Ok(None);
        }
        caller::keep_suid(false);
        let _as_nobody = match self.writer {
            Writer::Daemon => None,
            Writer::Groupless => Some((Uid::effective().as_raw(), NOBODY)),
            Writer::Nobody => Some((NOBODY, NOBODY)),
        }
        .map(|(uid, gid)| caller::impersonate(uid, gid))
        .transpose()?;
        let id = self.kernel.backing_open(file.object.as_fd())?;
        self.registered.fetch_add(1, Relaxed);
        Ok(Some(id))
    }

    /// Whether this process may register backing files at all, tried on a file in memory.
    fn probe(&self) -> Result<(), Errno> {
        let file = memfd_create(c"fusewire-probe", MFdFlags::MFD_CLOEXEC)?;
        let id = self.kernel.backing_open(file.as_fd())?;
        self.kernel.backing_close(id)
    }
}

impl Inode {
    /// Whether it is open by passthrough, or seems to be.
    pub(super) fn is_passed_through(&self) -> bool {
        self.data.lock().unwrap_or_else(PoisonError::into_inner).passthrough > 0
    }

    /// Whether it is open, may be mapped, or has a backing file for when it is opened again.
    pub(super) fn is_open(&self) -> bool {
        let state = self.data.lock().unwrap_or_else(PoisonError::into_inner);
        let used = state.passthrough > 0 || state.cached > 0 || state.storers.any();
        used || state.backing.is_some()
    }

    /// Its data has changed, and not through FUSE's page cache: the next cached open begins anew.
    /// Whether one is in use.
    pub(super) fn data_changed(&self) -> bool {
        let mut state = self.data.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut state.kept) || state.cached > 0
    }

    /// A passthrough open for writing begins.
    pub(super) fn begin_storing(&self) {
        self.data.lock().unwrap_or_else(PoisonError::into_inner).storers.opens += 1;
    }

    /// It ends. Its file of the source ends then, too, or with the last mapping, which is waited for if it
    /// `matters`.
    pub(super) fn end_storing(&self, matters: bool) {
        let mut state = self.data.lock().unwrap_or_else(PoisonError::into_inner);
        let storers = &mut state.storers;
        storers.opens -= 1;
        if storers.opens == 0 {
            storers.linger = !std::mem::take(&mut storers.closed) && matters;
        }
    }

    /// A file of the source that may have been written to was closed.
    pub(super) fn writer_closed(&self) {
        let mut state = self.data.lock().unwrap_or_else(PoisonError::into_inner);
        let storers = &mut state.storers;
        storers.closed = storers.opens > 0;
        storers.linger &= storers.closed;
    }

    /// Whether somebody may be storing to it through a mapping of the source's file.
    pub(super) fn is_stored_to(&self) -> bool {
        self.data.lock().unwrap_or_else(PoisonError::into_inner).storers.any()
    }

    /// A cached open begins: whether what earlier ones have left in FUSE's page cache is good.
    pub(super) fn keeps_data(&self) -> bool {
        let mut state = self.data.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut state.kept, true)
    }

    /// Lets the backing file go unless the kernel uses it.
    pub(super) fn release_backing(&self) {
        let mut state = self.data.lock().unwrap_or_else(PoisonError::into_inner);
        if state.passthrough == 0 {
            state.backing = None;
        }
    }
}

#[cfg(test)]
mod tests;
