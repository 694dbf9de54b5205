//! The [`Filesystem`] trait: what a file system answers, knowing nothing of how its bytes travel.
//!
//! Each method is one FUSE operation. It returns what the reply shall be (an intent such as
//! "these bytes of that file"), and the transport chooses how to move it. Names are the kernel's;
//! structures of more than a few fields are passed as they came ([`crate::abi`]).

use std::ffi::CStr;
use std::fmt::Debug;
use std::fs::File;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Duration;

pub use nix::errno::Errno;

pub use crate::abi;
pub use crate::protocol::decode::Name;
pub use crate::protocol::encode::{DirEntry, DirSink, Full, Payload};
pub use crate::protocol::init::{Negotiated, Wanted};
pub use crate::sys::fuse_dev::{BackingId, Kernel};

/// What an operation returns: a value to reply, or the errno that the caller sees.
pub type Result<T> = std::result::Result<T, Errno>;

/// Names an inode towards the kernel, from the LOOKUP that introduced it to its last FORGET.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub u64);

impl NodeId {
    /// The root directory.
    pub const ROOT: NodeId = NodeId(abi::ROOT_ID);
}

/// Names an open file or directory towards the kernel, from OPEN to RELEASE.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fh(pub u64);

/// On whose behalf the kernel asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    /// File-system user id.
    pub uid: u32,
    /// File-system group id.
    pub gid: u32,
    /// Thread id; 0 for requests of the kernel's own.
    pub pid: u32,
}

/// Attributes, and how long the kernel may trust them.
#[derive(Debug, Clone, Copy)]
pub struct Attributes {
    /// The attributes.
    pub attr: abi::Attr,
    /// How long the kernel may answer `stat` from them.
    pub valid: Duration,
}

/// The answer to LOOKUP and to everything that creates a name.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    /// The inode; counts one more lookup, which FORGET takes back. 0: the name does not exist, and
    /// that may be remembered.
    pub nodeid: NodeId,
    /// Tells inodes apart that get the same `nodeid` one after the other.
    pub generation: u64,
    /// How long the kernel may trust the name.
    pub entry_valid: Duration,
    /// Its attributes.
    pub attributes: Attributes,
}

/// The answer to OPEN, OPENDIR and CREATE.
#[derive(Debug, Clone, Copy)]
pub struct Opened {
    /// Comes back with every operation on the open file.
    pub fh: Fh,
    /// How the kernel shall treat it.
    pub flags: abi::OpenFlags,
    /// With [`abi::OpenFlags::PASSTHROUGH`]: the registered backing file.
    pub backing: Option<BackingId>,
}

/// The answer to READ: bytes at hand, or the place where the transport finds them.
#[derive(Debug)]
pub enum Data {
    /// What is in the payload.
    Filled,
    /// Up to `len` bytes of `file` from `offset`.
    FileRange {
        /// An open file.
        file: Arc<File>,
        /// Position in it, bytes.
        offset: u64,
        /// Length, bytes.
        len: u32,
    },
}

/// The names of a RENAME.
#[derive(Debug, Clone, Copy)]
pub struct Rename<'a> {
    /// Directory of the name.
    pub parent: NodeId,
    /// The name.
    pub name: Name<'a>,
    /// Directory of the new name.
    pub newparent: NodeId,
    /// The new name.
    pub newname: Name<'a>,
    /// `RENAME_NOREPLACE`, `RENAME_EXCHANGE`, `RENAME_WHITEOUT`.
    pub flags: u32,
}

/// An extended attribute to set.
#[derive(Debug, Clone, Copy)]
pub struct SetXattr<'a> {
    /// Its name.
    pub name: &'a CStr,
    /// Its value.
    pub value: &'a [u8],
    /// `XATTR_CREATE`, `XATTR_REPLACE`.
    pub flags: u32,
    /// The ACL takes set-group-id away along with this change.
    pub kill_sgid: bool,
}

/// A file system. Every method but `lookup` and `getattr` has a default, mostly ENOSYS, which the
/// kernel remembers: it does not ask again.
///
/// Methods are called from all workers at once. What an operation costs is what its caller waits.
#[expect(unused_variables, reason = "defaults ignore what they are given")]
pub trait Filesystem: Debug + Send + Sync + 'static {
    /// What to negotiate in INIT.
    fn wanted(&self) -> Wanted {
        Wanted::default()
    }

    /// INIT is settled; requests follow. `kernel` is for what a file system asks of the kernel by
    /// itself. An error ends the mount before it shows.
    fn init(&self, negotiated: &Negotiated, kernel: Kernel) -> std::io::Result<()> {
        Ok(())
    }

    /// Whether operations on this inode may wait for another program or machine, which may never answer.
    /// They are left to threads that nobody else waits for, at the price of a hop; but READ is told so
    /// by what it does ([`is_patient`](crate::sys::caller::is_patient)), as much of it waits for nobody.
    fn may_wait(&self, nodeid: NodeId) -> bool {
        false
    }

    /// LOOKUP: finds `name` in `parent`. ENOENT, or an [`Entry`] with nodeid 0 that may be cached.
    fn lookup(&self, caller: &Caller, parent: NodeId, name: Name<'_>) -> Result<Entry>;

    /// LOOKUP of `.`: an inode by its nodeid, which somebody has from a file handle and the kernel may have
    /// forgotten, so that it may be unknown here, too. ESTALE if it is gone. Only with EXPORT_SUPPORT.
    fn lookup_self(&self, nodeid: NodeId) -> Result<Entry> {
        Err(Errno::ESTALE)
    }

    /// LOOKUP of `..`: the directory that a directory is in. Only with EXPORT_SUPPORT.
    fn lookup_parent(&self, nodeid: NodeId) -> Result<Entry> {
        Err(Errno::ESTALE)
    }

    /// FORGET: takes back `nlookup` of the lookups of `nodeid`.
    fn forget(&self, nodeid: NodeId, nlookup: u64) {}

    /// GETATTR, through `fh` if the caller used one.
    fn getattr(&self, caller: &Caller, nodeid: NodeId, fh: Option<Fh>) -> Result<Attributes>;

    /// STATX: what GETATTR can not tell, such as the time of birth.
    fn statx(&self, caller: &Caller, nodeid: NodeId, args: &abi::StatxIn) -> Result<StatxReply> {
        Err(Errno::ENOSYS)
    }

    /// SETATTR: every change that `args.valid` names.
    fn setattr(
        &self,
        caller: &Caller,
        nodeid: NodeId,
        args: &abi::SetattrIn,
    ) -> Result<Attributes> {
        Err(Errno::ENOSYS)
    }

    /// READLINK: appends the target to `out`.
    fn readlink(&self, caller: &Caller, nodeid: NodeId, out: &mut Payload<'_>) -> Result<()> {
        Err(Errno::EINVAL)
    }

    /// SYMLINK.
    fn symlink(
        &self,
        caller: &Caller,
        parent: NodeId,
        name: Name<'_>,
        target: &CStr,
    ) -> Result<Entry> {
        Err(Errno::EPERM)
    }

    /// MKNOD: a regular file, fifo, socket or device.
    fn mknod(
        &self,
        caller: &Caller,
        parent: NodeId,
        name: Name<'_>,
        args: &abi::MknodIn,
    ) -> Result<Entry> {
        Err(Errno::EPERM)
    }

    /// MKDIR.
    fn mkdir(
        &self,
        caller: &Caller,
        parent: NodeId,
        name: Name<'_>,
        args: &abi::MkdirIn,
    ) -> Result<Entry> {
        Err(Errno::EPERM)
    }

    /// UNLINK.
    fn unlink(&self, caller: &Caller, parent: NodeId, name: Name<'_>) -> Result<()> {
        Err(Errno::EPERM)
    }

    /// RMDIR.
    fn rmdir(&self, caller: &Caller, parent: NodeId, name: Name<'_>) -> Result<()> {
        Err(Errno::EPERM)
    }

    /// RENAME and RENAME2.
    fn rename(&self, caller: &Caller, names: &Rename<'_>) -> Result<()> {
        Err(Errno::EPERM)
    }

    /// LINK: a new name for `nodeid`.
    fn link(
        &self,
        caller: &Caller,
        nodeid: NodeId,
        newparent: NodeId,
        newname: Name<'_>,
    ) -> Result<Entry> {
        Err(Errno::EPERM)
    }

    /// OPEN. With ENOSYS the kernel opens files by itself, with `Fh(0)`.
    fn open(&self, caller: &Caller, nodeid: NodeId, args: &abi::OpenIn) -> Result<Opened> {
        Err(Errno::ENOSYS)
    }

    /// CREATE: makes and opens a regular file.
    fn create(
        &self,
        caller: &Caller,
        parent: NodeId,
        name: Name<'_>,
        args: &abi::CreateIn,
    ) -> Result<(Entry, Opened)> {
        Err(Errno::ENOSYS)
    }

    /// TMPFILE: makes and opens a regular file without a name.
    fn tmpfile(
        &self,
        caller: &Caller,
        parent: NodeId,
        args: &abi::CreateIn,
    ) -> Result<(Entry, Opened)> {
        Err(Errno::EOPNOTSUPP)
    }

    /// READ: bytes to `out`, of which no more are sent than were asked for, or where to find them.
    fn read(
        &self,
        caller: &Caller,
        nodeid: NodeId,
        args: &abi::ReadIn,
        out: &mut Payload<'_>,
    ) -> Result<Data> {
        Err(Errno::ENOSYS)
    }

    /// WRITE: how many bytes of `data` were taken.
    fn write(
        &self,
        caller: &Caller,
        nodeid: NodeId,
        args: &abi::WriteIn,
        data: &[u8],
    ) -> Result<u32> {
        Err(Errno::ENOSYS)
    }

    /// WRITE of `args.size` bytes that are in a pipe: how many of them were taken out and written. `None`
    /// if none was, and they shall come through [`write`](Self::write).
    fn write_from(
        &self,
        caller: &Caller,
        nodeid: NodeId,
        args: &abi::WriteIn,
        pipe: BorrowedFd<'_>,
    ) -> Result<Option<u32>> {
        Ok(None)
    }

    /// STATFS.
    fn statfs(&self, caller: &Caller, nodeid: NodeId) -> Result<abi::Kstatfs> {
        Ok(abi::Kstatfs { bsize: 4096, frsize: 4096, namelen: 255, ..abi::Kstatfs::default() })
    }

    /// RELEASE: the open file is gone; nobody waits for the answer.
    fn release(&self, nodeid: NodeId, args: &abi::ReleaseIn) -> Result<()> {
        Ok(())
    }

    /// FLUSH: a descriptor was closed.
    fn flush(&self, caller: &Caller, nodeid: NodeId, args: &abi::FlushIn) -> Result<()> {
        Err(Errno::ENOSYS)
    }

    /// FSYNC, of data only with [`abi::FSYNC_FDATASYNC`].
    fn fsync(&self, caller: &Caller, nodeid: NodeId, args: &abi::FsyncIn) -> Result<()> {
        Err(Errno::ENOSYS)
    }

    /// OPENDIR. With ENOSYS the kernel opens directories by itself, with `Fh(0)`.
    fn opendir(&self, caller: &Caller, nodeid: NodeId, args: &abi::OpenIn) -> Result<Opened> {
        Err(Errno::ENOSYS)
    }

    /// READDIR: entries from `args.offset` on, until `sink` is full.
    fn readdir(
        &self,
        caller: &Caller,
        nodeid: NodeId,
        args: &abi::ReadIn,
        sink: &mut DirSink<'_, '_>,
    ) -> Result<()> {
        Err(Errno::ENOSYS)
    }

    /// READDIRPLUS: the same, each with its lookup.
    fn readdirplus(
        &self,
        caller: &Caller,
        nodeid: NodeId,
        args: &abi::ReadIn,
        sink: &mut DirSink<'_, '_>,
    ) -> Result<()> {
        Err(Errno::ENOSYS)
    }

    /// RELEASEDIR.
    fn releasedir(&self, nodeid: NodeId, args: &abi::ReleaseIn) -> Result<()> {
        Ok(())
    }

    /// FSYNCDIR.
    fn fsyncdir(&self, caller: &Caller, nodeid: NodeId, args: &abi::FsyncIn) -> Result<()> {
        Err(Errno::ENOSYS)
    }

    /// SETXATTR.
    fn setxattr(&self, caller: &Caller, nodeid: NodeId, xattr: &SetXattr<'_>) -> Result<()> {
        Err(Errno::ENOSYS)
    }

    /// GETXATTR: writes the value into `value` and returns its length; with an empty `value` only
    /// the length. ERANGE if it does not fit.
    fn getxattr(
        &self,
        caller: &Caller,
        nodeid: NodeId,
        name: &CStr,
        value: &mut [u8],
    ) -> Result<usize> {
        Err(Errno::ENOSYS)
    }

    /// LISTXATTR: the same for the list of names, each ended by a zero byte.
    fn listxattr(&self, caller: &Caller, nodeid: NodeId, list: &mut [u8]) -> Result<usize> {
        Err(Errno::ENOSYS)
    }

    /// REMOVEXATTR.
    fn removexattr(&self, caller: &Caller, nodeid: NodeId, name: &CStr) -> Result<()> {
        Err(Errno::ENOSYS)
    }

    /// ACCESS: as access(2); not asked under default_permissions.
    fn access(&self, caller: &Caller, nodeid: NodeId, mask: u32) -> Result<()> {
        Err(Errno::ENOSYS)
    }

    /// FALLOCATE.
    fn fallocate(&self, caller: &Caller, nodeid: NodeId, args: &abi::FallocateIn) -> Result<()> {
        Err(Errno::ENOSYS)
    }

    /// LSEEK: SEEK_DATA and SEEK_HOLE.
    fn lseek(&self, caller: &Caller, nodeid: NodeId, args: &abi::LseekIn) -> Result<u64> {
        Err(Errno::ENOSYS)
    }

    /// COPY_FILE_RANGE: bytes copied. EWOULDBLOCK if it may take long and the thread is one that others
    /// wait for ([`is_patient`](crate::sys::caller::is_patient)): another does it again.
    fn copy_file_range(
        &self,
        caller: &Caller,
        nodeid: NodeId,
        args: &abi::CopyFileRangeIn,
    ) -> Result<u64> {
        Err(Errno::ENOSYS)
    }

    /// IOCTL: reads `input`, writes `output` (of `args.out_size` bytes), returns ioctl(2)'s result.
    fn ioctl(
        &self,
        caller: &Caller,
        nodeid: NodeId,
        args: &abi::IoctlIn,
        buffers: IoctlBuffers<'_>,
    ) -> Result<i32> {
        Err(Errno::ENOTTY)
    }

    /// SYNCFS.
    fn syncfs(&self, caller: &Caller, nodeid: NodeId) -> Result<()> {
        Err(Errno::ENOSYS)
    }

    /// About a second has gone by, and there were requests since the last time or the last answer
    /// was true: the time to let go of what is not used any more. True to be told again.
    fn tick(&self) -> bool {
        false
    }

    /// The connection is over: no request will follow.
    fn destroy(&self) {}
}

/// The bytes that an ioctl takes and gives.
#[derive(Debug)]
pub struct IoctlBuffers<'a> {
    /// What the caller passed.
    pub input: &'a [u8],
    /// What the caller gets.
    pub output: &'a mut [u8],
}

/// The answer to STATX.
#[derive(Debug, Clone, Copy)]
pub struct StatxReply {
    /// The attributes, as statx(2) gives them.
    pub stat: abi::Statx,
    /// How long the kernel may trust them.
    pub valid: Duration,
}
