//! The system calls that nix lacks, behind safe functions. The only module of the tests with `unsafe`.
//! It knows nothing of mounts and behaviours.
#![allow(
    unsafe_code,
    reason = "nix has no wrapper for these calls; each block says why it is sound"
)]

pub(crate) mod notify;

use std::ffi::{CStr, CString};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr;

use nix::errno::Errno;
use nix::fcntl::AT_FDCWD;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

/// What an extended-attribute call acts on.
#[derive(Clone, Copy)]
pub(crate) enum On<'a> {
    Path(&'a CStr),
    Link(&'a CStr),
    Fd(BorrowedFd<'a>),
}

/// `path` for a call that takes a C string.
pub(crate) fn c_path(path: &Path) -> Result<CString, Errno> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| Errno::EINVAL)
}

fn count(result: isize) -> Result<usize, Errno> {
    usize::try_from(result).map_err(|_| Errno::last())
}

/// setxattr(2) and its siblings.
pub(crate) fn set_xattr(on: On<'_>, name: &CStr, value: &[u8], flags: i32) -> Result<(), Errno> {
    let (data, len) = (value.as_ptr().cast(), value.len());
    // SAFETY: names are C strings and `data..len` is `value`, all of which outlive the call.
    let result = unsafe {
        match on {
            On::Path(path) => libc::setxattr(path.as_ptr(), name.as_ptr(), data, len, flags),
            On::Link(path) => libc::lsetxattr(path.as_ptr(), name.as_ptr(), data, len, flags),
            On::Fd(fd) => libc::fsetxattr(fd.as_raw_fd(), name.as_ptr(), data, len, flags),
        }
    };
    Errno::result(result).map(drop)
}

/// getxattr(2) into a buffer of `room` bytes: the length it returned and the bytes.
pub(crate) fn get_xattr(on: On<'_>, name: &CStr, room: usize) -> Result<(usize, Vec<u8>), Errno> {
    let mut buffer = vec![0u8; room];
    let data = buffer.as_mut_ptr().cast();
    // SAFETY: the kernel writes at most `room` bytes into `buffer`; with room 0 it writes nothing.
    let length = count(unsafe {
        match on {
            On::Path(path) => libc::getxattr(path.as_ptr(), name.as_ptr(), data, room),
            On::Link(path) => libc::lgetxattr(path.as_ptr(), name.as_ptr(), data, room),
            On::Fd(fd) => libc::fgetxattr(fd.as_raw_fd(), name.as_ptr(), data, room),
        }
    })?;
    buffer.truncate(length.min(room));
    Ok((length, buffer))
}

/// listxattr(2) into a buffer of `room` bytes: the length it returned and the bytes.
pub(crate) fn list_xattr(on: On<'_>, room: usize) -> Result<(usize, Vec<u8>), Errno> {
    let mut buffer = vec![0u8; room];
    let data = buffer.as_mut_ptr().cast();
    // SAFETY: the kernel writes at most `room` bytes into `buffer`; with room 0 it writes nothing.
    let length = count(unsafe {
        match on {
            On::Path(path) => libc::listxattr(path.as_ptr(), data, room),
            On::Link(path) => libc::llistxattr(path.as_ptr(), data, room),
            On::Fd(fd) => libc::flistxattr(fd.as_raw_fd(), data, room),
        }
    })?;
    buffer.truncate(length.min(room));
    Ok((length, buffer))
}

/// removexattr(2) and its siblings.
pub(crate) fn remove_xattr(on: On<'_>, name: &CStr) -> Result<(), Errno> {
    // SAFETY: both are C strings that outlive the call.
    let result = unsafe {
        match on {
            On::Path(path) => libc::removexattr(path.as_ptr(), name.as_ptr()),
            On::Link(path) => libc::lremovexattr(path.as_ptr(), name.as_ptr()),
            On::Fd(fd) => libc::fremovexattr(fd.as_raw_fd(), name.as_ptr()),
        }
    };
    Errno::result(result).map(drop)
}

/// statx(2).
pub(crate) fn statx(path: &Path, flags: i32, mask: u32) -> Result<libc::statx, Errno> {
    statx_at(AT_FDCWD, path, flags, mask)
}

/// statx(2) from `dir` on.
pub(crate) fn statx_at(
    dir: impl AsFd,
    path: &Path,
    flags: i32,
    mask: u32,
) -> Result<libc::statx, Errno> {
    let (dir, path) = (dir.as_fd().as_raw_fd(), c_path(path)?);
    let mut buffer = MaybeUninit::<libc::statx>::zeroed();
    // SAFETY: the kernel fills `buffer`, which is as large as the type that it expects.
    let result = unsafe { libc::statx(dir, path.as_ptr(), flags, mask, buffer.as_mut_ptr()) };
    Errno::result(result)?;
    // SAFETY: all-zero bytes are a valid `statx`, and the kernel has overwritten them.
    Ok(unsafe { buffer.assume_init() })
}

/// One entry of getdents64(2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Dirent {
    pub(crate) ino: u64,
    pub(crate) next: i64,
    pub(crate) kind: u8,
    pub(crate) name: Vec<u8>,
}

/// One call of getdents64(2) with a buffer of `room` bytes; no entries at the end.
pub(crate) fn getdents(fd: impl AsFd, room: usize) -> Result<Vec<Dirent>, Errno> {
    let mut buffer = vec![0u8; room];
    let raw = fd.as_fd().as_raw_fd();
    // SAFETY: the kernel writes at most `room` bytes into `buffer`.
    let filled = unsafe { libc::syscall(libc::SYS_getdents64, raw, buffer.as_mut_ptr(), room) };
    let filled = usize::try_from(filled).map_err(|_| Errno::last())?;
    let mut rest = &buffer[..filled];
    let mut entries = Vec::new();
    while rest.len() > 19 {
        let word = |at: usize| rest[at..at + 8].try_into().expect("eight bytes were sliced");
        let length = usize::from(u16::from_ne_bytes([rest[16], rest[17]]));
        let name = rest[19..length].split(|&byte| byte == 0).next().unwrap_or_default();
        entries.push(Dirent {
            ino: u64::from_ne_bytes(word(0)),
            next: i64::from_ne_bytes(word(8)),
            kind: rest[18],
            name: name.to_vec(),
        });
        rest = &rest[length..];
    }
    Ok(entries)
}

/// A mapping of a file, unmapped when dropped. Bytes are copied in and out, one volatile access
/// each, so no reference to shared memory exists.
pub(crate) struct Map {
    start: *mut u8,
    len: usize,
}

// SAFETY: the pointer is owned by this value alone and the mapping is not tied to a thread.
unsafe impl Send for Map {}

impl Map {
    /// mmap(2).
    pub(crate) fn new(
        fd: impl AsFd,
        offset: i64,
        len: usize,
        prot: i32,
        flags: i32,
    ) -> Result<Self, Errno> {
        let fd = fd.as_fd().as_raw_fd();
        // SAFETY: a new mapping at an address of the kernel's choice aliases nothing.
        let start = unsafe { libc::mmap(ptr::null_mut(), len, prot, flags, fd, offset) };
        if start == libc::MAP_FAILED {
            return Err(Errno::last());
        }
        Ok(Map { start: start.cast(), len })
    }

    /// `len` bytes at `offset`. Beyond the file's last page this raises SIGBUS, as it should.
    pub(crate) fn load(&self, offset: usize, len: usize) -> Vec<u8> {
        assert!(offset + len <= self.len, "load within the mapping");
        // SAFETY: within the mapping, which lives as long as `self`; u8 has no invalid values.
        (offset..offset + len).map(|at| unsafe { self.start.add(at).read_volatile() }).collect()
    }

    /// Puts `data` at `offset`.
    pub(crate) fn store(&self, offset: usize, data: &[u8]) {
        assert!(offset + data.len() <= self.len, "store within the mapping");
        for (at, &byte) in data.iter().enumerate() {
            // SAFETY: within the mapping, which lives as long as `self`.
            unsafe { self.start.add(offset + at).write_volatile(byte) };
        }
    }

    /// msync(2) of the whole mapping.
    pub(crate) fn sync(&self, flags: i32) -> Result<(), Errno> {
        // SAFETY: the range is the mapping of `self`.
        Errno::result(unsafe { libc::msync(self.start.cast(), self.len, flags) }).map(drop)
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        // SAFETY: the range is the mapping of `self`, which nobody uses any more.
        unsafe { libc::munmap(self.start.cast(), self.len) };
    }
}

/// FS_IOC_GETFLAGS.
pub(crate) fn get_flags(fd: impl AsFd) -> Result<libc::c_long, Errno> {
    let mut flags: libc::c_long = 0;
    // SAFETY: the kernel writes an int into `flags`, which is at least as large.
    let result =
        unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), libc::FS_IOC_GETFLAGS, &raw mut flags) };
    Errno::result(result).map(|_| flags)
}

/// FS_IOC_SETFLAGS.
pub(crate) fn set_flags(fd: impl AsFd, flags: libc::c_long) -> Result<(), Errno> {
    // SAFETY: the kernel reads an int out of `flags`, which is at least as large.
    let result =
        unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), libc::FS_IOC_SETFLAGS, &raw const flags) };
    Errno::result(result).map(drop)
}

/// An ioctl whose argument is 4096 bytes that start with `head`: enough to see whether it is known.
pub(crate) fn ioctl_buffer(fd: impl AsFd, request: u64, head: &[u8]) -> Result<i32, Errno> {
    let mut buffer = [0u8; 4096];
    buffer[..head.len()].copy_from_slice(head);
    // SAFETY: callers pass only requests whose argument fits into 4096 bytes.
    let result = unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), request, buffer.as_mut_ptr()) };
    Errno::result(result)
}

/// An ioctl whose argument is a number (FICLONE takes a descriptor).
pub(crate) fn ioctl_value(fd: impl AsFd, request: u64, value: i32) -> Result<i32, Errno> {
    // SAFETY: no memory is passed.
    Errno::result(unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), request, value) })
}

/// flock(2): nix's safe form closes over the file, which a script of operations cannot give up.
pub(crate) fn flock(fd: impl AsFd, operation: i32) -> Result<(), Errno> {
    // SAFETY: no memory is passed.
    Errno::result(unsafe { libc::flock(fd.as_fd().as_raw_fd(), operation) }).map(drop)
}

/// readahead(2).
pub(crate) fn readahead(fd: impl AsFd, offset: i64, len: usize) -> Result<(), Errno> {
    // SAFETY: no memory is passed.
    let result = unsafe { libc::readahead(fd.as_fd().as_raw_fd(), offset, len) };
    count(result).map(drop)
}

/// pwritev2(2) of one buffer, with these flags.
pub(crate) fn pwrite_flags(
    fd: impl AsFd,
    data: &[u8],
    offset: i64,
    flags: i32,
) -> Result<usize, Errno> {
    let slice = libc::iovec { iov_base: data.as_ptr().cast_mut().cast(), iov_len: data.len() };
    // SAFETY: the kernel only reads from `data`, which outlives the call, as does the one iovec.
    count(unsafe { libc::pwritev2(fd.as_fd().as_raw_fd(), &raw const slice, 1, offset, flags) })
}

/// sync_file_range(2) with wait, write, wait.
pub(crate) fn sync_file_range(fd: impl AsFd, offset: i64, len: i64) -> Result<(), Errno> {
    let flags = libc::SYNC_FILE_RANGE_WAIT_BEFORE
        | libc::SYNC_FILE_RANGE_WRITE
        | libc::SYNC_FILE_RANGE_WAIT_AFTER;
    // SAFETY: no memory is passed.
    Errno::result(unsafe { libc::sync_file_range(fd.as_fd().as_raw_fd(), offset, len, flags) })
        .map(drop)
}

/// renameat2(2) with any flags, also those that no kernel knows.
pub(crate) fn rename_flags(from: &Path, to: &Path, flags: u32) -> Result<(), Errno> {
    let (from, to) = (c_path(from)?, c_path(to)?);
    let at = libc::AT_FDCWD;
    // SAFETY: both paths are C strings that outlive the call.
    Errno::result(unsafe { libc::renameat2(at, from.as_ptr(), at, to.as_ptr(), flags) }).map(drop)
}

/// fallocate(2) with any mode, also those that no kernel knows.
pub(crate) fn fallocate(fd: impl AsFd, mode: i32, offset: i64, len: i64) -> Result<(), Errno> {
    // SAFETY: no memory is passed.
    Errno::result(unsafe { libc::fallocate(fd.as_fd().as_raw_fd(), mode, offset, len) }).map(drop)
}

/// copy_file_range(2) with any flags.
pub(crate) fn copy_file_range(
    from: (BorrowedFd<'_>, i64),
    to: (BorrowedFd<'_>, i64),
    len: usize,
) -> Result<usize, Errno> {
    let (mut offset_in, mut offset_out) = (from.1, to.1);
    // SAFETY: both offsets live on this stack frame for the whole call.
    count(unsafe {
        libc::copy_file_range(
            from.0.as_raw_fd(),
            &raw mut offset_in,
            to.0.as_raw_fd(),
            &raw mut offset_out,
            len,
            0,
        )
    })
}

/// Takes or gives back a lease on the open file `fd`: F_RDLCK, F_UNLCK.
pub(crate) fn set_lease(fd: impl AsFd, kind: i32) -> Result<(), Errno> {
    // SAFETY: F_SETLEASE takes one integer and touches no memory.
    let result = unsafe { libc::fcntl(fd.as_fd().as_raw_fd(), libc::F_SETLEASE, kind) };
    Errno::result(result).map(drop)
}

/// Leaves a signal without effect.
pub(crate) fn ignore_signal(signal: i32) {
    // SAFETY: ignoring a signal installs no handler.
    unsafe { libc::signal(signal, libc::SIG_IGN) };
}

/// Has a signal interrupt whatever this process waits for, twice a second, or no more.
pub(crate) fn interrupt(on: bool) -> Result<(), Errno> {
    extern "C" fn nothing(_: libc::c_int) {}
    let action = SigAction::new(SigHandler::Handler(nothing), SaFlags::empty(), SigSet::empty());
    let half = libc::timeval { tv_sec: 0, tv_usec: if on { 500_000 } else { 0 } };
    let timer = libc::itimerval { it_interval: half, it_value: half };
    // SAFETY: the handler does nothing, which is safe at any time.
    unsafe { sigaction(Signal::SIGALRM, &action) }?;
    // SAFETY: the timer outlives the call, and nobody asks for the one before.
    let result = unsafe { libc::setitimer(libc::ITIMER_REAL, &raw const timer, ptr::null_mut()) };
    Errno::result(result).map(drop)
}
