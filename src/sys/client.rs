//! System calls that the load generator makes and `nix` does not have.
#![expect(unsafe_code, reason = "statx, getxattr and setxattr")]

use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;

/// statx(2) of `name` in `dir` that takes no answer from a cache (AT_STATX_FORCE_SYNC).
pub(crate) fn stat_forced(dir: BorrowedFd<'_>, name: &CStr) -> Result<(), Errno> {
    let flags = libc::AT_STATX_FORCE_SYNC | libc::AT_SYMLINK_NOFOLLOW;
    let mut answer = MaybeUninit::<libc::statx>::uninit();
    // SAFETY: the name ends with a NUL, and the answer is as large as the kernel writes; both outlive
    // the call, and nobody reads the answer.
    Errno::result(unsafe {
        libc::statx(
            dir.as_raw_fd(),
            name.as_ptr(),
            flags,
            libc::STATX_BASIC_STATS,
            answer.as_mut_ptr(),
        )
    })
    .map(drop)
}

/// getxattr(2): the length of the value.
pub(crate) fn getxattr(path: &CStr, name: &CStr, value: &mut [u8]) -> Result<usize, Errno> {
    // SAFETY: both texts end with a NUL; the kernel writes at most the length of `value` into it.
    let length = Errno::result(unsafe {
        libc::getxattr(path.as_ptr(), name.as_ptr(), value.as_mut_ptr().cast(), value.len())
    })?;
    Ok(usize::try_from(length).expect("Errno::result has taken the negative ones"))
}

/// setxattr(2), whether it exists or not.
pub(crate) fn setxattr(path: &CStr, name: &CStr, value: &[u8]) -> Result<(), Errno> {
    // SAFETY: both texts end with a NUL; the kernel only reads `value`, within its length.
    Errno::result(unsafe {
        libc::setxattr(path.as_ptr(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0)
    })
    .map(drop)
}
