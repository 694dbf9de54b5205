//! File handles: name_to_handle_at(2) and open_by_handle_at(2).
#![expect(unsafe_code, reason = "struct file_handle has a flexible tail")]

use std::ffi::CStr;
use std::hash::{Hash, Hasher};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::errno::Errno;

/// Longest handle that is kept: ext4 has 8 bytes, xfs and tmpfs 12, btrfs 20, overlayfs 29 or more.
const BYTES_MAX: u8 = 40;

/// Inode number and generation, 32 bits each.
const FILEID_INO32_GEN: i32 = 1;

/// Identifies an inode of one file system for as long as it exists: unlike its number, it is not
/// given to a later inode, because it contains the generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
        Self::get(fd, c"", libc::AT_EMPTY_PATH)
    }

    /// The handle of `name` in the directory `dir`: the object itself, should it be a link.
    ///
    /// Errors as [`of`](Self::of), and those of looking a name up.
    pub fn at(dir: BorrowedFd<'_>, name: &CStr) -> Result<Self, Errno> {
        Self::get(dir, name, 0)
    }

    /// A handle that the kernel has told by other means; `None` if it is longer than any that is kept.
    pub(crate) fn new(kind: i32, handle: &[u8]) -> Option<Self> {
        let mut bytes = [0; BYTES_MAX as usize];
        bytes.get_mut(..handle.len())?.copy_from_slice(handle);
        Some(FileHandle { kind, len: u8::try_from(handle.len()).ok()?, bytes })
    }

    fn get(dir: BorrowedFd<'_>, name: &CStr, flags: i32) -> Result<Self, Errno> {
        let mut raw = Raw {
            handle_bytes: BYTES_MAX.into(),
            handle_type: 0,
            f_handle: [0; BYTES_MAX as usize],
        };
        let mut mount_id = 0;
        // SAFETY: `raw` is a file_handle with room for `handle_bytes` bytes behind its header,
        // `name` is a C string, and all three pointers outlive the call.
        let result = unsafe {
            libc::name_to_handle_at(
                dir.as_raw_fd(),
                name.as_ptr(),
                (&raw mut raw).cast(),
                &raw mut mount_id,
                flags,
            )
        };
        Errno::result(result)?;
        let len = u8::try_from(raw.handle_bytes).map_err(|_| Errno::EOVERFLOW)?;
        // The bytes behind `len` stay zero, so that equality sees the handle only.
        Ok(FileHandle { kind: raw.handle_type, len, bytes: raw.f_handle })
    }

    /// Inode number and generation, where the handle is nothing but those two
    /// (`FILEID_INO32_GEN`, as ext4 has).
    pub fn ino32(&self) -> Option<(u32, u32)> {
        let [a, b, c, d, e, f, g, h, ..] = self.bytes;
        let parts = (u32::from_ne_bytes([a, b, c, d]), u32::from_ne_bytes([e, f, g, h]));
        (self.kind == FILEID_INO32_GEN && self.len == 8).then_some(parts)
    }

    /// The handle of which [`ino32`](Self::ino32) tells these two.
    pub fn from_ino32(ino: u32, generation: u32) -> Self {
        let mut bytes = [0; BYTES_MAX as usize];
        bytes[..4].copy_from_slice(&ino.to_ne_bytes());
        bytes[4..8].copy_from_slice(&generation.to_ne_bytes());
        FileHandle { kind: FILEID_INO32_GEN, len: 8, bytes }
    }

    /// Whether it opens any inode of its number: file systems take generation 0, which programs that
    /// make images leave, for one that nobody has asked for (`ext4_nfs_get_inode`).
    pub fn is_vague(&self) -> bool {
        matches!(self.ino32(), Some((_, 0)))
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

/// The bytes that there are, not the room for more.
impl Hash for FileHandle {
    fn hash<H: Hasher>(&self, state: &mut H) {
        for word in self.bytes[..usize::from(self.len.min(BYTES_MAX))].chunks(8) {
            let mut padded = [0; 8];
            padded[..word.len()].copy_from_slice(word);
            state.write_u64(u64::from_ne_bytes(padded));
        }
    }
}
