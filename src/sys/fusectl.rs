//! The control file system of FUSE, on a mount that nobody else sees: whether and where the machine
//! has it mounted does not matter.
#![expect(unsafe_code, reason = "fsopen, fsconfig and fsmount")]

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;

use super::mount::owned;

const FSOPEN_CLOEXEC: libc::c_uint = 1;
const FSMOUNT_CLOEXEC: libc::c_uint = 1;
const FSCONFIG_CMD_CREATE: libc::c_uint = 6;

/// Opens the file that aborts the connection of a number, which is the minor one of its mount's
/// device, at the first write. Harmless once the connection is over.
///
/// EPERM without CAP_SYS_ADMIN; ENOENT if there is no such connection.
pub fn abort_file(connection: u32) -> io::Result<OwnedFd> {
    // SAFETY: fsopen takes a C string that outlives the call, and flags; it makes a descriptor.
    let context =
        unsafe { owned(libc::syscall(libc::SYS_fsopen, c"fusectl".as_ptr(), FSOPEN_CLOEXEC)) }?;
    let none = std::ptr::null::<libc::c_char>();
    // SAFETY: FSCONFIG_CMD_CREATE takes neither key nor value.
    let created = unsafe {
        let fd = context.as_raw_fd();
        libc::syscall(libc::SYS_fsconfig, fd, FSCONFIG_CMD_CREATE, none, none, 0)
    };
    Errno::result(created)?;
    // SAFETY: fsmount takes a descriptor and flags; it makes a descriptor.
    let mount = unsafe {
        owned(libc::syscall(libc::SYS_fsmount, context.as_raw_fd(), FSMOUNT_CLOEXEC, 0))
    }?;
    let path = format!("{connection}/abort");
    Ok(openat(&mount, path.as_str(), OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::empty())?)
}
