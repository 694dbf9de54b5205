//! Questions to the kernel that `doctor` asks and `nix` can not.
#![expect(unsafe_code, reason = "fgetxattr(2) and io_uring_setup(2) take raw pointers")]

use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;

/// Whether files of the file system of `fd` can have `user.` extended attributes.
///
/// EOPNOTSUPP if not.
pub fn user_xattr(fd: BorrowedFd<'_>) -> Result<(), Errno> {
    let name = c"user.fusewire.probe";
    // SAFETY: the name is a C string that outlives the call; with a size of 0 the kernel writes
    // nothing through the value pointer.
    let size = unsafe { libc::fgetxattr(fd.as_raw_fd(), name.as_ptr(), std::ptr::null_mut(), 0) };
    match Errno::result(size) {
        // Nobody has set it, but somebody could.
        Ok(_) | Err(Errno::ENODATA) => Ok(()),
        Err(errno) => Err(errno),
    }
}

/// Whether this process may make an io_uring.
///
/// EPERM if kernel.io_uring_disabled or seccomp forbids it; ENOSYS if the kernel has none.
pub fn io_uring_setup() -> Result<(), Errno> {
    // SAFETY: the permission is checked first; after that the null pointer for the parameters is
    // refused with EFAULT, so the kernel neither writes nor makes anything.
    let result =
        unsafe { libc::syscall(libc::SYS_io_uring_setup, 1, std::ptr::null_mut::<libc::c_void>()) };
    match Errno::result(result) {
        Ok(_) | Err(Errno::EFAULT | Errno::EINVAL) => Ok(()),
        Err(errno) => Err(errno),
    }
}
