//! Mounting: a private view of the source, mount(2) or fusermount3 for the FUSE side, and the way
//! back.
#![expect(unsafe_code, reason = "open_tree and mount_setattr; descriptors from SCM_RIGHTS")]

use std::ffi::CString;
use std::io::{self, IoSliceMut, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl, openat};
use nix::mount::{MntFlags, MsFlags, umount2};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use nix::sys::stat::Mode;
use nix::sys::statvfs::{FsFlags, fstatvfs};

use super::objfd;
use crate::config::MountOptions;

/// The source directory as the daemon reaches it.
#[derive(Debug)]
pub struct SourceRoot {
    /// O_PATH descriptor of the directory.
    pub root: OwnedFd,
    /// Whether it lies on a mount of its own that nobody else sees: what is mounted inside the
    /// source (the FUSE mount itself, for one) does not show there, and its flags are ours.
    pub private: bool,
    /// The directory on the source's own mount: while it is held, an unmount of the source is
    /// refused with EBUSY, as while any directory of it is open.
    pub held: Option<OwnedFd>,
    /// Options of the source's own mount, which hold for whatever shows it: a program with
    /// set-user-id on a nosuid source gains nothing through FUSE.
    pub inherited: MountOptions,
}

/// Opens `source` through a private clone of its mount, or directly where that is not allowed.
///
/// The clone is detached and not recursive, as `mount --bind`; `ro` and `noatime` are put on it so
/// that I/O which the kernel passes through honours them.
pub fn open_source(source: &Path, options: &MountOptions) -> io::Result<SourceRoot> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let direct = nix::fcntl::open(source, flags, Mode::empty())?;
    let inherited = inherited(&direct)?;
    let private = match clone_mount(direct.as_fd()) {
        Ok(tree) => tree,
        Err(Errno::EPERM | Errno::ENOSYS | Errno::EINVAL) => {
            return Ok(SourceRoot { root: direct, private: false, held: None, inherited });
        }
        Err(errno) => return Err(errno.into()),
    };
    let mut set = 0;
    if options.ro {
        set |= libc::MOUNT_ATTR_RDONLY;
    }
    if options.noatime {
        set |= libc::MOUNT_ATTR_NOATIME;
    }
    set_attributes(
        private.as_fd(),
        set,
        if options.noatime { libc::MOUNT_ATTR__ATIME } else { 0 },
    )?;
    let root = openat(&private, c".", flags, Mode::empty())?;
    Ok(SourceRoot { root, private: true, held: Some(direct), inherited })
}

fn inherited(source: &OwnedFd) -> io::Result<MountOptions> {
    let flags = fstatvfs(source)?.flags();
    Ok(MountOptions {
        ro: flags.contains(FsFlags::ST_RDONLY),
        nosuid: flags.contains(FsFlags::ST_NOSUID),
        nodev: flags.contains(FsFlags::ST_NODEV),
        noexec: flags.contains(FsFlags::ST_NOEXEC),
        noatime: flags.contains(FsFlags::ST_NOATIME),
        ..MountOptions::default()
    })
}

fn clone_mount(directory: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    const OPEN_TREE_CLONE: libc::c_uint = 1;
    let flags =
        OPEN_TREE_CLONE | libc::O_CLOEXEC.cast_unsigned() | libc::AT_EMPTY_PATH.cast_unsigned();
    let fd = directory.as_raw_fd();
    // SAFETY: open_tree takes a descriptor, an empty C string that outlives the call, and flags; it
    // makes a descriptor.
    unsafe { owned(libc::syscall(libc::SYS_open_tree, fd, c"".as_ptr(), flags)) }
}

fn set_attributes(tree: BorrowedFd<'_>, set: u64, clear: u64) -> Result<(), Errno> {
    let attributes = libc::mount_attr {
        attr_set: set,
        attr_clr: clear,
        // Never receive a mount that is made below the source later.
        propagation: libc::MS_PRIVATE,
        userns_fd: 0,
    };
    // SAFETY: mount_setattr reads `size` bytes of the structure, which outlives the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const attributes,
            size_of_val(&attributes),
        )
    };
    Errno::result(result).map(drop)
}

/// The descriptor that a system call has made, or its error.
///
/// # Safety
/// `result` is what a system call just returned that makes a descriptor.
pub(super) unsafe fn owned(result: libc::c_long) -> Result<OwnedFd, Errno> {
    let fd = RawFd::try_from(Errno::result(result)?).map_err(|_| Errno::EBADF)?;
    // SAFETY: as the caller promises, the kernel has given this descriptor to nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// What a FUSE mount is made of.
#[derive(Debug)]
pub struct FuseMount<'a> {
    /// Where it shows.
    pub mountpoint: &'a Path,
    /// The device name that `mount` shows.
    pub fsname: &'a str,
    /// The type is `fuse.SUBTYPE`.
    pub subtype: &'a str,
    /// Its options.
    pub options: &'a MountOptions,
}

/// Mounts with mount(2); EPERM means that [`via_fusermount`] may still work.
pub fn direct(mount: &FuseMount<'_>) -> io::Result<OwnedFd> {
    let device = super::fuse_dev::open()?;
    let (uid, gid) = (nix::unistd::getuid(), nix::unistd::getgid());
    let fd = device.as_raw_fd();
    let mut data = format!("fd={fd},rootmode=40000,user_id={uid},group_id={gid}");
    let options = mount.options;
    // Which of them are a file system's own, and not flags.
    let own = |name: &&str| ["allow_other", "default_permissions"].contains(name);
    for option in options.names().filter(own) {
        data.push(',');
        data.push_str(option);
    }
    let mut flags = MsFlags::empty();
    flags.set(MsFlags::MS_RDONLY, options.ro);
    flags.set(MsFlags::MS_NOSUID, options.nosuid);
    flags.set(MsFlags::MS_NODEV, options.nodev);
    flags.set(MsFlags::MS_NOEXEC, options.noexec);
    flags.set(MsFlags::MS_NOATIME, options.noatime);
    let fstype = format!("fuse.{}", mount.subtype);
    nix::mount::mount(
        Some(mount.fsname),
        mount.mountpoint,
        Some(fstype.as_str()),
        flags,
        Some(data.as_str()),
    )?;
    Ok(device)
}

/// Mounts through fusermount3, which is set-user-id root, for a user who may not mount.
pub fn via_fusermount(mount: &FuseMount<'_>) -> io::Result<OwnedFd> {
    let (ours, theirs) = UnixStream::pair()?;
    // fusermount3 inherits its end by number.
    fcntl(&theirs, FcntlArg::F_SETFD(FdFlag::empty()))?;
    let escape = |text: &str| text.replace('\\', "\\\\").replace(',', "\\,");
    let mut options = format!("fsname={},subtype={}", escape(mount.fsname), escape(mount.subtype));
    for option in mount.options.names() {
        options.push(',');
        options.push_str(option);
    }
    let mut child = Command::new("fusermount3")
        .arg("-o")
        .arg(options)
        .arg("--")
        .arg(mount.mountpoint)
        .env("_FUSE_COMMFD", theirs.as_raw_fd().to_string())
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    drop(theirs);
    let device = receive_descriptor(&ours);
    let mut complaint = String::new();
    if let Some(mut stderr) = child.stderr.take() {
        stderr.read_to_string(&mut complaint)?;
    }
    let status = child.wait()?;
    match device {
        Ok(Some(device)) if status.success() => Ok(device),
        _ => Err(io::Error::other(match complaint.trim() {
            "" => format!("fusermount3: {status}"),
            text => text.to_owned(),
        })),
    }
}

fn receive_descriptor(socket: &UnixStream) -> io::Result<Option<OwnedFd>> {
    let mut byte = [0; 1];
    let mut iov = [IoSliceMut::new(&mut byte)];
    let mut space = nix::cmsg_space!(RawFd);
    let flags = MsgFlags::MSG_CMSG_CLOEXEC;
    let message = recvmsg::<()>(socket.as_raw_fd(), &mut iov, Some(&mut space), flags)?;
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(fds) = control
            && let Some(&fd) = fds.first()
        {
            // SAFETY: the kernel installed this descriptor for us with this message.
            return Ok(Some(unsafe { OwnedFd::from_raw_fd(fd) }));
        }
    }
    Ok(None)
}

/// The number of the mount on top at `mountpoint`, which no other is given even after it; `None` before
/// Linux 6.8, and if it can not be looked at. Whoever serves a FUSE mount is not asked.
pub fn unique_id(mountpoint: &Path) -> Option<u64> {
    const STATX_MNT_ID_UNIQUE: u32 = 0x4000;
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let root = nix::fcntl::open(mountpoint, flags, Mode::empty()).ok()?;
    let asked = objfd::statx(root.as_fd(), libc::AT_STATX_DONT_SYNC, STATX_MNT_ID_UNIQUE);
    let stat = asked.ok().filter(|stat| stat.mask & STATX_MNT_ID_UNIQUE != 0)?;
    // stx_mnt_id lies behind the device numbers.
    Some(stat.spare2[0])
}

/// Whether the mount of a [`unique_id`] is there, asked by that number: nothing is held meanwhile, not
/// even for a moment.
///
/// # Errors
/// It can not be told: a sandbox may forbid the call.
pub fn exists(unique_id: u64) -> Result<bool, Errno> {
    const SYS_STATMOUNT: libc::c_long = 457;
    /// `struct mnt_id_req`, as it was at first.
    #[repr(C)]
    struct Request {
        size: u32,
        spare: u32,
        id: u64,
        asked_for: u64,
    }
    const SIZE: u32 = 24;
    const _: () = assert!(size_of::<Request>() == SIZE as usize);
    let request = Request { size: SIZE, spare: 0, id: unique_id, asked_for: 0 };
    let mut answer = [0_u64; 64];
    // SAFETY: statmount reads a structure of the size that it begins with, and writes at most as many
    // bytes as it is told; both outlive the call.
    let result = unsafe {
        libc::syscall(
            SYS_STATMOUNT,
            &raw const request,
            answer.as_mut_ptr(),
            size_of_val(&answer),
            0,
        )
    };
    match Errno::result(result) {
        Err(Errno::ENOENT) => Ok(false),
        result => result.map(|_| true),
    }
}

/// Ends the connection of a FUSE mount and detaches it, which only root may.
pub fn abort(mountpoint: &Path) -> io::Result<()> {
    let path = CString::new(mountpoint.as_os_str().as_bytes())?;
    let flags = MntFlags::MNT_FORCE | MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW;
    Ok(umount2(path.as_c_str(), flags)?)
}

fn no_fusermount(error: io::Error) -> io::Error {
    let kind = error.kind();
    let message = match kind {
        io::ErrorKind::NotFound => {
            "only root may, or fusermount3 for the mount's owner: `apt-get install fuse3`"
                .to_owned()
        }
        _ => format!("run fusermount3: {error}"),
    };
    io::Error::new(kind, message)
}

/// Unmounts with umount2(2), or through fusermount3 for a user who may not.
pub fn unmount(mountpoint: &Path, lazy: bool) -> io::Result<()> {
    let path = CString::new(mountpoint.as_os_str().as_bytes())?;
    let flags = if lazy { MntFlags::MNT_DETACH } else { MntFlags::empty() };
    match umount2(path.as_c_str(), flags | MntFlags::UMOUNT_NOFOLLOW) {
        Ok(()) => Ok(()),
        Err(Errno::EPERM) => {
            let lazy = lazy.then_some("-z");
            let output = Command::new("fusermount3")
                .arg("-u")
                .args(lazy)
                .arg("--")
                .arg(mountpoint)
                .stdin(Stdio::null())
                .output()
                .map_err(no_fusermount)?;
            match output.status.success() {
                true => Ok(()),
                false => {
                    Err(io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
                }
            }
        }
        Err(errno) => Err(errno.into()),
    }
}
