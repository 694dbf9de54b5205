//! Operations on an object that is held by an O_PATH descriptor.
//!
//! What has no call that takes such a descriptor goes through its /proc/self/fd link, which the
//! kernel resolves to the very object, a symbolic link included (`nd_jump_link`).
#![expect(unsafe_code, reason = "statx, getdents64, xattr and ioctl calls that nix does not have")]

use std::ffi::CStr;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use zerocopy::FromZeros;

use crate::abi;

/// The /proc/self/fd path of a descriptor, on the stack.
pub(crate) struct ProcPath([u8; 32]);

impl ProcPath {
    pub(crate) fn new(fd: BorrowedFd<'_>) -> Self {
        let mut path = [0; 32];
        write!(&mut path[..31], "/proc/self/fd/{}", fd.as_raw_fd()).expect("fits in 31 bytes");
        ProcPath(path)
    }

    pub(crate) fn as_c_str(&self) -> &CStr {
        CStr::from_bytes_until_nul(&self.0).expect("the last byte is always zero")
    }
}

/// Opens the object itself, for reading and so on as `flags` say; see [`without_name`].
pub(crate) fn reopen(fd: BorrowedFd<'_>, flags: OFlag) -> Result<OwnedFd, Errno> {
    let flags = without_name(flags) | OFlag::O_CLOEXEC;
    nix::fcntl::open(ProcPath::new(fd).as_c_str(), flags, Mode::empty())
}

/// `flags` without those that would look up or create a name: what is opened is an object.
pub(crate) fn without_name(flags: OFlag) -> OFlag {
    flags - OFlag::O_CREAT - OFlag::O_EXCL - OFlag::O_NOFOLLOW - OFlag::O_NOCTTY
}

/// statx(2) of the object, as FUSE's bit-compatible structure.
pub(crate) fn statx(fd: BorrowedFd<'_>, flags: i32, mask: u32) -> Result<abi::Statx, Errno> {
    let mut stat = abi::Statx::new_zeroed();
    // SAFETY: abi::Statx is 256 bytes long and laid out as struct statx; both pointers outlive the
    // call, and any bytes the kernel writes are valid integers.
    let result = unsafe {
        libc::statx(
            fd.as_raw_fd(),
            c"".as_ptr(),
            flags | libc::AT_EMPTY_PATH,
            mask,
            (&raw mut stat).cast(),
        )
    };
    Errno::result(result)?;
    Ok(stat)
}

/// What direct I/O on the object demands of offsets and sizes, bytes, a power of two; 1 if unknown.
pub(crate) fn direct_alignment(fd: BorrowedFd<'_>) -> u32 {
    const STATX_DIOALIGN: u32 = 0x2000;
    let Ok(stat) = statx(fd, 0, STATX_DIOALIGN) else { return 1 };
    // Behind stx_mnt_id lie stx_dio_mem_align and stx_dio_offset_align, 32 bits each.
    let [.., a, b, c, d] = stat.spare2[1].to_ne_bytes();
    match u32::from_ne_bytes([a, b, c, d]) {
        align if stat.mask & STATX_DIOALIGN != 0 && align.is_power_of_two() => align,
        _ => 1,
    }
}

/// utimensat(2) on the object.
pub(crate) fn set_times(fd: BorrowedFd<'_>, times: [libc::timespec; 2]) -> Result<(), Errno> {
    let path = ProcPath::new(fd);
    // SAFETY: a C string and an array of two timespecs, both outlive the call.
    let result =
        unsafe { libc::utimensat(libc::AT_FDCWD, path.as_c_str().as_ptr(), times.as_ptr(), 0) };
    Errno::result(result).map(drop)
}

/// Reads entries of a directory; 0 at its end.
pub(crate) fn getdents64(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<usize, Errno> {
    // SAFETY: the kernel writes at most `len` bytes to the exclusively borrowed buffer.
    let count = unsafe {
        libc::syscall(libc::SYS_getdents64, fd.as_raw_fd(), buffer.as_mut_ptr(), buffer.len())
    };
    size(count)
}

/// Reads the target of a symbolic link into `target`, which must have room for one byte more than
/// the longest there is: what does not fit would be cut silently.
pub(crate) fn readlink(fd: BorrowedFd<'_>, target: &mut [u8]) -> Result<usize, Errno> {
    // SAFETY: a C string; the kernel writes at most `len` bytes to the borrowed buffer.
    let count = unsafe {
        libc::readlinkat(fd.as_raw_fd(), c"".as_ptr(), target.as_mut_ptr().cast(), target.len())
    };
    size(count)
}

/// getxattr(2) on the object; an empty `value` asks for the length.
pub(crate) fn getxattr(fd: BorrowedFd<'_>, name: &CStr, value: &mut [u8]) -> Result<usize, Errno> {
    let path = ProcPath::new(fd);
    // SAFETY: C strings that outlive the call; at most `len` bytes go to the borrowed buffer.
    let count = unsafe {
        libc::getxattr(
            path.as_c_str().as_ptr(),
            name.as_ptr(),
            value.as_mut_ptr().cast(),
            value.len(),
        )
    };
    size(count)
}

/// listxattr(2) on the object; an empty `list` asks for the length.
pub(crate) fn listxattr(fd: BorrowedFd<'_>, list: &mut [u8]) -> Result<usize, Errno> {
    let path = ProcPath::new(fd);
    // SAFETY: a C string that outlives the call; at most `len` bytes go to the borrowed buffer.
    let count =
        unsafe { libc::listxattr(path.as_c_str().as_ptr(), list.as_mut_ptr().cast(), list.len()) };
    size(count)
}

/// setxattr(2) on the object.
pub(crate) fn setxattr(
    fd: BorrowedFd<'_>,
    name: &CStr,
    value: &[u8],
    flags: i32,
) -> Result<(), Errno> {
    let path = ProcPath::new(fd);
    // SAFETY: C strings and `len` readable bytes, all outlive the call.
    let result = unsafe {
        libc::setxattr(
            path.as_c_str().as_ptr(),
            name.as_ptr(),
            value.as_ptr().cast(),
            value.len(),
            flags,
        )
    };
    Errno::result(result).map(drop)
}

/// removexattr(2) on the object.
pub(crate) fn removexattr(fd: BorrowedFd<'_>, name: &CStr) -> Result<(), Errno> {
    let path = ProcPath::new(fd);
    // SAFETY: C strings that outlive the call.
    let result = unsafe { libc::removexattr(path.as_c_str().as_ptr(), name.as_ptr()) };
    Errno::result(result).map(drop)
}

/// An ioctl whose argument is exactly the bytes of `argument`, read and written in place.
pub(crate) fn ioctl(fd: BorrowedFd<'_>, cmd: u32, argument: &mut [u8; 64]) -> Result<i32, Errno> {
    // SAFETY: the callers' list of commands has arguments of at most 28 bytes, in or out, and
    // `argument` has 64 that are exclusively borrowed for the call.
    let result =
        unsafe { libc::ioctl(fd.as_raw_fd(), libc::c_ulong::from(cmd), argument.as_mut_ptr()) };
    Errno::result(result)
}

/// pwritev2(2) with RWF_NOAPPEND: at `offset` even if the file was opened with O_APPEND.
pub(crate) fn pwrite_noappend(
    fd: BorrowedFd<'_>,
    data: &[u8],
    offset: i64,
) -> Result<usize, Errno> {
    const RWF_NOAPPEND: libc::c_int = 0x20;
    let iov = libc::iovec { iov_base: data.as_ptr().cast_mut().cast(), iov_len: data.len() };
    // SAFETY: one iovec over `len` bytes that the kernel only reads; both outlive the call.
    let count = unsafe { libc::pwritev2(fd.as_raw_fd(), &raw const iov, 1, offset, RWF_NOAPPEND) };
    size(count)
}

/// Reads a range of a file if all of it is in memory; `None` if it is not, or there was an error
/// that a read which may wait will tell.
pub(crate) fn read_cached(file: &File, offset: u64, buffer: &mut [u8]) -> Option<usize> {
    let offset = i64::try_from(offset).ok()?;
    let iov = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    let fd = file.as_raw_fd();
    // SAFETY: one iovec over the exclusively borrowed buffer; both outlive the call.
    let count = unsafe { libc::preadv2(fd, &raw const iov, 1, offset, libc::RWF_NOWAIT) };
    let count = usize::try_from(count).ok()?;
    let at_end = || {
        let size = file.metadata().ok()?.len();
        (u64::try_from(offset).ok()? + count as u64 >= size).then_some(count)
    };
    if count == buffer.len() { Some(count) } else { at_end() }
}

/// What a call of type ssize_t returned.
fn size(count: impl TryInto<usize>) -> Result<usize, Errno> {
    count.try_into().map_err(|_| Errno::last())
}
