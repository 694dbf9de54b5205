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

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, PoisonError};

use nix::errno::Errno;
use nix::sys::memfd::{MFdFlags, memfd_create};
use std::os::fd::AsFd;
use tracing::{info, warn};

use super::inode::Inode;
use crate::abi::InitFlags;
use crate::config::DataMode;
use crate::fs::{BackingId, Kernel, Negotiated};
use crate::sys::caller;

/// How one open of a file does its I/O.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum IoMode {
    /// The kernel, on this backing file.
    Passthrough(BackingId),
    /// READ and WRITE requests, through FUSE's page cache.
    Cached,
}

/// What is best for an open that is the first of its inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Preferred {
    Passthrough,
    /// WRITE requests say whether the writer may keep set-user-id and set-group-id; the kernel's
    /// own writes to the backing file can not, as they all carry the registrar's credentials.
    Cached,
}

/// How the opens of one inode do their I/O at the moment.
#[derive(Debug, Default)]
pub(super) struct OpenState {
    passthrough: u32,
    cached: u32,
    backing: Option<Backing>,
}

/// A registered backing file, released with the inode that it belongs to.
#[derive(Debug)]
struct Backing {
    id: BackingId,
    registrar: Arc<Registrar>,
}

#[derive(Debug)]
struct Registrar {
    kernel: Kernel,
    registered: AtomicU64,
    warned: AtomicBool,
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
        kernel: Kernel,
    ) -> io::Result<Self> {
        let missing = match mode {
            DataMode::Copy => return Ok(DataPath { registrar: None, reason: None }),
            _ if !negotiated.flags.contains(InitFlags::PASSTHROUGH) => Some(
                "this kernel offers no FUSE passthrough (Linux 6.9 with CONFIG_FUSE_PASSTHROUGH)"
                    .to_owned(),
            ),
            _ => probe(&kernel).err().map(|errno| match errno {
                Errno::EPERM => {
                    "registering a backing file needs CAP_SYS_ADMIN in the initial user \
                                 namespace: mount as root"
                        .to_owned()
                }
                errno => format!("register a backing file: {errno}"),
            }),
        };
        match missing {
            None => {
                let registrar = Registrar {
                    kernel,
                    registered: AtomicU64::new(0),
                    warned: AtomicBool::new(false),
                };
                Ok(DataPath { registrar: Some(Arc::new(registrar)), reason: None })
            }
            Some(reason) if mode == DataMode::Passthrough => Err(io::Error::other(format!(
                "--data passthrough can not be had: {reason}; --data auto would copy instead"
            ))),
            Some(reason) => {
                info!("data goes by copy: {reason}");
                Ok(DataPath { registrar: None, reason: Some(reason) })
            }
        }
    }

    /// Decides how a new open of `inode`, whose open file is `file`, does its I/O: as the others do
    /// if it is open already, else as `preferred` if that is to be had.
    pub(super) fn open(&self, inode: &Inode, file: BorrowedFd<'_>, preferred: Preferred) -> IoMode {
        let mut state = inode.data.lock().unwrap_or_else(PoisonError::into_inner);
        let decided_otherwise = preferred == Preferred::Cached && state.passthrough == 0;
        if state.cached == 0
            && !decided_otherwise
            && let Some(id) = self.backing(&mut state, file)
        {
            state.passthrough += 1;
            return IoMode::Passthrough(id);
        }
        state.cached += 1;
        IoMode::Cached
    }

    /// An open that was made with `mode` is over.
    pub(super) fn release(inode: &Inode, mode: IoMode) {
        let mut state = inode.data.lock().unwrap_or_else(PoisonError::into_inner);
        match mode {
            IoMode::Passthrough(_) => state.passthrough -= 1,
            IoMode::Cached => state.cached -= 1,
        }
    }

    fn backing(&self, state: &mut OpenState, file: BorrowedFd<'_>) -> Option<BackingId> {
        if let Some(backing) = &state.backing {
            return Some(backing.id);
        }
        let registrar = self.registrar.as_ref()?;
        match registrar.register(file) {
            Ok(id) => {
                state.backing = Some(Backing { id, registrar: registrar.clone() });
                Some(id)
            }
            Err(errno) => {
                if !registrar.warned.swap(true, Relaxed) {
                    warn!(%errno, "a file can not be passed through and is copied (said once)");
                }
                None
            }
        }
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
    /// The kernel writes with the credentials of this very moment: without CAP_FSETID the source
    /// clears set-user-id and set-group-id bits as it does for an ordinary user's write.
    fn register(&self, file: BorrowedFd<'_>) -> Result<BackingId, Errno> {
        caller::keep_suid(false);
        let id = self.kernel.backing_open(file)?;
        self.registered.fetch_add(1, Relaxed);
        Ok(id)
    }
}

/// Whether this process may register backing files at all, tried on a file in memory.
fn probe(kernel: &Kernel) -> Result<(), Errno> {
    let file = memfd_create(c"fusewire-probe", MFdFlags::MFD_CLOEXEC)?;
    let id = kernel.backing_open(file.as_fd())?;
    kernel.backing_close(id)
}
