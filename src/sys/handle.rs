//! File handles: name_to_handle_at(2) and open_by_handle_at(2).
#![expect(unsafe_code, reason = "struct file_handle has a flexible tail")]

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::errno::Errno;

/// Longest handle that is kept: ext4 has 8 bytes, xfs and tmpfs 12, btrfs 20, overlayfs 29 or more.
const BYTES_MAX: u8 = 40;

/// Identifies an inode of one file system for as long as it exists: unlike its number, it is not
/// given to a later inode, because it contains the generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FileHandle {
    kind: i32,
    len: u8,
    bytes: [u8; BYTES_MAX as usize],
}

#[repr(C)]
struct Raw {
    handle_bytes: u32,
    handle_type: i32,
    f_handle: [u8; BYTES_MAX as usize],
}

impl FileHandle {
    /// The handle of what `fd` refers to (O_PATH suffices).
    ///
    /// EOPNOTSUPP if its file system has none; EOVERFLOW if they are longer than 40 bytes.
    pub fn of(fd: BorrowedFd<'_>) -> Result<Self, Errno> {
        let mut raw = Raw {
            handle_bytes: BYTES_MAX.into(),
            handle_type: 0,
            f_handle: [0; BYTES_MAX as usize],
        };
        let mut mount_id = 0;
        // SAFETY: `raw` is a file_handle with room for `handle_bytes` bytes behind its header, the
        // path is an empty C string, and all three pointers outlive the call.
        let result = unsafe {
            libc::name_to_handle_at(
                fd.as_raw_fd(),
                c"".as_ptr(),
                (&raw mut raw).cast(),
                &raw mut mount_id,
                libc::AT_EMPTY_PATH,
            )
        };
        Errno::result(result)?;
        let len = u8::try_from(raw.handle_bytes).map_err(|_| Errno::EOVERFLOW)?;
        // The bytes behind `len` stay zero, so that equality and hash see the handle only.
        Ok(FileHandle { kind: raw.handle_type, len, bytes: raw.f_handle })
    }

    /// Opens the inode; `mount` is a directory of its file system, not opened with O_PATH.
    ///
    /// ESTALE if it is gone; EPERM without CAP_DAC_READ_SEARCH.
    pub fn open(&self, mount: BorrowedFd<'_>, flags: i32) -> Result<OwnedFd, Errno> {
        let mut raw =
            Raw { handle_bytes: u32::from(self.len), handle_type: self.kind, f_handle: self.bytes };
        // SAFETY: `raw` is a file_handle of `handle_bytes` valid bytes that outlives the call.
        let fd = unsafe {
            libc::open_by_handle_at(
                mount.as_raw_fd(),
                (&raw mut raw).cast(),
                flags | libc::O_CLOEXEC,
            )
        };
        let fd = Errno::result(fd)?;
        // SAFETY: the call just returned this descriptor to us alone.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    }
}
