//! /dev/fuse and its ioctls: clone a channel, register and release backing files.
#![expect(unsafe_code, reason = "ioctl(2) takes untyped arguments")]

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::errno::Errno;
use nix::sys::stat::fstat;

const FUSE_DEV_IOC_CLONE: libc::c_ulong = 0x8004_e500;
const FUSE_DEV_IOC_BACKING_OPEN: libc::c_ulong = 0x4010_e501;
const FUSE_DEV_IOC_BACKING_CLOSE: libc::c_ulong = 0x4004_e502;

#[repr(C)]
struct BackingMap {
    fd: i32,
    flags: u32,
    padding: u64,
}

/// Opens /dev/fuse: a channel that belongs to no connection yet.
pub fn open() -> io::Result<OwnedFd> {
    let file: File = OpenOptions::new().read(true).write(true).open("/dev/fuse")?;
    Ok(file.into())
}

/// Opens one more channel of the connection of `session` (FUSE_DEV_IOC_CLONE).
pub fn clone(session: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let channel = open()?;
    let source = u32::try_from(session.as_raw_fd()).expect("descriptors are not negative");
    // SAFETY: the ioctl reads one u32 at the pointer, which outlives the call.
    let result = unsafe { libc::ioctl(channel.as_raw_fd(), FUSE_DEV_IOC_CLONE, &raw const source) };
    Errno::result(result)?;
    Ok(channel)
}

/// A file that the kernel reads and writes itself for the opens that name it.
///
/// It holds on to the file and to the registrar's credentials until it is closed; files that were
/// opened with it keep their own reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackingId(pub(crate) i32);

impl BackingId {
    /// As `fuse_open_out::backing_id`.
    pub fn raw(self) -> i32 {
        self.0
    }
}

/// What a file system may ask of the kernel by itself, outside of any request.
#[derive(Debug, Clone)]
pub struct Kernel {
    session: Arc<OwnedFd>,
    connection: u32,
    /// Stands in for one that is not there.
    absent: Option<Arc<Mutex<Registered>>>,
}

/// What a kernel that is not there would hold of backing files.
#[derive(Debug, Clone, Default)]
pub struct Registered {
    /// Those that are registered.
    pub ids: BTreeSet<i32>,
    /// How many ids were released that were not registered.
    pub mistakes: u64,
    given: i32,
}

impl Kernel {
    pub(crate) fn new(session: Arc<OwnedFd>, connection: u32) -> Self {
        Kernel { session, connection, absent: None }
    }

    /// A kernel that is not there: it believes whatever it is told, and only keeps account of what is
    /// [`registered`](Self::registered). For a file system that is handed requests without a mount.
    pub fn absent() -> io::Result<Self> {
        let nowhere = OpenOptions::new().read(true).write(true).open("/dev/null")?;
        let absent = Some(Arc::default());
        Ok(Kernel { absent, ..Kernel::new(Arc::new(nowhere.into()), 0) })
    }

    /// The backing files that are registered with a kernel that is [`absent`](Self::absent).
    pub fn registered(&self) -> Option<Registered> {
        self.stand_in().map(|registered| registered.clone())
    }

    fn stand_in(&self) -> Option<MutexGuard<'_, Registered>> {
        let absent = self.absent.as_ref()?;
        Some(absent.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The number of the connection: the minor one of its mount's device.
    pub fn connection(&self) -> u32 {
        self.connection
    }

    /// Tells the kernel something: the bytes of one
    /// [`Notification`](crate::protocol::notify::Notification).
    ///
    /// ENOENT if the kernel knows nothing of what it is told about.
    pub fn notify(&self, notification: &[u8]) -> Result<(), Errno> {
        nix::unistd::write(&self.session, notification).map(drop)
    }

    /// Registers `file`, a regular file (O_PATH suffices), as a backing file.
    ///
    /// EPERM without CAP_SYS_ADMIN in the initial user namespace or without PASSTHROUGH
    /// negotiated; ELOOP if its file system is stacked too deep; EOPNOTSUPP if it is not regular.
    pub fn backing_open(&self, file: BorrowedFd<'_>) -> Result<BackingId, Errno> {
        if let Some(mut registered) = self.stand_in() {
            return registered.open(file);
        }
        let map = BackingMap { fd: file.as_raw_fd(), flags: 0, padding: 0 };
        let fd = self.session.as_raw_fd();
        // SAFETY: the ioctl reads one fuse_backing_map at the pointer, which outlives the call.
        let id = unsafe { libc::ioctl(fd, FUSE_DEV_IOC_BACKING_OPEN, &raw const map) };
        Errno::result(id).map(BackingId)
    }

    /// Releases a backing file; opens that use it go on.
    pub fn backing_close(&self, id: BackingId) -> Result<(), Errno> {
        if let Some(mut registered) = self.stand_in() {
            return registered.close(id);
        }
        let raw = u32::try_from(id.0).map_err(|_| Errno::EINVAL)?;
        let fd = self.session.as_raw_fd();
        // SAFETY: the ioctl reads one u32 at the pointer, which outlives the call.
        let result = unsafe { libc::ioctl(fd, FUSE_DEV_IOC_BACKING_CLOSE, &raw const raw) };
        Errno::result(result).map(drop)
    }
}

impl Registered {
    fn open(&mut self, file: BorrowedFd<'_>) -> Result<BackingId, Errno> {
        if fstat(file)?.st_mode & libc::S_IFMT != libc::S_IFREG {
            return Err(Errno::EOPNOTSUPP);
        }
        self.given += 1;
        self.ids.insert(self.given);
        Ok(BackingId(self.given))
    }

    fn close(&mut self, id: BackingId) -> Result<(), Errno> {
        if self.ids.remove(&id.0) {
            return Ok(());
        }
        self.mistakes += 1;
        Err(Errno::ENOENT)
    }
}

impl AsFd for Kernel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.session.as_fd()
    }
}
