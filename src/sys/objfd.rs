//! Operations on an object that is held by an O_PATH descriptor.
//!
//! What has no call that takes such a descriptor goes through its /proc/self/fd link, which the
//! kernel resolves to the very object, a symbolic link included (`nd_jump_link`).
#![expect(unsafe_code, reason = "statx, getdents64, xattr and ioctl calls that nix does not have")]

use std::ffi::CStr;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{FchmodatFlags, Mode, fchmodat};
use zerocopy::FromZeros;

use crate::abi;

/// The directory of this process's descriptors, without its slash and the descriptor's number.
const LINKS: &CStr = c"/proc/self/fd";

/// The /proc/self/fd link of a descriptor, on the stack.
pub(crate) struct ProcLink([u8; 32]);

impl ProcLink {
    pub(crate) fn new(fd: BorrowedFd<'_>) -> Self {
        let mut path = [0; 32];
        let links = LINKS.to_str().expect("ASCII");
        write!(&mut path[..31], "{links}/{}", fd.as_raw_fd()).expect("fits in 31 bytes");
        ProcLink(path)
    }

    /// Its path, for calls that take no directory.
    pub(crate) fn path(&self) -> &CStr {
        CStr::from_bytes_until_nul(&self.0).expect("the last byte is always zero")
    }

    /// Its name in [`links`].
    pub(crate) fn name(&self) -> &CStr {
        let name = &self.0[LINKS.count_bytes() + 1..];
        CStr::from_bytes_until_nul(name).expect("the last byte is always zero")
    }
}

/// The directory of [`ProcLink`]s, opened once: a walk to it costs a microsecond. Not to be called
/// before the process has gone to the background, which is another process.
pub(crate) fn links() -> Result<BorrowedFd<'static>, Errno> {
    static DIRECTORY: OnceLock<OwnedFd> = OnceLock::new();
    if let Some(directory) = DIRECTORY.get() {
        return Ok(directory.as_fd());
    }
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let directory = nix::fcntl::open(LINKS, flags, Mode::empty())?;
    Ok(DIRECTORY.get_or_init(|| directory).as_fd())
}

/// A system call that older kernels do not have: asked for until it is answered ENOSYS.
struct Recent {
    number: libc::c_long,
    missing: AtomicBool,
}

impl Recent {
    const fn new(number: libc::c_long) -> Self {
        Recent { number, missing: AtomicBool::new(false) }
    }

    /// Its result from `call`; `None` where this kernel does not have it.
    fn call<T>(
        &self,
        call: impl FnOnce(libc::c_long) -> Result<T, Errno>,
    ) -> Option<Result<T, Errno>> {
        if self.missing.load(Relaxed) {
            return None;
        }
        match call(self.number) {
            Err(Errno::ENOSYS) => {
                self.missing.store(true, Relaxed);
                None
            }
            result => Some(result),
        }
    }
}

/// Opens the object itself, for reading and so on as `flags` say; see [`without_name`].
pub(crate) fn reopen(fd: BorrowedFd<'_>, flags: OFlag) -> Result<OwnedFd, Errno> {
    let flags = without_name(flags) | OFlag::O_CLOEXEC;
    nix::fcntl::openat(links()?, ProcLink::new(fd).name(), flags, Mode::empty())
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
    let flags = libc::AT_EMPTY_PATH;
    // SAFETY: a C string and an array of two timespecs, both outlive the call.
    let result = unsafe { libc::utimensat(fd.as_raw_fd(), c"".as_ptr(), times.as_ptr(), flags) };
    Errno::result(result).map(drop)
}

/// chmod(2) of the object itself, whatever it is.
pub(crate) fn set_mode(fd: BorrowedFd<'_>, mode: Mode) -> Result<(), Errno> {
    /// Since Linux 6.6.
    static FCHMODAT2: Recent = Recent::new(libc::SYS_fchmodat2);
    let done = FCHMODAT2.call(|number| {
        let (fd, flags) = (fd.as_raw_fd(), libc::AT_EMPTY_PATH);
        // SAFETY: a C string that outlives the call, and integers.
        let result = unsafe { libc::syscall(number, fd, c"".as_ptr(), mode.bits(), flags) };
        Errno::result(result).map(drop)
    });
    done.unwrap_or_else(|| {
        let link = ProcLink::new(fd);
        fchmodat(links()?, link.name(), mode, FchmodatFlags::FollowSymlink)
    })
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
    /// Since Linux 6.13. Not with AT_EMPTY_PATH, which an O_PATH descriptor is refused for.
    static GETXATTRAT: Recent = Recent::new(464);
    let link = ProcLink::new(fd);
    let asked = GETXATTRAT.call(|number| {
        let room = u32::try_from(value.len()).map_err(|_| Errno::E2BIG)?;
        let arguments = XattrArguments { value: value.as_mut_ptr() as u64, size: room, flags: 0 };
        // SAFETY: C strings, and a structure of the size that is told; all outlive the call, which
        // writes at most `room` bytes to the borrowed buffer.
        let count = unsafe {
            libc::syscall(
                number,
                links()?.as_raw_fd(),
                link.name().as_ptr(),
                0,
                name.as_ptr(),
                &raw const arguments,
                size_of::<XattrArguments>(),
            )
        };
        size(count)
    });
    asked.unwrap_or_else(|| {
        // SAFETY: C strings that outlive the call; at most `len` bytes go to the borrowed buffer.
        let count = unsafe {
            libc::getxattr(
                link.path().as_ptr(),
                name.as_ptr(),
                value.as_mut_ptr().cast(),
                value.len(),
            )
        };
        size(count)
    })
}

/// getxattr(2) on an open file; an empty `value` asks for the length.
pub(crate) fn fgetxattr(file: &File, name: &CStr, value: &mut [u8]) -> Result<usize, Errno> {
    let fd = file.as_raw_fd();
    // SAFETY: a C string that outlives the call; at most `len` bytes go to the borrowed buffer.
    let count =
        unsafe { libc::fgetxattr(fd, name.as_ptr(), value.as_mut_ptr().cast(), value.len()) };
    size(count)
}

/// `struct xattr_args`.
#[repr(C)]
struct XattrArguments {
    value: u64,
    size: u32,
    flags: u32,
}

/// listxattr(2) on the object; an empty `list` asks for the length.
pub(crate) fn listxattr(fd: BorrowedFd<'_>, list: &mut [u8]) -> Result<usize, Errno> {
    let link = ProcLink::new(fd);
    // SAFETY: a C string that outlives the call; at most `len` bytes go to the borrowed buffer.
    let count =
        unsafe { libc::listxattr(link.path().as_ptr(), list.as_mut_ptr().cast(), list.len()) };
    size(count)
}

/// setxattr(2) on the object.
pub(crate) fn setxattr(
    fd: BorrowedFd<'_>,
    name: &CStr,
    value: &[u8],
    flags: i32,
) -> Result<(), Errno> {
    let link = ProcLink::new(fd);
    // SAFETY: C strings and `len` readable bytes, all outlive the call.
    let result = unsafe {
        libc::setxattr(
            link.path().as_ptr(),
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
    let link = ProcLink::new(fd);
    // SAFETY: C strings that outlive the call.
    let result = unsafe { libc::removexattr(link.path().as_ptr(), name.as_ptr()) };
    Errno::result(result).map(drop)
}

/// An ioctl that acts on the file and nothing else, and whose permission the kernel checks before it
/// sends it (`vfs_fileattr_set`): FS_IOC_{GET,SET}FLAGS, FS_IOC_GETVERSION, FS_IOC_FS{GET,SET}XATTR.
/// Its argument is the first bytes of `argument`, read and written in place. ENOTTY for any other.
pub(crate) fn ioctl(fd: BorrowedFd<'_>, cmd: u32, argument: &mut [u8; 64]) -> Result<i32, Errno> {
    const COMMANDS: [u32; 5] = [0x8008_6601, 0x4008_6602, 0x8008_7601, 0x801c_581f, 0x401c_5820];
    if !COMMANDS.contains(&cmd) {
        return Err(Errno::ENOTTY);
    }
    // SAFETY: the commands above have arguments of at most 28 bytes, in or out, and `argument` has
    // 64 that are exclusively borrowed for the call.
    let result =
        unsafe { libc::ioctl(fd.as_raw_fd(), libc::c_ulong::from(cmd), argument.as_mut_ptr()) };
    Errno::result(result)
}

/// pwritev2(2) that appends, or writes at `offset`, whichever the file was opened for.
pub(crate) fn pwrite_as_told(
    fd: BorrowedFd<'_>,
    data: &[u8],
    offset: i64,
    appends: bool,
) -> Result<usize, Errno> {
    const RWF_NOAPPEND: libc::c_int = 0x20;
    let flags = if appends { libc::RWF_APPEND } else { RWF_NOAPPEND };
    let iov = libc::iovec { iov_base: data.as_ptr().cast_mut().cast(), iov_len: data.len() };
    // SAFETY: one iovec over `len` bytes that the kernel only reads; both outlive the call.
    let count = unsafe { libc::pwritev2(fd.as_raw_fd(), &raw const iov, 1, offset, flags) };
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

/// Whether all of a range of a file is in memory; false where the kernel can not tell (cachestat(2)
/// came with Linux 6.5). A range must not be empty.
pub(crate) fn is_cached(fd: BorrowedFd<'_>, offset: u64, len: u64) -> bool {
    const SYS_CACHESTAT: libc::c_long = 451;
    const PAGE: u64 = 4096;
    let (range, mut counts) = ([offset, len], [0_u64; 5]);
    // SAFETY: the kernel reads two words, the range, and writes five, of which the first counts the
    // pages that are there; both outlive the call.
    let result = unsafe {
        libc::syscall(SYS_CACHESTAT, fd.as_raw_fd(), range.as_ptr(), counts.as_mut_ptr(), 0)
    };
    let pages = (offset.saturating_add(len).div_ceil(PAGE)).saturating_sub(offset / PAGE);
    result == 0 && counts[0] >= pages
}

/// What a call of type ssize_t returned.
fn size(count: impl TryInto<usize>) -> Result<usize, Errno> {
    count.try_into().map_err(|_| Errno::last())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn no_ioctl_is_passed_on_whose_argument_may_be_something_else() {
        let file = tempfile::tempfile().expect("a temporary file");
        // TCGETS, FIFREEZE, FS_IOC_FIEMAP, FICLONE: some take pointers, or none of these bytes.
        for cmd in [0x5401, 0xc004_5877, 0xc020_660b, 0x4004_9409] {
            assert_eq!(ioctl(file.as_fd(), cmd, &mut [0; 64]), Err(Errno::ENOTTY), "{cmd:#x}");
        }
    }

    #[test]
    fn what_is_in_memory_is_told_from_what_is_not() {
        let mut file = tempfile::tempfile().expect("a temporary file");
        file.write_all(&[1; 10_000]).and_then(|()| file.sync_all()).expect("write");
        for (offset, len) in [(0, 10_000), (0, 1), (4095, 2), (8192, 1808), (9999, 1)] {
            assert!(is_cached(file.as_fd(), offset, len), "{len} bytes at {offset}");
        }
        assert!(!is_cached(file.as_fd(), 0, 20_000), "there is nothing behind its end");
        file.set_len(1 << 20).expect("truncate");
        assert!(!is_cached(file.as_fd(), 500_000, 10_000), "nobody has read the hole");
        assert!(!is_cached(file.as_fd(), 0, 500_000), "nor all of this");
        let null = File::open("/dev/null").expect("every machine has it");
        assert!(!is_cached(null.as_fd(), 0, 1));
    }
}
